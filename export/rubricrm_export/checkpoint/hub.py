"""Where a checkpoint comes from: a local directory, or a model of the Hugging Face hub by name.

The hub's client is an extra and is imported only when a name has to be downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rubricrm.errors import DependencyMissing, OptionInvalid
from rubricrm.runtime.installation import install_command

from rubricrm_export.checkpoint.directory import refuse_foreign_files
from rubricrm_export.checkpoint.files import COMPANIONS, CONFIG, WEIGHTS_INDEX
from rubricrm_export.errors import CheckpointInvalid

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WANTED = [CONFIG, *COMPANIONS, "*.safetensors", WEIGHTS_INDEX]
# A pattern's * also matches a slash: other formats in folders, and a second copy of the weights, stay away.
_UNWANTED = ["*/*", "consolidated*.safetensors"]


@dataclass(frozen=True)
class ResolvedCheckpoint:
    """A checkpoint's directory and, if it was downloaded, what exactly.

    Attributes:
        path: The local directory. For a download it lies in the hub's own cache: do not write to it.
        repo: The repository's name, None for a local directory.
        commit: The commit that the revision named when it was resolved, None for a local directory.
    """

    path: Path
    repo: str | None
    commit: str | None


def resolve_checkpoint(source: str, revision: str | None = None) -> ResolvedCheckpoint:
    """Find a checkpoint; download it when it is no local path but a name of the form org/name.

    A local path wins over a repository of the same name. Whether a local path is a sound checkpoint is not looked at.
    A download costs the checkpoint's size once; later calls reuse the hub's cache and only ask for the commit, or do
    without it when the hub cannot be reached. The client's environment variables apply (HF_HOME, HF_TOKEN, ...).

    Args:
        source: A path, or the name of a model on the hub.
        revision: Branch, tag or commit; the main branch when None.

    Raises:
        OptionInvalid: A revision for a local path.
        CheckpointInvalid: Neither a path nor a name, or the hub refused, by name of what to do.
        DependencyMissing: A download is needed and huggingface_hub is not installed.
    """
    if not source:
        raise CheckpointInvalid("the name of the checkpoint is empty. Pass a directory, or a name such as org/model.")
    path = Path(source)
    if _exists(path):
        if revision is not None:
            raise OptionInvalid(
                f"revision is {revision!r} and {source} is a local path, which has none. Leave the revision out, or "
                "pass the name of a model on the Hugging Face hub."
            )
        return ResolvedCheckpoint(path, None, None)
    if not _REPO_ID.fullmatch(source):
        raise CheckpointInvalid(
            f"{source}: no such directory, and no name of a model. Pass the directory of a checkpoint, or a Hugging "
            "Face name such as org/model."
        )
    return _download(source, revision)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, a directory without rights
        return False


def _download(repo: str, revision: str | None) -> ResolvedCheckpoint:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DependencyMissing(
            f"{repo}: no such directory; to download a model of this name, huggingface_hub is needed. Install it: "
            f"{install_command('hub')}."
        ) from error
    try:
        path = Path(snapshot_download(repo, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except Exception as error:  # besides its own errors, the client lets those of its HTTP library pass
        raise CheckpointInvalid(_explain(error, repo, revision)) from error
    if not path.is_dir():
        _refuse_foreign_repository(repo, revision)
        raise CheckpointInvalid(f"{repo}: the repository holds no file of a checkpoint. Check the name.")
    if not any(path.glob("*.safetensors")):
        _refuse_foreign_repository(repo, revision)
    return ResolvedCheckpoint(path, repo, path.name)  # the cache names a snapshot by its commit


def _refuse_foreign_repository(repo: str, revision: str | None) -> None:
    """Look at what was not downloaded: weights in GGUF, shards of a training run.

    Raises:
        CheckpointInvalid: The repository is known to be something else.
    """
    from huggingface_hub import HfApi

    try:
        names = HfApi().list_repo_files(repo, revision=revision)
    except Exception:  # the cache served the download, and the hub cannot be reached: the directory is judged as it is
        return
    refuse_foreign_files(names, repo)


def _explain(error: Exception, repo: str, revision: str | None) -> str:
    explanations: Mapping[str, str] = {
        "GatedRepoError": f"access is gated. Accept its conditions at https://huggingface.co/{repo}, then log in with "
        "`hf auth login` or set HF_TOKEN.",
        "RepositoryNotFoundError": "no local directory, and no such model on the hub, or it is private. Check the "
        "name; for a private model log in with `hf auth login` or set HF_TOKEN.",
        "RevisionNotFoundError": f"has no revision {revision!r}. Pass a branch, tag or commit of the repository.",
        "LocalEntryNotFoundError": "no local directory, and the hub cannot be reached, with no copy in its cache. "
        "Check the network, or download the checkpoint elsewhere and pass its directory.",
        "HFValidationError": "no local directory, and no valid name of a model. Pass a directory, or org/model.",
    }
    # The most special class first: the client derives "gated" from "not found".
    for kind in type(error).__mro__:
        if kind.__name__ in explanations:
            return f"{repo}: {explanations[kind.__name__]}"
    reason = (str(error).strip().splitlines() or [""])[0]
    return f"{repo}: the download failed ({type(error).__name__}: {reason}). Run again: finished files are kept."
