"""The cache directory: where it is, who may use it, and that a model opens without any."""

import json
import logging
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import numpy as np
import pytest
from rubricrm import RubricModel
from rubricrm.runtime import cache_directory as module
from rubricrm.runtime.cache_directory import (
    CacheError,
    cache_directory,
    cache_problem,
    own_directory,
    require_own,
    warn_without_cache,
)
from rubricrm.runtime.prefix import Prefix
from safetensors import safe_open

NOBODY = 54321

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for the cache directory, which does not exist yet."""
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---- where it is ----


def test_it_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (str(tmp_path / "here"), "here"):
        monkeypatch.setenv("RUBRICRM_CACHE", given)
        assert cache_directory() == tmp_path / "here"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "/home/user/.cache/rubricrm"),
        ("linux", {"RUBRICRM_CACHE": ""}, "/home/user/.cache/rubricrm"),
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache/rubricrm"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/user/.cache/rubricrm"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/user/.cache/rubricrm"),
        ("darwin", {"XDG_CACHE_HOME": "/cache"}, "/home/user/Library/Caches/rubricrm"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/rubricrm/cache"),
        ("win32", {}, "/home/user/AppData/Local/rubricrm/cache"),
    ],
    ids=["linux", "empty", "xdg", "xdg-empty", "xdg-relative", "darwin", "windows", "windows-bare"],
)
def test_it_is_the_platforms(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("RUBRICRM_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_directory() == Path(expected)


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RUBRICRM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(module.Path, "home", refuse)


@pytest.mark.usefixtures("no_home")
def test_without_a_home_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for use in (cache_directory, own_directory):
        with pytest.raises(CacheError, match="this user has no home directory"):
            use()
    assert cache_problem() == (
        "this user has no home directory. Set RUBRICRM_CACHE to a directory of your own, with the mode 0700."
    )
    assert list(tmp_path.iterdir()) == []


# ---- what is our own ----


def test_directories_are_made_for_this_user_alone(cache: Path) -> None:
    old = os.umask(0)
    try:
        directory = own_directory("a", "b")
    finally:
        os.umask(old)
    assert directory == cache / "a" / "b"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (cache, cache / "a", directory)} == {0o700}
    assert own_directory("a", "b") == directory
    assert cache_problem() is None


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o1777])
@pytest.mark.parametrize("name", ["", "a", "a/b", "a/b/file"])
def test_what_others_may_write_is_not_used(cache: Path, name: str, mode: int) -> None:
    own_directory("a", "b")
    (cache / "a/b/file").write_text("planted")
    for path in (cache, cache / "a", cache / "a/b"):
        path.chmod(0o755)
    (cache / name).chmod(mode)
    with pytest.raises(CacheError, match=f"^{cache / name} may be written by other users$"):
        own_directory("a", "b")
    with pytest.raises(CacheError, match="may be written by other users"):
        require_own(cache / "a/b/file")


def test_a_private_directory_keeps_others_from_all_below_it(cache: Path) -> None:
    """As where the user's mask lets the group write: pip makes such environments."""
    program = own_directory("environments") / "x" / "bin" / "program"
    program.parent.mkdir(parents=True)
    program.write_text("")
    for path in (program, program.parent, program.parents[1]):
        path.chmod(0o777)
    require_own(program)
    cache.chmod(0o755)
    program.parents[2].chmod(0o755)
    with pytest.raises(CacheError, match="may be written by other users"):
        require_own(program)


@needs_root
@pytest.mark.parametrize("name", ["", "a", "a/b", "a/b/file", "a/b/link"])
def test_what_belongs_to_another_user_is_not_used(cache: Path, name: str) -> None:
    own_directory("a", "b")
    (cache / "a/b/file").write_text("planted")
    (cache / "a/b/link").symlink_to("file")
    require_own(cache / "a/b/link")
    os.chown(cache / name, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(CacheError, match=f"^{cache / name} belongs to user {NOBODY}, this process runs as 0$"):
        own_directory("a", "b")
    assert (cache_problem() is None) == (name != "")


def test_a_parent_that_everyone_may_write_is_refused_unless_it_is_sticky(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("RUBRICRM_CACHE", str(shared / "mine"))
    shared.chmod(0o1777)
    own_directory()
    shared.chmod(0o777)
    with pytest.raises(CacheError, match=f"{shared} may be written by everyone"):
        own_directory()


def test_a_link_to_a_directory_of_ours_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir(0o700)
    (tmp_path / "link").symlink_to("disk")
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "link"))
    (own_directory("a") / "file").write_text("")
    require_own(own_directory("a") / "file")
    assert (tmp_path / "disk/a/file").exists()


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300], ids=["file", "below-a-file", "too-long"])
def test_what_cannot_be_a_directory_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / name))
    with pytest.raises(OSError, match=r"."):
        own_directory("a")
    assert "Set RUBRICRM_CACHE" in (cache_problem() or "")


def test_looking_makes_no_directory(cache: Path) -> None:
    assert cache_problem() is None
    assert not cache.exists()


def test_a_reason_is_said_once_in_a_process(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        warn_without_cache(CacheError("this user has no home directory"))
        warn_without_cache(OSError(30, "Read-only file system", "/there"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "nothing is kept between runs (this user has no home directory)" in caplog.text
    assert "(/there: Read-only file system)" in caplog.text


# ---- as another user ----

# Everything is imported before: the interpreter may lie where the other user may not look.
OPEN = (
    f"user = {NOBODY}"
    + """
import json, logging, os, sys
from rubricrm import RubricModel
from rubricrm.doctor import examine
def use():
    with RubricModel.open(sys.argv[1], threads=1) as model:
        return model.generate("Write a haiku.", max_new_tokens=4).text
text, checkup = use(), examine()
records = []
class Keep(logging.Handler):
    def emit(self, record):
        records.append(record.getMessage())
logging.getLogger("rubricrm").addHandler(Keep())
for name in ("RUBRICRM_CACHE", "HOME", "XDG_CACHE_HOME", "TMPDIR"):
    os.environ.pop(name, None)
os.environ.update(json.loads(sys.argv[2]))
os.setgroups([]); os.setgid(user); os.setuid(user)
assert [use(), use()] == [text, text]
found = examine().to_dict()
print(json.dumps([records, found["problems"], found["cache"]]))
"""
)


@pytest.fixture
def readable_bundle(bundle_without_prefix: Path) -> Iterator[Path]:
    """A bundle that every user may read."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(shutil.copytree(bundle_without_prefix, Path(name) / "bundle"))


def open_as_nobody(bundle: Path, **variables: str) -> tuple[list[str], list[str], str | None]:
    """Open a bundle as a user without an entry anywhere, like the random ones of containers."""
    command = [sys.executable, "-c", OPEN, str(bundle), json.dumps(variables)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records, problems, place = json.loads(done.stdout.splitlines()[-1])
    return records, problems, place


@needs_root
@pytest.mark.parametrize("variables", [{}, {"TMPDIR": "/nonexistent"}], ids=["temporary", "no-temporary"])
def test_a_user_without_home_opens_a_model_with_one_warning(readable_bundle: Path, variables: dict[str, str]) -> None:
    records, problems, place = open_as_nobody(readable_bundle, **variables)
    for messages in (records, problems):
        (message,) = messages
        assert "nothing is kept between runs" in message
        assert "this user has no home directory" in message
    assert place is None
    assert [path for path in Path(gettempdir()).iterdir() if path.lstat().st_uid == NOBODY] == []


@needs_root
@pytest.mark.parametrize("variable", ["HOME", "RUBRICRM_CACHE", "XDG_CACHE_HOME"])
def test_a_user_who_may_not_write_the_cache_opens_a_model_with_one_warning(
    readable_bundle: Path, variable: str
) -> None:
    records, problems, place = open_as_nobody(readable_bundle, **{variable: str(readable_bundle.parent)})
    for messages in (records, problems):
        (message,) = messages
        assert "nothing is kept between runs" in message
        assert str(readable_bundle.parent) in message
    assert place is not None


@needs_root
def test_a_planted_prefix_changes_no_answer(bundle_without_prefix: Path, cache: Path) -> None:
    """The file is whole and states its own hash, but somebody else wrote it."""
    with RubricModel.open(bundle_without_prefix, threads=1) as model:
        expected = model.generate("Write a haiku.", max_new_tokens=12).text
    (kept,) = cache.rglob("prefix.rubric.float32.safetensors")
    with safe_open(kept, framework="np") as file:
        token_ids = tuple(map(int, file.metadata()["token_ids"].split(",")))
    Prefix(token_ids, np.ones((2, 2, 1, 2, len(token_ids), 32), np.float32)).save(kept)
    with RubricModel.open(bundle_without_prefix, threads=1) as model:  # ours: the test's file works
        assert model.generate("Write a haiku.", max_new_tokens=12).text != expected
    os.chown(kept, NOBODY, NOBODY)
    with RubricModel.open(bundle_without_prefix, threads=1) as model:
        assert model.generate("Write a haiku.", max_new_tokens=12).text == expected
