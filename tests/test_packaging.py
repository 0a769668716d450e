"""What `pip install` puts on a user's disk."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(ROOT / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(directory),
        ".",
    ]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return zipfile.ZipFile(next(directory.glob("*.whl")))


def test_the_wheel_holds_the_packages_and_the_demo_bundle(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    demo = {f"rubricrm/demo_bundle/{path.name}" for path in (ROOT / "sdk/python/rubricrm/demo_bundle").iterdir()}
    assert "rubricrm/demo_bundle/rubricrm.json" in demo
    texts = {"rubricrm_export/calibrate/builtin_requests.jsonl", "rubricrm_export/calibrate/held_out_rubrics.jsonl"}
    texts |= {"rubricrm_bench/requests.jsonl"}
    types = {f"{package}/py.typed" for package in ("rubricrm", "rubricrm_bench", "rubricrm_export")}
    assert demo | texts | types | {"rubricrm_export/graph/decoder.py"} <= names


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0].partition("-")[0] for name in wheel.namelist()}
    assert tops == {"rubricrm", "rubricrm_bench", "rubricrm_export"}


def test_the_version_is_that_of_the_code(wheel: zipfile.ZipFile) -> None:
    from rubricrm import __version__

    assert f"-{__version__}-" in str(wheel.filename)
