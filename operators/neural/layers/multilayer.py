"""Plain dense networks on vectors, and the activations they know by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import WrongSettings


def silu_sin(x: Tensor) -> Tensor:
    """Return silu(sin(pi (x + 1))) + x, the activation of MultiONet's trunk.

    >>> silu_sin(torch.tensor([0.0, 1.0])).round(decimals=4).tolist()
    [-0.0, 1.0]
    """
    return F.silu(torch.sin(math.pi * (x + 1))) + x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "silu_sin": silu_sin,
}


def activation_named(name: str) -> Callable[[Tensor], Tensor]:
    """Return an activation by its name.

    Raises:
        WrongSettings: for a name that is not in ACTIVATIONS.

    >>> activation_named("relu")(torch.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    if name not in ACTIVATIONS:
        raise WrongSettings(f"no activation is called {name!r}: choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


@final
class Multilayer(nn.Module):
    """Apply dense layers with an activation between them: (..., widths[0]) -> (..., widths[-1]).

    Weights and biases start as torch draws them. Random biases matter to trunks: with the zero biases of the
    published programs every kink lies at 0, the corner of the box, and training is slower.

    Args:
        widths: of the input, of every hidden layer, of the output.
        activation: a name of ACTIVATIONS.
        last: whether the activation follows the last layer too.

    >>> Multilayer((3, 16, 2), "tanh")(torch.ones(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(self, widths: Sequence[int], activation: str = "gelu", *, last: bool = False) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise WrongSettings(f"widths are two or more positive integers, input to output, got {widths}")
        self.widths, self.outputs, self.last = tuple(widths), widths[-1], last
        self.activation = activation_named(activation)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def every_layer(
        self,
        x: Tensor,  # (..., inputs)
    ) -> list[Tensor]:
        """Return what each layer gives, first to last."""
        values = []
        for number, layer in enumerate(self.layers, 1):
            x = layer(x)
            if self.last or number < len(self.layers):
                x = self.activation(x)
            values.append(x)
        return values

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return self.every_layer(x)[-1]


@final
class SideBySide(nn.Module):
    """Apply networks to the same input and join what they give along the last axis.

    >>> SideBySide([Multilayer((3, 2)), Multilayer((3, 4))])(torch.ones(5, 3)).shape
    torch.Size([5, 6])
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.outputs = sum(output_width(n) for n in networks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., sum of the networks' outputs)."""
        return torch.cat([network(x) for network in self.networks], -1)


def output_width(network: nn.Module) -> int:
    """Return how many numbers a network gives per sample: its attribute `outputs`.

    Raises:
        WrongSettings: for a network without one.

    >>> output_width(Multilayer((3, 16, 2)))
    2
    """
    width = getattr(network, "outputs", None)
    if not isinstance(width, int):
        raise WrongSettings(
            f"{type(network).__name__} does not say how many numbers it gives: "
            "set its attribute `outputs` to the size of its last axis"
        )
    return width
