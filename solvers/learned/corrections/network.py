"""The network of a learned correction: a neural operator between scaled residuals and scaled errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ....operators.neural.mgno import MgNO, MgNOConfig
from ..part import LearnedPart

_GAIN = 20.0  # smooth errors outweigh rough ones of equal residual by far; training starts at zero


@final
@dataclass(frozen=True)
class CorrectionConfig:
    """Settings of `CorrectionNetwork`.

    Args:
        dim: axes of the grid, 1 to 3.
        channels: of the hidden fields.
        layers: V-cycles, one after another.
        smoothing: a word per grid, see `MgNOConfig`; grids need at least 2^words points on every axis.
        linear: a map that is linear in the residual and does not look at the coefficient except by scaling.

    Raises:
        WrongSettings: as `MgNOConfig`.
    """

    dim: int = 2
    channels: int = 12
    layers: int = 2
    smoothing: tuple[str, ...] = ("11", "10", "10", "10", "20")
    linear: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "smoothing", tuple(self.smoothing))
        self.operator()

    def operator(self) -> MgNOConfig:
        """Return the settings of the neural operator inside."""
        return MgNOConfig(
            1 if self.linear else self.dim + 3,
            1,
            channels=self.channels,
            layers=self.layers,
            dim=self.dim,
            smoothing=self.smoothing,
            activation="none" if self.linear else "gelu",
            branch="linear" if self.linear else "affine",
        )


@final
class CorrectionNetwork(LearnedPart):
    """Map residuals to corrections.

        z = |w| D^-1/2 (u + 20 N(u, features)),  u = w / |w|,  w = D^-1/2 r,  |w| its root mean square

    N is an `MgNO`, D the diagonal of A. Features, per unknown: a one inside of the mask, the logarithm of D
    around its mean, and per axis the coupling relative to D. So a factor on A or on r changes nothing but the
    size of z, A may have any coefficient, and the grid any size from 2^len(smoothing) points per axis on.
    Unknowns without neighbours (outside of a mask) get r / D, which is exact. N starts at zero: untrained,
    this is Jacobi's preconditioner.

    >>> CorrectionNetwork(CorrectionConfig(channels=4, layers=1, smoothing=("10", "20"))).parameter_count
    1441
    """

    Config: ClassVar[type] = CorrectionConfig
    config: CorrectionConfig

    def __init__(self, config: CorrectionConfig | None = None) -> None:
        super().__init__(config or CorrectionConfig())
        self.operator = MgNO(self.config.operator())
        assert isinstance(self.operator.head, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        nn.init.zeros_(self.operator.head.weight)

    def forward(
        self,
        r: Tensor,  # (B, 1, *shape)
        stencil: Tensor,  # (B or 1, 1 + dim, *shape)
    ) -> Tensor:
        """Return corrections (B, 1, *shape) for residuals and the stencils of their operators."""
        return self.correct(r, stencil, self.features(stencil))

    def features(self, stencil: Tensor) -> Tensor:
        """Return what the network sees of an operator, (B or 1, dim + 2, *shape): once per system."""
        diagonal, root, inside = _parts(stencil)
        space = tuple(range(2, stencil.ndim))
        count = inside.sum(space, keepdim=True).clamp_min(1)
        logarithm = diagonal.log()
        mean = (logarithm * inside).sum(space, keepdim=True) / count
        relative = [
            2 * self.config.dim * stencil[:, axis - 1 : axis] * root * torch.roll(root, -1, axis) - 1
            for axis in space
        ]
        return torch.cat([torch.ones_like(inside), (logarithm - mean) / 2, *relative], 1) * inside

    def correct(self, r: Tensor, stencil: Tensor, features: Tensor) -> Tensor:
        """Return `forward` with features that are known."""
        diagonal, root, inside = _parts(stencil)
        w = r * root * inside
        space = tuple(range(2, r.ndim))
        size = w.square().mean(space, keepdim=True).sqrt()
        unit = w / torch.where(size > 0, size, 1.0)
        fields = unit
        if not self.config.linear:
            fields = torch.cat([unit, features.expand(len(r), *features.shape[1:])], 1)
        z = unit + _GAIN * self.operator(fields)
        return torch.where(inside > 0, size * root * z, r / diagonal)


def _parts(stencil: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the diagonal, its reciprocal root, and which unknowns have neighbours, (B, 1, *shape) each."""
    diagonal = stencil[:, :1]
    size = torch.zeros_like(diagonal)
    for axis in range(2, stencil.ndim):
        t = stencil[:, axis - 1 : axis]
        size = size + t + torch.roll(t, 1, axis)  # the last one along an axis is zero
    return diagonal, diagonal.rsqrt(), (size > 0).to(diagonal)
