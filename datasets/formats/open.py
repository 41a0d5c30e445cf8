"""Open whatever holds data: the kind of a path is told by its content."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import final

import h5py

from ..generation.manifest import DATASET, read_config
from ..layout import Values
from ..loading.folder import FolderSource
from ..source import Source
from ..unstructured.mesh_storage import KIND as MESH_KIND
from .arrays import Axes
from .pdebench import layout_of, pdebench_split
from .pdebench_read import read_pdebench
from .tensors import read_mat, read_npz, read_pt
from .well import WellFile
from .well_storage import GROUPS

PROTOCOLS = ("pdebench-single", "pdebench-mult")
_HDF5 = (".h5", ".hdf5", ".hdf")


class Kind(StrEnum):
    """What a path holds."""

    FOLDER = "folder of grid data"
    MESH_FOLDER = "folder of mesh data"
    WELL = "grid data (The Well)"
    MESH = "mesh data"
    SYSTEMS = "linear systems"
    PDEBENCH_A = "PDEBench, layout A"
    PDEBENCH_B = "PDEBench, layout B"
    PDEBENCH_C = "PDEBench, layout C"
    PT = "tensors (.pt)"
    NPZ = "arrays (.npz)"
    MAT = "arrays (.mat)"


class UnknownKind(ValueError):
    """A path that holds nothing this package reads."""


class NoGridData(ValueError):
    """A path that holds data of another kind: on meshes, or linear systems."""


@final
class Part(Source):
    """Some samples of a source, one after another.

    Args:
        source: that it is a part of; closed together with it.
        samples: which ones, without steps.
    """

    def __init__(self, source: Source, samples: range) -> None:
        if samples.step != 1 or not 0 <= samples.start < samples.stop <= source.samples:
            raise ValueError(
                f"{samples} is no part of the {source.samples} samples of {source.layout.name}: at least "
                "one, one after another"
            )
        self.source, self._start = source, samples.start
        self.layout, self.samples = source.layout, len(samples)

    def read(self, start: int, stop: int) -> Values:
        """Return samples start to stop of the part, see `Source.read`."""
        return self.source.read(self._start + start, self._start + min(stop, self.samples))

    def close(self) -> None:
        """Close the source."""
        self.source.close()


def kind_of(path: str | Path) -> Kind:
    """Return what a file or folder holds, by its content.

    Raises:
        FileNotFoundError: there is nothing at the path.
        UnknownKind: it holds nothing that is read here; the message says what was found.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder at {path}")
    if path.is_dir():
        return _kind_of_folder(path)
    if path.suffix in (".pt", ".pth"):
        return Kind.PT
    if path.suffix == ".npz":
        return Kind.NPZ
    if path.suffix == ".mat":
        return Kind.MAT
    if h5py.is_hdf5(path):
        return _kind_of_hdf5(path)
    if path.suffix in _HDF5:
        raise UnknownKind(f"{path.name} is no HDF5 file, or is damaged: copy or generate it again")
    raise UnknownKind(
        f"{path.name}: data are read from folders made by `generate`, HDF5 files (The Well, PDEBench), .pt, "
        ".npz and .mat; for anything else load the arrays yourself and pass them to from_arrays"
    )


def _kind_of_folder(path: Path) -> Kind:
    if (path / DATASET).is_file():
        return Kind.MESH_FOLDER if read_config(path)["kind"] == MESH_KIND else Kind.FOLDER
    inside = sorted(p for p in path.rglob("*") if p.suffix in _HDF5)
    hint = (
        f"name one of its files, for example {inside[0]}" if inside else "there is no HDF5 file in it either"
    )
    raise UnknownKind(f"{path} is a folder without {DATASET}, so none made by `generate`: {hint}")


def _kind_of_hdf5(path: Path) -> Kind:
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            if file.attrs.get("kind") == MESH_KIND:
                return Kind.MESH
            if isinstance(file.get("systems"), h5py.Group):
                return Kind.SYSTEMS
            if any(group in file for group in GROUPS):
                return Kind.WELL
            layout = layout_of(file)
            keys = ", ".join(list(file)[:8]) or "nothing"
    except OSError as error:
        raise UnknownKind(f"{path.name} is damaged: {error}; copy or generate it again") from None
    if layout is None:
        raise UnknownKind(
            f"{path.name} is an HDF5 file of an unknown form, it holds {keys}. Known are The Well "
            "(t0_fields), PDEBench (tensor, density, velocity, or groups 0000, 0001, ...) and files of "
            "solvus; load its arrays yourself and pass them to from_arrays"
        )
    return Kind[f"PDEBENCH_{layout.value}"]


def open_source(
    path: str | Path, *, split: str | None = None, axes: Axes | Mapping[str, Axes] | None = None
) -> Source:
    """Open grid data of any kind, lazily where the format allows.

    Args:
        path: a folder made by `generate`, a file of The Well or PDEBench, .pt, .npz or .mat.
        split: of a folder: "train", "valid" or "test". Of a file, by the two protocols of PDEBench:
            "pdebench-single-train", "pdebench-single-test", "pdebench-mult-train", "pdebench-mult-test". None
            for all samples.
        axes: names of the axes of .pt, .npz and .mat files that do not name them, see `from_arrays`.

    Raises:
        FileNotFoundError, UnknownKind: there is nothing at the path, or nothing that is known.
        NoGridData: the data are on meshes, or linear systems.
        ValueError: there is no such split, axes do not belong here, or the file is damaged.
    """
    path, kind = Path(path), kind_of(path)
    if kind in (Kind.MESH, Kind.MESH_FOLDER):
        raise NoGridData(f"{path} holds data on meshes: read them with MeshFile or MeshFolder")
    if kind is Kind.SYSTEMS:
        raise NoGridData(f"{path} holds linear systems: read them with read_system, or `solvus solve {path}`")
    arrays = {Kind.PT: read_pt, Kind.NPZ: read_npz, Kind.MAT: read_mat}.get(kind)
    if axes is not None and arrays is None:
        raise ValueError(f"{path.name} ({kind.value}) names its axes itself: leave them out")
    if kind is Kind.FOLDER:
        return FolderSource(path, split)
    if arrays is not None:
        source: Source = arrays(path, axes)
    else:
        source = WellFile(path) if kind is Kind.WELL else read_pdebench(path)
    if split is None:
        return source
    try:
        return Part(source, _range(source.samples, split))
    except ValueError:
        source.close()
        raise


def _range(samples: int, split: str) -> range:
    protocol, _, side = split.rpartition("-")
    if protocol not in PROTOCOLS or side not in ("train", "test"):
        known = ", ".join(f"{p}-{s}" for p in PROTOCOLS for s in ("train", "test"))
        raise ValueError(f"a file has no split {split!r}: it is read whole, or by {known}")
    return pdebench_split(samples, protocol)[side == "test"]
