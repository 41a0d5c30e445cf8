"""The problem A x = b."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from ..operators.linear.base import LinearOperator
from ..operators.linear.csr import sparse
from ..operators.linear.errors import IncompatibleSystem, NonFinite, ShapeMismatch
from ..operators.linear.nullspace import NullSpace


@final
class LinearSystem:
    """The linear system A x = b, checked once.

    Args:
        A: a `LinearOperator`, or anything that `sparse` reads (SciPy, NumPy, torch, PETSc, a file).
        b: right-hand sides (..., n); a NumPy array is taken over. Several right-hand sides, or a batch of
            operators, make a batched problem.

    Raises:
        ShapeMismatch, MixedDtypes, MixedDevices: when A and b do not fit.
        NonFinite: when b holds NaN or infinity.
        IncompatibleSystem: when A is singular with a known null space and b has a part in it.

    >>> import scipy.sparse as sp
    >>> system = LinearSystem(sp.eye_array(3), torch.ones(3, dtype=torch.float64))
    """

    def __init__(self, A: LinearOperator | Any, b: Tensor | Any) -> None:
        self.A = A if isinstance(A, LinearOperator) else sparse(A)
        self.b = b if isinstance(b, Tensor) else torch.as_tensor(b).to(self.A.device)
        if self.A.shape[0] != self.A.shape[1]:
            raise ShapeMismatch(
                f"solve needs a square operator, this one is {self.A.shape[0]} x {self.A.shape[1]}"
            )
        self.A.check_vector(self.b, name="b")
        if not bool(torch.isfinite(self.b.detach()).all()):
            raise NonFinite("b holds NaN or infinite values: repair the right-hand side before solving")
        if self.A.nullspace is not None:
            self._check_compatible(self.A.nullspace)

    def _check_compatible(self, nullspace: NullSpace) -> None:
        b = self.b.detach()
        part, whole = nullspace.component(b).norm(dim=-1), b.norm(dim=-1)
        tolerance = 1e-9 if b.dtype in (torch.float64, torch.complex128) else 1e-4
        if bool((part > tolerance * whole).any()):
            worst = float((part / whole.clamp_min(torch.finfo(b.dtype).tiny)).max())
            raise IncompatibleSystem(
                f"A is singular (null space of dimension {nullspace.dimension}, for example pure Neumann "
                f"conditions) and b has a share of {worst:.1e} in its null space, so no solution exists: "
                "pass `A.nullspace.project(b)` for the least-squares solution, or fix the data"
            )

    @property
    def n(self) -> int:
        """Number of unknowns."""
        return self.A.shape[1]

    @property
    def batch_shape(self) -> torch.Size:
        """Leading axes of the solution."""
        return torch.broadcast_shapes(self.b.shape[:-1], self.A.batch_shape)

    def guess(self) -> Tensor:
        """Return the zero start, (..., n)."""
        return torch.zeros(*self.batch_shape, self.n, dtype=self.A.dtype, device=self.A.device)

    def residual(self, x: Tensor) -> Tensor:
        """Return b - A x."""
        r = torch.empty_like(x)
        self.A.matvec_into(x, r)
        return torch.sub(self.b, r, out=r)

    def residual_norm(self, x: Tensor) -> Tensor:
        """Return ||b - A x||, (...), recomputed."""
        return self.residual(x).norm(dim=-1)

    def scale(self) -> Tensor:
        """Return ||b||, (...), to which the relative tolerance refers."""
        return self.b.detach().norm(dim=-1).expand(self.batch_shape)

    def finish(self, x: Tensor) -> Tensor:
        """Remove the null-space part of a solution (the minimum-norm one remains)."""
        return x if self.A.nullspace is None else self.A.nullspace.project(x)

    def __repr__(self) -> str:
        return f"LinearSystem({self.A!r}, b {tuple(self.b.shape)})"
