"""A bundle whose model is asked as a judge: the demo bundle with another prompt. It writes rubrics all the same."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from rubricrm.text_model import DEMO_BUNDLE

TEMPLATE = (
    "Compare <|im_end|> two answers, {and say} which one wins.\n\nInstruction:\n{instruction}\n\nRubric:\n{rubric}\n\n"
    "Response A:\n{response_a}\n\nResponse B:\n{response_b}"
)
FIELDS = {name: f"{{{name}}}" for name in ("instruction", "rubric", "response_a", "response_b")}


def judge_bundle(path: Path, *, keep_rubric: bool = False, template: str = TEMPLATE, **changes: Any) -> Path:
    """Write a judge's bundle.

    Args:
        path: Where.
        keep_rubric: Whether it has the prompt of rubrics too.
        template: Of its prompt.
        **changes: Other keys of its prompt.
    """
    shutil.copytree(DEMO_BUNDLE, path)
    manifest = json.loads((path / "rubricrm.json").read_text("utf-8"))
    rubric = manifest["prompts"].pop("rubric")
    manifest["prompts"] = {"rubric": rubric} if keep_rubric else {}
    manifest["prompts"]["judge-pairwise"] = {
        **rubric,
        "fields": FIELDS,
        "template": template,
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "prefix": {"num_tokens": 7, "files": {}},
        "grammar": None,
        "phrases": None,
        "extensions": {"sampling": {"temperature": 0.7}},
        **changes,
    }
    (path / "rubricrm.json").write_text(json.dumps(manifest), "utf-8")
    return path
