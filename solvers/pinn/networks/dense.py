"""A linear layer with the ways in which its scale can be trained."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn

from .base import normal

Slope = Literal["layer", "neuron", "factorised"]
"""What is trained besides weight and bias: one slope of the activation per layer or per neuron
(Jagtap, Kawaguchi, Karniadakis 2020), or a factor per row of the weight (Wang et al. 2022)."""

SLOPES: tuple[Slope, ...] = ("layer", "neuron", "factorised")

TIMES = 10  # n of the slopes n a: equal steps of all parameters, as Adam takes, change slopes n times as much


@final
class Dense(nn.Module):
    """x -> W x + b, Glorot normal, zero bias; or M such layers side by side.

    A slope n a of the activation, s(n a (W x + b)), is part of the weight and bias that are used, n a W and
    n a b; n = 10, and a = 1 / n at the start. Factorised weights are W = diag(exp r) V with r drawn from
    N(1, 0.1) and V such that W starts as without.

    Args:
        shape: outputs and inputs of the layer, or M, outputs and inputs.
        like: gives dtype and device.
        generator: draws the weights.
        slope: what is trained besides.
    """

    def __init__(
        self,
        shape: tuple[int, ...],  # (V, W) or (M, V, W)
        like: Tensor,
        generator: torch.Generator,
        slope: Slope | None = None,
    ) -> None:
        super().__init__()
        self.kind = slope
        *rows, inputs = shape
        weight = (2.0 / (rows[-1] + inputs)) ** 0.5 * normal(shape, like, generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(like.new_zeros(tuple(rows)))
        if slope == "layer":
            side_by_side = tuple(rows[:-1])
            self.slope = nn.Parameter(like.new_full((*side_by_side, 1) if side_by_side else (), 1 / TIMES))
        elif slope == "neuron":
            self.slope = nn.Parameter(like.new_full(tuple(rows), 1 / TIMES))
        elif slope == "factorised":
            self.slope = nn.Parameter(1 + 0.1 * normal(tuple(rows), like, generator))
            self.weight.data /= self.slope.data.exp().unsqueeze(-1)

    def used(self) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias that are applied."""
        if self.kind is None:
            return self.weight, self.bias
        if self.kind == "factorised":
            return self.slope.exp().unsqueeze(-1) * self.weight, self.bias
        slope = TIMES * self.slope
        return slope.unsqueeze(-1) * self.weight, slope * self.bias

    @torch.no_grad()
    def use(self, weight: Tensor, bias: Tensor) -> None:
        """Make these the weight and the bias that are applied; slopes and factors stay."""
        if self.kind == "factorised":
            weight = weight / self.slope.exp().unsqueeze(-1)
        elif self.kind is not None:
            slope = TIMES * self.slope
            weight, bias = weight / slope.unsqueeze(-1), bias / slope
        self.weight.copy_(weight)
        self.bias.copy_(bias)
