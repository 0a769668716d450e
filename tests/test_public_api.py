"""The public names: they resolve, they are documented, and the errors tell themselves apart."""

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest
import rubricrm
from rubricrm import errors

# The library of kernels has the ending of an extension module, and is none.
MODULES = sorted({module.name for module in pkgutil.iter_modules(rubricrm.__path__)} - {"librubricrm_kernels"})
ERRORS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.RubricrmError)]


@pytest.mark.parametrize("name", rubricrm.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(rubricrm, name) is not None
    assert name in dir(rubricrm)


def test_every_public_name_is_there_for_type_checkers_too() -> None:
    source = inspect.getsource(rubricrm)
    for name in rubricrm.__all__:
        assert f" import {name} as {name}\n" in source


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rubricrm' has no attribute 'RubricMode'"):
        rubricrm.RubricMode  # noqa: B018


def public_members(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The public functions and classes that a module defines, and the public methods of these classes."""
    for name, member in vars(module).items():
        is_own = getattr(member, "__module__", None) == module.__name__
        if name.startswith("_") or not is_own or not (inspect.isclass(member) or inspect.isfunction(member)):
            continue
        yield f"{module.__name__}.{name}", member
        if inspect.isclass(member):
            for method_name, method in vars(member).items():
                if not method_name.startswith("_") and (inspect.isroutine(method) or isinstance(method, property)):
                    yield f"{module.__name__}.{name}.{method_name}", method


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__main__"])
def test_everything_public_is_documented(name: str) -> None:
    module = importlib.import_module(f"rubricrm.{name}")
    assert name.startswith("_") or inspect.getdoc(module)
    for where, member in public_members(module):
        documented = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        doc = documented.__doc__
        # A dataclass without a docstring gets its signature as one.
        assert doc, where
        assert not doc.startswith(f"{where.rpartition('.')[2]}("), where


def test_every_error_has_a_code_of_its_own_and_an_exit_code() -> None:
    assert len(ERRORS) > 10
    codes = [kind.code for kind in ERRORS]
    assert len(set(codes)) == len(codes)
    for kind in ERRORS:
        assert kind.code.isupper()
        assert kind.exit_code in (1, 2)
        if kind is not errors.RubricrmError:
            assert "code" in vars(kind)
            assert "exit_code" in vars(kind)
            assert kind.code.replace("_", "") == kind.__name__.upper()


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_the_text_of_an_error_begins_with_its_code(kind: type[errors.RubricrmError]) -> None:
    error = kind("what failed, where, and what to do")
    assert str(error) == f"{kind.code}: what failed, where, and what to do"
    assert isinstance(error, rubricrm.RubricrmError)
    # As when a worker process sends it back.
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
