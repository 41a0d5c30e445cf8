"""Spectral Galerkin method for the heat equation with a Neumann condition in a ball of any dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.special import gammaln, roots_jacobi

from .collocation import barycentric, interpolation, radau

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
OfSpaceTime = Callable[[Floats, float], Floats]  # of points (M, d) and a time; (M,)

_CHUNK = 1 << 23  # numbers held at once
_MOST_POINTS = 20_000_000  # of cubature
_MOST_FUNCTIONS = 4000


@final
@dataclass(frozen=True, eq=False)
class BallHeat:
    """Solve u_t = laplace u / d + source in the unit ball, t in [0, 1], with u.n = flux on the sphere.

    Space: Galerkin with all polynomials of total degree p, mass and stiffness by exact moments, loads by a
    product rule in spherical coordinates; no symmetry of the data is used. Time: one step of Radau's
    collocation with `stages` stages (order 2 stages - 1), in the eigenvectors of the pencil.

    Args:
        d: dimension, at least 2.
        degree: p.
        stages: of the time collocation.

    Raises:
        ValueError: more than 4000 functions, or 20 million points of the product rule.
    """

    d: int
    degree: int
    stages: int = 8

    def __post_init__(self) -> None:
        n = self.degree + 1
        functions, cubature = comb(self.d + self.degree, self.d), 2 * (n + 1) * n ** (self.d - 1)
        if functions > _MOST_FUNCTIONS or cubature > _MOST_POINTS:
            raise ValueError(
                f"degree {self.degree} in {self.d} dimensions has {functions} functions and {cubature} "
                f"cubature points, there may be {_MOST_FUNCTIONS} and {_MOST_POINTS}: lower n"
            )

    def solve(self, source: OfSpaceTime, flux: OfSpaceTime, start: Callable[[Floats], Floats]) -> Polynomials:
        """Return the solution."""
        powers = _powers(self.d, self.degree)
        scale = 1 / np.sqrt(_moment(2 * powers))
        mass = _moment(powers[:, None] + powers) * scale * scale[:, None]
        stiff = self._stiffness(powers) * scale * scale[:, None]
        L = cholesky(mass, lower=True)
        half = solve_triangular(L, stiff, lower=True)
        values, Q = eigh(solve_triangular(L, half.T, lower=True))
        modes = solve_triangular(L, Q, lower=True, trans="T") * scale[:, None]  # orthonormal in L2
        times, D = radau(self.stages)
        load, first = np.zeros((len(powers), self.stages)), np.zeros(len(powers))
        nodes, weights = roots_jacobi(self.degree + 2, 0.0, self.d - 1.0)
        for x, w in self._sphere():
            V = (_monomials(x, powers) * w[:, None]).T
            load += V @ np.stack([flux(x, t) for t in times[1:]], axis=1) / self.d
            for r, v in zip((nodes + 1) / 2, weights / 2**self.d, strict=True):
                growth = v * r ** powers.sum(axis=1)
                load += growth[:, None] * (V @ np.stack([source(r * x, t) for t in times[1:]], axis=1))
                first += growth * (V @ start(r * x))
        g, y0 = modes.T @ load, modes.T @ first
        systems = D[1:, 1:] + (values / self.d)[:, None, None] * np.eye(self.stages)
        y = np.linalg.solve(systems, (g - y0[:, None] * D[1:, 0])[..., None])[..., 0]
        return Polynomials(powers, modes @ np.concatenate([y0[:, None], y], axis=1), times)

    def _stiffness(self, powers: Ints) -> Floats:
        total = np.zeros((len(powers), len(powers)))
        for i in range(self.d):
            some = np.flatnonzero(powers[:, i])
            lower = powers[some]
            lower[:, i] -= 1
            factor = np.outer(powers[some, i], powers[some, i])
            total[np.ix_(some, some)] += factor * _moment(lower[:, None] + lower)
        return total

    def _sphere(self) -> Iterator[tuple[Floats, Floats]]:
        """Yield points (m, d) and weights of a rule on the unit sphere, exact to degree 2 p + 1."""
        n = self.degree + 1
        angle = np.pi * np.arange(2 * n) / n
        points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        weights = np.full(2 * n, np.pi / n)
        for d in range(
            3, self.d + 1
        ):  # the sphere of one dimension more: latitude c with (1 - c^2)^((d-3)/2)
            c, w = roots_jacobi(n, (d - 3) / 2, (d - 3) / 2)
            ring = np.sqrt(1 - c * c)[:, None, None] * points
            level = np.broadcast_to(c[:, None, None], (*ring.shape[:2], 1))
            points = np.concatenate([ring, level], axis=2).reshape(-1, d)
            weights = np.outer(w, weights).ravel()
        step = max(1, _CHUNK // len(_powers(self.d, self.degree)))
        for begin in range(0, len(points), step):
            yield points[begin : begin + step], weights[begin : begin + step]


@final
@dataclass(frozen=True, eq=False)
class Polynomials:
    """A polynomial of space and time: coefficients (N, S) of monomials, at S times."""

    powers: Ints
    coefficients: Floats
    times: Floats

    def at(self, points: Floats) -> Floats:
        """Evaluate at points (M, d + 1), time last; (M,)."""
        rows = interpolation(self.times, barycentric(self.times), points[:, -1])
        out = np.empty(len(points))
        step = max(1, _CHUNK // len(self.powers))
        for begin in range(0, len(points), step):
            part = slice(begin, begin + step)
            values = _monomials(points[part, :-1], self.powers) @ self.coefficients
            out[part] = (values * rows[part]).sum(axis=1)
        return out


def _powers(d: int, degree: int) -> Ints:
    """Return the exponents (N, d) of all monomials up to a total degree."""
    rows = [
        np.bincount(np.asarray(chosen, dtype=np.int64), minlength=d)
        for p in range(degree + 1)
        for chosen in combinations_with_replacement(range(d), p)
    ]
    return np.stack(rows)


def _monomials(x: Floats, powers: Ints) -> Floats:
    """Evaluate monomials at points (m, d); (m, N)."""
    out = np.ones((len(x), len(powers)))
    for i in range(x.shape[1]):
        table = x[:, i : i + 1] ** np.arange(powers[:, i].max() + 1)
        out *= table[:, powers[:, i]]
    return out


def _moment(powers: Ints) -> Floats:
    """Return the integrals of x^powers over the unit ball, (...) for (..., d); zero for odd ones.

    Source: Folland (2001), How to integrate a polynomial over a sphere.
    """
    half = (powers + 1) / 2
    total = half.sum(axis=-1)
    value = 2 * np.exp(gammaln(half).sum(axis=-1) - gammaln(total)) / (2 * total)
    return np.where((powers % 2).any(axis=-1), 0.0, value)
