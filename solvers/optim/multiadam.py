"""MultiAdam: Adam with moments of its own for every group of losses."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from .base import State, Step
from .first_order import Betas, FirstOrder, check_at_least_zero, check_betas, group_gradients
from .objective import Objective


@final
@dataclass(frozen=True)
class MultiAdamRule:
    """Settings of one update of MultiAdam; see `MultiAdam`."""

    betas: Betas = (0.99, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    group_weights: tuple[float, ...] | None = None
    agg_betas: Betas | None = None

    def __post_init__(self) -> None:
        check_betas(self.betas)
        check_at_least_zero(eps=self.eps, weight_decay=self.weight_decay)
        if self.agg_betas is not None:
            check_betas(self.agg_betas, "agg_betas")
        if self.group_weights is not None and not all(0 <= w < math.inf for w in self.group_weights):
            raise ValueError(f"group_weights are finite and at least 0, got {self.group_weights}")

    def weights(self, n: int, like: Tensor) -> Tensor:
        """Return the weights of n groups, (n,), 1 / n each where none are given."""
        if self.group_weights is None:
            return like.new_full((n,), 1 / n)
        if len(self.group_weights) != n:
            raise ValueError(f"there are {n} groups of losses and {len(self.group_weights)} group_weights")
        return like.new_tensor(self.group_weights)


def multiadam_update(
    theta: Tensor,  # (P,)
    gradients: Tensor,  # (n, P)
    moments: State,
    rule: MultiAdamRule,
    learning_rate: float,
) -> tuple[Tensor, State]:
    """Return the parameters (P,) and the moments after one update; nothing is changed in place.

    t += 1;  g_i += weight_decay theta;  m_i = b1 m_i + (1 - b1) g_i;  v_i = b2 v_i + (1 - b2) g_i^2
    theta -= lr / (1 - b1^t) * sum_i w_i m_i / (sqrt(v_i) / sqrt(1 - b2^t) + eps)

    With `agg_betas` the sum passes through a second Adam, which normalises it; 1 / (1 - b1^t) still
    multiplies what comes out, as in the authors' code: see `MultiAdam`.

    Args:
        theta: parameters.
        gradients: of every group of losses; zeros where a group does not depend on a parameter.
        moments: what the last update returned; {"t": 0} before the first.
        rule: settings.
        learning_rate: of this step.

    Raises:
        ValueError: the moments, or the weights, belong to another number of groups or of parameters.

    Source: Yao et al. (2023), algorithm 1.

    >>> gradients = torch.tensor([[1.0, 0.0], [0.0, 1e6]])
    >>> theta, moments = multiadam_update(torch.zeros(2), gradients, {"t": 0}, MultiAdamRule(), 0.1)
    >>> theta
    tensor([-0.0500, -0.0500])
    """
    (b1, b2), t = rule.betas, moments["t"] + 1
    m, v = moments.get("m"), moments.get("v")
    if m is None or v is None:
        m, v = torch.zeros_like(gradients), torch.zeros_like(gradients)
    if m.shape != gradients.shape:
        raise ValueError(
            f"the moments belong to (groups, parameters) = {tuple(m.shape)}, the gradients are "
            f"{tuple(gradients.shape)}: the groups stay the same during a training, start anew"
        )
    if rule.weight_decay:
        gradients = gradients.add(theta, alpha=rule.weight_decay)
    m = torch.lerp(m, gradients, 1 - b1)
    v = torch.mul(v, b2).addcmul_(gradients, gradients, value=1 - b2)
    new: State = {"t": t, "m": m, "v": v}
    if rule.amsgrad:
        new["top"] = v = torch.maximum(moments.get("top", v), v)
    den = (v.sqrt() / math.sqrt(1 - b2**t)).add_(rule.eps)
    change = (m / den).mul_(rule.weights(len(m), theta)[:, None]).sum(0)
    if rule.agg_betas is not None:
        change = _aggregate(change, moments, new, rule.agg_betas, rule.eps)
    return theta.sub(change, alpha=learning_rate / (1 - b1**t)), new


def _aggregate(change: Tensor, old: State, new: State, betas: Betas, eps: float) -> Tensor:
    """Pass the sum over the groups through a second Adam."""
    zero, t = torch.zeros_like(change), new["t"]
    new["sum_m"] = m = torch.lerp(old.get("sum_m", zero), change, 1 - betas[0])
    new["sum_v"] = v = torch.mul(old.get("sum_v", zero), betas[1]).addcmul_(
        change, change, value=1 - betas[1]
    )
    return m / (1 - betas[0] ** t) / (v.sqrt() / math.sqrt(1 - betas[1] ** t)).add_(eps)


@final
@dataclass(frozen=True)
class MultiAdam(FirstOrder):
    """Lower all groups of losses alike, whatever their scales, by Adam with moments for every group.

    theta -= lr / (1 - b1^t) * sum_i w_i m_i / (sqrt(v_i) / sqrt(1 - b2^t) + eps), m_i and v_i of group i

    Multiplying a group by a constant does not change the steps, up to eps. A domain shrunk t-fold multiplies
    a squared residual of order k by t^(2k), and leaves the loss of a Dirichlet condition alone: Adam follows
    the equation only, MultiAdam does not notice. Good groups: one per equation and one for all conditions
    (paper), or all equations and all conditions (benchmark PINNacle). A group is the sum of its losses.
    Raises FloatingPointError, naming the group, where a loss or a gradient is not finite.

    Args:
        learning_rate: 1e-3.
        betas: (0.99, 0.99); a smaller b1 makes the steps of a small group noisy.
        eps: added to the root of the second moment; smaller than the gradients of the smallest group.
        weight_decay: added to every group's gradient as weight_decay * theta.
        amsgrad: divide by the largest second moment so far.
        group_weights: w_i; None is 1 / n.
        agg_betas: pass the sum over the groups through a second Adam with these decays; None does not. The
            update is that of the authors' code, whose first steps are long: the second Adam normalises the
            sum, and 1 / (1 - b1^t) multiplies it all the same. With b1 = 0.99 and steady gradients the steps
            of every parameter are about 100, 48, 31, 23, ... times the learning rate, 2.3 times after 50
            steps and 1.5 times after 100. Give a schedule that warms up over some hundred steps, as
            `ExponentialDecay(warmup=500)`; without `agg_betas` the first step is one learning rate.
        schedule, steps: see `FirstOrder`.

    Source: Yao et al., "MultiAdam: parameter-wise scale-invariant optimizer for multiscale training of
    physics-informed neural networks" (2023), arXiv 2306.02816.

    >>> class Scaled(Objective):
    ...     def losses(self, theta): return torch.stack([(theta[0] - 1) ** 2, 1e6 * (theta[1] - 1) ** 2])
    ...     def residuals(self, theta): return torch.stack([theta[0] - 1, 1e3 * (theta[1] - 1)])
    >>> theta, optimiser = torch.zeros(2, dtype=torch.float64), MultiAdam(0.02)
    >>> state = optimiser.start(theta)
    >>> for _ in range(10):
    ...     theta = optimiser.step(Scaled(), theta, state).theta
    >>> bool((theta[0] - theta[1]).abs() < 1e-6), f"{moment_ratio(state, 1, 0):.2e}"
    (True, '1.00e+12')
    """

    betas: Betas = (0.99, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    group_weights: tuple[float, ...] | None = None
    agg_betas: Betas | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rule  # noqa: B018  checks the settings

    @property
    def rule(self) -> MultiAdamRule:
        """The settings of one update."""
        return MultiAdamRule(
            self.betas, self.eps, self.weight_decay, self.amsgrad, self.group_weights, self.agg_betas
        )

    def step(self, objective: Objective, theta: Tensor, state: State) -> Step:
        t = state["t"]
        losses, gradients = group_gradients(objective, theta, t)
        rule = replace(self.rule, betas=(self.momentum(t, self.betas[0]), self.betas[1]))
        theta, moments = multiadam_update(theta.detach(), gradients, state, rule, self.rate(t))
        state.update(moments)
        return Step(theta, losses)


def moment_ratio(moments: State, first: int = 0, second: int = 1) -> float:
    """Return mean(v_first) / mean(v_second), the ratio of the second moments of two groups.

    Shrinking a domain t-fold multiplies the squared residual of an equation of order k by t^(2k), and
    its gradient too; with a Dirichlet condition as the second group, this ratio by t^(4k).

    >>> moment_ratio({"t": 1, "v": torch.tensor([[4.0, 2.0], [1.0, 1.0]])})
    3.0
    """
    if "v" not in moments:
        raise ValueError("there are no moments before the first step: take one")
    means = moments["v"].mean(1)
    return float(means[first] / means[second])
