"""A vision transformer of ours in one safetensors file, with all that it needs to be made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from loupe_models.atomic import write_bytes
from loupe_models.manifest import Backbone
from loupe_trainer.encoders.vit import Vit
from loupe_trainer.encoders.vit_spec import VitSpec
from loupe_trainer.errors import WeightsError

METADATA_KEY: Final = "loupe_vit"


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    spec: VitSpec
    origin: Backbone | None


def save_vit(path: Path, vit: Vit) -> None:
    """Write a vision transformer, whole or not at all."""
    metadata = _Metadata(spec=vit.spec, origin=vit.origin)
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in vit.state_dict().items()}
    write_bytes(path, save(tensors, {METADATA_KEY: json.dumps(metadata.model_dump())}))


def load_vit(path: Path) -> Vit:
    """Read what `save_vit` wrote, frozen.

    Raises:
        WeightsError: Missing, damaged, or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if told is None:
            raise WeightsError(f"{path}: not a vision transformer that Loupe wrote")
        metadata = _Metadata.model_validate_json(told)
        vit = Vit(metadata.spec, metadata.origin)
        vit.load_state_dict(tensors)
    except (OSError, SafetensorError, ValidationError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise WeightsError(f"{path}: not a whole vision transformer ({reason})") from error
    vit.requires_grad_(requires_grad=False)
    return vit.eval()
