"""Sweeps of a relaxation and, every so often, a correction: each takes the errors that the other leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from ....operators.linear.base import LinearOperator
from ...base import Kept, Solver
from ...krylov.requirements import build, require_real, require_spd
from ...krylov.vectors import dot, norm, ratio, working
from ...preconditioners.base import Preconditioner
from ...preconditioners.jacobi import jacobi
from ...preconditioners.relaxation import Order, relaxation
from ...stationary.relax import SOR, SSOR, GaussSeidel, Sweep
from ...stationary.richardson import Jacobi, Richardson
from ...system import LinearSystem


@final
class _Tally:
    """Count corrections that were dropped, and pass them on."""

    def __init__(self, listener: Callable[[Tensor], object] | None) -> None:
        self.count, self.listener = 0, listener

    def __call__(self, refused: Tensor) -> None:
        self.count += int(refused.sum())
        if self.listener is not None:
            self.listener(refused)


Relaxation = Jacobi | Richardson | GaussSeidel | SOR | SSOR
Sweeper = Callable[[Tensor, Tensor], None]  # change x in place, given its residual


@final
@dataclass(frozen=True)
class Hybrid(Solver):
    """Solve A x = b by `every` - 1 sweeps of a relaxation, then one correction, and so on.

        x += t ||r|| G(r / ||r||),  r = b - A x

    Relaxation takes the rough parts of the error and is slow at the smooth ones, a network trained on whole
    fields the other way round. A correction is dropped, per sample, where it would do harm, and a sweep is
    made instead: where it is not finite, and with `line_search` where no step along it lowers the energy
    (d.A d <= 0, or d.r = 0), else where it does not lower the residual. So G can make the iteration slower,
    never wrong; the energy of the error falls in every step in which the relaxation lowers it.

    Args:
        relaxation: `Jacobi`, `GaussSeidel`, `SOR`, `SSOR`, or `Richardson` with any preconditioner.
        correction: builds G from A once: `learned_correction(network, sweeps=0)`, or any `Preconditioner`.
        every: every so many steps is a correction; 1 leaves the relaxation for where it is dropped.
        line_search: t = d.r / d.A d, exact in the energy norm, for SPD operators. False: t = 1.
        on_refused: called with a bool tensor (...), True for samples whose correction was dropped, whenever
            there are some. `result.stats["refused"]` counts them.

    Good values: `every` 4 to 10; `Jacobi(0.8)` in two dimensions, or `GaussSeidel()`. To go faster,
    `FlexibleCG(learned_correction(network))` makes the steps conjugate.

    Raises:
        ValueError: every < 1.
        TypeError: another relaxation.
        NotSupported: with `line_search`, for an operator that is not declared SPD.

    Source: Zhang et al., Blending neural operators and relaxation methods in PDE numerical solvers, Nature
    Machine Intelligence 6 (2024), arXiv 2208.13273. Theirs has neither scaling nor safeguard.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.linear import Diffusion
    >>> from solvus.solvers import solve
    >>> from solvus.solvers.multigrid import multigrid
    >>> system = LinearSystem(Diffusion(Grid((31, 31))), torch.ones(961, dtype=torch.float64))
    >>> solve(system, Hybrid(Jacobi(0.8), multigrid(), every=3)).steps < 20
    True
    """

    relaxation: Relaxation
    correction: Preconditioner
    every: int = 5
    line_search: bool = True
    on_refused: Callable[[Tensor], object] | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"Hybrid corrects every so many steps, at least 1, got every = {self.every}")
        if not isinstance(self.relaxation, Relaxation):
            raise TypeError(
                "Hybrid takes Jacobi, GaussSeidel, SOR, SSOR or Richardson as its relaxation, got "
                f"{self.relaxation!r}: use Richardson(preconditioner) for other sweeps"
            )

    def check(self, problem: LinearSystem) -> None:
        """Reject what the relaxation rejects, and with a line search what is not declared SPD."""
        require_real(problem, "Hybrid")
        if self.line_search:
            require_spd(problem, "Hybrid with line_search")
        self.relaxation.check(problem)

    def keeping(self) -> Solver:
        """Return this method with a memory of the last operator's correction, and a count of refusals."""
        return replace(self, correction=Kept(self.correction), on_refused=_Tally(self.on_refused))

    def notes(self) -> dict[str, Any]:
        """Return `refused`, the corrections that were dropped, over all samples."""
        return {"refused": self.on_refused.count} if isinstance(self.on_refused, _Tally) else {}

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates and the norms of the recomputed residual."""
        A = problem.A
        G = build(self.correction, A, "Hybrid", spd=False)
        sweep = _sweeper(self.relaxation, problem, x)
        step = 0
        while True:
            r = problem.residual(x)
            size = norm(r)
            done = yield x, size.squeeze(-1)
            busy = working(done, size)
            step += 1
            if step % self.every:
                sweep(x, r)
                continue
            d, length, good = self._correction(A, G, r, size)
            refused = busy & ~good
            d.mul_(length).add_(x)
            if bool(refused.any()):
                if self.on_refused is not None:
                    self.on_refused(refused.squeeze(-1))
                sweep(x, r)
            x.copy_(torch.where(good, d, x))

    def _correction(
        self, A: LinearOperator, G: LinearOperator, r: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the correction, the step along it, and which samples it is good for, (..., 1)."""
        eps = torch.finfo(r.dtype).eps
        d = G.matvec(torch.where(size > 0, r / size, 0.0)) * size
        good = torch.isfinite(norm(d)) & (size > 0)
        d = torch.where(good, d, 0.0)
        q = A.matvec(d)
        if not self.line_search:
            return d, torch.ones_like(size), good & (norm(r - q) < size)
        curvature, slope, length = dot(d, q), dot(d, r), norm(d)
        good &= (curvature > eps * length * norm(q)) & (slope.abs() > eps * length * size)
        return d, ratio(slope, curvature, good), good


def _sweeper(method: Relaxation, problem: LinearSystem, x: Tensor) -> Sweeper:
    """Return what makes one step of the relaxation."""
    A = problem.A
    if isinstance(method, Jacobi | Richardson):
        M = jacobi(A) if isinstance(method, Jacobi) else method.preconditioner(A)

        def damped(x: Tensor, r: Tensor) -> None:
            x.add_(M.matvec(r), alpha=method.omega)

        return damped
    omega = 1.0 if isinstance(method, GaussSeidel) else method.omega
    direction = Sweep.SYMMETRIC if isinstance(method, SSOR) else Sweep(method.sweep)
    sweeps = relaxation(A, None if method.order is None else Order(method.order))
    b = problem.b.detach().expand(x.shape).contiguous()
    backward = {Sweep.FORWARD: (False,), Sweep.BACKWARD: (True,), Sweep.SYMMETRIC: (False, True)}[direction]

    def sweep(x: Tensor, r: Tensor) -> None:
        for back in backward:
            sweeps.sweep(x, b, omega, backward=back)

    return sweep
