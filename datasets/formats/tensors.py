"""Files of plain arrays: .pt of neuraloperator, .npz of ours and others, .mat of the FNO papers."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray

from ...meshes.grid import Boundary
from ...meshes.whole import whole_file
from ..layout import AXES, Layout, Role, Variable
from ..source import Source
from .arrays import ArraySource, Axes, AxisMismatch, from_arrays
from .foreign import DoesNotFit, left_behind

LAYOUT = "solvus_layout"  # key of the description in .npz files of ours
PAIRS = (("x", "y"), ("coeff", "sol"), ("a", "u"))  # (inputs, outputs) as others name them


class NotTensors(ValueError):
    """A file of arrays that cannot be read, or does not say what is given and what is sought."""


class UnsafeFile(NotTensors):
    """A file that runs code when it is loaded, and is therefore not."""


def read_pt(path: str | Path, axes: Axes | Mapping[str, Axes] | None = None) -> ArraySource:
    """Read a file of neuraloperator: {"x": tensor, "y": tensor}, as the fields "input" and "output".

    Args:
        path: of the file.
        axes: names of the axes, see `from_arrays`, for both or for {"input": ..., "output": ...}; None takes
            tensors (sample, x[, y]).

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeFile: it holds more than tensors; loading it could run any code.
        NotTensors: it is damaged, or has no x and y.
        AxisMismatch: the axes do not fit, or must be named.
    """
    path = _existing(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path):
            raise _no_torch_file(path, error) from None
        raise UnsafeFile(
            f"{path.name} holds more than tensors, and loading that can run any code ({_first_line(error)}). "
            "If you trust its maker, load it yourself with torch.load(path, weights_only=False) and pass the "
            "tensors to from_arrays"
        ) from None
    except (EOFError, RuntimeError, ValueError, KeyError) as error:
        raise _no_torch_file(path, error) from None
    if not isinstance(content, Mapping):
        what = type(content).__name__
        raise NotTensors(f"{path.name} holds a {what}, needed is {{'x': tensor, 'y': tensor}}")
    arrays = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    return _pair(path, arrays, axes)


def write_pt(source: Source, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write {"x": inputs, "y": outputs} as neuraloperator's files have it; everything passes through memory.

    One scalar field on each side becomes (B, *space). Several, or vectors, become channels, (B, C, *space).

    Raises:
        DoesNotFit: the source has no inputs or no outputs, or its fields change in time on one side only.
        FileExistsError: the file is there and `overwrite` is False.
    """
    path = Path(path)
    pt_notes(source.layout)
    inputs, outputs = _sides(source.layout)
    values = source.read(0, source.samples)
    content = {"x": _tensor(inputs, values), "y": _tensor(outputs, values)}
    with whole_file(path, overwrite=overwrite) as temporary:
        torch.save(content, temporary)
    return path


def pt_notes(layout: Layout) -> tuple[str, ...]:
    """Return what a .pt file does not carry over; raises DoesNotFit where the source has no x and y."""
    inputs, outputs = _sides(layout)
    if not inputs or not outputs:
        lack = "inputs" if not inputs else "outputs"
        states = [v.name for v in layout.variables if v.role is Role.STATE]
        raise DoesNotFit(
            f"a .pt file holds inputs x and outputs y, {layout.name} has no {lack}"
            + (f" ({', '.join(states)} is both)" if states else "")
            + ": choose frames with read() and from_arrays, or write .npz, which takes everything"
        )
    for side in (inputs, outputs):
        if len({layout.shape(v.name)[: len(layout.shape(v.name)) - v.rank] for v in side}) > 1:
            raise DoesNotFit(
                f"{', '.join(v.name for v in side)} have different axes, channels of one tensor cannot: "
                "write .npz"
            )
    roles = {v.name: v.role for v in (*inputs, *outputs)}
    notes = left_behind(layout, roles)
    notes.append("coordinates and times are not recorded: who reads the file takes cells of (0, 1)")
    for key, side in (("x", inputs), ("y", outputs)):
        if len(side) > 1 or side[0].rank:
            names = ", ".join(v.name for v in side)
            notes.append(f"{key} has channels, (B, C, ...): {names}; their names are lost")
    if layout.parameters:
        notes.append(f"parameters are not recorded: {', '.join(layout.parameters)}")
    return tuple(notes)


def read_npz(path: str | Path, axes: Axes | Mapping[str, Axes] | None = None) -> ArraySource:
    """Read an .npz file: one of ours, which describes itself, or arrays x and y (coeff and sol, a and u).

    Raises as `read_pt` does; arrays of Python objects are refused.
    """
    path = _existing(path)
    try:
        with open(path, "rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise NotTensors(f"{path.name} holds one array, an .npz file holds several by name")
            arrays = {key: file[key] for key in file.files}
    except NotTensors:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise UnsafeFile(
                f"{path.name} holds Python objects, and loading them can run any code: it is not loaded"
            ) from None
        raise NotTensors(f"{path.name} is damaged, or no .npz file: {_first_line(error)}") from None
    if LAYOUT not in arrays:
        return _pair(path, arrays, axes)
    if axes is not None:
        raise AxisMismatch(f"{path.name} names its axes itself: leave them out")
    try:
        return _described(arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise NotTensors(f"{path.name} contradicts its own description: {_first_line(error)}") from None


def write_npz(source: Source, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write an .npz file that holds everything: fields by name, coordinates, times, and a description.

    `numpy.load(path)["u"]` is the field u, (B, ...); "axis.x" are coordinates, "axis.time" the times, and
    "solvus_layout" is the description, JSON. Written block by block; the same data give the same bytes.

    Raises:
        FileExistsError: the file is there and `overwrite` is False.
        ValueError: a field has the name of such a key.
    """
    path, layout = Path(path), source.layout
    axes = {f"axis.{axis}": c for axis, c in zip(layout.axes, layout.coordinates, strict=True)}
    axes["axis.time"] = layout.times
    taken = {LAYOUT, *axes} & {v.name for v in layout.variables}
    if taken:
        raise ValueError(f"the format itself uses the name {', '.join(taken)}: rename the field")
    if source.samples < 1:
        raise ValueError(f"{layout.name} holds no sample: there is nothing to write")
    dtype = np.dtype(layout.dtype).newbyteorder("<")
    with whole_file(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for key, array in {LAYOUT: np.array(_description(source)), **axes}.items():
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        for v in layout.variables:
            shape = (source.samples,) * v.sample_varying + layout.shape(v.name)
            with archive.open(zipfile.ZipInfo(f"{v.name}.npy"), "w", force_zip64=True) as file:
                header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                if not v.sample_varying:
                    file.write(np.ascontiguousarray(source.read(0, 1)[v.name], dtype).data)
                    continue
                for _, values in source.blocks():
                    file.write(np.ascontiguousarray(values[v.name], dtype).data)
    return path


def read_mat(path: str | Path, axes: Axes | Mapping[str, Axes] | None = None) -> ArraySource:
    """Read a MATLAB file with coeff and sol (Darcy), or a and u (Burgers, Navier-Stokes), through memory.

    Old files are read by SciPy; those of version 7.3 are HDF5 and have their axes turned around. A u with one
    axis more than a, (sample, x, y, time), is a trajectory; its times are t where the file has it.

    Raises as `read_pt` does.
    """
    path = _existing(path)
    keys = [key for pair in PAIRS for key in pair] + ["t"]
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                arrays = {key: file[key][()].T for key in keys if isinstance(file.get(key), h5py.Dataset)}
        else:
            arrays = {k: v for k, v in scipy.io.loadmat(path, variable_names=keys).items() if k in keys}
    except (ValueError, OSError, TypeError, NotImplementedError, IndexError) as error:
        raise NotTensors(f"{path.name} is damaged, or no MATLAB file: {_first_line(error)}") from None
    return _pair(path, arrays, axes)


def _pair(path: Path, arrays: Mapping[str, Any], axes: Axes | Mapping[str, Axes] | None) -> ArraySource:
    """Return the source of the first known pair of arrays."""
    for given, sought in PAIRS:
        if given in arrays and sought in arrays:
            break
    else:
        known = ", or ".join(f"{a} and {b}" for a, b in PAIRS)
        raise NotTensors(
            f"{path.name} holds {', '.join(arrays) or 'no array'}; needed are {known}: load the file "
            "yourself, and pass its arrays to from_arrays"
        )
    fields = {"input": arrays[given], "output": arrays[sought]}
    if given != "x":
        fields = {given: arrays[given], sought: arrays[sought]}
    a, u = fields.values()
    coordinates = None
    if axes is None:
        axes = {name: _usual(path, name, value.ndim) for name, value in fields.items()}
        if tuple(u.shape[:-1]) == tuple(a.shape) and a.ndim == 3:
            axes = dict(zip(fields, (("sample", "x", "y"), ("sample", "x", "y", "time")), strict=True))
            t = np.ravel(arrays["t"]) if "t" in arrays else None
            coordinates = {"time": t} if t is not None and len(t) == u.shape[-1] else None
    x, y = ({name: value} for name, value in fields.items())
    return from_arrays(x, y, axes=axes, coordinates=coordinates, name=path.stem)


def _usual(path: Path, name: str, axes: int) -> tuple[str, ...]:
    if axes in (2, 3, 4):
        return ("sample", *AXES[: axes - 1])
    raise AxisMismatch(
        f"{path.name}: {name} has {axes} axes and the file does not say which is which: name them, "
        "axes=('sample', 'time', 'x', ...)"
    )


def _sides(layout: Layout) -> tuple[list[Variable], list[Variable]]:
    fields = [v for v in layout.variables if v.sample_varying]
    return [v for v in fields if v.role is Role.INPUT], [v for v in fields if v.role is Role.OUTPUT]


def _tensor(side: list[Variable], values: Mapping[str, NDArray[Any]]) -> torch.Tensor:
    """Return one tensor, (B, ...) for one scalar, else (B, C, ...)."""
    if len(side) == 1 and not side[0].rank:
        return torch.from_numpy(np.ascontiguousarray(values[side[0].name]))
    parts = []
    for v in side:
        array = values[v.name]
        lead = array.ndim - v.rank
        parts.append(np.moveaxis(array.reshape(*array.shape[:lead], -1), -1, 1))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _description(source: Source) -> str:
    layout = source.layout
    boundary = None if layout.boundary is None else [[low.value, high.value] for low, high in layout.boundary]
    return json.dumps(
        {
            "format": "solvus arrays",
            "format_version": 1,
            "name": layout.name,
            "samples": source.samples,
            "axes": layout.axes,
            "dtype": layout.dtype,
            "boundary": boundary,
            "parameters": {key: float(value) for key, value in layout.parameters.items()},
            "fields": [
                {
                    "name": v.name,
                    "rank": v.rank,
                    "role": v.role.value,
                    "sample_varying": v.sample_varying,
                    "time_varying": v.time_varying,
                    "meaning": v.meaning,
                    "axes": v.axes,
                }
                for v in layout.variables
            ],
        }
    )


def _described(arrays: Mapping[str, NDArray[Any]]) -> ArraySource:
    told = json.loads(str(arrays[LAYOUT]))
    if told["format_version"] != 1:
        raise ValueError(f"format version {told['format_version']}, this solvus reads 1")
    boundary = told["boundary"]
    layout = Layout(
        told["name"],
        tuple(told["axes"]),
        tuple(arrays[f"axis.{axis}"] for axis in told["axes"]),
        arrays["axis.time"],
        tuple(Variable(**{**field, "axes": tuple(field["axes"])}) for field in told["fields"]),
        None if boundary is None else tuple((Boundary(low), Boundary(high)) for low, high in boundary),
        told["parameters"],
        told["dtype"],
    )
    return ArraySource(layout, {v.name: arrays[v.name] for v in layout.variables}, told["samples"])


def _no_torch_file(path: Path, error: BaseException) -> NotTensors:
    return NotTensors(f"{path.name} is damaged, or no file of torch.save: {_first_line(error)}")


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    return path


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
