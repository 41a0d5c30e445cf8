"""The classical Runge-Kutta method."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from ...operators.pde.evolution import Semilinear
from .base import Stepper, TimeStepper


@final
class RK4(TimeStepper):
    """Step u_t = F(u) by the classical explicit method of four stages.

    Stable where dt times every eigenvalue of F's derivative lies within the region that reaches -2.785 on the
    real axis and +-2.828 on the imaginary one: with diffusion nu k^2, dt < 2.785 / (nu max k^2); with
    dispersion k^3, dt < 2.828 / max k^3. `ETDRK4` has no such limit from the linear part.

    Args:
        equation: a `Semilinear`, whose coefficients are stepped, or any function u -> u_t.
        dt: length of a step.

    Source: Kutta (1901).

    >>> round(float(RK4(lambda u: -u, 0.1)(torch.ones(1))), 5)
    0.90484
    """

    order: ClassVar[int] = 4

    def __init__(self, equation: Semilinear | Stepper, dt: float) -> None:
        super().__init__(dt)
        self._slope = _slope(equation) if isinstance(equation, Semilinear) else equation

    def step(self, u: Tensor, t: float) -> Tensor:
        """Return the state, or the coefficients, after dt."""
        F, dt = self._slope, self.dt
        k1 = F(u)
        k2 = F(torch.add(u, k1, alpha=dt / 2))
        k3 = F(torch.add(u, k2, alpha=dt / 2))
        k4 = F(torch.add(u, k3, alpha=dt))
        return torch.add(u, k1 + 2 * (k2 + k3) + k4, alpha=dt / 6)


def _slope(system: Semilinear) -> Stepper:
    L, N = system.symbol, system.nonlinear
    if N is None:
        return lambda v: L * v
    return lambda v: torch.addcmul(N(v), L, v)
