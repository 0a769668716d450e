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

from rubricrm.errors import RubricrmError
from rubricrm.runtime.bundle import MANIFEST_NAME, Bundle, describe_file
from rubricrm.runtime.byte_size import byte_text
from rubricrm.runtime.manifest import FileFacts, Manifest

from rubricrm_export.errors import ExportFailed, OutputExists

_WRITING = "writing"
_REPLACED = "replaced"
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
        ExportFailed: It cannot be looked at: a name too long, a directory without rights.
    """
    try:
        exists, is_own = output.exists(), (output / marker).is_file()
    except OSError as error:
        raise ExportFailed(f"{output}: cannot be written ({error.strerror}). Choose another path.") from error
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
    """Refuse an export that the disk cannot hold. The output's parent is made if it is missing.

    Raises:
        ExportFailed: Too little space, or the parent cannot be made.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(output.parent).free
    except OSError as error:
        raise ExportFailed(f"{output.parent}: cannot be written ({error.strerror}). Choose another path.") from error
    needed = num_bytes + _SPARE_BYTES
    if free < needed:
        raise ExportFailed(
            f"{output.parent}: the disk has {byte_text(free)} free, the bundle needs {byte_text(needed)}. Free some "
            "space or choose another disk."
        )


@contextmanager
def whole_directory(output: Path, *, force: bool, marker: str = MANIFEST_NAME) -> Iterator[Path]:
    """Yield an empty sibling of `output`; it becomes `output` if the block ends well, and vanishes if it does not.

    What a killed export left beside the output is removed first. A kill leaves the old bundle or none, and at most
    one hidden sibling.

    Raises:
        OutputExists: As `check_output`: somebody wrote there while the block ran.
        ExportFailed: The disk is full or the directory cannot be written.
    """
    output = output.resolve()  # a path that ends in .. has no name that a sibling could be called after
    remove_leftovers(output)
    directory = _sibling(output, _WRITING)
    try:
        directory.mkdir()
        yield directory
        check_output(output, force=force, marker=marker)
        _publish(directory, output)
        _remove_leftovers(output, _REPLACED)
    except RubricrmError as error:
        _name_output(error, directory, output)
        raise
    except OSError as error:
        raise _export_failed(output, error) from error
    finally:
        _remove(directory)


@contextmanager
def scratch_directory(output: Path, name: str) -> Iterator[Path]:
    """Yield a path beside `output` for what is needed while it is made; removed afterwards, or by the next export.

    Raises:
        ExportFailed: The disk is full or the directory cannot be written.
    """
    output = output.resolve()
    directory = _sibling(output, f"{_WRITING}-{name}")
    try:
        _remove(directory)  # of a killed process with the same number
        yield directory
    except RubricrmError as error:
        _name_output(error, directory, output)
        raise
    except OSError as error:
        raise _export_failed(output, error) from error
    finally:
        _remove(directory)


def remove_leftovers(output: Path) -> None:
    """Remove what killed exports left half-written beside the output."""
    _remove_leftovers(output.resolve(), _WRITING)


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


def _sibling(output: Path, state: str) -> Path:
    return output.with_name(f".{output.name}.{state}-{os.getpid()}")


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
    """Move the output aside first. A kill between the two steps leaves the old bundle under its hidden name."""
    replaced = _sibling(output, _REPLACED)
    try:
        output.rename(replaced)
        directory.rename(output)
    except BaseException:  # Ctrl-C too
        if not output.exists():
            replaced.rename(output)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory, ignore_errors=True)
    except BaseException:  # SIGTERM or Ctrl-C while it was being removed
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _remove_leftovers(output: Path, state: str) -> None:
    for path in output.parent.glob(f".{glob.escape(output.name)}.{state}-*"):
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


def _export_failed(output: Path, error: OSError) -> ExportFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ExportFailed(f"{output}: the disk is full; nothing was left. Free some space or choose another disk.")
    reason = error.strerror or str(error)
    return ExportFailed(f"{output}: cannot be written ({reason}); nothing was left. Check the path and its rights.")


def _name_output(error: RubricrmError, directory: Path, output: Path) -> None:
    """Let an error name the path that was asked for: the hidden one is gone when it is read."""
    error.args = tuple(
        part.replace(str(directory), str(output)) if isinstance(part, str) else part for part in error.args
    )
