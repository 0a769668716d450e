"""Phrases of rubrics that are kept between openings, where that was asked for."""

import logging
from pathlib import Path

import pytest
from own_kernels import needs_kernels
from rubricrm import RubricModel
from rubricrm.errors import OptionInvalid, WriteFailed
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.phrase_table import saved_table

pytestmark = needs_kernels

REQUEST = "Write a haiku."


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("RUBRICRM_CACHE", str(path))
    return path


def entries(model: RubricModel) -> int:
    assert model._backend.drafts is not None
    assert model._backend.drafts.phrases is not None
    return len(model._backend.drafts.phrases.entries)


def test_nothing_is_saved_unless_it_is_asked_for(packed_bundle: Path, cache: Path) -> None:
    with RubricModel.open(packed_bundle, threads=1) as model:
        assert model.generate(REQUEST, max_new_tokens=60).finish_reason == "stop"
        model.generate(REQUEST, max_new_tokens=60)
        assert entries(model) > 0
    assert list(cache.rglob("phrases*")) == []


def test_none_are_kept_where_nobody_may_learn_from_them(packed_bundle: Path) -> None:
    texts = []
    for keep_phrases in (True, False):
        with RubricModel.open(packed_bundle, threads=1, keep_phrases=keep_phrases) as model:
            texts.append([model.generate(REQUEST, max_new_tokens=60).text for _ in range(2)])
            assert model._backend.drafts is not None
            assert (model._backend.drafts.phrases is not None) == keep_phrases
    assert texts[0] == texts[1]


def test_phrases_that_are_not_kept_cannot_be_saved() -> None:
    with pytest.raises(OptionInvalid, match="phrases are saved where they are kept"):
        EngineOptions(phrases=True, keep_phrases=False)


@pytest.mark.parametrize("is_file", [False, True])
def test_phrases_are_there_again(packed_bundle: Path, tmp_path: Path, is_file: bool) -> None:
    phrases: Path | bool = tmp_path / "tenant" / "phrases" if is_file else True
    found = []
    for _ in range(2):
        with RubricModel.open(packed_bundle, threads=1, phrases=phrases) as model:
            count = entries(model)
            found.append((count, model.generate(REQUEST, max_new_tokens=60).text))
            model.generate(REQUEST, max_new_tokens=60)
            path = saved_table(model.bundle.manifest_sha256) if phrases is True else phrases
        assert Path(path).exists()
    (before, text), (after, same) = found
    assert before == 0
    assert after > 0
    assert same == text


def test_a_damaged_file_is_one_warning(packed_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "phrases"
    path.write_bytes(b"no phrases")
    with caplog.at_level(logging.WARNING), RubricModel.open(packed_bundle, threads=1, phrases=path) as model:
        assert entries(model) == 0
    (record,) = caplog.records
    assert "its phrases are not used" in record.getMessage()


def test_a_file_that_cannot_be_written_is_told_and_the_model_closed(packed_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = RubricModel.open(packed_bundle, threads=1, phrases=tmp_path / "phrases")
    model._backend._options = EngineOptions(phrases=tmp_path / "file" / "phrases")
    with pytest.raises(WriteFailed, match="the phrases cannot be saved"):
        model.close()
    assert model._backend.engine._session._graph is None
