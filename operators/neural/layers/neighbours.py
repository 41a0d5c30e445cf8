"""Neighbourhoods of points, with quadrature weights, for operators that integrate over balls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, final

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..base import WrongResolution, WrongSettings

GridKind = Literal["closed", "periodic"]
PAIRS_AT_ONCE = 4_000_000  # found before the random choice: 100 MB


def grid_quadrature(space: Sequence[int], kind: GridKind) -> tuple[Tensor, Tensor]:
    """Return points (N, d) and weights (N,) of a grid on the unit box, last axis fastest, in float64.

    "closed": both ends of an axis are points, trapezoidal rule; "periodic": the far end is the near one,
    equal weights. They sum to 1.

    >>> grid_quadrature((3,), "closed")[1]
    tensor([0.2500, 0.5000, 0.2500], dtype=torch.float64)
    """
    axes, weights = [], torch.ones((), dtype=torch.float64)
    for n in space:
        ends = n - 1 if kind == "closed" else n
        axes.append(torch.arange(n, dtype=torch.float64) / max(ends, 1))
        line = torch.ones(n, dtype=torch.float64)
        if kind == "closed" and n > 1:
            line[0] = line[-1] = 0.5
        weights = weights[..., None] * (line / line.sum())
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return points.reshape(-1, len(space)), weights.flatten()


def check_quadrature(points: Tensor, weights: Tensor | None) -> Tensor:
    """Return weights (N,) that sum to 1; equal ones where none are given.

    Raises:
        WrongResolution: for points that are not (N, d), or other numbers of weights.
        WrongSettings: for weights that are not positive and finite.
    """
    if points.ndim != 2 or not 1 <= points.shape[1] <= 3 or len(points) == 0:
        raise WrongResolution(f"points are (N, d) with d 1 to 3 and N above 0, got {tuple(points.shape)}")
    if weights is None:
        return points.new_full((len(points),), 1 / len(points))
    if weights.shape != (len(points),):
        raise WrongResolution(
            f"{len(points)} points need weights ({len(points)},), got {tuple(weights.shape)}"
        )
    if not bool((torch.isfinite(weights) & (weights > 0)).all()):
        raise WrongSettings(
            "quadrature weights are positive and finite: give the area that each point stands for"
        )
    return weights / weights.sum()


@final
@dataclass(frozen=True, eq=False)
class Neighbours:
    """For every target the sources near it, and the share of each in the mean over its ball.

    Attributes:
        index: (M, J) int64, numbers of sources; rows with fewer than J are filled up with a number of share
            0.
        share: (M, J), w_j / (sum of the row's w).
    """

    index: Tensor
    share: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the neighbourhoods on a device, shares in a dtype."""
        return type(self)(self.index.to(device), self.share.to(device, dtype))


def radius_neighbours(
    points: Tensor,  # (N, d)
    weights: Tensor,  # (N,)
    radius: float,
    *,
    most: int = 0,
    generator: torch.Generator | None = None,
    targets: Tensor | None = None,  # (M, d)
) -> Neighbours:
    """Return the points within a radius of every target, a point itself included.

    A ball that holds more than `most` points is sampled: `most` of them, each equally likely, none twice
    (Nystroem). A ball that holds none gets the nearest point.

    Args:
        weights: quadrature weights; a point of small weight counts less, so that means do not depend on
            density.
        most: largest number of neighbours; 0: all.
        generator: of the choice, on the CPU; none: seed 0.
        targets: centres of the balls; none: the points.

    >>> line = torch.linspace(0, 1, 5)[:, None]
    >>> radius_neighbours(line, torch.full((5,), 0.2), 0.3).index[2].sort().values
    tensor([1, 2, 3])
    """
    if radius <= 0 or most < 0:
        raise WrongSettings(f"radius is above 0 and most 0 (all) or more, got {radius} and {most}")
    centres = (points if targets is None else targets).detach().cpu().double().numpy()
    tree = cKDTree(points.detach().cpu().double().numpy())
    n, generator = len(points), generator or torch.Generator().manual_seed(0)
    found = int(max(tree.query_ball_point(centres, radius, return_length=True).max(), 1))
    width = min(found, most) if most else found
    rows = max(1, PAIRS_AT_ONCE // found)
    parts = []
    for start in range(0, len(centres), rows):
        some = centres[start : start + rows]
        _, places = tree.query(some, k=range(1, found + 1), distance_upper_bound=radius)
        index = torch.as_tensor(places)  # n: none left
        if width < found:
            keys = torch.rand(index.shape, generator=generator).masked_fill(index == n, 2.0)
            index = index.gather(1, keys.topk(width, largest=False).indices)
        parts.append(index)
    index = torch.cat(parts)
    missing = index == n
    empty = missing.all(1)
    if bool(empty.any()):
        _, nearest = tree.query(centres[empty.numpy()])
        index[empty, 0] = torch.as_tensor(nearest)
        missing = index == n
    index = index.masked_fill(missing, 0).to(points.device)
    share = weights[index].masked_fill(missing.to(points.device), 0.0)
    return Neighbours(index, share / share.sum(1, keepdim=True))
