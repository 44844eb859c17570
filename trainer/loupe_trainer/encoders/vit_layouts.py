"""Other people's names of a vision transformer's weights, put into ours.

Known are what transformers writes for ViT, Dinov2, Dinov2WithRegisters and DINOv3ViT (in files,
and since its version 5 in memory), and DINO's and DINOv2's own checkpoints, alone or inside a
training's checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import torch
import torch.nn.functional as nnf
from torch import Tensor

from loupe_trainer.encoders.vit_spec import VitSpec

PREFIXES: Final = re.compile(
    r"^(?:module\.|backbone\.)*(?:(?:vit|dinov2|dinov2_with_registers)\.)?"
)
# In this order: a later one sees what an earlier one wrote.
RENAMED: Final = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^(?:model\.)?(?:encoder\.)?layers?\.(\d+)\.", r"blocks.\1."),
        (r"^(?:embeddings\.)?cls_token$", "class_token"),
        (r"^(?:embeddings\.)?(?:pos_embed|position_embeddings)$", "positions"),
        (r"^(?:embeddings\.)?register_tokens$", "registers"),
        (r"^(?:patch_embed\.proj|embeddings\.patch_embeddings(?:\.projection)?)\.", "patch."),
        (r"\.attn\.", ".attention."),
        (r"\.attention\.attention\.(query|key|value)\.", r".attention.\1."),
        (r"\.attention\.output\.dense\.", ".attention.out."),
        (r"\.attention\.(?:o_proj|proj)\.", ".attention.out."),
        (r"\.attention\.q(?:uery|_proj)\.", ".attention.q."),
        (r"\.attention\.k(?:ey|_proj)\.", ".attention.k."),
        (r"\.attention\.v(?:alue|_proj)\.", ".attention.v."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"^layernorm\.", "norm."),
        (r"\.(?:intermediate\.dense|mlp\.fc1|mlp\.up_proj)\.", ".mlp.up."),
        (r"\.(?:output\.dense|mlp\.fc2|mlp\.down_proj|mlp\.weights_out|mlp\.w3)\.", ".mlp.down."),
        (r"\.mlp\.gate_proj\.", ".mlp.gate."),
        (r"\.mlp\.(?:weights_in|w12)\.", ".mlp.gate_up."),
        (r"\.layer_scale([12])\.lambda1$", r".scale\1"),
        (r"\.ls([12])\.gamma$", r".scale\1"),
    )
)
# Of training, of classifiers and of sentences about whole pictures.
UNUSED: Final = re.compile(r"^(?:(?:embeddings\.)?mask_token$|pooler\.|classifier\.|head\.)")


def to_our_names(state: Mapping[str, Tensor], without_bias: str = "") -> dict[str, Tensor]:
    """Rename weights, and leave out those that do not describe patches.

    Args:
        state: As a file has it.
        without_bias: Which of queries, keys and values, `q`, `k` and `v`, the network was built
            without a bias for; theirs become zeros.

    Returns:
        Queries, keys and values in one, as we hold them; a gated MLP's halves apart. Names that
        nobody knows stay as they are.
    """
    ours: dict[str, Tensor] = {}
    for theirs, value in state.items():
        key = PREFIXES.sub("", theirs, count=1)
        if not UNUSED.match(key):
            ours[_rename(key)] = value
    for key in [key for key in ours if key.endswith(".attention.q.weight")]:
        _join_qkv(ours, key.removesuffix("q.weight"), without_bias)
    for key in [key for key in ours if ".mlp.gate_up." in key]:
        both = ours.pop(key)
        ours[key.replace("gate_up", "gate")], ours[key.replace("gate_up", "up")] = both.chunk(2)
    return ours


def at_input_size(positions: Tensor, spec: VitSpec) -> Tensor:
    """Interpolate learnt positions (1, 1 + n, C) of a square grid to the spec's grid.

    Bicubic, as transformers does it; networks with registers were trained with antialiasing.

    Raises:
        ValueError: They are not those of a square grid.
    """
    n = positions.shape[1] - 1
    side = round(max(n, 0) ** 0.5)
    if side * side != n or n == 0:
        raise ValueError(f"{n} positions do not make a square")
    if spec.grid_hw == (side, side):
        return positions
    grid = positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = nnf.interpolate(
        grid, spec.grid_hw, mode="bicubic", align_corners=False, antialias=spec.n_registers > 0
    )
    return torch.cat((positions[:, :1], resized.flatten(2).transpose(1, 2)), dim=1)


def _rename(key: str) -> str:
    for pattern, ours in RENAMED:
        key = pattern.sub(ours, key, count=1)
    return key


def _join_qkv(state: dict[str, Tensor], within: str, without_bias: str) -> None:
    """Put three layers into one, in place, where all of them are there."""
    for part in without_bias:
        weight = state.get(f"{within}{part}.weight")
        if weight is not None:
            state.setdefault(f"{within}{part}.bias", torch.zeros(weight.shape[0]))
    for kind in ("weight", "bias"):
        names = [f"{within}{part}.{kind}" for part in "qkv"]
        if all(name in state for name in names):
            state[f"{within}qkv.{kind}"] = torch.cat([state.pop(name) for name in names])
