"""Uniform points of any geometry and its boundary.

Interior: a point is drawn from the shapes of the geometry's cover, each as often as its volume says, and kept
when it lies in the geometry and in no earlier shape of the cover; thin geometries are covered by small boxes
instead. Boundary: a point is drawn from all selected parts of all shapes, each as often as its measure says,
and kept when one side of it lies in the geometry and the other does not, and when it lies on no earlier
selected part. Both are uniform, however shapes are nested.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import TypeAlias, final, get_args

import numpy as np
from scipy.stats import qmc

from .base import Bools, BoundaryPoints, Floats, Geometry, Ints, Method, On
from .cells import Cells
from .errors import BadPoints, EmptyBoundary, EmptyGeometry
from .selection import Selection, select
from .shape import Shape, Solid

Source: TypeAlias = Callable[[int], Floats]  # m -> (m, draws) numbers of [0, 1)
Rows: TypeAlias = tuple[np.ndarray, ...]  # arrays of one length

_PATIENCE = 2**21  # candidates after which a share of accepted ones below _LEAST gives up
_LEAST = 1e-6
_BATCH = 2**18
_PILOT = 2**10
_THIN = 1 / 32  # share of candidates below which `Cells` are worth while


def draw_interior(geometry: Geometry, n: int, generator: np.random.Generator, method: Method) -> Floats:
    """Draw uniform points of the interior, see `Geometry.sample`."""
    n = _count(n)
    cover = geometry.cover
    from_cover, whole = _CoverFill(geometry), isinstance(geometry, Solid)
    thin = not whole and geometry.dim <= 3 and _share(from_cover, geometry) < _THIN
    cells = Cells(geometry) if thin else None
    least = _LEAST if cells is None else _LEAST * from_cover.volume / max(cells.volume, 1e-300)
    source = _source(geometry.dim + 1 if cells else from_cover.draws, generator, method)

    def propose(m: int) -> Rows:
        points = cells.fill(source(m)) if cells else from_cover(source(m))
        return (points if whole else points[geometry._contains(points)],)

    def failure(kept: int, tried: int) -> EmptyGeometry:
        boxes = f", {len(cells.corners)} boxes around what may be left of it," if cells else ""
        return EmptyGeometry(
            f"{geometry!r} has no interior to draw from: of {tried} points, uniform in "
            f"{' and '.join(map(repr, cover[:3]))}{' and more' if len(cover) > 3 else ''}{boxes} {kept} "
            "lay inside. One in a million of its cover is needed: check sizes and positions of the shapes"
        )

    if cells and not len(cells.corners):
        raise failure(0, 0)
    return _collect(n, propose, failure, least)[0] if n else np.empty((0, geometry.dim))


@final
class _CoverFill:
    """Map uniform numbers to uniform points of the union of a geometry's cover."""

    def __init__(self, geometry: Geometry) -> None:
        self.cover = geometry.cover
        self.volumes = np.array([solid.volume() for solid in self.cover])
        self.volume = float(self.volumes.sum())
        self.draws = _draws([solid.fill_draws for solid in self.cover], len(self.cover))

    def __call__(self, numbers: Floats) -> Floats:
        which, rest = _pick(self.volumes, numbers)
        points = np.empty((len(numbers), self.cover[0].dim))
        for i, solid in enumerate(self.cover):
            mine = which == i
            points[mine] = solid.fill(rest[mine, : solid.fill_draws])
        keep = np.ones(len(points), dtype=bool)
        for i, solid in enumerate(self.cover[:-1]):
            keep[which > i] &= ~solid._contains(points[which > i])
        return points[keep]


def _share(from_cover: _CoverFill, geometry: Geometry) -> float:
    """Estimate the share of candidates that lie in a geometry, from a few."""
    points = from_cover(np.random.default_rng(0).random((_PILOT, from_cover.draws)))
    return float(geometry._contains(points).sum()) / _PILOT


def draw_boundary(
    geometry: Geometry, n: int, generator: np.random.Generator, on: On, method: Method
) -> BoundaryPoints:
    """Draw uniform points of the boundary, see `Geometry.sample_boundary`."""
    n = _count(n)
    selection = select(geometry.parts, on)
    weights = np.where(selection.candidates, _measures(geometry), 0.0)
    shapes = geometry.shapes
    source = _source(_draws([s.wrap_draws for s in shapes], len(weights)), generator, method)

    def propose(m: int) -> Rows:
        part, numbers = _pick(weights, source(m))
        return _kept(geometry, selection, part, numbers)

    def failure(kept: int, tried: int) -> EmptyBoundary:
        return EmptyBoundary(
            f"{kept} of {tried} points of the parts that on={on!r} can mean lay on the boundary of "
            f"{geometry!r} and were selected, at least one in a million is needed: select a part that bounds "
            "the result, or a predicate with some room for rounding"
        )

    if not weights.any():
        raise failure(0, 0)
    if not n:
        return BoundaryPoints(
            np.empty((0, geometry.dim)), np.empty((0, geometry.dim)), np.empty(0, dtype=np.int64)
        )
    return BoundaryPoints(*_collect(n, propose, failure))


def measure_boundary(geometry: Geometry, on: On) -> float:
    """Return the measure of the selected boundary, see `Geometry.boundary_measure`."""
    selection = select(geometry.parts, on)
    measures = np.where(selection.candidates, _measures(geometry), 0.0)
    if isinstance(geometry, Shape) and not selection.predicates:
        return float(measures.sum())
    total, used = 0.0, np.flatnonzero(measures)
    draws = max(s.wrap_draws for s in geometry.shapes)
    per_part = 2 ** int(np.clip(18 - np.ceil(np.log2(max(len(used), 1))), 8, 13)) if draws else 1
    for part in used:
        numbers = _source(draws, np.random.default_rng(0), "sobol")(per_part)
        kept = _kept(geometry, selection, np.full(per_part, part), numbers)[0]
        total += float(measures[part]) * len(kept) / per_part
    return total


def share_inside(inner: Geometry, outer: Geometry) -> float:
    """Estimate the share of `inner`'s volume that lies in `outer`, from 2^16 quasi-random points."""
    try:
        points = inner.sample(2**16, np.random.default_rng(0), "sobol")
    except EmptyGeometry:
        return 0.0
    return float(outer._contains(points).mean())


def _kept(geometry: Geometry, selection: Selection, part: Ints, numbers: Floats) -> Rows:
    """Map numbers to points of the parts (m,); return those on the selected boundary, normals, and parts."""
    points, normals = np.empty((len(part), geometry.dim)), np.empty((len(part), geometry.dim))
    shapes = geometry.shapes
    first = np.cumsum([0] + [len(shape.measures) for shape in shapes])
    which = np.searchsorted(first, part, side="right") - 1
    for i, shape in enumerate(shapes):
        mine = which == i
        if mine.any():
            points[mine], normals[mine] = shape.wrap(part[mine] - first[i], numbers[mine, : shape.wrap_draws])
    named = selection.whole[part]
    keep = named if not selection.predicates else named | selection.where(points)
    if isinstance(geometry, Shape):
        return points[keep], normals[keep], part[keep]
    points, normals, part, which = points[keep], normals[keep], part[keep], which[keep]
    leaves = geometry._contains(points + geometry.tolerance * normals)
    keep = geometry._contains(points - geometry.tolerance * normals) != leaves
    normals = np.where(leaves[:, None], -normals, normals)
    for i, shape in enumerate(shapes[:-1]):
        if selection.candidates[first[i] : first[i + 1]].any():
            keep &= ~_also_on(shape, points, (which > i) & keep, selection, int(first[i]), geometry.tolerance)
    return points[keep], normals[keep], part[keep]


def _also_on(
    shape: Shape, points: Floats, asked: Bools, selection: Selection, first: int, tolerance: float
) -> Bools:
    """Return which of the points asked for lie on a selected part of a shape, (m,)."""
    out = asked.copy()
    lower, upper = np.array(shape.lower) - tolerance, np.array(shape.upper) + tolerance
    out[out] = ((points[out] >= lower) & (points[out] <= upper)).all(axis=1)
    out[out] = shape.touches(points[out], tolerance)
    if out.any():
        whole = selection.whole[first + shape.part_at(points[out])]
        out[out] = whole if not selection.predicates else whole | selection.where(points[out])
    return out


def _measures(geometry: Geometry) -> Floats:
    return np.concatenate([shape.measures for shape in geometry.shapes])


def _draws(per_shape: list[int], choices: int) -> int:
    """Numbers per point: those of the shapes, and one for the choice where there is one."""
    return max(per_shape) + (choices > 1)


def _pick(weights: Floats, numbers: Floats) -> tuple[Ints, Floats]:
    """Choose by the first number with chances in proportion to weights; return the choices and the rest."""
    if len(weights) == 1:
        return np.zeros(len(numbers), dtype=np.int64), numbers
    ends = np.cumsum(weights)
    which = np.searchsorted(ends, numbers[:, 0] * ends[-1], side="right")
    return np.minimum(which, np.flatnonzero(weights)[-1]), numbers[:, 1:]


def _source(draws: int, generator: np.random.Generator, method: Method) -> Source:
    if method not in get_args(Method):
        raise ValueError(f"the method of drawing points is 'uniform' or 'sobol', not {method!r}")
    if method == "uniform" or not draws:
        return lambda m: generator.random((m, draws))
    engine = qmc.Sobol(draws, scramble=True, seed=generator)
    return engine.random  # asked for powers of two only


def _collect(
    n: int, propose: Callable[[int], Rows], failure: Callable[[int, int], ValueError], least: float = _LEAST
) -> Rows:
    """Return the first n rows that `propose` keeps, from as many candidates as it takes."""
    found: list[Rows] = []
    kept = tried = 0
    batch = min(_power(n), _BATCH)
    while kept < n:
        found.append(propose(batch))
        kept, tried = kept + len(found[-1][0]), tried + batch
        if tried >= _PATIENCE and kept <= least * tried:
            raise failure(kept, tried)
        wanted = 1.1 * (n - kept) * tried / kept if kept else 4 * batch
        batch = min(_power(wanted), _BATCH)
    return tuple(np.concatenate(columns)[:n] for columns in zip(*found, strict=True))


def _power(n: float) -> int:
    return max(64, 2 ** int(np.ceil(np.log2(max(n, 1)))))


def _count(n: int) -> int:
    try:
        out = index(n)
    except TypeError:
        out = -1
    if out < 0:
        raise BadPoints(f"the number of points must be a whole number from 0, got {n!r}")
    return out
