"""`rubricrm bench`: its figures agree with each other, wrong answers get no rank, an interruption loses nothing."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm_bench import bench
from rubricrm_bench.bench_job import BenchJob
from rubricrm_bench.distribution import distribution
from rubricrm_bench.rival_rows import read_rivals
from rubricrm_bench.rows import run_row
from rubricrm_bench.workload import BenchRow, make_rows, message_of_length, read_requests, without_stops
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

MakeCheckpoint = Callable[..., Path]

pytest.importorskip("matplotlib")


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["bench", *(str(word) for word in words)])


# What is measured of the machine takes seconds, and matters to no test but those of `report`.
QUICK_MACHINE = {"opening._TIMES": 1, "roofline._LEAST_BYTES": 16 << 20, "roofline._GEMM": (64, 256, 256)}
QUICK_MACHINE_SCRIPT = "from rubricrm_bench import opening, roofline\n" + "".join(
    f"{place} = {value}\n" for place, value in QUICK_MACHINE.items()
)


@pytest.fixture(autouse=True)
def _measure_the_machine_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, value in QUICK_MACHINE.items():
        monkeypatch.setattr(f"rubricrm_bench.{place}", value)


def shorten(bundle: Path) -> None:
    """Random weights never end a rubric: only its length does, and that is no matter here."""
    manifest = bundle / "rubricrm.json"
    document = json.loads(manifest.read_text("utf-8"))
    document["generation"]["max_new_tokens"] = 60
    manifest.write_text(json.dumps(document), "utf-8")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with short rubrics; for reading only."""
    path = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("short") / "bundle"))
    shorten(path)
    return path


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short requests."""
    path = tmp_path_factory.mktemp("requests") / "requests.jsonl"
    path.write_text('{"request": "Write a haiku."}\n{"request": "Name three colors."}\n')
    return path


def beside(rival_ms: list[float], agreement: float = 0.9) -> dict[str, Any]:
    """Return what rivals.py keeps of a system."""
    sides = {"ours": [10.0, 20.0], "rival": rival_ms}
    row = {side: {"ttft_ms": [100.0, 100.0], "tpot_ms": times} for side, times in sides.items()}
    return {"agreement": agreement, "shapes": {"390/200": row, "64/64": {"error": "out of memory"}}}


RIVALS = {
    "checkpoint": "4b",
    "ours": "ours:a",
    "threads": 2,
    "machine": {"cpu": "<b>CPU</b>"},
    "contenders": {
        "ours:a": {"agreement": 0.8, "shapes": {}},
        "slow:a": beside([20.0, 60.0]),
        "wrong:a": beside([1.0, 1.0], agreement=0.0),
        "failed:a": {"shapes": {}, "error": "no"},
    },
}


@pytest.fixture(scope="module")
def report(bundle: Path, quick: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every kind of row of a tiny model."""
    folder = tmp_path_factory.mktemp("report")
    options = [
        "--prompt-tokens",
        "40,70",
        "--new-tokens",
        "5",
        "--concurrency",
        "1,2",
        "--warmup",
        "1",
        "--repeat",
        "4",
    ]
    limits = ["--slo", "ttft=100000,e2e=0.001"]
    (folder / "rivals.json").write_text(json.dumps(RIVALS))
    paths = ["--json", folder / "report.json", "--html", folder / "report.html", "--rivals", folder / "rivals.json"]
    result = invoke(bundle, "--requests", quick, *options, *limits, *paths)
    assert result.exit_code == 0, result.output
    assert "| 70/5 | 2 |" in result.stdout
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    found["page"] = (folder / "report.html").read_text()
    return found


# --- the figures


def test_rows_are_the_requests_and_each_shape_by_concurrency(report: dict[str, Any]) -> None:
    names = [(row["name"], row["concurrency"]) for row in report["rows"]]
    assert names == [(name, n) for name in ("rubrics", "40/5", "70/5") for n in (1, 2)]
    assert all(len(row["samples"]) == 4 and row["ranked"] and not row["partial"] for row in report["rows"])


def test_shapes_have_exactly_their_lengths(report: dict[str, Any]) -> None:
    for row in report["rows"][2:]:
        prompt, new = map(int, row["name"].split("/"))
        assert {(s["prompt_tokens"], s["new_tokens"]) for s in row["samples"]} == {(prompt, new)}


def test_times_of_every_sample_satisfy_their_identity(report: dict[str, Any]) -> None:
    samples = [sample for row in report["rows"] for sample in row["samples"]]
    assert len(samples) == 24
    for sample in samples:
        decode = sample["tpot_ms"] * (sample["new_tokens"] - 1)
        assert sample["ttft_ms"] + decode == pytest.approx(sample["e2e_ms"], rel=1e-9)
        assert 0 < sample["prefill_ms"] <= sample["ttft_ms"] < sample["e2e_ms"]


def test_percentiles_are_numpys_of_the_samples(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        for key in ("ttft_ms", "tpot_ms", "e2e_ms"):
            values = [sample[key] for sample in row["samples"]]
            assert row[key]["samples"] == values
            for p in (50, 90, 95, 99):
                assert row[key][f"p{p}"] == np.percentile(values, p)
            assert (row[key]["min"], row[key]["max"], row[key]["n"]) == (min(values), max(values), 4)


def test_rates_follow_from_the_samples(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        samples = row["samples"]
        decode_s = sum(s["e2e_ms"] - s["ttft_ms"] for s in samples) / 1000
        assert row["decode_tokens_per_s"] == pytest.approx(sum(s["new_tokens"] - 1 for s in samples) / decode_s)
        computed = sum(s["prompt_tokens"] - s["cached_tokens"] for s in samples)
        assert row["prefill_tokens_per_s"] == pytest.approx(1000 * computed / sum(s["prefill_ms"] for s in samples))
        assert row["rubrics_per_min"] == pytest.approx(60 * 4 / row["wall_s"])
        assert row["goodput_per_min"] == 0  # nothing ends within a microsecond
        assert (row["roofline"] is not None) is (row["concurrency"] == 1)


def test_the_report_says_what_it_belongs_to(report: dict[str, Any], bundle: Path) -> None:
    assert report["bundle"]["manifest_sha256"] == Bundle.open(bundle).manifest_sha256
    assert report["machine"]["usable_cores"] >= 1
    assert report["machine"]["packages"]["onnxruntime"]
    assert report["load_ms"]["warm_ms"] > 0
    assert report["peak_rss_bytes"] > 20e6
    assert report["roofline"]["read_bytes_per_s"] > 1e8
    assert not report["partial"]


def test_the_page_needs_nothing_else(report: dict[str, Any]) -> None:
    page = report["page"]
    assert page.count("<svg") == 5
    assert not re.search(r"<(script|link|img|iframe)|@import|url\((?!#)", page)
    outside = set(re.findall(r'(?:src|href)="([^#"][^"]*)"', page))
    assert not outside
    assert 'name="viewport"' in page


@given(st.lists(st.none() | st.floats(0, 1e9), max_size=30))
def test_distribution(values: list[float | None]) -> None:
    present = [value for value in values if value is not None]
    found = distribution(values)
    assert (found is None) is (not present)
    if found is not None:
        assert found["samples"] == present
        assert found["min"] <= found["p50"] <= found["p90"] <= found["p95"] <= found["p99"] <= found["max"]


# --- answers


def test_weights_that_are_not_the_manifests_get_no_rank(bundle_copy: Path, quick: Path, tmp_path: Path) -> None:
    data = bundle_copy / "model.onnx.data"
    data.write_bytes(
        np.random.default_rng(0)
        .standard_normal(data.stat().st_size // 2 + 1)
        .astype(ml_dtypes.bfloat16)  # two of them are a float32 that is finite too
        .tobytes()[: data.stat().st_size]
    )
    out = tmp_path / "out.json"
    shorten(bundle_copy)
    result = invoke(bundle_copy, "--requests", quick, "--repeat", "1", "--json", out)
    assert result.exit_code == 1
    assert "Not ranked, the answers are wrong" in result.stdout
    found = json.loads(out.read_text())
    assert not found["answers"]["right"]
    assert "model.onnx.data" in found["answers"]["compared"]
    assert [row["ranked"] for row in found["rows"]] == [False]


def test_a_bundle_of_other_weights_than_the_references_gets_no_rank(
    make_checkpoint: MakeCheckpoint, bundle: Path, quick: Path, tmp_path: Path
) -> None:
    def other(tensors: dict[str, np.ndarray]) -> None:
        rng = np.random.default_rng(7)
        for name, tensor in tensors.items():
            if tensor.ndim == 2:
                tensors[name] = rng.permutation(tensor.reshape(-1)).reshape(tensor.shape)

    garbage = export_onnx(OnnxExport(str(make_checkpoint(change=other)), tmp_path / "garbage"))
    shorten(garbage.path)
    words = ["--requests", quick, "--repeat", "1", "--json", "-", "--reference"]
    result = invoke(garbage.path, *words, bundle)
    assert result.exit_code == 1
    assert re.search(r"only \d+% of the tokens", json.loads(result.stdout)["answers"]["compared"])
    result = invoke(bundle, *words, bundle)
    assert result.exit_code == 0
    assert "100% of the tokens" in json.loads(result.stdout)["answers"]["compared"]


# --- interruption


def test_a_bundle_that_computes_no_numbers_is_not_measured(
    bundle_copy: Path, quick: Path, poison: Callable[[Path, str], None]
) -> None:
    poison(bundle_copy, "model.layers.1.mlp.down_proj.weight")
    result = invoke(bundle_copy, "--requests", quick, "--repeat", "1")
    assert result.exit_code == 1
    assert "OUTPUT_INVALID" in result.stderr
    assert result.stdout == ""


def test_matplotlib_is_needed_for_the_page_alone(
    bundle: Path, quick: Path, tmp_path: Path, block: Callable[[str], str]
) -> None:
    script = f"{block('matplotlib')}{QUICK_MACHINE_SCRIPT}from rubricrm.cli import main\nmain()\n"
    options = ["--requests", str(quick), "--repeat", "1", "--warmup", "0", "--openings", "1"]
    command = [sys.executable, "-c", script, "bench", str(bundle), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "page.html"
    done = subprocess.run([*command, "--html", str(page)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: DEPENDENCY_MISSING: --html needs matplotlib, which is not installed.")
    assert "[cpu,bench]'" in done.stderr
    assert not page.exists()


def test_ctrl_c_writes_what_there_is(bundle: Path, quick: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    # A shell's background job, and all that it starts, ignores Ctrl-C: these tests may be one.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"{QUICK_MACHINE_SCRIPT}"
        "from rubricrm_bench import rows; take = rows._Numbers.take\n"
        "def count(self):\n"
        "    found = take(self)\n"
        "    if found == 2: print('here', flush=True)\n"
        "    return found\n"
        "rows._Numbers.take = count\n"
        "from rubricrm.cli import main; main()"
    )
    words = [
        "bench",
        bundle,
        "--requests",
        quick,
        "--duration",
        "600",
        "--json",
        out,
        "--html",
        tmp_path / "out.html",
    ]
    command = [sys.executable, "-c", script, *(str(word) for word in words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (130, "")
    assert "Partial" in stdout
    found = json.loads(out.read_text())
    assert found["partial"]
    assert found["rows"][0]["partial"]
    assert not found["rows"][0]["ranked"]
    assert len(found["rows"][0]["samples"]) >= 2
    assert found["roofline"]["read_bytes_per_s"] > 1e8  # measured before the rows
    assert "Partial" in (tmp_path / "out.html").read_text()


# --- options


@pytest.mark.parametrize(
    ("options", "concurrency", "expected"),
    [
        ({}, 1, 3),
        ({}, 2, 2),
        ({}, 8, 1),
        ({"repeat": 1}, 1, 1),
        ({"repeat": 100}, 8, 3),
        ({"openings": 1}, 1, 1),
        ({"duration_s": 5.0, "repeat": 1}, 8, 3),
    ],
    ids=str,
)
def test_requests_are_shared_among_openings(options: dict[str, Any], concurrency: int, expected: int) -> None:
    assert BenchJob(Path("bundle"), **options).openings_of(concurrency) == expected


@pytest.mark.parametrize(("openings", "repeat"), [(1, 5), (2, 5), (3, 7)])
def test_each_opening_has_its_share(bundle: Path, monkeypatch: pytest.MonkeyPatch, openings: int, repeat: int) -> None:
    shares: list[tuple[int, int]] = []

    def counted(model: Any, run: Any, job: BenchJob, opening: int, on_progress: Any) -> None:
        before = len(run.samples)
        run_row(model, run, job, opening, on_progress)
        shares.append((opening, len(run.samples) - before))

    monkeypatch.setattr(bench, "run_row", counted)
    shape: dict[str, Any] = {"prompt_tokens": (40,), "new_tokens": (2,), "no_rubrics": True}
    job = BenchJob(bundle, openings=openings, repeat=repeat, warmup=0, **shape)
    (run,) = bench.run_bench(job, lambda *_: None).rows
    assert [opening for opening, _ in shares] == list(range(openings))
    assert sum(count for _, count in shares) == len(run.samples) == repeat
    assert min(count for _, count in shares) >= 2
    assert not run.is_partial
    assert run.wall_s >= sum(sample.e2e_ms for sample in run.samples) / 1000


# --- rivals


def test_rivals_are_shown_beside_the_rows(report: dict[str, Any]) -> None:
    rivals = report["rivals"]
    assert (rivals["checkpoint"], rivals["ours"], rivals["threads"]) == ("4b", "ours:a", 2)
    slow, wrong = rivals["rows"]
    assert (slow["name"], slow["shape"], slow["ranked"]) == ("slow:a", "390/200", True)
    assert slow["ttft_ms_times_ours"] == {"median": 1, "min": 1, "max": 1}
    assert slow["tpot_ms_times_ours"] == {"median": 2.5, "min": 2, "max": 3}
    assert (wrong["name"], wrong["ranked"]) == ("wrong:a", False)
    part = report["page"].partition("<h2>Rivals</h2>")[2]
    assert "&lt;b&gt;CPU" in part
    assert ">slow a<" in part
    assert "Not ranked, their answers are of another model: wrong:a." in part
    assert ">wrong a<" not in part


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"contenders": 3}', json.dumps(RIVALS | {"ours": "other"})])
def test_files_that_are_not_of_rivals(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "rivals.json").write_text(text)
    with pytest.raises(OptionInvalid, match="cannot be read as results of benchmarks/rivals.py"):
        read_rivals(tmp_path / "rivals.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_tokens": (40,)}, "Pass both, or neither"),
        ({"new_tokens": (40,)}, "Pass both, or neither"),
        ({"prompt_tokens": (0,), "new_tokens": (1,)}, "prompt-tokens must be from 1 to 1000000, got 0"),
        ({"no_rubrics": True}, "--no-rubrics leaves nothing to measure"),
        ({"concurrency": ()}, "concurrency must hold a number"),
        ({"concurrency": (0,)}, "concurrency must be from 1"),
        ({"warmup": -1}, "warmup must be from 0"),
        ({"repeat": 0}, "repeat must be from 1"),
        ({"openings": 0}, "openings must be from 1"),
        ({"duration_s": 0.0}, "duration must be a positive number"),
        ({"duration_s": float("inf")}, "duration must be a positive number"),
        ({"slo": {"latency": 1.0}}, "slo knows ttft, tpot, e2e, first_criterion in milliseconds, got 'latency'"),
        ({"slo": {"ttft": -1.0}}, "slo ttft must be a positive number"),
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionInvalid, match=message):
        BenchJob(Path("bundle"), **options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--concurrency", "1,x"], "'1,x' is not of the form 1,2,4"),
        (["--slo", "ttft"], "'ttft' is not of the form ttft=500,tpot=50"),
        (["--slo", "ttft=fast"], "is not of the form"),
        (["--json", "/nosuch/out.json"], "/nosuch: no such directory"),
        (["--requests", "/nosuch.jsonl"], "/nosuch.jsonl: expected lines of JSON"),
        (["--prompt-tokens", "3", "--new-tokens", "1"], "prompt-tokens must be at least"),
        (
            ["--prompt-tokens", "2000", "--new-tokens", "100"],
            "2000 prompt tokens and 100 new ones exceed the context of 2048",
        ),
    ],
    ids=str,
)
def test_bad_usage_is_told_before_anything_runs(bundle: Path, words: list[str], message: str) -> None:
    result = invoke(bundle, *words)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("text", ["", "\n\n", "[]", '{"text": "x"}', '{"request": 7}', '{"request": " "}', "{"])
def test_files_without_requests(tmp_path: Path, text: str) -> None:
    (tmp_path / "requests.jsonl").write_text(text)
    with pytest.raises(OptionInvalid, match="expected"):
        read_requests(tmp_path / "requests.jsonl")


# --- the workload


def test_the_built_in_requests() -> None:
    requests = read_requests(None)
    assert len(requests) == len(set(requests)) >= 8


def test_messages_have_every_length(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    prompt = Prompt(opened.manifest.prompt, opened.manifest.chat, Tokenizer.from_file(opened.file("tokenizer.json")))
    least = len(prompt.encode_messages([{"role": "user", "content": "a"}]))
    for length in (*range(least, least + 40), 300, 1023):
        message = message_of_length(prompt, length)
        assert len(prompt.encode_messages([{"role": "user", "content": message}])) == length


def test_fixed_shapes_do_not_end_early(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    (stop,) = without_stops(opened).manifest.prompt.stop_ids
    assert stop >= opened.manifest.tokenizer.num_tokens  # a padding row, which is never chosen
    requests = read_requests(None)
    rows = make_rows(BenchJob(bundle, prompt_tokens=(40,), new_tokens=(2, 3)), opened, requests)
    assert [(row.name, row.new_tokens) for row in rows] == [("rubrics", None), ("40/2", 2), ("40/3", 3)]
    assert all(isinstance(row, BenchRow) for row in rows)
    alone_job = BenchJob(bundle, prompt_tokens=(40,), new_tokens=(2, 3), no_rubrics=True)
    alone = make_rows(alone_job, opened, requests)
    assert alone == rows[1:]


def test_no_bundle(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "bundle", ignore_errors=True)
    result = invoke(tmp_path / "bundle")
    assert result.exit_code == 2
    assert "BUNDLE_NOT_FOUND" in result.output
