"""HNd of PINNacle: the heat equation in a ball of five dimensions."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....meshes.geometry import Ball
from ...optim.adam import Adam
from ...optim.ssbroyden import SSBroyden
from ..conditions import Initial, Neumann
from ..networks.mlp import MLP
from ..problem import BoundaryProblem
from ..sampling import Uniform
from ..solver import PINN, Phase, Points
from .ball import BallHeat
from .base import FemAnswer, Floats, NamedProblem, Reference

_TEST = 20_000
_SEED = 0


def exact(points: Floats) -> Floats:
    """u = exp(|x|^2 / 2 + t) at points (M, d + 1), time last; (M,)."""
    return np.exp((points[:, :-1] ** 2).sum(axis=1) / 2 + points[:, -1])


def reference(*, d: int = 5) -> Reference:
    """Return the exact solution at 20,000 uniform points of ball and time."""
    generator = np.random.default_rng(_SEED)
    space = Ball((0.0,) * d, 1.0).sample(_TEST, generator)
    points = np.column_stack([space, generator.random(_TEST)])
    return Reference(points, exact(points)[:, None], ("u",), 0.0, "exact: exp(|x|^2 / 2 + t)")


def fem(n: int = 6, *, d: int = 5) -> FemAnswer:
    """Solve by the Galerkin method with all polynomials of degree n in space, eight Radau stages in time.

    That the data depend on |x| alone, which would leave one dimension, is not made use of.
    """
    begin = perf_counter()

    def at(x: Floats, t: float) -> Floats:
        return np.exp((x * x).sum(axis=1) / 2 + t)

    method = BallHeat(d, n)
    u = method.solve(lambda x, t: -(x * x).sum(axis=1) * at(x, t) / d, at, lambda x: at(x, 0.0))
    seconds = perf_counter() - begin
    says = f"Galerkin with the polynomials of degree {n}, Radau's collocation with {method.stages} stages"
    return FemAnswer(lambda points: u.at(points)[:, None], len(u.powers) * method.stages, seconds, says)


def make(*, d: int = 5) -> BoundaryProblem:
    """Pose u_t = laplace u / d + f in the unit ball, 0 < t < 1, f = -|x|^2 exp(|x|^2 / 2 + t) / d.

    u = exp(|x|^2 / 2) at the start; on the sphere the solution has u.n = |x| u, so the datum is exp(1/2 + t).

    Args:
        d: dimension, at least 2; PINNacle has 5, and 4 to 10 in its sweep.
    """

    def growth(points: Tensor) -> Tensor:
        return torch.exp(points[:, :-1].square().sum(dim=1) / 2 + points[:, -1])

    def equation(u: Any, points: Tensor) -> Tensor:
        return u.t - u.laplacian / d + points[:, :-1].square().sum(dim=1) * growth(points) / d

    conditions = (Neumann(lambda t: torch.exp(0.5 + t)), Initial(growth))
    return BoundaryProblem(Ball((0.0,) * d, 1.0), equation, conditions, time=(0.0, 1.0))


def recipe() -> PINN:
    """Return the training that does best here."""
    return PINN(
        MLP(width=24, depth=3),
        (
            Phase(Adam(), 200, sampling=Uniform(every=50)),
            Phase(SSBroyden(), 5000, sampling=Uniform(every=250)),
        ),
        Points(domain=1024, boundary=512, initial=512),
    )


HND = NamedProblem(
    says="the heat equation in a ball of five dimensions",
    make=make,
    reference=reference,
    recipe=recipe,
    fem=fem,
    fem_n=6,
    published=1.19e-4,
    goal=1e-4,
    parameters={"d": 5},
)
