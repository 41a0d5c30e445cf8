"""The convolutional network of the deep conjugate direction method, in both published sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import DirectionNetwork


@final
@dataclass(frozen=True)
class DCDMConfig:
    """Sizes of a `DCDMNetwork`; the defaults are those published for 64^3 cells.

    Args:
        channels: of every inner layer.
        pairs: of convolutions before the coarsening, all but the first with a skip.
        coarse: residual blocks on the coarse grid.
        fine: residual blocks after it.

    Raises:
        ValueError: for a size below 1.
    """

    channels: int = 16
    pairs: int = 2
    coarse: int = 3
    fine: int = 2

    def __post_init__(self) -> None:
        sizes = (self.channels, self.pairs, self.coarse, self.fine)
        if min(sizes) < 1:
            raise ValueError(f"channels, pairs, coarse and fine are at least 1, got {sizes}")


DCDM_64 = DCDMConfig()
DCDM_128 = DCDMConfig(pairs=3, coarse=5, fine=3)


@final
class DCDMNetwork(DirectionNetwork):
    """Propose directions by 3 x 3 x 3 convolutions on two grids.

        c0 = conv(r);  a = R(c0), b = R(a);  a = R(b) + a, b = R(a)   (pairs)       R = ReLU(conv)
        v = pool(b);   v = R(R(v)) + v   (coarse);   v = upsample(v) + b;   v = R(R(v)) + v   (fine)
        q = linear(v)

    Zero padding, average pooling, nearest upsampling; every R has weights of its own. About 61,000
    (`DCDM_64`) and 92,000 (`DCDM_128`) multiplications per cell and direction, 97,457 and 152,881 parameters.
    It sees the residual alone: obstacles are masked out of what it returns.

    Source: Kaneda et al., ICML 2023, PMLR 202:15720.

    >>> DCDMNetwork(DCDM_64).parameter_count, DCDMNetwork(DCDM_128).parameter_count
    (97457, 152881)
    """

    Config = DCDMConfig
    multiple = 2

    def __init__(self, config: DCDMConfig = DCDM_64) -> None:
        super().__init__(config)
        width = config.channels

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(nn.ModuleList(_conv(width, width) for _ in range(2)) for _ in range(count))

        self.first = _conv(1, width)
        self.before, self.below, self.after = (
            blocks(config.pairs),
            blocks(config.coarse),
            blocks(config.fine),
        )
        self.last = _conv(width, 1, kernel=1)

    def propose(self, r: Tensor, prepared: Any) -> Tensor:
        """Return directions (B, 1, X, Y, Z)."""
        b = self.first(r).contiguous(memory_format=torch.channels_last_3d)  # up to twice as fast on the CPU
        skip = None
        for one, two in self.before:  # type: ignore[misc]
            a = torch.relu(one(b))
            skip = a if skip is None else a + skip
            b = torch.relu(two(skip))
        v = _residual_blocks(functional.avg_pool3d(b, 2), self.below)
        v = functional.interpolate(v, scale_factor=2.0, mode="nearest") + b
        return self.last(_residual_blocks(v, self.after))


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, kernel, padding=kernel // 2)


def _residual_blocks(v: Tensor, blocks: nn.ModuleList) -> Tensor:
    for one, two in blocks:  # type: ignore[misc]
        v = torch.relu(two(torch.relu(one(v)))) + v
    return v
