"""Weights from how fast the losses fall: SoftAdapt, ReLoBRaLo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...optim.base import State
from .base import View, Weighting, check_every, finite


@final
@dataclass(frozen=True)
class SoftAdapt(Weighting):
    """Weight groups by how much their loss grew since the last update.

    w_i = n a_i exp(beta s_i) / sum_j a_j exp(beta s_j),  s_i = L_i(now) - L_i(last)

    The weights have the mean 1. They are 1 until there is a last loss.

    Args:
        every: steps between two updates.
        beta: positive weights what grows; 0 makes all weights equal.
        normalised: divide s by sum |s_j|, for losses that are all small or all large.
        by_loss: a_i = L_i instead of 1, so that large losses weigh more.

    Source: Heydari, Thompson, Mehmood (2019), "SoftAdapt: techniques for adaptive loss weighting of neural
    networks with multi-part loss functions".

    >>> SoftAdapt(beta=0.1).start(3, torch.empty(0))["weights"]
    tensor([1., 1., 1.])
    """

    every: int = 1
    beta: float = 0.1
    normalised: bool = True
    by_loss: bool = False

    def __post_init__(self) -> None:
        check_every(self.every)

    def update(self, state: State, view: View) -> Tensor:
        losses = finite(view.losses(), "the loss")
        last, state["last"] = state.get("last"), losses
        if last is None:
            return state["weights"]
        rates = losses - last
        if self.normalised:
            rates = rates / rates.abs().sum().clamp(min=torch.finfo(losses.dtype).tiny)
        logits = self.beta * rates
        if self.by_loss:
            logits = logits + losses.clamp(min=torch.finfo(losses.dtype).tiny).log()
        state["weights"] = len(losses) * torch.softmax(logits, 0)
        return state["weights"]


@final
@dataclass(frozen=True)
class ReLoBRaLo(Weighting):
    """Weight groups by relative progress, over the last update and, at random, over the whole training.

    b_i(t, t') = n exp(L_i(t) / (T L_i(t'))) / sum_j exp(L_j(t) / (T L_j(t')))
    w(t) = alpha (rho w(t - 1) + (1 - rho) b(t, 0)) + (1 - alpha) b(t, t - 1)

    rho is 1 with the probability `saved`, else 0.

    The weights have the mean 1. They are 1 at the first update.

    Args:
        every: steps between two updates.
        alpha: share of the past.
        temperature: T; small ones weight the slowest group alone, large ones weight all alike.
        saved: probability that the past is the last weights, not the progress since the start.

    Good values: alpha 0.999, temperature 0.1 to 1, saved 0.999, for every=1.
    Source: Bischof, Kraus (2021), "Multi-objective loss balancing for physics-informed deep learning".

    >>> ReLoBRaLo(temperature=1.0).start(2, torch.empty(0))["weights"]
    tensor([1., 1.])
    """

    every: int = 1
    alpha: float = 0.999
    temperature: float = 0.1
    saved: float = 0.999

    def __post_init__(self) -> None:
        check_every(self.every)
        if not (0 <= self.alpha <= 1 and 0 <= self.saved <= 1):
            raise ValueError(f"alpha and saved lie in [0, 1], got {self.alpha} and {self.saved}")
        if not self.temperature > 0:
            raise ValueError(f"the temperature is positive, got {self.temperature}")

    def update(self, state: State, view: View) -> Tensor:
        losses = finite(view.losses(), "the loss")
        if "last" not in state:
            state["first"] = state["last"] = losses
            return state["weights"]
        drawn = torch.rand((), generator=view.generator, device=view.generator.device)
        past = state["weights"] if float(drawn) < self.saved else self._balance(losses, state["first"])
        new = self.alpha * past + (1 - self.alpha) * self._balance(losses, state["last"])
        state["last"], state["weights"] = losses, new
        return new

    def _balance(self, now: Tensor, then: Tensor) -> Tensor:
        relative = now / then.clamp(min=torch.finfo(now.dtype).tiny)
        top = torch.finfo(now.dtype).max / len(now) * min(1.0, self.temperature)
        return len(now) * torch.softmax(relative.clamp(max=top) / self.temperature, 0)
