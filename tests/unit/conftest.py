"""What several tests of the runtime share: an open tiny model, bundles with an edited manifest, a scripted engine."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from rubricrm import RubricModel
from rubricrm.bundle import Bundle
from rubricrm.engine import Engine
from rubricrm.kv_cache import KVCache
from rubricrm.manifest import ModelFacts
from rubricrm.prefix import Prefix
from rubricrm.session import Session

EditManifest = Callable[[Callable[[dict[str, Any]], object]], Path]


@pytest.fixture(scope="session")
def tiny_model(tiny_bundle: Path) -> Iterator[RubricModel]:
    """The tiny bundle, opened; no test may close it."""
    with RubricModel.open(tiny_bundle, threads=1) as model:
        yield model


@pytest.fixture
def edit_manifest(bundle_copy: Path) -> EditManifest:
    """Return a function that lets its argument change the parsed manifest of `bundle_copy`, and returns the bundle."""

    def edit(change: Callable[[dict[str, Any]], object]) -> Path:
        path = bundle_copy / "rubricrm.json"
        document = json.loads(path.read_text("utf-8"))
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")
        return bundle_copy

    return edit


@pytest.fixture
def bundle_without_prefix(edit_manifest: EditManifest) -> Path:
    """A bundle whose prefix is computed at first open, as a large model's is."""

    def forget_prefix(document: dict[str, Any]) -> None:
        document["prefix"]["file"] = None
        del document["files"]["prefix.safetensors"]

    bundle = edit_manifest(forget_prefix)
    (bundle / "prefix.safetensors").unlink()
    return bundle


class ScriptedSession:
    """Stands in for a session: the tokens of a script follow the prompt, whatever the prompt says.

    Attributes:
        runs: Number of tokens of each run.
        slots: How many slots were made.
        before_run: Called before each run.
    """

    max_rows = 64

    def __init__(self, model: ModelFacts, script: Sequence[int], prompt_length: int, winner: int | None) -> None:
        self.runs: list[int] = []
        self.slots = 0
        self.before_run: Callable[[], object] = lambda: None
        self._model = model
        self._script = script
        self._prompt_length = prompt_length
        self._winner = winner

    def new_slot(self, num_positions: int) -> Any:
        self.slots += 1
        return SimpleNamespace(cache=KVCache(self._model, "float32", num_positions))

    def run(self, slot: Any, token_ids: Sequence[int], rows: int = 1) -> NDArray[np.float32]:
        self.before_run()
        self.runs.append(len(token_ids))
        slot.cache.length += len(token_ids)
        assert slot.cache.length <= slot.cache.capacity
        logits = np.zeros((rows, self._model.vocab_size), np.float32)
        position = slot.cache.length - self._prompt_length
        if position >= 0:
            logits[-1, self._script[position % len(self._script)]] = 50
        if self._winner is not None:
            logits[:, self._winner] = 1e9
        return logits

    def close(self) -> None:
        pass


@pytest.fixture
def scripted(tiny_bundle: Path) -> Callable[..., tuple[Engine, ScriptedSession]]:
    """Return a function that makes an engine which writes given tokens again and again.

    Token 5 + n is byte n; `winner` is a token whose logit is the highest of every row.
    """
    manifest = Bundle.open(tiny_bundle).manifest

    def make(
        script: Sequence[int], prompt_length: int, *, prefix: Prefix | None = None, winner: int | None = None
    ) -> tuple[Engine, ScriptedSession]:
        session = ScriptedSession(manifest.model, script, prompt_length, winner)
        return Engine(cast("Session", session), manifest, prefix), session

    return make
