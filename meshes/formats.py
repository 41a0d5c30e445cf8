"""Which mesh files are offered, for which content, and why others are refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from .errors import UnsupportedMeshFormat
from .mesh import Mesh

_SIMPLICES = ("line", "triangle", "tetra")
_ALL = (*_SIMPLICES, "quad", "hexahedron")


@final
@dataclass(frozen=True)
class Format:
    """One offered file format. What it promises passes a round-trip test, exact to the last bit.

    Args:
        name: how it is asked for.
        extensions: which file names mean it.
        module: the part of meshio that reads and writes it; empty for our own HDF5.
        cells: the cell types that survive.
        mixed: whether triangles and quads survive together.
        data: kinds of 8-byte numbers (numpy's letters) that survive as point data, (n,) or (n, 3).
        cell_data: whether they survive as cell data as well.
        tags: "file" where the format holds names itself, "side-car" where a JSON file next to it does.
        coordinates: the least number of coordinates that the format wants.
        options: for meshio's writer.
    """

    name: str
    extensions: tuple[str, ...]
    module: str
    cells: tuple[str, ...]
    mixed: bool = True
    data: str = ""
    cell_data: bool = True
    tags: str = "side-car"
    coordinates: int = 3
    options: dict[str, Any] = field(default_factory=dict)


FORMATS = {
    item.name: item
    for item in (
        Format("hdf5", (".h5", ".hdf5"), "", _ALL, data="fiub", tags="file"),
        Format("vtu", (".vtu",), "vtu", _ALL, data="fi"),
        Format("vtk", (".vtk",), "vtk", _ALL, data="fi"),
        Format("xdmf", (".xdmf", ".xmf"), "xdmf", _ALL, data="fi", coordinates=2),
        Format(
            "gmsh", (".msh",), "gmsh", _ALL, data="f", cell_data=False, tags="file",
            options={"fmt_version": "2.2", "binary": True},
        ),
        Format("med", (".med",), "med", _ALL, data="f", tags="file", coordinates=1),
        Format("medit", (".mesh",), "medit", _ALL),
        Format("abaqus", (".inp",), "abaqus", _ALL),
        Format("netgen", (".vol",), "netgen", _ALL),
        Format("avsucd", (".avs",), "avsucd", _ALL),
        Format("h5m", (".h5m",), "h5m", _SIMPLICES),
        Format("flac3d", (".f3grid",), "flac3d", ("tetra", "hexahedron")),
        Format("obj", (".obj",), "obj", ("triangle", "quad")),
        Format("off", (".off",), "off", ("triangle",)),
    )
}  # fmt: skip

# Completes "because it ...": what meshio 5.3.5 does, seen by writing and reading small meshes with numpy 2.
REFUSED = {
    "ansys": "shares .msh with Gmsh and loses tags",
    "cgns": "writes files with triangles, quads or hexahedra that cannot be read back",
    "dolfin-xml": "is a legacy format, and files with data cannot be read back",
    "exodus": "needs netCDF4, which is not among the dependencies",
    "gmsh-ascii": "writes text files with data that cannot be read back; 'gmsh' is the binary kind",
    "gmsh41": "needs the geometry's entities as soon as there are two cell types; 'gmsh' (2.2) does not",
    "hmf": "is private to meshio, and loses cells of different types",
    "mdpa": "has a reader that never ends on files that are cut short",
    "nastran": "rounds coordinates to 12 digits",
    "neuroglancer": "rounds coordinates to single precision",
    "permas": "has no lines",
    "ply": "has a reader that never ends on files that are cut short",
    "stl": "renumbers the points, and knows triangles only",
    "su2": "fails on surfaces, and on the boundary markers that SU2 needs",
    "svg": "can be written only",
    "tecplot": "has a reader that never ends on files that are cut short, and loses mixed cells",
    "tetgen": "is spread over two files, and does not end for some meshes",
    "ugrid": "writes files that cannot be read back",
    "wkt": "renumbers the points, and knows triangles only",
}
_REFUSED_EXTENSIONS = {
    ".cgns": "cgns", ".xml": "dolfin-xml", ".e": "exodus", ".exo": "exodus", ".ex2": "exodus", ".hmf": "hmf",
    ".mdpa": "mdpa", ".bdf": "nastran", ".fem": "nastran", ".nas": "nastran", ".post": "permas",
    ".dato": "permas", ".ply": "ply", ".stl": "stl", ".su2": "su2", ".svg": "svg", ".dat": "tecplot",
    ".tec": "tecplot", ".ele": "tetgen", ".node": "tetgen", ".ugrid": "ugrid", ".wkt": "wkt",
}  # fmt: skip


def find_format(path: Path, name: str | None = None) -> Format:
    """Return the format called `name`, or else the one that the file's extension means.

    Raises:
        UnsupportedMeshFormat: for a format that is refused or unknown.
    """
    extension = path.suffix.lower()
    by_extension = {end: item for item in FORMATS.values() for end in item.extensions}
    wanted = name or _REFUSED_EXTENSIONS.get(extension, "")
    if wanted in REFUSED:
        raise UnsupportedMeshFormat(
            f"{path.name}: meshes are not kept in {wanted!r} because it {REFUSED[wanted]}: {_advice()}"
        )
    if name is not None and name in FORMATS:
        return FORMATS[name]
    if name is None and extension in by_extension:
        return by_extension[extension]
    given = f"format {name!r}" if name else f"extension {extension!r}"
    raise UnsupportedMeshFormat(
        f"{path.name}: {given} is unknown, formats are {sorted(FORMATS)}: {_advice()}"
    )


def _advice() -> str:
    return "use .h5 (keeps everything), .vtu (ParaView) or .msh (Gmsh)"


def check_content(mesh: Mesh, item: Format, path: Path) -> None:
    """Raise for content that the format would lose or damage.

    Raises:
        UnsupportedMeshFormat: for cell types or data outside the table.
    """
    foreign = set(mesh.cells) - set(item.cells)
    if foreign or (len(mesh.cells) > 1 and not item.mixed):
        what = f"{sorted(foreign)} cells" if foreign else "two cell types in one file"
        raise UnsupportedMeshFormat(
            f"{path.name}: {item.name} does not keep {what}, it keeps {sorted(item.cells)}: {_advice()}"
        )
    if not item.module:
        return
    for place, data in (("point", mesh.point_data), ("cell", mesh.cell_data)):
        kinds = item.data if place == "point" or item.cell_data else ""
        for name, values in data.items():
            plain = values.dtype.itemsize == 8 and values.shape[1:] in ((), (3,)) and name.isidentifier()
            if not (plain and values.dtype.kind in kinds):
                raise UnsupportedMeshFormat(
                    f"{path.name}: {item.name} keeps {_KEPT[kinds].format(place)}, but {name!r} is "
                    f"{values.dtype} of shape {values.shape}: use .h5, or leave the data out with "
                    "dataclasses.replace(mesh, point_data={}, cell_data={})"
                )


_KEPT = {
    "": "no {} data",
    "f": "{} data that are float64 of shape (n,) or (n, 3) under a plain name",
    "fi": "{} data that are float64 or int64 of shape (n,) or (n, 3) under a plain name",
}
