"""A backbone in a folder as the Hugging Face hub lays it out, through transformers.

Read are `config.json`, `model.safetensors`, `preprocessor_config.json` (how its pictures were
normalised) and, of `README.md`, the licence. Nothing pickled, and no code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from loupe_models.bundle import file_sha256
from loupe_trainer.backbones.base import Backbone
from loupe_trainer.backbones.feature_maps import MapsAtStrides, TokenGrid, find_maps
from loupe_trainer.errors import WeightsError
from loupe_trainer.published_weights import SAY_LICENCE, Whose
from loupe_trainer.recipe import first_reason
from loupe_trainer.teachers.normalise import Normalise

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
PREPROCESSING: Final = "preprocessor_config.json"
POOLER: Final = "pooler."  # often missing in a file, and of no use here

Channels = tuple[float, float, float]


class _Preprocessing(BaseModel):
    """What the folder says of how its pictures were normalised; sizes are ours to choose."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    do_rescale: bool = True
    rescale_factor: float = Field(default=1 / 255, gt=0)
    rescale_offset: Literal[False] = False
    do_normalize: bool = True
    image_mean: Channels
    image_std: Channels
    include_top: bool = False

    def normalise(self) -> Normalise:
        """Give the same normalisation of pictures in 0..255."""
        scale = 255 * (self.rescale_factor if self.do_rescale else 1.0)
        mean = self.image_mean if self.do_normalize else (0.0, 0.0, 0.0)
        # EfficientNet's pictures are divided by the spread a second time.
        times = int(self.do_normalize) + int(self.include_top)
        return Normalise([m / scale for m in mean], [s**times / scale for s in self.image_std])


class HuggingFace(Backbone):
    """A network of transformers, seen as feature maps."""

    def __init__(
        self, network: nn.Module, maps: MapsAtStrides | TokenGrid, normalise: Normalise,
        whose: Whose,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.normalise = network, normalise
        self.whose, self._maps = whose, maps
        self.strides_px, self.channels = maps.strides_px, maps.channels

    def features(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Give one map for each of `strides_px`."""
        return self._maps.features(self.network, self.normalise(picture))


def load_hugging_face(folder: Path, licence: str | None = None) -> HuggingFace:
    """Read a folder.

    Args:
        folder: What `hf download` or `save_pretrained` wrote.
        licence: SPDX name; None takes the one that README.md tells.

    Raises:
        WeightsError: A file is missing, damaged, or not of a network that gives feature maps; or
            nobody says the licence.
    """
    check_files(folder, fetch_hugging_face(folder))
    normalise = read_normalisation(folder / PREPROCESSING)
    network = _load_network(folder)
    maps = find_maps(network, getattr(network.config, "patch_size", None), str(folder))
    return HuggingFace(network, maps, normalise, whose_folder(folder, licence))


def fetch_hugging_face(place: Path | None = None) -> str:
    """Say what to fetch."""
    where = place or Path("weights/dinov2-small")
    return (
        f"fetch it with `hf download facebook/dinov2-small --local-dir {where}` (or any other "
        f"vision model's name); the page of its {WEIGHTS} on huggingface.co shows the sha256"
    )


def check_files(folder: Path, how_to_fetch: str) -> None:
    """Make sure that a folder holds what is read of it.

    Raises:
        WeightsError: It does not; the message ends with `how_to_fetch`.
    """
    if not folder.is_dir():
        raise WeightsError(f"{folder}: not a folder; give the one that holds {WEIGHTS}")
    if not (folder / WEIGHTS).is_file() and any(folder.glob("*.bin")):
        raise WeightsError(
            f"{folder}: holds pickled weights (.bin) only, which are never loaded here. Fetch a "
            f'revision with {WEIGHTS}, or, where you trust it, write one: `python -c "import '
            f"transformers as t; t.AutoModel.from_pretrained('{folder}', use_safetensors=False)"
            f".save_pretrained('NEW')\"`, and copy {PREPROCESSING} and README.md there"
        )
    for name in (CONFIG, WEIGHTS, PREPROCESSING):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder}: no {name} in it; the folder must hold what the hub holds: "
                f"{how_to_fetch}"
            )


def read_normalisation(file: Path) -> Normalise:
    """Read how a folder's pictures were normalised.

    Raises:
        WeightsError: It does not say.
    """
    try:
        return _Preprocessing.model_validate_json(file.read_bytes()).normalise()
    except OSError as error:
        raise WeightsError(f"{file}: does not say how to normalise pictures ({error})") from error
    except ValidationError as error:
        raise WeightsError(
            f"{first_reason(error, str(file))}; without it nobody knows how the network wants its "
            f"pictures normalised: fetch the file anew"
        ) from error


def _load_network(folder: Path) -> Any:  # noqa: ANN401
    """Load the network, whose class is known when the folder is read."""
    from transformers import AutoModel  # takes two seconds
    from transformers.utils import logging

    # What it would warn of is checked below.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        network, told = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            dtype=torch.float32, output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{folder}: transformers cannot load it ({reason})") from error
    missing = sorted(key for key in told["missing_keys"] if not key.startswith(POOLER))
    if missing or told["mismatched_keys"]:
        first = missing[0] if missing else sorted(told["mismatched_keys"])[0][0]
        raise WeightsError(
            f"{folder}: {WEIGHTS} does not hold {first} as config.json asks for it; fetch both anew"
        )
    network.requires_grad_(requires_grad=False)
    return network.eval()


def whose_folder(folder: Path, licence: str | None = None) -> Whose:
    """Tell whose weights a folder holds; `licence` is the user's word on it, which wins.

    Raises:
        WeightsError: Nobody says the licence.
    """
    told = licence or _read_licence(folder / "README.md")
    if told is None:
        raise WeightsError(
            f"{folder}: its README.md tells no licence of these weights; {SAY_LICENCE}"
        )
    return Whose(_name(folder.absolute()), told, file_sha256(folder / WEIGHTS))


def _read_licence(readme: Path) -> str | None:
    """Read it from the front matter that the hub asks for; `other` has a name of its own."""
    if not readme.is_file():
        return None
    text = readme.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"\A---\n(.*?)\n---", text, re.DOTALL)
    lines = re.findall(r"^(license|license_name):[ \t]*(\S+)", front[1] if front else "", re.M)
    told: dict[str, str] = dict(lines)
    licence = told.get("license", "").strip("\"'")
    if licence in ("", "other", "unknown"):
        return told.get("license_name")
    return licence


def _name(folder: Path) -> str:
    """Give the hub's name where the folder is of its cache, else the folder's."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return f"{repository.removeprefix('models--').replace('--', '/')} {folder.name[:12]}"
    return folder.name
