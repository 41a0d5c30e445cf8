"""What the direct methods share: factor, solve, refine; the factor as an operator; kept for the adjoint."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ...operators.linear.base import SPD, LinearOperator
from ...operators.linear.csr import CSR
from ...operators.linear.errors import NotSupported
from ..base import Breakdown, Solver
from ..preconditioners.inverse import Inverse
from ..system import LinearSystem

_REAL = (torch.float32, torch.float64)


class SingularMatrix(Breakdown):
    """A factorisation met a zero pivot, or one of the wrong sign."""

    def __init__(self, method: str, found: str) -> None:
        super().__init__(
            f"{method}: {found}. If A is singular with a known null space (pure Neumann: constants), declare "
            "it, `sparse(matrix, tags={Tag.SPD}, nullspace=Constants())`; if a row or column is empty, "
            "remove that unknown; if A is not definite, drop the SPD tag"
        )


class Direct(Solver):
    """A method that factors A once. Step 1 is the solution, each further step one of iterative refinement.

    A known null space is grounded (one unknown per null vector is tied down) and projected off. BREAKDOWN
    when the matrix is singular, or when refinement no longer halves the residual.

    `factorize` is also a `Preconditioner`, and the way to solve many systems with one matrix in turn.
    """

    @abstractmethod
    def factorize(self, A: LinearOperator) -> LinearOperator:
        """Return the operator A^-1, with the factors of A inside.

        Raises:
            SingularMatrix: at a zero pivot, or a negative one under an SPD tag.
            NotSupported: for operators that the method cannot treat.
        """

    def check(self, problem: LinearSystem) -> None:
        """Reject a batch of operators and types other than float32 and float64."""
        single_real(problem.A, type(self).__name__)

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the start, the solution, and refinements of it."""
        yield from refine(problem, x, self.factorize(problem.A))

    def keeping(self) -> Solver:
        """Return this method with a memory of one factor, used again for A and A^T."""
        return _Keeping(self)


def single_real(A: LinearOperator, method: str) -> None:
    """Reject batches of operators and other types than float32 and float64."""
    if A.batch_shape:
        raise NotSupported(
            f"{method} factors one matrix, this operator is a batch of {tuple(A.batch_shape)}: use Dense() "
            "for small n, CG with multigrid for large, or loop over the batch"
        )
    if A.dtype not in _REAL:
        raise NotSupported(
            f"{method} takes float32 and float64, this operator is {A.dtype}: convert it, or Dense()"
        )


def refine(problem: LinearSystem, x: Tensor, M: LinearOperator) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate x += M (b - A x) for a factored M; raise Breakdown when the residual no longer halves."""
    r = problem.residual(x)
    norm = r.norm(dim=-1)
    correction = torch.empty_like(r)
    yield x, norm
    while True:
        M.matvec_into(r, correction)
        x.add_(correction)
        r = problem.residual(x)
        previous, norm = norm, r.norm(dim=-1)
        done = yield x, norm
        stuck = ~(norm <= previous / 2)
        if done is not None:
            stuck = stuck | done
        if bool(stuck.all()):
            relative = float((norm / problem.scale().clamp_min(torch.finfo(norm.dtype).tiny)).max())
            raise Breakdown(
                f"refinement stalls at a relative residual of {relative:.1e}: A is singular or too "
                f"ill-conditioned for {x.dtype}; declare its null space, drop a wrong SPD tag, use float64, "
                "or ask for less"
            )


@final
class FactorInverse(Inverse):
    """A^-1 by a factorisation on the host.

    Args:
        A: the operator that was factored, on any device.
        solve: function (columns (n, k), transposed) -> (n, k), Fortran order both.
        transposed: whether this is A^-T.
    """

    def __init__(
        self, A: LinearOperator, solve: Callable[[np.ndarray, bool], np.ndarray], *, transposed: bool = False
    ) -> None:
        super().__init__(A, A.tags & SPD)
        self._A, self._solve, self._transposed = A, solve, transposed

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write A^-1 x into out."""
        n = self.shape[1]
        solved = self._solve(x.reshape(-1, n).cpu().numpy().T, self._transposed)
        out.view(-1, n).copy_(torch.from_numpy(np.ascontiguousarray(solved.T)))

    def transpose(self) -> LinearOperator:
        """Return A^-T; shares the factor."""
        return (
            self if self.symmetric else FactorInverse(self._A, self._solve, transposed=not self._transposed)
        )


@final
class _Keeping(Solver):
    """A direct method that remembers its last factor, for the adjoint solve that follows."""

    def __init__(self, method: Direct) -> None:
        self.method = method
        self._kept: tuple[LinearOperator, LinearOperator] | None = None

    def check(self, problem: Any) -> None:
        self.method.check(problem)

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield from refine(problem, x, self._inverse(problem.A))

    def _inverse(self, A: LinearOperator) -> LinearOperator:
        if self._kept is not None:
            known, inverse = self._kept
            if A is known:
                return inverse
            if _same(A, known.transpose()):
                return inverse.transpose()
        inverse = self.method.factorize(A)
        self._kept = A, inverse
        return inverse


def _same(A: LinearOperator, B: LinearOperator) -> bool:
    """Whether A and B are one operator, or sparse matrices with the same entries."""
    if A is B:
        return True
    if not (isinstance(A, CSR) and isinstance(B, CSR)) or A.shape != B.shape or A.nnz != B.nnz:
        return False
    return all(
        torch.equal(p, q) for p, q in zip((A.crow, A.col, A.values), (B.crow, B.col, B.values), strict=True)
    )
