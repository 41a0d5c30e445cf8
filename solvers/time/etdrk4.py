"""Exponential time differencing, fourth order."""

from __future__ import annotations

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
        system: the equation, see `Semilinear`.
        dt: length of a step; limited by the nonlinear part only.
        points: on the circle.

    Source: Cox and Matthews (2002); the contour: Kassam and Trefethen (2005).
    """

    order: ClassVar[int] = 4

    def __init__(self, system: Semilinear, dt: float, *, points: int = 32) -> None:
        if not dt > 0:
            raise ValueError(f"dt must be positive, got {dt}")
        self.dt, self.system = dt, system
        z = dt * system.symbol
        half = torch.arange(points, dtype=z.real.dtype, device=z.device) + 0.5
        circle = torch.exp(2j * torch.pi * half / points)
        real = not z.is_complex()

        def mean(f: torch.Tensor) -> Tensor:
            average = f.mean(-1)
            return average.real.contiguous() if real else average

        w = z[..., None] + circle
        e = torch.exp(w)
        self._e, self._e2 = torch.exp(z), torch.exp(z / 2)
        self._q = dt * mean((torch.exp(w / 2) - 1) / w)
        self._f1 = dt * mean((-4 - w + e * (4 - 3 * w + w**2)) / w**3)
        self._f2 = dt * mean((2 + w + e * (w - 2)) / w**3) * 2
        self._f3 = dt * mean((-4 - 3 * w - w**2 + e * (4 - w)) / w**3)

    def step(self, u: Tensor, t: float) -> Tensor:
        """Return the coefficients (B, C, *modes) after dt."""
        N = self.system.nonlinear
        if N is None:
            return self._e * u
        e2, q = self._e2, self._q
        n0 = N(u)
        half = e2 * u
        a = half + q * n0
        na = N(a)
        nb = N(half + q * na)
        nc = N(e2 * a + q * (2 * nb - n0))
        return self._e * u + self._f1 * n0 + self._f2 * (na + nb) + self._f3 * nc
