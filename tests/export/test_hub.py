"""Resolving a checkpoint: local paths, and the real hub client against a server on this machine."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rubricrm.errors import DependencyMissing, OptionInvalid
from rubricrm_export.checkpoint.hub import ResolvedCheckpoint, resolve_checkpoint
from rubricrm_export.errors import CheckpointInvalid

MakeCheckpoint = Callable[..., Path]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "some-org/tiny-rubric"
ROOT = Path(__file__).parents[2]


# --- local paths


def test_local_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    assert resolve_checkpoint(str(tmp_path)) == ResolvedCheckpoint(tmp_path, None, None)


def test_local_path_wins_over_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / REPO).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_checkpoint(REPO).repo is None


def test_revision_of_a_local_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match=r"revision is 'main' and .* is a local path, which has none"):
        resolve_checkpoint(str(tmp_path), "main")


@pytest.mark.parametrize("source", ["gone", "/gone/model", "./gone", "../a/b", "a/b/c", "https://x.org/a"])
def test_neither_path_nor_name(source: str) -> None:
    with pytest.raises(CheckpointInvalid, match=r"no such directory, and no name of a model\. Pass the directory"):
        resolve_checkpoint(source)


def test_name_that_no_file_system_holds() -> None:
    with pytest.raises(CheckpointInvalid, match=r"no such directory, and no name of a model"):
        resolve_checkpoint(f"./{'x' * 5000}")


def test_empty_name() -> None:
    with pytest.raises(CheckpointInvalid, match="is empty"):
        resolve_checkpoint("")


def test_missing_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyMissing, match=r"some-org/gone: no such directory.*pip install .*\[hub\]'"):
        resolve_checkpoint("some-org/gone")


# --- the real client


@pytest.fixture
def local_hub(make_checkpoint: MakeCheckpoint, serve_hub: Callable[..., Any]) -> Any:
    return serve_hub(make_checkpoint(shards=2, name="served"), REPO, COMMIT)


CLIENT = """
import json, sys
from rubricrm.errors import RubricrmError
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.checkpoint.hub import resolve_checkpoint
answers = []
for source, revision in json.loads(sys.argv[1]):
    try:
        found = resolve_checkpoint(source, revision)
    except RubricrmError as error:
        answers.append({"error": str(error)})
    else:
        with Checkpoint.open(found.path) as checkpoint:
            names = sorted(file.relative_to(found.path).as_posix() for file in found.path.rglob("*"))
            answers.append({"repo": found.repo, "commit": found.commit, "files": names, "used": checkpoint.files})
print(json.dumps(answers))
"""


def resolve_in_client(home: Path, url: str, *asked: tuple[str, str | None], **env: str) -> list[dict[str, Any]]:
    """Resolve in a process of its own: the client reads its endpoint and its cache's place when it is imported."""
    pytest.importorskip("huggingface_hub")
    inherited = {key: value for key, value in os.environ.items() if "proxy" not in key.lower() and key[:3] != "HF_"}
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("sdk/python", "export"))
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, json.dumps(asked)],
        env=inherited
        | {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
        | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": paths}
        | env,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def test_download_resolves_the_commit_and_takes_only_the_checkpoint(local_hub: Any, tmp_path: Path) -> None:
    (local_hub.folder / "pytorch_model.bin").write_bytes(b"pickled")
    (local_hub.folder / "consolidated.safetensors").write_bytes(b"the same weights in another layout")
    (local_hub.folder / "onnx").mkdir()
    (local_hub.folder / "onnx" / "model.safetensors").write_bytes(b"another format")
    home = tmp_path / "home"
    home.mkdir()
    main, branch, pinned = resolve_in_client(home, local_hub.url, (REPO, None), (REPO, "v1"), (REPO, COMMIT))
    assert main["repo"] == REPO
    assert main["commit"] == COMMIT
    assert main == branch == pinned
    assert main["files"] == main["used"]
    assert "model-00002-of-00002.safetensors" in main["used"]
    fetched = [path for path in local_hub.requests if path.endswith("README.md")]
    assert len(fetched) == 2, "one HEAD and one GET: later calls use the cache"

    (cached,) = resolve_in_client(home, local_hub.url, (REPO, None), HF_HUB_OFFLINE="1")
    assert cached == main


def test_refusals_of_the_hub_say_what_to_do(local_hub: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    answers = resolve_in_client(
        home,
        local_hub.url,
        ("some-org/gone", None),
        ("some-org/gated", None),
        (REPO, "v2"),
        ("some-org/two--dashes", None),
        ("some-org/broken", None),
    )
    gone, gated, revision, name, broken = (answer["error"] for answer in answers)
    assert gone.startswith("CHECKPOINT_INVALID: some-org/gone: no local directory, and no such model on the hub")
    assert "hf auth login" in gone
    assert "access is gated. Accept its conditions at https://huggingface.co/some-org/gated" in gated
    assert f"{REPO}: has no revision 'v2'. Pass a branch, tag or commit" in revision
    assert "no valid name of a model" in name
    assert "the hub cannot be reached" in broken


def test_repository_of_another_kind_is_told_what_it_is(local_hub: Any, tmp_path: Path) -> None:
    for file in local_hub.folder.glob("*.safetensors*"):
        file.unlink()
    (local_hub.folder / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    (answer,) = resolve_in_client(tmp_path, local_hub.url, (REPO, None))
    assert (
        f"{REPO}: holds weights in GGUF (found model-Q4_K_M.gguf; a checkpoint has model.safetensors)"
        in answer["error"]
    )
    assert not any(path.endswith(".gguf") for path in local_hub.requests)


def test_unreachable_hub(tmp_path: Path) -> None:
    with socket.socket() as listener:  # a port that was free a moment ago: nobody answers there
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    (answer,) = resolve_in_client(tmp_path, url, (REPO, None))
    assert "the hub cannot be reached" in answer["error"]
    assert "download the checkpoint elsewhere and pass its directory" in answer["error"]


def test_empty_repository(local_hub: Any, tmp_path: Path) -> None:
    for file in local_hub.folder.iterdir():
        file.rename(file.with_suffix(".txt"))
    home = tmp_path / "home"
    home.mkdir()
    (answer,) = resolve_in_client(home, local_hub.url, (REPO, None))
    assert "holds no file of a checkpoint" in answer["error"]
