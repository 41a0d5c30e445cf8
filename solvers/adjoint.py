"""Gradients of solutions by the adjoint method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..operators.linear.base import Tag
from ..operators.linear.errors import NonFinite, NotSupported
from ..operators.linear.nullspace import NullSpace
from .base import Callback, Result, SolveError, Solver, Status, Stop, all_finite
from .loop import run
from .system import LinearSystem


def differentiable(problem: Any) -> bool:
    """Whether a solve of this problem must carry gradients."""
    if not torch.is_grad_enabled() or not isinstance(problem, LinearSystem):
        return False
    return problem.b.requires_grad or any(p.requires_grad for p in problem.A.parameters())


class _Adjoint(torch.autograd.Function):
    """x = A(p)^-1 b; backward solves A^T lambda = grad, then dp = -(d/dp A(p) x)^T lambda, db = lambda."""

    @staticmethod
    def forward(
        ctx: Any,
        forward: Callable[[], Tensor],
        solve_adjoint: Callable[[LinearSystem], Tensor],
        problem: LinearSystem,
        b: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        x = forward()
        ctx.solve_adjoint, ctx.A, ctx.b_shape = solve_adjoint, problem.A, b.shape
        ctx.save_for_backward(x, *parameters)  # parameters too: autograd then notices changes in place
        return x

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        A = ctx.A
        grad = grad_outputs[0].contiguous()
        if not all_finite(grad):
            raise NonFinite("the gradient that reached `solve` holds NaN or infinity: look at the loss")
        if A.nullspace is not None:
            grad = _in_complement(grad, A.nullspace)
        adjoint = ctx.solve_adjoint(LinearSystem(A.transpose(), grad))
        grad_b = adjoint.sum_to_size(ctx.b_shape) if ctx.needs_input_grad[3] else None
        wanted = [i for i, p in enumerate(parameters) if p.requires_grad]
        grads: list[Tensor | None] = [None] * len(parameters)
        if wanted:
            with torch.enable_grad():
                y = A.matvec(x.detach())
            found = torch.autograd.grad(y, [A.parameters()[i] for i in wanted], -adjoint, allow_unused=True)
            for i, g in zip(wanted, found, strict=True):
                grads[i] = g
        return (None, None, None, grad_b, *grads)


def _in_complement(grad: Tensor, nullspace: NullSpace) -> Tensor:
    """Project out the null space; where nothing but rounding remains, return exact zeros."""
    left = nullspace.project(grad)
    noise = 10 * torch.finfo(grad.dtype).eps * grad.norm(dim=-1, keepdim=True)
    return torch.where(left.norm(dim=-1, keepdim=True) <= noise, 0.0, nullspace.project(left))


def solve_with_gradient(
    problem: LinearSystem,
    solver: Solver,
    *,
    x0: Tensor | None,
    stop: Stop,
    callback: Callback | None,
    throw: bool,
) -> Result:
    """Solve with `result.value` attached to the graph of b and of the operator's parameters.

    Memory does not grow with the number of iterations: only the solution is kept. The adjoint system is
    solved by the same solver, its set-up kept where A is symmetric, to the same tolerance; when it does not
    converge, `backward` raises `SolveError` (also with throw=False: a wrong gradient would be silent).
    Gradients of gradients are refused by autograd.

    Raises:
        NotSupported: when the operator has no transpose.
        SolveError: not converged, and `throw`.
    """
    if Tag.LINEAR_ONLY in problem.A.tags:
        raise NotSupported(
            f"a gradient needs the transpose, which {type(problem.A).__name__} does not have: solve under "
            "torch.no_grad(), or give the operator a transpose"
        )
    results: list[Result] = []
    solver = solver.keeping()

    def forward() -> Tensor:
        result = run(problem, solver, x0, stop, callback)
        if throw and result.status is not Status.CONVERGED:
            raise SolveError(result)
        results.append(result)
        return result.value

    def solve_adjoint(system: LinearSystem) -> Tensor:
        solver.check(system)
        with torch.no_grad():
            result = run(system, solver, None, stop, None)
        if result.status is not Status.CONVERGED:
            raise SolveError(result)
        return result.value

    value = _Adjoint.apply(forward, solve_adjoint, problem, problem.b, *problem.A.parameters())
    return replace(results[0], value=value)
