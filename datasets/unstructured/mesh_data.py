"""Reading datasets whose samples lie on meshes of their own: files, and folders made by `generate`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import h5py
import numpy as np
from numpy.typing import NDArray

from ...meshes.mesh import Mesh
from ..formats.well import open_hdf5
from ..generation.manifest import OK, Manifest, read_manifest
from .mesh_check import check_mesh
from .mesh_storage import KIND, MeshLayout, MeshStorage, mesh_arrays, mesh_from_arrays, read_layout

__all__ = [
    "MeshFile",
    "MeshFolder",
    "MeshLayout",
    "MeshSample",
    "MeshSource",
    "MeshStorage",
    "NoMeshData",
    "check_mesh",
    "mesh_arrays",
    "mesh_from_arrays",
]

Fields = Mapping[str, NDArray[Any]]
_OPEN_FILES = 16


class NoMeshData(ValueError):
    """A file that holds no samples on meshes, or a sample that failed."""


@final
@dataclass(frozen=True, eq=False)
class MeshSample:
    """One sample: a mesh and the fields on it.

    Attributes:
        id: number in the dataset, from which the sample was drawn.
        mesh: with its tags.
        point_fields: name -> (N[, d[, d]]).
        cell_fields: name -> (M[, d[, d]]).
    """

    id: int
    mesh: Mesh
    point_fields: Fields
    cell_fields: Fields

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a field by name."""
        fields = {**self.point_fields, **self.cell_fields}
        if name not in fields:
            raise KeyError(f"there is no field {name!r}: the fields are {', '.join(fields)}")
        return fields[name]

    def to_mesh(self) -> Mesh:
        """Return the mesh with the fields as its data in float64, vectors with three components.

        What `write_mesh` takes for every format that holds data.
        """
        return replace(
            self.mesh,
            point_data={name: _spatial(values) for name, values in self.point_fields.items()},
            cell_data={name: _spatial(values) for name, values in self.cell_fields.items()},
        )


def _spatial(values: NDArray[Any]) -> NDArray[np.float64]:
    flat = values.astype(np.float64)
    if flat.ndim == 2 and flat.shape[1] == 2:
        return np.pad(flat, ((0, 0), (0, 1)))
    return flat


class MeshSource(ABC):
    """Samples on meshes, read one by one; a context manager. Those that failed are left out.

    Attributes:
        layout: form of the samples.
    """

    layout: MeshLayout

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> MeshSample:
        """Read a sample; raises IndexError outside, negative indices count from the end."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files; harmless when repeated, and reading opens them again."""

    @final
    def __iter__(self) -> Iterator[MeshSample]:
        return (self[i] for i in range(len(self)))

    @final
    def __enter__(self) -> Self:
        return self

    @final
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@final
class MeshFile(MeshSource):
    """Read the samples of one file of mesh data.

    Can be pickled, and read in forked processes: every process opens the file for itself.

    Args:
        path: of the file.

    Attributes:
        ids: of the samples that did not fail, int64 (n,).

    Raises:
        FileNotFoundError: no such file.
        NoMeshData: another kind of file, or a part is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handle: tuple[int, h5py.File] | None = None
        self._inherited: tuple[int, h5py.File] | None = None
        file = self._file()
        try:
            if file.attrs.get("kind") != KIND:
                raise NoMeshData(f"{path} holds no samples on meshes: its attribute 'kind' must be {KIND!r}")
            self.layout = read_layout(file)
            self._offsets = {
                "points": file["mesh/point_offsets"][()],
                "cells": file["mesh/cell_offsets"][()],
                **{f"tag:{name}": file[f"mesh/tag_offsets/{name}"][()] for name in self.layout.tags},
            }
            self._places = np.flatnonzero(np.diff(self._offsets["cells"]) > 0)
            provenance = file.get("provenance")
            if provenance is None:
                self.ids = self._places.astype(np.int64)
            else:
                ok = np.array([s == OK for s in provenance["status"].asstr()[()]], dtype=bool)
                self._places = self._places[ok[self._places]]
                self.ids = provenance["sample_id"][()][self._places].astype(np.int64)
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            self.close()
            if isinstance(error, NoMeshData):
                raise
            reason = error.args[0] if error.args else error
            raise NoMeshData(f"{path} is damaged, `solvus check` says where: {reason}") from None

    def __len__(self) -> int:
        return len(self._places)

    def rows(self, index: int) -> dict[str, slice]:
        """Return which rows of the arrays of the file a sample owns: "points", "cells", "tag:NAME"."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} holds samples 0 to {len(self) - 1}, asked for is {index}")
        at = int(self._places[index])
        return {name: slice(int(o[at]), int(o[at + 1])) for name, o in self._offsets.items()}

    def __getitem__(self, index: int) -> MeshSample:
        file, layout, rows = self._file(), self.layout, self.rows(index)
        arrays = {
            "points": file["mesh/points"][rows["points"]],
            "cells": file[f"mesh/cells/{layout.cell_type}"][rows["cells"]],
            **{f"tag:{name}": file[f"mesh/tags/{name}"][rows[f"tag:{name}"]] for name in layout.tags},
        }
        return MeshSample(
            int(self.ids[index]),
            mesh_from_arrays(arrays, layout.tags),
            {v.name: file[f"point_fields/{v.name}"][rows["points"]] for v in layout.point_fields},
            {v.name: file[f"cell_fields/{v.name}"][rows["cells"]] for v in layout.cell_fields},
        )

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._handle is not None and self._handle[0] == os.getpid():
            self._handle[1].close()
        self._handle = None

    def _file(self) -> h5py.File:
        if self._handle is None or self._handle[0] != os.getpid():
            # closing what a forked process inherited would take the lock of its parent
            self._inherited, self._handle = self._handle, (os.getpid(), open_hdf5(self.path))
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_inherited": None}


@final
class MeshFolder(MeshSource):
    """Read the samples of a folder made by `generate`, of all splits or one.

    Args:
        folder: that holds `dataset.json`.
        split: "train", "valid", "test", or None for all.

    Raises:
        NoDataset, ForeignFolder: as `read_manifest`.
        NoMeshData: a dataset on a grid, or no samples in the split.
    """

    def __init__(self, folder: str | Path, split: str | None = None) -> None:
        self.manifest: Manifest = read_manifest(folder)
        if self.manifest.kind != KIND:
            raise NoMeshData(f"{folder} holds data on a {self.manifest.kind}: read it with `open_source`")
        shards = self.manifest.shards if split is None else self.manifest.of(split)
        self._paths = [self.manifest.path(shard) for shard in shards]
        self._index = [
            (number, place)
            for number, shard in enumerate(shards)
            for place in range(len(shard.ids) - len(shard.failed))
        ]
        if not self._index:
            where = "" if split is None else f" in the split {split!r}"
            raise NoMeshData(f"{folder} has no samples{where}: generate some, or choose another split")
        self.ids = np.array([i for s in shards for i in s.ids if i not in s.failed], dtype=np.int64)
        self._files: dict[int, MeshFile] = {}
        self.layout = self._open(self._index[0][0]).layout

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> MeshSample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are samples 0 to {len(self) - 1}, asked for is {index}")
        number, place = self._index[index]
        return self._open(number)[place]

    def close(self) -> None:
        """Close all files; reading opens them again."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _open(self, number: int) -> MeshFile:
        if number not in self._files:
            if len(self._files) >= _OPEN_FILES:
                self._files.pop(next(iter(self._files))).close()
            self._files[number] = MeshFile(self._paths[number])
        return self._files[number]
