"""Builds a TensorRT-LLM 1.2 engine of a directory, on the machine whose GPU it is for. Not run on a GPU.

Everything that would make `trtllm-build` fail after minutes, or the engine later, is looked at first.
"""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rubricrm.errors import DependencyMissing, OptionInvalid, OutputExists
from rubricrm.runtime.byte_size import byte_text
from rubricrm.runtime.published_directory import whole_directory

from rubricrm_export.errors import ExportFailed
from rubricrm_export.system.gpu import Gpu, find_gpu
from rubricrm_export.system.tool import run_tool
from rubricrm_export.tensorrt.commands import reader_install_command, trtllm_build
from rubricrm_export.tensorrt.devices import FP8_CAPABILITY
from rubricrm_export.tensorrt.directory import TensorRTDirectory
from rubricrm_export.tensorrt.support import choose
from rubricrm_export.tensorrt_lint.linter import require_sound

VERSION = "1.2.1"
_ENGINE = "rank0.engine"
# Pip's own index has a placeholder of that name, whose installation fails.
_REMEDY = f"Install it from NVIDIA's package index: {reader_install_command('tensorrt-llm-1.2')}."


def build_engine(path: Path, output: Path, *, force: bool = False) -> Gpu:
    """Build an engine beside its place and move it there.

    Args:
        path: A directory by `rubricrm export tensorrt --for tensorrt-llm-1.2`.
        output: The engine's directory.
        force: Replace an older engine.

    Returns:
        The GPU that it was built for, and on whose like alone it runs.

    Raises:
        BundleInvalid: `path` is no such directory, or was changed.
        OptionInvalid: It is for another reader, or the GPU cannot run its types or hold its weights.
        DependencyMissing: TensorRT-LLM 1.2.1, or a GPU's driver, is missing.
        OutputExists: `output` exists and is no engine, or `force` is not given.
        ExportFailed: The build failed; the end of what it printed is in the message.
    """
    directory = TensorRTDirectory.open(path, verify=True)
    if directory.reader != "tensorrt-llm-1.2":
        raise OptionInvalid(
            f"{path}: is for {directory.reader}, which builds no engine this way: run its build.sh. Export with --for "
            "tensorrt-llm-1.2 for an engine."
        )
    _check_output(output, force=force)
    program = _require_tensorrt_llm()
    gpu = find_gpu()
    _require_able(directory, gpu)
    require_sound(path, directory.reader)
    choice = choose(directory.reader, directory.weights, kv=directory.kv)
    with whole_directory(output, force=force, marker=_ENGINE) as made:
        made.rmdir()  # the builder makes it
        words = trtllm_build(choice, directory.limits, str(path.resolve()), str(made))
        run_tool([program, *words[1:]])
        if not (made / _ENGINE).is_file():
            raise ExportFailed(f"trtllm-build ended well and wrote no {_ENGINE} into {made}. Is it version {VERSION}?")
    return gpu


def _require_tensorrt_llm() -> str:
    """Return the path of trtllm-build.

    Raises:
        DependencyMissing: The package is not installed, or another version is.
    """
    try:
        found = version("tensorrt-llm")
    except PackageNotFoundError as error:
        raise DependencyMissing(f"tensorrt-llm is not installed. {_REMEDY}") from error
    program = shutil.which("trtllm-build")
    if found != VERSION or program is None:
        what = f"tensorrt-llm {found} is installed" if found != VERSION else "trtllm-build is not on the path"
        raise DependencyMissing(
            f"{what}, expected {VERSION}: later versions build no engines, earlier ones were not read. {_REMEDY}"
        )
    return program


def _require_able(directory: TensorRTDirectory, gpu: Gpu) -> None:
    if "fp8" in (directory.weights, directory.kv) and gpu.capability < FP8_CAPABILITY:
        raise OptionInvalid(
            f"{directory.path}: holds FP8, {gpu.name} has none (compute capability {gpu.capability / 10}, FP8 begins "
            "at 8.9). Export with --weights int4 or int8 and --kv int8 or model."
        )
    weights = directory.files["rank0.safetensors"].size
    if weights > gpu.memory_bytes:
        raise OptionInvalid(
            f"{directory.path}: its weights take {byte_text(weights)}, {gpu.name} has "
            f"{byte_text(gpu.memory_bytes)}. Export with fewer bits."
        )


def _check_output(output: Path, *, force: bool) -> None:
    if not output.exists():
        if not output.resolve().parent.is_dir():
            raise ExportFailed(f"{output.resolve().parent}: no such directory. Make it first.")
        return
    if not (output / _ENGINE).is_file():
        raise OutputExists(f"{output}: exists and is no engine: it is never replaced. Choose another path.")
    if not force:
        raise OutputExists(f"{output}: exists. Pass --force to replace it, or choose another path.")
