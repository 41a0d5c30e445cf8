"""The only loop: stopping, per-sample convergence, history, timing, and the true residual."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ..operators.linear.errors import MixedDevices, MixedDtypes, NonFinite, ShapeMismatch
from .base import Breakdown, Callback, Iterate, Problem, Result, Solver, Status, Stop, all_finite, synchronize

_MISSES = 4  # how often a residual that drifted from the true one is followed further down


def run(problem: Any, solver: Solver, x0: Tensor | None, stop: Stop, callback: Callback | None) -> Result:
    """Drive `solver.iterate` until every sample is done or a limit is met; report what came of it.

    A method's own residual may drift from the true one. A sample that claims to be done and is not has its
    tolerance lowered, a few times; then the method starts anew from where it is, with the true residual, as
    long as that at least halves it.
    """
    begin = perf_counter()
    solver = solver.keeping()  # a restart does not set up again
    scale = problem.scale()
    x = _start(problem, x0, scale if stop.atol == 0 else None)
    samples = _Samples(problem, torch.clamp(stop.rtol * scale, min=stop.atol))
    iteration = solver.iterate(problem, x)
    latest: Iterate = x
    status, reason, steps, ready, fresh = None, "", -1, begin, True
    most = solver.default_steps if stop.max_steps is None else stop.max_steps
    try:
        while status is None:
            try:
                latest, norm = _advance(iteration, None if fresh else samples.done)
            except StopIteration:
                break
            except Breakdown as error:
                status, reason = Status.BREAKDOWN, str(error)
                break
            steps += 1
            if steps == 0:
                synchronize(norm)
                ready = perf_counter()
            fresh = False
            late = stop.seconds is not None and perf_counter() - begin > stop.seconds
            last = late or steps >= most
            if last or steps % stop.check_every == 0:
                status, latest = samples.look(steps, latest, norm, callback)
                if status in (None, Status.BREAKDOWN) and last:
                    status = Status.MAX_STEPS if steps >= most else Status.TIMEOUT
                elif status is Status.BREAKDOWN and samples.improved():
                    latest = _form(latest)
                    _close(iteration)
                    iteration = solver.iterate(problem, latest)
                    status, fresh, steps = None, True, steps - 1  # the new start is no step
        x = _form(latest)
    finally:
        _close(iteration)
    del latest, iteration  # a method's vectors go before the true residual is computed
    synchronize(x)
    solved = perf_counter()
    restored = samples.restore(x)
    x = problem.finish(restored)
    residual = samples.verified if x is restored else None
    if residual is None:
        residual = problem.residual_norm(x)
    # putting x into its normal form may move the residual of a sample that is done by a rounding error
    converged = residual <= torch.where(samples.done, samples.target * (1 + 1e-6), samples.target)
    relative = residual / scale.clamp_min(torch.finfo(residual.dtype).tiny)
    if bool(converged.all()):
        status = Status.CONVERGED
    elif not bool(torch.isfinite(residual).all()):
        status = Status.NONFINITE
    elif status in (None, Status.CONVERGED):
        status, reason = Status.BREAKDOWN, "the method ended before the residual met the tolerance"
    elif status is Status.BREAKDOWN and not reason:
        reason = (
            f"the recomputed residual stagnates at {float(relative[~converged].max()):.1e}, "
            + solver.stagnation.format(dtype=residual.dtype)
        )
    return Result(
        value=x,
        status=status,
        steps=max(steps, 0),
        residuals=torch.stack(samples.history) if samples.history else residual.new_zeros(0),
        residual=residual,
        relative_residual=relative,
        converged=converged,
        sample_steps=torch.where(samples.done, samples.steps, max(steps, 0)),
        stats={"setup_s": ready - begin, "solve_s": solved - ready, **solver.notes()},
        reason="" if status is Status.CONVERGED else reason,
        advice=solver.advice(status),
    )


def _advance(iteration: Iterator[tuple[Iterate, Tensor]], done: Tensor | None) -> tuple[Iterate, Tensor]:
    if done is None or not isinstance(iteration, Generator):
        return next(iteration)
    return iteration.send(done)


def _close(iteration: Iterator[tuple[Iterate, Tensor]]) -> None:
    if isinstance(iteration, Generator):
        iteration.close()


def _form(x: Iterate) -> Tensor:
    return x if isinstance(x, Tensor) else x()


def _start(problem: Problem, x0: Tensor | None, scale: Tensor | None) -> Tensor:
    """Return the start as a tensor of its own; where scale is 0, the problem's guess."""
    guess = problem.guess()
    if x0 is None:
        return guess
    x0 = torch.as_tensor(x0).detach()
    if x0.dtype != guess.dtype:
        raise MixedDtypes(f"x0 is {x0.dtype}, the problem is {guess.dtype}: convert with x0.to(A.dtype)")
    if x0.device != guess.device:
        raise MixedDevices(f"x0 is on {x0.device}, the problem on {guess.device}: move one of them")
    try:
        x0 = x0.expand(guess.shape)
    except RuntimeError:
        raise ShapeMismatch(
            f"x0 has shape {tuple(x0.shape)}, the solution has {tuple(guess.shape)}: give one start, or one "
            "per sample"
        ) from None
    if not all_finite(x0):
        raise NonFinite("x0 holds NaN or infinite values: start from zero or repair it")
    if scale is None:
        return guess.copy_(x0)
    return torch.where((scale == 0)[..., None], guess, x0, out=guess)


class _Samples:
    """What is known of every sample of a batch while the method runs."""

    def __init__(self, problem: Problem, target: Tensor) -> None:
        self.problem, self.target = problem, target
        self.inner = (
            target  # what the method's own residual must reach; lowered where it proves too optimistic
        )
        self.done = torch.zeros(target.shape, dtype=torch.bool, device=target.device)
        self.misses = torch.zeros(target.shape, dtype=torch.int64, device=target.device)
        self.steps = torch.zeros(target.shape, dtype=torch.int64, device=target.device)
        self.excess = torch.full_like(target, torch.inf)  # true residual over target, when last looked at
        self.best = float("inf")
        self.history: list[Tensor] = []
        self.kept: list[tuple[Tensor, Tensor]] = []  # which samples, and their values
        self.verified: Tensor | None = None  # true residual of x as it is, when the last look found all done

    def look(
        self, steps: int, latest: Iterate, norm: Tensor, callback: Callback | None
    ) -> tuple[Status | None, Iterate]:
        """Note the residual norms of a step; return how the solve ends (None: it goes on), and x."""
        norm = norm.expand(self.target.shape)
        self.history.append(norm.clone())
        if callback is not None:
            latest = _form(latest)
            if callback(steps, latest, norm):
                return Status.STOPPED, latest
        reached = (norm <= self.inner) & ~self.done
        lost = ~torch.isfinite(norm) & ~self.done
        some_reached, some_lost = torch.stack([reached.any(), lost.any()]).tolist()  # one synchronisation
        if some_lost:
            return Status.NONFINITE, latest
        if not some_reached:
            return None, latest
        latest = _form(latest)
        return self._settle(steps, latest, norm, reached), latest

    def _settle(self, steps: int, x: Tensor, norm: Tensor, reached: Tensor) -> Status | None:
        """Hold the samples that claim to be there against the true residual."""
        true = self.problem.residual_norm(x)
        good = reached & (true <= self.target)
        missed = reached & ~good
        self.steps = torch.where(good, steps, self.steps)
        self.done = self.done | good
        if bool(self.done.all()):
            self.verified = None if self.kept else true
            return Status.CONVERGED
        if bool(good.any()):
            self.kept.append((good, x[good]))
        self.misses = self.misses + missed
        self.excess = true / self.target
        self.inner = torch.where(missed, norm / self.excess.clamp_min(2), self.inner)
        hopeless = bool((self.done | (self.misses > _MISSES)).all())
        return Status.BREAKDOWN if hopeless else None

    def improved(self) -> bool:
        """Whether a restart from the true residual is worth it: the last one at least halved what is left."""
        worst = float(self.excess[~self.done].max())
        better = worst < 0.5 * self.best
        self.best, self.inner, self.misses = worst, self.target, torch.zeros_like(self.misses)
        return better

    def restore(self, x: Tensor) -> Tensor:
        """Put back the values that the samples had when they were done."""
        for which, values in self.kept:
            x[which] = values
        self.kept.clear()
        return x
