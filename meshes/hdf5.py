"""Our own mesh files: everything that a `Mesh` holds, in HDF5.

Layout of the group (a file has it as /mesh): points (N, space), cells/<meshio type> (M, k), point_data/<i>
and cell_data/<i>, tags/<i> with the attribute dim; what stands under a number carries its name as the
attribute name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import MeshReadError
from .mesh import Mesh

FORMAT = "solvus-mesh"
VERSION = 1


def write_mesh_group(group: Any, mesh: Mesh) -> None:
    """Write a mesh into an empty HDF5 group (h5py)."""
    group.attrs["format"], group.attrs["format_version"] = FORMAT, VERSION
    group.create_dataset("points", data=mesh.points)
    cells = group.create_group("cells", track_order=True)
    for name, rows in mesh.cells.items():
        cells.create_dataset(name, data=rows)
    _write_named(group, "point_data", mesh.point_data)
    _write_named(group, "cell_data", mesh.cell_data)
    tags = _write_named(group, "tags", {name: indices for name, (_, indices) in mesh.tags.items()})
    for i, (dim, _) in enumerate(mesh.tags.values()):
        tags[str(i)].attrs["dim"] = dim


def _write_named(group: Any, place: str, arrays: Mapping[str, Any]) -> Any:
    inside = group.create_group(place)
    for i, (name, values) in enumerate(arrays.items()):
        inside.create_dataset(str(i), data=values).attrs["name"] = name
    return inside


def read_mesh_group(group: Any) -> Mesh:
    """Read a mesh from an HDF5 group (h5py).

    Raises:
        MeshReadError: when the group holds no mesh, or one of a later version.
    """
    if group.attrs.get("format") != FORMAT:
        raise MeshReadError(
            f"group {group.name} of {group.file.filename} is no mesh: its attribute 'format' "
            f"must be {FORMAT!r}"
        )
    if int(group.attrs["format_version"]) > VERSION:
        raise MeshReadError(
            f"the mesh has version {group.attrs['format_version']}, this program reads up to {VERSION}: "
            "update it"
        )
    arrays = {place: _read_named(group[place]) for place in ("point_data", "cell_data", "tags")}
    return Mesh(
        group["points"][()],
        {name: group["cells"][name][()] for name in sorted(group["cells"], reverse=True)},
        {name: item[()] for name, item in arrays["point_data"].items()},
        {name: item[()] for name, item in arrays["cell_data"].items()},
        {name: (int(item.attrs["dim"]), item[()]) for name, item in arrays["tags"].items()},
    )


def _read_named(group: Any) -> dict[str, Any]:
    return {group[str(i)].attrs["name"]: group[str(i)] for i in range(len(group))}


def write_file(path: Path, mesh: Mesh) -> None:
    """Write a mesh as /mesh of a new HDF5 file."""
    import h5py

    with h5py.File(path, "w") as file:
        write_mesh_group(file.create_group("mesh"), mesh)


def read_file(path: Path) -> Mesh:
    """Read the mesh /mesh of an HDF5 file."""
    import h5py

    with h5py.File(path, "r") as file:
        if "mesh" not in file:
            raise MeshReadError(f"{path.name} has no group /mesh: it was not written as a mesh")
        group: Any = file["mesh"]
        return read_mesh_group(group)


def holds_mesh(path: Path) -> bool:
    """Tell whether a file is one of ours."""
    import h5py

    if not (path.exists() and h5py.is_hdf5(path)):
        return False
    with h5py.File(path, "r") as file:
        return "mesh" in file and file["mesh"].attrs.get("format") == FORMAT
