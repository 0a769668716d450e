"""What is read from config.json, and what is refused in which words."""

from typing import Any

import pytest
from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.errors import CheckpointInvalid, CheckpointUnsupported

QWEN3_4B: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "max_position_embeddings": 40960,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
SMOLLM2: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}


def read(base: dict[str, Any] = QWEN3_4B, without: tuple[str, ...] = (), **keys: object) -> Architecture:
    config = {key: value for key, value in (base | keys).items() if key not in without}
    return Architecture.from_config(config, "m/config.json")


def test_qwen3_4b_is_read_with_its_own_head_size() -> None:
    architecture = read()
    assert architecture == Architecture(
        name="Qwen3ForCausalLM",
        hidden_size=2560,
        intermediate_size=9728,
        num_layers=36,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        vocab_size=151936,
        context_length=40960,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        tied_embeddings=True,
        qk_norm=True,
    )
    assert isinstance(architecture.rope_theta, float)


@pytest.mark.parametrize(
    ("base", "tied", "expected"),
    [(QWEN3_4B, True, 4_022_468_096), (QWEN3_4B, False, 4_411_424_256), (SMOLLM2, True, 134_515_008)],
    ids=["qwen3-4b", "qwen3-4b-untied", "smollm2-135m"],
)
def test_number_of_parameters_is_the_published_one(base: dict[str, Any], tied: bool, expected: int) -> None:
    assert read(base).num_parameters(tied) == expected


def test_tensor_shapes_are_those_of_hugging_face() -> None:
    shapes = read().tensor_shapes(tied=False)
    layer = {name.removeprefix("model.layers.35."): shape for name, shape in shapes.items() if ".35." in name}
    assert layer == {
        "input_layernorm.weight": (2560,),
        "self_attn.q_proj.weight": (4096, 2560),
        "self_attn.k_proj.weight": (1024, 2560),
        "self_attn.v_proj.weight": (1024, 2560),
        "self_attn.o_proj.weight": (2560, 4096),
        "self_attn.q_norm.weight": (128,),
        "self_attn.k_norm.weight": (128,),
        "post_attention_layernorm.weight": (2560,),
        "mlp.gate_proj.weight": (9728, 2560),
        "mlp.up_proj.weight": (9728, 2560),
        "mlp.down_proj.weight": (2560, 9728),
    }
    assert shapes["model.embed_tokens.weight"] == shapes["lm_head.weight"] == (151936, 2560)
    assert shapes["model.norm.weight"] == (2560,)
    assert len(shapes) == 36 * 11 + 3


def test_tied_model_has_no_head_tensor() -> None:
    assert "lm_head.weight" not in read().tensor_shapes(tied=True)


def test_llama_has_no_query_and_key_norms() -> None:
    assert not any("q_norm" in name or "k_norm" in name for name in read(SMOLLM2).tensor_shapes(tied=True))


def test_shape_keys_name_what_decides_a_shape() -> None:
    keys = read().shape_keys("model.layers.0.self_attn.k_proj.weight")
    assert keys == "[num_key_value_heads * head_dim, hidden_size]"


def test_head_dim_defaults_as_in_each_class() -> None:
    assert read(without=("head_dim",)).head_dim == 128
    assert read(SMOLLM2).head_dim == 64
    assert read(SMOLLM2, head_dim=None).head_dim == 64
    assert read(SMOLLM2, head_dim=32).head_dim == 32


def test_absent_tie_means_untied_as_in_hugging_face() -> None:
    assert not read(without=("tie_word_embeddings",)).tied_embeddings


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_scaling": {"rope_type": "default"}},
        {"rope_scaling": {"type": "default"}},
        {"rope_theta": None, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}},
        {"rope_parameters": {"rope_theta": 1000000}},
        {"rope_scaling": {}},
        {"rope_scaling": {"rope_type": "default", "type": "default", "factor": None}},
        {"rope_scaling": {"type": "linear", "factor": 1.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": None, "partial_rotary_factor": 1.0}},
        {"hidden_act": "swish"},
        {"use_sliding_window": None, "sliding_window": 4096},
        {"attention_bias": None, "mlp_bias": None},
        {"use_sliding_window": False, "sliding_window": 4096},
        {"layer_types": ["full_attention"] * 36},
        {"num_experts": 0, "partial_rotary_factor": 1.0},
    ],
    ids=str,
)
def test_other_spellings_of_the_same_function_are_taken(keys: dict[str, object]) -> None:
    assert read(**keys) == read()


# What transformers takes for an absent key: LlamaConfig and Qwen3Config in configuration_llama.py and
# configuration_qwen3.py, and default_theta in modeling_rope_utils.py, of transformers 4.57.6 and 5.24.0, which agree.
TRANSFORMERS_DEFAULTS = {
    "LlamaForCausalLM": {
        "max_position_embeddings": ("context_length", 2048),
        "rms_norm_eps": ("rms_norm_eps", 1e-6),
        "rope_theta": ("rope_theta", 10000.0),
        "tie_word_embeddings": ("tied_embeddings", False),
    },
    "Qwen3ForCausalLM": {
        "num_key_value_heads": ("num_kv_heads", 32),
        "head_dim": ("head_dim", 128),
        "max_position_embeddings": ("context_length", 32768),
        "rms_norm_eps": ("rms_norm_eps", 1e-6),
        "rope_theta": ("rope_theta", 10000.0),
        "tie_word_embeddings": ("tied_embeddings", False),
    },
}
DEFAULTS = [(name, key, *value) for name, defaults in TRANSFORMERS_DEFAULTS.items() for key, value in defaults.items()]


@pytest.mark.parametrize(("name", "key", "attribute", "value"), DEFAULTS, ids=str)
def test_absent_key_is_read_as_transformers_reads_it(name: str, key: str, attribute: str, value: object) -> None:
    base = QWEN3_4B if name == "Qwen3ForCausalLM" else SMOLLM2
    assert getattr(read(base, without=(key,)), attribute) == value


@pytest.mark.parametrize("base", [QWEN3_4B, SMOLLM2], ids=["Qwen3", "Llama"])
def test_null_is_read_as_transformers_reads_it(base: dict[str, Any]) -> None:
    assert read(base, num_key_value_heads=None).num_kv_heads == base["num_attention_heads"]
    assert read(base, rope_theta=None).rope_theta == 10000.0
    for key in ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window"):
        assert read(base, **{key: None}) == read(base, **{key: False})


def test_heads_of_a_first_generation_llama() -> None:
    # As huggyllama/llama-7b's config.json, which names neither key.
    found = read(SMOLLM2, without=("num_key_value_heads", "rope_theta", "head_dim", "rope_scaling"))
    assert (found.num_kv_heads, found.head_dim, found.rope_theta) == (9, 64, 10000.0)


@pytest.mark.parametrize(("model_type", "name"), [("qwen3", "Qwen3ForCausalLM"), ("llama", "LlamaForCausalLM")])
def test_architectures_that_are_null_follow_from_the_type(model_type: str, name: str) -> None:
    base = QWEN3_4B if model_type == "qwen3" else SMOLLM2
    assert read(base, architectures=None, model_type=model_type) == read(base)
    assert read(base, without=("architectures",), model_type=model_type).name == name


@pytest.mark.parametrize("key", ["max_position_embeddings", "rms_norm_eps"])
def test_null_with_which_transformers_cannot_compute_is_named(key: str) -> None:
    with pytest.raises(CheckpointInvalid, match=f'"{key}" is null, expected a positive'):
        read(**{key: None})


# They decide shapes and are always written.
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
REQUIRED_INTS = (*SIZES, "num_key_value_heads", "max_position_embeddings")


@pytest.mark.parametrize("key", SIZES)
def test_missing_key_is_named(key: str) -> None:
    with pytest.raises(CheckpointInvalid, match=rf'm/config.json: "{key}" is missing, expected a'):
        read(without=(key,))


def test_neither_architectures_nor_a_known_type() -> None:
    with pytest.raises(CheckpointInvalid, match='"architectures" is missing, expected a list'):
        read(without=("architectures", "model_type"))


@pytest.mark.parametrize("key", [*SIZES, "head_dim"])
def test_size_that_is_null_is_named(key: str) -> None:
    with pytest.raises(CheckpointInvalid, match=rf'"{key}" is null, expected a positive whole number'):
        read(**{key: None})


@pytest.mark.parametrize("value", [0, -1, 2.0, "2560", True, [2560]])
@pytest.mark.parametrize("key", [*REQUIRED_INTS, "head_dim"])
def test_size_that_is_no_positive_whole_number_is_named(key: str, value: object) -> None:
    with pytest.raises(CheckpointInvalid, match=rf'"{key}" is .*, expected a positive whole number'):
        read(**{key: value})


@pytest.mark.parametrize("value", [0, -1e-6, "1e-6", True, float("nan"), float("inf"), 10**400])
@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta"])
def test_factor_that_is_no_positive_number_is_named(key: str, value: object) -> None:
    with pytest.raises(CheckpointInvalid, match=rf'"{key}" is .*, expected a positive number'):
        read(**{key: value})


def test_damaged_number_of_layers_is_refused_before_names_are_made() -> None:
    with pytest.raises(CheckpointInvalid, match=r'"num_hidden_layers" is 2000000000, expected .* up to 10000'):
        read(num_hidden_layers=2_000_000_000)


@pytest.mark.parametrize("key", ["tie_word_embeddings", "attention_bias", "mlp_bias"])
def test_flag_that_is_no_boolean_is_named(key: str) -> None:
    with pytest.raises(CheckpointInvalid, match=f'"{key}" is "true", expected true or false'):
        read(**{key: "true"})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"num_key_value_heads": 5}, r'"num_attention_heads" is 32, expected a multiple of num_key_value_heads \(5\)'),
        ({"model_type": "qwen2"}, '"model_type" is "qwen2", expected "qwen3", as "architectures" says Qwen3'),
        ({"rope_parameters": {"rope_theta": 5e6}}, r'"rope_parameters" .*5000000.*expected .*"rope_theta", 1000000'),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": 0}}, '"rope_parameters" .* positive number as its'),
        ({"rope_scaling": "yarn"}, '"rope_scaling" is "yarn", expected an object or null'),
        ({"architectures": "Qwen3ForCausalLM"}, '"architectures" is "Qwen3ForCausalLM", expected a list'),
        ({"architectures": []}, r'"architectures" is \[\], expected a list'),
    ],
    ids=str,
)
def test_contradiction_is_invalid(keys: dict[str, object], words: str) -> None:
    with pytest.raises(CheckpointInvalid, match=words):
        read(**keys)


def test_llama_head_size_is_not_rounded() -> None:
    with pytest.raises(CheckpointInvalid, match='"head_dim" is missing, expected to be stated: hidden_size 580'):
        read(SMOLLM2, hidden_size=580)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, r'"architectures" is \["Qwen2For.*expected one of Qwen3ForCausalLM'),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "Qwen3ForSequenceClassification.*writes no text"),
        ({"architectures": ["Phi3ForCausalLM"]}, "Phi3ForCausalLM.*--exporter optimum"),
        ({"hidden_act": "gelu"}, '"hidden_act" is "gelu", expected "silu"'),
        ({"attention_bias": True}, '"attention_bias" is true, expected false'),
        ({"mlp_bias": True}, '"mlp_bias" is true, expected false'),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, '"rope_scaling" .*yarn.*expected null.*set the key'),
        ({"rope_scaling": {"factor": 4.0}}, '"rope_scaling" .*factor.*expected null'),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e6}}, '"rope_parameters" .*llama3'),
        ({"use_sliding_window": True, "sliding_window": 4096}, '"sliding_window" is 4096, expected null'),
        ({"layer_types": ["full_attention", "sliding_attention"]}, '"layer_types" .*expected only "full_attention"'),
        ({"head_dim": 80 + 4}, r'"head_dim" is 84, expected a multiple of 16 .*GroupQueryAttention'),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, '"rope_scaling" .*linear.*expected null'),
        ({"rope_scaling": {"type": "default", "mrope_section": [16, 24, 24]}}, '"rope_scaling" .*mrope'),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, '"rope_parameters" .*full_attention'),
        ({"num_experts": 128}, '"num_experts" is 128, expected none'),
        ({"num_local_experts": 8}, '"num_local_experts" is 8, expected none'),
        ({"partial_rotary_factor": 0.5}, '"partial_rotary_factor" is 0.5, expected 1'),
    ],
    ids=str,
)
def test_feature_that_is_not_built_is_unsupported(keys: dict[str, object], words: str) -> None:
    with pytest.raises(CheckpointUnsupported, match=words):
        read(**keys)


def test_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(CheckpointUnsupported) as caught:
        read(layer_types=["sliding_attention"] * 36)
    assert len(str(caught.value)) < 400
