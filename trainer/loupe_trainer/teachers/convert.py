"""Teachers that others trained and published, in the two layouts that are in use.

The paper's authors published none. nelson1425's EfficientAD keeps its teachers as an
`nn.Sequential`, whose keys are positions; anomalib's are a module whose convolutions are numbered.
Both networks are the paper's, and both want ImageNet's normalisation, as ours does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torch import Tensor

from loupe_trainer.errors import WeightsError
from loupe_trainer.published_weights import NOBODY_SAYS, PublishedFile, fetch, tell_whose
from loupe_trainer.teachers.pdn import PdnShape, PdnSize, teacher_network
from loupe_trainer.teachers.weights import Origin, Teacher, kept_teacher, save_teacher
from loupe_trainer.torch_file import fill, read_state_dict

NELSON: Final = (
    "https://raw.githubusercontent.com/nelson1425/EfficientAD/"
    "fcab5146f84ae17597044ad5ddf1656ccf805401/models"
)
ANOMALIB: Final = (
    "https://github.com/open-edge-platform/anomalib/releases/download/"
    "efficientad_pretrained_weights/efficientad_pretrained_weights.zip"
)
# Hashes as public projects pin them. In nelson1425's repository, which is Apache-2.0 as a whole,
# git knows the two files as 631c66c9efa7 and 29db5c54b462. Nobody says under which licence the
# files of anomalib's release are (its issue 3710).
PUBLISHED: Final = (
    PublishedFile(
        name="EfficientAD's small teacher, nelson1425", file="teacher_small.pth",
        url=f"{NELSON}/teacher_small.pth", licence="Apache-2.0",
        sha256="b98a6a139087a0d743783ee59f367f0284af6003eb1a5fed0ce92bd9c0acd337",
    ),
    PublishedFile(
        name="EfficientAD's medium teacher, nelson1425", file="teacher_medium.pth",
        url=f"{NELSON}/teacher_medium.pth", licence="Apache-2.0",
        sha256="a66e1513cbc252e7907531ef4536155e338a48e8edf3a5e6a66498f661414b9c",
    ),
    PublishedFile(
        name="EfficientAD's small teacher, anomalib", file="pretrained_teacher_small.pth",
        url=ANOMALIB, licence=NOBODY_SAYS,
        sha256="a16ded54719674435576aee641152616a640dfc6dc2b83115dab6e226610ae7d",
    ),
    PublishedFile(
        name="EfficientAD's medium teacher, anomalib", file="pretrained_teacher_medium.pth",
        url=ANOMALIB, licence=NOBODY_SAYS,
        sha256="f7356663c8e00ada12ae01fb8c8aad0a1de2f800f8eadf252a46d29bbdfdf718",
    ),
)  # fmt: skip
# Our convolutions in their order, and what the layouts call them.
OURS: Final[Mapping[PdnSize, tuple[str, ...]]] = {
    "S": ("stem.0", "stem.3", "body.0", "last"),
    "M": ("stem.0", "stem.3", "body.0", "body.2", "body.4", "last"),
}
THEIRS: Final[Mapping[PdnSize, tuple[tuple[str, ...], ...]]] = {
    "S": (("0", "3", "6", "8"), ("conv1", "conv2", "conv3", "conv4")),
    "M": (
        ("0", "3", "6", "8", "10", "12"),
        ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6"),
    ),
}


def convert_teacher(file: Path, out: Path, licence: str | None = None) -> Teacher:
    """Read a published patch description network, and write it as a teacher.

    Args:
        file: A PyTorch state dict in either layout, of the paper's S or M.
        out: The safetensors file to write.
        licence: SPDX name, for a file that is not known by its hash.

    Raises:
        WeightsError: Missing, damaged, something else, or nobody says its licence; or `out` is
            there, and is not this teacher.
    """
    if not file.exists():
        raise WeightsError(f"{file}: not there; {fetch(PUBLISHED, file)}")
    theirs = read_state_dict(file)
    size, state = _rename(theirs, file)
    network = teacher_network(PdnShape(size))
    fill(network, state, file, f"the teacher of EfficientAD-{size}")
    whose = tell_whose(file, f"a teacher of EfficientAD-{size}", PUBLISHED, licence)
    origin = Origin(
        name=whose.name, licence=whose.licence, sha256=whose.sha256, corpus="not told in its file"
    )
    return kept_teacher(out, origin) or save_teacher(out, network, origin)


def _rename(theirs: Mapping[str, Tensor], file: Path) -> tuple[PdnSize, dict[str, Tensor]]:
    """Find the layout by its keys, all of them, and give the weights our names."""
    for size, layouts in THEIRS.items():
        for layout in layouts:
            ours = dict(zip(layout, OURS[size], strict=True))
            renamed = {
                f"{layer}.{kind}": f"{ours[layer]}.{kind}"
                for layer in layout
                for kind in ("weight", "bias")
            }
            if renamed.keys() == theirs.keys():
                return size, {renamed[key]: value for key, value in theirs.items()}
    keys = ", ".join(list(theirs)[:4])
    raise WeightsError(
        f"{file}: not a teacher of EfficientAD-S or -M. It holds {keys} …; expected are 0.weight, "
        f"0.bias, 3.weight … (nelson1425) or conv1.weight, conv1.bias … (anomalib)"
    )
