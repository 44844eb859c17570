"""What every method is: learn from good parts, give a network that keeps the one graph contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import nn

from loupe_models.manifest import Backbone, Mode
from loupe_models.preprocess import PreprocessSpec, Tensors
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder

Samples = Sequence[Tensors]
"""Good frames, each exactly as `preprocess` made it: `{"rgb": uint8 (1, H, W, 3)}`."""


class Detector(nn.Module):
    """What is exported: tensors in, answers out.

    `forward` takes the tensors that the method's preprocessing names, in that order, and gives
    `anomaly_map`, float32 (1, 1, H, W), and `image_score`, float32 (1,).
    """


class Method(Protocol):
    """One way of telling defects from good parts.

    Attributes:
        name: As recipes and manifests say it.
        modes: What it can serve.
    """

    name: str
    modes: tuple[Mode, ...]

    @property
    def backbone(self) -> Backbone | None:
        """Whose weights the method learnt from; known after `fit`, None where nobody's."""
        ...

    def preprocess(self) -> PreprocessSpec:
        """Give the preprocessing for recipes that name none."""
        ...

    def fit(
        self, samples: Samples, held_out: Samples, run: RunFolder, progress: Progress
    ) -> Detector:
        """Learn; continues from the run's checkpoints, and returns at once from a finished run.

        Args:
            samples: Of the parts set aside for fitting.
            held_out: Of the parts that `normalise` will see, good as well: to show how far the
                learning is, never to learn from.
            run: Takes checkpoints and one line of `metrics.jsonl` a log event.
            progress: Shows how far it is.

        Returns:
            A detector whose map is not normalised yet.
        """
        ...

    def normalise(self, detector: Detector, samples: Samples) -> None:
        """Fix the scale of the anomaly map.

        Args:
            detector: From `fit`; changed in place.
            samples: Good, and of parts that `fit` has not seen.

        Raises:
            ThresholdError: The map hardly varies on these samples, so it has no scale.
        """
        ...
