"""Files of PDEBench, read lazily: one file per parameter (A), a group per sample (B), incompressible flow (C)."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
import yaml
from numpy.typing import NDArray

from .arrays import cell_centres
from .layout import AXES, Layout, Role, Values, Variable
from .source import Source

CFD = ("density", "pressure", "Vx", "Vy", "Vz")


class PDEBenchLayout(StrEnum):
    """How a file is laid out.

    A: one array per field, (sample, time, *space): `tensor`, or `nu` and `tensor` (Darcy), or density, pressure
    and velocities (CFD). B: a group `0000`, `0001`, ... per sample, channels last. C: `velocity`, `particles`,
    `force` of an incompressible flow.
    """

    A = "A"
    B = "B"
    C = "C"


class NotPDEBench(ValueError):
    """A file that has none of the layouts of PDEBench, or breaks the one it has."""


class SuspectData(UserWarning):
    """Data that can be read but should not be trusted: missing samples, times that do not fit."""


def layout_of(file: h5py.File) -> PDEBenchLayout | None:
    """Return the layout of an open file, told by its content; None where it is none of them."""
    if "velocity" in file:
        return PDEBenchLayout.C
    if "tensor" in file or "density" in file:
        return PDEBenchLayout.A
    return PDEBenchLayout.B if _samples(file) else None


def read_pdebench(path: str | Path) -> PDEBench:
    """Open a file of PDEBench, whichever layout it has.

    Axes are called x, y, z. A single `tensor` is the state "u"; with `nu` the pair is the input "nu" and the
    output "u". Fields of layout B are called u, or u0, u1, ... unless the file names them. A time axis that is one
    longer than the data loses its last entry, with a warning; samples that are all zero or not finite are named
    in a warning when they are read.

    Raises:
        FileNotFoundError: there is no such file.
        NotPDEBench: it has none of the layouts, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        with h5py.File(path, "r") as file:
            layout, keys = layout_of(file), ", ".join(list(file)[:8]) or "nothing"
    except OSError as error:
        raise NotPDEBench(f"{path.name} is not a readable HDF5 file: {error}") from None
    if layout is None:
        raise NotPDEBench(
            f"{path.name} has none of the layouts of PDEBench, it holds {keys}: expected are tensor, or density "
            "(layout A), groups 0000, 0001, ... with data (B), or velocity (C)"
        )
    readers = {PDEBenchLayout.A: ArrayFile, PDEBenchLayout.B: GroupFile, PDEBenchLayout.C: FlowFile}
    return readers[layout](path)


def pdebench_split(samples: int, protocol: str) -> tuple[range, range]:
    """Return which samples train and which test in PDEBench: it has two rules, never mix their figures.

    Args:
        samples: in the file.
        protocol: "pdebench-single", the first tenth tests (loader of one file), or "pdebench-mult", the last
            tenth tests (loader of several files).

    >>> pdebench_split(100, "pdebench-single")
    (range(10, 100), range(0, 10))
    >>> pdebench_split(100, "pdebench-mult")
    (range(0, 90), range(90, 100))
    """
    if protocol == "pdebench-single":
        return range(samples // 10, samples), range(samples // 10)
    if protocol == "pdebench-mult":
        return range(samples * 9 // 10), range(samples * 9 // 10, samples)
    raise ValueError(f"the split is 'pdebench-single' or 'pdebench-mult', got {protocol!r}")


class PDEBench(Source):
    """An open file of PDEBench; `read_pdebench` makes it.

    Attributes:
        kind: its layout.
    """

    kind: PDEBenchLayout

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told: set[int] = set()
        self._file = h5py.File(path, "r", locking="best-effort")
        try:
            self.layout, self.samples = self._examine()
        except BaseException:
            self._file.close()
            raise

    @abstractmethod
    def _examine(self) -> tuple[Layout, int]:
        """Return the form of the samples and their number."""

    @abstractmethod
    def _read(self, start: int, stop: int) -> Values:
        """Return samples as they are."""

    @final
    def read(self, start: int, stop: int) -> Values:
        """Return samples start to stop of every field; warn of samples that are missing."""
        values = self._read(start, stop)
        self._warn(self._missing(values, start))
        return values

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _fault(self, text: str) -> NotPDEBench:
        return NotPDEBench(f"{self.path.name}: {text}")

    def _missing(self, values: Values, start: int) -> set[int]:
        """Samples that are zero in all that was solved for, or not finite."""
        solved = [values[v.name] for v in self.layout.variables if v.role is not Role.INPUT]
        zero = np.all([~_rows(a).any(axis=1) for a in solved], axis=0)
        broken = np.any([~np.isfinite(_rows(a)).all(axis=1) for a in values.values()], axis=0)
        return {start + int(i) for i in np.flatnonzero(zero | broken)}

    def _warn(self, missing: set[int]) -> None:
        new = sorted(missing - self._told)
        if new:
            self._told |= missing
            some = ", ".join(map(str, new[:10])) + (", ..." if len(new) > 10 else "")
            warnings.warn(
                f"{self.path.name}: {len(new)} samples are all zero or not finite, so probably missing: {some}; "
                "leave them out before you train",
                SuspectData,
                stacklevel=3,
            )

    def _times(self, given: Any, n: int) -> NDArray[np.float64]:
        """Return n times: those of the file, one too many dropped, or 0, 1, 2, ... where there are none."""
        if given is None:
            self._suspect("there is no t-coordinate, times are counted 0, 1, 2, ...")
            return np.arange(float(n))
        times = np.asarray(given, dtype=np.float64).ravel()
        if len(times) < n:
            raise self._fault(f"the t-coordinate has {len(times)} entries, the data have {n} times")
        if len(times) > n:
            self._suspect(
                f"the t-coordinate has {len(times)} entries, the data {n} times: the first {n} are taken"
            )
        return times[:n]

    def _suspect(self, text: str) -> None:
        warnings.warn(f"{self.path.name}: {text}", SuspectData, stacklevel=5)

    def _coordinates(self, shape: Iterable[int], given: Mapping[str, Any]) -> tuple[NDArray[np.float64], ...]:
        found = []
        for axis, n in zip(AXES, shape, strict=False):
            values = cell_centres(n) if axis not in given else np.asarray(given[axis], dtype=np.float64)
            if values.shape != (n,):
                raise self._fault(
                    f"the {axis}-coordinate has the shape {values.shape}, the data have {n} points"
                )
            found.append(values)
        return tuple(found)

    def _root_coordinates(self) -> dict[str, Any]:
        return {a: self._file[f"{a}-coordinate"][...] for a in AXES if f"{a}-coordinate" in self._file}

    def _dtype(self, names: Iterable[str]) -> str:
        return str(np.result_type(np.float32, *(self._file[name].dtype for name in names)))


@final
class ArrayFile(PDEBench):
    """Layout A: one array per field."""

    kind = PDEBenchLayout.A

    def _examine(self) -> tuple[Layout, int]:
        file = self._file
        names = ("tensor",) if "tensor" in file else tuple(name for name in CFD if name in file)
        shape = file[names[0]].shape
        darcy = names == ("tensor",) and len(shape) == 4
        if darcy and (shape[1] != 1 or "nu" not in file or file["nu"].shape != (shape[0], *shape[2:])):
            have = f"nu {file['nu'].shape}" if "nu" in file else "no nu"
            raise self._fault(
                f"tensor {shape} with {have}; Darcy flow has tensor (B, 1, X, Y) and nu (B, X, Y)"
            )
        if not darcy and (len(shape) not in (3, 4, 5) or (names == ("tensor",) and len(shape) != 3)):
            raise self._fault(
                f"{names[0]} has the shape {shape}, needed is (B, T, X), for CFD also with Y and Z"
            )
        odd = [name for name in names if file[name].shape != shape]
        if odd:
            raise self._fault(f"{odd[0]} has the shape {file[odd[0]].shape}, {names[0]} has {shape}")
        space = shape[2:]
        if darcy:
            self._keys = {_called(file["nu"], "nu"): "nu", _called(file["tensor"], "u"): "tensor"}
            fields = tuple(
                Variable(name, role=role)
                for name, role in zip(self._keys, (Role.INPUT, Role.OUTPUT), strict=True)
            )
            times = np.zeros(1)
        else:
            self._keys = {_called(file[key], "u" if key == "tensor" else key): key for key in names}
            fields = tuple(Variable(name, role=Role.STATE, time_varying=True) for name in self._keys)
            times = self._times(file["t-coordinate"] if "t-coordinate" in file else None, shape[1])
        layout = Layout(
            _text(file.attrs.get("dataset_name")) or self.path.stem,
            AXES[: len(space)],
            self._coordinates(space, self._root_coordinates()),
            times,
            fields,
            parameters=_numbers(file.attrs),
            dtype=self._dtype(self._keys.values()),
        )
        return layout, shape[0]

    def _read(self, start: int, stop: int) -> Values:
        dtype = np.dtype(self.layout.dtype)
        values = {
            name: self._file[key][start:stop].astype(dtype, copy=False) for name, key in self._keys.items()
        }
        return {
            n: a[:, 0] if self.layout.steady and self._keys[n] == "tensor" else a for n, a in values.items()
        }


@final
class GroupFile(PDEBench):
    """Layout B: a group per sample, channels last. Form, grid and times are those of the first sample."""

    kind = PDEBenchLayout.B

    def _examine(self) -> tuple[Layout, int]:
        file = self._file
        self._names = _samples(file)
        first, last = file[self._names[0]], file[self._names[-1]]
        absent = sorted(set(range(int(self._names[-1]) + 1)) - {int(name) for name in self._names})
        if absent:
            some = ", ".join(map(str, absent[:10])) + (", ..." if len(absent) > 10 else "")
            self._suspect(f"{len(absent)} samples are missing, {some}: the others are counted without gaps")
        shape = first["data"].shape
        if len(shape) not in (3, 4, 5):
            raise self._fault(f"{first.name}/data has the shape {shape}, needed is (T, X, C) or (T, X, Y, C)")
        space, channels = shape[1:-1], shape[-1]
        grid = first["grid"] if "grid" in first else {}
        given = _words(file.attrs.get("field_names", ()))
        names = (
            given
            if len(given) == channels
            else ["u"]
            if channels == 1
            else [f"u{i}" for i in range(channels)]
        )
        one, other = _config(first), _config(last)
        layout = Layout(
            _text(file.attrs.get("dataset_name")) or self.path.stem,
            AXES[: len(space)],
            self._coordinates(space, {axis: grid[axis][...] for axis in AXES if axis in grid}),
            self._times(grid["t"] if "t" in grid else None, shape[0]),
            tuple(Variable(name, role=Role.STATE, time_varying=True) for name in names),
            parameters={key: value for key, value in one.items() if other.get(key) == value},
            dtype=str(np.result_type(np.float32, first["data"].dtype)),
        )
        return layout, len(self._names)

    def _read(self, start: int, stop: int) -> Values:
        arrays = []
        needed = self._file[self._names[0]]["data"].shape
        for name in self._names[start:stop]:
            data = self._file[name]["data"]
            if data.shape != needed:
                raise self._fault(f"sample {name} has the shape {data.shape}, the first one has {needed}")
            arrays.append(data[...])
        block = np.stack(arrays).astype(self.layout.dtype, copy=False) if arrays else np.empty((0, *needed))
        return {v.name: block[..., i] for i, v in enumerate(self.layout.variables)}


@final
class FlowFile(PDEBench):
    """Layout C: velocity, particle density and force of incompressible flows in two dimensions."""

    kind = PDEBenchLayout.C

    def _examine(self) -> tuple[Layout, int]:
        file = self._file
        shape = file["velocity"].shape
        if len(shape) != 5 or shape[-1] != 2:
            raise self._fault(f"velocity has the shape {shape}, needed is (B, T, X, Y, 2)")
        samples, frames, space = shape[0], shape[1], shape[2:4]
        needed = {"velocity": shape, "particles": (*shape[:-1], 1), "force": (samples, *space, 2)}
        odd = [name for name in needed if name in file and file[name].shape != needed[name]]
        if odd:
            raise self._fault(f"{odd[0]} has the shape {file[odd[0]].shape}, needed is {needed[odd[0]]}")
        offered = (
            Variable("velocity", 1, Role.STATE, time_varying=True),
            Variable("particles", 0, Role.STATE, time_varying=True),
            Variable("force", 1, Role.INPUT),
        )
        fields = tuple(v for v in offered if v.name in file)
        layout = Layout(
            _text(file.attrs.get("dataset_name")) or self.path.stem,
            AXES[:2],
            self._coordinates(space, self._root_coordinates()),
            self._common_times(frames),
            fields,
            parameters=_leaves(yaml.safe_load(_text(file.attrs.get("config"))) or {}),
            dtype=self._dtype(v.name for v in fields),
        )
        return layout, samples

    def _common_times(self, frames: int) -> NDArray[np.float64]:
        times = np.atleast_2d(self._file["t"][...]) if "t" in self._file else None
        if times is not None and np.ptp(times, axis=0).max() > 0:
            self._suspect(
                f"the times differ between samples by up to {np.ptp(times, axis=0).max():.3g}: those of the first hold"
            )
        return self._times(None if times is None else times[0], frames)

    def _read(self, start: int, stop: int) -> Values:
        dtype = np.dtype(self.layout.dtype)
        values = {
            v.name: self._file[v.name][start:stop].astype(dtype, copy=False) for v in self.layout.variables
        }
        return {name: a[..., 0] if name == "particles" else a for name, a in values.items()}


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _samples(file: h5py.File) -> list[str]:
    """Names of the groups of samples, by number."""
    names = [n for n in file if n.isdigit() and isinstance(file.get(n), h5py.Group) and "data" in file[n]]
    return sorted(names, key=int)


def _called(dataset: h5py.Dataset, default: str) -> str:
    """Name of a field: files of this package tell it in an attribute that others do not look at."""
    return _text(dataset.attrs.get("field_name")) or default


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _words(values: Any) -> list[str]:
    return [_text(value) for value in np.atleast_1d(values)]


def _numbers(attributes: Mapping[str, Any]) -> dict[str, float]:
    """Attributes that are one number."""
    return {
        key: float(np.asarray(value).ravel()[0])
        for key, value in attributes.items()
        if np.asarray(value).size == 1 and np.asarray(value).dtype.kind in "fiu"
    }


def _config(group: h5py.Group) -> dict[str, float]:
    return _leaves(yaml.safe_load(_text(group.attrs.get("config"))) or {})


def _leaves(tree: Any, above: str = "") -> dict[str, float]:
    """Numbers of a nested configuration, by dotted names."""
    if not isinstance(tree, Mapping):
        return {}
    found: dict[str, float] = {}
    for key, value in tree.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found
