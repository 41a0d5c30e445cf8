"""A tight cover of thin regions by small boxes."""

from __future__ import annotations

from itertools import product
from typing import final

import numpy as np

from .base import Floats, Geometry

_MOST = 2**15  # cells


@final
class Cells:
    """Cover a geometry by equal boxes, halved until there are some 10^4 that may hold a piece of it.

    A box is left out when the distance of its middle from the geometry exceeds half its diagonal.

    >>> from solvus.meshes.geometry import Disc
    >>> ring = Disc((0, 0), 1) - Disc((0, 0), 0.9999)
    >>> Cells(ring).volume < 10 * ring.volume()
    True
    """

    def __init__(self, geometry: Geometry) -> None:
        self.corners = np.array([geometry.lower])  # (C, dim)
        self.sides = np.subtract(geometry.upper, geometry.lower)
        halves = np.array(list(product((0.0, 1.0), repeat=geometry.dim)))
        while 0 < len(self.corners) * len(halves) <= _MOST * 2 and (self.sides > geometry.tolerance).all():
            self.sides = self.sides / 2
            corners = (self.corners[:, None] + halves * self.sides).reshape(-1, geometry.dim)
            reach = np.sqrt((self.sides**2).sum()) / 2
            self.corners = corners[geometry._distance(corners + self.sides / 2) <= reach]

    @property
    def volume(self) -> float:
        """Volume of all cells."""
        return len(self.corners) * float(self.sides.prod())

    def fill(self, numbers: Floats) -> Floats:
        """Map uniform numbers (n, dim + 1) to uniform points of the cells, (n, dim)."""
        which = np.minimum((numbers[:, 0] * len(self.corners)).astype(np.int64), len(self.corners) - 1)
        return self.corners[which] + self.sides * numbers[:, 1:]
