"""One call, one loop, one result: `solve` and what it takes and returns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor


class Status(Enum):
    """How a solve ended; `advice` says what to do about it."""

    CONVERGED = "the recomputed residual meets the tolerance"
    STOPPED = "the callback asked to stop: the value is the last iterate"
    MAX_STEPS = "max_steps reached: allow more, use a stronger preconditioner, or loosen rtol"
    TIMEOUT = "the time limit was reached: allow more seconds or use a faster solver"
    BREAKDOWN = "the method cannot go on: see the reason, and try MINRES, GMRES or a direct solver"
    NONFINITE = "NaN or infinity appeared: check the preconditioner and the scaling of the problem"

    @property
    def advice(self) -> str:
        """What the status means and what to do."""
        return self.value


class Breakdown(ArithmeticError):
    """Raised inside `Solver.iterate` when the method cannot go on; its text becomes the reason."""


class SolveError(RuntimeError):
    """A solve that did not converge; carries the whole `result`."""

    def __init__(self, result: Result) -> None:
        self.result = result
        reason = f" ({result.reason})" if result.reason else ""
        super().__init__(
            f"{result.status.name} after {result.steps} steps, relative residual "
            f"{float(torch.as_tensor(result.relative_residual).max()):.2e}{reason}: {result.status.advice}; "
            "the result is in `error.result`, or pass throw=False"
        )


@dataclass(frozen=True)
class Stop:
    """When to end: residual <= max(rtol * scale, atol), or a limit.

    Args:
        rtol: relative to the problem's scale (||b|| for linear systems).
        atol: absolute.
        max_steps: limit on the steps.
        check_every: look at the residual only every so many steps (saves device synchronisation).
        seconds: time limit, None for none.
    """

    rtol: float = 1e-6
    atol: float = 0.0
    max_steps: int = 1000
    check_every: int = 1
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol >= 0) or math.isinf(self.rtol):
            raise ValueError(
                f"rtol and atol must be finite and not negative, got {self.rtol} and {self.atol}"
            )
        if self.max_steps < 0 or self.check_every < 1:
            raise ValueError(f"max_steps {self.max_steps} must be >= 0, check_every {self.check_every} >= 1")


class Problem(Protocol):
    """What `solve` needs to know of a problem."""

    def guess(self) -> Tensor:
        """Return the default start."""
        ...

    def residual_norm(self, x: Tensor) -> Tensor:
        """Return the true residual norm, recomputed, one value per batch entry."""
        ...

    def scale(self) -> Tensor:
        """Return what the relative tolerance refers to."""
        ...

    def finish(self, x: Tensor) -> Tensor:
        """Put a found solution into its normal form."""
        ...


class Solver(ABC):
    """A method: settings only, no state. Subclasses are frozen dataclasses."""

    def check(self, problem: Any) -> None:  # noqa: B027
        """Reject a problem that the method cannot treat, naming the alternative."""

    @abstractmethod
    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (x, residual norm) at the start and after every step; x may be changed in place."""


@dataclass(frozen=True)
class Result:
    """What came of a solve.

    Attributes:
        value: the solution found (the last iterate, when it did not converge), (..., n).
        status: the worst status of the batch.
        steps: steps taken.
        residuals: residual norms seen by the method, start included, (checks, ...).
        residual: TRUE residual norm of `value`, recomputed from the problem, (...).
        relative_residual: `residual` over the problem's scale.
        converged: per batch entry, bool (...).
        sample_steps: steps after which each batch entry was done, int64 (...).
        stats: setup_s, solve_s and what the method adds.
        reason: what the method said when it broke down.
    """

    value: Tensor
    status: Status
    steps: int
    residuals: Tensor
    residual: Tensor
    relative_residual: Tensor
    converged: Tensor
    sample_steps: Tensor
    stats: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    def __repr__(self) -> str:
        worst = float(self.relative_residual.max()) if self.relative_residual.numel() else 0.0
        seconds = self.stats.get("setup_s", 0.0) + self.stats.get("solve_s", 0.0)
        return (
            f"Result({self.status.name}, {self.steps} steps, relative residual {worst:.1e}, {seconds:.3g} s)"
        )


Callback = Callable[[int, Tensor, Tensor], object]
_TIGHTENINGS = 4  # how often a residual that drifted from the true one is followed further down


def solve(
    problem: Any,
    solver: Solver | None = None,
    *,
    x0: Tensor | None = None,
    stop: Stop | None = None,
    callback: Callback | None = None,
    throw: bool = True,
) -> Result:
    """Solve a problem and report what came of it, with the residual recomputed from the problem.

    Args:
        problem: a `LinearSystem` or any `Problem`.
        solver: the method; None lets `Auto` choose.
        x0: start (not changed); default the problem's guess.
        stop: tolerance and limits; default `Stop()`, relative residual 1e-6.
        callback: called as callback(step, x, residual) at every check; a true return value stops the solve.
        throw: raise `SolveError` when not converged; else the caller reads `result.status`.

    Gradients flow from `result.value` to b and to the operator's parameters by the adjoint method: one
    transposed solve, no graph through the iterations.

    Raises:
        SolveError: not converged, and `throw`.

    >>> import scipy.sparse as sp
    >>> from solvus.solvers import LinearSystem
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(50, 50))
    >>> solve(LinearSystem(A, torch.ones(50, dtype=torch.float64))).status.name
    'CONVERGED'
    """
    stop = stop or Stop()
    if solver is None:
        from .auto import Auto

        solver = Auto()
    solver.check(problem)
    from .adjoint import differentiable, solve_with_gradient

    if differentiable(problem):
        return solve_with_gradient(problem, solver, x0=x0, stop=stop, callback=callback, throw=throw)
    with torch.no_grad():
        result = _run(problem, solver, x0, stop, callback)
    if throw and result.status is not Status.CONVERGED:
        raise SolveError(result)
    return result


def _start(problem: Any, x0: Tensor | None) -> Tensor:
    guess = problem.guess()
    if x0 is None:
        return guess
    x0 = torch.as_tensor(x0).detach()
    if x0.dtype != guess.dtype or x0.device != guess.device:
        raise TypeError(
            f"x0 is {x0.dtype} on {x0.device}, the problem {guess.dtype} on {guess.device}: convert x0"
        )
    try:
        x = x0.expand(guess.shape).clone()
    except RuntimeError:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}, the solution has {tuple(guess.shape)}") from None
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x0 holds NaN or infinite values: start from zero or repair it")
    return x


def synchronize(tensor: Tensor) -> None:
    """Wait for the device of a tensor, so that a clock read next is true."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def _run(problem: Any, solver: Solver, x0: Tensor | None, stop: Stop, callback: Callback | None) -> Result:
    """The only loop: stopping, per-sample freezing, history, timing, and the true residual."""
    x = _start(problem, x0)
    scale = problem.scale()
    target = torch.clamp(stop.rtol * scale, min=stop.atol)
    inner = (
        target.clone()
    )  # what the method's own residual must reach; tightened when it proves too optimistic
    begin = perf_counter()
    status, reason, steps, tightened = None, "", -1, 0
    history: list[Tensor] = []
    done = torch.zeros(target.shape, dtype=torch.bool, device=target.device)
    sample_steps = torch.zeros(target.shape, dtype=torch.int64, device=target.device)
    kept: Tensor | None = None  # values of the batch entries that are done
    ready = begin
    iteration = solver.iterate(problem, x)
    try:
        for steps, (x, norm) in enumerate(iteration):
            if steps == 0:
                synchronize(x)
                ready = perf_counter()
            last = steps >= stop.max_steps
            if steps % stop.check_every and not last:
                continue
            norm = norm.expand(target.shape)
            history.append(norm.clone())
            if callback is not None and callback(steps, x, norm):
                status = Status.STOPPED
                break
            reached = norm <= inner
            finite = bool(torch.isfinite(norm[~done] if norm.ndim else norm).all())
            if not finite:
                status = Status.NONFINITE
                break
            if bool((reached & ~done).any()):
                true = problem.residual_norm(x)
                good = reached & ~done & (true <= target)
                sample_steps = torch.where(done, sample_steps, torch.full_like(sample_steps, steps))
                if target.ndim and not bool((done | good).all()):
                    kept = x.clone() if kept is None else torch.where(good[..., None], x, kept)
                elif kept is not None:
                    kept = torch.where(good[..., None], x, kept)
                done = done | good
                missed = reached & ~done
                if bool(done.all()):
                    status = Status.CONVERGED
                    break
                if bool(missed.any()):
                    tightened += 1
                    if tightened > _TIGHTENINGS:
                        status = Status.BREAKDOWN
                        reason = (
                            "the recomputed residual stagnates: attainable accuracy of this precision reached"
                        )
                        break
                    shrink = (target / true.clamp_min(torch.finfo(true.dtype).tiny)).clamp(max=0.5)
                    inner = torch.where(missed, inner * shrink * 0.5, inner)
            if last:
                status = Status.MAX_STEPS
                break
            if stop.seconds is not None and perf_counter() - begin > stop.seconds:
                status = Status.TIMEOUT
                break
    except Breakdown as error:
        status, reason = Status.BREAKDOWN, str(error)
    finally:
        close = getattr(iteration, "close", None)
        if close is not None:
            close()
    synchronize(x)
    end = perf_counter()
    ended_early = status is None
    if kept is not None:
        x = torch.where(done[..., None], kept, x)
    x = problem.finish(x)
    residual = problem.residual_norm(x)
    converged = (residual <= target) | (done & (residual <= target * (1 + 1e-6)))
    if status in (None, Status.BREAKDOWN, Status.MAX_STEPS, Status.TIMEOUT) and bool(converged.all()):
        status = Status.CONVERGED
    elif ended_early:
        status, reason = Status.BREAKDOWN, reason or "the method ended before the residual met the tolerance"
    if not bool(torch.isfinite(residual).all()):
        status = Status.NONFINITE
    sample_steps = torch.where(done, sample_steps, torch.full_like(sample_steps, max(steps, 0)))
    tiny = torch.finfo(residual.dtype).tiny
    assert status is not None
    return Result(
        value=x,
        status=status,
        steps=max(steps, 0),
        residuals=torch.stack(history) if history else residual.new_zeros(0),
        residual=residual,
        relative_residual=residual / scale.clamp_min(tiny),
        converged=converged,
        sample_steps=sample_steps,
        stats={"setup_s": ready - begin, "solve_s": end - ready},
        reason=reason,
    )
