"""Gradients of solutions by the adjoint method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Callback, Result, SolveError, Solver, Status, Stop, _run
from .system import LinearSystem


def differentiable(problem: Any) -> bool:
    """Whether a solve of this problem must carry gradients."""
    if not torch.is_grad_enabled() or not isinstance(problem, LinearSystem):
        return False
    return problem.b.requires_grad or any(p.requires_grad for p in problem.A.parameters())


class _Adjoint(torch.autograd.Function):
    """x = A(p)^-1 b; backward solves A^T lambda = grad, then dp = -(d/dp A(p) x)^T lambda, db = lambda."""

    @staticmethod
    def forward(ctx: Any, run: Any, problem: LinearSystem, b: Tensor, *parameters: Tensor) -> Tensor:
        result: Result = run(problem)
        ctx.run, ctx.problem = run, problem
        ctx.save_for_backward(result.value)
        ctx.b_shape = b.shape
        return result.value

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        problem: LinearSystem = ctx.problem
        A = problem.A
        grad = grad_outputs[0].contiguous()
        if A.nullspace is not None:
            grad = A.nullspace.project(grad)
        adjoint = ctx.run(LinearSystem(A.transpose(), grad)).value
        grad_b = adjoint.sum_to_size(ctx.b_shape) if ctx.needs_input_grad[2] else None
        parameters = A.parameters()
        wanted = [i for i, p in enumerate(parameters) if p.requires_grad]
        grads: list[Tensor | None] = [None] * len(parameters)
        if wanted:
            with torch.enable_grad():
                y = A.matvec(x.detach())
            found = torch.autograd.grad(y, [parameters[i] for i in wanted], -adjoint, allow_unused=True)
            for i, g in zip(wanted, found, strict=True):
                grads[i] = g
        return (None, None, grad_b, *grads)


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

    Memory does not grow with the number of iterations: only the solution is kept. The adjoint system is solved
    by the same solver to the same tolerance; when it does not converge, `backward` raises `SolveError`.
    """
    results: list[Result] = []

    def run(system: LinearSystem) -> Result:
        forward = not results
        with torch.no_grad():
            result = _run(system, solver, x0 if forward else None, stop, callback if forward else None)
        if result.status is not Status.CONVERGED and (throw or not forward):
            raise SolveError(result)
        if forward:
            results.append(result)
        return result

    value = _Adjoint.apply(run, problem, problem.b, *problem.A.parameters())
    r = results[0]
    return Result(
        value, r.status, r.steps, r.residuals, r.residual, r.relative_residual, r.converged, r.sample_steps,
        r.stats, r.reason,
    )  # fmt: skip
