"""Weights that stay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor

from ...optim.base import State
from .base import View, Weighting, check_every


@final
@dataclass(frozen=True)
class Constant(Weighting):
    """Keep given weights, one for each group.

    Args:
        weights: w_1, ..., w_n, at least 0.
        every: of no effect on the weights.

    >>> import torch
    >>> Constant((1.0, 100.0)).start(2, torch.empty(0))["weights"]
    tensor([  1., 100.])
    """

    weights: tuple[float, ...]
    every: int = 1_000_000

    def __post_init__(self) -> None:
        check_every(self.every)
        if not all(0 <= w < math.inf for w in self.weights):
            raise ValueError(f"weights are finite and at least 0, got {self.weights}")

    def start(self, n: int, like: Tensor) -> State:
        if len(self.weights) != n:
            raise ValueError(
                f"the loss has {n} groups, there are {len(self.weights)} weights: {self.weights}"
            )
        return {"weights": like.new_tensor(self.weights)}

    def update(self, state: State, view: View) -> Tensor:
        return state["weights"]
