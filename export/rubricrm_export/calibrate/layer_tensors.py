"""The tensors of a decoder layer: their names within it, and which matrices multiply the same inputs."""

from __future__ import annotations

from dataclasses import dataclass

Q_PROJ, K_PROJ, V_PROJ = (f"self_attn.{part}_proj.weight" for part in "qkv")
O_PROJ = "self_attn.o_proj.weight"
GATE_PROJ, UP_PROJ, DOWN_PROJ = (f"mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
INPUT_NORM, POST_NORM = "input_layernorm.weight", "post_attention_layernorm.weight"
Q_NORM, K_NORM = "self_attn.q_norm.weight", "self_attn.k_norm.weight"


@dataclass(frozen=True)
class Group:
    """Matrices that multiply the same inputs, and where these inputs come from.

    Attributes:
        matrices: Their names within the layer.
        before: The norm, or the matrix whose rows make the inputs: factors are folded into it.
    """

    matrices: tuple[str, ...]
    before: str


GROUPS = (
    Group((Q_PROJ, K_PROJ, V_PROJ), INPUT_NORM),
    Group((O_PROJ,), V_PROJ),
    Group((GATE_PROJ, UP_PROJ), POST_NORM),
    Group((DOWN_PROJ,), UP_PROJ),
)
