"""Weights that bring the gradients of the groups to one size: LRA, grad-norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...optim.base import State
from .base import View, Weighting, blend, check_every, check_keep, finite, of_kind

# of the mean norm, what a norm counts at least: or the weight of a condition that is met runs away
_LEAST = 1e-5


@dataclass(frozen=True)
class _Blended(Weighting):
    """Weights that keep a share of the old ones."""

    every: int = 10
    keep: float = 0.9

    def __post_init__(self) -> None:
        check_every(self.every)
        check_keep(self.keep)


@final
@dataclass(frozen=True)
class LRA(_Blended):
    """Weight conditions such that their gradients are as large as that of the equations ("annealing").

    w_i = keep w_i + (1 - keep) max|grad L_r| / mean|grad w_i L_i|   for conditions; w = 1 for equations

    L_r is the sum of the equations' losses; maximum and mean are over the parameters. A condition without
    gradient keeps its weight. Weights of 10 to 1000 are usual; they settle at the root of
    max|grad L_r| / mean|grad L_i|.

    Args:
        every: steps between two updates.
        keep: share of the old weights.
        weighted: compare with the gradient of the condition's loss as it enters the sum, with its weight, as
            the authors' code does. False leaves the weight out, as algorithm 1 reads: nothing holds the
            weights back then, they grow as a condition is met (to 1e11 in our trainings), and the equations
            are lost.

    Source: Wang, Teng, Perdikaris (2021), "Understanding and mitigating gradient flow pathologies in
    physics-informed neural networks", algorithm 1, and its code.

    >>> import torch
    >>> LRA().start(2, torch.empty(0))["weights"]
    tensor([1., 1.])
    """

    weighted: bool = True

    def update(self, state: State, view: View) -> Tensor:
        return _anneal(state, view, self.keep, weighted=self.weighted)


@final
@dataclass(frozen=True)
class LRAPinnacle(_Blended):
    """LRA as the benchmark PINNacle codes it: the weights of `LRA`, updated at every step.

    Source: Hao et al. (2024), code of PINNacle.

    >>> LRAPinnacle().every
    1
    """

    every: int = 1

    def update(self, state: State, view: View) -> Tensor:
        return _anneal(state, view, self.keep, weighted=True)


@final
@dataclass(frozen=True)
class GradNorm(_Blended):
    """Weight all groups such that the norms of their gradients are equal.

    w_i = keep w_i + (1 - keep) mean_j |grad L_j| / |grad L_i|

    A group without gradient keeps its weight. No norm counts as less than 1e-5 of their mean.

    Args:
        every: steps between two updates; 1000 for trainings of 100,000 and more.
        keep: share of the old weights.

    Source: Wang, Sankaran, Wang, Perdikaris (2023), "An expert's guide to training physics-informed neural
    networks", with the mean where it has the sum; the bound is that of its code.

    >>> GradNorm(keep=0.0).every
    100
    """

    every: int = 100

    def update(self, state: State, view: View) -> Tensor:
        norms = finite(view.gradients(), "the gradient").norm(dim=1)
        counted = torch.where(norms > 0, norms.clamp(min=_LEAST * float(norms.mean())), norms)
        state["weights"] = blend(state["weights"], norms.mean() / counted, self.keep)
        return state["weights"]


def _anneal(state: State, view: View, keep: float, *, weighted: bool) -> Tensor:
    """Return weights whose conditions went towards max|grad L_r| / mean|grad L_i|, those of `state`."""
    equations, conditions = of_kind(view, "equation"), of_kind(view, "condition")
    if not equations:
        raise ValueError("LRA weights conditions against equations, the loss has none: use GradNorm")
    gradients = finite(view.gradients(), "the gradient")
    weights = state["weights"].clone()
    means = gradients.abs().mean(1) * (weights if weighted else 1)
    new = gradients[equations].sum(0).abs().max() / means
    weights[conditions] = blend(weights[conditions], new[conditions], keep)
    state["weights"] = weights
    return weights
