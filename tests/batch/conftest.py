"""Staged inputs."""

from pathlib import Path

import pytest
from batch_rows import StageRows
from rubricrm_batch.inputs import open_source
from rubricrm_batch.staging import stage


@pytest.fixture
def stage_rows(tmp_path: Path) -> StageRows:
    """Stage a file, and return the directory."""

    def stage_rows(path: Path, *, request: str = "request", id_column: str | None = None) -> Path:
        staged = tmp_path / "staged"
        stage(open_source(str(path), request=request, split="train"), staged, request=request, id_column=id_column)
        return staged

    return stage_rows
