"""A job's directory: one job, one process at a time, and nobody else's files."""

import subprocess
import sys
from pathlib import Path

import pytest
from rubricrm.errors import OutputExists, WriteFailed
from rubricrm_batch.errors import JobBusy, JobDiffers
from rubricrm_batch.job import locked_job

IDENTITY = {"input": {"sha256": "aa"}, "model": {"manifest_sha256": "bb"}, "options": {"seed": 0, "stop": []}}


def begin(path: Path) -> None:
    with locked_job(path) as job:
        job.check_identity(IDENTITY)
        job.begin(IDENTITY)


def test_the_same_job_is_resumed(tmp_path: Path) -> None:
    begin(tmp_path / "out")
    with locked_job(tmp_path / "out") as job:
        assert job.is_begun
        job.check_identity(IDENTITY)


def test_another_job_is_refused_with_what_differs(tmp_path: Path) -> None:
    begin(tmp_path / "out")
    other = IDENTITY | {"model": {"manifest_sha256": "cc"}, "options": {"seed": 1, "stop": []}}
    said = r'model.manifest_sha256: "bb" there, "cc" now; options.seed: 0 there, 1 now\)'
    with locked_job(tmp_path / "out") as job, pytest.raises(JobDiffers, match=said):
        job.check_identity(other)


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with locked_job(tmp_path) as job, pytest.raises(OutputExists, match=r"holds 'thesis.txt' and no job"):
        job.check_identity(IDENTITY)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_damaged_identity_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "out")
    (tmp_path / "out/job.json").write_text("{")
    with locked_job(tmp_path / "out") as job, pytest.raises(OutputExists, match="cannot be read"):
        job.check_identity(IDENTITY)


HOLD = """
import sys, time
from pathlib import Path
from rubricrm_batch.job import locked_job
with locked_job(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_two_processes_do_not_work_in_one_output_and_a_killed_one_holds_nobody_up(tmp_path: Path) -> None:
    begin(tmp_path / "out")
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "out"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    with pytest.raises(JobBusy, match=f"process {process.pid} works on this job"), locked_job(tmp_path / "out"):
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    with locked_job(tmp_path / "out") as job:
        assert job.is_begun


def test_a_directory_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked_job(tmp_path / "a/out"):
        raise RuntimeError
    assert not (tmp_path / "a/out").exists()


def test_an_output_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteFailed, match="cannot be written"), locked_job(tmp_path / "file/out"):
        pass
