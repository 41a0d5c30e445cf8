"""The network that sets the transfers and smoothers of a multigrid cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import final

import torch
from torch import Tensor, nn

from ....operators.linear.errors import ShapeMismatch
from ...multigrid.layout import Offset
from ..part import LearnedPart
from .features import channels, from_blocks, level_features, of_class, to_blocks

Axes = tuple[int, ...]
Weights = Sequence[tuple[Offset, Tensor]]  # what an unknown takes from its neighbours at the offsets


@final
@dataclass(frozen=True)
class VCycleConfig:
    """Settings of `VCycleNetwork`.

    Args:
        dim: axes of the grid, 1 to 3.
        width: channels inside.
        start: first level (0: the finest) that the network sets; finer ones stay classical. On the finest
            level black-box transfers are good already, and set-up there costs the most.
        transfer: bound of the change of a logarithm of a transfer weight.
        blend: bound of what is added to a transfer weight, relative to the sum of the row.
        smoother: the weight of a smoother grows or falls by at most this factor. Two Chebyshev-weighted
            sweeps converge up to 1.25 times the classical weight, so 1 <= smoother < 1.25.
    """

    dim: int = 2
    width: int = 32
    start: int = 1
    transfer: float = 3.0
    blend: float = 0.5
    smoother: float = 1.2

    def __post_init__(self) -> None:
        if self.dim not in (1, 2, 3) or self.width < 1 or self.start < 0:
            raise ValueError(
                f"a learned cycle needs dim 1 to 3, width >= 1 and start >= 0, got {self.dim}, {self.width} "
                f"and {self.start}"
            )
        if not 1 <= self.smoother < 1.25 or self.transfer < 0 or self.blend < 0:
            raise ValueError(
                "smoothers converge for 1 <= smoother < 1.25, and bounds are not negative, got smoother "
                f"{self.smoother}, transfer {self.transfer}, blend {self.blend}"
            )


@final
@dataclass(frozen=True)
class Corrections:
    """What the network says about a level; zeros mean the classical cycle.

    Attributes:
        delta, eta: per class of unknowns {offset: (B, *extent)}, see `amend`.
        scale: factor of the smoother's weights, (B, *shape).
    """

    delta: dict[Axes, dict[Offset, Tensor]]
    eta: dict[Axes, dict[Offset, Tensor]]
    scale: Tensor

    def finite(self) -> bool:
        """Whether every number is finite."""
        groups = [*self.delta.values(), *self.eta.values()]
        tensors = [t for group in groups for t in group.values()]
        return all(bool(torch.isfinite(t).all()) for t in (*tensors, self.scale))


def classes(dim: int) -> list[Axes]:
    """Return the classes of unknowns that are not coarse: the axes along which they lie between coarse ones.

    >>> classes(2)
    [(0,), (1,), (0, 1)]
    """
    return [axes for k in range(1, dim + 1) for axes in combinations(range(dim), k)]


def neighbours(dim: int, axes: Axes) -> list[Offset]:
    """Return the offsets from which a class of unknowns is interpolated."""
    spans = [(-1, 0, 1) if axis in axes else (0,) for axis in range(dim)]
    return [o for o in product(*spans) if any(o)]


def amend(
    weights: Weights, delta: dict[Offset, Tensor], eta: dict[Offset, Tensor]
) -> list[tuple[Offset, Tensor]]:
    """Return w exp(delta), brought back to the sum of the row, plus eta of zero mean times that sum.

    Rows that reproduce constants still do. Weights that are zero (walls) stay zero.
    """
    zero = torch.zeros_like(weights[0][1])
    total = sum((w for _, w in weights), start=zero)
    grown = [w * delta[o].to(w).exp() for o, w in weights]
    after = sum(grown, start=zero)
    usable = after.abs() > 1e-3 * sum((g.abs() for g in grown), start=zero)
    ratio = torch.where(usable, total / torch.where(usable, after, 1.0), 1.0).clamp(0.02, 50.0)
    there = [(w != 0).to(w) for _, w in weights]
    moved = [eta[o].to(w) * t for (o, w), t in zip(weights, there, strict=True)]
    mean = sum(moved, start=zero) / sum(there, start=zero).clamp(min=1.0)
    return [
        (o, g * ratio + total * (m - mean * t))
        for (o, _), g, m, t in zip(weights, grown, moved, there, strict=True)
    ]


@final
class VCycleNetwork(LearnedPart):
    """A small convolutional network, the same for all levels and sizes, evaluated once per system.

    It works on blocks of 2^dim unknowns, one coarse each. Its head starts at zero: an untrained network
    leaves the classical cycle as it is, to the last bit.

    >>> VCycleNetwork(VCycleConfig(width=8)).parameter_count
    2036
    """

    Config = VCycleConfig
    config: VCycleConfig

    def __init__(self, config: VCycleConfig | None = None) -> None:
        super().__init__(config or VCycleConfig())
        dim, width = self.config.dim, self.config.width
        self._slots = [(axes, o) for axes in classes(dim) for o in neighbours(dim, axes)]
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dim - 1]
        self.lift = conv(channels(dim), width, 1)
        self.mix = conv(width, width, 3, padding=1)
        self.spread = conv(width, width, 3, padding=1)
        self.head = conv(width, 2 * len(self._slots) + 2**dim, 1)
        nn.init.zeros_(self.head.weight)
        if self.head.bias is not None:
            nn.init.zeros_(self.head.bias)

    def forward(self, blocks: Tensor) -> Tensor:
        """Map blocks of features (B, C, *blocks) to raw outputs (B, D, *blocks)."""
        h = nn.functional.relu(self.lift(blocks))
        h = h + nn.functional.relu(self.mix(h))
        h = h + nn.functional.relu(self.spread(h))
        out: Tensor = self.head(h)
        return out

    def corrections(
        self,
        centre: Tensor,  # (B, *shape)
        sides: dict[Offset, Tensor],  # {offset: (B, *shape)}
        first: Offset,  # index of the first coarse unknown per axis
    ) -> Corrections:
        """Return what to change on a level with this stencil."""
        shape, count, config = tuple(centre.shape[1:]), len(self._slots), self.config
        features = level_features(centre, sides)
        blocks = to_blocks(features, first).to(self.head.weight)
        raw = self(blocks)
        wanted = (len(blocks), 2 * count + 2 ** len(shape), *blocks.shape[2:])
        if raw.shape != wanted:
            raise ShapeMismatch(f"the network gave {tuple(raw.shape)}, a level of {shape} needs {wanted}")
        bounds = (config.transfer, config.blend)
        groups: tuple[dict[Axes, dict[Offset, Tensor]], ...] = ({}, {})
        for part, (group, bound) in enumerate(zip(groups, bounds, strict=True)):
            values = bound * (raw[:, part * count : (part + 1) * count] / max(bound, 1e-3)).tanh()
            for k, (axes, offset) in enumerate(self._slots):
                group.setdefault(axes, {})[offset] = of_class(values[:, k], axes, first, shape)
        logarithm = torch.tensor(config.smoother).log().item()
        scale = (logarithm * raw[:, 2 * count :].tanh()).exp()
        return Corrections(groups[0], groups[1], from_blocks(scale, first, shape))
