"""Nobody's answer depends on what else is computed, in which order, on what was kept, or on what was drafted."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from equality import DRAFTS, FORMS, REQUESTS, SPARE_TOKENS, WAYS, Key, Setting, Subject, Tally, settings_of
from hypothesis import HealthCheck, given, settings
from own_kernels import needs_kernels
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.session import GraphVariant, Session
from rubricrm.text_model import DEMO_BUNDLE
from rubricrm_export.onnx_bundle.export import OnnxExport, export_onnx

pytestmark = pytest.mark.usefixtures("all_cores")

NUM_PROMPTS = len(REQUESTS) + 2
FEW, MANY = 12, 300  # examples
DEMO = Path(__file__).parents[2] / "models" / "demo" / "checkpoint"
SMOLLM2 = os.environ.get("RUBRICRM_SMOLLM2")
TEMPLATE = "List what a good answer must satisfy, one criterion a line.\n\nRequest:\n{prompt}\n\nRubric:"

needs_smollm2 = pytest.mark.skipif(SMOLLM2 is None, reason="RUBRICRM_SMOLLM2 names no checkpoint of SmolLM2-135M")
smollm2 = pytest.param("smollm2", marks=[pytest.mark.equality, needs_smollm2])


def exported(checkpoint: Path, directory: Path, weights: str) -> Bundle:
    template = None
    if not (checkpoint / "README.md").exists():
        template = directory / "template.txt"
        template.write_text(TEMPLATE)
    job = OnnxExport(
        str(checkpoint), directory / "bundle", weights=weights, rubrics=False, max_kl="none", prompt_template=template
    )
    return Bundle.open(export_onnx(job).path)


@pytest.fixture(scope="module", params=["tiny", "narrow", "odd", "demo", smollm2])
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A graph whose products and attention are this project's."""
    name, directory = request.param, tmp_path_factory.mktemp("ours")
    if name in ("tiny", "narrow"):
        bundle = Bundle.open(request.getfixturevalue({"tiny": "packed_bundle"}.get(name, "narrow_bundle")))
    else:
        checkpoint = {"demo": DEMO, "smollm2": Path(SMOLLM2 or "")}.get(name)
        bundle = exported(checkpoint or request.getfixturevalue("odd_checkpoint"), directory, "int4")
    session = Session(bundle, threads=2)
    assert session.is_exact
    yield Subject(bundle, session)
    session.close()


@pytest.fixture(scope="module", params=["tiny", "odd", "demo", "demo with our attention", smollm2])
def theirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A graph whose products are ONNX Runtime's, of float weights."""
    name, directory = request.param, tmp_path_factory.mktemp("theirs")
    if name == "tiny":
        bundle = Bundle.open(request.getfixturevalue("tiny_bundle"))
    elif name.startswith("demo"):
        bundle = Bundle.open(DEMO_BUNDLE)
    else:
        checkpoint = Path(SMOLLM2 or "") if name == "smollm2" else request.getfixturevalue("odd_checkpoint")
        bundle = exported(checkpoint, directory, "bf16")
    variant = GraphVariant("model.onnx", bundle.file("model.onnx").read_bytes())
    session = Session(bundle, threads=2, variant=None if name == "demo with our attention" else variant)
    assert not session.is_exact
    yield Subject(bundle, session)
    session.close()


def check_ours(subject: Subject, num_examples: int) -> None:
    @settings(max_examples=num_examples, suppress_health_check=list(HealthCheck))
    @given(settings_of(NUM_PROMPTS, DRAFTS))
    def check(setting: Setting) -> None:
        subject.check(setting)

    check()


def check_theirs(subject: Subject, num_examples: int) -> Tally:
    """As the product does, nothing is drafted there: rows of a draft would be other sums."""
    tally = Tally()

    @settings(max_examples=num_examples, suppress_health_check=list(HealthCheck))
    @given(settings_of(NUM_PROMPTS, ("none",)))
    def check(setting: Setting) -> None:
        before = len(tally.margins)
        subject.count(setting, tally)
        assert all(margin < 1e-3 for margin in tally.margins[before:])

    check()
    return tally


@needs_kernels
def test_on_our_kernels_every_answer_is_the_one_alone(ours: Subject) -> None:
    check_ours(ours, FEW)


@needs_kernels
@pytest.mark.equality
def test_on_our_kernels_every_answer_is_the_one_alone_at_length(ours: Subject) -> None:
    check_ours(ours, MANY)


@needs_kernels
def test_threads_change_nothing_either(ours: Subject) -> None:
    """The engine's own thread, and requests that come whenever they come."""
    keys = [Key(n % NUM_PROMPTS, FORMS[n % 3], n % len(WAYS), SPARE_TOKENS[-1]) for n in range(30)]
    random.Random(1).shuffle(keys)
    assert ours.from_threads(keys) == [ours.alone(key) for key in keys]


def test_on_the_runtimes_kernels_answers_part_at_most_at_ties(theirs: Subject) -> None:
    tally = check_theirs(theirs, FEW)
    assert len(tally.margins) <= max(1, tally.num_tokens / 1000)


@pytest.mark.equality
def test_on_the_runtimes_kernels_answers_part_at_most_at_ties_at_length(theirs: Subject) -> None:
    tally = check_theirs(theirs, MANY)
    print(f"{len(tally.margins)} of {tally.num_tokens} tokens part, at margins {sorted(tally.margins)}")
    assert len(tally.margins) <= tally.num_tokens / 1000
