"""What `pip install` puts on a user's disk, with a C++ compiler and without one."""

import os
import platform
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUBRICRM = ROOT / "sdk/python/rubricrm"
LIBRARY = "librubricrm_kernels.so"
WITHOUT_COMPILER = {"CC": "false", "CXX": "false"}
# How fast the kernels are is no matter here, and how long the compiler takes is.
QUICK = {"SKBUILD_CMAKE_DEFINE": "CMAKE_CXX_FLAGS_RELEASE=-O1"}
NEVER_RUN = {"SKBUILD_CMAKE_DEFINE": "CMAKE_CXX_FLAGS_RELEASE=-O0"}
PACKAGES = {"rubricrm", "rubricrm_batch", "rubricrm_bench", "rubricrm_export", "rubricrm_reward", "rubricrm_serve"}
NOT_BUILT = "The kernels were not built"

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "c++")) is None, reason="builds the kernels: there is no C++ compiler"
)


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stdout
    return done.stdout


def pip(*arguments: object, python: object = sys.executable, **options: object) -> str:
    command = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", *arguments)
    return run(*command, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Built:
    wheel: Path
    output: str

    def names(self) -> set[str]:
        return set(zipfile.ZipFile(self.wheel).namelist())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a clone has."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(ROOT / name)
    return source


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, dict[str, str]], Built]:
    def build(tree: Path, env: dict[str, str]) -> Built:
        directory = tmp_path_factory.mktemp("wheel")
        output = pip("wheel", "-v", "--no-deps", "-w", directory, tree, env=env)
        (wheel,) = directory.glob("*.whl")
        return Built(wheel, output)

    return build


@pytest.fixture(scope="module")
def with_kernels(
    source: Path, build: Callable[[Path, dict[str, str]], Built], tmp_path_factory: pytest.TempPathFactory
) -> Built:
    """A wheel built from a source distribution, as pip builds one where no wheel fits."""
    directory = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", directory, source)
    (archive,) = directory.glob("*.tar.gz")
    return build(archive, QUICK)


@pytest.fixture(scope="module")
def without_kernels(source: Path, build: Callable[[Path, dict[str, str]], Built]) -> Built:
    return build(source, WITHOUT_COMPILER)


@pytest.fixture(params=[pytest.param("with_kernels", marks=needs_compiler), "without_kernels"])
def built(request: pytest.FixtureRequest) -> Built:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Built)
    return found


def new_environment(directory: Path) -> Path:
    """Return the Python of a new environment, with nothing installed."""
    venv.create(directory, symlinks=True)
    return directory / "bin" / "python"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, without_kernels: Built) -> Path:
    """The Python of a new environment with the package and the extra `cpu`."""
    python = new_environment(tmp_path_factory.mktemp("environment"))
    pip("install", "-q", "--no-compile", f"{without_kernels.wheel}[cpu]", python=python)
    return python


def test_the_wheel_holds_the_packages_and_the_demo_bundles(built: Built) -> None:
    bundles = ("demo_bundle", "demo_judge_bundle")
    demo = {f"rubricrm/{name}/{path.name}" for name in bundles for path in (RUBRICRM / name).iterdir()}
    assert {f"rubricrm/{name}/rubricrm.json" for name in bundles} <= demo
    texts = {"rubricrm_export/calibrate/builtin_requests.jsonl", "rubricrm_export/calibrate/held_out_rubrics.jsonl"}
    texts |= {"rubricrm_bench/requests.jsonl"}
    types = {f"{package}/py.typed" for package in PACKAGES}
    assert demo | texts | types | {"rubricrm_export/graph/decoder.py"} <= built.names()


def test_the_wheel_holds_nothing_else(built: Built) -> None:
    names = built.names()
    tops = {name.partition("/")[0].partition("-")[0] for name in names}
    assert tops == PACKAGES
    assert not [name for name in names if name.endswith((".h", ".cpp", ".pyc"))]


def test_the_version_is_that_of_the_code(built: Built) -> None:
    from rubricrm import __version__

    assert f"-{__version__}-" in built.wheel.name


@needs_compiler
def test_with_a_compiler_the_wheel_holds_the_kernels_and_is_for_one_platform(with_kernels: Built) -> None:
    assert f"rubricrm/{LIBRARY}" in with_kernels.names()
    assert with_kernels.wheel.name.endswith(f"-py3-none-linux_{platform.machine()}.whl")
    assert NOT_BUILT not in with_kernels.output


def test_without_a_compiler_the_wheel_is_pure_python_and_the_build_says_so_once(without_kernels: Built) -> None:
    assert not [name for name in without_kernels.names() if name.endswith(".so")]
    assert without_kernels.wheel.name.endswith("-py3-none-any.whl")
    assert without_kernels.output.count(NOT_BUILT) == 1


@needs_compiler
def test_a_source_distribution_builds_what_a_clone_does(with_kernels: Built, without_kernels: Built) -> None:
    assert with_kernels.names() == without_kernels.names() | {f"rubricrm/{LIBRARY}"}


@needs_compiler
def test_the_library_exports_its_four_functions_only(with_kernels: Built, tmp_path: Path) -> None:
    library = zipfile.ZipFile(with_kernels.wheel).extract(f"rubricrm/{LIBRARY}", tmp_path)
    exported = {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()}
    own = {f"rubricrm_kernels_{name}" for name in ("operators", "instruction_set", "problem")}
    assert exported == {"RegisterCustomOps"} | own


LOADED = f"""
import ctypes, rubricrm
from pathlib import Path
found = [path for place in rubricrm.__path__ if (path := Path(place, {LIBRARY!r})).exists()]
print(rubricrm.__file__)
for path in found:
    library = ctypes.CDLL(str(path))
    library.rubricrm_kernels_operators.restype = ctypes.c_char_p
    print(library.rubricrm_kernels_operators().decode())
"""


def test_an_installed_wheel_runs_where_no_compiler_is(built: Built, installed: Path, tmp_path: Path) -> None:
    pip("install", "-q", "--no-deps", "--force-reinstall", built.wheel, python=installed)
    env = {"PATH": str(tmp_path)}
    assert len(run(installed, "-c", LOADED, env=env).split()) == 1 + (f"rubricrm/{LIBRARY}" in built.names())
    answer = run(installed.parent / "rubricrm", "generate", "Write a haiku about rain.", env=env, cwd=tmp_path)
    assert "[Hard Rule]" in answer


@pytest.mark.parametrize(
    "env", [pytest.param(NEVER_RUN, marks=needs_compiler), WITHOUT_COMPILER], ids=["with", "without"]
)
def test_an_editable_installation_runs_the_sources(source: Path, env: dict[str, str], tmp_path: Path) -> None:
    python = new_environment(tmp_path / "environment")
    pip("install", "-q", "--no-deps", "-e", source, python=python, env=env)
    first, *versions = run(python, "-c", LOADED).split()
    assert first == str(source / "sdk/python/rubricrm/__init__.py")
    assert versions == ([] if env is WITHOUT_COMPILER else ["1"])
    packages = "import rubricrm_bench, rubricrm_export; print(rubricrm_bench.__path__ + rubricrm_export.__path__)"
    expected = [str(source / place) for place in ("benchmarks/rubricrm_bench", "export/rubricrm_export")]
    assert run(python, "-c", packages).strip() == str(expected)
