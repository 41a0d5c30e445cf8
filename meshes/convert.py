"""Conversion to and from scikit-fem, dolfinx, and plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import fenics
from .check import orient
from .errors import BadTag, UnsupportedCells
from .fenics import DolfinxMesh
from .mesh import Mesh
from .topology import find_rows

_SKFEM = {
    "line": "MeshLine1",
    "triangle": "MeshTri1",
    "quad": "MeshQuad1",
    "tetra": "MeshTet1",
    "hexahedron": "MeshHex1",
}
# Which vertex of VTK stands at each place of scikit-fem's hexahedron, (x, y, z) = 000, 001, 010, 100, ...,
# and back.
_SKFEM_HEX = np.array([0, 4, 3, 1, 7, 5, 2, 6])


def _only_block(mesh: Mesh, target: str) -> tuple[str, NDArray[np.int64]]:
    if len(mesh.cells) > 1:
        raise UnsupportedCells(
            f"{target} takes one cell type, the mesh has {sorted(mesh.cells)}: split the quads"
        )
    return next(iter(mesh.cells.items()))


def to_skfem(mesh: Mesh) -> Any:
    """Return scikit-fem's mesh, with the same points and cells in the same order.

    Facet tags become `boundaries`, cell tags `subdomains`. scikit-fem sorts the vertices of triangles and
    numbers facets itself. Data are not carried over: they fit as they are.

    Raises:
        ImportError: when scikit-fem is not installed.
        UnsupportedCells: for mixed cells, and for surfaces and curves in space.
        BadTag: for tags of points in 2D and 3D, and of edges in 3D, which scikit-fem cannot hold.

    >>> from .shapes import box
    >>> sorted(to_skfem(box((2, 2))).boundaries)
    ['xmax', 'xmin', 'ymax', 'ymin']
    """
    import skfem

    name, rows = _only_block(mesh, "scikit-fem")
    if mesh.space_dim > mesh.dim:
        raise UnsupportedCells(
            f"scikit-fem wants {name} cells in {mesh.dim}D, the points have {mesh.space_dim}"
        )
    if name == "hexahedron":
        rows = rows[:, _SKFEM_HEX]
    low = [key for key, (dim, _) in mesh.tags.items() if dim < mesh.dim - 1]
    if low:
        raise BadTag(f"scikit-fem holds tags of cells and facets only, not {low}: leave them out")
    out = getattr(skfem, _SKFEM[name])(
        np.ascontiguousarray(mesh.points.T), np.ascontiguousarray(rows.T.astype(np.int32))
    )
    theirs = np.atleast_2d(out.facets).T.astype(np.int64)
    boundaries, subdomains = {}, {}
    for key, (dim, ids) in mesh.tags.items():
        if dim == mesh.dim:
            subdomains[key] = ids.astype(np.int32)
        else:
            boundaries[key] = np.sort(find_rows(theirs, mesh.facets[ids])).astype(np.int32)
    if boundaries:
        out = out.with_boundaries(boundaries)
    return out.with_subdomains(subdomains) if subdomains else out


def from_skfem(given: Any) -> Mesh:
    """Return the mesh of a scikit-fem mesh of straight cells, with `boundaries` and `subdomains` as tags.

    A name that both use gets "_cells" appended for the subdomain. Cells are turned the right way round.

    Raises:
        UnsupportedCells: for curved cells and other shapes.
    """
    import skfem

    name = next((key for key, cls in _SKFEM.items() if type(given) is getattr(skfem, cls)), None)
    if name is None:
        raise UnsupportedCells(
            f"a {type(given).__name__} of scikit-fem is not among {sorted(_SKFEM.values())}: "
            "convert it to straight lines, triangles, quads, tetrahedra or hexahedra"
        )
    rows = given.t.T.astype(np.int64)
    if name == "hexahedron":
        rows = rows[:, np.argsort(_SKFEM_HEX)]
    points = np.ascontiguousarray(given.p.T, dtype=np.float64)
    mesh = Mesh(points, orient(points, {name: rows}))
    theirs = np.atleast_2d(given.facets).T.astype(np.int64)
    tags = {}
    for key, ids in (given.boundaries or {}).items():
        tags[key] = (mesh.dim - 1, find_rows(mesh.facets, theirs[np.asarray(ids)]))
    for key, ids in (given.subdomains or {}).items():
        tags[f"{key}_cells" if key in tags else key] = (mesh.dim, np.asarray(ids, dtype=np.int64))
    return mesh.with_tags(tags)


def to_arrays(mesh: Mesh) -> dict[str, NDArray[Any]]:
    """Return the mesh and its tags as plain arrays, for an .npz file or another process.

    The keys are described in `solvus.meshes.fenics`.

    Raises:
        UnsupportedCells: for mixed cells.

    >>> from .shapes import box
    >>> sorted(to_arrays(box((2,))))
    ['cell_type', 'cells', 'points', 'tag_0', 'tag_1', 'tag_dims', 'tag_names']
    """
    name, rows = _only_block(mesh, "the array form")
    out: dict[str, NDArray[Any]] = {"points": mesh.points, "cells": rows, "cell_type": np.array(name)}
    out["tag_names"] = np.array(list(mesh.tags), dtype=str)
    out["tag_dims"] = np.array([dim for dim, _ in mesh.tags.values()], dtype=np.int64)
    for i, (key, (dim, ids)) in enumerate(mesh.tags.items()):
        out[f"tag_{i}"] = ids if dim == mesh.dim else mesh.tagged(key)
    return out


def from_arrays(arrays: Mapping[str, Any]) -> Mesh:
    """Return the mesh of `to_arrays`; cells are turned the right way round.

    Raises:
        InvalidMesh: see `Mesh`.
        BadTag: when a tagged part belongs to no cell.
    """
    points = np.asarray(arrays["points"], dtype=np.float64)
    mesh = Mesh(points, orient(points, {str(arrays["cell_type"]): arrays["cells"]}))
    tags = {}
    for i, (name, dim) in enumerate(zip(arrays["tag_names"], arrays["tag_dims"], strict=True)):
        ids = np.asarray(arrays[f"tag_{i}"], dtype=np.int64)
        if dim < mesh.dim:
            ids = find_rows(mesh.entities(int(dim)), ids)
            if (ids < 0).any():
                raise BadTag(f"tag {str(name)!r} holds {(ids < 0).sum()} parts of dimension {dim} of no cell")
        tags[str(name)] = (int(dim), ids)
    return mesh.with_tags(tags)


def to_dolfinx(mesh: Mesh, comm: Any = None) -> DolfinxMesh:
    """Return dolfinx's mesh with the tags in its numbers, and the permutations that it applied.

    Raises:
        ImportError: when this interpreter has no dolfinx.
        UnsupportedCells: for mixed cells.
    """
    return fenics.build(to_arrays(mesh), comm)


def from_dolfinx(
    given: Any, tags: Mapping[str, tuple[int, Any]] | None = None, *, original_order: bool = True
) -> Mesh:
    """Return the mesh of a `DolfinxMesh`, or of dolfinx's own mesh with `tags` in its numbers.

    Args:
        given: what `to_dolfinx` returned, or a dolfinx mesh on one process.
        tags: name -> (dim, entities); default those of the `DolfinxMesh`.
        original_order: number points and cells as dolfinx was given them; else as it numbers them itself.

    Raises:
        ValueError: for curved cells, or a mesh that is spread over processes.
    """
    own, mesh = ({}, given) if not isinstance(given, DolfinxMesh) else (given.tags, given.mesh)
    return from_arrays(fenics.extract(mesh, own if tags is None else tags, original_order))
