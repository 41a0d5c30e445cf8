"""Training: losses, normalisers, one visible loop, models that are saved whole."""

from .checkpoint import CheckpointError
from .distributed import processes
from .fit import fit
from .logs import Callback, CSVLog, JSONLog, Moment, Progress, TensorBoard
from .losses import BandLimitedH1, MaskedMSE, Mixed, RelativeH1, RelativeL2
from .memory import OutOfMemory
from .normalisers import Normaliser, NotTrainingData, normalisers
from .outcome import Diverged, Outcome, Trained
from .saving import BadModel
from .schedules import Constant, Cosine, OneCycle, StepDecay
from .settings import Training
from .surrogate import Signature, Surrogate
from .validation import Validation, evaluate

__all__ = [
    "BadModel",
    "BandLimitedH1",
    "CSVLog",
    "Callback",
    "CheckpointError",
    "Constant",
    "Cosine",
    "Diverged",
    "JSONLog",
    "MaskedMSE",
    "Mixed",
    "Moment",
    "Normaliser",
    "NotTrainingData",
    "OneCycle",
    "OutOfMemory",
    "Outcome",
    "Progress",
    "RelativeH1",
    "RelativeL2",
    "Signature",
    "StepDecay",
    "Surrogate",
    "TensorBoard",
    "Trained",
    "Training",
    "Validation",
    "evaluate",
    "fit",
    "normalisers",
    "processes",
]
