"""Symmetric successive over-relaxation as a preconditioner."""

from __future__ import annotations

from functools import partial
from typing import final

from torch import Tensor

from ...operators.linear.base import SPD, SYMMETRIC, LinearOperator
from .base import Preconditioner
from .inverse import Inverse
from .jacobi import nonzero_diagonal
from .kernels import ssor_backward_forward, ssor_forward_backward
from .relaxation import NaturalSweeps, Order, check_omega, relaxation


@final
class SSORInverse(Inverse):
    """M^-1 = w/(2-w) (D/w + L) D^-1 (D/w + U): one SOR sweep and one in reverse, from zero.

    L and U are the strict triangles of A in the order of the sweep. SPD when A is.

    Args:
        A: single; in multicolour order on any device, or a batch of `Diffusion`.
        omega: relaxation parameter in (0, 2).
        backward_first: sweep descending, then ascending: exchanges L and U.
        order: see `Order`; None: natural for single operators on the CPU, else multicolour.
    """

    def __init__(
        self,
        A: LinearOperator,
        omega: float = 1.0,
        backward_first: bool = False,
        order: Order | None = None,
    ) -> None:
        positive = bool((nonzero_diagonal(A) > 0).all())
        tags = SPD if A.positive_definite and positive else A.tags & SYMMETRIC
        super().__init__(A, tags)
        self._settings = (omega, backward_first, order)
        self._A, self.omega, self.backward_first = A, omega, backward_first
        self._sweeps = relaxation(A, order)

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write M x into out."""
        if isinstance(self._sweeps, NaturalSweeps):
            out.copy_(x)
            kernel = ssor_backward_forward if self.backward_first else ssor_forward_backward
            kernel(*self._sweeps.arrays, out.view(-1, self.shape[1]).numpy(), self.omega)
            return
        out.zero_()
        self._sweeps.sweep(out, x, self.omega, backward=self.backward_first)
        self._sweeps.sweep(out, x, self.omega, backward=not self.backward_first)

    def transpose(self) -> LinearOperator:
        """Return M^T, which is SSOR of A^T."""
        return self if self.symmetric else SSORInverse(self._A.T, *self._settings)


def ssor(
    omega: float = 1.0, *, backward_first: bool = False, order: Order | str | None = None
) -> Preconditioner:
    """Make the SSOR preconditioner: SPD when A is.

    On the CPU in natural order, compiled; colour by colour in torch on other devices and for batches of
    `Diffusion` (more steps, but parallel).

    Args:
        omega: in (0, 2); 1 is symmetric Gauss-Seidel, 1.5 to 1.95 good on fine grids, see `young_omega`.
        backward_first: descend first, then ascend; counts differ slightly.
        order: `Order.NATURAL`, `Order.MULTICOLOUR`, or None to choose as above.

    Source: Young, Iterative Solution of Large Linear Systems (1971); Saad (2003), section 10.2.

    Raises:
        ValueError: for omega outside (0, 2). When applied: ZeroDiagonal; NotSupported for the natural order
            of a batch or on another device.

    >>> from solvus.operators import sparse
    >>> import scipy.sparse as sp, torch
    >>> A = sparse(sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(3, 3)))
    >>> (ssor(1.0)(A) @ torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)).tolist()
    [0.65625, 0.3125, 0.125]
    """
    order = None if order is None else Order(order)
    return partial(SSORInverse, omega=check_omega(omega), backward_first=backward_first, order=order)
