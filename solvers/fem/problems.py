"""Boundary-value problems in weak form, with data given as NumPy functions of the points."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from ...meshes.grid import Grid
from ...meshes.mesh import Mesh
from ...operators.linear.errors import NonFinite, NotSupported, ShapeMismatch
from .errors import UnknownPart
from .simplex import Floats, Simplices, lattice_points, nodes, simplices

Field = float | NDArray[Any] | Callable[[Floats], Any]
"""A number (or vector), values at the nodes (per cell for coefficients), or a function of points (n, d)."""

DEGREES = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class FemProblem(ABC):
    """What all problems share: domain, source, boundary data and the degree of the elements.

    Functions are called here, never in a worker, with points (n, d), and return (n,), for elasticity (n, d).
    The source enters by its interpolant of one degree more than the elements', which keeps their order.

    Args:
        domain: `Grid`, cut into simplices by `meshes.grid_mesh`, or simplicial `Mesh`.
        source: f.
        dirichlet: one value for the fixed parts (a grid's Dirichlet faces, a mesh's whole boundary), or
            values by the part's name; None for no condition. Where two parts meet, the later one holds.
        neumann: flux (traction for elasticity) by the part's name; zero elsewhere.
        degree: 1, 2 or 3.

    Raises:
        UnknownPart: names that the mesh does not have, a part with two conditions.
        ShapeMismatch, NonFinite: data of another shape, NaN or infinity.
        NotSupported: degrees outside 1 to 3.
    """

    domain: Grid | Mesh
    source: Field = 0.0
    dirichlet: Field | Mapping[str, Field] | None = 0.0
    neumann: Mapping[str, Field] = field(default_factory=dict)
    degree: int = 1

    kind: ClassVar[str] = "scalar"

    def __post_init__(self) -> None:
        if self.degree not in DEGREES:
            raise NotSupported(f"elements have degree 1, 2 or 3, got {self.degree}")
        names = set(self.essential) | set(self.neumann)
        unknown = names - set(self.mesh.parts)
        if unknown:
            raise UnknownPart(
                f"the mesh has no part named {sorted(unknown)}: its parts are {sorted(self.mesh.parts)}"
            )
        both = set(self.essential) & set(self.neumann)
        if both:
            raise UnknownPart(f"{sorted(both)} have a Dirichlet and a Neumann value: give one of the two")

    @functools.cached_property
    def mesh(self) -> Simplices:
        """The domain in simplices."""
        return simplices(self.domain)

    @property
    def components(self) -> int:
        """Values per node: 1, or d for elasticity."""
        return 1

    @property
    def symmetric(self) -> bool:
        """Whether the matrix is symmetric (all of them are)."""
        return True

    @property
    def definite(self) -> bool:
        """Whether the matrix is positive definite once Dirichlet values are eliminated."""
        return bool(self.essential)

    @property
    def essential(self) -> Mapping[str, Field]:
        """Dirichlet values by the part's name."""
        if self.dirichlet is None:
            return {}
        if isinstance(self.dirichlet, Mapping):
            return self.dirichlet
        return dict.fromkeys(self.mesh.fixed, self.dirichlet)

    @abstractmethod
    def coefficients(self) -> dict[str, Floats]:
        """Return the coefficients of the weak form on every cell, name -> (M, n) lattice values."""

    @property
    def points(self) -> Floats:
        """Coordinates of the nodes, (nodes, d); vertices first, with their numbers in the mesh."""
        return nodes(self.mesh, self.degree)[1]

    def values(self, given: Field, points: Floats, name: str, *, components: int | None = None) -> Floats:
        """Evaluate a number or a function at points (..., d); (...) or (..., components), checked."""
        m = self.components if components is None else components
        shape = points.shape[:-1] + ((m,) if m > 1 else ())
        flat = points.reshape(-1, points.shape[-1])
        if callable(given):
            raw = np.asarray(given(flat), dtype=np.float64)
            wanted = (len(flat), m) if m > 1 else (len(flat),)
            if raw.shape not in (wanted, wanted[1:]):
                raise ShapeMismatch(f"{name} must return {wanted} for points {flat.shape}, got {raw.shape}")
            out = np.broadcast_to(raw, wanted).reshape(shape)
        else:
            raw = np.asarray(given, dtype=np.float64)
            if raw.shape not in ((), (m,) if m > 1 else ()):
                raise ShapeMismatch(
                    f"{name} must be a number{' or one per component' if m > 1 else ''}, or a function, "
                    f"got an array of shape {raw.shape}"
                )
            out = np.broadcast_to(raw, shape)
        if not np.isfinite(out).all():
            raise NonFinite(f"{name} holds NaN or infinite values: repair the function or the array")
        return np.ascontiguousarray(out)

    def at_nodes(self, given: Field, name: str) -> Floats:
        """Evaluate a number, a function or an array of node values at the nodes, (nodes[, d])."""
        wanted = (len(self.points), self.components) if self.components > 1 else (len(self.points),)
        if isinstance(given, np.ndarray) and given.shape == wanted:
            points, array = self.points, given
            return self.values(lambda _: array, points, name)
        return self.values(given, self.points, name)

    def on_cells(self, given: Field, name: str, *, components: int | None = None) -> Floats:
        """Evaluate a source or coefficient on the cells' lattice, (M, n[, d]); n = 1 for constants."""
        mesh, m = self.mesh, self.components if components is None else components
        if isinstance(given, np.ndarray) and given.ndim:
            if m == 1 and components is not None and given.shape == (len(mesh.cells),):
                return self.values(lambda _: given, lattice_points(mesh, 0)[:, 0], name, components=1)[
                    :, None
                ]
            if components is None and given.shape[0] == len(self.points):
                return self.at_nodes(given, name)[nodes(mesh, self.degree)[0]]
        degree = self.degree + 1 if callable(given) else 0
        return self.values(given, lattice_points(mesh, degree), name, components=m)

    def positive(self, given: Field, name: str) -> Floats:
        """Evaluate a coefficient that must be positive on the cells."""
        out = self.on_cells(given, name, components=1)
        if out.min() <= 0:
            raise ValueError(f"{name} must be positive everywhere, its least value is {out.min():g}")
        return out


@final
@dataclass(frozen=True, eq=False)
class Poisson(FemProblem):
    """-laplace u = f.

    >>> from solvus.meshes.grid import Grid
    >>> Poisson(Grid((3, 3)), source=1.0).points.shape
    (25, 2)
    """

    def coefficients(self) -> dict[str, Floats]:
        """Return kappa = 1."""
        return {"kappa": np.ones((len(self.mesh.cells), 1))}


@final
@dataclass(frozen=True, eq=False)
class VariableDiffusion(FemProblem):
    """-div(kappa grad u) = f, with kappa a number, one value per cell (M,), or a function."""

    coefficient: Field = 1.0

    def coefficients(self) -> dict[str, Floats]:
        """Return kappa."""
        return {"kappa": self.positive(self.coefficient, "coefficient")}


@final
@dataclass(frozen=True, eq=False)
class Helmholtz(FemProblem):
    """-laplace u - k^2 u = f, indefinite in general; k a number, one value per cell (M,), or a function."""

    wavenumber: Field = 1.0

    @property
    def definite(self) -> bool:
        """Helmholtz matrices are indefinite once k^2 exceeds the smallest eigenvalue."""
        return False

    def coefficients(self) -> dict[str, Floats]:
        """Return kappa = 1 and k2 = k^2."""
        k = self.on_cells(self.wavenumber, "wavenumber", components=1)
        return {"kappa": np.ones((len(self.mesh.cells), 1)), "k2": k * k}


@final
@dataclass(frozen=True, eq=False)
class Elasticity(FemProblem):
    """-div(2 mu eps(u) + lam div(u) I) = f: small strains, d displacements per node.

    `lam` and `mu` are Lame's constants: numbers, one value per cell (M,), or functions; see `lame`.
    """

    lam: Field = 1.0
    mu: Field = 1.0

    kind: ClassVar[str] = "elastic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.essential:
            raise NotSupported("elasticity without a Dirichlet part is singular (rigid motions): fix a part")
        if self.mesh.dim == 1:
            raise NotSupported("elasticity needs 2 or 3 dimensions: a bar is VariableDiffusion")

    @property
    def components(self) -> int:
        """One displacement per axis."""
        return self.mesh.dim

    def coefficients(self) -> dict[str, Floats]:
        """Return lam and mu."""
        return {"lam": self.positive(self.lam, "lam"), "mu": self.positive(self.mu, "mu")}


def lame(young: float, poisson: float) -> tuple[float, float]:
    """Return Lame's (lam, mu) for Young's modulus and Poisson's ratio (plane strain in 2-D).

    >>> lame(1.0, 0.25)
    (0.4, 0.4)
    """
    if not (young > 0 and 0 < poisson < 0.5):
        raise ValueError(f"needs young > 0 and 0 < poisson < 0.5, got {young} and {poisson}")
    return young * poisson / ((1 + poisson) * (1 - 2 * poisson)), young / (2 * (1 + poisson))
