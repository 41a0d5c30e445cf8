"""Reading and writing mesh files."""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from . import exchange, hdf5
from .errors import MeshReadError, UnsupportedMeshFormat
from .formats import Format, check_content, find_format
from .mesh import Mesh
from .sidecar import cells_digest, read_sidecar, sidecar_path, write_sidecar


def write_mesh(path: str | os.PathLike[str], mesh: Mesh, *, file_format: str | None = None) -> None:
    """Write a mesh so that `read_mesh` gives it back exactly: points, cells, data and tags.

    Tags go into the file where the format holds names (hdf5, gmsh, med), else into "<file>.tags.json" next to
    it. Gmsh cannot hold tags that overlap, nor MED empty ones: these go next to the file too.

    Args:
        path: the extension decides the format; an existing file is replaced.
        mesh: to write.
        file_format: a name in `FORMATS`, for files with another extension.

    Raises:
        UnsupportedMeshFormat: for formats that lose meshes, and for content that a format would lose.

    >>> import tempfile
    >>> from .shapes import box
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_mesh(f"{folder}/plate.vtu", box((2, 2)))
    ...     read_mesh(f"{folder}/plate.vtu")
    Mesh(9 points in 2D, 8 triangles, tags: xmin, xmax, ymin, ymax)
    """
    path = Path(path)
    item = find_format(path, file_format)
    check_content(mesh, item, path)
    if not item.module:
        hdf5.write_file(path, mesh)
        return
    if item.module == "xdmf" and hdf5.holds_mesh(path.with_suffix(".h5")):
        raise UnsupportedMeshFormat(
            f"{path.name} keeps its arrays in {path.with_suffix('.h5').name}, which holds another mesh: "
            "choose another name"
        )
    inside = _tags_inside(mesh, item)
    out = exchange.to_meshio(mesh, item, inside)
    writer: Any = importlib.import_module(f"meshio.{item.module}").write
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer(str(path), out, **item.options)
    # Coordinates that are all zero are dropped on reading, so a flat mesh in space must say that it is one.
    flat = mesh.space_dim > mesh.dim and not mesh.points[:, -1].any()
    if (mesh.tags and not inside) or flat:
        write_sidecar(path, mesh)
    else:
        sidecar_path(path).unlink(missing_ok=True)


def _tags_inside(mesh: Mesh, item: Format) -> bool:
    fits = {"gmsh": exchange.fits_groups, "med": exchange.fits_families}
    return item.tags == "file" and fits[item.module](mesh)


def read_mesh(path: str | os.PathLike[str], *, file_format: str | None = None) -> Mesh:
    """Read a mesh written by `write_mesh` or by another program.

    Of files from elsewhere, the cells of the highest dimension become the cells, turned the right way round;
    points of no cell, and coordinates beyond the cells' dimension that are all zero, are left out; groups,
    families and sets become tags. A side-car of tags is used when it lies next to the file.

    Args:
        path: the file.
        file_format: a name in `FORMATS`, for files with another extension.

    Raises:
        UnsupportedMeshFormat: for formats that are not offered.
        MeshReadError: for files that are missing, damaged, hold no valid mesh, or have another mesh's
        side-car.
    """
    path = Path(path)
    item = find_format(path, file_format)
    if not path.is_file():
        raise MeshReadError(f"there is no file {path}: check the name and the folder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mesh = _read(path, item)
    except (Exception, SystemExit) as error:  # the readers fail with whatever they trip over
        if isinstance(error, MeshReadError):
            raise
        cause = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
        raise MeshReadError(
            f"{path.name} could not be read as {item.name} ({cause}): check that the file is complete and is "
            "of this format, name the format with file_format=..., or export it anew as .vtu or binary .msh"
        ) from error
    return _with_sidecar(path, mesh)


def _read(path: Path, item: Format) -> Mesh:
    if not item.module:
        return hdf5.read_file(path)
    reader: Any = importlib.import_module(f"meshio.{item.module}").read
    return exchange.from_meshio(reader(str(path)), data=bool(item.data))


def _with_sidecar(path: Path, mesh: Mesh) -> Mesh:
    side = read_sidecar(path)
    if side is None:
        return mesh
    if side.digest != cells_digest(mesh):
        raise MeshReadError(
            f"{sidecar_path(path).name} belongs to another mesh than {path.name} holds now: "
            "write the mesh anew, or delete the side-car to read the mesh without tags"
        )
    if side.space_dim > mesh.space_dim:
        points = np.pad(mesh.points, ((0, 0), (0, side.space_dim - mesh.space_dim)))
        mesh = Mesh(points, mesh.cells, mesh.point_data, mesh.cell_data)
    return Mesh(mesh.points, mesh.cells, mesh.point_data, mesh.cell_data).with_tags(side.tags)
