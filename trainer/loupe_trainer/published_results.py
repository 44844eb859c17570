"""What others have published on the data sets, to be printed beside what is measured here.

Every table says how far it is confirmed. Numbers known from memory alone are left out: so there are
no rows for MVTec 3D-AD seen in colour, alone or with depth, and there is none of MVTec LOCO AD's
overlap, which is published as sPRO and does not compare with AU-PRO.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from loupe_models.manifest import Mode
from loupe_trainer.recipe import ReaderName


@dataclass(frozen=True, slots=True)
class Figures:
    """Two areas in 0..1; None where nobody has published one.

    Attributes:
        au_pro: Over false-positive rates up to 0.3.
    """

    image_auroc: float | None
    au_pro: float | None


@dataclass(frozen=True, slots=True)
class Published:
    """What one method reached on one data set.

    Attributes:
        reader: The layout that the data set is published in.
        names: Its categories.
        source: Method, where the numbers stand, and how far that is confirmed.
        mean: Over all categories, as published: rows of another source may have another mean.
        rows: By category, where there are any.
    """

    dataset: str
    reader: ReaderName
    modes: tuple[Mode, ...]
    names: tuple[str, ...]
    source: str
    mean: Figures
    rows: Mapping[str, Figures] = field(default_factory=dict)


# Image AUROC and AU-PRO of EfficientAD-S.
_MVTEC_AD = {
    "bottle": Figures(0.9992, 0.9519),
    "cable": Figures(0.9352, 0.8823),
    "capsule": Figures(0.9844, 0.9760),
    "carpet": Figures(0.9944, 0.9183),
    "grid": Figures(0.9975, 0.8932),
    "hazelnut": Figures(0.9943, 0.9484),
    "leather": Figures(1.0, 0.9822),
    "metal_nut": Figures(0.9951, 0.9362),
    "pill": Figures(0.9850, 0.9703),
    "screw": Figures(0.9787, 0.9558),
    "tile": Figures(0.9982, 0.8815),
    "toothbrush": Figures(1.0, 0.9456),
    "transistor": Figures(0.9992, 0.9027),
    "wood": Figures(0.9965, 0.9043),
    "zipper": Figures(0.9963, 0.9436),
}
# Image AUROC and AU-PRO of M3DM, from point clouds alone.
_MVTEC_3D = {
    "bagel": Figures(0.945, 0.948),
    "cable_gland": Figures(0.648, 0.821),
    "carrot": Figures(0.971, 0.977),
    "cookie": Figures(0.983, 0.883),
    "dowel": Figures(0.832, 0.881),
    "foam": Figures(0.766, 0.746),
    "peach": Figures(0.870, 0.954),
    "potato": Figures(0.919, 0.973),
    "rope": Figures(0.869, 0.948),
    "tire": Figures(0.824, 0.936),
}
# fmt: off
_LOCO = ("breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors")
_VISA = ("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2",
         "pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum")
# fmt: on

TABLES = (
    Published(
        dataset="MVTec AD", reader="folder", modes=("rgb",), names=tuple(_MVTEC_AD),
        source="EfficientAD-S. Categories: github.com/nelson1425/EfficientAD, results/*.json, by "
        "the official evaluation code. Mean: the paper's (arXiv 2303.14535), its image AUROC by "
        "the same repository's README, its AU-PRO second-hand.",
        mean=Figures(0.988, 0.931), rows=_MVTEC_AD,
    ),
    Published(
        dataset="MVTec LOCO AD", reader="mvtec_loco", modes=("rgb",), names=_LOCO,
        source="EfficientAD-S, the paper's mean (arXiv 2303.14535) by the README of "
        "github.com/nelson1425/EfficientAD.",
        mean=Figures(0.900, None),
    ),
    Published(
        dataset="VisA", reader="visa", modes=("rgb",), names=_VISA,
        source="EfficientAD-S, the paper's mean (arXiv 2303.14535): image AUROC by the README of "
        "github.com/nelson1425/EfficientAD, AU-PRO second-hand.",
        mean=Figures(0.975, 0.931),
    ),
    Published(
        dataset="MVTec 3D-AD", reader="mvtec_3d", modes=("depth",), names=tuple(_MVTEC_3D),
        source="M3DM on point clouds alone, another method. Categories: a user's rerun of its "
        "code, github.com/nomewang/M3DM issue 29, whose means are 86.3 and 90.7. Mean: the "
        "paper's (arXiv 2303.00601), second-hand, image AUROC only.",
        mean=Figures(0.874, None), rows=_MVTEC_3D,
    ),
    Published(
        dataset="MVTec 3D-AD", reader="mvtec_3d", modes=("rgb",), names=tuple(_MVTEC_3D),
        source="M3DM on colour alone, another method: the paper's mean (arXiv 2303.00601), "
        "second-hand and not checked against the paper, image AUROC only; no categories.",
        mean=Figures(0.850, None),
    ),
    Published(
        dataset="MVTec 3D-AD", reader="mvtec_3d", modes=("rgbd",), names=tuple(_MVTEC_3D),
        source="M3DM on colour and point clouds, another method: the paper's mean (arXiv "
        "2303.00601) by a copy of Papers with Code; no categories.",
        mean=Figures(0.945, 0.964),
    ),
)  # fmt: skip


def find_published(reader: ReaderName, mode: Mode, categories: Collection[str]) -> Published | None:
    """Find the table for a data set; one of one's own in a published layout has none."""
    for table in TABLES:
        if table.reader == reader and mode in table.modes and set(categories) & set(table.names):
            return table
    return None
