"""A hash of networks' weights: what was made with others is not to be gone on with."""

from __future__ import annotations

import hashlib

from torch import nn


def weights_sha256(*networks: nn.Module) -> str:
    """Hash the names and values of all weights and kept buffers."""
    told = hashlib.sha256()
    for network in networks:
        for name, value in sorted(network.state_dict().items()):
            told.update(name.encode())
            told.update(value.detach().cpu().contiguous().numpy().tobytes())
    return told.hexdigest()
