"""`rubricrm batch` up to where Ray begins."""

import builtins
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_rows import read, write_lines
from click.testing import CliRunner, Result
from judge_bundle import judge_bundle
from recorded_server import RUBRIC, RecordedServer, serving
from rubricrm.cli import cli
from rubricrm.rubric import form
from rubricrm.text_model import DEMO_BUNDLE
from rubricrm_batch import batch as batch_module
from rubricrm_batch.cluster import Cluster
from rubricrm_batch.errors import JobStopped
from rubricrm_batch.runs import Run
from tokenizers import Tokenizer


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["batch", *map(str, arguments)])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "rows.jsonl", *({"request": f"Name {number} colors."} for number in range(5)), b"{")


class NoCluster:
    """In the place of Ray: the plan in this process, in blocks; it ends after some if it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stop_after: int | None = None
        self.num_starts = 0
        monkeypatch.setattr(batch_module, "connected", self.connected)
        monkeypatch.setattr(batch_module, "run_plan", self.run_plan)

    def connected(self, _: Cluster) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    def run_plan(self, staged: Path, run: Run, answered: Any, size: int) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.num_starts += 1
        answer = answered.keywords["worker"](**answered.keywords["arguments"])
        done = {row["id"] for path in run.checkpoint.iterdir() for row in parquet.read_table(path).to_pylist()}
        table = pa.concat_tables(parquet.read_table(path) for path in sorted(staged.glob("*.parquet")))
        left = table.filter(pa.array([row not in done for row in table["id"].to_pylist()]))
        for number, start in enumerate(range(0, len(left), size)):
            if number == self.stop_after:
                raise JobStopped("the test ended it.")
            block = answer(left.slice(start, size))
            name = f"{self.num_starts}_{number:06}"
            parquet.write_table(block, run.rubrics / f"{name}-0.parquet")
            parquet.write_table(block.select(["id"]), run.checkpoint / f"{name}.parquet")


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> NoCluster:
    return NoCluster(monkeypatch)


def test_a_job_that_stops_goes_on_and_says_what_it_is(rows: Path, tmp_path: Path, no_cluster: NoCluster) -> None:
    given = (rows, "-o", tmp_path / "out", "-m", DEMO_BUNDLE, "--max-new-tokens", 8, "--rows-per-block", 2)
    no_cluster.stop_after = 1
    stopped = run(*given)
    assert stopped.exit_code == 1
    assert "JOB_STOPPED: the test ended it." in stopped.output
    assert not (tmp_path / "out/rubrics").exists()
    no_cluster.stop_after = None
    done = run(*given, "--json")
    assert done.exit_code == 3
    report = json.loads(done.stdout)
    assert (report["rows"], report["complete"], report["errors"]) == (6, True, {"ROW_MALFORMED": 1})
    assert sorted(row["id"] for row in read(tmp_path / "out/rubrics")) == [f"rows.jsonl:{n}" for n in range(1, 7)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "job.json", "rubrics", "staged"]
    again = run(*given)
    assert (again.exit_code, no_cluster.num_starts) == (3, 2)
    assert "all 6 ids are there, each once" in again.output
    assert "1 rows failed: ROW_MALFORMED 1" in again.output
    assert run(*given, "--retry-failed").exit_code == 3
    assert no_cluster.num_starts == 2  # nothing of it may succeed


def test_another_job_in_an_output_is_refused(rows: Path, tmp_path: Path, no_cluster: NoCluster) -> None:
    given = (rows, "-o", tmp_path / "out", "-m", DEMO_BUNDLE, "--max-new-tokens", 8)
    assert run(*given).exit_code == 3
    other = run(*given, "--seed", 1)
    assert other.exit_code == 2
    assert "JOB_DIFFERS" in other.output
    assert "options.seed: 0 there, 1 now" in other.output
    rows.write_bytes(rows.read_bytes() + b'{"request": "One more."}\n')
    assert "input.sha256" in run(*given).output
    assert no_cluster.num_starts == 1


def test_how_a_job_is_computed_is_not_its_identity(rows: Path, tmp_path: Path, no_cluster: NoCluster) -> None:
    given = (rows, "-o", tmp_path / "out", "-m", DEMO_BUNDLE, "--max-new-tokens", 8)
    no_cluster.stop_after = 0
    assert run(*given).exit_code == 1
    no_cluster.stop_after = None
    assert run(*given, "--workers", 2, "--threads", 1, "--rows-per-block", 1).exit_code == 3


@pytest.fixture
def servers() -> Iterator[tuple[RecordedServer, RecordedServer]]:
    """One of vLLM and one of llama.cpp, with the same model."""
    pytest.importorskip("openai")
    tokenizer = Tokenizer.from_file(str(DEMO_BUNDLE / "tokenizer.json"))

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    with serving(RecordedServer("vllm", encode)) as first, serving(RecordedServer("llama.cpp", encode)) as second:
        yield first, second


def test_a_job_goes_on_at_another_server_unless_it_asks_for_something_else(
    tmp_path: Path, no_cluster: NoCluster, servers: tuple[RecordedServer, RecordedServer]
) -> None:
    rows = write_lines(tmp_path / "rows.jsonl", {"request": "Write a haiku."})
    given = (rows, "-o", tmp_path / "out", "--prompt", DEMO_BUNDLE)
    first, second = servers
    no_cluster.stop_after = 0
    assert run(*given, "--server", first.url).exit_code == 1
    no_cluster.stop_after = None
    # A dialect without a form: nothing of it is sent.
    other = run(*given, "--server", first.url, "--dialect", "openai")
    assert (other.exit_code, "model.is_held: true there, false now" in other.output) == (2, True)
    done = run(*given, "--server", second.url, "--dialect", "llama.cpp")
    assert done.exit_code == 0, done.output
    assert [row["rubric"] for row in read(tmp_path / "out/rubrics")] == [RUBRIC]
    assert second.grammar(second.bodies[-1]) == form.gbnf()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "needs one of --model BUNDLE, --server URL and --vllm CHECKPOINT"),
        (("-m", DEMO_BUNDLE, "--vllm", "x"), "needs one of --model BUNDLE, --server URL and --vllm CHECKPOINT"),
        (("--vllm", "x"), "--vllm and --vllm-prompt, the prompt directory of its model, belong together"),
        (("--server", "http://x", "--prompt", "x", "--device", "cpu"), "--device has no effect without --model"),
        (("-m", "none"), "BUNDLE_NOT_FOUND"),
        (("-m", DEMO_BUNDLE, "--temperature", "-1"), "OPTION_INVALID: temperature"),
        (("-m", DEMO_BUNDLE, "--column", "prompt"), "no column 'prompt'"),
    ],
    ids=["none", "both", "vllm", "device", "missing", "option", "column"],
)
def test_wrong_usage_is_said_before_anything_is_made(
    rows: Path, tmp_path: Path, given: tuple[object, ...], said: str
) -> None:
    failed = run(rows, "-o", tmp_path / "out", *given)
    assert failed.exit_code == 2
    assert said in failed.output
    assert not (tmp_path / "out").exists()


def test_the_command_loads_neither_ray_nor_pyarrow() -> None:
    script = "import sys, rubricrm_batch.cli; print(sorted({'ray', 'pyarrow', 'pandas', 'numpy'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_the_extra_the_remedy_is_named(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without_pyarrow(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return found(name, *rest)

    for name in [name for name in sys.modules if name.startswith(("rubricrm_batch.", "pyarrow"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    failed = run(rows, "-o", tmp_path / "out", "-m", DEMO_BUNDLE)
    assert failed.exit_code == 1
    assert "DEPENDENCY_MISSING: a batch needs pyarrow, which is not installed" in failed.output
    assert "[batch]" in failed.output


def test_a_judge_that_names_no_winner_leaves_rubrics_without_a_number(tmp_path: Path, no_cluster: NoCluster) -> None:
    judge = judge_bundle(tmp_path / "judge")
    pair = {"request": "Write a haiku about rain.", "answer": "Rain falls.", "seed": 1}
    rows = write_lines(tmp_path / "pairs.jsonl", {**pair, "reward": "Drops."}, {**pair, "reward": None})
    given = (rows, "-o", tmp_path / "out", "-m", DEMO_BUNDLE, "--judge", judge)
    done = run(*given, "--reward", "answer", "reward", "--threads", 1)
    assert done.exit_code == 3
    assert no_cluster.num_starts == 1
    judged, lacking = sorted(read(tmp_path / "out/rubrics"), key=lambda row: row["id"])
    assert (judged["error_code"], judged["reward"], judged["winner"]) == ("UNSCORED", None, None)
    assert (lacking["error_code"], lacking["reward"]) == ("UNSCORED", None)
    assert lacking["error_message"].startswith("input_invalid: the column 'input_reward' holds no text")
    assert judged["rubric"]
    assert (judged["input_reward"], judged["input_seed"]) == ("Drops.", 1)
    differs = run(*given, "--answers", "answer", "reward")
    assert "judge.is_reward: true there, false now" in differs.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--answers", "a", "b"), "--answers and --reward need --judge"),
        (("--judge", "x"), "a judge needs one of --answers A B and --reward"),
        (("--judge-server", "http://x", "--answers", "a", "b"), "--judge-server needs --judge-prompt DIR"),
        (("--judge", DEMO_BUNDLE, "--answers", "request", "b"), "no column 'b' of texts, for the judge"),
    ],
    ids=["judge", "columns", "prompt", "column"],
)
def test_wrong_usage_of_a_judge_is_said(rows: Path, tmp_path: Path, given: tuple[object, ...], said: str) -> None:
    failed = run(rows, "-o", tmp_path / "out", "-m", DEMO_BUNDLE, *given)
    assert failed.exit_code == 2
    assert said in failed.output
    assert not (tmp_path / "out").exists()
