"""Vision transformers that others publish: where they are, and whose they are.

Nothing is downloaded here. DINO's authors tell no hash of their files, and the hub shows one on
each file's page; so a file of theirs is known by its name only, and its own hash is what goes into
the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loupe_models.bundle import file_sha256
from loupe_trainer.errors import WeightsError
from loupe_trainer.published_weights import PLACE, SAY_LICENCE, Whose

DINO_URL: Final = "https://dl.fbaipublicfiles.com/dino"
HUB: Final = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class PublishedVit:
    """One network, in a folder of the Hugging Face hub and perhaps in a file of its authors.

    Attributes:
        name: What it is.
        repository: On the hub.
        licence: SPDX name, or that which the hub tells.
        file: Of its authors; None where they have none that is read here.
    """

    name: str
    repository: str
    licence: str
    file: str | None = None

    def how_to_fetch(self, place: Path | None = None) -> str:
        """Say what to fetch, from where, where the hash is told, and where to put it."""
        folder = place or PLACE / self.repository.rpartition("/")[2]
        return (
            f"`hf download {self.repository} --local-dir {folder}` ({HUB}/{self.repository}; the "
            f"page of its model.safetensors shows the sha256)"
        )

    def how_to_fetch_file(self, place: Path | None = None) -> str:
        """Say the same of its authors' file."""
        stem = (self.file or "").removesuffix(".pth")
        return (
            f"{DINO_URL}/{stem}/{self.file} (its publisher tells no sha256) to "
            f"{place or PLACE / (self.file or '')}"
        )


PUBLISHED: Final = (
    PublishedVit(
        "DINO ViT-B/8, what CMDIAD uses", "facebook/dino-vitb8", "Apache-2.0",
        "dino_vitbase8_pretrain.pth",
    ),
    PublishedVit(
        "DINO ViT-S/8", "facebook/dino-vits8", "Apache-2.0", "dino_deitsmall8_pretrain.pth"
    ),
    PublishedVit(
        "DINO ViT-B/16", "facebook/dino-vitb16", "Apache-2.0", "dino_vitbase16_pretrain.pth"
    ),
    PublishedVit(
        "DINO ViT-S/16", "facebook/dino-vits16", "Apache-2.0", "dino_deitsmall16_pretrain.pth"
    ),
    PublishedVit("DINOv2 ViT-S/14", "facebook/dinov2-small", "Apache-2.0"),
    PublishedVit(
        "DINOv2 ViT-S/14 with registers", "facebook/dinov2-with-registers-small", "Apache-2.0"
    ),
    PublishedVit(
        "DINOv3 ViT-S/16 (its licence has to be accepted on that page)",
        "facebook/dinov3-vits16-pretrain-lvd1689m", "dinov3-license",
    ),
)  # fmt: skip
FIRST: Final = PUBLISHED[0]


def whose_file(file: Path, licence: str | None = None) -> Whose:
    """Tell whose weights a file of DINO's own layout holds; the user's word on it wins.

    Raises:
        WeightsError: The file's name is not a published one, and nobody says the licence.
    """
    known = next((vit for vit in PUBLISHED if vit.file == file.name), None)
    told = licence or (known.licence if known else None)
    if told is None:
        names = ", ".join(vit.file for vit in PUBLISHED if vit.file)
        raise WeightsError(
            f"{file}: its name is not that of a published file ({names}); if it is one of them, "
            f"give it its name back; if these are other weights, {SAY_LICENCE}"
        )
    name = f"{known.name.partition(',')[0]}, {file.name}" if known else f"ViT, {file.name}"
    return Whose(name, told, file_sha256(file))


def fetch_vit(place: Path | None = None) -> str:
    """Say what to fetch for a place that lacks it; the place's name may say which."""
    if place is not None and place.suffix in (".pth", ".pt"):
        meant = next((vit for vit in PUBLISHED if vit.file == place.name), FIRST)
        return f"fetch {meant.how_to_fetch_file(place)}"
    meant = next((v for v in PUBLISHED if place and v.repository.endswith(f"/{place.name}")), FIRST)
    return f"fetch it with {meant.how_to_fetch(place)}"


def fetch_lines() -> list[str]:
    """Say of every published one how to have it, a line each."""
    lines = []
    for vit in PUBLISHED:
        also = f"; or {vit.how_to_fetch_file()}" if vit.file else ""
        lines.append(f"{vit.name}, {vit.licence}: {vit.how_to_fetch()}{also}")
    return lines
