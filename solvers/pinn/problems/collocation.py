"""Chebyshev collocation for Poisson's equation on a cube of any dimension, solved by fast diagonalisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_jacobi

Floats = NDArray[np.float64]

_CHUNK = 1 << 24  # numbers held at once while evaluating
_MOST = 100_000_000  # coordinates of all grid points: 0.8 GB, held twice or three times over


def chebyshev(n: int) -> tuple[Floats, Floats, Floats]:
    """Return the n Chebyshev-Lobatto nodes of [0, 1], barycentric weights and derivative matrix (n, n).

    Source: Trefethen, Spectral Methods in MATLAB (2000), chapter 6; Berrut and Trefethen (2004), (5.4).
    """
    x = 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / (n - 1))
    w = np.where(np.arange(n) % 2, -1.0, 1.0)
    w[[0, -1]] /= 2
    D = derivative(x, w)
    return x, w, D


def derivative(x: Floats, w: Floats) -> Floats:
    """Return the matrix (n, n) that differentiates the interpolant in nodes x with barycentric weights w."""
    gap = x[:, None] - x
    np.fill_diagonal(gap, 1.0)
    D = w / w[:, None] / gap
    np.fill_diagonal(D, 0.0)
    np.fill_diagonal(D, -D.sum(axis=1))
    return D


def radau(stages: int) -> tuple[Floats, Floats]:
    """Return 0 and Radau's nodes of [0, 1], ascending, and the derivative matrix of polynomials through them.

    Collocation in all nodes but the first is an implicit Runge-Kutta step of order 2 stages - 1.
    Source: Hairer and Wanner, Solving Ordinary Differential Equations II (1996), section IV.5.
    """
    inner = (roots_jacobi(stages - 1, 1.0, 0.0)[0] + 1) / 2
    times = np.concatenate([[0.0], inner, [1.0]])
    return times, derivative(times, barycentric(times))


def barycentric(x: Floats) -> Floats:
    """Return the barycentric weights of the nodes x in [0, 1], up to a common factor."""
    gap = 4 * (x[:, None] - x)  # 4: the capacity of an interval of length one, against underflow
    np.fill_diagonal(gap, 1.0)
    return 1 / gap.prod(axis=1)


def interpolation(x: Floats, w: Floats, at: Floats) -> Floats:
    """Return the matrix (M, n) from values in the nodes x to values at the points `at` (M,)."""
    gap = at[:, None] - x
    hit = gap == 0
    gap[hit] = 1.0
    rows = w / gap
    rows /= rows.sum(axis=1, keepdims=True)
    met = hit.any(axis=1)
    rows[met] = hit[met]
    return rows


def solve_cube(
    source: Callable[[Floats], Floats], boundary: Callable[[Floats], Floats], d: int, n: int
) -> Floats:
    """Solve laplace u = source in the unit cube with u = boundary on it; values on the grid, (n, ..., n).

    The second derivative of the inner nodes is diagonalised along every axis, so that a solve costs
    2 d n^(d+1) operations and nothing but the grid is stored.

    Args:
        source, boundary: functions of points (M, d).
        d: dimension.
        n: nodes along an axis, at least 3.

    Raises:
        ValueError: the n^d points have more than 100 million coordinates.

    Source: Lynch, Rice and Thomas (1964), on tensor products.
    """
    if d * n**d > _MOST:
        fits = math.floor((_MOST / d) ** (1 / d))
        raise ValueError(
            f"n={n} nodes along each of {d} axes are {float(n) ** d:.3g} points with {d * float(n) ** d:.3g} "
            f"coordinates, there may be {_MOST:.3g}: "
            + (f"lower n, to {fits} or less" if fits >= 3 else "there are too many dimensions for a grid")
        )
    x, _, D = chebyshev(n)
    D2 = D @ D
    grid = np.stack(np.meshgrid(*[x] * d, indexing="ij"), axis=-1)
    u = boundary(grid.reshape(-1, d)).reshape(grid.shape[:-1])
    inner = (slice(1, -1),) * d
    u[inner] = 0
    lifted = sum(_along(D2, u, axis) for axis in range(d))
    right = source(grid[inner].reshape(-1, d)).reshape((n - 2,) * d) - np.asarray(lifted)[inner]
    found = np.linalg.eig(D2[1:-1, 1:-1])
    values, V = (
        np.real(found[0]),
        np.real(found[1]),
    )  # they are real and negative: Gottlieb and Lustman (1983)
    inverse = np.linalg.inv(V)
    for axis in range(d):
        right = _along(inverse, right, axis)
    total = sum(values.reshape((-1,) + (1,) * (d - 1 - axis)) for axis in range(d))
    right = right / total
    for axis in range(d):
        right = _along(V, right, axis)
    u[inner] = right
    return u


def evaluate(u: Floats, points: Floats) -> Floats:
    """Interpolate grid values (n, ..., n) at points (M, d) of the unit cube; (M,)."""
    d, n = u.ndim, len(u)
    x, w, _ = chebyshev(n)
    out = np.empty(len(points))
    step = max(1, _CHUNK // n ** (d - 1))
    for start in range(0, len(points), step):
        part = points[start : start + step]
        values = interpolation(x, w, part[:, 0]) @ u.reshape(n, -1)
        for axis in range(1, d):
            rows = interpolation(x, w, part[:, axis])
            values = np.einsum("mi,mij->mj", rows, values.reshape(len(part), n, -1))
        out[start : start + step] = values[:, 0]
    return out


def _along(A: Floats, u: Floats, axis: int) -> Floats:
    return np.moveaxis(np.tensordot(A, u, axes=(1, axis)), 0, axis)
