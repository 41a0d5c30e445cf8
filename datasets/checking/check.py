"""Look for everything that can be wrong with a file of data, or with the folder of a dataset."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import final

import h5py
import numpy as np

from ..formats.well import NotWell, open_hdf5
from ..formats.well_content import SHARED, check_content, check_provenance, check_readable, which
from ..formats.well_rules import check_schema
from ..formats.well_storage import GROUPS
from ..source import Source
from ..systems import list_systems, read_system
from .fault import Fault

__all__ = ["Checked", "Fault", "check", "examine"]

HDF5 = (".hdf5", ".h5")


@final
@dataclass(frozen=True)
class Checked:
    """What was looked at, and what was found.

    Args:
        faults: and notes.
        files: number of files.
        samples: in them.
        bytes: of them.
    """

    faults: tuple[Fault, ...]
    files: int = 1
    samples: int = 0
    bytes: int = 0

    def __add__(self, other: Checked) -> Checked:
        faults = (*self.faults, *other.faults)
        return Checked(
            faults, self.files + other.files, self.samples + other.samples, self.bytes + other.bytes
        )


def check(path: str | Path, deep: bool = True) -> tuple[Fault, ...]:
    """Return everything that is wrong with a file or folder, () when nothing is.

    Looked at are folders that `generate` wrote; HDF5 files of ours, of The Well, of linear systems, of mesh
    data; PDEBench, .pt, .npz, .npy, .mat.

    Args:
        path: of the file or folder.
        deep: read everything: checksums of files and chunks, NaN, infinite values, statistics. Otherwise
            structure, names and sizes only.

    Raises:
        FileNotFoundError: there is nothing there.
        ValueError: it is of no known kind.
    """
    return examine(path, deep).faults


def examine(path: str | Path, deep: bool = True) -> Checked:
    """Return what `check` finds, and how much it has looked at."""
    path = Path(path)
    if path.is_dir():
        from .check_folder import examine_folder

        return examine_folder(path, deep)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file or folder at {path}")
    return examine_file(path, deep)


def examine_file(path: Path, deep: bool = True) -> Checked:
    """Return what `check` finds in a single file."""
    size = path.stat().st_size
    if path.suffix not in HDF5:
        return _foreign(path, deep)
    try:
        file = open_hdf5(path)
    except NotWell as error:
        return Checked((Fault(path.name, str(error)),), bytes=size)
    with file:
        try:
            found = _inside(file, path, deep)
        except (AttributeError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            text = " ".join(str(error).split())
            found = [Fault("/", f"the file is damaged, copy or generate it again: {text}")], 0
    if found is None:
        return _foreign(path, deep)
    faults, samples = found
    return Checked(tuple(Fault(f"{path.name}: {f.where}", f.what, f.note) for f in faults), 1, samples, size)


def _inside(file: h5py.File, path: Path, deep: bool) -> tuple[list[Fault], int] | None:
    """Return faults and number of samples of an HDF5 file; None when its kind is not one of ours."""
    if file.attrs.get("kind") == "mesh":
        from ..unstructured.mesh_check import check_mesh

        faults = [Fault(where, what) for where, what in check_mesh(file)] if deep else []
        return [*faults, *check_provenance(file), *(check_readable(file) if deep else [])], _samples(file)
    if "systems" in file:
        return _systems(path, deep)
    if not any(name in file for name in ("dimensions", *GROUPS)):
        return None
    faults = check_schema(file)
    return [*faults, *check_content(file, deep, sound=not faults)], _samples(file)


def _samples(file: h5py.File) -> int:
    value = file.attrs.get("n_trajectories", 0)
    return int(value) if isinstance(value, int | np.integer) else 0


def _systems(path: Path, deep: bool) -> tuple[list[Fault], int]:
    names, faults = list_systems(path), []
    for name in names if deep else ():
        try:
            read_system(path, name)
        except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            faults.append(Fault(f"systems/{name}", str(error)))
    return faults, len(names)


def _foreign(path: Path, deep: bool) -> Checked:
    """Look at a file of another program through the reader of its format."""
    from ..formats.open import open_source

    size = path.stat().st_size
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_source(path) as source:
            faults = _source_faults(source, path.name) if deep else []
            samples = source.samples
    notes = [Fault(path.name, str(warning.message), note=True) for warning in caught]
    return Checked((*faults, *notes), 1, samples, size)


def _source_faults(source: Source, where: str) -> list[Fault]:
    """Read a source through: values that are not finite, blocks that cannot be read."""
    bad: dict[str, list[int]] = {}
    faults = []
    try:
        for start, values in source.blocks():
            for name, array in values.items():
                several = source.layout[name].sample_varying
                for i, one in enumerate(array if several else [array]):
                    if not np.isfinite(one).all():
                        bad.setdefault(name, []).append(start + i if several else SHARED)
    except (OSError, ValueError) as error:
        faults.append(Fault(where, f"cannot be read: {error}"))
    for name, samples in bad.items():
        faults.append(Fault(f"{where}: {name}", f"{which(samples)}NaN or infinite values"))
    return faults
