"""Time-harmonic waves in a medium of variable speed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import cbrt, sqrt
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from ...meshes.grid import Boundary, Centring, Grid
from ..linear.base import SYMMETRIC, LinearOperator
from ..linear.csr import CSR
from ..linear.errors import NotSupported
from .base import Assembled, Equation, Exact, Fields, FieldSpec, Place
from .boundary import FaceData, face_points
from .fields import Seed
from .random_fields import GaussianField

_HUNDRED_TERMS = GaussianField(2.0, 3.0, 1.0, boundary=Boundary.NEUMANN, terms=100)


@final
@dataclass(frozen=True)
class TanhSpeed:
    """Draw the speed c = mean + swing tanh(a), a a Gaussian field; one value per unknown.

    Called as speed(grid, seed=generator). The default has the 100 terms of largest variance of
    N(0, (-Laplace + 9)^-2) with Neumann cosines, without the constant: the published Helmholtz data.

    >>> c = TanhSpeed()(Grid((17, 17), boundary="neumann"), seed=0)
    >>> c.shape, bool((abs(c - 20) < 1).all())
    ((17, 17), True)
    """

    field: GaussianField = _HUNDRED_TERMS
    mean: float = 20.0
    swing: float = 1.0

    def __call__(self, grid: Grid, *, seed: Seed) -> NDArray[np.float64]:
        """Draw one speed, float64 (*grid.shape)."""
        (a,) = self.field.sample(grid, 1, np.random.default_rng(seed)).numpy()
        return self.mean + self.swing * np.tanh(a)


_PUBLISHED = TanhSpeed()


class Quadrature(StrEnum):
    """Where the two points per axis of an element lie, at +-s of [-1, 1], each of weight 1."""

    GAUSS = "gauss"  # s^2 = 1/3: exact products of hats; waves are off by (k h)^2 / 24
    BALANCED = "balanced"  # s^2 = 2/3: halfway to lumping, which errs as much the other way


_SQUARES = {Quadrature.GAUSS: 1 / 3, Quadrature.BALANCED: 2 / 3}


@final
@dataclass(frozen=True)
class HelmholtzMedium(Equation):
    """-Laplace u - (omega / c)^2 u = 0 in a rectangle that is driven through its upper face, c per node.

    du/dn is 1 on the part |x - centre| < half_width of the face y = upper, 0 elsewhere on the boundary.
    Bilinear elements on the cells of the grid: A = K - M, symmetric and indefinite, by 2 x 2 points per cell
    at which c is interpolated; the load is integrated exactly. One sample makes a `CSR` matrix: use a direct
    solver, since CG and multigrid need a definite one. A batch makes an operator that is applied cell by
    cell.

    Second order in the spacing, but errors of phase add up along a wave (pollution). At omega 1000 and c near
    20, 101 x 101 nodes are 12 to 13 per wave: with Gauss points the solution is then wrong by half of its
    norm and more, with balanced ones by 5 per cent. There is no damping: near a resonance u and its error are
    large.

    Args:
        omega: angular frequency.
        speed: how `sample` draws c: called as speed(grid, seed=generator), one value per unknown.
        centre, half_width: of the driven part of the face, in units of length.
        quadrature: "balanced" or "gauss", see `Quadrature`.

    Source: Ainsworth and Wajid, SIAM J. Numer. Anal. 48 (2010), for the balanced points.

    Raises:
        ValueError: for omega or half_width <= 0; for a speed that is not positive.
        NotSupported: for other grids than node-centred ones in the plane with Neumann faces all around.

    >>> A, b = HelmholtzMedium(30.0).problem(
    ...     Grid((9, 9), boundary="neumann"), {"speed": torch.ones(9, 9, dtype=torch.float64)})
    >>> A.symmetric, A.positive_definite, round(float(b.sum()), 12)
    (True, False, 0.3)
    """

    omega: float = 1000.0
    speed: Callable[..., Any] = _PUBLISHED
    centre: float = 0.5
    half_width: float = 0.15
    quadrature: Quadrature = Quadrature.BALANCED

    inputs: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("speed", Place.UNKNOWNS, "c > 0, speed of waves"),)
    outputs: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "the solution, an amplitude"),)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quadrature", Quadrature(self.quadrature))
        if not (self.omega > 0 and self.half_width > 0):
            raise ValueError(f"omega and half_width must be positive, got {self.omega} and {self.half_width}")

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n speeds, (n, *grid.shape)."""
        _plane(grid)
        drawn = [torch.as_tensor(self.speed(grid, seed=generator)) for _ in range(n)]
        return {"speed": torch.stack(drawn) if drawn else torch.empty(0, *grid.shape, dtype=torch.float64)}

    def problem(self, grid: Grid, fields: Fields, boundary: FaceData | None = None) -> Assembled:
        """Assemble A and b; `boundary` holds du/dn on faces, in place of the drive through the upper face."""
        _plane(grid)
        (c,) = self.read(grid, fields)
        if not bool((c.detach() > 0).all()):
            raise ValueError("the speed of waves must be positive everywhere")
        square = _SQUARES[self.quadrature]
        local = _stiffness(grid, c, square) - _mass(grid, c, square, lambda speed: (self.omega / speed) ** 2)
        if boundary is None:
            b = torch.as_tensor(self._drive(grid), dtype=c.dtype, device=c.device)
        else:
            b = _fluxes(grid, boundary, c)
        if c.ndim > 2:
            b = b.expand(len(c), *grid.shape) if b.ndim == 2 else b
            return Assembled(CellwiseOperator(grid, local), b.reshape(len(c), grid.size))
        return Assembled(_matrix(grid, local), b.reshape(*b.shape[:-2], grid.size))

    def exact(self, grid: Grid) -> Exact:
        """Return the data of u = Ai(-(p + q x) / q^(2/3)) cos(m y + 0.4), (omega / c)^2 = p + q x + m^2."""
        _plane(grid)
        (width, height) = (b - a for a, b in zip(grid.lower, grid.upper, strict=True))
        p, q, m = 20 / width**2, 30 / width**3, 4 / height

        def parts(points: NDArray[np.float64]) -> tuple[Tensor, ...]:
            """u, du/dx and du/dy at points (..., 2)."""
            x, y = points[..., 0] - grid.lower[0], points[..., 1] - grid.lower[1]
            ai, slope, _, _ = special.airy(-(p + q * x) / q ** (2 / 3))
            wave, lag = np.cos(m * y + 0.4), np.sin(m * y + 0.4)
            return tuple(map(torch.as_tensor, (ai * wave, -cbrt(q) * slope * wave, -m * ai * lag)))

        boundary = {}
        for axis in range(2):
            for side in (0, 1):
                normal = parts(face_points(grid, (axis, side)))[1 + axis]
                boundary[axis, side] = normal if side else -normal
        points = grid.points().reshape(*grid.shape, 2)
        c = self.omega / np.sqrt(p + q * (points[..., 0] - grid.lower[0]) + m**2)
        return Exact({"speed": torch.as_tensor(c)}, parts(points)[0], boundary)

    def _drive(self, grid: Grid) -> NDArray[np.float64]:
        """Integrals of the nodes' hat functions over the driven part of the upper face, (*grid.shape)."""
        x, h = grid.axes()[0], grid.spacing[0]
        low = max(self.centre - self.half_width, grid.lower[0])
        high = min(self.centre + self.half_width, grid.upper[0])
        b = np.zeros(grid.shape)
        b[:, -1] = h * (_hat((high - x) / h) - _hat((low - x) / h))
        return b


@final
class CellwiseOperator(LinearOperator):
    """A batch of operators given by their matrices on the cells of a grid, without a matrix of the whole.

    Args:
        grid: node-centred, in the plane, Neumann faces all around.
        local: (B, *grid.cells, 4, 4), symmetric, corners in the order (0, 0), (0, 1), (1, 0), (1, 1).
    """

    def __init__(self, grid: Grid, local: Tensor) -> None:
        shape = (grid.size, grid.size)
        super().__init__(shape, local.dtype, local.device, tags=SYMMETRIC, batch_shape=(local.shape[0],))
        self.grid, self.local = grid, local

    def matvec(self, x: Tensor) -> Tensor:
        """Return A x, x (B, n)."""
        u = x.reshape(*x.shape[:-1], *self.grid.shape)
        y = (self.local @ _corners(u).unsqueeze(-1)).squeeze(-1)
        pads = [(0, 1, 0, 1), (1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0)]  # last axis first
        parts = [torch.nn.functional.pad(y[..., i], pad) for i, pad in enumerate(pads)]
        return (parts[0] + parts[1] + parts[2] + parts[3]).flatten(-2)

    def transpose(self) -> LinearOperator:
        """Return the operator itself."""
        return self

    def parameters(self) -> tuple[Tensor, ...]:
        """Return the matrices on the cells."""
        return (self.local,)


def _plane(grid: Grid) -> None:
    walls = all(pair == (Boundary.NEUMANN, Boundary.NEUMANN) for pair in grid.boundary)
    if grid.dim != 2 or grid.centring is not Centring.NODE or not walls or grid.mask is not None:
        raise NotSupported(
            "bilinear elements need a node-centred grid in the plane with Neumann faces and no mask: "
            'Grid((n + 1, n + 1), boundary="neumann")'
        )


def _corners(u: Tensor) -> Tensor:
    """Values at the corners of every cell, (..., nx + 1, ny + 1) -> (..., nx, ny, 4)."""
    return torch.stack([u[..., :-1, :-1], u[..., :-1, 1:], u[..., 1:, :-1], u[..., 1:, 1:]], dim=-1)


def _stiffness(grid: Grid, like: Tensor, square: float) -> Tensor:
    """Integrals of grad phi_i . grad phi_j over a cell, (4, 4), by points at +-sqrt(square)."""
    same, other = 1 + square, 1 - square
    (kx, mx), (ky, my) = (
        (np.array([[1, -1], [-1, 1]]) / h, np.array([[same, other], [other, same]]) * h / 4)
        for h in grid.spacing
    )
    return torch.as_tensor(np.kron(kx, my) + np.kron(mx, ky), dtype=like.dtype, device=like.device)


def _mass(grid: Grid, c: Tensor, square: float, weight: Callable[[Tensor], Tensor]) -> Tensor:
    """Integrals of weight(c) phi_i phi_j over every cell, (..., nx, ny, 4, 4), by the same points."""
    near = (1 + sqrt(square)) / 2
    line = np.array([[near, 1 - near], [1 - near, near]])  # hats at the two points
    shape = np.kron(line, line)  # (points, corners)
    pairs = torch.as_tensor((shape[:, :, None] * shape[:, None, :]).reshape(4, 16))
    at_points = _corners(c) @ torch.as_tensor(shape.T, dtype=c.dtype, device=c.device)
    area = grid.spacing[0] * grid.spacing[1] / 4
    local = area * weight(at_points) @ pairs.to(c.device, c.dtype)
    return local.unflatten(-1, (4, 4))


@lru_cache(maxsize=4)
def _pattern(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers, columns, and the place of every entry of the cells' matrices among the stored ones."""
    number = torch.arange(shape[0] * shape[1]).reshape(shape)
    corner = _corners(number).reshape(-1, 4).numpy()
    rows, cols = np.repeat(corner, 4, axis=1).ravel(), np.tile(corner, 4).ravel()
    stored, place = np.unique(rows * number.numel() + cols, return_inverse=True)
    counts = np.bincount(stored // number.numel(), minlength=number.numel())
    crow = np.concatenate([[0], counts.cumsum()]).astype(np.int32)
    col = (stored % number.numel()).astype(np.int32)
    return torch.from_numpy(crow), torch.from_numpy(col), torch.from_numpy(place.ravel())


def _matrix(grid: Grid, local: Tensor) -> CSR:
    """Add up the cells' matrices (nx, ny, 4, 4)."""
    crow, col, place = (t.to(local.device) for t in _pattern(grid.shape))
    values = local.new_zeros(col.numel()).index_add(0, place, local.reshape(-1))
    return CSR(crow, col, values, (grid.size, grid.size), tags=SYMMETRIC)


def _hat(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral of the hat function on [-1, 1] from -1 to t."""
    t = np.clip(t, -1, 1)
    return np.where(t < 0, (1 + t) ** 2, 2 - (1 - t) ** 2) / 2


def _fluxes(grid: Grid, boundary: FaceData, like: Tensor) -> Tensor:
    """Integrals of given fluxes, linear between nodes, times the hats on the faces, (..., *grid.shape)."""
    b = like.new_zeros(grid.shape)
    for (axis, side), given in boundary.items():
        other = 1 - axis
        if axis not in (0, 1):
            raise NotSupported(f"face {(axis, side)} carries no condition: a plane grid has axes 0 and 1")
        m, h = grid.shape[other], grid.spacing[other]
        flux = torch.as_tensor(given, dtype=b.dtype, device=b.device)
        flux = flux.expand(m) if flux.ndim == 0 else flux
        low, high = flux[..., :-1], flux[..., 1:]
        pad = torch.nn.functional.pad
        on_face = h / 6 * (pad(2 * low + high, (0, 1)) + pad(low + 2 * high, (1, 0)))
        row = torch.zeros(grid.shape[axis], dtype=b.dtype, device=b.device)
        row[-1 if side else 0] = 1
        b = b + (row[:, None] * on_face[..., None, :] if axis == 0 else on_face[..., None] * row)
    return b
