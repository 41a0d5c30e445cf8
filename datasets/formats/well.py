"""Files of The Well (PolymathicAI) and ours, which follow its schema: reading and writing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
from numpy.typing import NDArray

from ...meshes.grid import Boundary
from ...meshes.whole import whole_file
from ..generation.manifest import OK
from ..layout import Layout, Role, Values, Variable
from ..source import Source
from .well_storage import GROUPS, MAKING, STRING, GridStorage

__all__ = ["GridStorage", "ManyGrids", "NotWell", "WellFile", "open_hdf5", "write_well"]

FORMAT = "solvus grid"
VERSION = 1


class NotWell(ValueError):
    """A file that does not follow The Well's schema so far that it can be read."""


class ManyGrids(NotWell):
    """A file whose samples lie on different grids, or at different times."""


@final
class WellFile(Source):
    """Read grid data from one file of ours, shards among them, or from any file of The Well.

    A file of ours gives back the layout it was written with. In others, fields with a time axis count as
    states, or as outputs where there is one time only; fields without one are inputs. Samples that failed are
    in the file and are NaN: `status` tells which.

    Args:
        path: of the file.

    Attributes:
        ids: of the samples, int64 (B,); 0 to B - 1 where the file does not say.
        status: "ok" or "failed: reason", per sample.
        steady: whether states stored once or repeated stand for a steady problem.

    Raises:
        FileNotFoundError: no such file.
        NotWell: not HDF5, damaged, or a part of the schema is missing.
        ManyGrids: coordinates or times differ between samples.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = open_hdf5(self.path)
        try:
            self.samples = int(self._file.attrs["n_trajectories"])
            self.layout = self._layout()
            self.ids, self.status = self._provenance()
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            self._file.close()
            if isinstance(error, NotWell):
                raise
            reason = error.args[0] if error.args else error
            raise NotWell(
                f"{path} does not follow The Well's schema, `solvus check` says where: {reason}"
            ) from None

    def read(self, start: int, stop: int) -> Values:
        """Return samples start to stop of every field; see `Source.read`.

        Raises:
            IndexError: outside of the file.
            OSError: a chunk is damaged.
        """
        if not 0 <= start <= stop <= self.samples:
            raise IndexError(f"{self.path.name} holds {self.samples} samples, asked for {start} to {stop}")
        samples = slice(start, stop)
        return {
            v.name: self._values(v, samples) if v.sample_varying else self._shared[v.name]
            for v in self.layout.variables
        }

    def varying_scalars(self) -> dict[str, NDArray[Any]]:
        """Return scalars that vary between samples or in time: no part of the layout, as stored."""
        scalars = self._file["scalars"]
        return {name: scalars[name][()] for name in scalars.attrs["field_names"] if _varies(scalars[name])}

    def close(self) -> None:
        """Let go of the file; harmless when repeated."""
        self._file.close()

    @cached_property
    def _shared(self) -> dict[str, NDArray[Any]]:
        return {v.name: self._values(v, None) for v in self.layout.variables if not v.sample_varying}

    def _values(self, variable: Variable, samples: slice | None) -> NDArray[Any]:
        dataset = self._file[GROUPS[variable.rank]][variable.name]
        index: tuple[Any, ...] = () if samples is None else (samples,)
        if dataset.attrs["time_varying"] and not variable.time_varying:
            index = (*index, 0)
        try:
            found = np.asarray(dataset[index], dtype=self.layout.dtype)
        except OSError as error:
            raise OSError(
                f"{self.path}: {variable.name} is damaged, copy or generate the file again ({error})"
            ) from None
        if np.any(dataset.attrs["dim_varying"]):
            return found
        lead = found.ndim - variable.rank  # one value for all of space: every point gets it
        along = found.reshape(*found.shape[:lead], *(1,) * self.layout.dim, *found.shape[lead:])
        front = () if samples is None else found.shape[:1]
        return np.broadcast_to(along, (*front, *self.layout.shape(variable.name)))

    def _layout(self) -> Layout:
        file = self._file
        axes = tuple(str(name) for name in file["dimensions"].attrs["spatial_dims"])
        times, coordinates = self._positions("time"), tuple(self._positions(axis) for axis in axes)
        self.steady = bool(file.attrs.get("steady", len(times) == 1))
        fields = [
            (rank, str(name), file[group][str(name)])
            for rank, group in enumerate(GROUPS)
            for name in file[group].attrs["field_names"]
        ]
        fields.sort(key=lambda field: int(field[2].attrs.get("number", 0)))
        wide = any(dataset.dtype.itemsize > 4 for _, _, dataset in fields)
        scalars = file["scalars"]
        fixed = [str(name) for name in scalars.attrs["field_names"] if not _varies(scalars[name])]
        return Layout(
            str(file.attrs["dataset_name"]),
            axes,
            coordinates,
            times[:1] if self.steady else times,
            tuple(self._variable(rank, name, dataset, axes) for rank, name, dataset in fields),
            self._boundary(axes),
            {name: float(file.attrs.get(name, scalars[name][()])) for name in fixed},
            "float64" if wide else "float32",
        )

    def _variable(self, rank: int, name: str, dataset: h5py.Dataset, axes: tuple[str, ...]) -> Variable:
        attrs = dataset.attrs
        timed = bool(attrs["time_varying"])
        guess = (Role.OUTPUT if self.steady else Role.STATE) if timed else Role.INPUT
        along = tuple(axis for axis, varies in zip(axes, attrs["dim_varying"], strict=True) if varies)
        return Variable(
            name,
            rank,
            Role(attrs.get("role", guess)),
            bool(attrs["sample_varying"]),
            timed and not self.steady,
            str(attrs.get("meaning", "")),
            tuple(str(axis) for axis in attrs.get("axes", () if along == axes else along)),
        )

    def _positions(self, name: str) -> NDArray[np.float64]:
        """Return times, or the coordinates of an axis: exact where the file has them so."""
        exact = self._file.get(f"coordinates/{name}")
        found = np.asarray(self._file["dimensions"][name] if exact is None else exact, dtype=np.float64)
        if found.ndim < 2:
            return found
        if not (found == found[0]).all():
            raise ManyGrids(
                f"{self.path.name}: the samples have different values of {name!r}; a layout has one grid and "
                "one set of times: split the file by them, or interpolate to common ones"
            )
        return found[0]

    def _boundary(self, axes: tuple[str, ...]) -> tuple[tuple[Boundary, Boundary], ...] | None:
        """Return the conditions; of The Well's own kinds, only "periodic" says what it is."""
        exact = self._file.get("boundary_conditions_ext")
        if exact is not None:
            sides = [exact[axis].attrs for axis in axes]
            return tuple((Boundary(side["low"]), Boundary(side["high"])) for side in sides)
        conditions = [group.attrs for group in self._file["boundary_conditions"].values()]
        periodic = {a for c in conditions if c["bc_type"].upper() == "PERIODIC" for a in c["associated_dims"]}
        return tuple((Boundary.PERIODIC, Boundary.PERIODIC) for _ in axes) if periodic == set(axes) else None

    def _provenance(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        group = self._file.get("provenance", {})
        ids = np.asarray(group["sample_id"]) if "sample_id" in group else np.arange(self.samples)
        status = group["status"].asstr()[()].tolist() if "status" in group else [OK] * self.samples
        return ids.astype(np.int64), tuple(status)

    def extras(self) -> dict[str, Any]:
        """Return what the file says about its making: recipe, seed, software, license."""
        return {key: self._file.attrs[key] for key in MAKING if key in self._file.attrs}


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        FileNotFoundError: no such file.
        NotWell: it is something else, or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        if h5py.is_hdf5(path):
            what = "is damaged, for example cut off: copy or generate it again"
        else:
            what = "is no HDF5 file"
        raise NotWell(f"{path} {what} ({error})") from None


def write_well(
    source: Source,
    path: str | Path,
    *,
    steady_as_pair: bool = True,
    compression: str | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write grid data to one file of The Well, block by block; the file appears when it is complete.

    Args:
        source: of the data.
        path: of the file, *.hdf5 or *.h5.
        steady_as_pair: repeat steady states at a second time, without which The Well's loader does not open
            the file; reading gives the steady data back.
        compression: see `GridStorage`.
        attributes: of the file: license, generator and the like.
        overwrite: replace an existing file.

    Raises:
        FileExistsError: the file is there and `overwrite` is False.
        FileNotFoundError: there is no such folder.
        ValueError: the source is empty, or a name is taken by the format.
    """
    storage = GridStorage(source.layout, compression, 2 if steady_as_pair and source.layout.steady else 1)
    known = source if isinstance(source, WellFile) else None
    shared = {v.name for v in source.layout.variables if not v.sample_varying}
    with whole_file(Path(path), overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        storage.allocate(file, source.samples)
        file.attrs["format"], file.attrs["format_version"] = FORMAT, VERSION
        for key, value in {**(known.extras() if known else {}), **(attributes or {})}.items():
            file.attrs[key] = value
        for start, values in source.blocks():
            lengths = [len(array) for name, array in values.items() if name not in shared]
            for i in range(lengths[0] if lengths else source.samples - start):
                one = {name: array if name in shared else array[i] for name, array in values.items()}
                if known is None or known.status[start + i] == OK:
                    storage.put(file, start + i, one)
        group = file.create_group("provenance")
        group["sample_id"] = known.ids if known else np.arange(source.samples)
        status = known.status if known else (OK,) * source.samples
        group.create_dataset("status", data=np.array(status, dtype=object), dtype=STRING)
    return Path(path)


def _varies(thing: h5py.Dataset) -> bool:
    return bool(thing.attrs["sample_varying"] or thing.attrs["time_varying"])
