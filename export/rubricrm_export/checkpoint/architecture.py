"""What a checkpoint's config.json says about the model: sizes, tensor names and shapes, and nothing guessed.

Two decoders are read, `Qwen3ForCausalLM` and `LlamaForCausalLM`. A feature that would change the function and that
the exporter does not build (rotary scaling, sliding windows, biases, experts) is refused here, by name, because a
silently ignored key gives a model that runs and answers wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rubricrm_export.checkpoint.config_keys import ConfigKeys, is_positive_number

EMBEDDING = "model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"

_MODEL_TYPES = {"Qwen3ForCausalLM": "qwen3", "LlamaForCausalLM": "llama"}
# What Hugging Face's configuration classes take for a key that config.json does not state (transformers 4.57 and 5.24,
# configuration_qwen3.py and configuration_llama.py). Sizes that decide shapes have defaults there too; no checkpoint
# relies on them, and an absent one is told as such.
_ROPE_THETA = 10_000.0
_RMS_NORM_EPS = 1e-6
_MOST_POSITIONS = {"Qwen3ForCausalLM": 32_768, "LlamaForCausalLM": 2_048}
_QWEN3_KV_HEADS = 32  # where the key is absent; null means as many as query heads, in both classes
_QWEN3_HEAD_DIM = 128
_MOST_LAYERS = 10_000  # far above any model: a damaged number must not become a list of a billion names
_HEAD_DIM_MULTIPLE = 16  # ONNX Runtime's GroupQueryAttention takes no other head size

# The dimensions of each tensor, spelled with the config keys that decide them: an error can then name the keys.
_QUERY = "num_attention_heads * head_dim"
_KEY_VALUE = "num_key_value_heads * head_dim"
_LAYER_TENSORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("input_layernorm.weight", ("hidden_size",)),
    ("self_attn.q_proj.weight", (_QUERY, "hidden_size")),
    ("self_attn.k_proj.weight", (_KEY_VALUE, "hidden_size")),
    ("self_attn.v_proj.weight", (_KEY_VALUE, "hidden_size")),
    ("self_attn.o_proj.weight", ("hidden_size", _QUERY)),
    ("self_attn.q_norm.weight", ("head_dim",)),
    ("self_attn.k_norm.weight", ("head_dim",)),
    ("post_attention_layernorm.weight", ("hidden_size",)),
    ("mlp.gate_proj.weight", ("intermediate_size", "hidden_size")),
    ("mlp.up_proj.weight", ("intermediate_size", "hidden_size")),
    ("mlp.down_proj.weight", ("hidden_size", "intermediate_size")),
)
_QK_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")


@dataclass(frozen=True)
class Architecture:
    """The sizes that decide the graph, in the units of config.json.

    Attributes:
        name: The class that Hugging Face names: "Qwen3ForCausalLM" or "LlamaForCausalLM".
        head_dim: Size of one attention head; not always hidden_size / num_heads (Qwen3-4B: 128, not 80).
        context_length: Most positions the model was made for (`max_position_embeddings`).
        tied_embeddings: What the config says; whether the tensors agree is `Checkpoint.tied`.
        qk_norm: Whether queries and keys pass an RMS norm per head before the rotation (Qwen3).
    """

    name: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    rope_theta: float
    rms_norm_eps: float
    tied_embeddings: bool
    qk_norm: bool

    @classmethod
    def from_config(cls, config: Mapping[str, object], source: str) -> Architecture:
        """Read and check the keys of a parsed config.json.

        Args:
            config: The parsed file.
            source: Where it came from, for the messages: the file's path.

        Raises:
            CheckpointInvalid: A key is missing, of the wrong type, not positive, or contradicts another.
            CheckpointUnsupported: Another architecture, or a feature that cannot be exported.
        """
        keys = ConfigKeys(config, source)
        name = _read_name(keys)
        _refuse_unsupported_features(keys)
        hidden_size = keys.positive_int("hidden_size")
        num_heads = keys.positive_int("num_attention_heads")
        num_kv_heads = _read_kv_heads(keys, name, num_heads)
        if num_heads % num_kv_heads:
            raise keys.invalid("num_attention_heads", f"a multiple of num_key_value_heads ({num_kv_heads})")
        return cls(
            name=name,
            hidden_size=hidden_size,
            intermediate_size=keys.positive_int("intermediate_size"),
            num_layers=keys.positive_int("num_hidden_layers", most=_MOST_LAYERS),
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=_read_head_dim(keys, name, hidden_size, num_heads),
            vocab_size=keys.positive_int("vocab_size"),
            context_length=keys.positive_int("max_position_embeddings", default=_MOST_POSITIONS[name]),
            rope_theta=_read_rope_theta(keys),
            rms_norm_eps=keys.positive_float("rms_norm_eps", default=_RMS_NORM_EPS),
            tied_embeddings=keys.flag("tie_word_embeddings"),
            qk_norm=name == "Qwen3ForCausalLM",
        )

    def tensor_shapes(self, tied: bool) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor the model needs, in Hugging Face's names, first layer first.

        Args:
            tied: Whether the embedding is also the output head; there is then no `lm_head.weight`.
        """
        sizes = self._sizes()
        return {name: tuple(sizes[key] for key in keys) for name, keys in self._dimensions(tied).items()}

    def shape_keys(self, name: str) -> str:
        """The config keys that decide the shape of a tensor, one product a dimension, for a message.

        Raises:
            KeyError: The architecture has no tensor of this name.
        """
        return "[" + ", ".join(self._dimensions(tied=False)[name]) + "]"

    def num_parameters(self, tied: bool) -> int:
        """Number of weights, the embedding counted once when it is also the output head."""
        return sum(math.prod(shape) for shape in self.tensor_shapes(tied).values())

    def _dimensions(self, tied: bool) -> dict[str, tuple[str, ...]]:
        layer = [entry for entry in _LAYER_TENSORS if self.qk_norm or entry[0] not in _QK_NORMS]
        names: dict[str, tuple[str, ...]] = {EMBEDDING: ("vocab_size", "hidden_size")}
        for index in range(self.num_layers):
            names |= {f"model.layers.{index}.{suffix}": keys for suffix, keys in layer}
        names["model.norm.weight"] = ("hidden_size",)
        if not tied:
            names[LM_HEAD] = ("vocab_size", "hidden_size")
        return names

    def _sizes(self) -> dict[str, int]:
        return {
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "vocab_size": self.vocab_size,
            "head_dim": self.head_dim,
            _QUERY: self.num_heads * self.head_dim,
            _KEY_VALUE: self.num_kv_heads * self.head_dim,
        }


def _read_name(keys: ConfigKeys) -> str:
    names = keys.get("architectures")
    if names is None:  # then Hugging Face goes by the type alone
        names = [name for name, model_type in _MODEL_TYPES.items() if model_type == keys.get("model_type")]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise keys.invalid("architectures", "a list with the name of the model's class")
    expected = f"one of {', '.join(_MODEL_TYPES)}"
    name = str(names[0])
    if len(names) > 1 or name not in _MODEL_TYPES:
        raise keys.unsupported("architectures", expected, _other_architecture(name))
    if keys.get("model_type") not in (None, _MODEL_TYPES[name]):
        raise keys.invalid("model_type", f'"{_MODEL_TYPES[name]}", as "architectures" says {name}')
    return name


def _other_architecture(name: str) -> str:
    """Return what can be done with a model that is not built here."""
    if not name.endswith("ForCausalLM"):
        return "This class writes no text by itself: pass a language model of one of these architectures."
    return (
        "Export a checkpoint of one of these architectures, or let optimum-onnx export this one in float32: "
        "rubricrm export onnx CHECKPOINT -o BUNDLE --exporter optimum."
    )


def _read_kv_heads(keys: ConfigKeys, name: str, num_heads: int) -> int:
    key = "num_key_value_heads"
    if key in keys.config and keys.get(key) is None:
        return num_heads
    return keys.positive_int(key, default=num_heads if name == "LlamaForCausalLM" else _QWEN3_KV_HEADS)


def _read_head_dim(keys: ConfigKeys, name: str, hidden_size: int, num_heads: int) -> int:
    derived = name == "LlamaForCausalLM" and keys.get("head_dim") is None
    if derived and hidden_size % num_heads:
        raise keys.invalid("head_dim", f"to be stated: hidden_size {hidden_size} is no multiple of {num_heads} heads")
    if derived:
        head_dim = hidden_size // num_heads
    elif "head_dim" in keys.config:
        head_dim = keys.positive_int("head_dim")
    else:
        head_dim = _QWEN3_HEAD_DIM
    if head_dim % _HEAD_DIM_MULTIPLE:
        expected = f"a multiple of {_HEAD_DIM_MULTIPLE} (the head size is {head_dim})"
        raise keys.unsupported("head_dim", expected, "ONNX Runtime's GroupQueryAttention takes no other head size.")
    return head_dim


_ROPE_REMEDY = (
    "Only unscaled rotary positions are exported. A Qwen3 checkpoint with YaRN switched on runs without it inside "
    "its native context: set the key to null. A model trained with scaling (Llama 3.1 and later) cannot be exported."
)


def _read_rope_theta(keys: ConfigKeys) -> float:
    # transformers 4 writes rope_theta at the top and rope_scaling beside it, transformers 5 one rope_parameters.
    found: dict[str, float] = {}
    if keys.get("rope_theta") is not None:
        found["rope_theta"] = keys.positive_float("rope_theta")
    for key in ("rope_parameters", "rope_scaling"):
        block = keys.get(key)
        if block is None:
            continue
        if not isinstance(block, Mapping):
            raise keys.invalid(key, "an object or null")
        if not _is_unscaled(block):
            raise keys.unsupported(key, 'null or {"rope_type": "default"}', _ROPE_REMEDY)
        theta = block.get("rope_theta")
        if is_positive_number(theta):
            found[key] = float(theta)
        elif theta is not None:
            raise keys.invalid(key, "a positive number as its rope_theta")
    return _agreed_theta(keys, found)


def _agreed_theta(keys: ConfigKeys, found: dict[str, float]) -> float:
    if not found:
        return _ROPE_THETA
    if len(set(found.values())) > 1:
        last = list(found)[-1]
        raise keys.invalid(last, f'the rope_theta of the key "{next(iter(found))}", {next(iter(found.values()))}')
    return next(iter(found.values()))


def _is_unscaled(block: Mapping[str, object]) -> bool:
    kinds = {block[key] for key in ("rope_type", "type") if isinstance(block.get(key), str)}
    stated = {key for key, value in block.items() if value is not None}
    unread = stated - {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
    if kinds == {"linear"} and unread == {"factor"} and block["factor"] == 1:
        unread = set()  # positions divided by one
        kinds = set()
    return kinds <= {"default"} and not unread and block.get("partial_rotary_factor") in (None, 1)


def _is_without_window(keys: ConfigKeys) -> bool:
    # Qwen3's configs state a window of 4096 beside use_sliding_window false: the window is then not in use.
    # Qwen3's class takes use_sliding_window as false where it is absent or null, Llama's knows no window at all; but a
    # stated window without the switch is more often of another class, so that the switch must be there.
    is_off = "use_sliding_window" in keys.config and not keys.flag("use_sliding_window")
    return keys.get("sliding_window") is None or is_off


def _is_full_attention(keys: ConfigKeys) -> bool:
    kinds = keys.get("layer_types")
    return kinds is None or (isinstance(kinds, list) and all(kind == "full_attention" for kind in kinds))


_NO_BIAS = "Projections are built without bias, and leaving one out would change the model."
_NO_WINDOW = "Every layer is built with full attention; a model trained with a window cannot be exported."
_NO_EXPERTS = "Mixtures of experts are not built; export a dense model."

# (key, whether the config passes, what is expected, what to do)
_FEATURES: tuple[tuple[str, Callable[[ConfigKeys], bool], str, str], ...] = (
    (
        "hidden_act",
        lambda keys: keys.config.get("hidden_act", "silu") in ("silu", "swish"),
        '"silu", or "swish", which is the same',
        "No other is built.",
    ),
    ("attention_bias", lambda keys: not keys.flag("attention_bias"), "false", _NO_BIAS),
    ("mlp_bias", lambda keys: not keys.flag("mlp_bias"), "false", _NO_BIAS),
    ("sliding_window", _is_without_window, "null, or use_sliding_window false", _NO_WINDOW),
    ("layer_types", _is_full_attention, 'only "full_attention"', _NO_WINDOW),
    (
        "partial_rotary_factor",
        lambda keys: keys.get("partial_rotary_factor") in (None, 1),
        "1",
        "Every dimension of a head is rotated.",
    ),
    ("num_experts", lambda keys: not keys.get("num_experts"), "none", _NO_EXPERTS),
    ("num_local_experts", lambda keys: not keys.get("num_local_experts"), "none", _NO_EXPERTS),
)


def _refuse_unsupported_features(keys: ConfigKeys) -> None:
    for key, is_supported, expected, remedy in _FEATURES:
        if not is_supported(keys):
            raise keys.unsupported(key, expected, remedy)
