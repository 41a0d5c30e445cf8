"""How samples on meshes of their own lie in HDF5 files: one after the other, with offsets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import h5py
import numpy as np
from numpy.typing import NDArray

from ...meshes.mesh import Mesh
from ...meshes.topology import CELL_POINTS, SIMPLEX, find_rows
from ..layout import Role, Variable
from ..recipe import Arrays

KIND = "mesh"
_CHUNK_ROWS = (256, 1 << 16)


@final
@dataclass(frozen=True)
class MeshLayout:
    """The form of all samples of a dataset whose samples have a simplicial mesh each.

    Args:
        name: of the dataset.
        point_fields: fields with one value per point of the mesh.
        cell_fields: fields with one value per cell.
        tags: named parts of the mesh: name -> dimension; 0 points, `dim` cells, between facets and edges.
        dim: dimension of the space and of the cells, 2 or 3.
        parameters: numbers that hold for all samples.
        dtype: "float32" or "float64", of stored fields; points are float64.

    >>> MeshLayout("heat", (Variable("u"),), tags={"outer": 1}).rows("u")
    ()
    """

    name: str
    point_fields: tuple[Variable, ...] = ()
    cell_fields: tuple[Variable, ...] = ()
    tags: Mapping[str, int] = field(default_factory=dict)
    dim: int = 2
    parameters: Mapping[str, float] = field(default_factory=dict)
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dim not in (2, 3):
            raise ValueError(f"meshes have dimension 2 or 3, got {self.dim}")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"fields are stored as float32 or float64, got {self.dtype!r}")
        names = [v.name for v in self.variables]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a dataset has at least one field, and different names: given {names}")
        for variable in self.variables:
            fixed = variable.time_varying or variable.axes or not variable.sample_varying
            if fixed or variable.role is Role.STATE:
                raise ValueError(
                    f"{variable.name}: fields on meshes are inputs or outputs, per sample and not in time"
                )
        for name, dim in self.tags.items():
            if not name or "/" in name or not 0 <= dim <= self.dim:
                raise ValueError(
                    f"tag {name!r} of dimension {dim}: give a name without '/' and a dimension from 0 to "
                    f"{self.dim}"
                )

    @property
    def variables(self) -> tuple[Variable, ...]:
        """All fields, those of points first."""
        return self.point_fields + self.cell_fields

    @property
    def cell_type(self) -> str:
        """meshio's name of the cells."""
        return SIMPLEX[self.dim]

    def __getitem__(self, name: str) -> Variable:
        """Return a field by name."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise KeyError(
            f"there is no field {name!r}: the fields are {', '.join(v.name for v in self.variables)}"
        )

    def rows(self, name: str) -> tuple[int, ...]:
        """Shape of the value of a field at one point or in one cell."""
        return (self.dim,) * self[name].rank


def mesh_arrays(mesh: Mesh) -> dict[str, NDArray[Any]]:
    """Return a simplicial mesh as the arrays that `MeshStorage.put` takes.

    "points" (N, d), "cells" (M, d + 1), and "tag:NAME" per tag: the vertices of its facets or edges (K, k),
    numbers of its points or cells (K,).

    >>> from ...meshes.shapes import box
    >>> sorted(mesh_arrays(box((1, 1))))[:3]
    ['cells', 'points', 'tag:xmax']
    """
    arrays: dict[str, NDArray[Any]] = {"points": mesh.points, "cells": mesh.simplices}
    for name, (dim, numbers) in mesh.tags.items():
        arrays[f"tag:{name}"] = mesh.entities(dim)[numbers] if 0 < dim < mesh.dim else numbers
    return arrays


def mesh_from_arrays(arrays: Mapping[str, NDArray[Any]], tags: Mapping[str, int]) -> Mesh:
    """Return the mesh of arrays that `mesh_arrays` gave; `tags` has the dimension of each.

    Raises:
        InvalidMesh: the arrays make no mesh, or a tag has parts that are not in it.

    >>> from ...meshes.shapes import box
    >>> mesh_from_arrays(mesh_arrays(box((1, 1))), {"xmin": 1})
    Mesh(4 points in 2D, 2 triangles, tags: xmin)
    """
    cells = np.asarray(arrays["cells"])
    mesh = Mesh(arrays["points"], {SIMPLEX[cells.shape[1] - 1]: cells})
    numbers: dict[str, tuple[int, NDArray[Any]]] = {}
    for name, dim in tags.items():
        rows = np.asarray(arrays[f"tag:{name}"])
        numbers[name] = (dim, find_rows(mesh.entities(dim), rows) if 0 < dim < mesh.dim else rows)
    return mesh.with_tags(numbers)


@final
@dataclass(frozen=True)
class MeshStorage:
    """Lay samples on meshes of their own out in an HDF5 file.

    All arrays stand one after the other; sample i owns the rows offsets[i] to offsets[i + 1]. Samples that
    were never written own none.

        mesh/points (sum N, d) f8, mesh/point_offsets (B + 1) i8
        mesh/cells/triangle (sum M, 3) i8, numbers of points within the sample, mesh/cell_offsets (B + 1) i8
        mesh/tags/NAME (sum K, k) i8, mesh/tag_offsets/NAME (B + 1) i8, attribute dim
        point_fields/NAME (sum N[, d[, d]]), cell_fields/NAME (sum M[, d[, d]]),
            attributes location, role, meaning

    Args:
        layout: form of the samples.
        typical_points: about how many points a sample has; one chunk holds about one sample.
        compression: None, or "gzip" (level 1, with shuffle).

    >>> from ...meshes.shapes import disc
    >>> storage = MeshStorage(MeshLayout("heat", (Variable("u"),), tags={"boundary": 1}))
    >>> with h5py.File("heat.hdf5", "w", driver="core", backing_store=False) as file:
    ...     storage.allocate(file, 2)
    ...     storage.put(file, 1, {**mesh_arrays(disc(1)), "u": np.ones(7)})
    ...     file["mesh/point_offsets"][:].tolist(), file["mesh/cells/triangle"].shape
    ([0, 0, 7], (6, 3))
    """

    layout: MeshLayout
    typical_points: int = 1000
    compression: str | None = None

    def __post_init__(self) -> None:
        if self.compression not in (None, "gzip"):
            raise ValueError(f"compression is None or 'gzip', got {self.compression!r}")

    def allocate(self, file: h5py.File, samples: int) -> None:
        """Create everything for a number of samples, each of which owns nothing.

        Raises:
            ValueError: fewer than one sample.
        """
        if samples < 1:
            raise ValueError(f"a file holds at least one sample, got {samples}")
        layout, dim = self.layout, self.layout.dim
        file.attrs["kind"], file.attrs["dataset_name"] = KIND, layout.name
        file.attrs["n_spatial_dims"], file.attrs["n_trajectories"] = dim, samples
        parameters = file.create_group("parameters")
        for name, value in layout.parameters.items():
            parameters.attrs[name] = float(value)
        fields = np.dtype(layout.dtype).newbyteorder("<")
        mesh = file.create_group("mesh")
        self._ragged(mesh, "points", (dim,), "<f8")
        self._ragged(mesh.create_group("cells"), layout.cell_type, (CELL_POINTS[layout.cell_type],), "<i8")
        tags, offsets = mesh.create_group("tags"), mesh.create_group("tag_offsets")
        for name, tag_dim in layout.tags.items():
            shape = (tag_dim + 1,) if 0 < tag_dim < dim else ()
            self._ragged(tags, name, shape, "<i8").attrs["dim"] = tag_dim
            offsets.create_dataset(name, data=np.zeros(samples + 1, "<i8"))
        for name in ("point_offsets", "cell_offsets"):
            mesh.create_dataset(name, data=np.zeros(samples + 1, "<i8"))
        for place, variables in (("point", layout.point_fields), ("cell", layout.cell_fields)):
            group = file.create_group(f"{place}_fields")
            for number, variable in enumerate(variables):
                dataset = self._ragged(group, variable.name, layout.rows(variable.name), fields)
                dataset.attrs["location"], dataset.attrs["number"] = place, number
                dataset.attrs["role"], dataset.attrs["meaning"] = variable.role.value, variable.meaning

    def put(self, file: h5py.File, index: int, arrays: Arrays) -> None:
        """Write a sample behind all others; indices come in increasing order.

        Args:
            file: that was allocated.
            index: of the sample in the file.
            arrays: those of `mesh_arrays`, and one per field, by name.

        Raises:
            IndexError: an index beyond the file.
            KeyError: an array is missing or unknown.
            ValueError: an array has another shape than points, cells or layout ask for, or the sample, or a
                later one, is there.
            OverflowError: values too large for the type.
        """
        layout = self.layout
        needed = {"points", "cells", *(f"tag:{t}" for t in layout.tags), *(v.name for v in layout.variables)}
        if set(arrays) != needed:
            wrong = sorted(needed ^ set(arrays))
            raise KeyError(f"{layout.name} needs the arrays {sorted(needed)}; missing or unknown: {wrong}")
        offsets = file["mesh/point_offsets"]
        if not 0 <= index < len(offsets) - 1:
            raise IndexError(
                f"the file has room for samples 0 to {len(offsets) - 2}, sample {index} was given"
            )
        if (offsets[index + 1 :] > offsets[index]).any():
            raise ValueError(f"sample {index} comes too late: put samples in increasing order, each once")
        stored = [(place, self._stored(place, name, arrays)) for place, name in self._places()]
        for (dataset, offset), values in stored:
            _append(file[dataset], values)
            if offset:
                counts = file[offset]
                counts[index + 1 :] = len(file[dataset])
                counts.flush()

    def bytes_per_sample(self) -> int:
        """Estimate of the size of a sample: two triangles per point, or six tetrahedra."""
        layout, points = self.layout, self.typical_points
        cells = (2 if layout.dim == 2 else 6) * points
        size = 4 if layout.dtype == "float32" else 8
        values = {p: sum(layout.dim**v.rank for v in fields) for p, fields in self._fields().items()}
        return points * (8 * layout.dim + size * values["point"]) + cells * (
            8 * (layout.dim + 1) + size * values["cell"]
        )

    def _fields(self) -> dict[str, tuple[Variable, ...]]:
        return {"point": self.layout.point_fields, "cell": self.layout.cell_fields}

    def _places(self) -> Iterator[tuple[tuple[str, str], str]]:
        """Yield (dataset, its offsets or ""), and the name of the array that belongs there."""
        yield ("mesh/points", "mesh/point_offsets"), "points"
        yield (f"mesh/cells/{self.layout.cell_type}", "mesh/cell_offsets"), "cells"
        for name in self.layout.tags:
            yield (f"mesh/tags/{name}", f"mesh/tag_offsets/{name}"), f"tag:{name}"
        for place, variables in self._fields().items():
            for variable in variables:
                yield (f"{place}_fields/{variable.name}", ""), variable.name

    def _stored(self, place: tuple[str, str], name: str, arrays: Arrays) -> NDArray[Any]:
        """Check an array and bring it to the form of the file."""
        layout, given = self.layout, np.asarray(arrays[name])
        counts = {"point": len(arrays["points"]), "cell": len(arrays["cells"])}
        if name in ("points", "cells"):
            wanted = (len(given), layout.dim + (name == "cells"))
        elif name.startswith("tag:"):
            dim = layout.tags[name.removeprefix("tag:")]
            wanted = (len(given), dim + 1) if 0 < dim < layout.dim else (len(given),)
        else:
            wanted = (counts[place[0].split("_")[0]], *layout.rows(name))
        if given.shape != wanted:
            raise ValueError(f"{name} has the shape {given.shape}, needed is {wanted}")
        if name in ("points", "cells") or name.startswith("tag:"):
            return given
        with np.errstate(over="ignore"):
            out = given.astype(layout.dtype)
        if np.isinf(out).any() and not np.isinf(given).any():
            raise OverflowError(f"{name} exceeds the range of {layout.dtype}: store it as float64")
        return out

    def _ragged(self, group: h5py.Group, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
        packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if self.compression else {}
        low, high = _CHUNK_ROWS
        rows = min(max(self.typical_points, low), high)
        return group.create_dataset(
            name,
            (0, *shape),
            dtype,
            maxshape=(None, *shape),
            chunks=(rows, *shape),
            fletcher32=True,
            **packed,
        )


def _append(dataset: h5py.Dataset, values: NDArray[Any]) -> None:
    start = len(dataset)
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values
    dataset.flush()  # its place in the file does not wait for when it is closed


def read_layout(file: h5py.File) -> MeshLayout:
    """Return the layout of an open file of mesh data.

    Raises:
        KeyError, ValueError: a part is missing or malformed.
    """
    dim = int(file.attrs["n_spatial_dims"])
    groups = {place: file[f"{place}_fields"] for place in ("point", "cell")}
    fields = {place: _variables(group) for place, group in groups.items()}
    dtypes = {str(dataset.dtype) for group in groups.values() for dataset in group.values()}
    if len(dtypes) != 1:
        raise ValueError(f"fields have one type in a file, these are {', '.join(sorted(dtypes)) or 'none'}")
    return MeshLayout(
        str(file.attrs["dataset_name"]),
        fields["point"],
        fields["cell"],
        {name: int(tag.attrs["dim"]) for name, tag in file["mesh/tags"].items()},
        dim,
        {name: float(value) for name, value in file["parameters"].attrs.items()},
        dtypes.pop(),
    )


def _variables(group: h5py.Group) -> tuple[Variable, ...]:
    ordered = sorted(group, key=lambda name: int(group[name].attrs["number"]))
    return tuple(
        Variable(
            name,
            group[name].ndim - 1,
            Role(str(group[name].attrs["role"])),
            meaning=str(group[name].attrs["meaning"]),
        )
        for name in ordered
    )
