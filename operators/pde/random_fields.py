"""Gaussian random fields with a stated spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import pi, prod, sqrt
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from torch import Tensor

from ...meshes.grid import Boundary, Centring, Grid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@final
@dataclass(frozen=True)
class GaussianField:
    """Draw fields from N(0, sigma^2 (-Laplace + tau^2)^-alpha) on a box, by their Karhunen-Loeve expansion.

    u = sum_k sqrt(lam_k) xi_k phi_k with xi_k ~ N(0, 1) and lam_k = sigma^2 (w_k^2 + tau^2)^-alpha, where
    w_k^2 are the eigenvalues of -Laplace and phi_k its eigenfunctions, orthonormal on the box of sides L:

    | boundary | eigenfunctions | w_k, per axis | k |
    |---|---|---|---|
    | periodic | exp(i w x), real parts | 2 pi k / L | integers |
    | neumann | cos(w x) | pi k / L | 0, 1, ... |
    | dirichlet | sin(w x) | pi k / L | 1, 2, ... |

    The variance at a point of a torus, and its mean over the box otherwise, is sum_k lam_k / volume. A grid
    with m cells along an axis carries m terms along it (m - 1 sines). Fields with boundary "neumann" have a
    vanishing normal derivative, those with "dirichlet" vanish at the boundary, whatever the grid's own
    conditions are.

    Terms are drawn from coarse to fine: where the spacing is the same along all axes, the same generator
    gives the same expansion on every grid of the box, with more terms on a finer one.

    Args:
        alpha: smoothness; the variance stays finite under refinement for alpha > dim / 2.
        tau: inverse length, >= 0; features are of size 1 / tau.
        sigma: amplitude (a standard deviation); None: tau^((2 alpha - dim) / 2), which makes the variance
            nearly independent of tau.
        boundary: "periodic", "neumann" or "dirichlet".
        terms: keep only so many terms, those of largest variance; then all grids that resolve them carry the
            same function. None: all.
        constant: keep the constant term k = 0, else fields have mean zero.
        normalised: False: eigenfunctions as on a box of volume 1, whatever its sides: the amplitude then does
            not depend on the volume.

    Raises:
        ValueError: for alpha <= 0, negative tau, sigma or terms; for tau = 0 with a constant term or without
            sigma; for a grid that carries no term or fewer than `terms`.

    Good values: alpha 2, tau 3 with "neumann" (permeability of Darcy flow), alpha 2.5, tau 7 (vorticity).
    Source: Li et al., Fourier neural operator (2021), appendix A.3; the amplitude is exact: sigma^2 is the
    factor of the covariance, which fields made with real and imaginary parts of variance 1 exceed by two.

    >>> field = GaussianField(alpha=2.5, tau=7.0)
    >>> torus = Grid((64, 64), boundary="periodic")
    >>> tuple(field.sample(torus, 3, np.random.default_rng(0)).shape), round(field.variance(torus), 5)
    ((3, 64, 64), 0.03431)
    """

    alpha: float
    tau: float
    sigma: float | None = None
    boundary: Boundary = Boundary.PERIODIC
    terms: int | None = None
    constant: bool = False
    normalised: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "boundary", Boundary(self.boundary))
        if not self.alpha > 0 or not self.tau >= 0:
            raise ValueError(f"alpha must be positive, tau not negative, got {self.alpha} and {self.tau}")
        if self.sigma is not None and not self.sigma >= 0:
            raise ValueError(f"sigma is a standard deviation, so not negative, got {self.sigma}")
        if self.tau == 0 and (self.constant or self.sigma is None):
            raise ValueError("tau = 0 leaves the constant term without bound: give sigma, and constant=False")
        if self.terms is not None and self.terms < 1:
            raise ValueError(f"terms counts the terms that are kept, so at least 1, got {self.terms}")

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> Tensor:
        """Draw n fields at the unknowns of a grid, float64 (n, *grid.shape), one after the other."""
        drawn = [torch.from_numpy(self._draw(grid, generator)) for _ in range(n)]
        return torch.stack(drawn) if drawn else torch.empty(0, *grid.shape, dtype=torch.float64)

    def variance(self, grid: Grid) -> float:
        """Return the variance at a point (periodic), or its mean over the box, of the fields on a grid."""
        lam = self.eigenvalues(grid).ravel()[_order(self, grid.cells, _sides(grid))]
        return float(lam.sum()) / self._volume(grid)

    def eigenvalues(self, grid: Grid) -> Floats:
        """Return lam_k of every mode that a grid carries, (*modes); 0 for a constant that is left out.

        Modes per axis: periodic in the order of `numpy.fft.fftfreq`; neumann k = 0 ... cells - 1; dirichlet
        k = 1 ... cells - 1.
        """
        waves = self._waves(grid)
        square = sum(w**2 for w in np.meshgrid(*waves, indexing="ij", sparse=True)) * self._step**2
        sigma = self.tau ** ((2 * self.alpha - grid.dim) / 2) if self.sigma is None else self.sigma
        shifted = np.asarray(square + self.tau**2)
        still = np.asarray(square) == 0
        shifted[still] = shifted[still] if self.constant else np.inf
        return sigma**2 * shifted**-self.alpha

    @property
    def _step(self) -> float:
        return 2 * pi if self.boundary is Boundary.PERIODIC else pi

    def _numbers(self, grid: Grid) -> list[Ints]:
        """The k along each axis."""
        if self.boundary is Boundary.PERIODIC:
            return [np.rint(np.fft.fftfreq(m, 1 / m)).astype(np.int64) for m in grid.cells]
        return [np.arange(int(self.boundary is Boundary.DIRICHLET), m) for m in grid.cells]

    def _waves(self, grid: Grid) -> list[Floats]:
        """k / L along each axis."""
        return [k / side for k, side in zip(self._numbers(grid), _sides(grid), strict=True)]

    def _volume(self, grid: Grid) -> float:
        return prod(_sides(grid)) if self.normalised else 1.0

    def _draw(self, grid: Grid, generator: np.random.Generator) -> Floats:
        order, lam = _order(self, grid.cells, _sides(grid)), self.eigenvalues(grid)
        shape, root = lam.shape, np.sqrt(lam.ravel()[order] / self._volume(grid))
        centred = grid.centring is Centring.CELL
        if self.boundary is Boundary.PERIODIC:
            xi = generator.standard_normal((len(order), 2)) / sqrt(2)  # E |xi|^2 = 1
            z = np.zeros(prod(shape), dtype=np.complex128)
            z[order] = sqrt(2) * root * (xi[:, 0] + 1j * xi[:, 1])
            u = _on_torus(z.reshape(shape), self._numbers(grid), centred)
        else:
            c = np.zeros(prod(shape))
            c[order] = root * generator.standard_normal(len(order))
            u = c.reshape(shape)
            series = _cosines if self.boundary is Boundary.NEUMANN else _sines
            for axis in range(grid.dim):
                u = series(u, axis, centred)
        return np.ascontiguousarray(u[_unknowns(grid)])


def _sides(grid: Grid) -> tuple[float, ...]:
    return tuple(b - a for a, b in zip(grid.lower, grid.upper, strict=True))


@lru_cache(maxsize=8)
def _order(field: GaussianField, cells: tuple[int, ...], sides: tuple[float, ...]) -> Ints:
    """Flat numbers of a grid's modes in the order in which they are drawn.

    All modes: by the largest k / L of their axes, so that what a coarser grid carries comes first. On an even
    torus k = -m / 2 stands without +m / 2: modes with a positive largest k follow their shell. Otherwise the
    `terms` of largest variance.
    """
    grid = Grid(cells, upper=sides, centring=Centring.CELL)
    numbers = field._numbers(grid)
    where = np.meshgrid(*numbers, indexing="ij")
    waves = [k / side for k, side in zip(where, sides, strict=True)]
    keys = [k.ravel() for k in reversed(where)]
    if field.terms is None:
        shell = np.maximum.reduce([np.abs(w) for w in waves])
        if field.boundary is Boundary.PERIODIC:
            keys.append(np.logical_or.reduce([w == shell for w in waves]).ravel())
        order = np.lexsort([*keys, shell.ravel()])
    else:
        order = np.lexsort([*keys, -field.eigenvalues(grid).ravel()])[: field.terms]
    square = np.asarray(sum(w**2 for w in waves)).ravel()[order]
    if not square.any():
        raise ValueError(f"a grid of {cells} cells carries no {field.boundary} mode that varies: refine it")
    if field.terms is not None and not (order.size == field.terms and _resolved(field, grid, square)):
        raise ValueError(
            f"a grid of {cells} cells does not carry the {field.terms} terms of largest variance of a "
            f"{field.boundary} field: refine it, or ask for fewer"
        )
    order.setflags(write=False)
    return order


def _resolved(field: GaussianField, grid: Grid, square: Floats) -> bool:
    """Whether every mode that a grid does not carry has a larger (k / L)^2 than those that are kept."""
    sides = np.array(_sides(grid))
    first = np.array([(m + 1) // 2 if field.boundary is Boundary.PERIODIC else m for m in grid.cells])
    rest = (1 / sides) ** 2 if field.boundary is Boundary.DIRICHLET else np.zeros(grid.dim)
    missing = (first / sides) ** 2 + rest.sum() - rest
    return bool(square.max() < missing.min())


def _on_torus(z: NDArray[np.complex128], numbers: list[Ints], centred: bool) -> Floats:
    """Re sum_k z_k exp(2 pi i k x) at the nodes 0 ... m of every axis, or at the m cell centres."""
    if centred:
        for k in np.meshgrid(*(np.exp(1j * pi * k / len(k)) for k in numbers), indexing="ij", sparse=True):
            z = z * k
    u = np.real(fft.ifftn(z, norm="forward"))
    return u if centred else np.pad(u, [(0, 1)] * u.ndim, mode="wrap")


def _cosines(c: Floats, axis: int, centred: bool) -> Floats:
    """c_0 + sum_k sqrt(2) c_k cos(pi k x) along an axis, at the m + 1 nodes or the m cell centres."""
    c = np.moveaxis(c, axis, 0) / sqrt(2)
    c[0] *= sqrt(2)
    if not centred:
        c = np.concatenate([c, np.zeros_like(c[:1])])
    return np.moveaxis(np.asarray(fft.dct(c, type=3 if centred else 1, axis=0)), 0, axis)


def _sines(c: Floats, axis: int, centred: bool) -> Floats:
    """sum_k sqrt(2) c_k sin(pi k x) along an axis, at the m + 1 nodes or the m cell centres."""
    c = np.moveaxis(c, axis, 0) / sqrt(2)
    zero = np.zeros_like(c[:1])
    if centred:
        u = np.asarray(fft.dst(np.concatenate([c, zero]), type=3, axis=0))
    else:
        u = np.concatenate([zero, np.asarray(fft.dst(c, type=1, axis=0)), zero])
    return np.moveaxis(u, 0, axis)


def _unknowns(grid: Grid) -> tuple[slice, ...]:
    """Where the unknowns sit among all nodes, or all cell centres."""
    if grid.centring is Centring.CELL:
        return (slice(None),) * grid.dim
    first = [int(low is Boundary.DIRICHLET) for low, _ in grid.boundary]
    return tuple(slice(a, a + n) for a, n in zip(first, grid.shape, strict=True))
