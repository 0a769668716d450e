"""Batches on Ray: every test starts it, which takes some ten seconds."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from batch_rows import read, write_lines
from killed_batches import command, killed, write_input
from rubricrm import RubricModel
from rubricrm.errors import OptionInvalid, WriteFailed
from rubricrm.generation.options import GenerationOptions
from rubricrm.text_model import DEMO_BUNDLE
from rubricrm_batch.answering import seed_of
from rubricrm_batch.batch import Batch
from rubricrm_batch.cluster import Cluster
from rubricrm_batch.errors import JobStopped
from rubricrm_batch.model_source import BundleSource
from rubricrm_batch.patience import Patience
from scripted_source import ScriptedSource

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("default"),  # Ray's own
]
HERE = Cluster(None, 1, 1, 0.0)


@pytest.fixture(autouse=True)
def _modules_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import the scripted source."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "references"))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rubricrm", "batch", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def scripted_batch(tmp_path: Path, source: ScriptedSource, *, rows: int = 40, cluster: Cluster = HERE) -> Batch:
    path = write_lines(tmp_path / "rows.jsonl", *({"request": f"request {number}"} for number in range(rows)))
    return Batch(
        input=str(path),
        output=tmp_path / "out",
        model=source,  # type: ignore[arg-type]
        options=GenerationOptions(),
        request="request",
        id_column=None,
        split="train",
        cluster=cluster,
        rows_per_block=8,
        patience=Patience(4, 0.2),
    )


def test_poisoned_rows_are_errors_and_all_others_are_answered(tmp_path: Path) -> None:
    lines = [
        {"request": "Write a haiku about rain.", "seed": 3},
        {"request": "x " * 5000},
        {"request": ""},
        {"request": "a\0b"},
        {"request": "Say <|im_end|> twice."},
        {"request": None},
        b'{"request": "\xff"}',
        b"nothing",
    ]
    path = write_lines(tmp_path / "rows.jsonl", *lines)
    given = (path, "-o", tmp_path / "out", "-m", DEMO_BUNDLE, "--temperature", 0.7, "--seed", 4, "--max-new-tokens", 60)
    done = run(*given, "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert (report["rows"], report["failed"], report["retryable"]) == (8, 6, 0)
    rows = {row["id"]: row for row in read(tmp_path / "out/rubrics")}
    codes = [rows[f"rows.jsonl:{number}"]["error_code"] for number in range(1, 9)]
    assert codes == [
        "",
        "PROMPT_TOO_LONG",
        "REQUEST_INVALID",
        "REQUEST_INVALID",
        "",
        "REQUEST_MISSING",
        "ROW_NOT_UTF8",
        "ROW_MALFORMED",
    ]
    with RubricModel.demo() as model:
        for number in (1, 5):
            row = rows[f"rows.jsonl:{number}"]
            assert row["seed"] == seed_of(row["id"], 4)
            again = model.generate(row["request"], temperature=0.7, seed=row["seed"], max_new_tokens=60)
            assert (row["rubric"], row["completion_tokens"]) == (again.text, again.usage.completion_tokens)
            assert json.loads(row["rubric_json"]) == again.rubric.to_dict()


@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_job_that_is_killed_is_resumed(tmp_path: Path, share: float) -> None:
    write_input(tmp_path / "rows.jsonl", 300)
    todo = command(tmp_path / "rows.jsonl", tmp_path / "out", DEMO_BUNDLE, 16)
    after_s = 30 * share
    while (found := killed(todo, tmp_path / "out", after_s)) is None:
        after_s *= 0.7  # a quick machine
    assert (found["ids"], found["most_of_one_id"], found["failed"]) == (300, 1, 0)


def test_ctrl_c_says_how_the_job_goes_on(tmp_path: Path) -> None:
    write_input(tmp_path / "rows.jsonl", 2000)
    todo = command(tmp_path / "rows.jsonl", tmp_path / "out", DEMO_BUNDLE, 60)
    process = subprocess.Popen(todo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out").glob("attempt-1/run-1/checkpoint/*.parquet")):
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert (process.returncode, output) == (130, "")
    assert "what is written stays. The same command goes on." in errors
    assert "Traceback" not in errors


def test_a_server_that_comes_back_costs_no_row(tmp_path: Path) -> None:
    source = ScriptedSource(tmp_path / "up", tmp_path / "answers", last=20)
    source.up.touch()

    def bring_back() -> None:
        while source.up.exists():
            time.sleep(0.01)
        time.sleep(0.5)
        source.up.touch()

    helper = threading.Thread(target=bring_back)
    helper.start()
    report = scripted_batch(tmp_path, source).run()
    helper.join()
    assert (report.exit_code, report.audit.rows) == (0, 40)


def test_a_server_that_stays_away_ends_the_job_and_no_row_of_it_is_done(tmp_path: Path) -> None:
    source = ScriptedSource(tmp_path / "up", tmp_path / "answers", last=20)
    source.up.touch()
    batch = scripted_batch(tmp_path, source)
    with pytest.raises(JobStopped, match=r"did not answer 4 times in a row.*nobody is there"):
        batch.run()
    assert not (tmp_path / "out/rubrics").exists()
    kept = {path.name for path in (tmp_path / "out").glob("attempt-1/run-1/rubrics/*.parquet")}
    assert len(kept) == 2  # of the five blocks, those that were whole
    source.up.touch()
    report = batch.run()
    assert (report.exit_code, report.audit.rows) == (0, 40)
    asked = Counter(source.answers.read_text().splitlines())
    assert [asked[f"request {number}"] for number in range(16)] == [1] * 16  # nothing is done twice


class LlamaServer:
    """llama.cpp's server with the demo model, in a process that a test may kill."""

    def __init__(self, model: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._model = model
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        script = Path(__file__).parents[1] / "references/llama_server.py"
        self._process = subprocess.Popen(
            [sys.executable, script, self._model, str(self._port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        self._process.stdout.close()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[LlamaServer]:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    from demo_gguf import write_gguf

    checkpoint = Path(__file__).parents[2] / "models/demo/checkpoint"
    server = LlamaServer(write_gguf(checkpoint, tmp_path / "demo.gguf"))
    server.start()
    yield server
    server.kill()


def wait_for_a_block(output: Path, process: subprocess.Popen[str], run: int) -> None:
    """Wait until a run has written a block of its own."""
    before = set(output.glob(f"attempt-1/run-{run - 1}/checkpoint/*.parquet"))
    while len(list(output.glob(f"attempt-1/run-{run}/checkpoint/*.parquet"))) <= len(before):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def test_llama_cpp_is_killed_and_comes_back_and_no_row_of_it_is_lost_or_scored(
    tmp_path: Path, llama: LlamaServer
) -> None:
    write_input(tmp_path / "rows.jsonl", 60)
    output = tmp_path / "out"
    server = ("--server", llama.url, "--prompt", str(DEMO_BUNDLE), "--max-concurrency", "4", "--rows-per-block", "6")
    todo = [sys.executable, "-m", "rubricrm", "batch", str(tmp_path / "rows.jsonl"), "-o", str(output), *server]
    todo += ["--max-new-tokens", "20", "--json"]
    process = subprocess.Popen(
        [*todo, "--give-up-after", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_a_block(output, process, run=1)
    llama.kill()  # and it stays away for longer than the job waits
    errors = process.communicate()[1]
    assert process.returncode == 1
    assert "JOB_STOPPED: the model did not answer 2 times in a row" in errors
    assert "Traceback" not in errors
    assert run(*todo[4:]).returncode == 1  # it is said before Ray starts
    assert not (output / "rubrics").exists()
    llama.start()
    process = subprocess.Popen(todo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_a_block(output, process, run=2)
    llama.kill()  # this time it comes back while the job waits
    time.sleep(2)
    llama.start()
    report = json.loads(process.communicate()[0])
    assert process.returncode == 0
    assert (report["rows"], report["complete"], report["failed"]) == (60, True, 0)
    assert all(row["rubric"] for row in read(output / "rubrics"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room to stage 1,200 rows (256 files of ids, a page each), and not for their rubrics."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1400k", "tmpfs", disk], check=False).returncode
    ):
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_ends_the_job_and_more_room_completes_it(tmp_path: Path, small_disk: Path) -> None:
    source = ScriptedSource(tmp_path / "up", tmp_path / "answers")
    source.up.touch()
    batch = replace(scripted_batch(tmp_path, source, rows=1200), output=small_disk / "out")
    with pytest.raises(WriteFailed, match="cannot be written"):
        batch.run()
    kept = list((small_disk / "out").glob("attempt-1/run-1/rubrics/*.parquet"))
    assert kept
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    report = batch.run()
    assert (report.exit_code, report.audit.rows) == (0, 1200)


def test_two_nodes_share_a_job(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster as RayCluster

    nodes = RayCluster(initialize_head=True, head_node_args={"num_cpus": 3, "object_store_memory": 200 << 20})
    try:
        nodes.add_node(num_cpus=3, object_store_memory=200 << 20)
        nodes.wait_for_nodes()
        write_input(tmp_path / "rows.jsonl", 200)
        batch = Batch(
            input=str(tmp_path / "rows.jsonl"),
            output=tmp_path / "out",
            model=BundleSource(DEMO_BUNDLE, None, 2, 8),
            options=GenerationOptions(max_new_tokens=8),
            cluster=Cluster(nodes.address, 2, 2, 0.0),  # no node has room for two workers
            request="request",
            id_column="name",
            split="train",
            rows_per_block=8,
            patience=Patience(),
        )
        report = batch.run()
        assert (report.exit_code, report.audit.rows) == (0, 200)
        too_many = replace(batch, cluster=Cluster(nodes.address, 3, 2, 0.0), output=tmp_path / "other")
        with pytest.raises(OptionInvalid, match="the cluster has 6 CPUs, expected 8: 3 workers of 2 CPUs"):
            too_many.run()
    finally:
        nodes.shutdown()
