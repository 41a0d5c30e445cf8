"""Quadrature on simplices of any dimension up to three, of any degree."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_jacobi

Floats = NDArray[np.float64]


@functools.cache
def simplex_rule(dim: int, degree: int) -> tuple[Floats, Floats]:
    """Return barycentric points (q, dim + 1) and weights (q,) with sum 1, exact for polynomials of `degree`.

    Collapsed Gauss-Jacobi products (Stroud 1971, "conical product" rules).

    >>> points, weights = simplex_rule(2, 4)
    >>> round(float(weights @ points[:, 0] ** 4), 12) == round(1 / 15, 12)
    True
    """
    n = degree // 2 + 1
    rules = [_unit(n, dim - 1 - axis) for axis in range(dim)]  # weight (1 - t)^(dim - 1 - axis)
    grids = np.meshgrid(*[t for t, _ in rules], indexing="ij")
    weights: Any = np.ones(1)
    for _, w in rules:
        weights = np.multiply.outer(weights, w)
    rest = np.ones_like(grids[0])
    coordinates = []
    for t in grids:  # x_1 = t_1, x_2 = t_2 (1 - t_1), ...
        coordinates.append(t * rest)
        rest = rest * (1 - t)
    points = np.stack([rest, *coordinates], axis=-1).reshape(-1, dim + 1)
    weights = weights.ravel()
    return points, weights / weights.sum()


def _unit(n: int, power: int) -> tuple[Floats, Floats]:
    """Gauss-Jacobi rule on [0, 1] with weight (1 - t)^power."""
    t, w = roots_jacobi(n, power, 0)
    return (t + 1) / 2, w
