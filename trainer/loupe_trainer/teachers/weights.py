"""A teacher's weights and where they come from, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from loupe_models.atomic import write_bytes
from loupe_models.checked import Checked
from loupe_models.manifest import Backbone
from loupe_trainer.errors import WeightsError
from loupe_trainer.teachers.pdn import Pdn, PdnShape, PdnSize, teacher_network

METADATA_KEY: Final = "loupe_teacher"


class Origin(Checked):
    """What a teacher learnt from.

    Attributes:
        name: The backbone it was distilled from, how it learnt without one, or who published it.
        licence: Of the weights it was distilled from or is; its own where there were none.
        sha256: Of the file it was distilled from or read from; None where there was none.
        corpus: The pictures it looked at.
        steps: None where its publisher does not say.
        seed: Likewise.
    """

    name: str
    licence: str
    sha256: str | None = None
    corpus: str
    steps: int | None = None
    seed: int | None = None


class _Metadata(Checked):
    version: int = Field(default=1, ge=1, le=1)
    size: PdnSize
    width: float
    origin: Origin
    made_with: str | None = None


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained patch description network, without padding.

    Attributes:
        sha256: Of its file.
        made_with: Hash of the settings of its training; None where it was not trained here.
    """

    network: Pdn
    origin: Origin
    sha256: str
    made_with: str | None = None

    @property
    def backbone(self) -> Backbone | None:
        """Whose weights it learnt from; None for a self-supervised one."""
        if self.origin.sha256 is None:
            return None
        return Backbone(
            name=self.origin.name, licence=self.origin.licence, sha256=self.origin.sha256
        )


def save_teacher(path: Path, network: Pdn, origin: Origin, made_with: str | None = None) -> Teacher:
    """Write a teacher and give it back as `load_teacher` would."""
    shape = network.shape
    metadata = _Metadata(size=shape.size, width=shape.width, origin=origin, made_with=made_with)
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
    write_bytes(path, save(tensors, {METADATA_KEY: json.dumps(metadata.model_dump())}))
    return load_teacher(path)


def load_teacher(path: Path) -> Teacher:
    """Read a teacher.

    Raises:
        WeightsError: Missing, damaged, or something else.
    """
    try:
        content = path.read_bytes()
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if told is None:
            raise WeightsError(f"{path} is not a teacher; make one with `loupe-trainer pretrain`")
        metadata = _Metadata.model_validate_json(told)
        network = teacher_network(PdnShape(metadata.size, metadata.width))
        network.load_state_dict(tensors)
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path}: no such teacher; make one with `loupe-trainer pretrain --out {path}`, or "
            f"leave `teacher` out of the recipe to have one trained on the good parts"
        ) from error
    except (OSError, SafetensorError, ValidationError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: not a whole teacher ({reason}); make it anew") from error
    network.requires_grad_(requires_grad=False).eval()
    sha256 = hashlib.sha256(content).hexdigest()
    return Teacher(network, metadata.origin, sha256, metadata.made_with)


def kept_teacher(path: Path, origin: Origin, made_with: str | None = None) -> Teacher | None:
    """Give the very teacher that is to be written where it is there already.

    Args:
        path: Where it is to be written.
        origin: What it is to say of itself.
        made_with: See `Teacher`.

    Returns:
        None where nothing is there.

    Raises:
        WeightsError: Something else is there, which is not replaced.
    """
    elsewhere = "give --out another place, or remove it"
    if not path.exists():
        return None
    try:
        teacher = load_teacher(path)
    except WeightsError as error:
        raise WeightsError(f"{path}: is there, and is not a whole teacher; {elsewhere}") from error
    if (teacher.origin, teacher.made_with) != (origin, made_with):
        raise WeightsError(f"{path}: is a teacher of other settings; {elsewhere}")
    return teacher
