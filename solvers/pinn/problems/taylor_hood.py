"""Steady incompressible flow: quadratic velocities, linear pressures on triangles, Newton's method."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from ....operators.linear.errors import NotSupported

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Given = float | Callable[[Floats], Floats] | None  # of points (N, 2); None leaves the component free

_NEWTON = 25
_RTOL = 1e-9  # of the last step: rounding on strongly graded meshes forbids much less


class NoSteadyFlow(ArithmeticError):
    """Newton's method did not find a flow."""


@final
@dataclass(frozen=True, eq=False)
class Wall:
    """A part of the boundary where velocities are given.

    Args:
        facets: their numbers in the mesh.
        u, v: the components; None for one that is free.
    """

    facets: Ints
    u: Given = 0.0
    v: Given = 0.0


@final
@dataclass(frozen=True, eq=False)
class Flow:
    """Velocity and pressure.

    Attributes:
        unknowns: free ones.
        steps: of Newton's method.
    """

    velocity: Any
    pressure: Any
    values: Floats
    unknowns: int
    steps: int

    def at(self, points: Floats) -> Floats:
        """Return u, v, p at points (M, 2) of the mesh, (M, 3)."""
        N, where = self.velocity.N, np.ascontiguousarray(points.T)
        uv = (self.velocity.probes(where) @ self.values[:N]).reshape(2, -1)
        return np.column_stack([*uv, self.pressure.probes(where) @ self.values[N:]])


def graded_lines(start: float, end: float, n: int, towards: str, strength: float = 1.5) -> Floats:
    """Return n + 1 coordinates that cluster towards "start", "end" or "both".

    >>> graded_lines(0.0, 1.0, 2, "start").round(2)
    array([0. , 0.3, 1. ])
    """
    t = np.linspace(0, 1, n + 1)
    if towards == "both":
        t = (1 + np.tanh(strength * (2 * t - 1)) / np.tanh(strength)) / 2
    elif towards == "start":
        t = 1 - np.tanh(strength * (1 - t)) / np.tanh(strength)
    elif towards == "end":
        t = np.tanh(strength * t) / np.tanh(strength)
    else:
        raise ValueError(f"coordinates cluster towards 'start', 'end' or 'both', got {towards!r}")
    return start + (end - start) * t


def triangles(x: Floats, y: Floats, inside: Callable[[Floats], NDArray[np.bool_]] | None = None) -> Any:
    """Return scikit-fem's mesh of the rectangles between lines x and y, cut in two.

    Args:
        x, y: coordinates of the lines, ascending.
        inside: of the midpoints (M, 2) of the triangles, those to keep.

    Raises:
        NotSupported: scikit-fem is missing.
    """
    if importlib.util.find_spec("skfem") is None:
        raise NotSupported("scikit-fem is not installed: `pip install solvus[fem]`")
    from skfem import MeshTri

    mesh = MeshTri.init_tensor(x, y)
    if inside is None:
        return mesh
    return mesh.restrict(np.flatnonzero(inside(mesh.p[:, mesh.t].mean(axis=1).T)))


def steady_flow(
    mesh: Any, viscosity: float, walls: Sequence[Wall], zero_pressure: tuple[float, float] | None = None
) -> Flow:
    """Solve (w . grad) w + grad p = viscosity laplace w, div w = 0, by Newton's method from Stokes' flow.

    Where nothing is given on the boundary, viscosity dw/dn = p n.

    Args:
        mesh: MeshTri of scikit-fem.
        viscosity: positive.
        walls: where velocities are given; where two meet, the later one holds.
        zero_pressure: a vertex with p = 0, where velocities are given all around.

    Raises:
        NoSteadyFlow: no convergence in 25 steps.

    Source: Taylor and Hood (1973); Elman, Silvester and Wathen (2014), sections 8.2 and 8.3.
    """
    from skfem import Basis, BilinearForm, ElementTriP1, ElementTriP2, ElementVector, LinearForm
    from skfem.helpers import ddot, div, dot, grad, mul

    V = Basis(mesh, ElementVector(ElementTriP2()), intorder=5)
    Q = V.with_element(ElementTriP1())
    N = V.N
    A = BilinearForm(lambda u, v, _: viscosity * ddot(grad(u), grad(v))).assemble(V)
    B = -BilinearForm(lambda u, q, _: div(u) * q).assemble(V, Q)
    convection = BilinearForm(lambda u, v, w: dot(mul(grad(w["w"]), u) + mul(grad(u), w["w"]), v))
    inertia = LinearForm(lambda v, w: dot(mul(grad(w["w"]), w["w"]), v))

    z, free = np.zeros(N + Q.N), np.ones(N + Q.N, dtype=bool)
    for wall in walls:
        found = V.get_dofs(wall.facets)
        for name, given in (("u^1", wall.u), ("u^2", wall.v)):
            if given is None:
                continue
            dofs = np.unique(found.all([name]))
            z[dofs] = given(V.doflocs[:, dofs].T) if callable(given) else given
            free[dofs] = False
    if zero_pressure is not None:
        vertex = np.square(mesh.p.T - zero_pressure).sum(axis=1).argmin()
        free[N + Q.nodal_dofs[0, vertex]] = False
    some = np.flatnonzero(free)

    def solve(matrix: Any, residual: Floats) -> Floats:
        return splu(matrix[some][:, some].tocsc()).solve(residual[some])

    stokes = sp.block_array([[A, B.T], [B, None]], format="csr")
    z[some] -= solve(stokes, stokes @ z)
    for step in range(1, _NEWTON + 1):
        w = V.interpolate(z[:N])
        residual = stokes @ z
        residual[:N] += inertia.assemble(V, w=w)
        change = solve(
            sp.block_array([[A + convection.assemble(V, w=w), B.T], [B, None]], format="csr"), residual
        )
        z[some] -= change
        if np.abs(change).max() <= _RTOL * np.abs(z).max():
            return Flow(V, Q, z, len(some), step)
    raise NoSteadyFlow(
        f"Newton's method did not converge in {_NEWTON} steps for viscosity {viscosity:g}, on "
        f"{mesh.t.shape[1]} triangles: refine the mesh, or raise the viscosity"
    )
