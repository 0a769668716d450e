"""A decoder in this project's own operators, for steps over any mix of rows of several slots (docs/BUNDLE.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from rubricrm_export.checkpoint.architecture import Architecture
from rubricrm_export.graph.builder import CONTRIB, KERNELS, LayerBuilder
from rubricrm_export.graph.decoder_form import named_input
from rubricrm_export.graph.flat_form import FlatForm
from rubricrm_export.graph.kv_storage import KVStorage
from rubricrm_export.graph.node_names import attention_name
from rubricrm_export.graph.onnxruntime_form import OPSET
from rubricrm_export.graph.rotary import rotary_tables


class StepForm(FlatForm):
    """Tokens are flat, and each names its slot and position.

    The cache of all layers is one input that is written in place: no node gives it to the next, where a runtime might
    copy it.
    """

    def __init__(self, architecture: Architecture, kv: KVStorage) -> None:
        """Make the form of one graph; as `OnnxRuntimeForm`."""
        super().__init__(architecture, kv)
        self.opset_imports = {"": OPSET, CONTRIB: 1, KERNELS: 1}
        self._steps: list[ir.Value] = []

    def inputs(self, b: LayerBuilder) -> Sequence[ir.Value]:
        """As `DecoderForm`; `base_slots` and `base_lengths` may be left out."""
        architecture = self._architecture
        slots, positions = (named_input(name, ir.DataType.INT64, ["tokens"]) for name in ("slots", "positions"))
        heads, head_dim = architecture.num_kv_heads, architecture.head_dim
        shape: list[str | int] = [architecture.num_layers, 2, "slots", heads, "capacity", head_dim]
        cache = named_input("kv_cache", self._kv.dtype, shape)
        bases = [_none_by_default(b, name) for name in ("base_slots", "base_lengths")]
        cos, sin = rotary_tables(architecture)
        # In the order of the operator's inputs after the projections.
        self._steps = [cache, slots, positions, b.table("cos_cache", cos), b.table("sin_cache", sin), *bases]
        return [slots, positions, self._rows, cache, *bases]

    def attend(self, b: LayerBuilder, layer: int, hidden: ir.Value) -> tuple[ir.Value, Sequence[ir.Value]]:
        """As `DecoderForm`."""
        architecture, name = self._architecture, attention_name(layer)
        projected, norms = self._projected(b, layer, hidden)
        inputs = [projected, *self._steps, *norms, *self._kv.scale_inputs(b, layer)]
        while inputs[-1] is None:
            inputs.pop()
        output = b.op(
            "Attention",
            inputs,
            f"{name}/Attention",
            domain=KERNELS,
            layer=layer,
            num_heads=architecture.num_heads,
            kv_num_heads=architecture.num_kv_heads,
            epsilon=architecture.rms_norm_eps,
        )
        return output, []


def _none_by_default(b: LayerBuilder, name: str) -> ir.Value:
    value = b.tape.initializer(ir.tensor(np.zeros(0, np.int64), name=name))
    value.shape = ir.Shape([f"{name}_or_0"])
    return value
