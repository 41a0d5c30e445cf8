"""The step length along a direction: a strong Wolfe search, and what quasi-Newton methods need around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar, final

import torch
from torch import Tensor

from .base import State
from .objective import Objective

Payload = TypeVar("Payload")


class Trial(NamedTuple):
    """A point tried by `along`: parameters (P,), losses of the groups (n,), gradient of their sum (P,)."""

    theta: Tensor
    losses: Tensor
    gradient: Tensor


@final
@dataclass(frozen=True)
class Search(Generic[Payload]):
    """What a line search found.

    Attributes:
        alpha: the step length; 0 where no lower point was found.
        value, slope: phi and phi' there.
        payload: what phi returned beside them there; None where alpha is 0.
        evaluations: of phi.
        failure: why the strong Wolfe conditions do not hold at alpha, "" where they do. A failed search
            still gives the lowest point that it has seen, where alpha > 0.
    """

    alpha: float
    value: float
    slope: float
    payload: Payload | None
    evaluations: int
    failure: str = ""


class _Point(NamedTuple, Generic[Payload]):
    alpha: float
    value: float
    slope: float
    payload: Payload | None

    @property
    def finite(self) -> bool:
        return math.isfinite(self.value) and math.isfinite(self.slope)


@final
@dataclass(frozen=True)
class StrongWolfe:
    """Find a step length alpha with the strong Wolfe conditions.

    phi(alpha) <= phi(0) + c1 alpha phi'(0)   and   |phi'(alpha)| <= c2 |phi'(0)|

    The minimum of a cubic through two values and slopes proposes, safeguards dispose: a proposal stays a
    tenth of the bracket away from its ends, and a bracket that has not shrunk by a third in two trials is
    bisected. A trial that is not finite is an end that only shortens the bracket.

    Near a minimum rounding hides the decrease while the slope is still exact: within `rounding` |phi(0)| the
    first condition may be replaced by phi'(alpha) <= (2 c1 - 1) phi'(0) (Hager and Zhang's approximate form).

    Attributes:
        c1, c2: 0 < c1 < c2 < 1; 1e-4 and 0.9 suit quasi-Newton directions.
        max_evaluations: of phi; quasi-Newton methods need 1 most of the time, 3 to 10 in bends.
        rounding: relative error of phi that is taken for noise.

    Source: Nocedal and Wright, Numerical Optimization (2006), algorithms 3.5 and 3.6; safeguards after More
    and Thuente (1994); Hager and Zhang (2005), section 1.

    >>> search = StrongWolfe(c2=0.1)(lambda a: ((a - 3) ** 2, 2 * (a - 3), None), 9.0, -6.0)
    >>> round(search.alpha, 9), search.evaluations, search.failure
    (3.0, 2, '')
    """

    c1: float = 1e-4
    c2: float = 0.9
    max_evaluations: int = 25
    rounding: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.c1 < self.c2 < 1:
            raise ValueError(f"c1={self.c1:g} and c2={self.c2:g}: needed is 0 < c1 < c2 < 1, as 1e-4 and 0.9")
        if self.max_evaluations < 1:
            raise ValueError(f"max_evaluations={self.max_evaluations}: at least one is needed, 25 is usual")

    def __call__(
        self,
        phi: Callable[[float], tuple[float, float, Payload]],
        value: float,
        slope: float,
        alpha: float = 1.0,
    ) -> Search[Payload]:
        """Search from alpha = 0, where phi is `value` and phi' is `slope`; the first trial is `alpha`."""
        start: _Point[Payload] = _Point(0.0, value, slope, None)
        if not slope < 0:
            return self._failed(start, start, 0, f"the direction does not descend (slope {slope:.3g})")
        low, high, before = start, None, start
        widths = [math.inf, math.inf]  # of the brackets of the last two trials
        for count in range(1, self.max_evaluations + 1):
            trial = _Point(alpha, *phi(alpha))
            lowered = trial.finite and self._lowered(trial, start)
            if lowered and abs(trial.slope) <= -self.c2 * slope:
                return Search(*trial, count)
            noise = self.rounding * abs(value)
            if (
                not lowered
                or trial.value > low.value + noise
                or (trial.value == low.value and low is not start)
            ):
                high = trial
            else:
                if high is None:
                    high = low if trial.slope >= 0 else None
                elif trial.slope * (high.alpha - low.alpha) >= 0:
                    high = low
                before, low = low, trial
            if high is None:
                alpha = _beyond(before, low)
                continue
            width = abs(high.alpha - low.alpha)
            if width <= 4 * torch.finfo(torch.float64).eps * max(low.alpha, high.alpha):
                return self._failed(low, start, count, "the bracket has shrunk to rounding")
            alpha = _inside(low, high, bisect=width > 2 / 3 * widths[0])
            widths = [widths[1], width]
        return self._failed(
            low, start, self.max_evaluations, f"{self.max_evaluations} evaluations were not enough"
        )

    def _lowered(self, trial: _Point[Payload], start: _Point[Payload]) -> bool:
        if trial.value <= start.value + self.c1 * trial.alpha * start.slope:
            return True
        hidden = trial.value <= start.value + self.rounding * abs(start.value)
        return self.rounding > 0 and hidden and trial.slope <= (2 * self.c1 - 1) * start.slope

    @staticmethod
    def _failed(low: _Point[Payload], start: _Point[Payload], count: int, why: str) -> Search[Payload]:
        kept = low if low.value < start.value else start
        return Search(*kept, count, why)


def _beyond(before: _Point[Payload], last: _Point[Payload]) -> float:
    """Extrapolate from two points that still go down."""
    gap = last.alpha - before.alpha
    shortest, longest = last.alpha + 0.1 * gap, 10 * last.alpha
    return min(max(_cubic(before, last, longest), shortest), longest)


def _inside(low: _Point[Payload], high: _Point[Payload], *, bisect: bool) -> float:
    """Interpolate in the bracket between two points, of which `low` is the better one."""
    gap = high.alpha - low.alpha
    middle = low.alpha + 0.5 * gap
    if not high.finite:
        return low.alpha + 0.25 * gap
    proposal = middle if bisect else _cubic(low, high, middle)
    margin, (left, right) = 0.1 * abs(gap), sorted((low.alpha, high.alpha))
    return min(max(proposal, left + margin), right - margin)


def _cubic(p: _Point[Payload], q: _Point[Payload], otherwise: float) -> float:
    """Return the minimum of the cubic through two values and slopes; Nocedal and Wright (3.59)."""
    d1 = p.slope + q.slope - 3 * (p.value - q.value) / (p.alpha - q.alpha)
    square = d1 * d1 - p.slope * q.slope
    if not 0 <= square < math.inf:
        return otherwise
    d2 = math.copysign(math.sqrt(square), q.alpha - p.alpha)
    below = q.slope - p.slope + 2 * d2
    return q.alpha - (q.alpha - p.alpha) * (q.slope + d2 - d1) / below if below != 0 else otherwise


def along(
    objective: Objective,
    theta: Tensor,  # (P,)
    direction: Tensor,  # (P,)
) -> Callable[[float], tuple[float, float, Trial]]:
    """Return phi(alpha) = L(theta + alpha direction) with its slope; the payload is the `Trial` there."""

    def phi(alpha: float) -> tuple[float, float, Trial]:
        there = theta + alpha * direction
        losses, gradient = objective.gradient(there)
        return float(losses.sum()), float(gradient @ direction), Trial(there, losses, gradient)

    return phi


def known(objective: Objective, theta: Tensor, state: State) -> tuple[Trial, int]:
    """Return losses and gradient at theta, from the state if it has them, and the number of evaluations.

    The state keeps them of the point that the last step accepted (`keep`), until `forget`.

    Raises:
        FloatingPointError: they are not finite.
    """
    if "gradient" in state:
        return Trial(theta, state["losses"], state["gradient"]), 0
    losses, gradient = objective.gradient(theta)
    if not (math.isfinite(float(losses.sum())) and math.isfinite(float(gradient.abs().sum()))):
        raise FloatingPointError(
            f"the loss ({float(losses.sum()):g}) or its gradient is not finite at theta: start from smaller "
            "parameters, or look for a pole or an overflow in the equation"
        )
    return Trial(theta, losses, gradient), 1


def keep(state: State, trial: Trial) -> None:
    """Keep losses and gradient of an accepted point, so that the next step needs no evaluation for them."""
    state["losses"], state["gradient"] = trial.losses, trial.gradient


def forget(state: State) -> None:
    """Drop what `keep` kept: the objective has changed."""
    state.pop("losses", None)
    state.pop("gradient", None)
