"""The direct solver for constant-coefficient diffusion on full boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ...operators.linear.base import LinearOperator
from ...operators.linear.diffusion import Diffusion
from ...operators.linear.errors import NotSupported
from ..base import Solver
from ..system import LinearSystem
from .separable import SeparableInverse
from .transforms import Backend


def check_workers(workers: int | None) -> None:
    """Reject a number of threads below one."""
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, or None for torch's number of threads, got {workers}")


def check_diffusion(A: LinearOperator, backend: Backend, who: str) -> Diffusion:
    """Return A when it is a `Diffusion` that fast transforms can work on here, else raise `NotSupported`."""
    if not isinstance(A, Diffusion):
        raise NotSupported(
            f"{who} works on a Diffusion operator on a Grid, this one is {type(A).__name__}: build it with "
            "Diffusion(grid, coefficient, reaction), or use multigrid or a direct solver"
        )
    if A.dtype not in (torch.float32, torch.float64):
        raise NotSupported(f"{who} works in float32 or float64, this operator is {A.dtype}: build it in one")
    if Backend(backend) is Backend.SCIPY and A.device.type != "cpu":
        raise NotSupported(
            f"SciPy transforms work on the CPU only, the operator is on {A.device}: use backend='torch' or "
            "'auto'"
        )
    return A


@final
@dataclass(frozen=True)
class FastTransform(Solver):
    """Solve constant-coefficient `Diffusion` on a full box directly: transform, divide, transform back.

        x = Q Lambda^-1 Q^T b,   Lambda = c + sum_axis k / h^2 (2 - 2 cos theta)

    One step solves to rounding; every further step refines (x += A^-1 (b - A x)), which lowers the residual
    of float32 and of large grids where the first step misses a very tight tolerance. All boundary conditions
    and both centrings, in O(n log n) operations; with no Dirichlet face and no reaction the solution of zero
    mean. Sizes whose number of cells has only small prime factors are fastest: 127 interior nodes, 128 cells.

    Args:
        backend: "auto" (SciPy on the CPU, torch elsewhere), "scipy" or "torch".
        workers: threads for SciPy; None: torch's number of threads.

    Raises:
        NotSupported: for variable coefficients or reactions, masked grids, or an operator of another type.

    Source: Swarztrauber, The methods of cyclic reduction, Fourier analysis and the FACR algorithm, SIAM
    Review 19 (1977).

    >>> from solvus.meshes import Grid
    >>> from solvus.solvers import LinearSystem, solve
    >>> A = Diffusion(Grid((127, 127)), reaction=1.0)
    >>> solve(LinearSystem(A, torch.ones(127 * 127, dtype=torch.float64)), FastTransform()).steps
    1
    """

    backend: Backend = Backend.AUTO
    workers: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "backend", Backend(self.backend))
        check_workers(self.workers)

    def check(self, problem: Any) -> None:
        """Reject what the transforms do not diagonalise."""
        A = check_diffusion(problem.A, self.backend, "FastTransform")
        varying = [
            name
            for name, value in (("coefficient", A.coefficient), ("reaction", A.reaction))
            if value is None
        ]
        if varying:
            raise NotSupported(
                f"FastTransform needs constant coefficients, but the {' and the '.join(varying)} of this "
                "Diffusion is given as a field: give a number if it is constant, else use "
                "CG(fast_transform()) or multigrid"
            )
        if A.grid.mask is not None and not A.grid.mask.all():
            raise NotSupported(
                "FastTransform needs a full box, this grid is masked: use CG(fast_transform()), which "
                "preconditions with the box, or multigrid"
            )

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the start, the direct solution, and refinements of it."""
        A = problem.A
        assert isinstance(A, Diffusion)
        assert A.coefficient is not None
        assert A.reaction is not None
        inverse = SeparableInverse(
            A.grid, A.coefficient, A.reaction, dtype=A.dtype, device=A.device, backend=self.backend,
            workers=self.workers,
        )  # fmt: skip
        box = (*x.shape[:-1], *A.grid.shape)
        if bool(x.any()):
            r = problem.residual(x)
            yield x, r.norm(dim=-1)
        else:
            yield x, problem.scale()
            x.copy_(problem.b)  # solved in place: no work vector but the eigenvalues
            inverse.apply_(x.view(box))
            r = problem.residual(x)
            yield x, r.norm(dim=-1)
        while True:
            x.add_(inverse.apply_(r.view(box)).view_as(x))
            r = problem.residual(x)
            yield x, r.norm(dim=-1)
