"""Gauss-Seidel, SOR and SSOR iteration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import final

from torch import Tensor

from ..base import Solver
from ..preconditioners.jacobi import nonzero_diagonal
from ..preconditioners.relaxation import Order, check_omega, relaxation
from ..system import LinearSystem


class Sweep(StrEnum):
    """Direction of a sweep: ascending, descending, or both in turn."""

    FORWARD = "forward"
    BACKWARD = "backward"
    SYMMETRIC = "symmetric"


def relax(
    problem: LinearSystem, x: Tensor, omega: float, sweep: Sweep, order: Order | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate sweeps; a symmetric step is a forward and then a backward one."""
    sweeps = relaxation(problem.A, order)
    b = problem.b.detach().expand(x.shape).contiguous()
    directions = {Sweep.FORWARD: (False,), Sweep.BACKWARD: (True,), Sweep.SYMMETRIC: (False, True)}[sweep]
    while True:
        yield x, problem.residual_norm(x)
        for backward in directions:
            sweeps.sweep(x, b, omega, backward=backward)


@final
@dataclass(frozen=True)
class SOR(Solver):
    """Solve A x = b by successive over-relaxation, x_i += omega (b - A x)_i / a_ii for each i in turn.

    A forward step is x += (D/omega + L)^-1 (b - A x), a backward one has U in the place of L. Converges for
    SPD A and omega in (0, 2).

    Args:
        omega: in (0, 2); `young_omega(A)` is the best one for constant coefficients.
        sweep: "forward", "backward", or "symmetric" (forward, then backward: SSOR).
        order: `Order.NATURAL` (compiled, CPU, single operators), `Order.MULTICOLOUR` (torch, any device,
            batches of `Diffusion`); None takes the first where it can.

    Source: Young, Iterative Solution of Large Linear Systems (1971), chapter 3.

    Raises:
        ValueError: for omega outside (0, 2).
        ZeroDiagonal: when a diagonal entry is zero.
        NotSupported: for the natural order of a batch, or on another device.
    """

    omega: float
    sweep: Sweep | str = Sweep.FORWARD
    order: Order | str | None = None

    def __post_init__(self) -> None:
        check_omega(self.omega)
        object.__setattr__(self, "sweep", Sweep(self.sweep))
        object.__setattr__(self, "order", None if self.order is None else Order(self.order))

    def check(self, problem: LinearSystem) -> None:
        """Reject a zero on the diagonal."""
        nonzero_diagonal(problem.A)

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        order = None if self.order is None else Order(self.order)
        return relax(problem, x, self.omega, Sweep(self.sweep), order)


@final
@dataclass(frozen=True)
class GaussSeidel(Solver):
    """Solve A x = b by Gauss-Seidel: SOR with omega = 1.

    Args:
        sweep, order: as for `SOR`.

    Raises:
        As `SOR`.
    """

    sweep: Sweep | str = Sweep.FORWARD
    order: Order | str | None = None

    def __post_init__(self) -> None:
        self._sor()

    def _sor(self) -> SOR:
        return SOR(1.0, self.sweep, self.order)

    def check(self, problem: LinearSystem) -> None:
        """Reject a zero on the diagonal."""
        nonzero_diagonal(problem.A)

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        return self._sor().iterate(problem, x)


@final
@dataclass(frozen=True)
class SSOR(Solver):
    """Solve A x = b by symmetric SOR: each step a forward sweep and then a backward one.

    Args:
        omega, order: as for `SOR`.

    Raises:
        As `SOR`.
    """

    omega: float
    order: Order | str | None = None

    def __post_init__(self) -> None:
        self._sor()

    def _sor(self) -> SOR:
        return SOR(self.omega, Sweep.SYMMETRIC, self.order)

    def check(self, problem: LinearSystem) -> None:
        """Reject a zero on the diagonal."""
        nonzero_diagonal(problem.A)

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        return self._sor().iterate(problem, x)
