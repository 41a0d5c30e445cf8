"""Layers that mix channels at every point alike: linear, MLP and gate. They work in any dimension."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base import WrongSettings
from .chunked_mlp import gelu_mlp
from .fused import fusible

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


def mix_channels(W: Tensor, x: Tensor) -> Tensor:
    """Return W x at every point, (out, in), (B, in, *space) -> (B, out, *space).

    >>> mix_channels(torch.ones(1, 3), torch.ones(1, 3, 2)).tolist()
    [[[3.0, 3.0]]]
    """
    return torch.bmm(W.expand(x.shape[0], -1, -1), x.flatten(2)).unflatten(2, x.shape[2:])


def scale_channels(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return scale x + shift, numbers (C,) per channel, of x (B, C, points).

    >>> scale_channels(torch.ones(1, 2, 1), torch.tensor([1.0, 2.0]), torch.ones(2)).tolist()
    [[[2.0], [3.0]]]
    """
    return torch.addcmul(shift[:, None], x, scale[:, None])


def add_mixed(x: Tensor, W: Tensor, y: Tensor) -> Tensor:
    """Return x + W y at every point, (B, out, points), (out, in), (B, in, *space) -> (B, out, *space).

    x may be overwritten.

    >>> add_mixed(torch.ones(1, 1, 2), torch.ones(1, 3), torch.ones(1, 3, 2)).tolist()
    [[[4.0, 4.0]]]
    """
    weight, lines = W.expand(y.shape[0], -1, -1), y.flatten(2)
    total = x.baddbmm_(weight, lines) if fusible(x, W, y) else x + torch.bmm(weight, lines)
    return total.unflatten(2, y.shape[2:])


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
        first, second = self.first, self.second
        if self.act is F.gelu and x.device.type == "cpu" and fusible(x, first.weight, second.weight):
            lines = gelu_mlp(x.flatten(2), first.weight, first.bias, second.weight, second.bias)
            return lines.unflatten(2, x.shape[2:])
        return second(self.act(first(x)))


@final
class Gate(nn.Module):
    """Multiply every channel by a number of its own, 1 at the start ("soft gating"), and add another.

    >>> Gate(2)(torch.ones(1, 2, 1), torch.tensor([0.0, 1.0])).tolist()
    [[[1.0], [2.0]]]
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        """Return weight x + shift of x (B, C, points)."""
        return scale_channels(x, self.weight, shift)
