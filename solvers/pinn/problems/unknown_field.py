"""The discrete spaces of an unknown coefficient on a rectangle: solution quadratic, coefficient linear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from .triangles import curved, locate, shapes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class Spaces:
    """P2 functions for u and P1 functions for a on the same triangles; a is known on the boundary.

    Args:
        lower, upper: corners of the rectangle.
        n: cells along a side, each cut into two triangles.
        known: the coefficient on the boundary, a function of (x, y).
    """

    lower: tuple[float, float]
    upper: tuple[float, float]
    n: int
    known: Callable[[Floats, Floats], Floats]

    @cached_property
    def u(self) -> Any:
        """Basis of the solution."""
        from skfem import Basis, ElementTriP2, MeshTri

        x, y = (np.linspace(a, b, self.n + 1) for a, b in zip(self.lower, self.upper, strict=True))
        return Basis(curved(MeshTri.init_tensor(x, y), lambda p: p), ElementTriP2(), intorder=5)

    @cached_property
    def a(self) -> Any:
        """Basis of the coefficient."""
        from skfem import ElementTriP1

        return self.u.with_element(ElementTriP1())

    @cached_property
    def free(self) -> Ints:
        """Coefficients that are not known, (A,)."""
        return np.setdiff1d(np.arange(self.a.N), self.a.get_dofs().flatten())

    @cached_property
    def inner(self) -> Ints:
        """Unknowns of u inside: where the equation is tested."""
        return np.setdiff1d(np.arange(self.u.N), self.u.get_dofs().flatten())

    @cached_property
    def fixed(self) -> Floats:
        """The coefficient with its known values on the boundary, zero inside, (A + boundary,)."""
        values = self.known(*self.a.doflocs)
        values[self.free] = 0
        return values

    def whole(self, a: Floats) -> Floats:
        """Put the free coefficients (A,) and the known ones together."""
        out = self.fixed.copy()
        out[self.free] = a
        return out

    def stiffness(self, a: Floats) -> sp.csr_array:
        """Return the matrix of the form a grad u . grad v, (inner, U)."""
        from skfem import BilinearForm
        from skfem.helpers import dot, grad

        form = BilinearForm(lambda u, v, w: w["a"] * dot(grad(u), grad(v)))
        return sp.csr_array(form.assemble(self.u, a=self.a.interpolate(self.whole(a))))[self.inner]

    def by_coefficient(self, u: Floats) -> sp.csr_array:
        """Return the derivative of stiffness(a) @ u by the free coefficients, (inner, A)."""
        from skfem import BilinearForm
        from skfem.helpers import dot, grad

        form = BilinearForm(lambda a, v, w: a * dot(w["u"].grad, grad(v)))
        rows = sp.csr_array(form.assemble(self.a, self.u, u=self.u.interpolate(u)))
        return rows[self.inner][:, self.free]

    @cached_property
    def mass(self) -> sp.csr_array:
        """Mass matrix, (inner, U)."""
        from skfem import BilinearForm

        return sp.csr_array(BilinearForm(lambda u, v, w: u * v).assemble(self.u))[self.inner]

    def load(self, f: Callable[[Floats, Floats], Floats]) -> Floats:
        """Return the integrals of f v, (inner,)."""
        from skfem import LinearForm

        return LinearForm(lambda v, w: f(*w.x) * v).assemble(self.u)[self.inner]

    @cached_property
    def bending(self) -> tuple[sp.csr_array, Floats]:
        """(R, r): |R a + r|^2 is the integral of (laplace a)^2, with P1 elements and lumped mass."""
        from skfem import BilinearForm
        from skfem.helpers import dot, grad

        K = sp.csr_array(BilinearForm(lambda u, v, w: dot(grad(u), grad(v))).assemble(self.a))
        lumped = np.asarray(BilinearForm(lambda u, v, w: u * v).assemble(self.a).sum(axis=1)).ravel()
        rows = sp.csr_array(sp.diags_array(1 / np.sqrt(lumped[self.free])) @ K[self.free])
        return rows[:, self.free], rows @ self.fixed

    @cached_property
    def sides(self) -> tuple[Ints, ...]:
        """Unknowns of u along the four sides, in order."""
        x = self.u.doflocs
        found = []
        for axis, corner in ((0, self.lower), (0, self.upper), (1, self.lower), (1, self.upper)):
            side = np.flatnonzero(np.isclose(x[axis], corner[axis]))
            found.append(side[np.argsort(x[1 - axis, side])])
        return tuple(found)

    @cached_property
    def boundary_bending(self) -> sp.csr_array:
        """R with |R u|^2 the integral of the squared second derivative of u along the sides, (R, U)."""
        rows = []
        for side, h in zip(self.sides, self._gaps, strict=True):
            D = sp.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(len(side) - 2, len(side)))
            rows.append(D @ self._pick(side) / h**1.5)
        return sp.csr_array(sp.vstack(rows))

    @cached_property
    def boundary(self) -> sp.csr_array:
        """R with |R u|^2 the integral of u^2 along the sides, (R, U)."""
        rows = [np.sqrt(h) * self._pick(side) for side, h in zip(self.sides, self._gaps, strict=True)]
        return sp.csr_array(sp.vstack(rows))

    @property
    def _gaps(self) -> list[float]:
        """Distance of neighbouring unknowns on the sides."""
        across = [(b - a) / (2 * self.n) for a, b in zip(self.lower, self.upper, strict=True)]
        return [across[1], across[1], across[0], across[0]]

    def _pick(self, unknowns: Ints) -> sp.csr_array:
        shape = (len(unknowns), self.u.N)
        return sp.csr_array((np.ones(len(unknowns)), (np.arange(len(unknowns)), unknowns)), shape=shape)

    @cached_property
    def inner_bending(self) -> sp.csr_array:
        """R with |R u|^2 about the integral of (laplace u)^2, the mass lumped by its diagonal, (inner, U)."""
        from skfem import BilinearForm
        from skfem.helpers import dot, grad

        K = sp.csr_array(BilinearForm(lambda u, v, w: dot(grad(u), grad(v))).assemble(self.u))[self.inner]
        full = sp.csr_array(BilinearForm(lambda u, v, w: u * v).assemble(self.u))
        diagonal = full.diagonal() * (full.sum() / full.diagonal().sum())
        return sp.csr_array(sp.diags_array(1 / np.sqrt(diagonal[self.inner])) @ K)

    def start(self) -> Floats:
        """Return the smoothest coefficient with the known boundary values, (A,)."""
        R, r = self.bending
        return np.asarray(splu(R.tocsc()).solve(-r))

    def observe(self, points: Floats) -> sp.csr_array:
        """Return the matrix from u to its values at points (M, 2), (M, U)."""
        cells, X = locate(self.u.mesh, points)
        rows = np.repeat(np.arange(len(points)), 6)
        columns = self.u.element_dofs.T[cells].ravel()
        return sp.csr_array((shapes(X).ravel(), (rows, columns)), shape=(len(points), self.u.N))

    def coefficient_at(self, a: Floats, points: Floats) -> Floats:
        """Evaluate the coefficient at points (M, 2)."""
        cells, X = locate(self.u.mesh, points)
        linear = np.column_stack([1 - X.sum(axis=1), X])
        return (linear * self.whole(a)[self.a.element_dofs.T[cells]]).sum(axis=1)


def rough(spaces: Spaces, of_solution: Sequence[sp.csr_array]) -> tuple[tuple[sp.csr_array, Floats], ...]:
    """Return what regularises: matrices (Q, U) for the solution, and the bending of the coefficient."""
    free, size = len(spaces.free), of_solution[0].shape[1]
    pairs = [
        (sp.csr_array(sp.hstack([R, sp.csr_array((R.shape[0], free))])), np.zeros(R.shape[0]))
        for R in of_solution
    ]
    R, r = spaces.bending
    return (*pairs, (sp.csr_array(sp.hstack([sp.csr_array((R.shape[0], size)), R])), r))
