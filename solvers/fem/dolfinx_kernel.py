"""Assemble and solve by dolfinx, from arrays: runs in a worker or in process, on one rank or several.

Self-contained: numpy, mpi4py, petsc4py, dolfinx and the modules beside it.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import numpy as np
import ufl
from dolfinx import fem
from petsc4py import PETSc

from . import dolfinx_api as api
from .lattice import correspondence, lattice_degree, multi_indices, positions
from .petsc_kernel import best_options, real, timed_solve

_KEPT = 6  # function spaces that are kept
_spaces: OrderedDict[str, Space] = OrderedDict()


class Forgotten(LookupError):
    """The request names a space that was dropped meanwhile: it must be sent again."""


class Space:
    """A mesh with a function space and what ties both to the numbering of the input arrays."""

    def __init__(self, comm: Any, points: Any, cells: Any, nodes: Any, degree: int, components: int) -> None:
        self.comm, self.cells, self.dim, self.components = comm, cells, points.shape[1], components
        mine = slice(None) if comm.rank == 0 else slice(0, 0)
        self.mesh = api.create_mesh(comm, points[mine], cells[mine])
        self.origin = api.input_cells(self.mesh)  # local cell -> input cell
        self.vertices = api.input_vertices(self.mesh)
        element = api.lagrange(self.dim, degree, components=components)
        self.V = api.function_space(self.mesh, element)
        local, dofs = self._match(self.V, degree)
        count = int(dofs.max()) + 1 if dofs.size else 0
        self.node = np.full(count, -1, dtype=np.int64)  # local block of dofs -> input node
        self.node[dofs] = nodes[self.origin[:, None], local]
        self.owned = self.V.dofmap.index_map.size_local
        self.forms: OrderedDict[Any, Forms] = OrderedDict()
        self._check(points, cells, nodes, degree)

    def _match(self, V: Any, degree: int) -> tuple[Any, Any]:
        """Return lattice positions and dof numbers of every local cell's nodes, both (cells, n)."""
        x = api.interpolation_points(V)
        bary = np.concatenate([1 - x.sum(axis=1, keepdims=True), x], axis=1)
        indices = np.rint(bary * degree).astype(np.int64)
        dofs = api.rows(V.dofmap.list, len(indices))
        return correspondence(self.cells[self.origin], self.vertices, degree, indices), dofs

    def _check(self, points: Any, cells: Any, nodes: Any, degree: int) -> None:
        """Compare the coordinates of the dofs with those of the nodes that they stand for."""
        bary = multi_indices(self.dim, degree) / degree
        expected = np.empty((int(nodes.max()) + 1, self.dim))
        expected[nodes] = bary @ points[cells]
        found = self.V.tabulate_dof_coordinates()[: len(self.node), : self.dim]
        gap = np.abs(found - expected[self.node]).max() if len(found) else 0.0
        if gap > 1e-9 * np.ptp(points, axis=0).max():
            raise AssertionError(f"dolfinx's nodes do not match the lattice: they differ by {gap}")

    def field(self, degree: int, components: int) -> CellField:
        """Return a function that is a polynomial on every cell, to be filled."""
        element = api.lagrange(self.dim, degree, components=components, discontinuous=True)
        f = fem.Function(api.function_space(self.mesh, element))
        if degree == 0:
            return CellField(
                f, np.zeros((len(self.origin), 1), np.int64), api.rows(f.function_space.dofmap.list, 1)
            )
        return CellField(f, *self._match(f.function_space, degree))

    def numbers(self) -> Any:
        """Return the input numbers of this rank's owned unknowns, d per node in a row."""
        d = self.components
        return (self.node[: self.owned, None] * d + np.arange(d)).ravel()

    def rigid_modes(self, b: Any) -> Any:
        """Return PETSc's near-null space of the rigid motions."""
        coordinates = b.duplicate()
        coordinates.setBlockSize(self.dim)
        x = self.V.tabulate_dof_coordinates()[: self.owned, : self.dim]
        coordinates.setArray(np.ascontiguousarray(x).ravel())
        return PETSc.NullSpace().createRigidBody(coordinates)


class CellField:
    """A discontinuous function and where the input's lattice values go in it."""

    def __init__(self, function: Any, local: Any, dofs: Any) -> None:
        self.function, self.local, self.dofs = function, local, dofs

    def fill(self, values: Any) -> None:
        """Set the values (local cells, n[, d])."""
        spread = values[np.arange(len(values))[:, None], self.local]
        if spread.ndim == 3:
            size = spread.shape[2]
            index = self.dofs[..., None] * size + np.arange(size)
        else:
            index = self.dofs
        self.function.x.array[index] = spread


class Forms:
    """Compiled forms of one kind of problem on one space, with the functions that they read."""

    def __init__(self, space: Space, kind: str, degrees: dict[str, int], arrays: dict[str, Any]) -> None:
        self.space = space
        size = {"source": space.components}
        self.fields = {
            name: space.field(q, size.get(name, 1)) for name, q in degrees.items() if name != "flux"
        }
        self.fluxes: list[CellField] = []
        u, v = ufl.TrialFunction(space.V), ufl.TestFunction(space.V)
        get = {name: f.function for name, f in self.fields.items()}
        if kind == "elastic":
            strain = lambda w: ufl.sym(ufl.grad(w))  # noqa: E731
            a = (
                2 * get["mu"] * ufl.inner(strain(u), strain(v)) + get["lam"] * ufl.div(u) * ufl.div(v)
            ) * ufl.dx
        else:
            a = get["kappa"] * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx
            if "k2" in get:
                a = a - get["k2"] * ufl.inner(u, v) * ufl.dx
        L = ufl.inner(get["source"], v) * ufl.dx
        if "flux" in degrees:
            self.where = self._facets(arrays)
            slots = int(arrays["flux_slots"].max()) + 1
            self.fluxes = [space.field(degrees["flux"], space.components) for _ in range(slots)]
            ds = ufl.Measure("ds", domain=space.mesh, subdomain_data=self.tags)
            for slot, g in enumerate(self.fluxes):
                L = L + ufl.inner(g.function, v) * ds(slot + 1)
        self.a, self.L = fem.form(a), fem.form(L)

    def _facets(self, arrays: dict[str, Any]) -> Any:
        """Tag the facets that carry a flux; return (their number in the input, local cell), (k, 2)."""
        space = self.space
        local = np.full(len(space.cells), -1, dtype=np.int64)
        local[space.origin] = np.arange(len(space.origin))
        cell = local[arrays["flux_cells"]]
        known = np.flatnonzero(cell >= 0)
        cell, opposite = cell[known], arrays["flux_opposite"][known]
        place = (
            positions(space.cells[space.origin[cell]], space.vertices[cell]) if len(cell) else cell[:, None]
        )
        vertex = (place == opposite[:, None]).argmax(axis=1) if len(cell) else cell
        number = 1 - vertex if space.dim == 1 else vertex  # an interval's facet i is its vertex i
        facets = api.facets_of_cells(space.mesh)[cell, number]
        order = np.argsort(facets)
        slots = arrays["flux_slots"][known][order] + 1
        self.tags = api.meshtags(space.mesh, space.dim - 1, facets[order], slots)
        return np.stack([known, cell], axis=1)

    def fill(self, arrays: dict[str, Any]) -> None:
        """Give the functions their values."""
        origin = self.space.origin
        for name, field in self.fields.items():
            field.fill(arrays[f"field_{name}"][origin])
        if self.fluxes:
            known, cell = self.where.T
            values, slots = arrays["flux_values"], arrays["flux_slots"][known]
            for slot, g in enumerate(self.fluxes):
                spread = np.zeros((len(origin), *values.shape[1:]))
                spread[cell[slots == slot]] = values[known[slots == slot]]
                g.fill(spread)


def _assemble(space: Space, params: dict[str, Any], arrays: dict[str, Any]) -> tuple[Any, Any]:
    """Return the PETSc matrix and right-hand side."""
    degrees = {
        name[6:]: lattice_degree(space.dim, values.shape[1])
        for name, values in arrays.items()
        if name.startswith("field_")
    }
    if "flux_values" in arrays:
        degrees["flux"] = lattice_degree(space.dim, arrays["flux_values"].shape[1])
    key = (params["kind"], params["flux_key"], tuple(sorted(degrees.items())))
    if key not in space.forms:
        space.forms[key] = Forms(space, params["kind"], degrees, arrays)
        if len(space.forms) > _KEPT:
            space.forms.popitem(last=False)
    forms = space.forms[key]
    forms.fill(arrays)
    return api.system(forms.a, forms.L, _conditions(space, arrays))


def _conditions(space: Space, arrays: dict[str, Any]) -> list[Any]:
    fixed = arrays["fixed"]
    if not len(fixed):
        return []
    place = np.full(max(int(fixed.max()), int(space.node.max(initial=0))) + 1, -1, dtype=np.int64)
    place[fixed] = np.arange(len(fixed))
    dofs = np.flatnonzero(place[space.node] >= 0)
    values = arrays["fixed_values"].reshape(len(fixed), -1)[place[space.node[dofs]]]
    g = fem.Function(space.V)
    d = space.components
    g.x.array[dofs[:, None] * d + np.arange(d)] = values
    return [fem.dirichletbc(g, dofs.astype(np.int32))]


def _gathered(comm: Any, part: Any) -> Any:
    parts = comm.gather(np.ascontiguousarray(part), root=0)
    return np.concatenate(parts) if comm.rank == 0 else None


def _make_space(comm: Any, params: dict[str, Any], arrays: dict[str, Any]) -> None:
    key = params["space"]
    _spaces[key] = Space(
        comm, arrays["points"], arrays["cells"], arrays["nodes"], params["degree"], params["components"]
    )
    if len(_spaces) > _KEPT:
        _spaces.popitem(last=False)


def perform(comm: Any, op: str, params: dict[str, Any], arrays: dict[str, Any]) -> tuple[Any, Any]:
    """Carry out "space", "assemble" or "solve"; return (meta, arrays), the arrays on rank 0 only."""
    if op == "space":
        _make_space(comm, params, arrays)
        return {}, {}
    if op not in ("assemble", "solve"):
        raise ValueError(f"the worker knows no operation {op!r}")
    if params["space"] not in _spaces:
        raise Forgotten(params["space"])
    space = _spaces[params["space"]]
    _spaces.move_to_end(params["space"])
    begin = time.perf_counter()
    A, b = _assemble(space, params, arrays)
    meta = {"assemble_s": max(comm.allgather(time.perf_counter() - begin))}
    numbers = _gathered(comm, space.numbers())
    if op == "assemble":
        return meta, _matrix_arrays(comm, A, b, numbers)
    if params["kind"] == "elastic":
        A.setNearNullSpace(space.rigid_modes(b))
    if params["singular"]:
        meta["imbalance"] = abs(b.sum()) / max(b.norm(PETSc.NormType.NORM_1), 1e-300)
        kernel = PETSc.NullSpace().create(constant=True, comm=comm)
        kernel.remove(b)
        A.setNullSpace(kernel)
    options = params["options"]
    if options is None:
        options = best_options(params["kind"], params["definite"])
    x, told = timed_solve(comm, A, b, options, rtol=params["rtol"])
    value = _gathered(comm, x.getArray(readonly=True))
    meta.update(told)
    if comm.rank:
        return meta, {}
    ordered = np.empty_like(value)
    ordered[numbers] = value
    return meta, {"value": real(ordered)}


def _matrix_arrays(comm: Any, A: Any, b: Any, numbers: Any) -> dict[str, Any]:
    """Gather matrix, right-hand side and numbering on rank 0; rows are PETSc's."""
    indptr, indices, data = A.getValuesCSR()
    counts, indices = _gathered(comm, np.diff(indptr)), _gathered(comm, indices)
    data, rhs = _gathered(comm, data), _gathered(comm, b.getArray(readonly=True))
    if comm.rank:
        return {}
    starts = np.concatenate([[0], np.cumsum(counts)])
    return {
        "indptr": starts,
        "indices": indices,
        "data": real(data),
        "b": real(rhs),
        "permutation": numbers,
    }
