"""NS2d-C of PINNacle: flow in a square whose lid moves."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np
from torch import Tensor

from ....meshes.geometry import Rectangle
from ...optim.adam import Adam
from ...optim.ssbroyden import SSBroyden
from ..conditions import Dirichlet, Fixed
from ..constraint import Hard
from ..networks.mlp import MLP
from ..problem import BoundaryProblem
from ..sampling import Uniform
from ..solver import PINN, Phase, Points
from .base import FemAnswer, Floats, NamedProblem, NoReference, Reference, reference_file
from .files import read_comsol
from .taylor_hood import Wall, graded_lines, steady_flow, triangles

VISCOSITY = 0.01

# Relative L2 errors of u and v: by a, of the file, from Taylor and Hood's elements on 64 x 64 graded squares;
# and up to which |a|, of those elements, from those on 48 x 48 squares (measured at 1, 2, 4, 8 and 16).
_FLOORS = {4.0: 2.0e-4}
_OWN_FLOORS = ((8.0, 1e-4), (16.0, 1.4e-4))
_OWN_N = 64


def reference(*, a: float = 4.0, hard: bool = True, own: bool = False) -> Reference:
    """Return velocities, from the benchmark's file (10,201 points) or by `fem` at 101 x 101 points.

    The pressure is left out: it has logarithmic poles in the upper corners, where values of any two
    computations differ (at the nodes of the file by 6e-2 after a shift by the mean).

    The floor is NaN where nobody measured it: for files other than that of a = 4, and for our own flow with
    |a| > 16.

    Raises:
        NoReference: there is no file for this a; `own=True` needs none.
        NoSteadyFlow: of `own=True`, for large a; 32 is too much.
    """
    if own:
        side = np.linspace(0, 1, 101)
        points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
        answer = fem(_OWN_N, a=a)
        floor = next((floor for most, floor in _OWN_FLOORS if abs(a) <= most), math.nan)
        return Reference(points, answer.at(points), ("u", "v"), floor, answer.method)
    try:
        file = reference_file(f"lid_driven_a{a:g}.dat")
    except NoReference as error:
        raise NoReference(
            f"{error}; or compare with a flow of our own, which needs no file: reference(a={a:g}, own=True)"
        ) from error
    table = read_comsol(file)
    floor = _FLOORS.get(a, math.nan)
    return Reference(table.points, table.values[:, :2], ("u", "v"), floor, "COMSOL, of PINNacle")


def fem(n: int = 32, *, a: float = 4.0, hard: bool = True) -> FemAnswer:
    """Solve by P2-P1 elements on n x n squares that cluster at the walls, cut in two, and Newton's method."""
    begin = perf_counter()
    side = graded_lines(0.0, 1.0, n, "both", 1.8)
    mesh = triangles(side, side)
    top = mesh.facets_satisfying(lambda x: x[1] > 1 - 1e-12, boundaries_only=True)

    def lid(points: Floats) -> Floats:
        return a * points[:, 0] * (1 - points[:, 0])

    walls = (Wall(mesh.boundary_facets()), Wall(top, lid))
    flow = steady_flow(mesh, VISCOSITY, walls, (0.0, 0.0))
    seconds = perf_counter() - begin
    method = f"Taylor-Hood elements on {mesh.t.shape[1]} triangles, {flow.steps} steps of Newton's method"
    return FemAnswer(lambda points: flow.at(points)[:, :2], flow.unknowns, seconds, method)


def make(*, a: float = 4.0, hard: bool = True) -> BoundaryProblem:
    """Pose steady flow in the unit square, u = a x (1 - x) on the lid, no slip elsewhere, p(0, 0) = 0.

    Args:
        a: 4 times the largest speed of the lid.
        hard: build the walls into the form of u and v, instead of training for them as PINNacle does.
    """

    def equation(u: Any, v: Any, p: Any) -> tuple[Tensor, Tensor, Tensor]:
        return (
            u * u.x + v * u.y + p.x - VISCOSITY * u.laplacian,
            u * v.x + v * v.y + p.y - VISCOSITY * v.laplacian,
            u.x + v.y,
        )

    def lid(x: Tensor) -> Tensor:
        return a * x * (1 - x)

    def lift(x: Tensor, y: Tensor) -> Tensor:
        return lid(x) * y**4

    def vanishing(x: Tensor, y: Tensor) -> Tensor:
        return 16 * x * (1 - x) * y * (1 - y)

    domain, pin = Rectangle((0.0, 0.0), (1.0, 1.0)), Fixed((0.0, 0.0), 0.0, "p")
    if hard:
        form = {"u": Hard(lift, vanishing), "v": Hard(factor=vanishing)}
        return BoundaryProblem(domain, equation, (pin,), outputs=("u", "v", "p"), constraint=form)
    conditions = (
        Dirichlet(lid, "u", on="ymax"),
        Dirichlet(0.0, "v", on="ymax"),
        Dirichlet(0.0, ("u", "v"), on=("xmin", "xmax", "ymin")),
        pin,
    )
    return BoundaryProblem(domain, equation, conditions, outputs=("u", "v", "p"))


def recipe() -> PINN:
    """Return the training that does best here."""
    return PINN(
        MLP(width=24, depth=4),
        (
            Phase(Adam(), 500, sampling=Uniform(every=1)),
            Phase(SSBroyden(), 5000, sampling=Uniform(every=250)),
        ),
        Points(domain=2000),
    )


NS2D_C = NamedProblem(
    says="steady flow in a square whose lid moves",
    make=make,
    reference=reference,
    recipe=recipe,
    fem=fem,
    fem_n=32,
    published=3.60e-2,
    goal=5e-3,
    parameters={"a": 4.0, "hard": True},
)
