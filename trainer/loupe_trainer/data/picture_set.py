"""Items whose pixels are picture files."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loupe_calibration.transform import Transform
from loupe_edge.inspector import DEFAULT_MIN_DEPTH_VALID
from loupe_edge.pictures import list_pictures, read_mask, read_rgb
from loupe_models.frame import Frame, Label
from loupe_trainer.data.item import Item
from loupe_trainer.errors import DataError


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Pictures in folders; nothing is known of the belt under them."""

    items: Sequence[Item]

    @property
    def files(self) -> Mapping[str, Path]:
        """Pictures by their items' keys, and masks."""
        masks: dict[str, Path] = {}
        for item in self.items:
            if item.mask is not None and item.mask.is_dir():
                masks |= {f"{item.key} mask {f.name}": f for f in list_pictures(item.mask)}
            elif item.mask is not None:
                masks[f"{item.key} mask"] = item.mask
        return {item.key: item.source for item in self.items} | masks

    @property
    def belt_from_camera(self) -> Transform | None:
        """Unknown."""
        return None

    @property
    def min_depth_valid(self) -> float:
        """As at a station; there is no depth here."""
        return DEFAULT_MIN_DEPTH_VALID

    def frames(self, items: Sequence[Item]) -> Generator[tuple[Item, Frame], None, None]:
        """Read the pictures one by one."""
        number = {item.key: i for i, item in enumerate(self.items)}
        for item in sorted(items, key=lambda i: number[i.key]):
            label = Label(
                source=str(item.source), part_id=item.part_id, kind=item.kind, defect=item.defect
            )
            rgb = read_rgb(item.source)
            yield item, Frame.from_image(rgb, frame_id=number[item.key], label=label)

    def mask(self, item: Item) -> npt.NDArray[np.bool_] | None:
        """Read a mask; an empty one means that nobody drew it.

        Raises:
            BadInputError: Not a picture, or not of its picture's size.
        """
        if item.mask is None:
            return None
        mask = read_mask(item.mask, item.mask_cut)
        size = read_rgb(item.source).shape[:2]
        if mask.shape != size:
            raise DataError(
                f"{item.mask}: the mask is {mask.shape[1]}x{mask.shape[0]}, its picture "
                f"{size[1]}x{size[0]}; copy the data again"
            )
        return mask if mask.any() else None
