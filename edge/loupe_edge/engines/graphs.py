"""Which file of a bundle an engine runs."""

from __future__ import annotations

from pathlib import Path

from loupe_models.bundle import Bundle
from loupe_models.errors import BundleError


def graph_of(bundle: Bundle, mode: str, variant: str) -> Path:
    """Give the graph of one mode and variant.

    Args:
        bundle: Verified.
        mode: One of those it serves.
        variant: Precision of the graph; `fp32` is the reference.

    Raises:
        BundleError: The bundle lacks the mode or the variant.
    """
    offered = {str(name): spec for name, spec in bundle.mode(mode).variants.items()}
    if variant not in offered:
        raise BundleError(
            f"{bundle.path}: mode {mode} has variants {', '.join(offered)}, not {variant!r}"
        )
    return bundle.file(offered[variant].file)
