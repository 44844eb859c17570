"""Feature maps out of whatever network transformers gives back.

Convolutional and hierarchical networks give maps at several strides, of which the last at an eighth
and at a sixteenth are taken, the same ones as of a ResNet. Plain transformers give tokens: those of
the patches, behind a few others, are put back into their grid. Which of the two a network is, and
where its maps lie, is found by showing it two empty pictures.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from loupe_trainer.errors import WeightsError

STRIDES_PX: Final = (8, 16)
PROBE_HW: Final = (224, 448)


@dataclass(frozen=True, slots=True)
class MapsAtStrides:
    """Where a network keeps its maps.

    Attributes:
        field: Of the network's output.
        indices: In that field, one for each of `strides_px`.
    """

    field: str
    indices: tuple[int, ...]
    strides_px: tuple[int, ...]
    channels: tuple[int, ...]

    def features(self, network: nn.Module, picture: Tensor) -> tuple[Tensor, ...]:
        """Give the maps, (B, C_i, H / stride_i, W / stride_i)."""
        maps = getattr(_run(network, picture, hidden=True), self.field)
        return tuple(maps[i] for i in self.indices)


@dataclass(frozen=True, slots=True)
class TokenGrid:
    """How a plain transformer's tokens lie in the picture.

    Attributes:
        n_before: Tokens that are no patches: class, registers. They come first.
    """

    n_before: int
    strides_px: tuple[int]
    channels: tuple[int]

    def features(self, network: nn.Module, picture: Tensor) -> tuple[Tensor]:
        """Give the last layer's tokens, (B, C, H / patch, W / patch).

        The picture is resized to the nearest multiple of the patch, so that patches tile it.
        """
        patch_px = self.strides_px[0]
        rows, columns = (max(1, round(side / patch_px)) for side in picture.shape[2:])
        size_hw = (rows * patch_px, columns * patch_px)
        if tuple(picture.shape[2:]) != size_hw:
            picture = nnf.interpolate(picture, size=size_hw, mode="bilinear", antialias=True)
        tokens = _run(network, picture).last_hidden_state[:, self.n_before :]
        return (tokens.transpose(1, 2).unflatten(2, (rows, columns)),)


def find_maps(network: nn.Module, patch_px: object, where: str) -> MapsAtStrides | TokenGrid:
    """Find out what kind of network this is.

    Args:
        network: As transformers' `AutoModel` gives it, in evaluation mode.
        patch_px: What its config says of patches, if anything.
        where: Named in errors.

    Raises:
        WeightsError: It does not describe pictures of any size by maps or patches.
    """
    try:
        return _find_maps(network, patch_px)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{where}: not a network that describes pictures of any size by feature maps or by "
            f"patches ({reason}); take a ResNet, ConvNeXt, EfficientNet, Swin, ViT or DINOv2"
        ) from error


def _find_maps(network: nn.Module, patch_px: object) -> MapsAtStrides | TokenGrid:
    output = _run(network, torch.zeros(1, 3, *PROBE_HW), hidden=True)
    for field in ("reshaped_hidden_states", "hidden_states"):
        maps = getattr(output, field, None) or ()
        last = {stride: _last_at(maps, stride) for stride in STRIDES_PX}
        found = {stride: i for stride, i in last.items() if i is not None}
        if found:
            channels = tuple(maps[i].shape[1] for i in found.values())
            return MapsAtStrides(field, tuple(found.values()), tuple(found), channels)
    if not isinstance(patch_px, int) or output.last_hidden_state.ndim != 3:
        raise ValueError("no map at a stride of 8 or 16 px, and no patch_size in its config")
    return _find_grid(network, patch_px)


def _last_at(maps: tuple[Tensor, ...], stride_px: int) -> int | None:
    size_hw = tuple(side // stride_px for side in PROBE_HW)
    at = [i for i, m in enumerate(maps) if m.ndim == 4 and tuple(m.shape[2:]) == size_hw]
    return at[-1] if at else None


def _find_grid(network: nn.Module, patch_px: int) -> TokenGrid:
    """Count the tokens of two pictures, which must differ by their patches alone."""
    shapes = []
    for rows, columns in ((16, 16), (8, 24)):
        picture = torch.zeros(1, 3, rows * patch_px, columns * patch_px)
        _, n_tokens, n_channels = _run(network, picture).last_hidden_state.shape
        shapes.append((n_tokens - rows * columns, n_channels))
    if shapes[0] != shapes[1] or shapes[0][0] < 0:
        raise ValueError("its tokens are not one a patch")
    n_before, n_channels = shapes[0]
    return TokenGrid(n_before, (patch_px,), (n_channels,))


@torch.no_grad()
def _run(network: nn.Module, picture: Tensor, *, hidden: bool = False) -> Any:  # noqa: ANN401
    """Call a network; its output's type is its own."""
    more: Mapping[str, bool] = {"output_hidden_states": True} if hidden else {}
    if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
        more = {**more, "interpolate_pos_encoding": True}
    return network(pixel_values=picture, **more)
