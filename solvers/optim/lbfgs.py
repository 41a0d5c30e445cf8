"""The limited-memory BFGS method with a strong Wolfe line search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from .base import Optimiser, State, Step
from .line_search import StrongWolfe, Trial, along, forget, keep, known
from .objective import Objective


@final
@dataclass(frozen=True)
class LBFGS(Optimiser):
    """Lower a loss by the limited-memory BFGS method.

    theta <- theta - alpha H g, where H is built from the last `history` pairs s = theta_new - theta,
    y = g_new - g upon gamma I, gamma = s.y / y.y.

    The two-loop recursion is carried out on the stacked pairs S, Y (m, P) with the triangle
    R_ij = s_i.y_j (i <= j) and its diagonal D:  a = R^-1 S g,  q = g - Y' a,  w = R^-T (D a - gamma Y q),
    H g = gamma q + S' w: five products with (m, P) matrices a step, whatever m is.

    Losses and gradient of the accepted point are kept: most steps cost one evaluation. A failed line search
    first forgets the pairs and follows the gradient; only if that fails too, the method stops. After new
    points or new weights call `renew`: pairs of different losses do not belong together.

    Memory: 2 m P numbers. float32 is allowed but loses the method's tail: differences of gradients vanish in
    rounding (prefer float64 below a loss of about 1e-4).

    Attributes:
        history: m; 100 suits networks, 10 to 20 very large ones.
        c1, c2, max_evaluations: of the line search.
        tolerance_grad: stop when max |g| is not above it.
        tolerance_change: stop when max |alpha p| is not above it; 0 stops at a step that changes nothing.
        rounding: relative error of the loss that the line search takes for noise.

    Fails with FloatingPointError where the loss is not finite at the present parameters.
    Source: Nocedal (1980); Byrd, Nocedal and Schnabel (1994); Nocedal and Wright (2006), algorithm 7.5.

    >>> LBFGS(history=20).start(torch.zeros(3))["S"].shape
    torch.Size([20, 3])
    """

    history: int = 100
    c1: float = 1e-4
    c2: float = 0.9
    max_evaluations: int = 25
    tolerance_grad: float = 1e-15
    tolerance_change: float = 0.0
    rounding: float = 1e-12

    def __post_init__(self) -> None:
        if self.history < 1:
            raise ValueError(f"history={self.history}: LBFGS needs at least one pair, 100 is usual")
        self._search()

    def _search(self) -> StrongWolfe:
        return StrongWolfe(self.c1, self.c2, self.max_evaluations, self.rounding)

    def check(self, parameters: int, dtype: Any) -> None:
        """Reject what is not a real type."""
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"LBFGS works in float64, or float32 with less accuracy, not {dtype}")

    def start(self, theta: Tensor) -> State:
        """Return an empty history."""
        self.check(theta.numel(), theta.dtype)
        m, P = self.history, theta.numel()
        zeros = {"dtype": theta.dtype, "device": theta.device}
        return {
            "S": torch.zeros(m, P, **zeros),
            "Y": torch.zeros(m, P, **zeros),
            "R": torch.zeros(m, m, **zeros),  # s_i.y_j in order of time
            "count": 0,
            "oldest": 0,  # row of S and Y: they are rings
            "restarts": 0,
        }

    def renew(self, state: State) -> None:
        """Forget all pairs, the gradient and the losses: they were of other points."""
        forget(state)
        state["count"] = state["oldest"] = 0

    def step(self, objective: Objective, theta: Tensor, state: State) -> Step:
        """Take one step along -H g."""
        here, evaluations = known(objective, theta, state)
        if float(here.gradient.abs().max()) <= self.tolerance_grad:
            keep(state, here)
            return Step(theta, here.losses, evaluations, f"gradient not above {self.tolerance_grad:g}")
        while True:
            direction = -product(state, here.gradient)
            first = 1.0 if state["count"] else min(1.0, 1 / float(here.gradient.abs().sum()))
            slope = float(here.gradient @ direction)
            search = self._search()(
                along(objective, theta, direction), float(here.losses.sum()), slope, first
            )
            evaluations += search.evaluations
            if search.payload is not None:
                break
            if not state["count"]:
                keep(state, here)
                return Step(theta, here.losses, evaluations, f"line search failed: {search.failure}")
            state["count"] = state["oldest"] = 0
            state["restarts"] += 1
        there: Trial = search.payload
        s = there.theta - theta
        remember(state, s, there.gradient - here.gradient)
        keep(state, there)
        stopped = (
            ""
            if float(s.abs().max()) > self.tolerance_change
            else f"step not above {self.tolerance_change:g}"
        )
        return Step(there.theta, here.losses, evaluations, stopped)


def product(state: State, g: Tensor) -> Tensor:
    """Return H g, (P,), for g (P,)."""
    m, oldest = state["count"], state["oldest"]
    if not m:
        return g.clone()
    S, Y, R = state["S"][:m], state["Y"][:m], state["R"][:m, :m]
    D = R.diagonal()
    last = (oldest - 1) % m
    gamma = D[-1] / (Y[last] @ Y[last])
    a = torch.linalg.solve_triangular(R, torch.roll(S @ g, -oldest)[:, None], upper=True)[:, 0]
    q = g - torch.roll(a, oldest) @ Y
    right = D * a - gamma * torch.roll(Y @ q, -oldest)
    w = torch.linalg.solve_triangular(R.T, right[:, None], upper=False)[:, 0]
    return gamma * q + torch.roll(w, oldest) @ S


def remember(state: State, s: Tensor, y: Tensor) -> bool:
    """Take in a pair (P,), (P,), for the oldest once the memory is full; False if s.y is not positive."""
    curvature = float(s @ y)
    if not curvature > torch.finfo(s.dtype).eps * float(s.norm() * y.norm()):
        return False
    S, Y, R, m = state["S"], state["Y"], state["R"], state["count"]
    if m < len(S):
        row = m
        state["count"] = m = m + 1
    else:
        row = state["oldest"]
        state["oldest"] = (row + 1) % m
        R[:-1, :-1] = R[1:, 1:].clone()
    S[row], Y[row] = s, y
    R[:m, m - 1] = torch.roll(S[:m] @ y, -state["oldest"])
    R[m - 1, : m - 1] = 0
    return True
