"""Layers that mix channels at every point alike: linear, MLP and gate. They work in any dimension."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base import WrongSettings

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Return an activation function by its name.

    >>> activation("relu")(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    if name not in ACTIVATIONS:
        raise WrongSettings(f"activation is one of {', '.join(ACTIVATIONS)}; got {name!r}")
    return ACTIVATIONS[name]


@final
class PointwiseLinear(nn.Module):
    """Map the channels of every point linearly: y = W x + b, (B, in, *space) -> (B, out, *space).

    The same as a convolution with a kernel of one point, computed as a matrix product. Drawn like
    `torch.nn.Linear`: U(-1/sqrt(in), 1/sqrt(in)).

    >>> PointwiseLinear(3, 5)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 5, 8, 8])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.expand(x.shape[0], -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, x.flatten(2)).unflatten(2, x.shape[2:])

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


@final
class ChannelMLP(nn.Module):
    """Map the channels of every point by two linear layers: y = W2 act(W1 x + b1) + b2.

    >>> ChannelMLP(3, 16, 1)(torch.zeros(2, 3, 8)).shape
    torch.Size([2, 1, 8])
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, act: str = "gelu") -> None:
        super().__init__()
        self.first = PointwiseLinear(in_channels, hidden)
        self.second = PointwiseLinear(hidden, out_channels)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.act(self.first(x)))


@final
class Gate(nn.Module):
    """Multiply every channel by a number of its own, 1 at the start ("soft gating"), and add a field.

    >>> Gate(3)(torch.ones(2, 3, 8), add=torch.ones(2, 3, 8)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, *, add: Tensor) -> Tensor:
        """Return weight * x + add."""
        return torch.addcmul(add, x, self.weight.reshape(-1, *(1,) * (x.ndim - 2)))
