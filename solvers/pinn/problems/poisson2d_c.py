"""Poisson2d-C of PINNacle: Laplace's equation around four discs."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from torch import Tensor

from ...optim.adam import Adam
from ...optim.ssbroyden import SSBroyden
from ..conditions import Dirichlet
from ..networks.mlp import MLP
from ..problem import BoundaryProblem
from ..sampling import RAD, Uniform
from ..solver import PINN, Phase, Points
from .base import FemAnswer, NamedProblem, Reference, reference_file
from .files import read_comsol
from .punctured import Punctured

_FILE = "poisson1_cg_data.dat"
_FLOOR = 2.8e-5  # against quadratic triangles of size 1/160, which differ by 1.5e-5 from those of 1/80


def plate(scale: float = 1.0) -> Punctured:
    """Return the square of side `scale` without four discs of radius scale / 10, and the values on it."""
    circles = tuple((0.3 * i * scale, 0.3 * j * scale, 0.1 * scale) for i in (-1, 1) for j in (-1, 1))
    return Punctured(scale / 2, circles, outer=1.0, inner=0.0)


def reference(*, scale: float = 1.0, hard: bool = True) -> Reference:
    """Return the values of the benchmark on 1246 nodes.

    Raises:
        NoReference: the file is not there.
    """
    table = read_comsol(reference_file(_FILE))
    return Reference(scale * table.points, table.values, ("u",), _FLOOR, f"PINNacle, {_FILE} (COMSOL)")


def fem(n: int = 80, *, scale: float = 1.0, hard: bool = True) -> FemAnswer:
    """Solve by quadratic triangles with curved edges of length scale / n."""
    begin = perf_counter()
    at, unknowns = plate(scale).solve(scale / n, lambda x, y: np.zeros_like(x))
    method = f"quadratic triangles with curved edges of 1/{n} of the side, sparse LU"
    return FemAnswer(at, unknowns, perf_counter() - begin, method)


def make(*, scale: float = 1.0, hard: bool = True) -> BoundaryProblem:
    """Pose laplace u = 0 in a square without four discs, u = 1 on the square and 0 on the circles.

    Args:
        scale: side of the square; everything scales with it. PINNacle has 1, and 2 to 16 in its sweep.
        hard: build the boundary values into the form of u, and scale the equation by the radius of the discs;
            else as PINNacle has it: laplace u alone, boundary values in the loss.
    """

    def equation(u: Any) -> Tensor:
        return factor * u.laplacian

    shape = plate(scale)
    factor = (scale / 10) ** 2 if hard else 1.0  # the radius is the length over which u changes
    if hard:
        return BoundaryProblem(shape.domain, equation, (), constraint={"u": shape.form()})
    conditions = (Dirichlet(shape.outer, on=shape.square), Dirichlet(shape.inner, on=shape.discs))
    return BoundaryProblem(shape.domain, equation, conditions)


def recipe() -> PINN:
    """Return the training that does best here."""
    return PINN(
        MLP(width=36, depth=3),
        (
            Phase(Adam(), 200, sampling=Uniform(every=50)),
            Phase(SSBroyden(), 2500, sampling=RAD(every=200, pool=20_000)),
        ),
        Points(domain=2048),
    )


POISSON2D_C = NamedProblem(
    says="Laplace's equation in a square with four round holes",
    make=make,
    reference=reference,
    recipe=recipe,
    fem=fem,
    fem_n=80,
    published=1.23e-2,
    goal=1e-3,
    parameters={"scale": 1.0, "hard": True},
)
