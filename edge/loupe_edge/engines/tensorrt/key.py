"""What a plan depends on: a plan made under any other circumstances is another plan."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

RELEASE = Path("etc/nv_tegra_release")
DRIVERS = (Path("proc/driver/nvidia/version"), Path("sys/module/nvidia/version"))


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A device and the software that compiles for it.

    Attributes:
        tensorrt: Version of TensorRT.
        gpu: Name of the GPU.
        compute_capability: Of the GPU, such as `8.7`.
        driver: CUDA version of the driver, and the driver's own where it tells.
        jetpack: Jetson Linux release that JetPack installed, such as `R36.4.3`; empty elsewhere.
    """

    tensorrt: str
    gpu: str
    compute_capability: str
    driver: str
    jetpack: str

    @property
    def digest(self) -> str:
        """A file name that stands for all of it."""
        return _digest(asdict(self))


@dataclass(frozen=True, slots=True)
class PlanKey:
    """One plan.

    Attributes:
        onnx_sha256: Of the graph that it is built from.
        flags: How it is built.
    """

    onnx_sha256: str
    device: DeviceKey
    flags: str

    @property
    def digest(self) -> str:
        """A file name that stands for all of it."""
        return _digest(self.document)

    @property
    def document(self) -> dict[str, object]:
        """Everything in it, ready for JSON."""
        return asdict(self)


def jetson_release(root: Path = Path("/")) -> str:
    """Give the Jetson Linux release, such as `R36.4.3`; empty where this is no Jetson.

    Args:
        root: Where the file system begins.
    """
    try:
        line = (root / RELEASE).read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except OSError:
        return ""
    major = line.partition("R")[2].partition(" ")[0]
    minor = line.partition("REVISION:")[2].partition(",")[0].strip()
    return f"R{major}.{minor}" if major and minor else line.strip("# ")


def driver_release(root: Path = Path("/")) -> str:
    """Give the kernel driver's own account of its version; empty where it gives none."""
    for place in DRIVERS:
        try:
            return (root / place).read_text(encoding="utf-8", errors="replace").split("\n")[0]
        except OSError:
            continue
    return ""


def _digest(document: object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
