"""Meshes of geometries, by gmsh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..check import orient
from ..mesh import Mesh
from ..topology import SIMPLEX, find_rows
from .balls import Ball, Disc
from .base import Geometry
from .boxes import Box, Rectangle
from .combine import Difference, Intersection, Union
from .ellipse import Ellipse
from .errors import EmptyGeometry, InvalidGeometry
from .polygon import Polygon
from .shape import Shape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_OPTIONS = {
    "General.Terminal": 0,
    "General.NumThreads": 1,  # more threads change the mesh from run to run
    "Geometry.OCCUnionUnify": 0,  # keep the ends of the shapes' sides, where names change
    "Mesh.MeshSizeExtendFromBoundary": 1,
}
_PER_EDGE = 4  # cells along the shortest edges
_GROWTH = 0.4  # of the cells' size over the distance from small features
_ELEMENT = {1: 1, 2: 2, 3: 4}  # gmsh's numbers of lines, triangles and tetrahedra
_CLOSE = 1e-6  # of the geometry's size: what OpenCASCADE and the shapes may differ by


def mesh_of(geometry: Geometry, size: float, *, around: int = 24) -> Mesh:
    """Mesh a geometry of two or three dimensions by triangles or tetrahedra, with gmsh.

    The shapes are combined exactly (OpenCASCADE) and then meshed. Cells get smaller near small features: to a
    quarter of the length of short edges, and on curved boundaries to `around` per full turn. Facets of
    the boundary are tagged with the names of the parts that they lie on, all names where parts coincide.
    Equal calls give equal meshes.

    Args:
        geometry: rectangles, boxes, discs, balls, ellipses, polygons, and combinations of them.
        size: largest length of edges, about; good values are 1/10 to 1/100 of the geometry's size.
        around: edges around a full circle, at least.

    Raises:
        ImportError: gmsh is not there.
        InvalidGeometry: another dimension or shape, or a size that is not positive.
        EmptyGeometry: nothing is left to mesh.

    >>> from solvus.meshes.geometry import Disc, Rectangle, mesh_of
    >>> mesh = mesh_of(Rectangle((0, 0), (2, 1)) - Disc((1, 0.5), 0.2), 0.2)  # doctest: +SKIP
    >>> sorted(mesh.tags), round(mesh.volumes.sum(), 2)  # doctest: +SKIP
    (['circle', 'xmax', 'xmin', 'ymax', 'ymin'], 1.88)
    """
    if geometry.dim not in (2, 3):
        raise InvalidGeometry(
            f"mesh_of meshes two or three dimensions, {geometry!r} has {geometry.dim}: use meshes.box in 1D"
        )
    if not (isfinite(size) and size > 0 and around >= 3):
        raise InvalidGeometry(f"size must be positive and around at least 3, got {size} and {around}")
    _check_shapes(geometry)
    with _session() as gmsh:
        if not _build(gmsh.model.occ, geometry):
            raise EmptyGeometry(f"nothing is left of {geometry!r} to mesh: check sizes and positions")
        gmsh.model.occ.synchronize()
        _set_sizes(gmsh, geometry, size, around)
        gmsh.model.mesh.generate(geometry.dim)
        return _mesh(gmsh, geometry)


def _check_shapes(geometry: Geometry) -> None:
    for shape in geometry.shapes:
        if not isinstance(shape, Rectangle | Box | Disc | Ball | Ellipse | Polygon):
            raise InvalidGeometry(
                f"{shape!r} is a {type(shape).__name__}, which mesh_of does not treat: it takes Rectangle, "
                "Box, Disc, Ball, Ellipse and Polygon"
            )


@contextmanager
def _session() -> Iterator[Any]:
    """Run gmsh silently on a model of its own, without signal handlers; leave it as it was found."""
    try:
        import gmsh
    except (ImportError, OSError) as error:
        raise ImportError(
            f"meshing geometries needs gmsh, which cannot be imported ({error}): pip install solvus[fem], "
            "and install the system libraries that the message names, if it does"
        ) from error
    running = bool(gmsh.isInitialized())
    if not running:
        gmsh.initialize(readConfigFiles=False, interruptible=False)
    options = [*_OPTIONS, "Mesh.MeshSizeMax", "Mesh.MeshSizeFromCurvature"]
    before = {name: gmsh.option.getNumber(name) for name in options}
    model = gmsh.model.getCurrent() if running else ""
    try:
        for name, value in _OPTIONS.items():
            gmsh.option.setNumber(name, value)
        gmsh.model.add("solvus")
        yield gmsh
    finally:
        if running:
            gmsh.model.remove()
            gmsh.model.setCurrent(model)
            for name, value in before.items():
                gmsh.option.setNumber(name, value)
        else:
            gmsh.finalize()


def _build(occ: Any, geometry: Geometry) -> list[tuple[int, int]]:
    """Add a geometry to the model; return the numbers of its pieces."""
    if isinstance(geometry, Union | Intersection | Difference):
        left, right = _build(occ, geometry.left), _build(occ, geometry.right)
        if not left or not right:
            keep = left or right if isinstance(geometry, Union) else left
            if isinstance(geometry, Intersection):
                occ.remove(left + right, recursive=True)
                keep = []
            return keep
        combine = {Union: occ.fuse, Intersection: occ.intersect, Difference: occ.cut}[type(geometry)]
        return combine(left, right)[0]
    return [(geometry.dim, _add(occ, geometry))]


def _add(occ: Any, shape: Geometry) -> int:
    if isinstance(shape, Rectangle):
        return occ.addRectangle(*shape.lower, 0.0, *np.subtract(shape.upper, shape.lower))
    if isinstance(shape, Box) and shape.dim == 3:
        return occ.addBox(*shape.lower, *np.subtract(shape.upper, shape.lower))
    if isinstance(shape, Box):
        return occ.addRectangle(*shape.lower, 0.0, *np.subtract(shape.upper, shape.lower))
    if isinstance(shape, Ball) and shape.dim == 3:
        return occ.addSphere(*shape.centre, shape.radius)
    if isinstance(shape, Disc | Ball):
        return occ.addDisk(*shape.centre, 0.0, shape.radius, shape.radius)
    if isinstance(shape, Ellipse):
        disk = occ.addDisk(*shape.centre, 0.0, max(shape.axes), min(shape.axes))
        turn = shape.angle + (np.pi / 2 if shape.axes[0] < shape.axes[1] else 0.0)
        occ.rotate([(2, disk)], *shape.centre, 0.0, 0.0, 0.0, 1.0, turn)
        return disk
    assert isinstance(shape, Polygon)
    points = [occ.addPoint(x, y, 0.0) for x, y in shape.corners]
    sides = [occ.addLine(a, b) for a, b in zip(points, [*points[1:], points[0]], strict=True)]
    return occ.addPlaneSurface([occ.addCurveLoop(sides)])


def _set_sizes(gmsh: Any, geometry: Geometry, size: float, around: int) -> None:
    """Make cells small at short and at curved edges, growing by a fixed share of the distance from them."""
    gmsh.option.setNumber("Mesh.MeshSizeMax", size)
    gmsh.option.setNumber("Mesh.MeshSizeFromCurvature", around)
    field, bounds = gmsh.model.mesh.field, []
    for _, curve in gmsh.model.getEntities(1):
        wanted = gmsh.model.occ.getMass(1, curve) / _PER_EDGE
        if geometry.dim == 3 and gmsh.model.getType(1, curve) != "Line":  # poles and seams of balls
            continue
        (first,), (last,) = gmsh.model.getParametrizationBounds(1, curve)
        bend = float(np.max(gmsh.model.getCurvature(1, curve, np.linspace(first, last, 17))))
        if bend > 0:
            wanted = min(wanted, 2 * np.pi / (bend * around))
        if wanted >= size:
            continue
        away, graded = field.add("Distance"), field.add("Threshold")
        field.setNumbers(away, "CurvesList", [curve])
        field.setNumber(away, "Sampling", 200)
        values = {"InField": away, "SizeMin": wanted, "SizeMax": size, "DistMin": wanted}
        for name, value in {**values, "DistMax": wanted + (size - wanted) / _GROWTH}.items():
            field.setNumber(graded, name, value)
        bounds.append(graded)
    if bounds:
        least = field.add("Min")
        field.setNumbers(least, "FieldsList", bounds)
        field.setAsBackgroundMesh(least)


def _mesh(gmsh: Any, geometry: Geometry) -> Mesh:
    """Take the mesh out of gmsh, and tag its boundary."""
    dim = geometry.dim
    names, flat, _ = gmsh.model.mesh.getNodes()
    cells = gmsh.model.mesh.getElementsByType(_ELEMENT[dim])[1].reshape(-1, dim + 1)
    used, rows = np.unique(cells, return_inverse=True)
    order = np.argsort(names)
    points = flat.reshape(-1, 3)[order[np.searchsorted(names, used, sorter=order)], :dim]
    rows = rows.reshape(cells.shape).astype(np.int64)
    mesh = Mesh(points, orient(points, {SIMPLEX[dim]: rows}))
    tags: dict[str, list[Ints]] = {}
    for _, piece in gmsh.model.getEntities(dim - 1):
        nodes = gmsh.model.mesh.getElementsByType(_ELEMENT[dim - 1], piece)[1].reshape(-1, dim)
        if not len(nodes):
            continue
        facets = find_rows(mesh.facets, np.searchsorted(used, nodes))
        facets = facets[np.isin(facets, mesh.boundary_facets)]
        for name in _names(geometry, _places(gmsh, dim, piece)):
            tags.setdefault(name, []).append(facets)
    joined = {name: np.unique(np.concatenate(found)) for name, found in tags.items()}
    return mesh.with_tags({name: (dim - 1, joined[name]) for name in sorted(joined) if len(joined[name])})


def _places(gmsh: Any, dim: int, piece: int) -> Floats:
    """Return some points of a piece of the boundary, (n, dim): inside an edge, or the nodes of a surface."""
    if dim == 3:
        return gmsh.model.mesh.getNodes(2, piece, includeBoundary=True)[1].reshape(-1, 3)
    (first,), (last,) = gmsh.model.getParametrizationBounds(1, piece)
    return np.reshape(gmsh.model.getValue(1, piece, np.linspace(first, last, 9)[1:-1]), (-1, 3))[:, :2]


def _names(geometry: Geometry, places: Floats) -> set[str]:
    """Return the names of all parts that hold the points."""
    close = _CLOSE * float(np.subtract(geometry.upper, geometry.lower).max())
    held = [shape for shape in geometry.shapes if (np.abs(shape.distance(places)) <= close).all()]
    return reduce(lambda names, shape: names | _named(shape, places), held, set[str]())


def _named(shape: Shape, places: Floats) -> set[str]:
    part = shape.parts[int(np.bincount(shape.part_at(places)).argmax())]
    return {part.name, *part.also}
