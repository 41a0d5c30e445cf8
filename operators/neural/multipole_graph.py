"""Multipole graph operator: kernels over balls that grow from level to level, applied as a V-cycle."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from .base import WrongSettings
from .graph_operator import BallSettings
from .layers.multilayer import activation_named
from .layers.neighbours import Neighbours, radius_neighbours
from .on_points import OnPoints


@dataclass(frozen=True)
class MultipoleConfig(BallSettings):
    """Settings of a multipole graph operator.

    Attributes:
        nodes: points of every coarser level, fewer from level to level; the finest level holds all points.
        radii: of the balls of every level, finest first; between two levels the coarser one's.
    """

    nodes: tuple[int, ...] = (100, 25)
    radii: tuple[float, ...] = (0.125, 0.25, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "radii", tuple(self.radii))
        falling = all(a > b for a, b in zip(self.nodes, self.nodes[1:], strict=False))
        if not self.nodes or min(self.nodes) < 1 or not falling:
            raise WrongSettings(f"nodes holds falling numbers of 1 or more, got {self.nodes}")
        if len(self.radii) != len(self.nodes) + 1 or min(self.radii) <= 0:
            raise WrongSettings(
                f"radii holds {len(self.nodes) + 1} numbers above 0, one more than nodes; got {self.radii}"
            )


@final
@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Levels of points: each coarser one is a part of the one before.

    Attributes:
        chosen: numbers of every level's points among all points.
        within: neighbourhoods inside each level.
        down: from a level to the points of the next coarser one. up: back.
    """

    chosen: tuple[Tensor, ...]
    within: tuple[Neighbours, ...]
    down: tuple[Neighbours, ...]
    up: tuple[Neighbours, ...]


@final
class VCycle(nn.Module):
    """Go down the levels and up again:

    down:  v_{l+1} <- act(v_{l+1} + K_{l+1,l} v_l);
    coarsest:  v_L <- act(W_L v_L + b_L + K_{L,L} v_L);
    up:  v_l <- act(W_l v_l + b_l + K_{l,l} v_l + K_{l,l+1} v_{l+1}).

    Source: Li et al. (2020), Multipole graph neural operator for parametric partial differential equations.
    """

    def __init__(self, config: MultipoleConfig) -> None:
        super().__init__()
        c, levels = config, len(config.radii)

        def kernels(count: int) -> nn.ModuleList:
            return nn.ModuleList(config.make_kernel() for _ in range(count))

        self.act = activation_named(c.activation)
        self.linear = nn.ModuleList(nn.Linear(c.width, c.width) for _ in range(levels))
        self.within, self.down, self.up = kernels(levels), kernels(levels - 1), kernels(levels - 1)

    def forward(self, v: list[Tensor], features: list[Tensor], hierarchy: Hierarchy) -> list[Tensor]:
        """Return the values (B, n_l, width) of every level, finest first."""
        v, last = list(v), len(v) - 1
        for level in range(last):
            sent = self.down[level](v[level], features[level], hierarchy.down[level], features[level + 1])
            v[level + 1] = self.act(v[level + 1] + sent)
        for level in range(last, -1, -1):
            new = self.linear[level](v[level])
            new = new + self.within[level](v[level], features[level], hierarchy.within[level])
            if level < last:
                new = new + self.up[level](
                    v[level + 1], features[level + 1], hierarchy.up[level], features[level]
                )
            v[level] = self.act(new)
        return v


@final
class MultipoleGraph(OnPoints[Hierarchy]):
    """Map fields to fields by V-cycles of kernels over balls on several levels of points.

    Short ranges are integrated with all points, long ones with a few: O(N) operations a layer for balls that
    hold about the same number of points on each level. Coarser levels are random parts of the finer ones; a
    node carries the quadrature weights of the finer points that are nearest to it.

    Source: Li et al. (2020), Multipole graph neural operator (not MgNO, the multigrid operator). Good values:
    three levels with about a quarter of the points each, radii that double.

    >>> model = MultipoleGraph(MultipoleConfig(1, 1, width=8, layers=2, kernel=(16,), nodes=(16, 4)))
    >>> model(torch.zeros(2, 1, 9, 7)).shape
    torch.Size([2, 1, 9, 7])
    """

    Config: ClassVar[type] = MultipoleConfig
    config: MultipoleConfig

    def make_layer(self) -> nn.Module:
        return VCycle(self.config)

    def make_geometry(self, points: Tensor, weights: Tensor) -> Hierarchy:
        c = self.config
        if len(points) < c.nodes[0]:
            raise WrongSettings(
                f"the first coarser level has {c.nodes[0]} nodes, and there are {len(points)} points"
            )
        generator = torch.Generator().manual_seed(c.seed)
        order = torch.randperm(len(points), generator=generator).to(points.device)
        chosen = (torch.arange(len(points), device=points.device), *(order[:n] for n in c.nodes))
        places = [points[some] for some in chosen]
        shares = [weights]
        for fine, coarse in pairwise(places):
            _, nearest = cKDTree(coarse.detach().cpu().double().numpy()).query(
                fine.detach().cpu().double().numpy()
            )
            gathered = torch.zeros(len(coarse), dtype=weights.dtype, device=weights.device)
            shares.append(gathered.index_add(0, torch.as_tensor(nearest).to(weights.device), shares[-1]))

        def near(source: int, target: int) -> Neighbours:
            return radius_neighbours(
                places[source],
                shares[source],
                c.radii[max(source, target)],
                most=c.neighbours,
                generator=generator,
                targets=places[target],
            )

        levels = len(places)
        return Hierarchy(
            chosen,
            tuple(near(level, level) for level in range(levels)),
            tuple(near(level, level + 1) for level in range(levels - 1)),
            tuple(near(level + 1, level) for level in range(levels - 1)),
        )

    def move_geometry(self, geometry: Hierarchy, device: torch.device, dtype: torch.dtype) -> Hierarchy:
        return Hierarchy(
            tuple(some.to(device) for some in geometry.chosen),
            *(
                tuple(n.to(device, dtype) for n in part)
                for part in (geometry.within, geometry.down, geometry.up)
            ),
        )

    def integrate(self, v: Tensor, features: Tensor, geometry: Hierarchy) -> Tensor:
        values = [v[:, some] for some in geometry.chosen]
        known = [features[:, some] for some in geometry.chosen]
        for layer in self.layers:
            values = layer(values, known, geometry)
        return values[0]
