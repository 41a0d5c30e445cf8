"""Random domains in the plane, star-shaped, with or without a hole, and their triangle meshes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import final

import numpy as np
from numpy.typing import NDArray

from .measure import signed_volumes
from .mesh import Mesh
from .outlines import NoShape, Outline, PolygonOutline, SmoothOutline, unit
from .shapes import disc

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EVEN = np.arange(512) / 512
_TRIES = 1000
_ASPECT = float(np.sqrt(3.0) / 2)  # height of a regular triangle of unit edge


class OutlineKind(StrEnum):
    """What outlines a random shape has."""

    SMOOTH = "smooth"  # a random Fourier series
    POLYGON = "polygon"
    MIXED = "mixed"  # one or the other, with equal chance


def shape_mesh(outline: Outline, edge: float, hole: SmoothOutline | None = None) -> Mesh:
    """Mesh the inside of an outline, outside of a hole, by triangles of a given edge on average.

    Without a hole: the rings of `meshes.disc`, every ray scaled to the outline. With one: rows of triangles
    between the two curves, their size proportional to the distance from the origin, so finest at the hole.
    Corners of a polygon are points of the mesh. Edges of the boundary are tagged "outer" and "hole".

    Raises:
        ValueError: edge <= 0. NoShape: cells would fold over, or the hole meets the outline.

    >>> shape_mesh(SmoothOutline(np.zeros(1), np.zeros(1)), 0.25)
    Mesh(61 points in 2D, 96 triangles, tags: outer)
    """
    if not edge > 0:
        raise ValueError(f"the edge length must be positive, got {edge}: good values are 0.02 to 0.3")
    points, rows, outer = _rings(outline, edge) if hole is None else _rows(outline, hole, edge)
    if signed_volumes("triangle", points[rows]).min() <= 0:
        raise NoShape("the cells fold over: the outline is too far from a circle for its edge length")
    mesh = Mesh(points, {"triangle": rows})
    facets = mesh.boundary_facets
    on_outer = np.isin(mesh.facets[facets], outer).all(axis=1)
    tags = {"outer": (1, facets[on_outer])}
    return mesh.with_tags(tags if hole is None else {**tags, "hole": (1, facets[~on_outer])})


def angles(mesh: Mesh) -> Floats:
    """Return the smallest angle of every triangle in degrees, (n_cells,).

    >>> from .shapes import box
    >>> angles(box((1, 1))).round(6).tolist()
    [45.0, 45.0]
    """
    corners = mesh.points[mesh.simplices]
    sides = np.roll(corners, -1, axis=1) - corners  # (M, 3, 2)
    lengths = np.sqrt((sides * sides).sum(axis=2))
    cosine = -(sides * np.roll(sides, 1, axis=1)).sum(axis=2) / (lengths * np.roll(lengths, 1, axis=1))
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)).min(axis=1))


def _area(points: Floats) -> float:
    """Area inside a closed polygon."""
    x, y = points.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def _rings(outline: Outline, edge: float) -> tuple[Floats, Ints, Ints]:
    """Return points, triangles, and the numbers of the points of the outline."""
    n = max(2, round(float(np.sqrt(_area(outline.at(_EVEN, len(_EVEN))) / 6 / _ASPECT * 2)) / edge))
    model = disc(n)
    points = np.zeros((model.n_points, 2))
    for ring in range(1, n + 1):
        first = 1 + 3 * ring * (ring - 1)
        points[first : first + 6 * ring] = (ring / n) * outline.at(np.arange(6 * ring) / (6 * ring), 6 * n)
    return points, model.simplices, np.arange(model.n_points - 6 * n, model.n_points)


def _rows(outline: Outline, hole: SmoothOutline, edge: float) -> tuple[Floats, Ints, Ints]:
    """As `_rings`, for a shape with a hole; every second row stands half a triangle aside."""
    inside, ratios = _ratios(outline, hole, _EVEN, len(_EVEN))
    if ratios.min() <= 1:
        raise NoShape("the hole meets the outline: use a smaller hole")
    area = _area(outline.at(_EVEN, len(_EVEN))) - _area(inside)
    turns = float(np.log(ratios).mean()) / (2 * np.pi)  # height of the rows when the way round has length 1
    count = max(12, round(float(np.sqrt(area / turns)) / edge))
    layers = max(2, round(turns * count / _ASPECT))
    i = np.arange(count)
    points, rows = [], []
    for layer in range(layers + 1):
        aside = 0.5 * ((layers - layer) % 2)
        inner, ratio = _ratios(outline, hole, (i + aside) / count, count)
        points.append(inner * (ratio ** (layer / layers))[:, None])
        if layer == layers:
            break
        here, above, ahead = layer * count + i, (layer + 1) * count + i, (i + 1) % count - i
        tip, foot = (above + ahead, here) if aside else (above, here + ahead)  # opposite to the two bases
        rows += [np.stack([here + ahead, here, tip], axis=1), np.stack([above, above + ahead, foot], axis=1)]
    return np.concatenate(points), np.concatenate(rows), np.arange(layers * count, (layers + 1) * count)


def _ratios(outline: Outline, hole: SmoothOutline, fraction: Floats, count: int) -> tuple[Floats, Floats]:
    """Return the hole's points on the rays through points of the outline, and how much farther those are."""
    outer = outline.at(fraction, count)
    angle = np.arctan2(outer[:, 1], outer[:, 0])
    inner = hole.radius(angle)
    return inner[:, None] * unit(angle), np.hypot(*outer.T) / inner


@final
@dataclass(frozen=True)
class RandomShapes:
    """Draw random domains around the origin, of mean radius about 1.

    Smooth outlines: r(angle) = 1 + a Fourier series of independent normal coefficients that decay as
    k^-decay and make a standard deviation of `amplitude` in every direction. Polygons: 3 to `corners` corners
    near equal angles, at radii 1 +- 2 amplitude. Drawn again until the outline bends at most 50 degrees
    from a circle and keeps its distance from the origin, polygons until their interior angles lie between 60
    and 240 degrees. That does not look at the mesh: one generator draws one shape, whatever the edge length.

    Args:
        edge: length of the triangles' edges, on average.
        outline: smooth, polygon or mixed.
        amplitude: 0 to 0.3.
        modes: of the Fourier series.
        decay: of its coefficients.
        corners: most corners of a polygon, 3 to 8.
        holes: the chance that a shape has a hole, 0 to 1.
        min_angle: no angle of a triangle is smaller, in degrees.

    Raises:
        ValueError: settings out of range.

    >>> RandomShapes(edge=0.3).draw(np.random.default_rng(1)).tags.keys()
    dict_keys(['outer'])
    """

    edge: float = 0.1
    outline: OutlineKind = OutlineKind.MIXED
    amplitude: float = 0.15
    modes: int = 6
    decay: float = 1.5
    corners: int = 7
    holes: float = 0.0
    min_angle: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "outline", OutlineKind(self.outline))
        if not 0 <= self.amplitude <= 0.3:
            raise ValueError(f"amplitude must lie between 0 and 0.3, got {self.amplitude}")
        if not 3 <= self.corners <= 8 or self.modes < 1:
            raise ValueError(f"corners go from 3 to 8 and modes from 1, got {self.corners} and {self.modes}")
        if not (self.edge > 0 and 0 <= self.holes <= 1 and 0 <= self.min_angle < 60):
            raise ValueError(
                f"needs edge > 0, holes a chance from 0 to 1, min_angle below 60 degrees, got {self.edge}, "
                f"{self.holes} and {self.min_angle}"
            )

    @property
    def typical_points(self) -> int:
        """About how many points a mesh has."""
        return round(3.6 / self.edge**2 + 3.3 / self.edge)

    def draw(self, generator: np.random.Generator) -> Mesh:
        """Draw a shape and mesh it.

        Raises:
            NoShape: a thousand tries gave none.
        """
        for _ in range(_TRIES):
            outline, hole = self.draw_outline(generator)
            try:
                mesh = shape_mesh(outline, self.edge, hole)
            except NoShape:
                continue
            if angles(mesh).min() >= self.min_angle:
                return mesh
        raise NoShape(
            f"{_TRIES} random shapes had no mesh of edge {self.edge} with angles of {self.min_angle} "
            "degrees: lower edge, amplitude or min_angle"
        )

    def draw_outline(self, generator: np.random.Generator) -> tuple[Outline, SmoothOutline | None]:
        """Draw the outline and the hole, or None."""
        smooth = generator.random() < 0.5 if self.outline is OutlineKind.MIXED else self.outline == "smooth"
        outline: Outline = self._smooth(generator) if smooth else self._polygon(generator)
        if generator.random() >= self.holes:
            return outline, None
        size = generator.uniform(0.3, 0.5) * float(np.hypot(*outline.at(_EVEN, len(_EVEN)).T).min())
        inner = self._smooth(generator)
        return outline, SmoothOutline(inner.cos / 2, inner.sin / 2, size)

    def _smooth(self, generator: np.random.Generator) -> SmoothOutline:
        k = np.arange(1, self.modes + 1) ** -self.decay
        scale = self.amplitude / np.sqrt((k * k).sum())
        angle = np.linspace(0, 2 * np.pi, 256, endpoint=False)
        for _ in range(_TRIES):
            cos, sin = scale * k * generator.standard_normal((2, self.modes))
            try:
                outline = SmoothOutline(cos, sin)
            except NoShape:
                continue
            bend = np.degrees(np.arctan(np.abs(outline.slope(angle)).max()))
            if outline.radius(angle).min() > 0.5 and bend < 50:
                return outline
        raise NoShape(f"{_TRIES} outlines bent too far: lower amplitude or modes, or raise decay")

    def _polygon(self, generator: np.random.Generator) -> PolygonOutline:
        for _ in range(_TRIES):
            n = int(generator.integers(3, self.corners + 1))
            turn, shifts = generator.random(), generator.uniform(-0.2, 0.2, n)
            angle = 2 * np.pi * (np.arange(n) + shifts + turn) / n
            radius = 1 + self.amplitude * generator.uniform(-2.0, 2.0, n)
            outline = PolygonOutline(radius[:, None] * unit(angle))
            inner = np.degrees(outline.angles)
            middle = (outline.corners + np.roll(outline.corners, -1, axis=0)) / 2
            near, shortest = np.hypot(*middle.T).min(), outline.sides.min()
            if inner.min() > 60 and inner.max() < 240 and near > 0.5 and shortest > 0.4:
                return outline
        raise NoShape(f"{_TRIES} polygons had corners too sharp: lower amplitude or corners")
