"""What several tests of the runtime share: an open tiny model, edited bundles, a scripted engine."""

import hashlib
import json
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
from rubricrm.generation.engine import Engine
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.kv_cache import KVCache
from rubricrm.runtime.manifest import ModelFacts
from rubricrm.runtime.prefix import Prefix
from rubricrm.runtime.providers import DEVICES, Device
from rubricrm.runtime.session import Session

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
        runs: Number of tokens of each run.
        slots: How many slots were made.
        before_run: Called before each run.
    """

    max_rows = 64

    def __init__(self, model: ModelFacts, script: Sequence[int], prompt_length: int, winner: int | None) -> None:
        self.runs: list[int] = []
        self.slots = 0
        self.before_run: Callable[[], object] = lambda: None
        self._model = model
        self._script = script
        self._prompt_length = prompt_length
        self._winner = winner

    def new_slot(self, num_positions: int) -> Any:
        self.slots += 1
        return SimpleNamespace(cache=KVCache(self._model, "float32", num_positions))

    def run(self, slot: Any, token_ids: Sequence[int], rows: int = 1) -> NDArray[np.float32]:
        self.before_run()
        self.runs.append(len(token_ids))
        slot.cache.advance(len(token_ids))
        assert slot.cache.length <= slot.cache.capacity
        logits = np.zeros((rows, self._model.vocab_size), np.float32)
        position = slot.cache.length - self._prompt_length
        if position >= 0:
            logits[-1, self._script[position % len(self._script)]] = 50
        if self._winner is not None:
            logits[:, self._winner] = 1e9
        return logits

    def close(self) -> None:
        pass


@pytest.fixture
def scripted(tiny_bundle: Path) -> Callable[..., tuple[Engine, ScriptedSession]]:
    """Return a function that makes an engine which writes given tokens again and again.

    Token 5 + n is byte n; `winner` is a token whose logit is the highest of every row.
    """
    manifest = Bundle.open(tiny_bundle).manifest

    def make(
        script: Sequence[int], prompt_length: int, *, prefix: Prefix | None = None, winner: int | None = None
    ) -> tuple[Engine, ScriptedSession]:
        session = ScriptedSession(manifest.model, script, prompt_length, winner)
        return Engine(cast("Session", session), manifest, prefix), session

    return make
