"""Names of nodes and values in a decoder's graph: what authors the graph and what looks into it ask here.

A node is called PART/NODE and its value PART/NODE/output.
"""

from __future__ import annotations

from collections.abc import Sequence

FINAL_NORM = "/norm"
HEAD = "/lm_head"


def attention_name(layer: int) -> str:
    """Return the name of a layer's attention."""
    return f"/layers.{layer}/attn"


def mlp_name(layer: int) -> str:
    """Return the name of a layer's feed-forward part."""
    return f"/layers.{layer}/mlp"


def input_norm_name(layer: int) -> str:
    """Return the name of the norm before a layer's attention."""
    return f"/layers.{layer}.input_layernorm"


def projections_name(part: str, names: Sequence[str]) -> str:
    """Return the name of the product of some projections of a part: one, or several that are joined."""
    return f"{part}/{''.join(names)}_proj"


def product_node(name: str) -> str:
    """Return the name of the node that multiplies by a matrix."""
    return f"{name}/MatMul"


def norm_node(name: str) -> str:
    """Return the name of the node that ends a norm which does not add."""
    return f"{name}/RMSNorm"


def sum_value(name: str) -> str:
    """Return the name of the residual stream where a norm adds to it."""
    return f"{name}/residual"


def residual_values(num_layers: int) -> list[str]:
    """Return the names of the residual stream after each layer; before the first it is what `norm_node` reads."""
    return [*(sum_value(input_norm_name(layer)) for layer in range(1, num_layers)), f"{FINAL_NORM}/Add/output"]
