"""Physics-informed networks: problems, derivatives, training, and the answer with its residual."""

from .conditions import (
    BoundaryResidual,
    Condition,
    Data,
    Dirichlet,
    Fixed,
    Initial,
    Neumann,
    Periodic,
    Robin,
)
from .constraint import Hard
from .errors import (
    BadProblem,
    Contradiction,
    NoDerivative,
    NoPoints,
    NotFinite,
    UnknownName,
    WrongShape,
)
from .fields import Field
from .fit import Fitted, fit
from .networks import (
    MLP,
    Custom,
    Fourier,
    Gaussians,
    ModifiedMLP,
    PeriodicEmbedding,
    PirateNet,
    Separable,
)
from .objective import NotPointwise
from .problem import BoundaryProblem, Unknown
from .run import Run
from .solution import Solution
from .solver import PINN, Phase, Points

__all__ = [
    "MLP",
    "PINN",
    "BadProblem",
    "BoundaryProblem",
    "BoundaryResidual",
    "Condition",
    "Contradiction",
    "Custom",
    "Data",
    "Dirichlet",
    "Field",
    "Fitted",
    "Fixed",
    "Fourier",
    "Gaussians",
    "Hard",
    "Initial",
    "ModifiedMLP",
    "Neumann",
    "NoDerivative",
    "NoPoints",
    "NotFinite",
    "NotPointwise",
    "Periodic",
    "PeriodicEmbedding",
    "Phase",
    "PirateNet",
    "Points",
    "Robin",
    "Run",
    "Separable",
    "Solution",
    "Unknown",
    "UnknownName",
    "WrongShape",
    "fit",
]
