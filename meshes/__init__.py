"""Grids and meshes."""

from .check import drop_unused, orient
from .convert import from_arrays, from_dolfinx, from_skfem, to_arrays, to_dolfinx, to_skfem
from .errors import (
    BadTag,
    DegenerateCells,
    IndexOutOfRange,
    InvalidMesh,
    InvertedCells,
    MeshReadError,
    NonFinitePoints,
    NonManifold,
    UnsupportedCells,
    UnsupportedMeshFormat,
    UnusedPoints,
)
from .formats import FORMATS
from .grid import Boundary, Centring, Grid
from .io import read_mesh, write_mesh
from .mesh import Mesh
from .refine import refine
from .shapes import box, disc, grid_mesh, l_shape

__all__ = [
    "FORMATS",
    "BadTag",
    "Boundary",
    "Centring",
    "DegenerateCells",
    "Grid",
    "IndexOutOfRange",
    "InvalidMesh",
    "InvertedCells",
    "Mesh",
    "MeshReadError",
    "NonFinitePoints",
    "NonManifold",
    "UnsupportedCells",
    "UnsupportedMeshFormat",
    "UnusedPoints",
    "box",
    "disc",
    "drop_unused",
    "from_arrays",
    "from_dolfinx",
    "from_skfem",
    "grid_mesh",
    "l_shape",
    "orient",
    "read_mesh",
    "refine",
    "to_arrays",
    "to_dolfinx",
    "to_skfem",
    "write_mesh",
]
