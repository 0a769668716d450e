"""This project's library of CPU kernels: where it is, whether it can be used here, and which instructions it runs.

`RUBRICRM_KERNELS` names an instruction set in place of the processor's best, or `off`: then ONNX Runtime's own kernels
run. `RUBRICRM_KERNELS_LIBRARY` names another library file. The library reads its variable once in a process.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rubricrm.runtime.installation import install_command
from rubricrm.runtime.path_text import utf8_path

logger = logging.getLogger(__name__)

OFF = "off"
SET_VARIABLE = "RUBRICRM_KERNELS"
_LIBRARY_VARIABLE = "RUBRICRM_KERNELS_LIBRARY"
_LIBRARY_NAME = "librubricrm_kernels.so"
_FUNCTIONS = ("rubricrm_kernels_operators", "rubricrm_kernels_instruction_set", "rubricrm_kernels_problem")


@dataclass(frozen=True)
class Kernels:
    """The library, or why there is none.

    Attributes:
        library: Its file; None: it is not used.
        operators: Version of the operators that it provides.
        instruction_set: What runs: "avx512amx", "avx512vnni", "avx2", "neon_i8mm", "neon_dotprod" or "plain".
        problem: Why it is not used, in one clause with the remedy; None: it is.
    """

    library: Path | None = None
    operators: str | None = None
    instruction_set: str | None = None
    problem: str | None = None


def find_kernels() -> Kernels:
    """Return the library that this process uses. It is loaded at the first call (1 ms); nothing is run.

    Where a variable asks for what cannot be had, ONNX Runtime's kernels run, with one warning.
    """
    return _find(os.environ.get(_LIBRARY_VARIABLE), os.environ.get(SET_VARIABLE))


@cache
def _find(chosen: str | None, instruction_set: str | None) -> Kernels:
    if instruction_set == OFF:
        return Kernels(problem=f"{SET_VARIABLE} is {OFF}")
    found = _look(Path(chosen) if chosen else None)
    if found.problem is not None and (chosen or instruction_set):
        logger.warning("%s. ONNX Runtime's own kernels run", found.problem)
    return found


def _look(chosen: Path | None) -> Kernels:
    path = chosen or _installed_library()
    if path is None:
        remedy = f"install rubricrm again where there is one ({install_command('cpu')})"
        return Kernels(problem=f"it was not built, which takes a C++ compiler: {remedy}")
    if not path.is_file():
        return Kernels(problem=f"{_LIBRARY_VARIABLE} names {path}, where there is no file: name another, or none")
    return _load(path.absolute())


def _installed_library() -> Path | None:
    """Return the library beside the package; an editable installation has it in another directory than the sources."""
    import rubricrm

    places = [Path(directory) / _LIBRARY_NAME for directory in rubricrm.__path__]
    return next((place for place in places if place.is_file()), None)


def _load(path: Path) -> Kernels:
    import ctypes

    if utf8_path(path) is None:
        return Kernels(problem=f"{path} is no UTF-8, as ONNX Runtime wants it: install rubricrm under another path")
    try:
        library = ctypes.CDLL(str(path))
        functions = [getattr(library, name) for name in _FUNCTIONS]
    except (OSError, AttributeError) as error:
        return Kernels(problem=f"{path} cannot be loaded ({error}): build it again")
    for function in functions:
        function.restype = ctypes.c_char_p
    operators, instruction_set, problem = (function() for function in functions)
    if problem is not None:
        return Kernels(problem=f"{SET_VARIABLE} is {os.environ.get(SET_VARIABLE)}: {problem.decode()}")
    return Kernels(path, operators.decode(), instruction_set.decode())
