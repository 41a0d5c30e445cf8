"""Graph neural operator: kernels over balls, on grids, point clouds and meshes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from .base import WrongSettings
from .layers.integral import IntegralLayer, KernelIntegral
from .layers.neighbours import Neighbours, radius_neighbours
from .on_points import OnPoints, PointSettings


@dataclass(frozen=True)
class BallSettings(PointSettings):
    """Settings of an operator with kernels over balls.

    Attributes:
        neighbours: sampled from a ball that holds more; 0: all.
        seed: of that choice.
        edges_at_once: pairs of points, times samples, in memory at a time.
    """

    neighbours: int = 300
    seed: int = 0
    edges_at_once: int = 65_536

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbours < 0 or self.edges_at_once < 1:
            raise WrongSettings(
                f"neighbours is 0 (all) or more and edges_at_once 1 or more, got {self.neighbours} and "
                f"{self.edges_at_once}"
            )

    def make_kernel(self) -> KernelIntegral:
        """Return a kernel integral between fields of the hidden width."""
        return KernelIntegral(
            self.dim + self.in_channels,
            self.width,
            self.width,
            self.kernel,
            activation=self.activation,
            edges_at_once=self.edges_at_once,
        )


@dataclass(frozen=True)
class GNOConfig(BallSettings):
    """Settings of a graph neural operator.

    Attributes:
        radius: of the balls, in the units of the points (every axis of a grid is 1 long).
    """

    radius: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.radius <= 0:
            raise WrongSettings(f"radius is above 0, got {self.radius}")


@final
class GNO(OnPoints[Neighbours]):
    """Map fields to fields by averages of learned kernels over balls.

    (K v)(x) = sum_j w_j k(x, y_j, a(x), a(y_j)) v(y_j) / sum_j w_j over the points y_j with |x - y_j| < r, or
    a random choice of them. With quadrature weights w the limit of many points does not depend on their
    density. O(N J H (C + H)) operations a layer: J neighbours, C channels, H hidden values of a kernel.

    Source: Li et al. (2020), Neural operator: graph kernel network for partial differential equations.
    Good values: radius 0.25 on the unit box, 300 neighbours, 4 layers, kernel (256, 256), relu.

    >>> model = GNO(GNOConfig(1, 1, width=8, layers=2, kernel=(16,)))
    >>> model(torch.zeros(2, 1, 9, 7)).shape
    torch.Size([2, 1, 9, 7])
    >>> points = torch.rand(50, 2)
    >>> model.on_points(torch.zeros(2, 50, 1), model.geometry(points)).shape
    torch.Size([2, 50, 1])
    """

    Config: ClassVar[type] = GNOConfig
    config: GNOConfig

    def __init__(self, config: GNOConfig) -> None:
        super().__init__(config)
        self._draw = 0

    def make_layer(self) -> nn.Module:
        return IntegralLayer(self.config.width, self.config.make_kernel())

    def resample(self) -> None:
        """Draw other neighbours from now on, on grids too, for example at every epoch."""
        self._draw += 1
        self._grids.clear()

    def make_geometry(self, points: Tensor, weights: Tensor) -> Neighbours:
        c = self.config
        generator = torch.Generator().manual_seed(c.seed + self._draw)
        return radius_neighbours(points, weights, c.radius, most=c.neighbours, generator=generator)

    def move_geometry(self, geometry: Neighbours, device: torch.device, dtype: torch.dtype) -> Neighbours:
        return geometry.to(device, dtype)
