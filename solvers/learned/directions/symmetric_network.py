"""A symmetric positive definite multilevel network: directions that plain CG may use."""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1, log
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from .kernel_fields import kernel_fields
from .network import FLUID, WALL, DirectionNetwork, with_ring, without_ring
from .stencils import CENTRE, OFFSETS, smooth, smooth_transposed

_RATIO = 1e-6  # least positive part of every level, relative to a bound of its norm: above float32 rounding
_COARSER = 4.0  # (H / h)^2


@final
@dataclass(frozen=True)
class SymmetricConfig:
    """Settings of a `SymmetricMultilevelNetwork`.

    Args:
        levels: coarsenings; boxes are padded to multiples of 2^levels.

    Raises:
        ValueError: for no level.
    """

    levels: int = 5

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"levels is at least 1, got {self.levels}")


@final
@dataclass(frozen=True)
class SymmetricKernels:
    """What the network made of an image, from the finest level to the coarsest: computed once per system.

    Attributes:
        stencils: G, (B or 1, 27, *box).
        outer, inner: e > 0 and c > 0, (B or 1, 1, *box).
    """

    stencils: list[Tensor]
    outer: list[Tensor]
    inner: list[Tensor]


@final
class SymmetricMultilevelNetwork(DirectionNetwork):
    """Propose directions by a linear U-net that is symmetric positive definite for all weights.

        M_i x = e_i x + G_i^T (c_i G_i x + 4 Q M_{i+1} Q^T G_i x),   M_l x = e_l x + G_l^T c_l G_l x

    Q^T averages eight cells into one, Q copies back (eight times its transpose); G_i has 27 taps per cell,
    and G_i^T is applied with the same numbers. G_i, e_i, c_i are 3 x 3 x 3 convolutions of the image of the
    cells (fluid, open, wall), e_i and c_i made positive by softplus: every term is positive semidefinite and
    the first one definite. e_i is at least 1e-6 of a bound of the norm of M_i, which covers rounding in
    float32.

    It starts as an additive multilevel preconditioner with trilinear transfers that no wall cuts. A direction
    costs some 65 multiplications per cell; (levels + 1) 2,378 parameters. Tagged SPD: for `CG`, and for every
    other method. Train it on `KnownErrors`.

    Source: after the symmetric variant in Lan et al., ICML 2024, arXiv 2310.00177 (U-net with transposed
    kernels); positive by construction is ours.

    >>> [SymmetricMultilevelNetwork(SymmetricConfig(levels)).parameter_count for levels in (4, 5)]
    [11890, 14268]
    """

    Config = SymmetricConfig
    linear = True
    symmetric = True

    def __init__(self, config: SymmetricConfig | None = None) -> None:
        config = config or SymmetricConfig()
        super().__init__(config)
        self.multiple = 2**config.levels

        def convolutions(taps: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv3d(3, taps, 3) for _ in range(config.levels + 1))

        self.stencils, self.outer, self.inner = convolutions(27), convolutions(1), convolutions(1)
        with torch.no_grad():
            self._start_multilevel()

    def _start_multilevel(self) -> None:
        """Make G_i trilinear, what would go into a wall staying where it is, e_i and c_i constant."""
        taps = torch.tensor(OFFSETS)
        weights = (2 - (taps - 1).abs()).prod(1) / 64
        i, j, k = taps.T
        beside = torch.arange(27) != CENTRE
        for level in range(self.config.levels + 1):
            stencil, outer, inner = (_zeroed(part[level]) for part in (self.stencils, self.outer, self.inner))
            stencil.weight[torch.arange(27), FLUID, i, j, k] = weights * beside
            stencil.weight[CENTRE, WALL, i, j, k] = weights * beside
            _bias(stencil)[CENTRE] = weights[CENTRE]
            _bias(outer).fill_(log(expm1(1 / 8)))  # what softplus makes 1 / 8 of
            _bias(inner).fill_(log(expm1(1 / 8)))

    def prepare(self, image: Tensor) -> SymmetricKernels:
        """Return the stencils and fields that belong to an image."""
        stencils, outer, inner = [], [], []
        for level, conv in enumerate(self.stencils):
            stencil, *fields = kernel_fields((conv, self.outer[level], self.inner[level]), image)
            stencils.append(stencil)
            for part, field in zip((outer, inner), fields, strict=True):
                part.append(functional.softplus(field))
            inside, faces = without_ring(image)
            if level < self.config.levels:
                image = with_ring(functional.avg_pool3d(inside, 2), faces)
        below = torch.zeros((), device=image.device)
        for level in reversed(range(len(stencils))):
            with torch.no_grad():
                size = stencils[level].abs()
                columns = smooth_transposed(size, torch.ones_like(outer[level]))
                through = inner[level].max() + _COARSER * below
                below = outer[level].max() + size.sum(1).max() * columns.max() * through
            outer[level] = outer[level] + _RATIO * below.clamp_min(1.0)
        return SymmetricKernels(stencils, outer, inner)

    def propose(self, r: Tensor, prepared: Any) -> Tensor:
        """Return directions (B, 1, X, Y, Z)."""
        kernels: SymmetricKernels = prepared
        return self._level(0, r, kernels)

    def _level(self, level: int, x: Tensor, kernels: SymmetricKernels) -> Tensor:
        stencil = kernels.stencils[level]
        y = smooth(stencil, x)
        z = kernels.inner[level] * y
        if level < self.config.levels:
            below = self._level(level + 1, functional.avg_pool3d(y, 2), kernels)
            z = z + _COARSER * functional.interpolate(below, scale_factor=2.0, mode="nearest")
        return kernels.outer[level] * x + smooth_transposed(stencil, z)


def _zeroed(module: nn.Module) -> nn.Conv3d:
    """Return a convolution with all its numbers set to zero."""
    assert isinstance(module, nn.Conv3d)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(_bias(module))
    return module


def _bias(conv: nn.Conv3d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
