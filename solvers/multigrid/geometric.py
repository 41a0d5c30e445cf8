"""Matrix-free geometric multigrid cycles for diffusion on grids of any size."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from math import cos, pi
from typing import final

import torch
from torch import Tensor

from ...operators.linear.base import SPD, LinearOperator
from ...operators.linear.diffusion import Diffusion
from ...operators.linear.errors import NotSupported
from ..preconditioners.base import Preconditioner
from ..preconditioners.inverse import Inverse
from .hierarchy import Work, build_levels, dense_inverse
from .islands import Islands
from .transfer import OperatorTransfer

_DEFAULT_ISLANDS = Islands()


class Cycle(StrEnum):
    """Order in which the levels are visited."""

    V = "V"
    W = "W"
    F = "F"


@final
@dataclass(frozen=True)
class Smoothing:
    """Damped Jacobi sweeps with Chebyshev weights, as many before as after the coarse correction.

    Args:
        sweeps: sweeps before, and after; the weights are the reciprocal roots of the Chebyshev polynomial of
            that degree on [2 * lower, 2], and the coarse correction takes care of what lies below.
        lower: lower end of the smoothed part of the spectrum of D^-1 A (0 to 2), as a fraction.
    """

    sweeps: int = 2
    lower: float = 0.25

    def weights(self) -> list[float]:
        """Return the weights of the sweeps."""
        a, b = 2 * self.lower, 2.0
        m = self.sweeps
        roots = [(a + b) / 2 + (b - a) / 2 * cos(pi * (2 * k + 1) / (2 * m)) for k in range(m)]
        return [1 / root for root in roots]


@final
class GeometricMultigrid(Inverse):
    """One multigrid cycle from a zero guess, as a linear operator ~ A^-1.

    V- and W-cycles are symmetric positive definite; the F-cycle is not symmetric: for flexible methods.

    Args:
        A: a `Diffusion` on a grid of any size, batch, centring, boundary conditions, mask.
        cycle: "V", "W" or "F".
        smoothing: sweeps and weights.
        dtype: type of the cycle. None: float32, which inside a float64 method halves memory and time, unless
            islands are too weakly tied to the rest for it (batches and other devices; see `hierarchy`).
        bottom: solve exactly by a dense inverse from this many unknowns on.
        branching: how many levels, from the top, send a W- or F-cycle to the next one twice; deeper ones
            do so once. Two cost half of a full W-cycle and give nearly its rate.
        islands: how to find the groups to deflate where coefficients jump; None for no deflation.

    Source: Trottenberg, Oosterlee, Schueller, Multigrid (2001), sections 2.4, 2.5 and 7.7.
    """

    def __init__(
        self,
        A: LinearOperator,
        *,
        cycle: Cycle | str = Cycle.V,
        smoothing: Smoothing | None = None,
        dtype: torch.dtype | None = None,
        bottom: int = 300,
        branching: int = 2,
        islands: Islands | None = _DEFAULT_ISLANDS,
    ) -> None:
        if not isinstance(A, Diffusion):
            raise NotSupported(
                f"geometric multigrid needs a Diffusion on a Grid, got {type(A).__name__}: "
                "use amg() for matrices"
            )
        self.cycle = Cycle(cycle)
        tags = frozenset() if self.cycle is Cycle.F else SPD
        super().__init__(A, tags)
        self.grid_shape = A.grid.shape
        self.levels, self.inner_dtype = build_levels(A, bottom, dtype, islands)
        last = self.levels[-1]
        self.inverse = dense_inverse(last.stencil, self.inner_dtype, device=A.device, nullspace=A.nullspace)
        self.branching = branching
        self._work: list[Work] = []
        self.smoothing = smoothing or Smoothing(lower=0.25 if A.grid.dim < 3 else 1 / 6)
        self.weights = self.smoothing.weights()

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write one cycle applied to x into out."""
        top = self._workspace(tuple(x.shape[:-1]))
        layout = self.levels[0].stencil.layout
        shape = (*x.shape[:-1], *self.grid_shape)
        layout.inside(top.b).copy_(x.view(shape))
        z = self._descend(0, self.cycle, None)
        out.view(shape).copy_(layout.inside(z))

    def _workspace(self, lead: tuple[int, ...]) -> Work:
        """Return the work vectors of the top level, allocated anew when the leading axes change."""
        if not self._work or tuple(self._work[0].b.shape[:-1]) != lead:
            self._work = [Work.of(level, lead, self.inverse) for level in self.levels]
        return self._work[0]

    def _descend(self, k: int, cycle: Cycle, start: Tensor | None) -> Tensor:
        """Improve the solution on level k for its right-hand side `b`; return the vector that holds it."""
        level, work = self.levels[k], self._work[k]
        stencil, b = level.stencil, work.b
        if level.transfer is None:
            layout = stencil.layout
            flat = layout.inside(b).reshape(*b.shape[:-1], -1)
            solved = torch.matmul(self.inverse, flat.unsqueeze(-1)).squeeze(-1)
            layout.inside(work.x).copy_(solved.reshape(*b.shape[:-1], *layout.shape))
            return work.x
        x, y = (work.y, work.x) if start is work.y else (work.x, work.y)
        for sweep, weight in enumerate(self.weights):
            if sweep == 0 and start is None:
                stencil.smooth_zero(b, x, weight)
            else:
                stencil.smooth(b, x, y, weight)
                x, y = y, x
        r, deflation = stencil.residual(b, x, y), level.deflation
        islands = None if deflation is None else deflation.before(r)
        level.transfer.restrict(r, self._work[k + 1].b)
        correction = self._descend(k + 1, cycle, None)
        if self.levels[k + 1].transfer is not None and cycle is not Cycle.V and k < self.branching:
            correction = self._descend(k + 1, cycle if cycle is Cycle.W else Cycle.V, correction)
        if deflation is None or islands is None:
            level.transfer.add_prolonged(correction, x, y)
        else:
            assert isinstance(level.transfer, OperatorTransfer)  # uniform levels have no islands
            x.add_(level.transfer.prolong(correction, y))
            deflation.after(islands, y, x)
        for weight in reversed(self.weights):
            stencil.smooth(b, x, y, weight)
            x, y = y, x
        return x

    def transpose(self) -> LinearOperator:
        """Return the operator itself (V- and W-cycles)."""
        if self.cycle is Cycle.F:
            raise NotSupported(
                "the F-cycle is not symmetric and its transpose is not built: use cycle='V' or 'W'"
            )
        return self

    def __repr__(self) -> str:
        rows = [f"{'x'.join(map(str, level.stencil.layout.shape)):>14}" for level in self.levels]
        return f"GeometricMultigrid({self.cycle}-cycle, {len(rows)} levels)\n" + "\n".join(rows)


def multigrid(
    *,
    cycle: Cycle | str = Cycle.V,
    smoothing: Smoothing | None = None,
    dtype: torch.dtype | None = None,
    bottom: int = 300,
    branching: int = 2,
    islands: Islands | None = _DEFAULT_ISLANDS,
) -> Preconditioner:
    """Return the preconditioner that applies one geometric multigrid cycle; see `GeometricMultigrid`."""
    return partial(
        GeometricMultigrid,
        cycle=cycle,
        smoothing=smoothing,
        dtype=dtype,
        bottom=bottom,
        branching=branching,
        islands=islands,
    )
