"""The files of a checkpoint directory: which there are, whether they are whole, and what the weights' headers say.

Whether the tensors fit the architecture is `checkpoint`'s concern.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rubricrm.runtime.bundle import LFS_POINTER
from safetensors import SafetensorError, safe_open

from rubricrm_export.checkpoint.tensor import DTYPES, CheckpointTensor
from rubricrm_export.errors import CheckpointInvalid

logger = logging.getLogger(__name__)

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
# What else a bundle may be made from: the tokenizer's settings, the chat template, and the card with the prompt.
COMPANIONS = (
    GENERATION_CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
)

_DOWNLOAD_AGAIN = "Download the file again."


@dataclass(frozen=True)
class Weights:
    """What the headers of the weight files say.

    Attributes:
        files: Relative file names, the index first where there is one.
        tensors: Every stored tensor by its name, unchecked.
    """

    files: list[str]
    tensors: dict[str, CheckpointTensor]

    def require_finite(self) -> None:
        """Read every weight of a type that is read, for an exporter that reads them by itself.

        Raises:
            CheckpointInvalid: One of them is NaN or infinite.
        """
        for tensor in self.tensors.values():
            if tensor.dtype in DTYPES and tensor.shape:
                for _ in tensor.chunks():
                    pass


def companion_files(path: Path) -> list[str]:
    """Names of the configuration, tokenizer and card files that are there, each known to be no LFS pointer.

    Raises:
        CheckpointInvalid: No tokenizer.json, or a Git LFS pointer in place of a file.
    """
    if not (path / TOKENIZER).is_file():
        raise CheckpointInvalid(
            f"{path / TOKENIZER}: {_absence(path / TOKENIZER)}. Without it no bundle can be made: copy it from the "
            "base model, or write it with transformers' AutoTokenizer.from_pretrained(PATH).save_pretrained(PATH)."
        )
    names = [CONFIG, *(name for name in COMPANIONS if (path / name).is_file())]
    for name in names:
        refuse_lfs_pointer(path / name)
    return names


def refuse_lfs_pointer(path: Path) -> None:
    """Refuse the 130-byte text that `git clone` leaves in place of a large file when Git LFS is not set up.

    Raises:
        CheckpointInvalid: The file is such a pointer, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise CheckpointInvalid(f"{path}: cannot be read ({error.strerror}).") from error
    if start == LFS_POINTER:
        raise CheckpointInvalid(
            f"{path}: is a Git LFS pointer, expected the file itself. Run `git lfs pull` in the checkpoint's directory."
        )


def read_json_object(path: Path) -> dict[str, object]:
    """Parse a JSON file that must hold an object.

    Raises:
        CheckpointInvalid: Unreadable, not JSON, or another JSON value.
    """
    refuse_lfs_pointer(path)
    try:
        parsed = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointInvalid(f"{path}: is not JSON ({error}). {_DOWNLOAD_AGAIN}") from error
    if not isinstance(parsed, dict):
        raise CheckpointInvalid(f"{path}: holds a JSON {type(parsed).__name__}, expected an object. {_DOWNLOAD_AGAIN}")
    return parsed


def read_tokenizer_config(checkpoint: Path) -> dict[str, object]:
    """Parse a checkpoint's tokenizer_config.json; an empty object if there is none.

    Raises:
        CheckpointInvalid: As `read_json_object`.
    """
    path = checkpoint / TOKENIZER_CONFIG
    return read_json_object(path) if path.is_file() else {}


def read_weights(path: Path) -> Weights:
    """Read the headers of a checkpoint's weight files.

    `model.safetensors` wins over an index beside it, as in transformers.

    Raises:
        CheckpointInvalid: No weights, a shard missing, the index malformed, a file damaged, or one file and an index
            with all its shards that are of different models.
    """
    if (path / WEIGHTS).is_file():
        weights = Weights([WEIGHTS], read_header(path / WEIGHTS))
        _compare_with_index(path, weights)
        return weights
    if not (path / WEIGHTS_INDEX).is_file():
        raise CheckpointInvalid(_no_weights(path))
    return _read_shards(path)


def _read_shards(path: Path) -> Weights:
    index = _read_index(path / WEIGHTS_INDEX)
    shards = sorted(set(index.values()))
    _require_shards(path, shards)
    headers = {shard: read_header(path / shard) for shard in shards}
    _require_indexed_tensors(path, index, headers)
    # What a shard holds beside the index's tensors is kept: transformers loads it, so it must be judged too.
    tensors = {name: tensor for header in headers.values() for name, tensor in header.items()}
    tensors |= {name: headers[shard][name] for name, shard in index.items()}
    return Weights([WEIGHTS_INDEX, *shards], tensors)


def _compare_with_index(path: Path, weights: Weights) -> None:
    """Look at an index beside a single file: a leftover without its shards, or another copy of the model."""
    try:
        sharded = _read_shards(path)
    except (CheckpointInvalid, OSError):  # not there, or not whole: nobody could load it
        return
    ours, theirs = (
        {name: (tensor.shape, tensor.dtype) for name, tensor in found.tensors.items()} for found in (weights, sharded)
    )
    differing = sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
    if differing:
        raise CheckpointInvalid(
            f"{path}: {WEIGHTS} and the {len(sharded.files) - 1} shards of {WEIGHTS_INDEX} beside it differ in "
            f"{len(differing)} tensors, such as {differing[0]}. transformers would load {WEIGHTS}. Remove the one that "
            f"is not the model: {WEIGHTS} if it is a leftover or quantized, else the index and its shards."
        )
    logger.warning(
        "%s: %s is exported, as transformers would load it; the %d shards of %s beside it are not read",
        path,
        WEIGHTS,
        len(sharded.files) - 1,
        WEIGHTS_INDEX,
    )


def _no_weights(path: Path) -> str:
    found = sorted(file.name for file in path.glob("*.safetensors"))
    if found:
        return (
            f"{path}: neither {WEIGHTS} nor {WEIGHTS_INDEX} is there, found {', '.join(found[:3])}. If these are the "
            f"shards of one model, download {WEIGHTS_INDEX} too; if one of them is the model, rename it to {WEIGHTS}."
        )
    return (
        f"{path}: no weights: neither {WEIGHTS} nor {WEIGHTS_INDEX} is there. "
        "Finish the download; weights in another format must be converted to safetensors first."
    )


def _read_index(path: Path) -> dict[str, str]:
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise CheckpointInvalid(f'{path}: "weight_map" is no object of tensors and shards. {_DOWNLOAD_AGAIN}')
    for tensor, shard in weight_map.items():
        # A shard lies beside its index. Anything else could read a file that the user never meant to publish.
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or {"/", "\\", "\0"} & set(shard):
            raise CheckpointInvalid(
                f'{path}: tensor "{tensor}" is in {json.dumps(shard)}, expected the name of a .safetensors file '
                "inside the checkpoint's directory, without a path."
            )
    return dict(weight_map)


def _absence(path: Path) -> str:
    return "is a broken link" if path.is_symlink() else "is missing"


def _require_shards(path: Path, names: list[str]) -> None:
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        others = sorted({file.name for file in path.glob("*.safetensors")} - {*names})
        if others:
            raise CheckpointInvalid(
                f"{path / WEIGHTS_INDEX}: names {len(missing)} shards that are not there, such as {missing[0]}, while "
                f"{', '.join(others[:3])} are not in it: the index is of another save. Download index and "
                "shards again, both of the same revision."
            )
        raise CheckpointInvalid(
            f"{path / missing[0]}: this shard {_absence(path / missing[0])} "
            f"({len(missing)} of {len(names)} shards are not there). Finish the download."
        )


def _require_indexed_tensors(
    path: Path, index: dict[str, str], headers: Mapping[str, Mapping[str, CheckpointTensor]]
) -> None:
    lost = [tensor for tensor, shard in index.items() if tensor not in headers[shard]]
    if lost:
        raise CheckpointInvalid(
            f'{path / index[lost[0]]}: lacks tensor "{lost[0]}", which {WEIGHTS_INDEX} says is in it '
            f"({len(lost)} such tensors). Download index and shards again, both of the same revision."
        )


def read_header(path: Path) -> dict[str, CheckpointTensor]:
    """The tensors of one safetensors file by name; their values are not read.

    Raises:
        CheckpointInvalid: Empty, a Git LFS pointer, truncated, or with a header that is not one.
    """
    refuse_lfs_pointer(path)
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointInvalid(
            f"{path}: {_damage(path) or f'is no sound safetensors file ({error})'}. {_DOWNLOAD_AGAIN}"
        ) from error
    return {
        name: CheckpointTensor(name, tuple(stored.get_shape()), stored.get_dtype(), path, name)
        for name, stored in slices.items()
    }


def _damage(path: Path) -> str:
    """Say in a user's words why a safetensors file was refused; empty when only the library knows."""
    size = path.stat().st_size
    if size < 8:
        return f"has {size} bytes, expected a safetensors file (its first 8 bytes are the size of its header)"
    with path.open("rb") as file:
        (header_size,) = struct.unpack("<Q", file.read(8))
        if header_size > size - 8:
            return f"is no whole safetensors file: its header claims {header_size} bytes, the file has {size}"
        try:
            header = json.loads(file.read(header_size))
        except ValueError:
            return "is no safetensors file: its header is not JSON"
    try:
        end = 8 + header_size + max(entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__")
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return ""
    return f"is cut off or damaged: its header promises {end} bytes, the file has {size}" if end != size else ""
