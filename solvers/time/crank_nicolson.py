"""Crank-Nicolson for parabolic equations: one linear solve a step."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from ...meshes.grid import Grid
from ...operators.linear.errors import ShapeMismatch
from ...operators.pde.evolution import Parabolic
from ..auto import Auto
from ..base import Solver, Stop, solve
from ..fast import FastTransform
from ..system import LinearSystem
from .base import TimeStepper

_AUTO = Auto()
_STOP = Stop(rtol=1e-10)


@final
class CrankNicolson(TimeStepper):
    """Step u_t = -K(t) u + f(t) by the implicit midpoint of K and f; stable for every dt.

        (Id + dt/2 K) u_1 = (Id - dt/2 K) u + dt f,     K and f at t + dt/2, see `Parabolic.system`

    Args:
        equation: what is stepped.
        grid: of the states (B, 1, *grid.shape).
        dt: length of a step; above 2 / (largest eigenvalue of K) rough parts of the state decay slowly, with
            alternating sign.
        solver: for the linear systems, started from u.
        stop: tolerance of the linear systems.

    On the CPU no sample of a batch depends on the others: they are solved one after the other, but for fast
    transforms, which treat each alone anyway. Elsewhere they are solved together. Gradients flow to u by the
    adjoint method.

    Raises:
        SolveError: a system was not solved to the tolerance.

    Source: Crank and Nicolson (1947).
    """

    order: ClassVar[int] = 2

    def __init__(
        self, equation: Parabolic, grid: Grid, dt: float, *, solver: Solver = _AUTO, stop: Stop = _STOP
    ) -> None:
        super().__init__(dt)
        equation.check(grid)
        self.equation, self.grid, self.solver, self.stop = equation, grid, solver, stop

    def step(self, u: Tensor, t: float) -> Tensor:
        """Return the state (B, 1, *shape) at t + dt, in the type and on the device of u."""
        if u.ndim != self.grid.dim + 2 or u.shape[1] != 1:
            need = ", ".join(map(str, self.grid.shape))
            raise ShapeMismatch(f"the state has shape {tuple(u.shape)}, this grid needs (B, 1, {need})")
        A, b = self.equation.system(self.grid, t, self.dt, u[:, 0])
        starts = u.detach().to(A.device, A.dtype).reshape(len(u), -1)
        together = LinearSystem(A, b)
        method = self.solver.choose(together) if isinstance(self.solver, Auto) else self.solver
        if A.device.type != "cpu" or isinstance(method, FastTransform):
            value = solve(together, method, x0=starts, stop=self.stop).value
        else:
            rows = zip(b, starts, strict=True)
            parts = [solve(LinearSystem(A, row), method, x0=x, stop=self.stop).value for row, x in rows]
            value = torch.stack(parts) if parts else b
        return value.reshape(u.shape).to(u)
