"""A problem's data as arrays on the mesh: what every backend takes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .lattice import multi_indices
from .problems import FemProblem
from .simplex import Floats, Ints, lattice_points, nodes


@final
@dataclass(frozen=True, eq=False)
class Flux:
    """Neumann data: boundary facets, and the flux as a polynomial on the cell behind each.

    Attributes:
        cells: (F,), the cell behind the facet.
        opposite: (F,), the place of the cell's vertex that is not on the facet.
        values: (F, n[, d]), lattice values on that cell, zero off the facet.
    """

    cells: Ints
    opposite: Ints
    values: Floats

    @property
    def slots(self) -> Ints:
        """For each facet, how many facets of the same cell come before it."""
        order = np.argsort(self.cells, kind="stable")
        ordered = self.cells[order]
        starts = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else np.zeros(0, dtype=bool)
        index = np.arange(len(ordered))
        slots = np.empty(len(ordered), dtype=np.int64)
        slots[order] = index - np.maximum.accumulate(np.where(starts, index, 0)) if len(ordered) else 0
        return slots


@final
@dataclass(frozen=True, eq=False)
class Discrete:
    """Everything numeric about a problem, in the numbering of the mesh and its nodes.

    Attributes:
        nodes: (M, n) node numbers of every cell.
        fields: coefficients and "source" on every cell, name -> (M, m[, d]) lattice values.
        fixed: (k,), nodes with Dirichlet values; fixed_values: (k[, d]).
        flux: Neumann data, None without.
    """

    problem: FemProblem
    nodes: Ints
    fields: dict[str, Floats]
    fixed: Ints
    fixed_values: Floats
    flux: Flux | None

    @property
    def fixed_dofs(self) -> Ints:
        """The unknowns with Dirichlet values, (k * components,), d per node in a row."""
        m = self.problem.components
        return (self.fixed[:, None] * m + np.arange(m)).ravel()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that change from solve to solve, under the names that the kernels read."""
        out: dict[str, NDArray[Any]] = {f"field_{name}": values for name, values in self.fields.items()}
        out |= {"fixed": self.fixed, "fixed_values": self.fixed_values}
        if self.flux is not None:
            out |= {
                "flux_cells": self.flux.cells,
                "flux_opposite": self.flux.opposite,
                "flux_slots": self.flux.slots,
                "flux_values": self.flux.values,
            }
        return out

    def space_key(self) -> str:
        """Name of mesh and element, the same for problems that can share them."""
        return f"{self.problem.mesh.key}-{self.problem.degree}-{self.problem.components}"

    def flux_key(self) -> str:
        """Digest of where fluxes act."""
        if self.flux is None:
            return ""
        digest = hashlib.sha256(self.flux.cells.tobytes() + self.flux.opposite.tobytes())
        return digest.hexdigest()[:16]


def discretise(problem: FemProblem) -> Discrete:
    """Evaluate a problem's functions where the backends need them."""
    numbers, points = nodes(problem.mesh, problem.degree)
    fields = problem.coefficients() | {"source": problem.on_cells(problem.source, "source")}
    fixed, values = _dirichlet(problem, numbers, points)
    return Discrete(problem, numbers, fields, fixed, values, _neumann(problem))


def _facet_rows(problem: FemProblem, name: str) -> Ints:
    return problem.mesh.locate_facets(problem.mesh.parts[name])


def _dirichlet(problem: FemProblem, numbers: Ints, points: Floats) -> tuple[Ints, Floats]:
    mesh, m = problem.mesh, problem.components
    indices = multi_indices(mesh.dim, problem.degree)
    cells, opposite = mesh.boundary_cells
    held = np.full((len(points), m), np.nan)
    for name, given in problem.essential.items():
        facets = _facet_rows(problem, name)
        on_facet = indices[:, opposite[facets]].T == 0  # (F, n)
        members = np.unique(numbers[cells[facets]][on_facet])
        what = f"dirichlet[{name!r}]"
        if isinstance(given, np.ndarray) and given.ndim and given.shape[0] == len(points):
            held[members] = problem.at_nodes(given, what).reshape(len(points), m)[members]
        else:
            held[members] = problem.values(given, points[members], what).reshape(-1, m)
    fixed = np.flatnonzero(~np.isnan(held[:, 0]))
    return fixed, held[fixed] if m > 1 else held[fixed, 0]


def _neumann(problem: FemProblem) -> Flux | None:
    if not problem.neumann:
        return None
    mesh, degree = problem.mesh, problem.degree + 1
    indices = multi_indices(mesh.dim, degree)
    all_cells, all_opposite = mesh.boundary_cells
    cells, opposite, values = [], [], []
    for name, given in problem.neumann.items():
        facets = _facet_rows(problem, name)
        c, o = all_cells[facets], all_opposite[facets]
        on_facet = indices[:, o].T == 0  # (F, n)
        points = lattice_points(mesh, degree)[c]
        v = np.zeros(on_facet.shape + ((problem.components,) if problem.components > 1 else ()))
        v[on_facet] = problem.values(given, points[on_facet], f"neumann[{name!r}]")
        cells.append(c)
        opposite.append(o)
        values.append(v)
    return Flux(np.concatenate(cells), np.concatenate(opposite), np.concatenate(values))
