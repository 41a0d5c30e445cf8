"""What a sparse inverse is trained on: matrices alone, no solutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ....operators.linear.csr import CSR, csr_tensor
from .factored import Pattern
from .graph import MatrixGraph, Start, matrix_graph


@final
@dataclass(frozen=True)
class _Layout:
    """Where the entries of a sparse matrix and of its transpose lie."""

    n: int
    rows: Tensor
    cols: Tensor
    crow: Tensor
    order: Tensor  # entries in the order of the transpose
    crow_t: Tensor

    @classmethod
    def of(cls, n: int, rows: Tensor, cols: Tensor) -> _Layout:
        starts = lambda index: torch.cat([index.new_zeros(1), torch.bincount(index, minlength=n).cumsum(0)])  # noqa: E731
        return cls(n, rows, cols, starts(rows), torch.argsort(cols * n + rows), starts(cols))

    def multiply(self, values: Tensor, x: Tensor) -> Tensor:
        """Return A x, x (n, K)."""
        return csr_tensor(self.crow, self.cols, values, (self.n, self.n)) @ x

    def multiply_t(self, values: Tensor, x: Tensor) -> Tensor:
        """Return A^T x."""
        matrix = csr_tensor(self.crow_t, self.rows[self.order], values[self.order], (self.n, self.n))
        return matrix @ x


class _Product(torch.autograd.Function):
    """A x or A^T x with gradients with respect to the entries of A and x."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, layout: _Layout, transposed: bool) -> Tensor:
        ctx.save_for_backward(values, x)
        ctx.layout, ctx.transposed = layout, transposed
        return (layout.multiply_t if transposed else layout.multiply)(values, x)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grad_outputs
        grad = grad.contiguous()
        values, x = ctx.saved_tensors
        layout: _Layout = ctx.layout
        grad_values = grad_x = None
        left, right = (x, grad) if ctx.transposed else (grad, x)
        if ctx.needs_input_grad[0]:
            terms = left.index_select(0, layout.rows) * right.index_select(0, layout.cols)
            grad_values = terms.sum(1)
        if ctx.needs_input_grad[1]:
            grad_x = (layout.multiply if ctx.transposed else layout.multiply_t)(values, grad)
        return grad_values, grad_x, None, None


@final
class TrainingSystem:
    """A matrix prepared for training: its graph, and products that can be differentiated.

    Args:
        A: symmetric positive definite.
        pattern: of L.
        eps: share of the identity in M.
        start: of L.
        dtype: of the arithmetic.
    """

    def __init__(
        self,
        A: CSR,
        pattern: Pattern | str,
        eps: float,
        *,
        start: Start | str = Start.IDENTITY,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.graph: MatrixGraph = matrix_graph(A, pattern, start)
        graph, self.eps = self.graph, eps
        self._A = _Layout.of(graph.n, graph.rows, graph.cols)
        self._L = _Layout.of(graph.n, graph.rows[graph.kept], graph.cols[graph.kept])
        self.entries = graph.entries.to(dtype)

    @property
    def n(self) -> int:
        """Number of unknowns."""
        return self.graph.n

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """Return random vectors (n, count)."""
        z = torch.randn(self.n, count, generator=generator, dtype=self.entries.dtype)
        return z.to(self.entries.device)

    def apply(self, x: Tensor) -> Tensor:
        """Return the scaled A times x, x (n, K)."""
        return _Product.apply(self.entries, x, self._A, False)  # type: ignore[no-any-return]

    def precondition(self, L: Tensor, x: Tensor) -> Tensor:
        """Return (L L^T + eps Id) x."""
        y: Tensor = _Product.apply(L, x, self._L, True)  # type: ignore[assignment]
        z: Tensor = _Product.apply(L, y, self._L, False)  # type: ignore[assignment]
        return z + self.eps * x


def hutchinson(system: TrainingSystem, L: Tensor, z: Tensor) -> Tensor:
    """Return the mean of log min_s ||s M A z - z||^2 / ||z||^2 = log(1 - cos^2) over random z, (n, K).

    The expectation of ||M A z - z||^2 is ||M A - Id||_F^2 (Hutchinson); the optimal s makes it scale free.
    """
    y = system.precondition(L, system.apply(z))
    cosine = (y * z).sum(0).square() / (y.square().sum(0) * z.square().sum(0))
    return (1 - cosine).clamp(min=1e-12).log().mean()


def kaporin(system: TrainingSystem, L: Tensor, z: Tensor) -> Tensor:
    """Return an estimate of log K / n, K = (trace(L^T A L) / n)^n / det(L^T A L), up to a constant.

    Kaporin's condition number bounds the steps of CG; without eps and on tril(A) its minimiser is the
    factored sparse inverse. L must be triangular for the determinant.
    """
    trace = (z * system.precondition(L, system.apply(z))).sum(0).mean() / system.n
    graph = system.graph
    on = (graph.rows == graph.cols).index_select(0, graph.kept)
    return trace.clamp(min=1e-12).log() - L[on].abs().clamp(min=1e-6).log().mean() * 2


def reduction(system: TrainingSystem, L: Tensor, b: Tensor, steps: int) -> Tensor:
    """Return the mean of log(||r_k|| / ||r_0||) / k after k steps of preconditioned CG, b (n, K).

    In the scaled variables. Energy norm of the error is not known without solutions; the residual is.
    """
    r, start = b, b.square().sum(0)
    z = system.precondition(L, r)
    p, rz = z, (r * z).sum(0)
    for step in range(steps):
        q = system.apply(p)
        r = r - rz / (p * q).sum(0) * q
        if step < steps - 1:
            z = system.precondition(L, r)
            rz, old = (r * z).sum(0), rz
            p = z + rz / old * p
    return 0.5 * (r.square().sum(0) / start).clamp(min=1e-24).log().mean() / steps
