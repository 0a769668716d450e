"""What several tests of the runtime share: an open tiny model, edited bundles, a scripted engine."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rubricrm import RubricModel
from rubricrm.errors import ModelClosed, OutputInvalid
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.kv_cache import KVCache
from rubricrm.runtime.manifest import ModelFacts
from rubricrm.runtime.prefix import Prefix
from rubricrm.runtime.providers import DEVICES, Device
from rubricrm.runtime.session import Session
from rubricrm.runtime.slot import Arena, Chunk, Slot
from rubricrm.runtime.step_inputs import StepInputs

PREFIX = "prefix.rubric.float32.safetensors"
EditManifest = Callable[[Callable[[dict[str, Any]], object]], Path]
MakeGraph = Callable[[Path, NDArray[np.float32]], bytes]


@pytest.fixture(scope="session")
def tiny_model(tiny_bundle: Path) -> Iterator[RubricModel]:
    """The tiny bundle, opened; no test may close it."""
    with RubricModel.open(tiny_bundle, threads=1) as model:
        yield model


@pytest.fixture
def edit_manifest(bundle_copy: Path) -> EditManifest:
    """Return a function that lets its argument change the parsed manifest of `bundle_copy`, and returns the bundle."""

    def edit(change: Callable[[dict[str, Any]], object]) -> Path:
        path = bundle_copy / "rubricrm.json"
        document = json.loads(path.read_text("utf-8"))
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")
        return bundle_copy

    return edit


@pytest.fixture
def bundle_without_prefix(edit_manifest: EditManifest) -> Path:
    """A bundle whose prefix is computed at first open, as a large model's is."""

    def forget_prefix(document: dict[str, Any]) -> None:
        document["prompts"]["rubric"]["prefix"]["files"] = {}
        del document["files"][PREFIX]

    bundle = edit_manifest(forget_prefix)
    (bundle / PREFIX).unlink()
    return bundle


def with_int8_cache(graph: Path, scale: NDArray[np.float32]) -> bytes:
    """Return a graph whose KV cache holds round(value / scale): one scale, or one per channel of every head."""
    model = onnx.load(graph, load_external_data=False)
    kind = "PER_TENSOR" if scale.size == 1 else "PER_CHANNEL"
    for node in (node for node in model.graph.node if node.op_type == "GroupQueryAttention"):
        node.input.extend([""] * (12 - len(node.input)))
        for part in "kv":
            model.graph.initializer.append(numpy_helper.from_array(scale, f"{node.name}/{part}_scale"))
            node.input.append(f"{node.name}/{part}_scale")
        quantization = {"k_quant_type": kind, "v_quant_type": kind, "kv_cache_bit_width": 8}
        node.attribute.extend(helper.make_attribute(name, value) for name, value in quantization.items())
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past", "present")):
            value.type.tensor_type.elem_type = TensorProto.INT8
    serialized: bytes = model.SerializeToString()
    return serialized


@pytest.fixture
def int8_graph() -> MakeGraph:
    """Return `with_int8_cache`."""
    return with_int8_cache


@pytest.fixture
def int8_bundle(bundle_without_prefix: Path, edit_manifest: EditManifest) -> Path:
    """The tiny bundle with a KV cache of int8, as an export with calibrated scales makes it."""
    path = bundle_without_prefix / "model.onnx"
    contents = with_int8_cache(path, np.full(2 * 32, 0.05, np.float32))
    path.write_bytes(contents)

    def change(document: dict[str, Any]) -> None:
        document["graphs"][0]["kv_type"] = "int8"
        document["files"]["model.onnx"] = {"size": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}

    return edit_manifest(change)


@pytest.fixture
def device_in_host_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the device cuda be the CPU, reached in every way as a device: memory, copies and bindings."""
    monkeypatch.setitem(DEVICES, "cuda", Device("CPUExecutionProvider", "cpu"))


class ScriptedSession:
    """Stands in for a session: the tokens of a script follow the prompt, whatever the prompt says.

    Attributes:
        takes_any_mix: As of `Session`.
        is_paged: As of `Session`.
        total_positions: What was asked for when slots were made last.
        steps: For each step the number of tokens of each of its chunks.
        slots: How many slots were made.
        before_run: Called before each step.
        spoils: Whether the logits of a chunk are no numbers.
    """

    facts = SimpleNamespace(kv_type="float32")
    max_rows = 64

    def __init__(
        self,
        model: ModelFacts,
        script: Sequence[int],
        prompt_length: int,
        winner: int | None,
        takes_any_mix: bool,
        is_paged: bool,
    ) -> None:
        self.takes_any_mix = takes_any_mix
        self.is_paged = is_paged
        self.total_positions: int | None = None
        self.steps: list[list[int]] = []
        self.slots = 0
        self.before_run: Callable[[], object] = lambda: None
        self.spoils: Callable[[Chunk], bool] = lambda _: False
        self._model = model
        self._script = script
        self._prompt_length = prompt_length
        self._winner = winner
        self._is_closed = False

    @property
    def runs(self) -> list[int]:
        """How many tokens each step had."""
        return [sum(step) for step in self.steps]

    def new_slots(self, count: int, num_positions: int, total_positions: int | None = None) -> tuple[Slot, ...]:
        self.check_open()
        self.total_positions = total_positions
        self.slots += count
        caches = [KVCache(self._model, "float32", num_positions) for _ in range(count)]
        if self.takes_any_mix:
            return self._arena(caches).slots
        return tuple(self._arena([cache]).slots[0] for cache in caches)

    def new_slot(self, num_positions: int) -> Slot:
        return self.new_slots(1, num_positions)[0]

    def step(self, chunks: Sequence[Chunk]) -> list[NDArray[np.float32]]:
        self.check_open()
        self.before_run()
        self.check_open()
        counts = [len(chunk.token_ids) for chunk in chunks]
        assert sum(counts) <= self.max_rows
        assert len({chunk.slot for chunk in chunks}) == len(chunks)
        self.steps.append(counts)
        return [self._run(chunk) for chunk in chunks]

    def check_finite(self, chunk: Chunk, logits: NDArray[np.float32]) -> None:
        if not np.isfinite(logits).all():
            chunk.slot.clear()
            raise OutputInvalid("the logits are not finite")

    def check_open(self) -> None:
        if self._is_closed:
            raise ModelClosed("the model was closed. Open it again.")

    def close(self) -> None:
        self._is_closed = True

    def _arena(self, caches: Sequence[KVCache]) -> Arena:
        return Arena(None, cast("StepInputs", None), caches)

    def _run(self, chunk: Chunk) -> NDArray[np.float32]:
        cache = chunk.slot.cache
        cache.advance(len(chunk.token_ids))
        assert cache.length <= cache.capacity
        logits = np.zeros((chunk.num_logits, self._model.vocab_size), np.float32)
        position = cache.length - self._prompt_length
        if position >= 0:
            logits[-1:, self._script[position % len(self._script)]] = 50
        if self._winner is not None:
            logits[:, self._winner] = 1e9
        if self.spoils(chunk):
            logits[:] = np.nan
        return logits


class Gate:
    """Holds a session's steps from the next one on, until they are let through."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._has_come, self._may_go = threading.Semaphore(0), threading.Semaphore(0)
        session.before_run = self._pass

    def wait(self) -> None:
        """Wait until a step stands here."""
        assert self._has_come.acquire(timeout=30)

    def let(self) -> None:
        """Let one step through."""
        self._may_go.release()

    def open(self) -> None:
        """Let all through from now on."""
        self._session.before_run = lambda: None
        self._may_go.release(100)

    def _pass(self) -> None:
        self._has_come.release()
        assert self._may_go.acquire(timeout=30)


@pytest.fixture
def hold() -> Iterator[Callable[[ScriptedSession], Gate]]:
    """Return a function that makes a gate for a session's steps; it is open after the test."""
    gates: list[Gate] = []

    def make(session: ScriptedSession) -> Gate:
        gates.append(Gate(session))
        return gates[-1]

    yield make
    for gate in gates:
        gate.open()


@pytest.fixture(scope="session")
def new_session(tiny_bundle: Path) -> Callable[..., ScriptedSession]:
    """Return a function that makes a scripted session for the tiny model."""
    model = Bundle.open(tiny_bundle).manifest.model

    def make(
        script: Sequence[int] = (75,),
        prompt_length: int = 0,
        winner: int | None = None,
        *,
        takes_any_mix: bool = True,
        is_paged: bool = False,
    ) -> ScriptedSession:
        return ScriptedSession(model, script, prompt_length, winner, takes_any_mix, is_paged)

    return make


@pytest.fixture
def scripted(
    tiny_bundle: Path, new_session: Callable[..., ScriptedSession]
) -> Iterator[Callable[..., tuple[Engine, ScriptedSession]]]:
    """Return a function that makes an engine which writes given tokens again and again.

    Token 5 + n is byte n; `winner` is a token whose logit is the highest of every row; `by_hand`: only calls of
    `Engine.step` compute anything. Other keywords are limits.
    """
    manifest = Bundle.open(tiny_bundle).manifest
    engines: list[Engine] = []

    def make(
        script: Sequence[int],
        prompt_length: int,
        *,
        prefix: Prefix | None = None,
        winner: int | None = None,
        takes_any_mix: bool = True,
        by_hand: bool = False,
        **limits: Any,
    ) -> tuple[Engine, ScriptedSession]:
        session = new_session(script, prompt_length, winner, takes_any_mix=takes_any_mix)
        engines.append(Engine(cast("Session", session), manifest, prefix, EngineOptions(**limits)))
        if by_hand:
            engines[-1]._driver.wake = lambda: None  # type: ignore[method-assign]
        return engines[-1], session

    yield make
    for engine in engines:
        engine.close()
