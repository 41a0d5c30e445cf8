"""PNd of PINNacle: Poisson's equation in a cube of five dimensions."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....meshes.geometry import Box
from ...optim.adam import Adam
from ...optim.ssbroyden import SSBroyden
from ..conditions import Dirichlet
from ..networks.mlp import MLP
from ..problem import BoundaryProblem
from ..sampling import Uniform
from ..solver import PINN, Phase, Points
from .arrays import in_numpy
from .base import FemAnswer, NamedProblem, Reference
from .collocation import evaluate, solve_cube

_TEST = 20_000
_SEED = 0


def exact(points: Tensor) -> Tensor:
    """u = sum over i of sin(pi x_i / 2) at points (M, d); (M,)."""
    return torch.sin(math.pi / 2 * points).sum(dim=1)


def reference(*, d: int = 5) -> Reference:
    """Return the exact solution at 20,000 uniform points."""
    points = np.random.default_rng(_SEED).random((_TEST, d))
    return Reference(points, _exact(points)[:, None], ("u",), 0.0, "exact: a sum of sines")


def fem(n: int = 10, *, d: int = 5) -> FemAnswer:
    """Solve by Chebyshev collocation with n nodes along an axis and fast diagonalisation.

    It is the method for any smooth data on a cube: that the solution is a sum of functions of one coordinate
    is not made use of.

    Raises:
        ValueError: the grid is too large, as with n = 10 from d = 8 on; the message says which n fits.
    """
    begin = perf_counter()
    u = solve_cube(lambda x: -(math.pi**2) / 4 * _exact(x), _exact, d, n)
    seconds = perf_counter() - begin
    method = f"Chebyshev collocation on {n}^{d} nodes, fast diagonalisation"
    return FemAnswer(lambda points: evaluate(u, points)[:, None], (n - 2) ** d, seconds, method)


def make(*, d: int = 5) -> BoundaryProblem:
    """Pose laplace u = -pi^2 / 4 sum over i of sin(pi x_i / 2) in the unit cube, u given on its faces.

    Args:
        d: dimension, at least 1.
    """

    def equation(u: Any, points: Tensor) -> Tensor:
        return u.laplacian + math.pi**2 / 4 * exact(points)

    return BoundaryProblem(Box((0.0,) * d, (1.0,) * d), equation, (Dirichlet(lambda points: exact(points)),))


def recipe() -> PINN:
    """Return the training that does best here."""
    return PINN(
        MLP(width=24, depth=3),
        (
            Phase(Adam(), 200, sampling=Uniform(every=50)),
            Phase(SSBroyden(), 5000, sampling=Uniform(every=250)),
        ),
        Points(domain=1024, boundary=1024),
    )


_exact = in_numpy(exact)

PND = NamedProblem(
    says="Poisson's equation in a cube of five dimensions",
    make=make,
    reference=reference,
    recipe=recipe,
    fem=fem,
    fem_n=10,
    published=2.37e-4,
    goal=1e-4,
    parameters={"d": 5},
)
