"""The parts of dolfinx that changed between versions 0.5 and 0.11, found by looking, not by version number.

Self-contained: numpy, dolfinx and its own dependencies only.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import inspect
from typing import Any

import basix
import dolfinx
import dolfinx.fem.petsc
import numpy as np
import ufl

try:
    import basix.ufl as _elements  # dolfinx 0.6 and later
except ImportError:
    import basix.ufl_wrapper as _elements  # dolfinx 0.5

_MAKE = getattr(_elements, "element", None) or _elements.create_element
_PARAMETERS = inspect.signature(getattr(_MAKE, "__wrapped__", _MAKE)).parameters
CELLS = {1: "interval", 2: "triangle", 3: "tetrahedron"}


def lagrange(dim: int, degree: int, *, components: int = 1, discontinuous: bool = False) -> Any:
    """Return an equispaced Lagrange element on simplices; degree 0 is constant per cell."""
    options: dict[str, Any] = {"discontinuous": discontinuous or degree == 0}
    if degree > 0:
        options["lagrange_variant"] = basix.LagrangeVariant.equispaced
    if components > 1 and "shape" in _PARAMETERS:
        options["shape"] = (components,)
    element = _MAKE("P", CELLS[dim], degree, **options)
    if components > 1 and "shape" not in _PARAMETERS:
        if hasattr(_elements, "blocked_element"):
            return _elements.blocked_element(element, shape=(components,))
        return _elements.VectorElement(element, components)
    return element


def create_mesh(comm: Any, points: Any, cells: Any) -> Any:
    """Make an affine simplex mesh from arrays; under MPI, every rank gives its share."""
    dim = points.shape[1]
    if hasattr(ufl, "VectorElement"):
        domain = ufl.Mesh(ufl.VectorElement("Lagrange", ufl.Cell(CELLS[dim], dim), 1))
    else:
        domain = ufl.Mesh(_MAKE("Lagrange", CELLS[dim], 1, shape=(dim,)))
    make = dolfinx.mesh.create_mesh
    name = "e" if "e" in inspect.signature(make).parameters else "domain"
    return make(comm, cells=cells, x=points, **{name: domain})


def function_space(msh: Any, element: Any) -> Any:
    """Return the function space of an element."""
    make = getattr(dolfinx.fem, "functionspace", None) or dolfinx.fem.FunctionSpace
    return make(msh, element)


def rows(adjacency: Any, width: int) -> Any:
    """Return a dof map or connectivity of constant width as an array (n, width)."""
    return np.asarray(getattr(adjacency, "array", adjacency)).reshape(-1, width)


def interpolation_points(V: Any) -> Any:
    """Return the reference coordinates of a Lagrange space's local nodes, (n, d)."""
    points = V.element.interpolation_points
    return np.asarray(points() if callable(points) else points)


def input_vertices(msh: Any) -> Any:
    """Return the vertices of this rank's cells (ghosts too), as numbered in the arrays the mesh came from."""
    local = rows(msh.geometry.dofmap, msh.topology.dim + 1)
    return np.asarray(msh.geometry.input_global_indices)[local]


def input_cells(msh: Any) -> Any:
    """Return the number of this rank's cells (ghosts too) in the arrays the mesh came from."""
    return np.asarray(msh.topology.original_cell_index)


def facets_of_cells(msh: Any) -> Any:
    """Return the facets of this rank's cells, (cells, d + 1)."""
    d = msh.topology.dim
    msh.topology.create_connectivity(d, d - 1)
    msh.topology.create_connectivity(d - 1, d)
    return rows(msh.topology.connectivity(d, d - 1), d + 1)


def meshtags(msh: Any, dim: int, entities: Any, values: Any) -> Any:
    """Return tags of mesh entities, which must come sorted."""
    return dolfinx.mesh.meshtags(msh, dim, entities.astype(np.int32), values.astype(np.int32))


def system(a: Any, L: Any, conditions: list[Any]) -> tuple[Any, Any]:
    """Assemble compiled forms to a PETSc matrix and vector, Dirichlet values eliminated symmetrically."""
    from petsc4py import PETSc

    petsc = dolfinx.fem.petsc
    A = petsc.assemble_matrix(a, bcs=conditions)
    A.assemble()
    b = petsc.assemble_vector(L)
    petsc.apply_lifting(b, [a], [conditions])
    b.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
    petsc.set_bc(b, conditions)
    return A, b
