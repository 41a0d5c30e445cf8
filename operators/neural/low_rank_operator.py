"""Low-rank neural operator: kernels that are sums of a few products, on grids, point clouds and meshes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from .base import WrongSettings
from .layers.integral import IntegralLayer, LowRankIntegral
from .on_points import OnPoints, PointSettings


@dataclass(frozen=True)
class LowRankConfig(PointSettings):
    """Settings of a low-rank neural operator.

    Attributes:
        rank: products in a kernel.
    """

    rank: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise WrongSettings(f"rank is at least 1, got {self.rank}")


@final
class LowRankOperator(OnPoints[Tensor]):
    """Map fields to fields by integrals over the whole domain against learned kernels of low rank.

    (K v)(x) = sum_r phi_r(x, a(x)) sum_j w_j psi_r(y_j, a(y_j)) . v(y_j), quadrature weights w of sum 1, q
    products r of vectors: O(N q) operations a layer.

    Source: Kovachki et al. (2023), Neural operator: learning maps between function spaces, low-rank operator
    (not the latent operator, which is called LNO too). Good values: rank 4, 4 layers, kernel (256, 256),
    relu.

    >>> model = LowRankOperator(LowRankConfig(1, 1, width=8, kernel=(16,)))
    >>> model(torch.zeros(2, 1, 9, 7)).shape
    torch.Size([2, 1, 9, 7])
    """

    Config: ClassVar[type] = LowRankConfig
    config: LowRankConfig

    def make_layer(self) -> nn.Module:
        c = self.config
        kernel = LowRankIntegral(c.dim + c.in_channels, c.width, c.rank, c.kernel, activation=c.activation)
        return IntegralLayer(c.width, kernel)

    def make_geometry(self, points: Tensor, weights: Tensor) -> Tensor:
        del points  # the integral is over all of them
        return weights

    def move_geometry(self, geometry: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
        return geometry.to(device, dtype)
