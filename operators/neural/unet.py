"""U-Net, the convolutional baseline that neural operators are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import NeuralOperator, WrongResolution, WrongSettings
from .layers.boundary_convolution import BoundaryConvolution, boundary_sides
from .layers.channels import activation

Norm = Literal["group", "batch", "none"]


@final
@dataclass(frozen=True)
class UNetConfig:
    """Settings of a U-Net.

    Attributes:
        dim: axes of space, 1 to 3.
        width: channels of the finest level; each coarser one has twice as many.
        levels: times that the grid is halved.
        norm: after every convolution, "group" (`groups` groups), "batch" or "none".
        boundary: "dirichlet", "neumann" or "periodic": one word, one per axis, or one per side.
    """

    in_channels: int
    out_channels: int
    dim: int = 2
    width: int = 32
    levels: int = 4
    norm: Norm = "group"
    groups: int = 8
    activation: str = "gelu"
    boundary: tuple[str, ...] = ("dirichlet",)

    def __post_init__(self) -> None:
        words = (self.boundary,) if isinstance(self.boundary, str) else tuple(self.boundary)
        object.__setattr__(self, "boundary", words)
        if not 1 <= self.dim <= 3:
            raise WrongSettings(f"dim is 1, 2 or 3, got {self.dim}")
        for name in ("in_channels", "out_channels", "width", "levels", "groups"):
            if getattr(self, name) < 1:
                raise WrongSettings(f"{name} is at least 1, got {getattr(self, name)}")
        if self.norm not in ("group", "batch", "none"):
            raise WrongSettings(f"norm is one of group, batch, none; got {self.norm!r}")
        if self.norm == "group" and self.width % self.groups:
            raise WrongSettings(f"width {self.width} does not split into {self.groups} groups")
        activation(self.activation)
        boundary_sides(words, self.dim)

    @classmethod
    def pdebench(cls, in_channels: int, out_channels: int, dim: int = 2) -> UNetConfig:
        """Return the settings of the U-Net of PDEBench, with its widths, norm and activation."""
        return cls(in_channels, out_channels, dim, norm="batch", activation="tanh")


@final
class UNet(NeuralOperator):
    """Map fields to fields by convolutions on halved grids, with connections between grids of the same size.

    (B, in_channels, *space) -> (B, out_channels, *space). On the way down two convolutions of 3 points and a
    maximum over pairs; on the way up a transposed convolution of 2 points, the fields of the way down beside
    it, and two convolutions. An odd number of points is halved upwards; the point too many is cropped again.

    Source: Ronneberger, Fischer and Brox (2015), U-Net, with padding, so that the size stays. A kernel of 3
    points means another map on another grid: train and evaluate with the same distance between points.
    Good values: the defaults; Adam at 1e-3.

    Raises:
        WrongResolution: for a grid with less than 2^levels points on an axis (one more with "neumann").

    >>> model = UNet(UNetConfig(1, 2, width=8, levels=2))
    >>> model(torch.zeros(3, 1, 17, 20)).shape
    torch.Size([3, 2, 17, 20])
    """

    Config: ClassVar[type] = UNetConfig
    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        d = config.dim - 1
        transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[d]
        pointwise = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[d]
        widths = [config.width * 2**level for level in range(config.levels + 1)]
        pairs = list(pairwise(widths))
        self.first = DoubleConvolution(config.in_channels, widths[0], config)
        self.down = nn.ModuleList(DoubleConvolution(a, b, config) for a, b in pairs)
        self.up = nn.ModuleList(transposed(b, a, 2, stride=2) for a, b in pairs)
        self.merge = nn.ModuleList(DoubleConvolution(2 * a, a, config) for a, _ in pairs)
        self.head = pointwise(widths[0], config.out_channels, 1)
        self.halve = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[d]

    @property
    def dim(self) -> int:
        return self.config.dim

    def check_resolution(self, space: tuple[int, ...]) -> None:
        # a mirror image needs two points on the coarsest grid
        least = 2**self.config.levels + ("neumann" in self.config.boundary)
        if min(space) < least:
            raise WrongResolution(
                f"a U-Net that halves the grid {self.config.levels} times needs at least {least} points on "
                f"every axis, got {space}: give fewer `levels`, or a finer grid"
            )

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        u = self.first(x)
        kept: list[Tensor] = []
        for convolve in self.down:
            kept.append(u)
            u = convolve(self.halve(u, 2, ceil_mode=True))
        for level in reversed(range(len(kept))):
            beside = kept[level]
            u = self.up[level](u)
            for axis, n in enumerate(beside.shape[2:], start=2):
                u = u.narrow(axis, 0, n)
            u = self.merge[level](torch.cat((beside, u), 1))
        return self.head(u)


@final
class DoubleConvolution(nn.Module):
    """Apply act(norm(convolution)) twice; a convolution has a bias where no norm follows."""

    def __init__(self, in_channels: int, channels: int, config: UNetConfig) -> None:
        super().__init__()
        sides = boundary_sides(config.boundary, config.dim)
        bias = config.norm == "none"
        self.first = BoundaryConvolution(in_channels, channels, sides, bias=bias)
        self.second = BoundaryConvolution(channels, channels, sides, bias=bias)
        self.norms = nn.ModuleList(self._norm(channels, config) for _ in range(2))
        self.act = activation(config.activation)

    @staticmethod
    def _norm(channels: int, config: UNetConfig) -> nn.Module:
        match config.norm:
            case "group":
                return nn.GroupNorm(config.groups, channels)
            case "batch":
                return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[config.dim - 1](channels)
            case _:
                return nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        u = self.act(self.norms[0](self.first(x)))
        return self.act(self.norms[1](self.second(u)))
