"""The rooms show the design: no import runs back, and every file can be read at once."""

import ast
from collections import Counter

import pytest
from room_arrows import ORDER, PACKAGES, ROOT, mermaid, room_arrows, runs_back

MOST_LINES = 350


def test_no_import_runs_back() -> None:
    assert [arrow for arrow in room_arrows() if runs_back(arrow)] == []


@pytest.mark.parametrize(
    "arrow",
    [
        ("rubricrm_export.checkpoint", "rubricrm_export.quantize"),
        ("rubricrm.runtime", "rubricrm.generation"),
        ("rubricrm.model", "rubricrm_export.graph"),
        ("rubricrm_export.measure", "rubricrm_bench"),
        ("rubricrm.model", "rubricrm_serve"),
    ],
)
def test_an_import_that_runs_back_is_seen(arrow: tuple[str, str]) -> None:
    assert runs_back(arrow)
    assert not runs_back((arrow[1], arrow[0]))


@pytest.mark.parametrize("package", ["rubricrm_export", "rubricrm_bench", "rubricrm_batch"])
def test_a_room_at_the_end_imports_the_sdk_alone(package: str) -> None:
    assert runs_back(("rubricrm_serve", package))


@pytest.mark.parametrize("package", [package for package in ORDER if ORDER[package]])
def test_every_room_has_its_place_in_the_order(package: str) -> None:
    entries = {
        path.stem for path in PACKAGES[package].iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert entries - {"__init__"} == {*ORDER[package]}


def test_the_server_alone_may_import_rewards() -> None:
    assert not runs_back(("rubricrm_serve", "rubricrm_reward"))
    assert runs_back(("rubricrm_reward", "rubricrm_serve"))
    assert runs_back(("rubricrm_batch", "rubricrm_reward"))


def test_the_arrows_can_be_drawn() -> None:
    drawing = mermaid(room_arrows())
    assert drawing.startswith("flowchart LR\n")
    assert "  rubricrm.generation -->|" in drawing


def test_no_two_classes_have_one_name() -> None:
    found = [
        node.name
        for folder in PACKAGES.values()
        for path in folder.rglob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [name for name, count in Counter(found).items() if count > 1] == []


@pytest.mark.parametrize("room", ["sdk", "export", "serve", "batch", "reward"])
def test_no_file_is_too_long_to_read_at_once(room: str) -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in (ROOT / room).rglob("*.py")}
    assert [f"{path}: {length}" for path, length in lengths.items() if length > MOST_LINES] == []
