"""The ONNX graph of a directory for Edge-LLM, by its own exporter, in an environment of its own. Needs no GPU.

The exporter wants versions of transformers and onnx that are not ours, and torch: it is installed into a virtual
environment in the cache directory, once (about 1.5 GB), or used where it is.
"""

from __future__ import annotations

from pathlib import Path

from rubricrm.errors import OptionInvalid, OutputExists
from rubricrm.runtime.published_directory import whole_directory

from rubricrm_export.errors import ExportFailed
from rubricrm_export.system.tool import own_program, program_of, run_tool
from rubricrm_export.tensorrt.commands import VERSIONS, llm_build
from rubricrm_export.tensorrt.directory import TensorRTDirectory

_PROGRAM = "tensorrt-edgellm-export"
_GRAPH = Path("llm") / "model.onnx"
_TOKENIZER = Path("llm") / "tokenizer.json"


def export_edge_onnx(path: Path, output: Path, *, environment: Path | None = None) -> str:
    """Write the graph beside its place and move it there.

    Args:
        path: A directory by `rubricrm export tensorrt --for edge-llm`.
        output: The directory to write, which must not exist.
        environment: A virtual environment with the exporter; None: our own, which is made if it is missing.

    Returns:
        The command that builds an engine of it on the device.

    Raises:
        BundleInvalid: `path` is no such directory, or was changed.
        OptionInvalid: It is for another reader, or the environment has no exporter.
        OutputExists: `output` exists.
        ExportFailed: The environment cannot be made, or the exporter failed.
    """
    directory = TensorRTDirectory.open(path, verify=True)
    if directory.reader != "edge-llm":
        raise OptionInvalid(f"{path}: is for {directory.reader}, expected edge-llm. Export it with --for edge-llm.")
    if output.exists():
        raise OutputExists(f"{output}: exists. Choose another path, or remove it.")
    if not output.resolve().parent.is_dir():
        raise ExportFailed(f"{output.resolve().parent}: no such directory. Make it first.")
    requirements = (VERSIONS["edge-llm"],)
    program = (
        own_program(_PROGRAM, requirements) if environment is None else program_of(environment, _PROGRAM, requirements)
    )
    with whole_directory(output, force=False) as made:
        made.rmdir()  # the exporter makes it
        run_tool([str(program), str(path.resolve()), str(made)])
        missing = [str(name) for name in (_GRAPH, _TOKENIZER) if not (made / name).is_file()]
        if missing:
            raise ExportFailed(f"{_PROGRAM} ended well and wrote no {' and no '.join(missing)}.")
    return " ".join(llm_build(directory.limits, str(output / "llm"), "engine"))
