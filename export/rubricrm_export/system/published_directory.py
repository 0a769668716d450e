"""Writes a bundle so that a reader sees all of it or none: sibling directory, check, rename."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rubricrm.errors import ExportFailed, TargetExists
from rubricrm.runtime.bundle import MANIFEST_NAME, Bundle, describe_file
from rubricrm.runtime.manifest import FileFacts, Manifest

_WRITING = "writing"
_REPLACED = "replaced"
# Graph, tokenizer and manifest beside the weights, generously.
_SPARE_BYTES = 32 << 20
# Of renameat2(2): paths relative to the working directory; both must exist and are swapped.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def check_target(target: Path, *, force: bool, marker: str = MANIFEST_NAME) -> None:
    """Refuse a target that must not be written, before any work is done.

    Args:
        target: The directory.
        force: Replace an older one.
        marker: The file that tells a directory of our own from others, which are never replaced.

    Raises:
        TargetExists: It exists and `force` is not given; or it is not a bundle, which is never replaced.
        ExportFailed: It cannot be looked at: a name too long, a directory without rights.
    """
    try:
        exists, is_own = target.exists(), (target / marker).is_file()
    except OSError as error:
        raise ExportFailed(f"{target}: cannot be written ({error.strerror}). Choose another path.") from error
    if target.is_symlink():
        raise TargetExists(f"{target}: is a link, which is never replaced. Pass the path that it leads to.")
    if not exists:
        return
    if not is_own:
        kind = "a bundle" if marker == MANIFEST_NAME else f"one with {marker}"
        raise TargetExists(f"{target}: exists and is not {kind}: it is never replaced. Choose another path.")
    if not force:
        raise TargetExists(f"{target}: exists. Pass --force to replace it, or choose another path.")
    here = Path.cwd()
    if target.resolve() in (here, *here.parents):
        raise TargetExists(f"{target}: is in use as the working directory. Run the command from another directory.")


def check_space(target: Path, num_bytes: int) -> None:
    """Refuse an export that the disk cannot hold. The target's parent is made if it is missing.

    Raises:
        ExportFailed: Too little space, or the parent cannot be made.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
    except OSError as error:
        raise ExportFailed(f"{target.parent}: cannot be written ({error.strerror}). Choose another path.") from error
    if free < num_bytes + _SPARE_BYTES:
        raise ExportFailed(
            f"{target.parent}: the disk has {free / 1e9:.2f} GB free, the bundle needs {num_bytes / 1e9:.2f} GB. "
            "Free some space or choose another disk."
        )


@contextmanager
def bundle_directory(target: Path, *, force: bool, marker: str = MANIFEST_NAME) -> Iterator[Path]:
    """Yield an empty sibling of `target`; it becomes `target` if the block ends well, and vanishes if it does not.

    What a killed export left beside the target is removed first. A kill leaves the old bundle or none, and at most
    one hidden sibling.

    Raises:
        TargetExists: As `check_target`: somebody wrote there while the block ran.
        ExportFailed: The disk is full or the directory cannot be written.
    """
    target = target.resolve()  # a path that ends in .. has no name that a sibling could be called after
    remove_leftovers(target)
    directory = _sibling(target, _WRITING)
    try:
        directory.mkdir()
        yield directory
        check_target(target, force=force, marker=marker)
        _publish(directory, target)
        _remove_leftovers(target, _REPLACED)
    except OSError as error:
        raise _export_failed(target, error) from error
    finally:
        _remove(directory)


@contextmanager
def scratch_directory(target: Path, name: str) -> Iterator[Path]:
    """Yield a path beside `target` for what is needed while it is made; removed afterwards, or by the next export.

    Raises:
        ExportFailed: The disk is full or the directory cannot be written.
    """
    target = target.resolve()
    directory = _sibling(target, f"{_WRITING}-{name}")
    try:
        _remove(directory)  # of a killed process with the same number
        yield directory
    except OSError as error:
        raise _export_failed(target, error) from error
    finally:
        _remove(directory)


def remove_leftovers(target: Path) -> None:
    """Remove what killed exports left half-written beside the target."""
    _remove_leftovers(target.resolve(), _WRITING)


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


def _sibling(target: Path, state: str) -> Path:
    return target.with_name(f".{target.name}.{state}-{os.getpid()}")


def _publish(directory: Path, target: Path) -> None:
    """Put `directory` in the target's place; what stood there is then in `directory`, or gone."""
    if not target.exists():
        directory.rename(target)
    elif not _exchange(directory, target):
        _replace(directory, target)


def _exchange(left: Path, right: Path) -> bool:
    """Swap two directories in one step, so that no kill falls in between; return whether the system could."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    status: int = renameat2(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE)
    return status == 0


def _replace(directory: Path, target: Path) -> None:
    """Move the target aside first. A kill between the two steps leaves the old bundle under its hidden name."""
    replaced = _sibling(target, _REPLACED)
    try:
        target.rename(replaced)
        directory.rename(target)
    except BaseException:  # Ctrl-C too
        if not target.exists():
            replaced.rename(target)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory, ignore_errors=True)
    except BaseException:  # SIGTERM or Ctrl-C while it was being removed
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _remove_leftovers(target: Path, state: str) -> None:
    for path in target.parent.glob(f".{glob.escape(target.name)}.{state}-*"):
        process = path.name.rpartition("-")[2]
        if process.isdecimal() and not _is_running(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _export_failed(target: Path, error: OSError) -> ExportFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ExportFailed(f"{target}: the disk is full; nothing was left. Free some space or choose another disk.")
    return ExportFailed(f"{target}: cannot be written ({error}); nothing was left. Check the path and its rights.")
