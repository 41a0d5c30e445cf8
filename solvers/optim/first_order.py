"""What the first-order optimisers share: a learning rate, its schedule, and checks of what is finite."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from ..training.schedules import Constant, Schedule
from .base import Optimiser, State
from .objective import Objective

Betas = tuple[float, float]


@dataclass(frozen=True)
class FirstOrder(Optimiser):
    """An optimiser with a learning rate; the state counts its steps in `t`.

    Args:
        learning_rate: positive.
        schedule: factor on the learning rate, one of `solvers.optim.schedules` with per="batch".
        steps: length of the training, for a schedule that needs it (Cosine, OneCycle); `over` sets it. At
            least 1.
    """

    learning_rate: float = 1e-3
    schedule: Schedule = field(default=Constant(), kw_only=True)
    steps: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"the learning rate is positive, got {self.learning_rate}")
        if self.steps is not None and not self.steps >= 1:
            raise ValueError(
                f"steps is the length of the training, at least 1, got {self.steps}: leave it out, and "
                "`over` sets it"
            )
        if self.schedule.per != "batch":
            raise ValueError(
                "an optimiser counts steps, not epochs: give "
                f"{type(self.schedule).__name__}(..., per='batch')"
            )

    def over(self, steps: int) -> Self:
        """Return the same optimiser, its schedule laid out over `steps`, unless it has a length already."""
        return self if self.steps is not None else replace(self, steps=steps)

    def start(self, theta: Tensor) -> State:
        """Return {"t": 0}; what the method keeps is laid out in its first step."""
        if self.schedule.needs_total and self.steps is None:
            name = type(self).__name__
            raise ValueError(
                f"{type(self.schedule).__name__} needs the length of the training: "
                f"{name}(..., steps=20000), or optimiser.over(20000)"
            )
        return {"t": 0}

    def rate(self, t: int) -> float:
        """Return the learning rate of step t = 0, 1, ...; after the last step it stays."""
        total = self.steps or 0
        return self.learning_rate * self.schedule.at(min(t, total - 1) if total else t, total)

    def momentum(self, t: int, beta: float) -> float:
        """Return beta_1 of step t: `beta`, unless the schedule sets it."""
        total = self.steps or 0
        given = self.schedule.momentum(min(t, total - 1) if total else t, total)
        return beta if given is None else given


def check_betas(betas: Betas, name: str = "betas") -> None:
    """Raise ValueError unless both lie in [0, 1)."""
    if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
        raise ValueError(f"{name} are two numbers in [0, 1), got {betas}")


def check_at_least_zero(**values: float) -> None:
    """Raise ValueError for a negative value."""
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} is at least 0, got {value}")


def refuse_infinite(losses: Tensor, gradients: Tensor, t: int) -> None:
    """Raise FloatingPointError where a loss (n,) or a row of gradients (n, P) is not finite."""
    if bool(torch.isfinite(losses).all() & torch.isfinite(gradients).all()):
        return
    n = len(losses)
    for k in range(n):
        if not torch.isfinite(losses[k]):
            raise FloatingPointError(
                f"the loss of group {k} of {n} (counted from 0) is {losses[k].item()} at step {t}: lower the "
                "learning rate, or look at the residuals of this group"
            )
    for k, row in enumerate(gradients):
        if not torch.isfinite(row).all():
            raise FloatingPointError(
                f"the gradient of group {k} of {n} (counted from 0) is not finite at step {t}, its loss is "
                f"{losses[k].item():.3g}: look for a root or a quotient at zero in its residual"
            )


def gradient_of_sum(objective: Objective, theta: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Return the losses (n,) and the gradient of their sum (P,), both finite."""
    losses, gradient = objective.gradient(theta)
    if not bool(torch.isfinite(losses).all() & torch.isfinite(gradient).all()):
        refuse_infinite(*objective.group_gradients(theta), t)
        raise FloatingPointError(
            f"the sum of the gradients of the groups is not finite at step {t}, though each of them is: "
            "the losses are too large for the type, scale them down or use float64"
        )
    return losses, gradient


def group_gradients(objective: Objective, theta: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Return the losses (n,) and the gradients of the groups (n, P), all finite."""
    losses, gradients = objective.group_gradients(theta)
    refuse_infinite(losses, gradients, t)
    return losses, gradients
