"""Damped Gauss-Newton (energy natural gradient) with momentum, in the parameters or in the residuals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor

from .base import Optimiser, State, Step
from .objective import Objective

_TRIES = 12  # dampings in one step, each ten times the one before


@final
@dataclass(frozen=True)
class GaussNewton(Optimiser):
    """Lower a sum of squares |r(theta)|^2 by damped Gauss-Newton steps.

    theta <- theta - t d,   d = mu d_before + J' (J J' + lambda I)^-1 (r - mu J d_before)

    with J = dr/dtheta (N, P) and the step t the best of 1, 1/2, 1/4, ... on the true loss: the search goes
    down the list until the loss grows again. Where P <= N the same d is computed from J'J + lambda I, of
    size P ("direct", energy natural gradient), else from J J' + lambda I, of size N ("woodbury"); both by
    Cholesky in float64.

    A small constant lambda serves best with this search: it need only keep the matrix positive definite, and
    grows tenfold for good where Cholesky fails. With adapt=True it follows Levenberg and Marquardt: divided
    by 3 where the whole step lowers the loss by more than 3/4 of what the linear model says, doubled below
    1/4 or where t < 1. Where no t lowers the loss, the step is tried again without the momentum, then with
    ten times lambda, and so on.

    The error falls fast per step, but a step works N P min(N, P) beside the Jacobian: for networks of up to
    some thousand parameters, or batches of up to some thousand points, which may change in every step.
    float32 is allowed: the matrix is formed and factorised in float64, but J and r keep their errors.

    Memory: 2 N P numbers of 8 bytes at least.

    Attributes:
        damping: lambda, at the start where it changes; 1e-12 to 1e-8, 1e-3 with adapt=True.
        solver: "direct", "woodbury", or "auto" for the smaller matrix.
        momentum: mu; 0.9 or less where the points change in every step, 0 where they stay.
        adapt: let lambda follow the success of the steps.
        halvings: the smallest t is 2^-halvings.
        limit: the largest number N P of entries of J.

    Fails with FloatingPointError where r or J is not finite at the present parameters, with ValueError
    where J is too large.
    Source: Levenberg (1944); Marquardt (1963); Mueller and Zeinhofer (2023), ICML (energy natural
    gradient); Goldshlager, Abrahamsen and Lin (2024) (momentum, SPRING); arXiv 2505.12149.

    >>> GaussNewton(damping=1e-2).start(torch.zeros(3))["damping"]
    0.01
    """

    damping: float = 1e-10
    solver: Literal["auto", "direct", "woodbury"] = "auto"
    momentum: float = 0.0
    adapt: bool = False
    halvings: int = 30
    limit: int = 250_000_000

    def __post_init__(self) -> None:
        if not self.damping > 0:
            raise ValueError(
                f"damping={self.damping:g}: it must be positive, J'J is singular; 1e-10 is usual"
            )
        if self.solver not in ("auto", "direct", "woodbury"):
            raise ValueError(f"solver={self.solver!r}: GaussNewton knows auto, direct and woodbury")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum:g}: needed is a number from 0 to below 1")
        if self.halvings < 0:
            raise ValueError(f"halvings={self.halvings}: needed is 0 (whole steps only) or more, 30 is usual")

    def check(self, parameters: int, dtype: Any) -> None:
        """Reject what is not a real type."""
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"GaussNewton works in float64, or float32 with less accuracy, not {dtype}")

    def start(self, theta: Tensor) -> State:
        """Return the damping, and no direction."""
        self.check(theta.numel(), theta.dtype)
        return {"damping": self.damping, "direction": torch.zeros_like(theta), "rows": 0}

    def renew(self, state: State) -> None:
        """Forget the losses, which were of other points; keep damping and direction."""
        state.pop("losses", None)
        state["rows"] = 0

    def step(self, objective: Objective, theta: Tensor, state: State) -> Step:
        """Take one damped step with the best of the halved lengths."""
        losses = state["losses"] if "losses" in state else _losses(objective, theta)
        r, J = self._linearise(objective, theta, state)
        loss = float(losses.sum())
        if not (math.isfinite(loss) and math.isfinite(float(r.abs().sum() + J.abs().sum()))):
            raise FloatingPointError(
                f"the loss ({loss:g}), a residual or the Jacobian is not finite at theta: start from smaller "
                "parameters, or look for a pole or an overflow in the equation"
            )
        state["losses"] = losses
        normal = Normal(J, direct=self.solver == "direct" or (self.solver == "auto" and J.shape[1] <= len(J)))
        before, damping = self.momentum * state["direction"].to(J.dtype), state["damping"]
        for _ in range(_TRIES):
            d = normal.solve(r - J @ before if self.momentum else r, damping)
            if d is None:
                state["damping"] = damping = 10 * damping  # for good: it is a property of the matrix
                continue
            d += before
            t, there, lower = self._search(objective, theta, d.to(theta.dtype), losses)
            if t > 0:
                break
            if self.momentum and bool(before.any()):
                before = torch.zeros_like(before)
            else:
                damping *= 10
        else:
            return Step(theta, losses, stopped=f"no step lowers the loss, up to damping {damping:.1g}")
        state["direction"], state["losses"] = d.to(theta.dtype), lower
        if self.adapt:
            model = float(r.square().sum() - (r - t * (J @ d)).square().sum())
            gain = (loss - float(lower.sum())) / model if model > 0 else 0.0
            state["damping"] = (
                damping * 2 if t < 1 or gain < 0.25 else damping / 3 if gain > 0.75 else damping
            )
        return Step(there, losses)

    def _linearise(self, objective: Objective, theta: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Return r (N,) and J (N, P) in float64, after a look at their size."""
        P = theta.numel()
        if not state["rows"]:
            with torch.no_grad():
                state["rows"] = len(objective.residuals(theta))
            if state["rows"] * P > self.limit:
                raise ValueError(
                    f"GaussNewton needs the Jacobian of {state['rows']} residuals by {P} parameters, "
                    f"{state['rows'] * P * 8e-9:.3g} GB, above limit={self.limit} entries: use fewer points, "
                    "a smaller network, LBFGS, or raise limit"
                )
        r, J = objective.jacobian(theta)
        return r.to(torch.float64), J.to(torch.float64)

    def _search(
        self, objective: Objective, theta: Tensor, d: Tensor, losses: Tensor
    ) -> tuple[float, Tensor, Tensor]:
        """Return t, theta - t d and the losses there; t = 0 where no step of the list lowers the loss."""
        best = float(losses.sum())
        found = 0.0, theta, losses
        for k in range(self.halvings + 1):
            t = 0.5**k
            there = theta - t * d
            tried = _losses(objective, there)
            value = float(tried.sum())
            if value < best:
                best, found = value, (t, there, tried)
            elif found[0] > 0:
                break
        return found


def _losses(objective: Objective, theta: Tensor) -> Tensor:
    with torch.no_grad():
        return objective.losses(theta)


@final
class Normal:
    """The damped normal equations of J (N, P), formed once for several dampings.

    direct: (J'J + lambda I) d = J' r, else d = J' z with (J J' + lambda I) z = r. Both give the same d.
    """

    def __init__(self, J: Tensor, *, direct: bool) -> None:
        self.J = J
        self.direct = direct
        self.gram = J.T @ J if direct else J @ J.T

    def solve(self, r: Tensor, damping: float) -> Tensor | None:
        """Return d (P,), or None where the matrix is not positive definite in rounding: damp more."""
        matrix = self.gram.clone()
        matrix.diagonal().add_(damping)
        factor, info = torch.linalg.cholesky_ex(matrix)
        if int(info):
            return None
        right = self.J.T @ r if self.direct else r
        z = torch.cholesky_solve(right[:, None], factor)[:, 0]
        return z if self.direct else self.J.T @ z
