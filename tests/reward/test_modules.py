"""The modules that are called as trainers are: they import no trainer, and hide none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import rubricrm_reward

TRAINERS = ("trl", "verl", "openrlhf", "swift", "inspect")


def loaded_after(script: str, *, path: Path | None = None) -> dict[str, str]:
    """The files of the modules that a new process has loaded after a script."""
    script += (
        "\nimport json, sys"
        "\nprint(json.dumps({name: str(getattr(module, '__file__', '')) for name, module in sys.modules.items()}))"
    )
    environment = {"PYTHONPATH": str(path)} if path else None
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_module_imports_no_trainer(trainer: str) -> None:
    loaded = loaded_after(f"import rubricrm_reward.{trainer}")
    assert f"rubricrm_reward.{trainer}" in loaded
    heavy = {"trl", "verl", "openrlhf", "swift", "inspect_ai", "torch", "ray", "numpy", "openai", "onnxruntime"}
    assert not {name.partition(".")[0] for name in loaded} & heavy


def test_no_module_hides_a_trainer(tmp_path: Path) -> None:
    for trainer in ("trl", "verl", "openrlhf", "swift"):
        (tmp_path / f"{trainer}.py").write_text("")
    imports = "; ".join(f"import rubricrm_reward.{name}, {name}" for name in TRAINERS)
    loaded = loaded_after(imports, path=tmp_path)
    folder = Path(rubricrm_reward.__file__).parent
    for trainer in TRAINERS:
        assert Path(loaded[f"rubricrm_reward.{trainer}"]) == folder / f"{trainer}.py"
        assert Path(loaded[trainer]).parent != folder


def test_the_scorer_needs_inspect_ai_when_it_is_asked_for() -> None:
    from rubricrm_reward import inspect

    with pytest.raises(AttributeError, match="no attribute 'rubric_judges'"):
        inspect.rubric_judges  # noqa: B018
