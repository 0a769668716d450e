"""`rubricrm plan`: sizes, what fits, and published speeds."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rubricrm.cli import cli
from rubricrm.errors import OptionInvalid
from rubricrm_bench.devices import DEVICES, Device
from rubricrm_bench.plan import RECIPES, SIZES, ModelSize, Plan, fastest, make_plans

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


def plan_of(device: str, recipe: str, context: int = 512) -> Plan:
    plans = make_plans(SIZES["4b"], DEVICES[device], context, 1)
    return next(plan for plan in plans if plan.recipe.name == recipe)


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
    low, high = plan_of(device, "int4").tokens_per_s
    assert low <= published <= high
    assert published < 1000 / plan_of(device, "int4").floor_ms


def test_rows_that_were_measured_keep_the_floor() -> None:
    """The 4B shape on a CPU: its bandwidth and its rows are of one run of `rubricrm bench`.

    The speeds that are expected are a GPU's: this CPU takes longer to unpack INT4 than to read it, and stays below.
    """
    report = json.loads((RESULTS / "bench-4b-int4-128.json").read_text("utf-8"))
    here = Device("here", report["machine"]["memory_bytes"], report["roofline"]["read_bytes_per_s"], True, "measured")
    for row in report["rows"]:
        prompt, new = map(int, row["name"].split("/"))
        plans = make_plans(SIZES["4b"], here, prompt + new // 2, 1)
        plan = next(plan for plan in plans if plan.recipe.name == "int4, head too")
        assert plan.fits
        achieved = row["decode_tokens_per_s"] * plan.floor_ms / 1000
        assert achieved == pytest.approx(row["roofline"]["decode_share"], rel=0.12)
        assert achieved < 1


def test_int4_bytes_are_those_of_an_export() -> None:
    # The 4B shape in INT4, block 128, with a head in INT4 blocks of 32: 2.2275 GB were written, of which the tables
    # of positions and the float32 scales of a CPU are a tenth.
    assert plan_of("h100", "int4, head too").weight_bytes == pytest.approx(2.2275e9, rel=0.1)


def test_what_does_not_fit() -> None:
    assert not plan_of("orin-nano", "fp16").fits
    assert plan_of("orin-nano", "int4").fits
    plans = make_plans(SIZES["8b"], Device("small", 10**9, 10**11, False, ""), 2048, 1)
    assert fastest(plans) is None


def test_slots_take_memory_and_no_time() -> None:
    one, many = (make_plans(SIZES["4b"], DEVICES["l4"], 2048, slots)[0] for slots in (1, 64))
    assert many.kv_bytes == 64 * one.kv_bytes
    assert many.floor_ms == one.floor_ms
    assert one.fits
    assert not many.fits


@pytest.mark.parametrize("name", SIZES)
def test_an_untied_head_is_stored_twice_and_read_once(name: str) -> None:
    size = SIZES[name]
    found = make_plans(size, DEVICES["h100"], 1, 1)[0]
    tables = size.table_parameters * 2
    assert found.weight_bytes == size.layer_parameters * 2 + tables * (1 if size.is_tied else 2)
    assert found.floor_ms == pytest.approx(1000 * (size.layer_parameters * 2 + tables) / 3350e9, rel=1e-3)


def test_a_config_gives_the_same_plan(tmp_path: Path) -> None:
    path = tmp_path / "model" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(CONFIG))
    size = ModelSize.find(str(path))
    assert size.name == "model"
    assert make_plans(size, DEVICES["thor"], 99, 2) == make_plans(SIZES["4b"], DEVICES["thor"], 99, 2)


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
    result = invoke("--device", "thor")
    assert result.exit_code == 0
    assert "Fastest that fits: int4, head too (--weights int4)" in result.stdout
    result = invoke("--memory", "24", "--bandwidth", "300", "--json")
    found = json.loads(result.stdout)
    assert [plan["recipe"] for plan in found["plans"]] == [recipe.name for recipe in RECIPES]
    assert found["bytes_per_s"] == 300e9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a device by --device, or give both"),
        (["--memory", "8"], "name a device by --device, or give both"),
        (["--device", "thor", "--memory", "8"], "name a device by --device, or give both"),
        (["--device", "thor", "--context", "0"], "context must be at least 1, got 0"),
        (["--device", "thor", "--slots", "-1"], "slots must be at least 1, got -1"),
        (["--memory", "-1", "--bandwidth", "9"], "memory and bandwidth must be positive"),
    ],
)
def test_bad_usage(words: list[str], message: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert message in result.output
