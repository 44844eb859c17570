"""What every method is: learn from good parts, give a network that keeps the one graph contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import nn

from loupe_models.manifest import Backbone, Mode
from loupe_models.preprocess import PreprocessSpec, Tensors
from loupe_trainer.progress import Progress
from loupe_trainer.run import RunFolder

Samples = Sequence[Tensors]
"""Good frames, each exactly as `preprocess` made it: `{"rgb": uint8 (1, H, W, 3)}`.

Of several modes they carry the tensors of all of them, in the order of the widest one's spec; a
mode's own graph is given those of its own spec alone, byte for byte the same.
"""


class Detector(nn.Module):
    """What is exported: tensors in, answers out.

    `forward` takes the tensors that the method's preprocessing names, in that order, and gives
    `anomaly_map`, float32 (1, 1, H, W), and `image_score`, float32 (1,).

    Export takes a copy by `half()`, too. In it convolutions and matrix products may be FP16. Inputs
    and answers keep their types, and everything between them that FP16 has not the range or the
    digits for stays float32: normalisation of the input, whatever sees metres, LayerNorm, softmax,
    activations with an exponential or an erf, squares and distances, means over channels, blur,
    fusion and scales, and the constants of all these. A module sees to it itself: by `.float()` in
    `forward` for what it computes, and as `KeepsFloat32` or `StaysFloat32`
    (`loupe_trainer.precision`) for what it holds. The graph's lint refuses the commonest slips;
    what it cannot see, the proof of the FP16 graph measures (decisions/0011).
    """

    def amplify(self, gain: float) -> None:
        """Make its features so many times as large, to see what FP16 would do with foreign ones.

        Features are what its networks hand on to be compared. A detector with networks of its own
        has to say how; where nothing is said nothing changes, and FP16's range is proved on the
        features of the parts at hand alone.
        """


class Method(Protocol):
    """One way of telling defects from good parts, opened for the modes that a recipe asks for.

    Attributes:
        name: As recipes and manifests say it.
        modes: What it can serve, whatever it was asked for.
    """

    name: str
    modes: tuple[Mode, ...]

    @property
    def backbone(self) -> Backbone | None:
        """Whose weights the method learnt from; known after `fit`, None where nobody's."""
        ...

    def preprocess(self, mode: Mode) -> PreprocessSpec:
        """Give a mode's preprocessing, for recipes that name none.

        What two modes both take must come out the same in both. Where the modes asked for take
        more than any one of them does, `rgb` and `depth`, another that the method serves and that
        takes it all, `rgbd`, says what is learnt from.
        """
        ...

    def learnt_from(self) -> PreprocessSpec | None:
        """Give what `fit` looks at where that is more than the modes asked for take together.

        Its tensors are all of theirs, and come out the same. None where it is no more.
        """
        ...

    def fit(
        self, samples: Samples, held_out: Samples, run: RunFolder, progress: Progress
    ) -> Mapping[Mode, Detector]:
        """Learn; continues from the run's checkpoints, and returns at once from a finished run.

        Args:
            samples: Of the parts set aside for fitting.
            held_out: Of the parts that `normalise` will see, good as well: to show how far the
                learning is, never to learn from.
            run: Takes checkpoints and one line of `metrics.jsonl` a log event.
            progress: Shows how far it is.

        Returns:
            A detector for each mode asked for, and no other; maps are not normalised yet.
        """
        ...

    def normalise(self, detectors: Mapping[Mode, Detector], samples: Samples) -> None:
        """Fix the scale of each mode's anomaly map.

        Args:
            detectors: From `fit`; changed in place.
            samples: Good, and of parts that `fit` has not seen.

        Raises:
            ThresholdError: The map hardly varies on these samples, so it has no scale.
        """
        ...
