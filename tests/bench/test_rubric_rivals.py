"""benchmarks/rubric_rivals.py: both sides write rubrics in turns; and what llama.cpp's statistics draft."""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rubricrm.generation import decision

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DEMO = Path(__file__).parents[2] / "sdk" / "python" / "rubricrm" / "demo_bundle"
RUBRICS = ["1. The response is short. [Hard Rule]", "1. The response is clear. [Principle]"]


@pytest.fixture
def script(load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS / "systems"), str(BENCHMARKS), *sys.path])
    monkeypatch.setattr(decision, "_next_token", decision._next_token)  # which a Writer replaces
    module = load_script("rubric_rivals")
    monkeypatch.setattr(module, "PAUSE_S", 0)
    return module


class Server:
    """A rival that takes no time, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], int, int, list[int] | None]] = []

    def ask(self, ids: list[int], new_tokens: int, kept: int, text: list[int] | None) -> dict[str, Any]:
        self.asked.append((ids, new_tokens, kept, text))
        return {"tokens": text or [0] * new_tokens, "e2e_ms": 2000.0, "ttft_ms": 500.0, "drafts": [8, 3]}


def scripts(script: ModuleType, tmp_path: Path) -> Any:
    path = tmp_path / "rubrics.jsonl"
    entries = [{"id": text[-4:], "request": f"Write {text[3:9]}.", "rubric": text} for text in RUBRICS]
    single = {"id": "item", "kind": "single item", "request": "Write.", "rubric": "1. No."}
    path.write_text("".join(json.dumps(entry) + "\n" for entry in [*entries, single]))
    return script.Scripts(script.Writer(DEMO, 1), script.read_rubrics(path))


def test_both_sides_write_every_rubric_warm_and_cold(script: ModuleType, tmp_path: Path) -> None:
    found, server = scripts(script, tmp_path), Server()
    with contextlib.closing(found._writer.session):
        rows = script.measure(found, server, range(2), follows=True)
    assert [(row["rubric"], row["start"]) for row in rows] == [
        *(("ule]", "warm"), ("ule]", "cold")),
        *(("ple]", "warm"), ("ple]", "cold")),
    ]
    for row, (ids, new_tokens, kept, text) in zip(rows, server.asked[1:], strict=True):
        number = found.names.index(row["rubric"])
        assert ids[1:] == found.prompts[number][1:]
        assert (text, new_tokens) == (found.texts[number], row["tokens"])
        assert kept == (found.num_kept if row["start"] == "warm" else 0)
        assert row["times_ours"] == pytest.approx(2 / row["ours"]["seconds"])
        assert row["rival"]["drafts"] == [8, 3]
    assert len({ids[0] for ids, *_ in server.asked}) == len(server.asked)
    total = script.summary(rows)
    assert total["warm"]["times_ours"] == pytest.approx(4 / (rows[0]["ours"]["seconds"] + rows[2]["ours"]["seconds"]))


def test_a_rival_that_drafts_nothing_is_given_no_text(script: ModuleType, tmp_path: Path) -> None:
    found, server = scripts(script, tmp_path), Server()
    with contextlib.closing(found._writer.session):
        found.ask(server, 1, is_cold=True, follows=False)
    assert server.asked[0][1:] == (len(found.texts[1]), 0, None)


def test_a_rival_that_writes_another_text_is_found(script: ModuleType, tmp_path: Path) -> None:
    found, server = scripts(script, tmp_path), Server()
    server.ask = lambda *asked: {"tokens": [0] * asked[1]}  # type: ignore[method-assign]
    with contextlib.closing(found._writer.session), pytest.raises(AssertionError):
        found.ask(server, 1, is_cold=True, follows=True)


@pytest.fixture
def llama(load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS / "systems"), *sys.path])
    return load_script("systems/llama_cpp_python")


def test_statistics_draft_what_is_clear(llama: ModuleType) -> None:
    draft = llama.NgramStatistics(4)
    assert draft([1, 2, 3, 4, 5, 6, 1, 2]) == []  # two tokens that came once say too little,
    assert draft([1, 2, 3, 4, 5, 6, 1, 2, 3]) == [4, 5, 6, 1]  # three that came once are enough
    assert draft([1, 2, 3, 4, 5, 6, 1, 2, 7]) == []
    assert draft([1, 2, 3, 4, 5, 6, 1, 2, 7, 1]) == [2, 3, 4, 5]  # and one that came twice
    assert draft([9, 8, 9, 8, 9]) == [8, 9, 8, 9]  # another text: nothing of the one before is left
    assert draft([9, 8, 9, 8, 9, 2, 9]) == [8, 9, 8, 9]  # two of three: 66 % are enough
    assert llama.NgramStatistics(1)([9, 8, 9, 8, 9]) == [8]


def following(token: int) -> int:
    """The model's choice in `drafted`."""
    return (3 * token + 1) % 7


@pytest.fixture
def drafted(llama: ModuleType) -> Any:
    class Model(llama.LlamaModel):  # type: ignore[name-defined, misc]
        """Counts positions, and chooses by the last token."""

        def __init__(self) -> None:
            self._llama, self._kept, self._state, self._text = self, [], None, []
            self._drafter = llama.NgramStatistics(4)
            self.ids: list[int] = []

        n_tokens = property(lambda self: len(self.ids), lambda self, length: self.ids.__delitem__(slice(length, None)))

        def reset(self) -> None:
            self.ids = []

        def eval(self, ids: list[int]) -> None:
            self.ids += ids

        def _best_tokens(self, count: int) -> list[int]:
            return [following(token) for token in self.ids[-count:]]

        def _verify(self, step: list[int]) -> list[int]:
            self.ids += step
            return self._best_tokens(len(step))

    return Model()


def test_drafts_change_no_token(drafted: Any) -> None:
    moments, tokens = drafted.run([5, 2], 30)
    assert tokens[0] == following(2)
    assert tokens[1:] == [following(token) for token in tokens[:-1]]
    assert len(tokens) == len(moments) == 30
    assert drafted.ids == [5, 2, *tokens[:-1]]
    assert 15 < drafted.drafts[1] <= drafted.drafts[0]


def test_a_text_is_written_in_place_of_the_choices(drafted: Any) -> None:
    text = [1, 1, 2, 1, 1, 2, 6, 6, 6, 1, 1, 2, 0]
    drafted.follow(text)
    assert drafted.run([5, 2], len(text))[1] == text
    assert drafted.ids == [5, 2, *text[:-1]]
    assert 0 < drafted.drafts[1] < drafted.drafts[0]
    assert drafted.run([5, 2], 3)[1] != text[:3]  # the next run is the model's own
