"""Adam on a flat vector of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .base import State, Step
from .first_order import Betas, FirstOrder, check_at_least_zero, check_betas, gradient_of_sum
from .objective import Objective


@final
@dataclass(frozen=True)
class Adam(FirstOrder):
    """Lower the sum of all losses by Adam, as `torch.optim.Adam` does.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
    theta -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)

    Assumes that the losses are of comparable size: where one is scaled, so is its share of the direction
    (`MultiAdam` does not have this). Raises FloatingPointError, naming the group, where a loss or a gradient
    is not finite.

    Args:
        learning_rate: 1e-3 for networks with tanh, with `ExponentialDecay` or `Cosine` for long trainings.
        betas: decay of both moments.
        eps: added to the root of the second moment.
        weight_decay: added to the gradient as weight_decay * theta.
        schedule, steps: see `FirstOrder`.

    Source: Kingma and Ba (2015), algorithm 1.

    >>> class Bowl(Objective):
    ...     def losses(self, theta): return torch.stack([theta[0] ** 2, 100 * theta[1] ** 2])
    ...     def residuals(self, theta): return torch.stack([theta[0], 10 * theta[1]])
    >>> theta, adam = torch.ones(2), Adam(0.1)
    >>> state = adam.start(theta)
    >>> for _ in range(200):
    ...     theta = adam.step(Bowl(), theta, state).theta
    >>> float(theta.abs().max()) < 1e-2
    True
    """

    betas: Betas = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_betas(self.betas)
        check_at_least_zero(eps=self.eps, weight_decay=self.weight_decay)

    def step(self, objective: Objective, theta: Tensor, state: State) -> Step:
        t = state["t"]
        losses, gradient = gradient_of_sum(objective, theta, t)
        theta = theta.detach()
        if self.weight_decay:
            gradient = gradient.add(theta, alpha=self.weight_decay)
        betas = (self.momentum(t, self.betas[0]), self.betas[1])
        return Step(adam_update(theta, gradient, state, betas, self.eps, self.rate(t)), losses)


def adam_update(
    theta: Tensor,  # (P,)
    gradient: Tensor,  # (P,)
    state: State,
    betas: Betas,
    eps: float,
    learning_rate: float,
) -> Tensor:
    """Return theta after one step of Adam; `state` gets the new moments m, v (P,) and t, as new tensors."""
    state["t"] += 1
    t = state["t"]
    m, v = (state["m"], state["v"]) if "m" in state else (torch.zeros_like(theta), torch.zeros_like(theta))
    state["m"] = m = torch.lerp(m, gradient, 1 - betas[0])
    state["v"] = v = torch.mul(v, betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    den = (v.sqrt() / (1 - betas[1] ** t) ** 0.5).add_(eps)
    return torch.addcdiv(theta, m, den, value=-learning_rate / (1 - betas[0] ** t))
