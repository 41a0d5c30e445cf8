"""Any module of torch as a network, differentiated by torch itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from ..errors import WrongShape
from ..jets import Affine, Jet, nested
from ..jets.nested import check_known
from .base import Architecture, Box, Network, WrongSettings

_PROBES = 7  # points at which a module is tried


@final
@dataclass(frozen=True, eq=False)
class Custom(Architecture):
    """A module from points (N, D) to outputs (N, W); derivatives by nested differentiation, which is slower.

    The module is copied when the network is built, with its weights: the generator is not used. It treats
    every point apart from the others, and its operations can be differentiated as often as the equation asks.
    Parameters with requires_grad=False stay as they are. These settings are no plain values: the module is
    given again where a saved solution is loaded, `Solution.load(folder, problem, Custom(module))`.

    >>> box = torch.zeros(2), torch.ones(2)
    >>> module = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> network = Custom(module).build(2, 1, box, torch.Generator())
    >>> network(torch.rand(5, 2, dtype=torch.float64)).shape
    torch.Size([5, 1])
    """

    module: nn.Module

    def make(self, inputs: int, outputs: int, box: Box, generator: torch.Generator) -> Network:
        network = Wrapped(inputs, outputs, copy.deepcopy(self.module).to(box[0]))
        network.check(
            box[0] + (box[1] - box[0]) * torch.rand(_PROBES, inputs, generator=generator).to(box[0])
        )
        return network

    def values(self) -> dict[str, Any]:
        """Raise WrongSettings: a module is no plain value."""
        raise WrongSettings(
            f"Custom({type(self.module).__name__}) cannot be written as plain values: keep the module in a "
            "program; a solution saves its weights, and is loaded with a module of the same form"
        )


@final
class Wrapped(Network):
    """The network of `Custom`."""

    def __init__(self, inputs: int, outputs: int, module: nn.Module) -> None:
        super().__init__(inputs, outputs)
        self.module = module

    def propagate(self, x: Affine) -> Jet | Affine:
        if x.plan.size > 1:
            jet = nested(self._checked, x.value, x.plan)
            return jet if torch.is_grad_enabled() else Jet(jet.plan, jet.rows.detach())
        return Jet(x.plan, self._checked(x.value).unsqueeze(0))

    def check(self, points: Tensor) -> None:
        """Raise NoDerivative if torch does not know the derivatives of the module at points (N, D)."""
        with torch.enable_grad():
            x = points.detach().requires_grad_()
            check_known(self._checked(x), x, "the module")

    def _checked(self, points: Tensor) -> Tensor:
        found = self.module(points)
        if not isinstance(found, Tensor) or found.shape != (len(points), self.outputs):
            gave = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise WrongShape(
                f"the module gave {gave} for {len(points)} points and {self.outputs} "
                f"outputs: it must give ({len(points)}, {self.outputs})"
            )
        return found
