"""Implicit-explicit methods: Crank-Nicolson for the linear part, an explicit method for the rest."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from ...operators.pde.evolution import Semilinear
from .base import TimeStepper


class _SplitStepper(TimeStepper):
    """Constants of v_1 = P v + dt Q n, with P = (1 + dt L/2) / (1 - dt L/2) and Q = 1 / (1 - dt L/2)."""

    def __init__(self, system: Semilinear, dt: float) -> None:
        super().__init__(dt)
        self.system = system
        half = dt / 2 * system.symbol
        self._p, self._q = (1 + half) / (1 - half), dt / (1 - half)


@final
class IMEXEuler(_SplitStepper):
    """Step v_t = L v + N(v) by Crank-Nicolson in L and explicit Euler in N.

        (1 - dt L/2) v_1 = (1 + dt L/2) v + dt N(v)

    First order, one evaluation of N a step; the scheme of the published Navier-Stokes data (Li et al., 2021).

    Args:
        system: the equation, see `Semilinear`.
        dt: length of a step; limited by N. Explicit Euler amplifies advection: keep dt < 2 nu / |u|^2.
    """

    order: ClassVar[int] = 1

    def step(self, u: Tensor, t: float) -> Tensor:
        """Return the coefficients (B, C, *modes) after dt."""
        N = self.system.nonlinear
        linear = self._p * u
        return linear if N is None else linear.addcmul_(self._q, N(u))


@final
class IMEXHeun(_SplitStepper):
    """Step v_t = L v + N(v) by Crank-Nicolson in L and Heun's method in N.

        (1 - dt L/2) w   = (1 + dt L/2) v + dt N(v)
        (1 - dt L/2) v_1 = (1 + dt L/2) v + dt/2 (N(v) + N(w))

    Second order, two evaluations of N a step. Fast linear modes are damped like Crank-Nicolson's: |P| < 1,
    but P -> -1; a state with rough parts needs dt |L| of order 1, or `ETDRK4`.

    Args:
        system: the equation, see `Semilinear`.
        dt: length of a step; limited by N.

    >>> decay = Semilinear(torch.tensor([-1.0]), lambda v: -(v**2), lambda u: u, lambda v: v)
    >>> round(float(IMEXHeun(decay, 0.1)(torch.ones(1, 1, 1))), 3)  # 1 / (2 exp(t) - 1)
    0.826
    """

    order: ClassVar[int] = 2

    def step(self, u: Tensor, t: float) -> Tensor:
        """Return the coefficients (B, C, *modes) after dt."""
        N = self.system.nonlinear
        linear = self._p * u
        if N is None:
            return linear
        n0 = N(u)
        n1 = N(torch.addcmul(linear, self._q, n0))
        return linear.addcmul_(self._q, (n0 + n1) / 2)
