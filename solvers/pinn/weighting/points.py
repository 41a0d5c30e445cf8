"""Weights of single points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .base import PointWeighting


@final
@dataclass(frozen=True)
class ResidualAttention(PointWeighting):
    """Weight each point of the equations by its residual in the past, relative to the largest (RBA).

    w_i = decay w_i + rate |r_i| / max_j |r_j|, for the loss mean((w_i r_i)^2)

    Weights lie between 0 and rate / (1 - decay), which is 1 by default, and belong to points that stay: new
    points start anew. They are unchanged but for the decay where all residuals are zero.

    Args:
        decay: share of the old weights, in [0, 1); how long the past counts.
        rate: positive; what the largest residual adds.
        first: weights at the start. With 0 the first step does not see the equation.

    Source: Anagnostopoulos, Toscano, Stergiopulos, Karniadakis (2024), "Residual-based attention in
    physics-informed neural networks".

    >>> ResidualAttention(decay=0.5, rate=0.5).update(torch.ones(3), torch.tensor([0.0, -1.0, 4.0]))
    tensor([0.5000, 0.6250, 1.0000])
    """

    decay: float = 0.999
    rate: float = 0.001
    first: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay lies in [0, 1), got {self.decay}")
        if not self.rate > 0 or not self.first >= 0:
            raise ValueError(f"rate is positive and first at least 0, got {self.rate} and {self.first}")

    def start(self, n: int, like: Tensor) -> Tensor:
        return like.new_full((n,), self.first)

    def update(self, weights: Tensor, residual: Tensor) -> Tensor:
        if weights.shape != residual.shape:
            raise ValueError(
                f"there are weights of {tuple(weights.shape)} points and residuals of "
                f"{tuple(residual.shape)}: points that are drawn anew start with weights of their own"
            )
        sizes = residual.detach().abs()
        bad = ~torch.isfinite(sizes)
        if bad.any():
            raise FloatingPointError(
                f"the residual is not finite at {int(bad.sum())} of {len(sizes)} points: the training has "
                "diverged; lower the learning rate"
            )
        largest = sizes.max() if len(sizes) else sizes.sum()
        relative = sizes / largest if largest > 0 else torch.zeros_like(sizes)
        return self.decay * weights + self.rate * relative
