"""Any module of torch as a network, differentiated by torch itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from ..errors import WrongShape
from ..jets import Affine, Jet, nested
from .base import Architecture, Box, Network, WrongSettings


@final
@dataclass(frozen=True, eq=False)
class Custom(Architecture):
    """A module from points (N, D) to outputs (N, W); derivatives by nested differentiation, which is slower.

    The module is copied when the network is built, with its weights: the generator is not used. It treats
    every point apart from the others, and its operations can be differentiated as often as the equation asks.
    These settings are no plain values: with saved results, give the same module again.

    >>> box = torch.zeros(2), torch.ones(2)
    >>> module = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> network = Custom(module).build(2, 1, box, torch.Generator())
    >>> network(torch.rand(5, 2, dtype=torch.float64)).shape
    torch.Size([5, 1])
    """

    module: nn.Module

    def make(self, inputs: int, outputs: int, box: Box, generator: torch.Generator) -> Network:
        return Wrapped(inputs, outputs, copy.deepcopy(self.module).to(box[0]))

    def values(self) -> dict[str, Any]:
        """Raise WrongSettings: a module is no plain value."""
        raise WrongSettings(
            f"Custom({type(self.module).__name__}) cannot be written as plain values: keep the module in a "
            "program, and save its weights by state_dict"
        )


@final
class Wrapped(Network):
    """The network of `Custom`."""

    def __init__(self, inputs: int, outputs: int, module: nn.Module) -> None:
        super().__init__(inputs, outputs)
        self.module = module

    def propagate(self, x: Affine) -> Jet | Affine:
        if x.plan.size > 1:
            jet = nested(self.module, x.value, x.plan)
            jet = jet if torch.is_grad_enabled() else Jet(jet.plan, jet.rows.detach())
        else:
            jet = Jet(x.plan, self.module(x.value).unsqueeze(0))
        if jet.value.shape != (len(x.value), self.outputs):
            raise WrongShape(
                f"the module gave {tuple(jet.value.shape)} for {len(x.value)} points and {self.outputs} "
                f"outputs: it must give ({len(x.value)}, {self.outputs})"
            )
        return jet
