"""What is installed, and the command of every remedy, by where the package came from."""

import importlib.metadata
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rubricrm import RubricModel
from rubricrm.runtime import installation
from rubricrm.runtime.installation import install_command, installed_version, missing_package, runtime_conflict

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """Return a function that says which other distributions are installed."""

    def install(**versions: str) -> None:
        site = Path(tempfile.mkdtemp(dir=tmp_path))
        for name, version in versions.items():
            (site / f"{name}-{version}.dist-info").mkdir()
        monkeypatch.setattr(installation, "_search_path", lambda: [site, site / "nothing-there"])

    install()
    return install


@pytest.fixture
def installed_from(monkeypatch: pytest.MonkeyPatch, install: Install, tmp_path: Path) -> Callable[[str | None], None]:
    """Return a function that says what pip wrote down of this package; its code lies in site-packages."""
    assert install
    monkeypatch.setattr(installation, "__file__", str(tmp_path / "site-packages/rubricrm/runtime/installation.py"))

    def write(direct_url: str | None) -> None:
        found = SimpleNamespace(read_text=lambda _: direct_url, locate_file=lambda _: tmp_path / "site-packages")
        monkeypatch.setattr(installation, "_find_distribution", lambda: found)

    return write


def url(**facts: Any) -> str:
    return json.dumps(facts)


@pytest.mark.parametrize(
    ("direct_url", "command"),
    [
        (None, "pip install 'rubricrm[cpu,export]'"),
        ("", "pip install 'rubricrm[cpu,export]'"),
        ("rubbish", "pip install 'rubricrm[cpu,export]'"),
        ("[1]", "pip install 'rubricrm[cpu,export]'"),
        ('{"url": 7}', "pip install 'rubricrm[cpu,export]'"),
        (url(url="file:///src/it", dir_info={}), "cd /src/it && pip install '.[cpu,export]'"),
        (url(url="file:///src/a%20b", dir_info={}), "cd '/src/a b' && pip install '.[cpu,export]'"),
        (url(url="file:///x.whl", archive_info={}), "pip install 'rubricrm[cpu,export] @ file:///x.whl'"),
        (
            url(url="https://example.org/r.git", vcs_info={"vcs": "git", "commit_id": "abc"}),
            "pip install 'rubricrm[cpu,export] @ git+https://example.org/r.git@abc'",
        ),
    ],
    ids=["index", "empty", "no-json", "list", "no-text", "directory", "white-space", "wheel", "git"],
)
def test_the_command_names_where_the_package_came_from(
    installed_from: Callable[[str | None], None], direct_url: str | None, command: str
) -> None:
    installed_from(direct_url)
    assert install_command("cpu", "export") == command


def checkout(path: Path) -> Path:
    (path / "sdk/python/rubricrm/runtime").mkdir(parents=True)
    (path / "pyproject.toml").touch()
    return path


@pytest.mark.parametrize("how", ["editable", "metadata-beside", "no-metadata"])
def test_a_package_that_runs_out_of_its_sources_is_installed_so_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Install, how: str
) -> None:
    assert install
    root = checkout(tmp_path / "clone")
    monkeypatch.setattr(installation, "__file__", str(root / "sdk/python/rubricrm/runtime/installation.py"))
    text = url(url=f"file://{root}", dir_info={"editable": True}) if how == "editable" else None
    found = SimpleNamespace(read_text=lambda _: text, locate_file=lambda _: root)
    monkeypatch.setattr(installation, "_find_distribution", lambda: None if how == "no-metadata" else found)
    assert install_command("gpu") == f"cd {root} && pip install -e '.[gpu]'"
    assert install_command() == f"cd {root} && pip install -e '.'"


def test_this_very_installation_is_known() -> None:
    """The tests run out of a checkout, whichever way it was installed."""
    assert install_command("export").endswith(".[export]'")
    assert install_command("export").startswith(f"cd {Path(__file__).parents[2]} && pip install ")


def test_cpu_becomes_gpu_where_its_package_is_installed(
    installed_from: Callable[[str | None], None], install: Install
) -> None:
    """The other one would overwrite its files."""
    installed_from(None)
    install(onnxruntime_gpu="1.31.1")
    assert install_command("cpu", "export") == "pip install 'rubricrm[gpu,export]'"
    assert install_command("hub") == "pip install 'rubricrm[hub]'"


def test_options_of_pip_come_before_the_package(installed_from: Callable[[str | None], None]) -> None:
    installed_from(None)
    assert install_command("x", options="--pre") == "pip install --pre 'rubricrm[x]'"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ImportError("No module named 'onnx'", name="onnx"), "exporting needs onnx, which is not installed. "),
        (ImportError("bad symbol"), "exporting needs a package that cannot be imported (bad symbol). "),
    ],
)
def test_what_is_missing_comes_with_its_command(
    installed_from: Callable[[str | None], None], error: ImportError, text: str
) -> None:
    installed_from(None)
    assert str(missing_package("exporting", error, "cpu", "export")) == (
        f"DEPENDENCY_MISSING: {text}Install it: pip install 'rubricrm[cpu,export]'."
    )


# ---- packages that are one module ----


def test_versions_are_those_that_the_standard_library_finds() -> None:
    for name in ("onnxruntime", "huggingface_hub", "ml_dtypes", "pytest"):
        assert installed_version(name) == importlib.metadata.version(name)
    assert installed_version("nothing-of-this-name") is None


@pytest.mark.parametrize(
    "versions",
    [{}, {"onnxruntime": "1.32.0"}, {"onnxruntime_gpu": "1.31.1"}, {"optimum_onnx": "0.1.0", "onnxruntime": "1"}],
    ids=str,
)
def test_one_runtime_is_no_conflict(install: Install, versions: dict[str, str]) -> None:
    install(**versions)
    assert runtime_conflict() is None


def test_two_runtimes_are_named_with_the_remedy(installed_from: Callable[[str | None], None], install: Install) -> None:
    installed_from(None)
    install(onnxruntime="1.32.0", onnxruntime_gpu="1.31.1", optimum_onnx="0.1.0")
    assert runtime_conflict() == (
        "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are all the module onnxruntime and overwrite each other's "
        "files, expected one of them. Remove them (pip uninstall onnxruntime onnxruntime-gpu), then pip install "
        "'rubricrm[gpu]'. The extra optimum installs onnxruntime: give it an environment of its own (--environment)."
    )
    install(onnxruntime="1.32.0", onnxruntime_directml="1.24.4")
    assert (runtime_conflict() or "").startswith("onnxruntime 1.32.0 and onnxruntime-directml 1.24.4 are")


def test_opening_a_model_warns_of_it_once(
    tiny_bundle: Path, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(onnxruntime="1.32.0", onnxruntime_gpu="1.31.1")
    for _ in range(2):
        RubricModel.open(tiny_bundle, threads=1).close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == runtime_conflict()
