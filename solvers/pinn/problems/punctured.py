"""Rectangles with round holes: the domains of Poisson2d-C and Poisson2d-CG."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ....meshes.convert import to_skfem
from ....meshes.geometry import Disc, Geometry, Rectangle, mesh_of
from ..constraint import Hard
from .base import Floats
from .triangles import curved, values_at

Circle = tuple[float, float, float]  # centre x, y and radius
_SHIFT = 1e-6  # of the domain's size, for the slope of the distance


@final
@dataclass(frozen=True)
class Punctured:
    """The square |x|, |y| < half without some discs, with one value on its sides and another on the circles.

    Args:
        half: half a side.
        circles: (x, y, radius) of every disc.
        outer, inner: values of u on the sides, on the circles.
    """

    half: float
    circles: tuple[Circle, ...]
    outer: float
    inner: float

    @property
    def square(self) -> Rectangle:
        """The square."""
        return Rectangle((-self.half, -self.half), (self.half, self.half))

    @property
    def discs(self) -> tuple[Disc, ...]:
        """The holes."""
        return tuple(Disc((x, y), r) for x, y, r in self.circles)

    @property
    def domain(self) -> Geometry:
        """The square without the discs."""
        return reduce(lambda shape, disc: shape - disc, self.discs, self.square)  # type: ignore[arg-type]

    def form(self) -> Hard:
        """Return u = lift + factor * N with the exact boundary values, smooth up to the boundary.

        With p zero on the sides and q zero on the circles, both positive inside, q made of logarithms of the
        distance to the centres, which are harmonic: lift = outer + (inner - outer)
        p / (p + q), factor = p q / (p + q).
        """

        def zeros(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            a, b = x / self.half, y / self.half
            p = (1 - a * a) * (1 - b * b)
            q = torch.ones_like(x)
            for cx, cy, r in self.circles:
                q = q * torch.log(((x - cx) ** 2 + (y - cy) ** 2) / (r * r)) / math.log(self.half**2 / r**2)
            return p, q

        def lift(x: Tensor, y: Tensor) -> Tensor:
            p, q = zeros(x, y)
            return self.outer + (self.inner - self.outer) * p / (p + q)

        def factor(x: Tensor, y: Tensor) -> Tensor:
            p, q = zeros(x, y)
            return p * q / (p + q)

        return Hard(lift, factor)

    def solve(
        self, size: float, source: Callable[[Floats, Floats], Floats], k: float = 0.0
    ) -> tuple[Callable[[Floats], Floats], int]:
        """Solve -laplace u + k^2 u = source by quadratic triangles with curved edges of a given size.

        Returns:
            u as a function of points (M, 2) that returns (M, 1), and the number of unknowns.
        """
        from skfem import Basis, BilinearForm, ElementTriP2, LinearForm, condense, solve
        from skfem.helpers import dot, grad

        basis = Basis(
            curved(to_skfem(mesh_of(self.domain, size)), self._onto_boundary), ElementTriP2(), intorder=6
        )
        A = BilinearForm(lambda u, v, w: dot(grad(u), grad(v)) + k * k * u * v).assemble(basis)
        b = LinearForm(lambda v, w: source(*w.x) * v).assemble(basis)
        fixed = basis.get_dofs().flatten()
        outside = np.abs(basis.doflocs[:, fixed]).max(axis=0) > self.half * (1 - _SHIFT)
        u = np.zeros(basis.N)
        u[fixed] = np.where(outside, self.outer, self.inner)
        u = solve(*condense(A, b, x=u, D=fixed))
        return lambda points: values_at(basis, u, points)[:, None], basis.N - len(fixed)

    def _onto_boundary(self, points: Floats) -> Floats:
        """Move points near the boundary along the slope of the distance."""
        step = _SHIFT * self.half
        shifts = step * np.eye(2)
        slope: Any = [
            (self.domain.distance(points + s) - self.domain.distance(points - s)) / (2 * step) for s in shifts
        ]
        return points - self.domain.distance(points)[:, None] * np.stack(slope, axis=1)
