"""Trainings by the name of their optimiser, the same for every problem: what recipes are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch

from ..optim.adam import Adam
from ..optim.base import Optimiser
from ..optim.gauss_newton import GaussNewton
from ..optim.lbfgs import LBFGS
from ..optim.multiadam import MultiAdam
from ..optim.soap import SOAP
from ..optim.ssbroyden import SSBroyden
from .networks.mlp import MLP
from .sampling import RAD, Sampling, Uniform
from .solver import PINN, Phase, Points
from .weighting import LRA, NTK, Weighting

START = 500  # steps of Adam before a second-order method


@final
@dataclass(frozen=True)
class Settings:
    """What a training by name can be told.

    Args:
        width, depth: of the network, a plain MLP with tanh.
        domain, boundary, initial: points.
        learning_rate: of first-order methods.
        steps: of the optimiser.
        normalise: map the coordinates to [-1, 1] first; PINNacle does not.
        seed: of weights and points.
    """

    width: int
    depth: int
    domain: int
    boundary: int
    initial: int
    steps: int
    learning_rate: float = 1e-3
    normalise: bool = True
    seed: int = 0


@final
@dataclass(frozen=True)
class Named:
    """A training by name: its default settings, and what is made of them."""

    says: str
    settings: Settings
    optimiser: Callable[[Settings], Optimiser]
    sampling: Sampling
    weighting: Weighting | None = None
    second_order: bool = False

    def pinn(self, settings: Settings, device: str | None = None) -> PINN:
        """Return the solver for some settings."""
        phase = Phase(
            self.optimiser(settings), settings.steps, weighting=self.weighting, sampling=self.sampling
        )
        start = Phase(Adam(settings.learning_rate), START, sampling=Uniform(every=1))
        return PINN(
            MLP(settings.width, settings.depth, normalise=settings.normalise),
            (start, phase) if self.second_order else (phase,),
            Points(settings.domain, settings.boundary, settings.initial),
            dtype=torch.float64 if self.second_order else torch.float32,
            seed=settings.seed,
            device=device,
        )


_LARGE = Settings(width=100, depth=5, domain=512, boundary=128, initial=128, steps=10_000)
_SMALL = Settings(width=32, depth=4, domain=2048, boundary=512, initial=512, steps=3000)
_FEW = Settings(width=32, depth=3, domain=768, boundary=256, initial=256, steps=300)
_EACH = Uniform(every=1)

TRAININGS: Mapping[str, Named] = {
    "adam": Named("Adam, all losses summed", _LARGE, lambda s: Adam(s.learning_rate), _EACH),
    "multiadam": Named(
        "MultiAdam, equations and conditions as groups",
        _LARGE,
        lambda s: MultiAdam(s.learning_rate),
        Uniform(every=1000),
    ),
    "lra": Named(
        "Adam, weights by gradient statistics", _LARGE, lambda s: Adam(s.learning_rate), _EACH, LRA()
    ),
    "ntk": Named(
        "Adam, weights by the neural tangent kernel", _LARGE, lambda s: Adam(s.learning_rate), _EACH, NTK()
    ),
    "soap": Named("SOAP", _LARGE, lambda s: SOAP(s.learning_rate, weight_decay=0.0, frequency=2), _EACH),
    "lbfgs": Named("Adam, then L-BFGS", _SMALL, lambda s: LBFGS(), Uniform(every=1000), None, True),
    "ssbroyden": Named(
        "Adam, then SSBroyden", _SMALL, lambda s: SSBroyden(), RAD(every=500, pool=None), None, True
    ),
    "gauss-newton": Named(
        "Adam, then Gauss-Newton", _FEW, lambda s: GaussNewton(), Uniform(every=20), None, True
    ),
}
