"""Write files in the layouts of PDEBench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from numpy.typing import NDArray

from ...meshes.whole import whole_file
from ..layout import AXES, Layout, Role, Variable
from ..source import Source
from .foreign import DoesNotFit, left_behind
from .pdebench import CFD, PDEBenchLayout

_WORDS = h5py.string_dtype()
_WHOLE = 1 << 23  # bytes up to which a sample is one chunk
_FLOW = {
    "velocity": (1, True, Role.STATE),
    "particles": (0, True, Role.STATE),
    "force": (1, False, Role.INPUT),
}


def write_pdebench(
    source: Source,
    path: str | Path,
    layout: PDEBenchLayout | str = PDEBenchLayout.A,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a source as one file of PDEBench, block by block; the file appears when it is complete.

    Values keep their bits: float64 stays float64, which the loaders of PDEBench read too. Beyond the format,
    names of fields and of the dataset are stored in attributes that other readers pass over.

    Args:
        source: what fits the layout. A: one scalar state in 1D; a steady scalar input and a scalar output
            in 2D (Darcy); or the states density, pressure, Vx[, Vy[, Vz]]. B: any states in one or two
            dimensions. C: the vector velocity, and if there are any the scalar particles and the steady
            vector force, in 2D.
        path: of the file. The loaders of PDEBench expect the suffix .hdf5 for A and .h5 for B and C.
        layout: "A", "B" or "C".
        overwrite: replace an existing file.

    Raises:
        DoesNotFit: the source does not fit the layout; the message says which one it does fit.
        FileExistsError: the file is there and `overwrite` is False.
    """
    path, kind = Path(path), PDEBenchLayout(layout)
    pdebench_notes(source.layout, kind)
    write = {PDEBenchLayout.A: _write_arrays, PDEBenchLayout.B: _write_groups, PDEBenchLayout.C: _write_flow}[
        kind
    ]
    with whole_file(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["dataset_name"] = source.layout.name
        write(source, file)
    return path


def pdebench_notes(layout: Layout, kind: PDEBenchLayout) -> tuple[str, ...]:
    """Return what a layout of PDEBench does not carry over; raises DoesNotFit where the source has no place "
    "in it."""
    fields = _varying(layout)
    if kind is PDEBenchLayout.A:
        roles = {name: layout[name].role if layout.steady else Role.STATE for name in _keys(layout).values()}
        return tuple(left_behind(layout, roles))
    if kind is PDEBenchLayout.B:
        odd = [v.name for v in fields if not v.time_varying or v.axes]
        if odd or layout.dim > 2 or not fields:
            why = (
                f"it has {layout.dim} dimensions"
                if layout.dim > 2
                else f"{', '.join(odd) or 'nothing'} is no state"
            )
            raise DoesNotFit(
                f"layout B of PDEBench holds states in one or two dimensions, {layout.name} does not fit: "
                f"{why}; write a file of The Well, which takes everything, or for Darcy flow layout A"
            )
        notes = left_behind(layout, {v.name: Role.STATE for v in fields})
        split = [f"{v.name} becomes {', '.join(_channels(v, layout))}" for v in fields if v.rank]
        return (*notes, *(["vectors and tensors become channels: " + "; ".join(split)] if split else []))
    odd = [v.name for v in fields if v.axes or (v.rank, v.time_varying) != _FLOW.get(v.name, (0, 0, 0))[:2]]
    if odd or layout.dim != 2 or "velocity" not in (v.name for v in fields):
        have = ", ".join(_described(v) for v in fields)
        raise DoesNotFit(
            "layout C of PDEBench holds a flow in 2D: the vector velocity and, where there are any, the "
            f"scalar particles and the steady vector force. {layout.name} has {layout.dim} dimensions and "
            f"{have}; write layout B, or a file of The Well"
        )
    return tuple(left_behind(layout, {v.name: _FLOW[v.name][2] for v in fields}))


def _varying(layout: Layout) -> list[Variable]:
    return [v for v in layout.variables if v.sample_varying]


def _described(v: Variable) -> str:
    rank = ("scalar", "vector", "tensor")[v.rank]
    return f"{v.name} ({rank} {v.role.value}{'' if v.time_varying else ', steady'})"


def _keys(layout: Layout) -> dict[str, str]:
    """Return which field is stored under which key in layout A."""
    fields = _varying(layout)
    whole = all(v.rank == 0 and not v.axes for v in fields)
    names = [v.name for v in fields]
    if whole and layout.dim == 1 and len(fields) == 1 and fields[0].time_varying:
        return {"tensor": names[0]}
    roles = {v.role: v.name for v in fields}
    if (
        whole
        and layout.dim == 2
        and len(fields) == 2
        and layout.steady
        and set(roles) == {Role.INPUT, Role.OUTPUT}
    ):
        return {"nu": roles[Role.INPUT], "tensor": roles[Role.OUTPUT]}
    cfd = CFD[: 2 + layout.dim]
    if whole and set(names) == set(cfd) and all(v.time_varying for v in fields):
        return {name: name for name in cfd}
    have = ", ".join(_described(v) for v in fields) or "only fields that all samples share"
    raise DoesNotFit(
        f"layout A of PDEBench holds one scalar state in 1D, a steady input and output in 2D, or the states "
        f"{', '.join(cfd)}. {layout.name} has {layout.dim} dimensions and {have}; write layout B, which "
        "takes all states in one or two dimensions, or a file of The Well, which takes everything"
    )


def _write_arrays(source: Source, file: h5py.File) -> None:
    layout, keys = source.layout, _keys(source.layout)
    for key, name in keys.items():
        shape = layout.shape(name)
        inner = (1, *shape) if layout.steady and key == "tensor" else shape
        file.create_dataset(key, (source.samples, *inner), layout.dtype).attrs["field_name"] = name
    for start, values in source.blocks():
        for key, name in keys.items():
            array = values[name]
            file[key][start : start + len(array)] = array[:, None] if file[key].ndim > array.ndim else array
    _put_coordinates(file, layout)
    if not layout.steady:
        file["t-coordinate"] = _exact(layout.times)
    for name, value in layout.parameters.items():
        file.attrs[name] = value


def _write_groups(source: Source, file: h5py.File) -> None:
    layout, fields = source.layout, _varying(source.layout)
    names = [name for v in fields for name in _channels(v, layout)]
    file.attrs.create("field_names", np.array(names, dtype=object), dtype=_WORDS)
    config = _config(layout)
    for start, values in source.blocks():
        block = np.concatenate([_channels_last(values[v.name], v, layout) for v in fields], axis=-1)
        for i, sample in enumerate(block, start):
            group = file.create_group(f"{i:04d}")
            group.attrs["config"] = config
            chunk = sample.shape if sample.nbytes <= _WHOLE else (1, *sample.shape[1:])
            group.create_dataset("data", data=sample, chunks=chunk, compression="lzf")
            for axis, positions in zip(AXES, layout.coordinates, strict=False):
                group[f"grid/{axis}"] = _exact(positions)
            group["grid/t"] = _exact(layout.times)


def _write_flow(source: Source, file: h5py.File) -> None:
    layout, samples = source.layout, source.samples
    fields = [v.name for v in _varying(layout)]
    for name in fields:
        shape = (*layout.shape(name), 1) if name == "particles" else layout.shape(name)
        chunk = (1, *shape) if name == "force" else (1, 1, *shape[1:])
        file.create_dataset(
            name, (samples, *shape), layout.dtype, chunks=chunk, compression="lzf", shuffle=True
        )
    for start, values in source.blocks():
        for name in fields:
            array = values[name][..., None] if name == "particles" else values[name]
            file[name][start : start + len(array)] = array
    file["t"] = np.tile(_exact(layout.times), (samples, 1))
    _put_coordinates(file, layout)
    file.attrs["config"], file.attrs["latestIndex"] = _config(layout), samples - 1


def _config(layout: Layout) -> str:
    return yaml.safe_dump({name: float(value) for name, value in layout.parameters.items()})


def _put_coordinates(file: h5py.File, layout: Layout) -> None:
    for axis, positions in zip(AXES, layout.coordinates, strict=False):
        file[f"{axis}-coordinate"] = _exact(positions)


def _exact(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return positions as float32, as PDEBench has them, where nothing is lost by it."""
    narrow = values.astype(np.float32)
    return narrow if np.array_equal(narrow, values) else values


def _channels(variable: Variable, layout: Layout) -> list[str]:
    """Names of the components of a field, in the order in which they lie."""
    words = [""]
    for _ in range(variable.rank):
        words = [word + axis for word in words for axis in layout.axes]
    return [f"{variable.name}_{word}" if word else variable.name for word in words]


def _channels_last(array: NDArray[Any], variable: Variable, layout: Layout) -> NDArray[Any]:
    return array.reshape(*array.shape[: array.ndim - variable.rank], layout.dim**variable.rank)
