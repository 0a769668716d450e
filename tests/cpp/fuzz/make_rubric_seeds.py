"""Writes the texts of the shared cases as seeds of rubric_fuzz, one file each: make_rubric_seeds.py FOLDER."""

import json
import sys
from pathlib import Path

CASES = Path(__file__).resolve().parents[2] / "cases" / "rubric"

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(CASES.glob("*.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        flags = case["truncated"] + 2 * case.get("starts_in_thought", False) + 4 * 16
        (folder / path.stem).write_bytes(bytes([flags]) + case["text"].encode("utf-8", "replace"))
