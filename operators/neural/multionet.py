"""MultiONet: a DeepONet in which the last layers of branch and trunk all contribute."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import final

import torch
from torch import Tensor, nn

from .base import WrongSettings
from .deeponet import PointOperator, contract
from .layers.multilayer import Multilayer
from .layers.trunk import Trunk
from .on_grid import BoxSettings, QueriedOnGrid


@final
class MultiONet(PointOperator):
    """Map an input function to an output function at any points by products of several layers.

    G(u)(y) = bias + (1/l) sum_k w_k <t_k(y), b_k(u)> over the last l layers k of trunk and branch, which are
    equally deep and wide; every layer is activated, the last too. It has l parameters more than the DeepONet.

    With `initial` = 0, as published, the first output is the constant bias, and in the first step only the
    weights w and the bias have a gradient; 1 trains everything at once.

    Source: Zang, Koutsourelakis (2025), JCP 538, 114137.

    Args:
        branch: dense layers (m, W_1 .. W_n).
        trunk: of points, (d, W_1 .. W_n).
        outputs: C; the width of each contributing layer is split into C parts.
        layers: l, below the number n of layers; 4 as published.
        initial: value of the weights w at the start.

    >>> branch = Multilayer((50, *[32] * 5), "silu", last=True)
    >>> net = MultiONet(branch, Trunk((1, *[32] * 5), "silu_sin"), layers=4)
    >>> net(torch.ones(4, 50), torch.rand(100, 1)).shape
    torch.Size([4, 100])
    """

    def __init__(
        self,
        branch: Multilayer,
        trunk: Trunk,
        outputs: int = 1,
        *,
        layers: int = 4,
        initial: float = 0.0,
    ) -> None:
        super().__init__()
        widths = branch.widths[1:], trunk.dense.widths[1:]
        if widths[0] != widths[1]:
            raise WrongSettings(
                f"branch and trunk are equally deep and wide, got {widths[0]} and {widths[1]}"
            )
        if not (branch.last and trunk.dense.last):
            raise WrongSettings("every layer is activated in MultiONet: make both networks with last=True")
        if not 1 <= layers < len(widths[0]):
            raise WrongSettings(f"layers is at least 1 and below {len(widths[0])}, the depth, got {layers}")
        if any(width % outputs for width in widths[0][-layers:]):
            raise WrongSettings(f"the widths {widths[0][-layers:]} cannot be split into {outputs} outputs")
        self.branch, self.trunk, self.outputs, self.layers = branch, trunk, outputs, layers
        self.weights = nn.Parameter(torch.full((layers,), float(initial)))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def by_channel(
        self,
        sensors: Tensor,  # (B, m)
        points: Tensor,  # (N, d) or (B, N, d)
    ) -> Tensor:
        """Return the outputs channels first, (B, outputs, N)."""
        b = self.branch.every_layer(sensors)[-self.layers :]
        t = self.trunk.dense.every_layer(self.trunk.features(points))[-self.layers :]
        scaled = [w * b_k for w, b_k in zip(self.weights / self.layers, b, strict=True)]
        return contract(self.join(scaled), self.join(t), self.outputs) + self.bias[:, None]

    def join(self, layers: list[Tensor]) -> Tensor:
        """Join layers (..., W_k) so that one product of the whole is the sum of products, per output."""
        return torch.cat([v.unflatten(-1, (self.outputs, -1)) for v in layers], -1).flatten(-2)


@final
@dataclass(frozen=True)
class MultiONetConfig(BoxSettings):
    """Settings of `MultiONetOnGrid`.

    Args:
        in_channels, out_channels: fields of input and output.
        size: points of the sensor grid along each axis.
        width, depth: of branch and trunk.
        layers: how many of the last layers contribute.
        initial: value of their weights at the start: 0 as published, or 1.
        activation, trunk_activation: names of `ACTIVATIONS`.
    """

    in_channels: int
    out_channels: int
    size: tuple[int, ...]
    width: int = 128
    depth: int = 5
    layers: int = 4
    initial: float = 0.0
    activation: str = "silu"
    trunk_activation: str = "silu_sin"


@final
class MultiONetOnGrid(QueriedOnGrid):
    """Map fields to fields by a MultiONet whose sensors are the points of a grid.

    >>> net = MultiONetOnGrid(MultiONetConfig(1, 1, (16,), width=32))
    >>> net(torch.ones(3, 1, 16)).shape
    torch.Size([3, 1, 16])
    """

    Config = MultiONetConfig

    def __init__(self, config: MultiONetConfig) -> None:
        super().__init__(config)
        hidden = [config.width] * config.depth
        branch = Multilayer((config.in_channels * prod(config.size), *hidden), config.activation, last=True)
        trunk = Trunk(
            (self.dim, *hidden), config.trunk_activation, fourier=config.fourier, periodic=config.periodic
        )
        self.net = MultiONet(branch, trunk, config.out_channels, layers=config.layers, initial=config.initial)
        self.place(config)

    def evaluate(self, x: Tensor, points: Tensor) -> Tensor:
        """Return (B, out_channels, N) at points (N, d) of the unit box."""
        return self.net.by_channel(x.flatten(1), points)
