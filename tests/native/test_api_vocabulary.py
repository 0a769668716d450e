"""One vocabulary on both sides: versions, error codes and their exit codes, finish reasons, issue codes of the docs."""

from __future__ import annotations

import re
from pathlib import Path

import rubricrm
from rubricrm import errors
from rubricrm.generation.result import FINISH_REASONS
from rubricrm.rubric.criterion import Kind

CPP = Path(__file__).resolve().parents[2] / "sdk" / "cpp"
HEADER = (CPP / "include" / "rubricrm.h").read_text("utf-8")


def classes() -> list[type[errors.RubricrmError]]:
    """The error classes in the order of their file, without those of servers: they are Python's alone."""
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    kinds = [kind for kind in found if issubclass(kind, errors.RubricrmError) and kind is not errors.RubricrmError]
    return [kind for kind in kinds if not issubclass(kind, errors.ServerError)]


def enumeration(name: str) -> dict[str, int]:
    body = re.search(rf"typedef enum {name} {{(.*?)}} {name};", HEADER, re.DOTALL)
    assert body is not None
    return {word: int(value) for word, value in re.findall(r"RUBRICRM_(\w+) = (\d+)", body.group(1))}


def test_the_header_has_the_package_version() -> None:
    assert re.findall(r'^#define RUBRICRM_VERSION "(.*)"$', HEADER, re.MULTILINE) == [rubricrm.__version__]


def test_codes_are_those_of_errors_py_in_its_order() -> None:
    codes = enumeration("rubricrm_code")
    assert codes == {"OK": 0} | {kind.code: number for number, kind in enumerate(classes(), 1)}


def test_the_library_has_the_same_codes() -> None:
    listed = re.search(r"define RUBRICRM_ERROR_CODES\(X\)(.*?)\n\n", (CPP / "error.h").read_text("utf-8"), re.DOTALL)
    assert listed is not None
    assert re.findall(r"X\((\w+)\)", listed.group(1)) == [kind.code for kind in classes()]


def test_the_command_line_exits_as_the_package_says() -> None:
    source = (CPP / "run" / "main.cpp").read_text("utf-8")
    failed = set(re.findall(r"case RUBRICRM_(\w+):", source))
    assert failed == {kind.code for kind in classes() if kind.exit_code == 1}


def test_finish_reasons_are_those_of_results() -> None:
    reasons = enumeration("rubricrm_finish_reason")
    assert [name.lower() for name in reasons] == ["unfinished", *FINISH_REASONS]
    source = (CPP / "generation" / "finish_reason.h").read_text("utf-8")
    names = re.search(r'names\[\] = {"", (.*?)};', source)
    assert names is not None
    assert re.findall(r'"(\w+)"', names.group(1)) == list(FINISH_REASONS)


def test_kinds_are_those_of_criteria() -> None:
    assert [name.lower() for name in enumeration("rubricrm_kind")] == ["no_kind", *(kind.value for kind in Kind)]
