"""Exponential time differencing, fourth order."""

from __future__ import annotations

from cmath import exp as cexp
from math import pi
from typing import ClassVar, final

import torch
from torch import Tensor

from ...operators.pde.evolution import Semilinear
from .base import TimeStepper


@final
class ETDRK4(TimeStepper):
    """Step the coefficients v of v_t = L v + N(v): L exactly, N by four stages.

    The functions of z = dt L that cancel for small z are means over a circle of radius 1 around z, complex
    throughout, so that L may be complex (dispersion, advection).

    Args:
        system: the equation, see `Semilinear`; steps are taken in the precision of its symbol.
        dt: length of a step; limited by the nonlinear part only.
        points: on the circle.

    Source: Cox and Matthews (2002); the contour: Kassam and Trefethen (2005).

    >>> decay = Semilinear(torch.tensor([-1.0]), lambda v: -(v**2), lambda u: u, lambda v: v)
    >>> round(float(ETDRK4(decay, 0.1)(torch.ones(1, 1, 1))), 5)  # 1 / (2 exp(t) - 1)
    0.82621
    """

    order: ClassVar[int] = 4

    def __init__(self, system: Semilinear, dt: float, *, points: int = 32) -> None:
        super().__init__(dt)
        self.system = system
        symbol = system.symbol
        z = dt * symbol.to(torch.complex128)
        q, f1, f2, f3 = (torch.zeros_like(z) for _ in range(4))
        for j in range(points):
            w = z + cexp(2j * pi * (j + 0.5) / points)
            e, cube = torch.exp(w), w**3
            q += (torch.exp(w / 2) - 1) / w
            f1 += (-4 - w + e * (4 - 3 * w + w**2)) / cube
            f2 += 2 * (2 + w + e * (w - 2)) / cube
            f3 += (-4 - 3 * w - w**2 + e * (4 - w)) / cube

        def like_symbol(f: Tensor) -> Tensor:
            return (f if symbol.is_complex() else f.real).to(symbol.dtype).contiguous()

        self._e, self._e2 = like_symbol(torch.exp(z)), like_symbol(torch.exp(z / 2))
        self._q, self._f1, self._f2, self._f3 = (like_symbol(f * (dt / points)) for f in (q, f1, f2, f3))

    def step(self, u: Tensor, t: float) -> Tensor:
        """Return the coefficients (B, C, *modes) after dt."""
        N = self.system.nonlinear
        if N is None:
            return self._e * u
        e2, q = self._e2, self._q
        n0 = N(u)
        half = e2 * u
        a = torch.addcmul(half, q, n0)
        na = N(a)
        nb = N(torch.addcmul(half, q, na))
        nc = N(torch.addcmul(e2 * a, q, 2 * nb - n0))
        v = self._e * u  # in place from here on: a tensor of our own
        return v.addcmul_(self._f1, n0).addcmul_(self._f2, na + nb).addcmul_(self._f3, nc)
