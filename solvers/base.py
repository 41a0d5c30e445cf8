"""One call, one loop, one result: `solve` and what it takes and returns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, is_dataclass, replace
from enum import Enum
from typing import Any, ClassVar, Protocol

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
    """Raised inside `Solver.iterate` when the method cannot go on; its text becomes the reason.

    Raise it before the iterate is changed: what was yielded last is the value of the result.
    """


class SolveError(RuntimeError):
    """A solve that did not converge; carries the whole `result`."""

    def __init__(self, result: Result) -> None:
        self.result = result
        reason = f" ({result.reason})" if result.reason else ""
        worst = float(torch.as_tensor(result.relative_residual).max())
        super().__init__(
            f"{result.status.name} after {result.steps} steps, relative residual {worst:.2e}{reason}: "
            f"{result.advice or result.status.advice}; "
            "the result is in `error.result`, or pass throw=False"
        )


@dataclass(frozen=True)
class Stop:
    """When to end: residual <= max(rtol * scale, atol), or a limit.

    Args:
        rtol: relative to the problem's scale (||b|| for linear systems).
        atol: absolute.
        max_steps: limit on the steps; None for that of the solver, see `Solver.default_steps`.
        check_every: look at the residual only every so many steps (saves device synchronisation and history).
        seconds: time limit, set-up included; looked at after every step; None for none.

    Raises:
        ValueError: for a negative or infinite tolerance, negative limits, or check_every < 1.
    """

    rtol: float = 1e-6
    atol: float = 0.0
    max_steps: int | None = None
    check_every: int = 1
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(tol) and tol >= 0 for tol in (self.rtol, self.atol)):
            raise ValueError(
                f"rtol and atol must be finite and not negative, got {self.rtol} and {self.atol}"
            )
        if (self.max_steps is not None and self.max_steps < 0) or self.check_every < 1:
            raise ValueError(f"max_steps {self.max_steps} must be >= 0, check_every {self.check_every} >= 1")
        if self.seconds is not None and not self.seconds >= 0:
            raise ValueError(f"seconds must be >= 0, or None for no time limit, got {self.seconds}")


class Problem(Protocol):
    """What `solve` needs to know of a problem."""

    def guess(self) -> Tensor:
        """Return the default start."""
        ...

    def residual_norm(self, x: Tensor) -> Tensor:
        """Return the true residual norm, recomputed, one value per batch entry."""
        ...

    def scale(self) -> Tensor:
        """Return what the relative tolerance refers to, one value per batch entry."""
        ...

    def finish(self, x: Tensor) -> Tensor:
        """Put a found solution into its normal form."""
        ...


Iterate = Tensor | Callable[[], Tensor]


class Solver(ABC):
    """A method: settings only, no state. Subclasses are frozen dataclasses.

    Attributes:
        default_steps: limit on the steps where `Stop` gives none; infinite for methods that end themselves.
        stagnation: what it means that the method's own residual falls and the recomputed one does not.
    """

    default_steps: ClassVar[float] = 1000
    stagnation: ClassVar[str] = "the attainable accuracy in {dtype}"

    def check(self, problem: Any) -> None:  # noqa: B027
        """Reject a problem that the method cannot treat, naming the alternative."""

    @abstractmethod
    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Yield (x, residual norm) at the start and after every step; x may be changed in place.

        The method never looks at tolerances: `solve` stops asking for steps, and closes the generator.

        A method for which it costs something to form x (GMRES) yields a function without arguments in its
        place. `solve` calls it when it needs x: when the residual norm meets the tolerance, for a callback,
        and at the end, also after a `Breakdown`. So it must be valid until the next step is complete.

        `solve` sends back which samples of a batch are done, `done = yield x, norm`, bool (...): a method
        that uses it leaves their x alone and does not break down on their account. It may be ignored, and is
        None where the generator is driven by a plain `for`.
        """

    def pose(self, problem: Any) -> Any:
        """Return the problem that the method iterates on: a function becomes a vector of parameters."""
        return problem

    def keeping(self) -> Solver:
        """Return this method with a memory of the last operator's set-up, for solves in a row with it.

        The adjoint solve uses it, so that a gradient does not set up a second time. By default a field named
        `preconditioner` is kept; other methods override this. Not for operators that are changed in place.
        """
        preconditioner = getattr(self, "preconditioner", None)
        if preconditioner is None or not is_dataclass(self):
            return self
        return replace(self, preconditioner=Kept(preconditioner))

    def notes(self) -> dict[str, Any]:
        """Return what to add to the stats of the result; asked after the solve, of what `keeping` gave."""
        return {}

    def advice(self, status: Status) -> str:
        """Return what a status means and what to do; asked after the solve, of what `keeping` gave."""
        return status.advice


class Kept:
    """A preconditioner that remembers the last operator and what was built for it."""

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self.build, self.known, self.built = build, None, None

    def __call__(self, A: Any) -> Any:
        if self.known is not A:
            self.known, self.built = A, self.build(A)
        return self.built


@dataclass(frozen=True)
class Result:
    """What came of a solve.

    Attributes:
        value: the solution found (the last iterate, when it did not converge), (..., n).
        status: the worst status of the batch.
        steps: steps taken.
        residuals: residual norms that the method reported at every check, start included, (checks, ...).
        residual: TRUE residual norm of `value`, recomputed from the problem, (...).
        relative_residual: `residual` over the problem's scale.
        converged: per batch entry, bool (...).
        sample_steps: steps after which each batch entry was done, int64 (...).
        stats: setup_s, solve_s and what the method adds.
        reason: what the method said when it broke down.
        advice: what the status means for this method, and what to do.
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
    advice: str = ""

    def __repr__(self) -> str:
        worst = float(self.relative_residual.max()) if self.relative_residual.numel() else 0.0
        seconds = self.stats.get("setup_s", 0.0) + self.stats.get("solve_s", 0.0)
        return (
            f"Result({self.status.name}, {self.steps} steps, relative residual {worst:.1e}, {seconds:.3g} s)"
        )


Callback = Callable[[int, Tensor, Tensor], object]


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
        x0: start (not changed); default the problem's guess. Not used where b = 0: the solution is known.
        stop: tolerance and limits; default `Stop()`, relative residual 1e-6.
        callback: called as callback(step, x, residual) at every check; a true return value stops the solve.
        throw: raise `SolveError` when not converged; else the caller reads `result.status`.

    Gradients flow from `result.value` to b and to the operator's parameters by the adjoint method: one
    transposed solve, no graph through the iterations. Memory: x, what the method itself needs, and one vector
    while a true residual is computed; in a batch also a copy of the samples that were done before the others.

    Raises:
        SolveError: not converged, and `throw`.
        TypeError: when problem or solver is something else.
        ShapeMismatch, MixedDtypes, MixedDevices, NonFinite: for an x0 that does not fit.

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
    if not isinstance(solver, Solver):
        raise TypeError(f"solver must be a Solver instance such as CG(), got {solver!r}")
    problem = solver.pose(problem)
    if not hasattr(problem, "residual_norm"):
        raise TypeError(
            f"solve takes a problem such as LinearSystem(A, b), got {type(problem).__name__}: wrap it first"
        )
    solver.check(problem)
    from .adjoint import differentiable, solve_with_gradient
    from .loop import run

    if differentiable(problem):
        return solve_with_gradient(problem, solver, x0=x0, stop=stop, callback=callback, throw=throw)
    with torch.no_grad():
        result = run(problem, solver, x0, stop, callback)
    if throw and result.status is not Status.CONVERGED:
        raise SolveError(result)
    return result


def synchronize(tensor: Tensor) -> None:
    """Wait for the device of a tensor, so that a clock read next is true."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def all_finite(x: Tensor) -> bool:
    """Whether no entry is NaN or infinite, without a temporary of x's size."""
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    return x.numel() == 0 or all(bool(torch.isfinite(end)) for end in torch.aminmax(x))
