"""The distributions that this installation is made of, and the command that adds what is missing."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rubricrm.errors import DependencyMissing

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_PACKAGE = "rubricrm"
GPU_RUNTIME = "onnxruntime-gpu"
# All of these are the module onnxruntime: whichever was installed last has overwritten the files of the others.
_RUNTIMES = (
    "onnxruntime",
    GPU_RUNTIME,
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-training",
    "ort-nightly",
    "ort-nightly-gpu",
)


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution, None where there is none."""
    return _installed().get(_normalized(name))


def is_gpu_package_installed() -> bool:
    """Whether somebody wanted a GPU here."""
    return installed_version(GPU_RUNTIME) is not None


def installed_runtimes() -> dict[str, str]:
    """Return the installed distributions of ONNX Runtime with their versions."""
    installed = _installed()
    return {name: installed[name] for name in _RUNTIMES if name in installed}


def runtime_conflict() -> str | None:
    """Return which distributions of ONNX Runtime overwrite each other, and the remedy; None where there is only one."""
    installed = installed_runtimes()
    if len(installed) < 2:
        return None
    named = " and ".join(f"{name} {found}" for name, found in installed.items())
    culprit = ""
    if installed_version("optimum-onnx") is not None:
        culprit = " The extra optimum installs onnxruntime: give it an environment of its own (--environment)."
    return (
        f"{named} are all the module onnxruntime and overwrite each other's files, expected one of them. Remove them "
        f"(pip uninstall {' '.join(installed)}), then {install_command('cpu')}.{culprit}"
    )


def install_command(*extras: str, options: str = "") -> str:
    """Return the shell command that installs this package with extras, from where this installation came from.

    Args:
        extras: Their names; `cpu` becomes `gpu` where the package for GPUs is installed, since both hide each other.
        options: For pip, before the package.
    """
    names = ["gpu" if extra == "cpu" and is_gpu_package_installed() else extra for extra in extras]
    wanted = f"[{','.join(names)}]" if names else ""
    given = f"{options} " if options else ""
    found, origin = _find_distribution(), {}
    if found is not None:
        origin = _origin(found)
    directory = _checkout(found, origin)
    if directory is not None:
        flag = "-e " if directory.resolve() in Path(__file__).resolve().parents else ""  # what runs are its sources
        return f"cd {shlex.quote(str(directory))} && pip install {given}{flag}'.{wanted}'"
    url = origin.get("url")
    if not isinstance(url, str):
        return f"pip install {given}'{_PACKAGE}{wanted}'"
    facts = _object(origin.get("vcs_info"))
    source = f"{facts['vcs']}+{url}@{facts.get('commit_id', 'HEAD')}" if "vcs" in facts else url
    return f"pip install {given}'{_PACKAGE}{wanted} @ {source}'"


def missing_package(task: str, error: ImportError, *extras: str) -> DependencyMissing:
    """Return the error of a task whose imports failed.

    Args:
        task: What needs the package, as the beginning of a sentence: "exporting".
        error: What the import raised.
        extras: Those that bring all that the task needs.
    """
    what = f"{error.name}, which is not installed" if error.name else f"a package that cannot be imported ({error})"
    return DependencyMissing(f"{task} needs {what}. Install it: {install_command(*extras)}.")


def _installed() -> dict[str, str]:
    """Return the version of each distribution by its normalized name, as its directory is called.

    Every opening of a model asks. This takes half a millisecond, importlib.metadata 20.
    """
    found: dict[str, str] = {}
    for directory in _search_path():
        with suppress(OSError):  # nothing, an archive, or somebody else's
            for path in directory.iterdir():
                if path.suffix in (".dist-info", ".egg-info"):
                    name, _, version = path.stem.partition("-")
                    found.setdefault(_normalized(name), version)
    return found


def _normalized(name: str) -> str:
    return name.lower().replace("_", "-")


def _search_path() -> list[Path]:
    return list(map(Path, sys.path))


def _find_distribution() -> Distribution | None:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return distribution(_PACKAGE)
    except PackageNotFoundError:
        return None


def _origin(found: Distribution) -> dict[str, Any]:
    """Return what pip wrote down of a package that is from no index (PEP 610), else nothing."""
    try:
        return _object(json.loads(found.read_text("direct_url.json") or "{}"))
    except (OSError, ValueError):
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _checkout(found: Distribution | None, origin: dict[str, Any]) -> Path | None:
    """Return the directory that the package was installed from, None where that was none."""
    url = origin.get("url")
    if isinstance(url, str) and url.startswith("file:") and "dir_info" in origin:
        from urllib.parse import unquote, urlsplit

        return Path(unquote(urlsplit(url).path))
    if "url" in origin:
        return None
    # Imported out of a checkout: its sources are on the path, or its metadata lie beside its pyproject.toml.
    sources = Path(__file__).resolve().parents[4]
    places = [sources] if found is None else [sources, Path(str(found.locate_file("")))]
    return next((place for place in places if (place / "sdk/python" / _PACKAGE).is_dir()), None)
