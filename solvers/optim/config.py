"""ConFIG: a direction that lowers all losses at the same rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .adam import adam_update
from .base import State, Step
from .first_order import Betas, FirstOrder, check_at_least_zero, check_betas, group_gradients, refuse_infinite
from .objective import Objective

ALIGNED = 1e-3  # least product with the unit gradients, where 1 is asked for, of a direction that is taken


def config_direction(gradients: Tensor) -> Tensor:
    """Return the direction (P,) with the same positive cosine to every gradient, rows of (n, P).

    G_i = g_i / |g_i|;  x = G^+ 1, the least-norm solution of G x = 1;  u = x / |x|;  g = (sum_i g_i . u) u

    Gradients that are zero are left out. Where the gradients oppose one another, so that no direction has a
    positive product with all of them, the result is zero: no small step lowers all losses at once.

    Source: Liu, Chu and Thuerey, "ConFIG: towards conflict-free training of physics informed neural
    networks" (2025), ICLR.

    >>> config_direction(torch.tensor([[1.0, 0.0], [0.0, 100.0]]))
    tensor([50.5000, 50.5000])
    """
    wide = gradients.double()
    lengths = wide.norm(dim=1)
    wide, lengths = wide[lengths > 0], lengths[lengths > 0]
    if not len(wide):
        return torch.zeros_like(gradients[0])
    G = wide / lengths[:, None]
    x = G.mT @ (torch.linalg.pinv(G @ G.mT, hermitian=True) @ torch.ones_like(lengths))
    if not (G @ x).min() > ALIGNED:
        return torch.zeros_like(gradients[0])
    u = x / x.norm()
    return ((wide @ u).sum() * u).to(gradients.dtype)


@final
@dataclass(frozen=True)
class ConFIG(FirstOrder):
    """Lower all losses at once: Adam along the direction of equal cosine to every loss's gradient.

    For conflicts between an equation and its conditions: a step of the sum may raise one of them, a small
    step of this does not (before Adam's scaling). Costs a gradient per group. Raises FloatingPointError,
    naming the group, where a loss or a gradient is not finite.

    Args:
        learning_rate: 1e-3.
        betas, eps: of Adam.
        schedule, steps: see `FirstOrder`.

    Source: Liu, Chu and Thuerey (2025), ICLR; see `config_direction`.

    >>> class Two(Objective):
    ...     def losses(self, theta): return torch.stack([(theta[0] - 1) ** 2, 10 * (theta.sum() - 3) ** 2])
    ...     def residuals(self, theta): return self.losses(theta).sqrt()
    >>> theta, optimiser = torch.zeros(2), ConFIG(0.02)
    >>> state = optimiser.start(theta)
    >>> for _ in range(500):
    ...     theta = optimiser.step(Two(), theta, state).theta
    >>> bool((theta - torch.tensor([1.0, 2.0])).abs().max() < 0.05)
    True
    """

    betas: Betas = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_betas(self.betas)
        check_at_least_zero(eps=self.eps)

    def step(self, objective: Objective, theta: Tensor, state: State) -> Step:
        t = state["t"]
        losses, gradients = group_gradients(objective, theta, t)
        betas = (self.momentum(t, self.betas[0]), self.betas[1])
        direction = config_direction(gradients)
        return Step(adam_update(theta.detach(), direction, state, betas, self.eps, self.rate(t)), losses)


@final
@dataclass(frozen=True)
class MConFIG(FirstOrder):
    """Lower all losses at once with the gradient of one of them per step, in turn.

    m_i = b1 m_i + (1 - b1) g_i for the group i whose turn it is, t_i += 1
    d   = config_direction(m_i / (1 - b1^t_i) of all groups)
    p_t = (1 - b1^t) d;  g = (p_t - b1 p_(t-1)) / (1 - b1);  v = b2 v + (1 - b2) g^2
    theta -= lr d / (sqrt(v / (1 - b2^t)) + eps)

    No step is taken before every group had its turn. One backward pass per step; losses of all groups are
    computed still. Raises FloatingPointError, naming the group, where a loss or a gradient is not finite.

    Args:
        learning_rate: 1e-3.
        betas: of the moments of the gradients, and of the second moment of the direction.
        eps: added to the root of the second moment.
        schedule, steps: see `FirstOrder`; momentum stays as it is.

    Source: Liu, Chu and Thuerey (2025), ICLR, the variant with momentum.

    >>> optimiser = MConFIG(2e-3)
    >>> optimiser.start(torch.zeros(3))
    {'t': 0, 'turns': 0}
    """

    betas: Betas = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_betas(self.betas)
        check_at_least_zero(eps=self.eps)
        if getattr(self.schedule, "momentum_range", None) is not None:
            raise ValueError("MConFIG keeps b1: give the schedule without momentum_range")

    def start(self, theta: Tensor) -> State:
        return {**super().start(theta), "turns": 0}

    def step(self, objective: Objective, theta: Tensor, state: State) -> Step:
        theta = theta.detach()
        k, losses, gradient = self._one_gradient(objective, theta, state["turns"])
        (b1, b2), n = self.betas, len(losses)
        m = state["m"].clone() if "m" in state else theta.new_zeros(n, len(theta))
        if len(m) != n:
            raise ValueError(f"the state belongs to {len(m)} groups, there are {n}: start anew")
        m[k] = torch.lerp(m[k], gradient, 1 - b1)
        state["m"], state["turns"] = m, state["turns"] + 1
        turns = state["turns"]
        if turns < n:
            return Step(theta, losses)
        seen = [turns // n + (i < turns % n) for i in range(n)]
        state["t"] += 1
        t = state["t"]
        direction = config_direction(m / theta.new_tensor([1 - b1**s for s in seen])[:, None])
        pseudo = direction * (1 - b1**t)
        zero = torch.zeros_like(theta)
        change = (pseudo - b1 * state.get("pseudo", zero)) / (1 - b1)
        state["pseudo"] = pseudo
        state["v"] = v = torch.mul(state.get("v", zero), b2).addcmul_(change, change, value=1 - b2)
        den = (v / (1 - b2**t)).sqrt_().add_(self.eps)
        return Step(torch.addcdiv(theta, direction, den, value=-self.rate(turns - 1)), losses)

    def _one_gradient(self, objective: Objective, theta: Tensor, turns: int) -> tuple[int, Tensor, Tensor]:
        """Return the number of the group whose turn it is, the losses (n,), and its gradient (P,)."""
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            parts = objective.parts(theta)
            k = turns % len(parts)
            (gradient,) = torch.autograd.grad(parts[k], theta, materialize_grads=True)
        losses = torch.stack(parts)
        rows = torch.zeros(len(losses), 1, dtype=theta.dtype, device=theta.device)
        rows[k] = gradient.sum() * 0  # nan where the gradient is not finite
        refuse_infinite(losses.detach(), rows, turns)
        return k, losses.detach(), gradient
