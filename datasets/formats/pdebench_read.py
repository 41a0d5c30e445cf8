"""Files of PDEBench as sources, read lazily, whichever of the three layouts they have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
import yaml
from numpy.typing import NDArray

from ..layout import AXES, Layout, Role, Values, Variable
from .pdebench import CFD, NotPDEBench, PDEBench, PDEBenchLayout, layout_of, samples_in


def read_pdebench(path: str | Path) -> PDEBench:
    """Open a file of PDEBench, whichever layout it has.

    Axes are called x, y, z. A single `tensor` is the state "u"; with `nu` the pair is the input "nu" and the
    output "u". Fields of layout B are called u, or u0, u1, ... unless the file names them. A time axis that
    is longer than the data is cut, with a warning; samples that are all zero or not finite are named in a
    warning when they are read.

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
            f"{path.name} has none of the layouts of PDEBench, it holds {keys}: expected are tensor, or "
            "density (layout A), groups 0000, 0001, ... with data (B), or velocity (C)"
        )
    readers = {PDEBenchLayout.A: ArrayFile, PDEBenchLayout.B: GroupFile, PDEBenchLayout.C: FlowFile}
    return readers[layout](path)


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
            times = self._times(file.get("t-coordinate"), shape[1])
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

    def _part(self, sample: int, times: slice, name: str) -> NDArray[Any]:
        key = self._keys[name]
        if self.layout.steady:
            return self._file[key][sample, 0] if key == "tensor" else self._file[key][sample]
        return self._file[key][sample, times]


@final
class GroupFile(PDEBench):
    """Layout B: a group per sample, channels last. Form, grid and times are those of the first sample."""

    kind = PDEBenchLayout.B

    def _examine(self) -> tuple[Layout, int]:
        file = self._file
        self._names = samples_in(file)
        first, last = file[self._names[0]], file[self._names[-1]]
        absent = sorted(set(range(int(self._names[-1]) + 1)) - {int(name) for name in self._names})
        if absent:
            some = ", ".join(map(str, absent[:10])) + (", ..." if len(absent) > 10 else "")
            self._suspect(f"{len(absent)} samples are missing, {some}: the others are counted without gaps")
        shape = first["data"].shape
        if len(shape) not in (3, 4, 5):
            raise self._fault(f"{first.name}/data has the shape {shape}, needed is (T, X, C) or (T, X, Y, C)")
        space, channels = shape[1:-1], shape[-1]
        grid = first.get("grid", {})
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
            self._times(grid.get("t"), shape[0]),
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

    def _part(self, sample: int, times: slice, name: str) -> NDArray[Any]:
        channel = [v.name for v in self.layout.variables].index(name)
        return self._file[self._names[sample]]["data"][times, ..., channel]


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
                f"the times differ between samples by up to {np.ptp(times, axis=0).max():.3g}: "
                "those of the first hold"
            )
        return self._times(None if times is None else times[0], frames)

    def _read(self, start: int, stop: int) -> Values:
        dtype = np.dtype(self.layout.dtype)
        values = {
            v.name: self._file[v.name][start:stop].astype(dtype, copy=False) for v in self.layout.variables
        }
        return {name: a[..., 0] if name == "particles" else a for name, a in values.items()}

    def _part(self, sample: int, times: slice, name: str) -> NDArray[Any]:
        found = (
            self._file[name][sample, times] if self.layout[name].time_varying else self._file[name][sample]
        )
        return found[..., 0] if name == "particles" else found


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
