"""What a killed run leaves, and what the next one takes over."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from rubricrm_batch import runs
from rubricrm_batch.runs import Run, begin_run


def write_block(run: Run, name: str, num_rows: int, *, state: str = "") -> None:
    """Write a block as Ray does: its ids, its rows, and the commit, which is a rename."""
    ids = pa.table({"id": [f"{name}-{number}" for number in range(num_rows)]})
    parquet.write_table(ids, run.checkpoint / f"{name}{state}.parquet")
    parquet.write_table(ids, run.rubrics / f"{name}-0.parquet")


def names(run: Run) -> tuple[list[str], list[str]]:
    return sorted(path.stem for path in run.rubrics.iterdir()), sorted(path.stem for path in run.checkpoint.iterdir())


def test_committed_blocks_are_taken_over_and_others_are_not(tmp_path: Path) -> None:
    first = begin_run(tmp_path / "attempt-1")
    write_block(first, "u_000000", 3)
    write_block(first, "u_000001", 3, state=".pending")
    (first.rubrics / "u_000002-0.parquet").write_bytes(b"PAR1 half")
    second = begin_run(tmp_path / "attempt-1")
    assert names(second) == (["u_000000-0"], ["u_000000"])
    assert second.num_rows({}) == 3
    assert not first.rubrics.exists()


def test_what_a_dead_run_still_writes_is_not_seen(tmp_path: Path) -> None:
    first = begin_run(tmp_path / "attempt-1")
    second = begin_run(tmp_path / "attempt-1")
    first.rubrics.mkdir(parents=True)
    first.checkpoint.mkdir()
    write_block(first, "u_000000", 3)  # by a process that outlived the first run's
    assert names(second) == ([], [])
    assert names(begin_run(tmp_path / "attempt-1")) == ([], [])
    assert [path.name for path in (tmp_path / "attempt-1").iterdir()] == ["run-3"]


def test_a_block_whose_rows_are_not_all_there_is_done_again(tmp_path: Path) -> None:
    first = begin_run(tmp_path / "attempt-1")
    for name in ("u_000000", "u_000001", "u_000002"):
        write_block(first, name, 3)
    (first.rubrics / "u_000001-0.parquet").write_bytes(b"")  # as a crash of the machine leaves it
    (first.rubrics / "u_000002-0.parquet").unlink()
    assert names(begin_run(tmp_path / "attempt-1")) == (["u_000000-0"], ["u_000000"])


def test_a_kill_while_a_run_is_prepared_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_block(begin_run(tmp_path / "attempt-1"), "u_000000", 3)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "link_or_copy", killed)
        with pytest.raises(KeyboardInterrupt):
            begin_run(tmp_path / "attempt-1")
    assert names(begin_run(tmp_path / "attempt-1")) == (["u_000000-0"], ["u_000000"])


def test_files_are_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    write_block(begin_run(tmp_path / "attempt-1"), "u_000000", 3)
    monkeypatch.setattr("os.link", no_link)
    assert begin_run(tmp_path / "attempt-1").num_rows({}) == 3
