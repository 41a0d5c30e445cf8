"""Boxes with random obstacles, for training and for tests of what was never seen."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from ....meshes.grid import Grid


def random_obstacles(n: int, count: int, generator: torch.Generator, *, attempts: int = 100) -> Grid:
    """Return a closed box of n^3 cells with solid balls and boxes of random sizes and places.

    Half-widths are 0.06 to 0.18 of the box; obstacles may touch walls and each other. The fluid is one
    connected part: draws that cut it are made anew.

    Args:
        n: cells per axis.
        count: obstacles.
        generator: on the CPU.
        attempts: draws until the fluid is connected.

    Raises:
        ValueError: no attempt gave one connected part.

    >>> grid = random_obstacles(16, 3, torch.Generator().manual_seed(0))
    >>> bool(0.5 < grid.mask.mean() < 1)
    True
    """
    axis = (np.arange(n) + 0.5) / n
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    for _ in range(attempts):
        mask = np.ones((n,) * 3, dtype=bool)
        for _ in range(count):
            draws = torch.rand(7, generator=generator, dtype=torch.float64).numpy()
            offset = np.abs(points - (0.1 + 0.8 * draws[:3]))
            sizes = 0.06 + 0.12 * draws[3:6]
            ball = draws[6] < 0.5
            solid = (offset**2).sum(-1) <= sizes[0] ** 2 if ball else (offset <= sizes).all(-1)
            mask &= ~solid
        if ndimage.label(mask)[1] == 1:
            return Grid((n,) * 3, centring="cell", boundary="neumann", mask=mask)  # type: ignore[arg-type]
    raise ValueError(
        f"{attempts} draws of {count} obstacles left no connected fluid on {n}^3 cells: ask for fewer"
    )
