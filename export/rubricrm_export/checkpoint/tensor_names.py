"""What tensors are that an architecture does not have: renamed, of an adapter, of a further head, quantized."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.errors import CheckpointInvalid, CheckpointUnsupported

# Tables that old checkpoints stored although they follow from the configuration.
_HARMLESS_SUFFIXES = ("rotary_emb.inv_freq",)

# Parts of a name that training wrappers add, and what adds them.
_WRAPPERS = {
    "_orig_mod": "torch.compile",
    "module": "DataParallel or DeepSpeed",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "base_model": "PEFT",
}


@dataclass(frozen=True)
class _Kind:
    """Tensors that belong to something else.

    Attributes:
        pattern: Searched in their names.
        name: What they are.
        remedy: What to do.
        is_sound: Whether the checkpoint may be what it is meant to be, only nothing that is built here.
    """

    pattern: re.Pattern[str]
    name: str
    remedy: str
    is_sound: bool = True


_SAVE_WITHOUT = "Save the language model alone: AutoModelForCausalLM.from_pretrained(PATH).save_pretrained(OUT)."
_ADAPTER = (
    _Kind(
        re.compile(r"\blora_|\bmodules_to_save\b|\bprompt_encoder\b|\bbase_layer\b"),
        "tensors of an adapter (LoRA) that is not merged",
        "Merge it into its base model first: PEFT's merge_and_unload, then save_pretrained.",
        is_sound=False,
    ),
)
_KINDS = (
    _Kind(
        re.compile(
            r"\.(qweight|qzeros|g_idx|scales|biases|weight_scale\w*|weight_packed|weight_zero_point|weight_shape|"
            r"weight_g_idx|input_scale|[kv]_scale|absmax|quant_map|quant_state\S*|nested_\w+|SCB|SCB_weight|q_weight|"
            r"q_scale|trellis|svh|suh|pre_quant_scale|weight_format)$"
        ),
        "tensors of quantized weights",
        "Export the BF16, F16 or F32 checkpoint that it was made from.",
    ),
    _Kind(
        re.compile(r"\b(v_head|value_head|value_model|critic)(\w*)\b"),
        "tensors of a value head, which PPO trains beside the language model",
        f"It takes no part in writing text. {_SAVE_WITHOUT}",
    ),
    _Kind(
        re.compile(
            r"^(model\.)?(scores?|classifier|reward\w*|rm_head|cls|regression\w*|qa_outputs|classification_head)\."
        ),
        "tensors of a head that scores or classifies text: a reward model or classifier",
        "It writes no text: pass the language model that writes the rubrics.",
    ),
    _Kind(
        re.compile(r"\bmtp\b|\bmtp_|\b(eh_proj|enorm|hnorm|shared_head|nextn)\b|\bmedusa|\beagle|\bd2t\b|\bt2d\b"),
        "tensors of heads that predict several tokens (MTP, Medusa, EAGLE)",
        f"They only speed up decoding. {_SAVE_WITHOUT}",
    ),
    _Kind(
        re.compile(
            r"\b(visual|vision_\w+|vision_model|audio_\w+|image_newline|multi_modal_projector|language_model)\b"
        ),
        "tensors of a model that also takes images or sound",
        "Only the language model alone is built: pass a checkpoint of it.",
    ),
    _Kind(
        re.compile(r"\bexperts?\b|\bmlp\.gate\.weight$|\brouter\b"),
        "tensors of a mixture of experts",
        "Only dense models are built.",
    ),
    _Kind(
        re.compile(r"\.bias$"),
        "bias tensors",
        "Projections are built without bias, and leaving one out would change the model.",
    ),
)


def require_known_tensors(names: Collection[str], architecture: Architecture, where: str) -> None:
    """Refuse tensors that an architecture does not have, saying what they are.

    Raises:
        CheckpointInvalid: They are named by a wrapper, of an adapter, or of another model.
        CheckpointUnsupported: They belong to something that is not built.
    """
    known = architecture.tensor_shapes(tied=False)
    foreign = [name for name in names if name not in known and not name.endswith(_HARMLESS_SUFFIXES)]
    if not foreign:
        return
    _refuse_kinds(_ADAPTER, foreign, where)
    # A model beside the whole one, such as a draft model, is none that was only renamed.
    _refuse_renamed(foreign, {name for name in known if name not in names}, where)
    _refuse_kinds(_KINDS, foreign, where)
    raise CheckpointInvalid(
        f"{where}: {len(foreign)} tensors that {architecture.name} with {architecture.num_layers} layers does not "
        f"have: {listed(foreign)}. Config and weights are of different models: take both from the same checkpoint."
    )


def listed(names: Sequence[str]) -> str:
    """Return the first three names and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _refuse_kinds(kinds: Sequence[_Kind], foreign: Sequence[str], where: str) -> None:
    for kind in kinds:
        found = [name for name in foreign if kind.pattern.search(name)]
        if found:
            error = CheckpointUnsupported if kind.is_sound else CheckpointInvalid
            raise error(f"{where}: {len(found)} {kind.name}, expected none: {listed(found)}. {kind.remedy}")


def _refuse_renamed(foreign: Sequence[str], missing: Collection[str], where: str) -> None:
    unprefixed = [name for name in foreign if f"model.{name}" in missing]
    if unprefixed:
        raise CheckpointInvalid(
            f'{where}: the tensors are named without the prefix "model.": {listed(unprefixed)}, expected '
            f"model.{unprefixed[0]}. Save the checkpoint from its class for causal language models, not from its base "
            "model."
        )
    wrapped = {name: own for name in foreign if (own := _unwrapped(name, missing))}
    if wrapped:
        name, own = next(iter(wrapped.items()))
        added = name.removesuffix(own) if name.endswith(own) else f"{_wrapper_in(name)}."
        wrapper = _wrapper_in(name)
        by = f", which {_WRAPPERS[wrapper]} adds" if wrapper else ""
        raise CheckpointInvalid(
            f'{where}: {len(wrapped)} tensors are named with "{added}"{by}: {listed([*wrapped])}, expected {own}. Save '
            "the model that was wrapped, or remove it from the names: with safetensors.torch, "
            f'save_file({{name.replace("{added}", ""): tensor for name, tensor in load_file(FILE).items()}}, FILE).'
        )


def _unwrapped(name: str, missing: Collection[str]) -> str | None:
    """Return the missing tensor that a name means: without the parts of wrappers, and without any prefix."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    candidates = (".".join(parts[start:]) for start in range(len(parts)))
    return next((candidate for candidate in candidates if candidate in missing), None)


def _wrapper_in(name: str) -> str | None:
    return next((part for part in name.split(".") if part in _WRAPPERS), None)
