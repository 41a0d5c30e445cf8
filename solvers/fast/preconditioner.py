"""Fast transforms as a preconditioner for variable coefficients and masked boxes."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
from torch import Tensor

from ...operators.linear.base import SPD, LinearOperator
from ..preconditioners.base import Preconditioner
from ..preconditioners.inverse import Inverse
from .separable import SeparableInverse
from .solver import check_diffusion, check_workers
from .surrogate import surrogate
from .transforms import Backend


def fast_transform(
    *, scaling: bool | None = None, backend: Backend = Backend.AUTO, workers: int | None = None
) -> Preconditioner:
    """Precondition a `Diffusion` by the exact inverse of constant-coefficient diffusion on its full box.

        M = P (S G B G^T S + E) P

    B is the fast solver on the full box with the mean coefficient and reaction; G keeps the unknowns that the
    mask leaves (G^T scatters them into a zero box); E inverts the rows without neighbours (masked-out and
    isolated unknowns); P projects onto the complement of `A.nullspace`, the mean-free vectors on each
    floating part; S = D^(-1/2) scales by the local coefficient D. Linear, and SPD (on that complement).

    Good for: boxes with no-flux obstacles (the iterations of CG do not grow with the grid) and smooth
    coefficients (with scaling, hardly with the contrast). Poor for jumping coefficients (the condition number
    is the contrast) and for Dirichlet obstacles (the iterations grow like the square root of the size per
    axis): use multigrid there.

    Args:
        scaling: scale by the local coefficient; None: per sample, where the estimated condition number gains.
        backend: see `Backend`.
        workers: threads for SciPy; None: torch's number of threads.

    Raises:
        ValueError: for workers < 1.
        NotSupported: on use, for an operator that is not a `Diffusion` in float32 or float64.

    Source: Concus and Golub, SIAM J. Numer. Anal. 10 (1973) for S; Buzbee, Dorr, George and Golub, SIAM J.
    Numer. Anal. 8 (1971) for embedding in a box.

    >>> import numpy as np
    >>> from solvus.meshes import Grid
    >>> from solvus.operators.linear import Diffusion
    >>> from solvus.solvers import CG, LinearSystem, solve
    >>> mask = np.ones((32, 32), dtype=bool)
    >>> mask[12:20, 12:20] = False
    >>> A = Diffusion(Grid((32, 32), centring="cell", boundary="neumann", mask=mask))
    >>> b = A @ torch.linspace(0, 1, 32 * 32, dtype=torch.float64)
    >>> solve(LinearSystem(A, b), CG(fast_transform())).steps <= 10
    True
    """
    check_workers(workers)
    return partial(FastTransformPreconditioner, scaling=scaling, backend=Backend(backend), workers=workers)


@final
class FastTransformPreconditioner(Inverse):
    """The operator that `fast_transform` builds.

    Attributes:
        surrogate: the box problem and the scaling that stand in for A.
        box: the fast solver B on the full box.
    """

    def __init__(
        self,
        A: LinearOperator,
        *,
        scaling: bool | None = None,
        backend: Backend = Backend.AUTO,
        workers: int | None = None,
    ) -> None:
        A = check_diffusion(A, backend, "fast_transform")
        super().__init__(A, SPD)
        with torch.no_grad():
            self.surrogate = surrogate(A, scaling)
        self.box = SeparableInverse(
            A.grid, self.surrogate.coefficient, self.surrogate.reaction, dtype=A.dtype, device=A.device,
            backend=backend, workers=workers, floor=1.0,
        )  # fmt: skip

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write (S G B G^T S + E) x into out; the projections around it are `Inverse`'s."""
        scale, rest = self.surrogate.scale, self.surrogate.rest
        if scale is not None:
            torch.mul(x, scale, out=out)
        else:
            out.copy_(x)
        self.box.apply_(out.view(*out.shape[:-1], *self.box.grid.shape))
        if scale is not None:
            out.mul_(scale)
        if rest is not None:
            out.addcmul_(x, rest)
