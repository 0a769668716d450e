"""Writes a bundle so that a reader sees all of it or none: sibling directory, check, rename."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from rubricrm.errors import OutputExists, RubricrmError, WriteFailed
from rubricrm.runtime.bundle import MANIFEST_NAME, Bundle, describe_file
from rubricrm.runtime.byte_size import byte_text
from rubricrm.runtime.hidden_directory import hidden_directory, remove_abandoned, replaced_place
from rubricrm.runtime.manifest import FileFacts, Manifest
from rubricrm.runtime.whole_file import sync

# Graph, tokenizer and manifest beside the weights, generously.
_SPARE_BYTES = 32 << 20
# Of renameat2(2): paths relative to the working directory; both must exist and are swapped.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def check_output(output: Path, *, force: bool, marker: str = MANIFEST_NAME) -> None:
    """Refuse a output that must not be written, before any work is done.

    Args:
        output: The directory.
        force: Replace an older one.
        marker: The file that tells a directory of our own from others, which are never replaced.

    Raises:
        OutputExists: It exists and `force` is not given; or it is not a bundle, which is never replaced.
        WriteFailed: It cannot be looked at: a name too long, a directory without rights.
    """
    try:
        exists, is_own = output.exists(), (output / marker).is_file()
    except OSError as error:
        raise WriteFailed(f"{output}: cannot be written ({error.strerror}). Choose another path.") from error
    if output.is_symlink():
        raise OutputExists(f"{output}: is a link, which is never replaced. Pass the path that it leads to.")
    if not exists:
        return
    if not is_own:
        kind = "a bundle" if marker == MANIFEST_NAME else f"one with {marker}"
        raise OutputExists(f"{output}: exists and is not {kind}: it is never replaced. Choose another path.")
    if not force:
        raise OutputExists(f"{output}: exists. Pass --force to replace it, or choose another path.")
    here = Path.cwd()
    if output.resolve() in (here, *here.parents):
        raise OutputExists(f"{output}: is in use as the working directory. Run the command from another directory.")


def check_space(output: Path, num_bytes: int) -> None:
    """Refuse an output that the disk cannot hold. The output's parent is made if it is missing.

    Raises:
        WriteFailed: Too little space, or the parent cannot be made.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(output.parent).free
    except OSError as error:
        raise WriteFailed(f"{output.parent}: cannot be written ({error.strerror}). Choose another path.") from error
    needed = num_bytes + _SPARE_BYTES
    if free < needed:
        raise WriteFailed(
            f"{output.parent}: the disk has {byte_text(free)} free, the bundle needs {byte_text(needed)}. Free some "
            "space or choose another disk."
        )


@contextmanager
def whole_directory(output: Path, *, force: bool, marker: str = MANIFEST_NAME) -> Iterator[Path]:
    """Yield an empty directory; it becomes `output` if the block ends well, and vanishes if it does not.

    It lies in a hidden sibling of `output`. What a killed process left beside the output is removed first. A kill
    leaves the old bundle or none, and at most one hidden sibling. Everything is on the disk before the output gets its
    name, so that a crash of the machine leaves a whole one too.

    Raises:
        OutputExists: As `check_output`: somebody wrote there while the block ran.
        WriteFailed: The disk is full or the directory cannot be written.
    """
    output = output.resolve()  # a path that ends in .. has no name that a sibling could be called after
    with _hidden_path(output, "output") as directory:
        directory.mkdir()
        yield directory
        check_output(output, force=force, marker=marker)
        _sync_all(directory)
        _publish(directory, output)
        with suppress(OSError):
            sync(output.parent)
        remove_abandoned(output, with_replaced=True)


@contextmanager
def scratch_directory(output: Path, name: str) -> Iterator[Path]:
    """Yield a path beside `output` for what is needed while it is made; removed afterwards, or by the next run.

    Raises:
        WriteFailed: The disk is full or the directory cannot be written.
    """
    with _hidden_path(output.resolve(), name) as directory:
        yield directory


@contextmanager
def _hidden_path(output: Path, name: str) -> Iterator[Path]:
    """Yield a path in a hidden sibling of `output`; errors name the output in its place."""
    remove_leftovers(output)
    directory: Path | None = None
    try:
        with hidden_directory(output) as hidden:
            directory = hidden / name
            yield directory
    except RubricrmError as error:
        if directory is not None:
            _name_output(error, directory, output)
        raise
    except OSError as error:
        raise _write_failed(output, error) from error


def remove_leftovers(output: Path) -> None:
    """Remove what killed processes left half-written beside the output."""
    remove_abandoned(output.resolve())


def describe_files(directory: Path) -> dict[str, FileFacts]:
    """Return size and hash of every file written so far, the manifest aside."""
    return {path.name: describe_file(path) for path in sorted(directory.iterdir()) if path.name != MANIFEST_NAME}


def write_manifest(directory: Path, manifest: Manifest) -> Bundle:
    """Write the manifest and open the directory with the reader that users have.

    Files were hashed as they lie there, so that only their sizes are compared again.
    """
    (directory / MANIFEST_NAME).write_text(manifest.to_json(), "utf-8")
    return Bundle.open(directory)


def write_files(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Write small files."""
    for name, data in contents.items():
        (directory / name).write_bytes(data)


def _publish(directory: Path, output: Path) -> None:
    """Put `directory` in the output's place; what stood there is then in `directory`, or gone."""
    if not output.exists():
        directory.rename(output)
    elif not _exchange(directory, output):
        _replace(directory, output)


def _exchange(left: Path, right: Path) -> bool:
    """Swap two directories in one step, so that no kill falls in between; return whether the system could."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    status: int = renameat2(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE)
    return status == 0


def _replace(directory: Path, output: Path) -> None:
    """Move the output aside first. A kill between the two steps leaves the old bundle in the hidden sibling."""
    replaced = replaced_place(directory.parent)
    try:
        output.rename(replaced)
        directory.rename(output)
    except BaseException:  # Ctrl-C too
        if not output.exists():
            replaced.rename(output)
        raise


def _sync_all(directory: Path) -> None:
    """Wait until a directory with all that is in it is on the disk."""
    for path in [*directory.rglob("*"), directory]:
        if path.is_file():
            sync(path)
        elif path.is_dir():
            with suppress(OSError):  # some file systems, of networks above all, cannot do this for directories
                sync(path)


def _write_failed(output: Path, error: OSError) -> WriteFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WriteFailed(f"{output}: the disk is full; nothing was left. Free some space or choose another disk.")
    reason = error.strerror or str(error)
    return WriteFailed(f"{output}: cannot be written ({reason}); nothing was left. Check the path and its rights.")


def _name_output(error: RubricrmError, directory: Path, output: Path) -> None:
    """Let an error name the path that was asked for: the hidden one is gone when it is read."""
    error.args = tuple(
        part.replace(str(directory), str(output)) if isinstance(part, str) else part for part in error.args
    )
