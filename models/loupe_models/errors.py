"""What can be wrong with the things the contract describes.

BadInputError
├── FrameError       a frame lacks what is asked of it, or its pieces do not fit together
├── BundleError      a bundle is damaged, foreign, or too new
├── GraphError       an ONNX graph breaks the graph contract
└── ThresholdError   the calibration scores cannot carry the promised threshold
"""

from loupe_calibration.errors import BadInputError


class FrameError(BadInputError):
    """A frame lacks a stream that is asked of it, or its pieces do not fit together."""


class BundleError(BadInputError):
    """A bundle is damaged, foreign, unsafe or written by a newer Loupe."""


class GraphError(BadInputError):
    """An ONNX graph breaks the one graph contract."""


class ThresholdError(BadInputError):
    """The calibration scores cannot carry the promised threshold."""
