"""`rubricrm plan`: sizes, what fits, and published speeds."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid
from rubricrm_bench.plan import SIZES, ModelSize, Plan, fastest, make_plans
from rubricrm_export.tensorrt.devices import DEVICES, ONNX_RUNTIME, DeviceFacts
from rubricrm_export.tensorrt.option_values import READERS

MakeCheckpoint = Callable[..., Path]

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
CONFIG = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


def invoke(*words: str) -> Result:
    return CliRunner().invoke(cli, ["plan", *words])


def plan_of(device: str, name: str, context: int = 512) -> Plan:
    plans = make_plans(SIZES["4b"], DEVICES[device], context, 1)
    return next(plan for plan in plans if plan.export.name == name)


def other(memory_bytes: int, bytes_per_s: float) -> DeviceFacts:
    return DeviceFacts("other", 90, memory_bytes, bytes_per_s, (*READERS, ONNX_RUNTIME), "")


def test_sizes_are_those_of_the_checkpoints() -> None:
    # Of Qwen3's model cards: billions of parameters without the embedding.
    for name, billions in (("0.6b", 0.44), ("1.7b", 1.4), ("4b", 3.6), ("8b", 6.95)):
        assert SIZES[name].layer_parameters / 1e9 == pytest.approx(billions, abs=0.06)
    assert SIZES["4b"].layer_parameters + SIZES["4b"].table_parameters == pytest.approx(4.02e9, rel=0.005)
    # 144 KB a position in 16 bits.
    assert SIZES["4b"].kv_values(1) * 2 == 147456


@pytest.mark.parametrize(("device", "published"), [("thor", 79.6), ("agx-orin", 53.1), ("orin-nx", 31.6)])
def test_published_speeds_lie_within_what_is_expected(device: str, published: float) -> None:
    """Qwen3-4B in INT4 with a 16-bit head, Edge-LLM 0.9.0, batch 1."""
    plan = plan_of(device, "edge-llm-int4")
    low, high = plan.tokens_per_s
    assert low <= published <= high
    assert published < 1000 / plan.floor_ms


def test_rows_that_were_measured_keep_the_floor() -> None:
    """The 4B shape on a CPU: its bandwidth and its rows are of one run of `rubricrm bench`.

    The speeds that are expected are a GPU's: this CPU takes longer to unpack INT4 than to read it, and stays below.
    """
    report = json.loads((RESULTS / "bench-4b-int4-128.json").read_text("utf-8"))
    here = other(report["machine"]["memory_bytes"], report["roofline"]["read_bytes_per_s"])
    for row in report["rows"]:
        prompt, new = map(int, row["name"].split("/"))
        plans = make_plans(SIZES["4b"], here, prompt + new // 2, 1)
        plan = next(plan for plan in plans if plan.export.name == "cpu-int4")
        assert plan.fits
        achieved = row["decode_tokens_per_s"] * plan.floor_ms / 1000
        assert achieved == pytest.approx(row["roofline"]["decode_share"], rel=0.12)
        assert achieved < 1


def test_int4_bytes_are_those_of_an_export() -> None:
    # The 4B shape in INT4 for a CPU, block 128, with a head in INT4 blocks of 32: 2.2275 GB were written, of which the
    # tables of positions are some percent.
    plans = make_plans(SIZES["4b"], other(10**12, 1e11), 512, 1)
    found = next(plan for plan in plans if plan.export.name == "cpu-int4")
    assert found.weight_bytes == pytest.approx(2.2275e9, rel=0.06)


def test_what_does_not_fit() -> None:
    assert not plan_of("orin-nano", "edge-llm-fp16").fits
    assert plan_of("orin-nano", "edge-llm-int4-head-int4").fits
    assert fastest(make_plans(SIZES["8b"], other(10**9, 1e11), 2048, 1)) == {}


def test_the_fastest_is_that_of_its_reader() -> None:
    best = fastest(make_plans(SIZES["4b"], DEVICES["agx-orin"], 2048, 1))
    assert {reader: plan.export.name for reader, plan in best.items()} == {
        "edge-llm": "edge-llm-int4-head-int4",
        "vllm": "vllm-fp16",
    }
    for plans in (make_plans(SIZES["4b"], device, 2048, 1) for device in DEVICES.values()):
        for reader, plan in fastest(plans).items():
            assert plan.floor_ms == min(
                other.floor_ms for other in plans if other.export.reader == reader and other.fits
            )


@pytest.mark.parametrize("device", ["orin-nano", "orin-nx", "agx-orin", "a100", "a10", "rtx-3090"])
def test_no_fp8_before_compute_capability_8_9(device: str) -> None:
    commands = [plan.command for plan in make_plans(SIZES["4b"], DEVICES[device], 2048, 1)]
    assert commands
    assert not [command for command in commands if "fp8" in command]


def test_slots_take_memory_and_no_time() -> None:
    one, many = (make_plans(SIZES["4b"], DEVICES["l4"], 2048, slots)[0] for slots in (1, 64))
    assert many.kv_bytes == 64 * one.kv_bytes
    assert many.floor_ms == one.floor_ms
    assert one.fits
    assert not many.fits


@pytest.mark.parametrize("name", SIZES)
def test_an_untied_head_is_stored_twice_and_read_once(name: str) -> None:
    size = SIZES[name]
    found = next(plan for plan in make_plans(size, DEVICES["h100"], 2, 1) if plan.export.name == "tensorrt-llm-fp16")
    tables = size.table_parameters * 2
    assert found.weight_bytes == size.layer_parameters * 2 + tables * (1 if size.is_tied else 2)
    assert found.floor_ms == pytest.approx(
        1000 * (size.layer_parameters * 2 + tables + size.kv_values(2) * 2) / 3350e9, rel=1e-3
    )


def test_a_config_gives_the_same_plan(tmp_path: Path) -> None:
    path = tmp_path / "model" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(CONFIG))
    size = ModelSize.find(str(path))
    assert (size.name, size.checkpoint) == ("model", str(path.parent))
    found, expected = (make_plans(model, DEVICES["thor"], 99, 2) for model in (size, SIZES["4b"]))
    assert [(plan.weight_bytes, plan.floor_ms) for plan in found] == [
        (plan.weight_bytes, plan.floor_ms) for plan in expected
    ]


@pytest.mark.parametrize(
    "change", [{"hidden_size": None}, {"vocab_size": "many"}, {"num_attention_heads": 0, "head_dim": 0}]
)
def test_bad_configs(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG | change))
    with pytest.raises(OptionInvalid, match="model must be one of"):
        ModelSize.find(str(path))
    with pytest.raises(OptionInvalid, match=r"model must be one of 0.6b, .* got '/nosuch'"):
        ModelSize.find("/nosuch")


def test_the_command() -> None:
    result = invoke("--device", "thor", "--for", "edge-llm")
    assert result.exit_code == 0
    assert "The fastest that fits, for each reader:\nedge-llm " in result.stdout
    assert "--for vllm" not in result.stdout
    result = invoke("--memory", "24", "--bandwidth", "300", "--json")
    found = json.loads(result.stdout)
    assert {plan["for"] for plan in found["plans"]} == {*READERS, ONNX_RUNTIME} == found["fastest"].keys()
    assert set(found["fastest"].values()) <= {plan["command"] for plan in found["plans"]}
    assert not [plan for plan in found["plans"] if "--device" in plan["command"]]
    assert found["bytes_per_s"] == 300e9
    assert "Nothing fits." in invoke("--memory", "1", "--bandwidth", "300").stdout


def test_widths_that_groups_do_not_divide(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"intermediate_size": 9792}))
    size = ModelSize.find(str(tmp_path / "config.json"))
    plans = make_plans(size, DEVICES["agx-orin"], 2048, 1)
    assert {plan.export.name for plan in plans} == {"edge-llm-fp16", "edge-llm-int8", "vllm-fp16"}


@pytest.mark.parametrize("device", [None, *DEVICES])
def test_every_line_can_be_run(make_checkpoint: MakeCheckpoint, tmp_path: Path, device: str | None) -> None:
    """The export itself checks each line, without writing anything."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64, "num_hidden_layers": 1}
    config = make_checkpoint(**sizes) / "config.json"
    where = ["--memory", "64", "--bandwidth", "200"] if device is None else ["--device", device]
    rows = json.loads(invoke("--model", str(config), *where, "--context", "128", "--slots", "2", "--json").stdout)[
        "plans"
    ]
    assert rows
    for row in rows:
        program, *words = shlex.split(row["command"])
        output = words.index("-o") + 1
        words[output] = str(tmp_path / "out" / words[output])
        result = CliRunner().invoke(cli, [*words, "--dry-run", "--json"])
        assert (program, result.exit_code) == ("rubricrm", 0), result.output
        report = json.loads(result.stdout)
        assert report["dry_run"]
        if row["for"] != ONNX_RUNTIME:
            assert (report["for"], report["device"]) == (row["for"], device or "any")
            assert (report["max_batch_size"], report["max_seq_len"]) == (2, 128)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a device by --device, or give both"),
        (["--memory", "8"], "name a device by --device, or give both"),
        (["--device", "thor", "--memory", "8"], "name a device by --device, or give both"),
        (["--device", "thor", "--context", "1"], "context must be at least 2, got 1"),
        (["--device", "thor", "--context", "50000"], "context is 50000, the model's holds 40960 tokens"),
        (["--device", "thor", "--slots", "-1"], "slots must be at least 1, got -1"),
        (["--memory", "-1", "--bandwidth", "9"], "memory and bandwidth must be positive"),
        (["--memory", "nan", "--bandwidth", "9"], "memory and bandwidth must be positive"),
        (["--memory", "9", "--bandwidth", "inf"], "memory and bandwidth must be positive"),
    ],
)
def test_bad_usage(words: list[str], message: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert message in result.output
