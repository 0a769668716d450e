"""What a directory is, by the names of its files: looked at before anything in it is read.

Checkpoints come beside much that is none: adapters, shards of a training run, other runtimes' formats. Each is told
what it is and which command makes a checkpoint of it, here and nowhere else.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from rubricrm_export.checkpoint.files import CONFIG, TOKENIZER, WEIGHTS
from rubricrm_export.errors import CheckpointInvalid, CheckpointUnsupported

logger = logging.getLogger(__name__)

_MOST_FILES = 10_000  # of a directory, so that a home directory is not walked to its end


@dataclass(frozen=True)
class DirectoryKind:
    """Something that is no checkpoint.

    Attributes:
        name: What it is or holds, with the verb.
        patterns: Names of files that tell it, the most telling first, relative to the directory; `*` also matches a
            slash.
        remedy: What to do. {directory} is where the file was found, {run} the directory that a trainer made.
    """

    name: str
    patterns: tuple[str, ...]
    remedy: str

    def evidence(self, names: Collection[str]) -> str | None:
        """Return a file that tells this kind, None if there is none."""
        return next((name for pattern in self.patterns for name in names if fnmatchcase(name, pattern)), None)


_MERGE_ADAPTER = (
    'Merge it into its base model first: PEFT\'s AutoPeftModelForCausalLM.from_pretrained("{directory}")'
    ".merge_and_unload().save_pretrained(OUT), then copy the tokenizer's files into OUT."
)
_CONVERT = (
    'Convert them to safetensors first: with transformers, AutoModelForCausalLM.from_pretrained("{directory}")'
    ".save_pretrained(OUT, safe_serialization=True)."
)
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors")

# What a directory is even if weights in safetensors lie in it; told by the files on top.
_FOREIGN = (
    DirectoryKind("is a bundle, already exported", ("rubricrm.json",), "Open it with RubricModel.open."),
    DirectoryKind(
        "is a checkpoint or an engine of TensorRT-LLM",
        ("*.engine", "rank[0-9]*.safetensors"),
        "Export the Hugging Face checkpoint that it was made from.",
    ),
    DirectoryKind(
        "is an embedding model of sentence-transformers",
        ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"),
        "It turns text into vectors and writes none: pass a language model.",
    ),
    DirectoryKind(
        "is a pipeline of diffusers",
        ("model_index.json",),
        "It makes images and writes no text: pass a language model.",
    ),
)
# What a directory is where it holds no weights in safetensors: the most telling first.
_WITHOUT_WEIGHTS = (
    DirectoryKind(
        "is an adapter (LoRA), without its base model",
        (*(f"*{name}" for name in _ADAPTER_FILES), "*lora*.safetensors"),
        _MERGE_ADAPTER,
    ),
    DirectoryKind(
        "holds shards of verl's trainer (Megatron)",
        ("*dist_ckpt", "*dist_ckpt/*.distcp"),
        "Merge them first: python -m verl.model_merger merge --backend megatron --local_dir {run} --target_dir OUT.",
    ),
    DirectoryKind(
        "holds shards of verl's trainer (FSDP)",
        ("*model_world_size_*_rank_*.pt",),
        "Merge them first: python -m verl.model_merger merge --backend fsdp --local_dir {directory} --target_dir OUT.",
    ),
    DirectoryKind(
        "holds shards of Megatron",
        ("latest_checkpointed_iteration.txt", "*mp_rank_*/model_optim_rng.pt", "*distrib_optim.pt", "*/common.pt"),
        "Convert them with Megatron's own tool first: Megatron-Bridge's AutoBridge.export_ckpt, or tools/checkpoint/"
        "convert.py with the saver for Hugging Face.",
    ),
    DirectoryKind(
        "holds shards of DeepSpeed (ZeRO)",
        ("*zero_to_fp32.py", "*_optim_states.pt", "*mp_rank_*_model_states.pt", "global_step[0-9]*/*.pt"),
        "Merge them first, with the script that DeepSpeed leaves beside them: python zero_to_fp32.py "
        "--safe_serialization {run} OUT; then copy config.json and the tokenizer's files into OUT.",
    ),
    DirectoryKind(
        "holds shards of PyTorch's FSDP",
        ("*.distcp",),
        "Merge them first: accelerate merge-weights {directory} OUT; then copy config.json and the tokenizer's files "
        "into OUT.",
    ),
    DirectoryKind(
        "is a checkpoint of NeMo",
        ("*.nemo", "model_config.yaml"),
        "Convert it with NeMo's export to Hugging Face first.",
    ),
    DirectoryKind(
        "holds weights in GGUF",
        ("*.gguf",),
        "GGUF files are not read, they are quantized already: use the Hugging Face checkpoint that they were made "
        "from (the card names it as base_model).",
    ),
    DirectoryKind(
        "holds weights in the original format of Llama or Mistral",
        ("consolidated*.pth", "consolidated*.safetensors", "params.json"),
        "Use the same model's repository in Hugging Face's format, or convert it with transformers' "
        "convert_llama_weights_to_hf.py or convert_mistral_weights_to_hf.py.",
    ),
    DirectoryKind("holds pickled weights", ("pytorch_model*.bin", "model*.bin"), _CONVERT),
    DirectoryKind(
        "holds weights of another framework",
        ("*.msgpack", "tf_model*.h5", "*.ckpt.index", "*.npz", "_METADATA", "*/_METADATA"),
        'Convert them to safetensors first: with transformers 4, AutoModelForCausalLM.from_pretrained("{directory}", '
        "from_flax=True or from_tf=True).save_pretrained(OUT).",
    ),
    DirectoryKind(
        "is a model of another runtime",
        ("*.onnx", "*.engine", "*openvino_model.xml", "*.plan", "*.tflite", "*.pte", "*.mlmodel", "*.mlpackage/*"),
        "Export the Hugging Face checkpoint that it was made from.",
    ),
    DirectoryKind(
        "holds weights saved by torch.save",
        ("*.pt", "*.pth", "*.ckpt"),
        "Load them into their transformers class and call save_pretrained(OUT, safe_serialization=True).",
    ),
)
# Of a trainer: no weights, wherever they lie.
_TRAINER_FOLDER = re.compile(r"/(global_step\d+|dist_ckpt)$")
_WEIGHT_FILES = "model*.safetensors*"  # one file, shards, their index
_TRAINER_FILES = ("*optimizer*", "*scheduler.pt", "*rng_state*", "*training_args.bin", "*scaler.pt", "*random_states*")


def require_checkpoint_directory(path: Path) -> None:
    """Refuse what is no Hugging Face checkpoint directory, saying what it is instead and what to do.

    Reads names of files and the two small configurations. Warns where an adapter lies beside whole weights.

    Raises:
        CheckpointInvalid: Nothing there, a file, an empty directory, or one of another kind.
        CheckpointUnsupported: A checkpoint that is quantized already.
    """
    if not path.exists():
        raise CheckpointInvalid(
            f"{path}: no such directory. Pass the directory of a checkpoint, or a Hugging Face name such as org/model."
        )
    if not path.is_dir():
        raise CheckpointInvalid(f"{path}: {_file_remedy(path)}")
    try:
        names = list(_names(path))
    except OSError as error:
        raise CheckpointInvalid(f"{path}: cannot be read ({error.strerror}). Check its rights.") from error
    if not names:
        raise CheckpointInvalid(f"{path}: the directory is empty, expected {CONFIG} and {WEIGHTS}.")
    refuse_foreign_files(names, str(path))
    _refuse_quantized(path)
    if CONFIG not in names:
        raise CheckpointInvalid(f"{path}: no {CONFIG}, found {_listed(names)}. {_remedy_without_config(path, names)}")
    beside = next((name for name in _ADAPTER_FILES if name in names), None)
    if beside:
        logger.warning(
            "%s: an adapter (%s) lies beside whole weights, which are exported without it, while transformers would "
            "load both. Remove the adapter if it is merged already, else merge it first.",
            path,
            beside,
        )


def refuse_foreign_files(names: Collection[str], where: str) -> None:
    """Refuse a listing of files that is no checkpoint's.

    Args:
        names: Relative to the directory or repository, those of subdirectories too.
        where: The directory or repository, for the message and its commands.

    Raises:
        CheckpointInvalid: It is something else.
    """
    whole = {name.rpartition("/")[0] for name in names if fnmatchcase(name.rpartition("/")[2], _WEIGHT_FILES)}
    own = [
        name
        for name in names
        if name.rpartition("/")[0] not in whole - {""}
        and not any(fnmatchcase(name, pattern) for pattern in _TRAINER_FILES)
    ]
    on_top = [name for name in own if "/" not in name]
    looked_at = [(kind, on_top) for kind in _FOREIGN]
    looked_at += [] if "" in whole else [(kind, own) for kind in _WITHOUT_WEIGHTS]
    for kind, files in looked_at:
        found = kind.evidence(files)
        if found is None:
            continue
        directory = "/".join([where, *found.split("/")[:-1]])
        run = _TRAINER_FOLDER.sub("", directory)
        missing = ", ".join(name for name in (CONFIG, WEIGHTS) if name not in names)
        expected = f"; a checkpoint has {missing}" if missing else ""
        remedy = kind.remedy.replace("{directory}", directory).replace("{run}", run)
        raise CheckpointInvalid(f"{where}: {kind.name} (found {found}{expected}). {remedy}")


def _names(path: Path) -> Iterator[str]:
    """Yield the files of a directory and of its subdirectories, one level down, sorted; those on top first."""
    entries = sorted(islice(path.iterdir(), _MOST_FILES))
    yield from (entry.name for entry in entries if not entry.is_dir())
    for folder in entries:
        if folder.is_dir():
            try:
                inside = sorted(islice(folder.iterdir(), _MOST_FILES))
            except OSError:  # somebody else's
                continue
            yield from (f"{folder.name}/{entry.name}" for entry in inside)


def _file_remedy(path: Path) -> str:
    if path.suffix == ".gguf":
        return "is a GGUF file, which is not read. Pass the Hugging Face checkpoint that it was made from."
    return f"is a file, expected a checkpoint directory. Pass {path.parent} instead."


def _remedy_without_config(path: Path, names: list[str]) -> str:
    inner = [folder for folder in _inner_checkpoints(path) if (folder / CONFIG).is_file()]
    if len(inner) == 1:
        return f"The checkpoint lies in {inner[0]}: pass that."
    if inner:
        return f"{len(inner)} checkpoints lie in it: pass one of them, such as {inner[-1]}."
    if TOKENIZER in names and not any(name.endswith(".safetensors") for name in names):
        return "It holds a tokenizer and no model: pass the directory of the model."
    return f"Pass the directory that holds {CONFIG}, the tokenizer and the safetensors files."


def _inner_checkpoints(path: Path) -> list[Path]:
    """Return folders in which a checkpoint may lie: subdirectories, and snapshots of the hub's cache, newest last."""
    folders = [entry for entry in path.iterdir() if entry.is_dir()]
    folders += [entry for entry in path.glob("snapshots/*") if entry.is_dir()]
    return sorted(folders, key=lambda folder: (len(folder.name), folder.name))  # checkpoint-1000 after checkpoint-500


def _refuse_quantized(path: Path) -> None:
    """Refuse a checkpoint whose configuration says that it is quantized."""
    config = _small_json(path / CONFIG)
    facts = config.get("quantization_config") or config.get("quantization") or config.get("compression_config")
    if not facts and (path / "hf_quant_config.json").is_file():
        facts = {"quant_method": "modelopt"}
    if not facts:
        return
    method, bits = (facts.get("quant_method"), facts.get("bits")) if isinstance(facts, dict) else (None, None)
    if method is None and "quantization" in config:
        method = "MLX"
    told = (f"by {method}" if method else "already") + (f" to {bits} bits" if bits else "")
    raise CheckpointUnsupported(
        f"{path / CONFIG}: the checkpoint is quantized {told}, expected BF16, F16 or F32 weights. Export the "
        "checkpoint that it was made from, with --weights int8, int4 or fp8. If the weights are floats (merged after "
        "training in 4 bits), remove the key."
    )


def _small_json(path: Path) -> dict[str, object]:
    """Return a JSON object, an empty one for what is none: whoever reads it later says what is wrong."""
    try:
        parsed = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _listed(names: list[str]) -> str:
    tops = list(dict.fromkeys(name.partition("/")[0] for name in names))
    return ", ".join(tops[:5]) + (f" and {len(tops) - 5} more" if len(tops) > 5 else "")
