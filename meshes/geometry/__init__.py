"""Regions of any dimension to draw points from: shapes, their combinations, meshes and closed surfaces."""

from .balls import Ball, Disc
from .base import BoundaryPoints, Geometry, Method, On, Part
from .boxes import Box, Interval, Rectangle
from .combine import Difference, Intersection, Union
from .ellipse import Ellipse
from .errors import (
    BadPoints,
    BadPredicate,
    EmptyBoundary,
    EmptyGeometry,
    InvalidGeometry,
    MixedDimensions,
    UnknownPart,
)
from .from_mesh import MeshGeometry
from .meshing import mesh_of
from .polygon import Polygon
from .shape import Shape, Solid
from .surface import SurfaceGeometry

__all__ = [
    "BadPoints",
    "BadPredicate",
    "Ball",
    "BoundaryPoints",
    "Box",
    "Difference",
    "Disc",
    "Ellipse",
    "EmptyBoundary",
    "EmptyGeometry",
    "Geometry",
    "Intersection",
    "Interval",
    "InvalidGeometry",
    "MeshGeometry",
    "Method",
    "MixedDimensions",
    "On",
    "Part",
    "Polygon",
    "Rectangle",
    "Shape",
    "Solid",
    "SurfaceGeometry",
    "Union",
    "UnknownPart",
    "mesh_of",
]
