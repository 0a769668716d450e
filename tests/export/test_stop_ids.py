"""Which ids end a completion: the union of three files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_export.checkpoint.stop_ids import read_stop_ids
from rubricrm_export.errors import CheckpointInvalid

MakeCheckpoint = Callable[..., Path]

NUM_TOKENS = 261


@pytest.fixture
def stop_ids(make_checkpoint: MakeCheckpoint) -> Callable[..., tuple[int, ...]]:
    """A function of the three places: config's id or ids, generation config's, and the tokenizer's token."""
    path = make_checkpoint()
    tokenizer = Tokenizer.from_file(path / "tokenizer.json")
    assert tokenizer.num_tokens == NUM_TOKENS

    def read(
        config: Any = None, generation: Any = None, token: Any = None, without_files: bool = False
    ) -> tuple[int, ...]:
        file = path / "tokenizer_config.json"
        if without_files:
            file.unlink()
            return read_stop_ids(path, {} if config is None else {"eos_token_id": config}, None, tokenizer)
        file.write_text(json.dumps({"eos_token": token}))
        return read_stop_ids(path, {"eos_token_id": config}, {"eos_token_id": generation}, tokenizer)

    return read


@pytest.mark.parametrize(
    ("config", "generation", "token", "expected"),
    [
        pytest.param(2, None, None, (2,), id="config alone"),
        pytest.param(None, 1, None, (1,), id="generation config alone"),
        pytest.param(None, None, "<|im_end|>", (2,), id="tokenizer alone"),
        pytest.param(None, None, {"content": "<|im_end|>", "special": True}, (2,), id="tokenizer's object"),
        pytest.param(3, [2, 0], "<|im_start|>", (0, 1, 2, 3), id="union of three that differ"),
        pytest.param([2, 0, 2], [0], "<|im_end|>", (0, 2), id="lists that overlap"),
        pytest.param([], 0, None, (0,), id="empty list"),
        pytest.param(2, None, "</s>", (2,), id="token that the tokenizer lacks"),
        pytest.param(2, None, "a", (2,), id="token that is ordinary text"),
        pytest.param(2, None, 7, (2,), id="token that is no text"),
        pytest.param(NUM_TOKENS - 1, None, None, (NUM_TOKENS - 1,), id="last id"),
    ],
)
def test_union(
    stop_ids: Callable[..., tuple[int, ...]], config: Any, generation: Any, token: Any, expected: tuple[int, ...]
) -> None:
    assert stop_ids(config, generation, token) == expected


def test_missing_files_leave_the_config(stop_ids: Callable[..., tuple[int, ...]]) -> None:
    assert stop_ids([0, 2], without_files=True) == (0, 2)


@pytest.mark.parametrize(
    "bad",
    [NUM_TOKENS, -1, True, False, 2.0, "2", [2, None], [[2]], {"id": 2}, 2**70],
    ids=["padding row", "negative", "true", "false", "float", "text", "null inside", "nested", "object", "huge"],
)
@pytest.mark.parametrize("place", ["config.json", "generation_config.json"])
def test_id_that_the_tokenizer_lacks(stop_ids: Callable[..., tuple[int, ...]], place: str, bad: Any) -> None:
    with pytest.raises(CheckpointInvalid) as caught:
        stop_ids(**{"config" if place == "config.json" else "generation": bad}, token="<|im_end|>")
    assert f'{place}: "eos_token_id" holds ' in str(caught.value)
    assert "expected an id below 261" in str(caught.value)


@pytest.mark.parametrize("without_files", [False, True])
def test_none_at_all(stop_ids: Callable[..., tuple[int, ...]], without_files: bool) -> None:
    with pytest.raises(CheckpointInvalid, match=r"no end token: neither .* a generation never ends"):
        stop_ids(without_files=without_files)


def test_damaged_tokenizer_config(make_checkpoint: MakeCheckpoint) -> None:
    path = make_checkpoint()
    (path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointInvalid, match=r"tokenizer_config\.json: is not JSON"):
        read_stop_ids(path, {"eos_token_id": 2}, None, Tokenizer.from_file(path / "tokenizer.json"))
