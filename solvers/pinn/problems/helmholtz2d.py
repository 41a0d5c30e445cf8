"""Helmholtz2D of PINNacle: a standing wave in a square."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....meshes.geometry import Rectangle
from ....meshes.grid import Grid
from ...fem.problems import Helmholtz
from ...fem.scikit import ScikitFem
from ...optim.adam import Adam
from ...optim.ssbroyden import SSBroyden
from ..conditions import Dirichlet
from ..constraint import Hard
from ..networks.mlp import MLP
from ..problem import BoundaryProblem
from ..sampling import Uniform
from ..solver import PINN, Phase, Points
from .arrays import in_numpy
from .base import FemAnswer, Floats, NamedProblem, Reference

K = 1.0

_TEST = 2500
_SEED = 0


def exact(x: Tensor, y: Tensor, waves: int = 4) -> Tensor:
    """u = sin(a pi x) sin(a pi y)."""
    return torch.sin(waves * math.pi * x) * torch.sin(waves * math.pi * y)


def source(x: Tensor, y: Tensor, waves: int = 4) -> Tensor:
    """f = laplace u + k^2 u."""
    return (K * K - 2 * (waves * math.pi) ** 2) * exact(x, y, waves)


def reference(*, waves: int = 4, hard: bool = True) -> Reference:
    """Return the exact solution at 2500 uniform points."""
    points = np.random.default_rng(_SEED).random((_TEST, 2))
    values = in_numpy(exact)(*points.T, waves=waves)
    return Reference(points, values[:, None], ("u",), 0.0, "exact: a product of sines")


def fem(n: int = 64, *, waves: int = 4, hard: bool = True) -> FemAnswer:
    """Solve by cubic triangles, n x n squares cut in two."""
    begin = perf_counter()

    def minus_source(x: Floats) -> Floats:
        return -in_numpy(source)(*x.T, waves=waves)

    grid = Grid((n - 1, n - 1))
    solution = ScikitFem().solve(Helmholtz(grid, source=minus_source, wavenumber=K, degree=3))
    seconds = perf_counter() - begin
    method = f"cubic triangles on {n} x {n} squares, sparse LU"
    return FemAnswer(lambda points: solution.at(points)[:, None], len(solution.value), seconds, method)


def make(*, waves: int = 4, hard: bool = True) -> BoundaryProblem:
    """Pose laplace u + u = f in the unit square, u = 0 on its boundary.

    In both forms the equation is divided by 2 (waves pi)^2, 315.8 for 4 waves. PINNacle trains it undivided,
    with a squared residual that is then 99,747 times as large beside that of the conditions.

    Args:
        waves: half waves along a side, an integer.
        hard: build the boundary values into the form of u, instead of training for them as PINNacle does;
            False has its conditions in the loss, not its weight of the equation.
    """
    size = 2 * (waves * math.pi) ** 2

    def equation(u: Any, x: Tensor, y: Tensor) -> Tensor:
        return (u.laplacian + K * K * u - source(x, y, waves)) / size

    def vanishing(x: Tensor, y: Tensor) -> Tensor:
        return 16 * x * (1 - x) * y * (1 - y)

    domain = Rectangle((0.0, 0.0), (1.0, 1.0))
    if hard:
        return BoundaryProblem(domain, equation, (), constraint={"u": Hard(factor=vanishing)})
    return BoundaryProblem(domain, equation, (Dirichlet(0.0),))


def recipe() -> PINN:
    """Return the training that does best here."""
    return PINN(
        MLP(width=32, depth=3, activation="sin"),
        (
            Phase(Adam(), 200, sampling=Uniform(every=50)),
            Phase(SSBroyden(), 5000, sampling=Uniform(every=250)),
        ),
        Points(domain=1500),
    )


HELMHOLTZ2D = NamedProblem(
    says="a standing wave of Helmholtz' equation in a square",
    make=make,
    reference=reference,
    recipe=recipe,
    fem=fem,
    fem_n=64,
    published=None,
    goal=1e-4,
    parameters={"waves": 4, "hard": True},
)
