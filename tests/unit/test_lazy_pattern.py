import importlib
import json
import pkgutil
import re
import subprocess
import sys

import pytest
import rubricrm.rubric
from rubricrm.rubric.lazy_pattern import _LazyPattern, lazy_pattern

MODULES = [f"rubricrm.rubric.{module.name}" for module in pkgutil.iter_modules(rubricrm.rubric.__path__)]


def patterns(module: str) -> dict[str, re.Pattern[str]]:
    return {
        name: value for name, value in vars(importlib.import_module(module)).items() if isinstance(value, _LazyPattern)
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_expression_of_a_reader_can_be_compiled(module: str) -> None:
    for pattern in patterns(module).values():
        assert re.compile(pattern.pattern, pattern.flags).groups == pattern.groups


def test_there_are_such_expressions() -> None:
    assert sum(len(patterns(module)) for module in MODULES) > 50


def test_it_is_compiled_at_its_first_use_only(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    compile_now = re.compile

    def count(text: str, flags: int) -> re.Pattern[str]:
        compiled.append(text)
        return compile_now(text, flags)

    monkeypatch.setattr(re, "compile", count)
    pattern = lazy_pattern("(?P<word>A+)", re.IGNORECASE)
    assert compiled == []
    for _ in range(3):
        match = pattern.match("aab")
        assert match is not None
        assert match["word"] == "aa"
    assert compiled == ["(?P<word>A+)"]


def test_a_wrong_expression_is_found_at_its_first_use() -> None:
    with pytest.raises(re.error, match="missing"):
        lazy_pattern("(").search("a")


def test_importing_the_package_compiles_none() -> None:
    script = f"""
import json, re
compile_now, seen = re.compile, []
def count(text, flags=0):
    seen.append(text)
    return compile_now(text, flags)
import rubricrm.runtime.session, rubricrm.generation.engine
re.compile = count
for module in {MODULES!r}:
    __import__(module)
print(json.dumps([text for text in seen if isinstance(text, str)]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
