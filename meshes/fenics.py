"""Meshes in and out of dolfinx, as plain arrays.

Self-contained (numpy, and dolfinx when called), so that an interpreter with dolfinx but without this package
can load this file by its path. It probes dolfinx's features rather than its version (0.5 to 0.11).

The neutral form of a mesh is a dictionary of plain arrays, fit for an .npz file without pickle:

- points (N, space) float64; cells (M, k) int64 in the vertex order of VTK; cell_type, a string;
- tag_names (T,) strings, tag_dims (T,), and for every tag i tag_<i>: (n, k) point numbers of each tagged
  part, or (n,) cell numbers where the tag has the dimension of the cells.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = dict[str, Any]

_CELL_DIM = {"line": 1, "triangle": 2, "quad": 2, "tetra": 3, "hexahedron": 3}
_FENICS_NAME = {
    "line": "interval",
    "triangle": "triangle",
    "quad": "quadrilateral",
    "tetra": "tetrahedron",
    "hexahedron": "hexahedron",
}
# Where the vertices of VTK's order stand in the tensor order of dolfinx; the same permutation leads back.
_TENSOR_ORDER = {"quad": [0, 1, 3, 2], "hexahedron": [0, 1, 3, 2, 4, 5, 7, 6]}


@dataclass(frozen=True, eq=False)
class DolfinxMesh:
    """A mesh of dolfinx, with what connects it to the mesh that it was made from.

    Args:
        mesh: dolfinx's mesh.
        tags: name -> (dim, entities): dolfinx's numbers of the tagged parts on this process, int32,
        ascending.
        cell_order: (local cells,), the original number of every cell; fields per cell map as
        `ours[cell_order]`.
        point_order: (local nodes,), the original number of every node of the geometry.
    """

    mesh: Any
    tags: dict[str, tuple[int, Any]]
    cell_order: Any
    point_order: Any


def build(arrays: Mapping[str, Any], comm: Any = None) -> DolfinxMesh:
    """Make a mesh of dolfinx from the neutral form.

    Every process needs the arrays; the mesh is distributed from the first one.

    Args:
        arrays: the neutral form.
        comm: an MPI communicator, default the world.

    Raises:
        ImportError: when this interpreter has no dolfinx.
    """
    from mpi4py import MPI

    comm = MPI.COMM_WORLD if comm is None else comm
    cell_type = str(arrays["cell_type"])
    points, cells = np.asarray(arrays["points"], np.float64), np.asarray(arrays["cells"], np.int64)
    given = np.ascontiguousarray(cells[:, _TENSOR_ORDER.get(cell_type, slice(None))])
    first = comm.rank == 0
    share = (given if first else given[:0], points if first else points[:0])
    mesh = _create_mesh(comm, cell_type, *share)
    mesh.topology.create_connectivity(mesh.topology.dim, 0)
    cell_order = _array(mesh.topology.original_cell_index)
    if comm.size > 1:
        cell_order = _original_cells(mesh, cells)
    point_order = _array(mesh.geometry.input_global_indices)
    tags = {}
    for i, (name, dim) in enumerate(zip(arrays["tag_names"], arrays["tag_dims"], strict=True)):
        wanted = np.asarray(arrays[f"tag_{i}"], np.int64)
        rows = cells[wanted] if int(dim) == _CELL_DIM[cell_type] else wanted
        tags[str(name)] = (int(dim), locate_entities(mesh, int(dim), rows))
    return DolfinxMesh(mesh, tags, cell_order, point_order)


def _create_mesh(comm: Any, cell_type: str, cells: Any, points: Any) -> Any:
    import inspect

    import dolfinx.mesh
    import ufl

    name, space = _FENICS_NAME[cell_type], points.shape[1]
    try:
        import basix.ufl

        element = basix.ufl.element("Lagrange", name, 1, shape=(space,))
    except ImportError:  # before 0.7
        cell = ufl.Cell(name, geometric_dimension=space)
        element = ufl.VectorElement("Lagrange", cell, 1, dim=space)
    options = inspect.signature(dolfinx.mesh.create_mesh).parameters
    domain = {"e" if "e" in options else "domain": ufl.Mesh(element)}
    return dolfinx.mesh.create_mesh(comm=comm, cells=cells, x=points, **domain)


def mesh_tags(built: DolfinxMesh, dim: int) -> tuple[Any, dict[str, int]]:
    """Return dolfinx's MeshTags of all tags of a dimension, and the value that stands for each name (from 1).

    Raises:
        ValueError: when two of the tags share a part, which MeshTags cannot express.
    """
    import dolfinx.mesh

    chosen = [(name, ids) for name, (tag_dim, ids) in built.tags.items() if tag_dim == dim]
    values = {name: i for i, (name, _) in enumerate(chosen, start=1)}
    ids = np.concatenate([np.zeros(0, np.int32), *(ids for _, ids in chosen)]).astype(np.int32)
    marks = [np.zeros(0, np.int32), *(np.full(len(ids), values[name], np.int32) for name, ids in chosen)]
    if len(np.unique(ids)) < len(ids):
        raise ValueError(
            f"the tags {sorted(values)} of dimension {dim} overlap, and MeshTags hold one value per part: "
            "use the entities in `tags` one by one"
        )
    order = np.argsort(ids)
    return dolfinx.mesh.meshtags(built.mesh, dim, ids[order], np.concatenate(marks)[order]), values


def locate_entities(mesh: Any, dim: int, rows: Any) -> Any:
    """Return dolfinx's numbers of the parts with the original point numbers `rows` (n, k), int32, ascending.

    Parts that live on other processes are left out.
    """
    if not len(rows):
        return np.zeros(0, np.int32)
    mesh.topology.create_entities(dim)
    vertices = np.sort(_entity_points(mesh, dim), axis=1)
    rows = np.unique(np.sort(np.asarray(rows, np.int64), axis=1), axis=0)
    both = np.concatenate([rows, vertices])
    _, number = np.unique(both, axis=0, return_inverse=True)
    number = number.ravel()
    return np.flatnonzero(np.isin(number[len(rows) :], number[: len(rows)])).astype(np.int32)


def _entity_points(mesh: Any, dim: int) -> Any:
    """Return the original point numbers of all local parts of a dimension, (n, k)."""
    topology, tdim = mesh.topology, mesh.topology.dim
    topology.create_connectivity(tdim, 0)
    vertices = _array(topology.connectivity(tdim, 0))
    nodes = _array(mesh.geometry.dofmap)
    of_vertex = np.empty(int(vertices.max()) + 1 if len(vertices) else 0, np.int64)
    of_vertex[vertices.ravel()] = _array(mesh.geometry.input_global_indices)[nodes.ravel()]
    if dim == 0:
        return of_vertex[:, None]
    topology.create_connectivity(dim, 0)
    links = topology.connectivity(dim, 0)
    width = len(links.links(0)) if links.num_nodes else 1
    return of_vertex[_array(links).reshape(-1, width)]


def _original_cells(mesh: Any, cells: Any) -> Any:
    """Return the original numbers of the local cells by their vertices (numbers differ between processes)."""
    local = np.sort(_entity_points(mesh, mesh.topology.dim), axis=1)
    both = np.concatenate([np.sort(cells, axis=1), local])
    first, number = np.unique(both, axis=0, return_index=True, return_inverse=True)[1:]
    return first[number.ravel()[len(cells) :]]


def _array(given: Any) -> Any:
    """Return dolfinx's adjacency lists and vectors as flat or rectangular int64 arrays."""
    return np.asarray(given.array if hasattr(given, "array") else given, np.int64)


def extract(
    mesh: Any, tags: Mapping[str, tuple[int, Any]] | None = None, original_order: bool = True
) -> Arrays:
    """Return the neutral form of a mesh of dolfinx that lives on one process.

    Args:
        mesh: dolfinx's, of straight cells.
        tags: name -> (dim, entities) in dolfinx's numbers, e.g. from `meshtags.find(value)`.
        original_order: number points and cells as they were given to dolfinx, which renumbers them; else as
            it numbers them itself, so that its arrays fit.

    Raises:
        ValueError: for curved cells, or a mesh that is spread over processes.
    """
    if mesh.comm.size > 1:
        raise ValueError(
            f"the mesh is spread over {mesh.comm.size} processes: gather it on one, e.g. through a file"
        )
    topology, geometry = mesh.topology, mesh.geometry
    tdim, names = topology.dim, {v: k for k, v in _FENICS_NAME.items()}
    name = str(topology.cell_type if hasattr(topology, "cell_type") else topology.cell_types[0])
    cell_type = names[name.rsplit(".", 1)[-1]]
    width = {"line": 2, "triangle": 3, "quad": 4, "tetra": 4, "hexahedron": 8}[cell_type]
    n_cells = topology.index_map(tdim).size_local
    nodes = _array(geometry.dofmap).reshape(n_cells, -1)
    if nodes.shape[1] != width:
        raise ValueError(
            f"cells have {nodes.shape[1]} nodes, straight ones have {width}: use a mesh of degree 1"
        )
    cells = nodes[:, _TENSOR_ORDER.get(cell_type, slice(None))]
    space = int(geometry.dim)
    points = np.array(geometry.x[:, :space], np.float64)
    to_point = _array(geometry.input_global_indices)
    to_cell = _array(topology.original_cell_index)
    inverse = np.empty_like(to_point)
    inverse[to_point] = np.arange(len(to_point))
    if original_order:
        points[to_point] = points.copy()
        cells = to_point[cells]
        cells[to_cell] = cells.copy()
    out: Arrays = {"points": points, "cells": cells, "cell_type": np.array(cell_type)}
    given = dict(tags or {})
    out["tag_names"] = np.array(list(given), dtype=str)
    out["tag_dims"] = np.array([dim for dim, _ in given.values()], np.int64)
    for i, (dim, entities) in enumerate(given.values()):
        ids = np.asarray(entities, np.int64)
        if dim == tdim:
            out[f"tag_{i}"] = to_cell[ids] if original_order else ids
            continue
        topology.create_entities(dim)
        rows = _entity_points(mesh, dim)[ids]
        out[f"tag_{i}"] = rows if original_order else inverse[rows]
    return out
