"""Shapes and combinations that every contract test sees, and deliberately wrong ones that must fail."""

import numpy as np

from solvus.meshes import Mesh, box, disc, l_shape
from solvus.meshes.geometry import (
    Ball,
    Box,
    Disc,
    Ellipse,
    Interval,
    MeshGeometry,
    Polygon,
    Rectangle,
    SurfaceGeometry,
)
from solvus.meshes.geometry.balls import Round


def surface_of(mesh: Mesh, *, shuffle: bool = True) -> Mesh:
    """The boundary of a mesh as a mesh of its own, every third cell turned the wrong way round."""
    outer = mesh.facets[mesh.boundary_facets]
    used, rows = np.unique(outer, return_inverse=True)
    rows = rows.reshape(outer.shape)
    if shuffle:
        rows[::3] = rows[::3, ::-1]
    return Mesh(mesh.points[used], {"line" if mesh.dim == 2 else "triangle": rows})


def ring_mesh(n: int = 24) -> Mesh:
    """Two closed curves, a hole within a disc, running the same way round."""
    angle = 2 * np.pi * np.arange(n) / n
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rows = np.stack([np.arange(n), (np.arange(n) + 1) % n], axis=1)
    return Mesh(np.concatenate([circle, 0.4 * circle]), {"line": np.concatenate([rows, rows + n])})


def square_with_holes(scale: float = 1.0):
    """The plate of Poisson's equation with four holes."""
    out = Rectangle((-0.5 * scale,) * 2, (0.5 * scale,) * 2)
    for x in (-0.3, 0.3):
        for y in (-0.3, 0.3):
            out = out - Disc((x * scale, y * scale), 0.1 * scale)
    return out


STEP = Rectangle((0, 0), (4, 2)) - Rectangle((0, 1), (2, 2))
ELL = ((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))
STAR = tuple(
    (r * np.cos(a), r * np.sin(a)) for a, r in zip(np.arange(10) * np.pi / 5, [2.0, 0.7] * 5, strict=True)
)

SHAPES = {
    "interval": Interval(-1, 2),
    "rectangle": Rectangle((-1, 0), (2, 0.5)),
    "box-1": Box((0,), (3,)),
    "box-2": Box((0, 0), (1, 1)),
    "box-3": Box((-1, 0, 1), (1, 0.5, 4)),
    "box-5": Box((0,) * 5, (1, 2, 1, 1, 3)),
    "disc": Disc((1, -1), 0.7),
    "ball-2": Ball((0, 0), 2),
    "ball-3": Ball((1, 2, 3), 0.5),
    "ball-5": Ball((0,) * 5, 1),
    "ellipse": Ellipse((1, 0), (2, 0.6), 0.5),
    "ellipse-upright": Ellipse((0, 0), (0.5, 1.5)),
    "ellipse-round": Ellipse((0, 0), (1, 1)),
    "triangle": Polygon([(0, 0), (2, 0.3), (0.5, 1)]),
    "ell": Polygon(ELL),
    "ell-clockwise": Polygon(ELL[::-1]),
    "star": Polygon(STAR),
    "mesh-2": MeshGeometry(l_shape(3)),
    "mesh-disc": MeshGeometry(disc(5)),
    "mesh-3": MeshGeometry(box((1, 2, 1), upper=(1, 2, 1))),
    "curve": SurfaceGeometry(surface_of(l_shape(3))),
    "curve-hole": SurfaceGeometry(ring_mesh()),
    "surface": SurfaceGeometry(surface_of(box((1, 1, 2), upper=(1, 1, 2)))),
}  # fmt: skip

COMBINATIONS = {
    "holes": square_with_holes(),
    "step-1": Interval(0, 4) - Interval(0, 2),
    "step-2": STEP,
    "step-3": Box((0, 0, 0), (4, 2, 1)) - Box((0, 1, 0), (2, 2, 1)),
    "joined-1": Interval(0, 1) | Interval(1, 3),
    "joined-2": Rectangle((0, 0), (2, 1)) | Rectangle((0, 1), (2, 2)),
    "joined-flush": Rectangle((0, 0), (2, 1)) | Rectangle((1, 0), (3, 1)),
    "joined-3": Box((0, 0, 0), (1, 1, 1)) | Box((1, 0, 0), (2, 1, 0.5)),
    "same": Disc((0, 0), 1) | Disc((0, 0), 1),
    "apart": Disc((0, 0), 0.5) | Rectangle((2, 0), (3, 1)),
    "lens": Disc((0, 0), 1) & Disc((1, 0), 1),
    "moon": Disc((0, 0), 1) - Disc((0.5, 0), 1),
    "ring": Disc((0, 0), 1) - Disc((0, 0), 0.8),
    "stepped-hole": Rectangle((0, 0), (3, 2)) - (Disc((1, 1), 0.5) | Rectangle((1, 0.8), (2, 1.2))),
    "refilled": (Rectangle((0, 0), (2, 2)) - Disc((1, 1), 0.8)) | Disc((1, 1), 0.3),
    "corner": Box((0, 0, 0), (1, 1, 1)) - Ball((0, 0, 0), 0.7),
    "shell-4": Ball((0,) * 4, 1) - Box((-0.3,) * 4, (0.3,) * 4),
    "ellipse-star": Polygon(STAR) & Ellipse((0, 0), (2, 1)),
    "mesh-hole": MeshGeometry(l_shape(3)) - Disc((-0.5, 0.5), 0.3),
    "mesh-half": MeshGeometry(box((1, 1, 1))) & Ball((0, 0, 0), 1),
    "curve-rectangle": SurfaceGeometry(ring_mesh()) | Rectangle((0.5, -0.2), (2, 0.2)),
}  # fmt: skip

ALL = {**SHAPES, **COMBINATIONS}


class WrongDisc(Round):
    """A disc of radius 1, right but for what subclasses spoil."""

    def __init__(self) -> None:
        self.__dict__.update(centre=(0.0, 0.0), radius=1.0, name="circle")
        self._settle(2)


class CrowdedDisc(WrongDisc):
    def fill(self, numbers):  # uniform in the radius: too many near the centre
        return numbers[:, -1:] * self._directions(numbers[:, :-1])


class InwardDisc(WrongDisc):
    def wrap(self, part, numbers):
        points, normals = super().wrap(part, numbers)
        return points, -normals


class LongNormalsDisc(WrongDisc):
    def wrap(self, part, numbers):
        points, normals = super().wrap(part, numbers)
        return points, 1.01 * normals


class LopsidedDisc(WrongDisc):
    def wrap(self, part, numbers):  # more points at small angles
        return super().wrap(part, numbers**1.3)


class InsideOutDisc(WrongDisc):
    def _distance(self, points):
        return -super()._distance(points)


class FarDisc(WrongDisc):
    def _distance(self, points):
        return 1.2 * super()._distance(points)


class NearDisc(WrongDisc):
    def _distance(self, points):
        return 0.8 * super()._distance(points)


class BigDisc(WrongDisc):
    def volume(self):
        return 1.1 * super().volume()


class LongDisc(WrongDisc):
    @property
    def measures(self):
        return 1.1 * super().measures


class LooseDisc(WrongDisc):
    def wrap(self, part, numbers):  # not on the boundary
        points, normals = super().wrap(part, numbers)
        return 1.001 * points, normals


class SmallBoxDisc(WrongDisc):
    def __init__(self) -> None:
        super().__init__()
        self._span((-0.9, -1), (1, 1))


WRONG = {
    CrowdedDisc: "interior_is_uniform",
    InwardDisc: "boundary_points_are_on_the_boundary",
    LongNormalsDisc: "boundary_points_are_on_the_boundary",
    LooseDisc: "boundary_points_are_on_the_boundary",
    LopsidedDisc: "boundary_is_uniform",
    InsideOutDisc: "points_are_inside",
    SmallBoxDisc: "points_are_inside",
    FarDisc: "distance_is_a_bound",
    NearDisc: "distance_is_exact",
    BigDisc: "volume_is_right",
    LongDisc: "boundary_measure_is_right",
}  # fmt: skip
