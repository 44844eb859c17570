"""What can go wrong between a recipe and a bundle.

BadInputError
├── RecipeError      a recipe is missing, malformed, or asks for what does not exist
├── DataError        the data is missing, unreadable, or not what it is said to be
├── SplitError       the parts cannot be divided as the recipe asks
├── RunError         a run folder belongs to another run, or lacks what is asked of it
└── WeightsError     a teacher's or backbone's weights are missing, foreign or damaged
FaultError
├── TrainingError    training went wrong: a loss is not finite, a network is constant
├── ParityError      the exported graph does not say what the network says
└── HalfError        a graph in FP16 cannot be trusted, and is not shipped
LoupeError
└── StoppedError     somebody stopped what continues when it is asked for again
"""

from loupe_calibration.errors import BadInputError, FaultError, LoupeError


class RecipeError(BadInputError):
    """A recipe is missing, malformed, or asks for what does not exist."""


class DataError(BadInputError):
    """The data is missing, unreadable, or not what it is said to be."""


class SplitError(BadInputError):
    """The parts cannot be divided as the recipe asks."""


class RunError(BadInputError):
    """A run folder belongs to another run, or lacks what is asked of it."""


class WeightsError(BadInputError):
    """A teacher's or backbone's weights are missing, foreign or damaged."""


class TrainingError(FaultError):
    """Training went wrong: a loss is not finite, or a network is constant."""


class ParityError(FaultError):
    """The exported graph does not say what the network says."""


class HalfError(FaultError):
    """A graph in FP16 cannot be trusted; the bundle is made without it, and says why."""


class StoppedError(LoupeError):
    """Somebody stopped what continues when it is asked for again."""

    exit_status = 130
