"""Arrays in memory as a source: your own data, once each axis has a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ...meshes.grid import Boundary
from ..layout import Layout, Role, Values, Variable
from ..source import Source

SAMPLE, TIME, CHANNEL, COMPONENT = "sample", "time", "channel", "component"
Axes = Sequence[str]


class AxisMismatch(ValueError):
    """The named axes and the arrays do not fit together."""


@final
class ArraySource(Source):
    """Samples in memory, in the shapes of a layout.

    Args:
        layout: form of the samples.
        arrays: by name, one per variable: (B, ...) where it varies between samples, else without B.
        samples: how many; None takes it from the arrays.

    Raises:
        KeyError: a field is missing or unknown.
        AxisMismatch: an array does not have the shape that the layout gives it.
    """

    def __init__(
        self, layout: Layout, arrays: Mapping[str, NDArray[Any]], samples: int | None = None
    ) -> None:
        names = [v.name for v in layout.variables]
        if set(names) != set(arrays):
            raise KeyError(f"the fields of {layout.name} are {', '.join(names)}; given: {', '.join(arrays)}")
        varying = [v.name for v in layout.variables if v.sample_varying]
        if samples is None and not varying:
            raise AxisMismatch(f"no field of {layout.name} has the axis 'sample': give the number of samples")
        self.layout = layout
        self.samples = len(arrays[varying[0]]) if samples is None else samples
        for variable in layout.variables:
            needed = (self.samples,) * variable.sample_varying + layout.shape(variable.name)
            got = tuple(arrays[variable.name].shape)
            if got != needed:
                dims = (SAMPLE,) * variable.sample_varying + layout.dims(variable.name)
                raise AxisMismatch(f"{variable.name} has the shape {got}, needed is {_form(dims, needed)}")
        self._arrays = dict(arrays)

    def read(self, start: int, stop: int) -> Values:
        """Return samples start to stop of every field, see `Source.read`."""
        dtype = np.dtype(self.layout.dtype)
        return {
            v.name: np.asarray(
                self._arrays[v.name][start:stop] if v.sample_varying else self._arrays[v.name], dtype
            )
            for v in self.layout.variables
        }


def from_arrays(
    x: Any,
    y: Any = None,
    *,
    axes: Axes | Mapping[str, Axes],
    coordinates: Mapping[str, ArrayLike] | None = None,
    channels: Mapping[str, Sequence[str]] | None = None,
    name: str = "arrays",
    parameters: Mapping[str, float] | None = None,
    boundary: Sequence[tuple[Boundary | str, Boundary | str]] | None = None,
) -> ArraySource:
    """Make a source of your own arrays by naming their axes.

    The axes "sample", "time", "channel" and "component" have a meaning, all others are axes of space, one to
    three, in the order in which they are first named. Arrays may have their axes in any order. A field
    without "sample" is shared by all samples, one without "time" does not change. Each channel becomes a
    scalar field of its own; "component" (as long as there are axes of space) makes a vector, twice a tensor.
    Fields are stored as float32 where that is exact for the types given, else as float64. Nothing is copied
    before it is read.

    Args:
        x: inputs, an array, a tensor, or several by name; a single array is called "input". Without y the
            fields are states when they have a time axis, else outputs, and a single array is called "u".
        y: outputs in the same form; a single array is called "output".
        axes: names of the axes, for all arrays or by the name of the array.
        coordinates: positions along axes by name, "time" among them. Where none are given: the centres of
            equal cells on (0, 1), and 0, 1, 2, ... for the time.
        channels: names of the channels of an array; else NAME_0, NAME_1, ...
        name: of the dataset.
        parameters: numbers that hold for all samples.
        boundary: (low, high) condition per axis of space, where it is known.

    Raises:
        AxisMismatch: the names do not fit the arrays, or two arrays differ in the length of an axis.
        TypeError: complex or non-numeric arrays.

    >>> a, u = np.ones((100, 32, 32)), np.zeros((100, 32, 32))
    >>> source = from_arrays({"a": a}, {"u": u}, axes=("sample", "x", "y"))
    >>> source.samples, source.layout.resolution, source.layout["a"].role.value
    (100, (32, 32), 'input')
    """
    given = _named(x, y)
    arrays = {key: _array(key, value) for key, (value, _) in given.items()}
    named = _axes(axes, arrays)
    space = tuple(
        dict.fromkeys(
            axis for key in arrays for axis in named[key] if axis not in (SAMPLE, TIME, CHANNEL, COMPONENT)
        )
    )
    if not 1 <= len(space) <= 3:
        raise AxisMismatch(
            f"the axes of space are {space or 'missing'}, there must be one to three: every name but "
            "'sample', 'time', 'channel' and 'component' is an axis of space"
        )
    sizes = _sizes(arrays, named, len(space))
    unknown = set(coordinates or {}) - {*space, TIME}
    if unknown:
        raise AxisMismatch(
            f"coordinates for {', '.join(sorted(unknown))}: the axes of the arrays are "
            f"{', '.join((*space, TIME))}"
        )
    unknown = {key for key in channels or {} if key not in arrays or CHANNEL not in named[key]}
    if unknown:
        raise AxisMismatch(f"channels named for {', '.join(sorted(unknown))}, which has no axis 'channel'")
    variables: list[Variable] = []
    values: dict[str, NDArray[Any]] = {}
    for key, array in arrays.items():
        for variable, value in _fields(
            key, array, named[key], given[key][1], space, (channels or {}).get(key)
        ):
            if variable.name in values:
                raise ValueError(
                    f"two fields are called {variable.name}: name the arrays or channels differently"
                )
            variables.append(variable)
            values[variable.name] = value
    layout = Layout(
        name,
        space,
        tuple(_positions(axis, sizes[axis], coordinates) for axis in space),
        _positions(TIME, sizes.get(TIME, 1), coordinates),
        tuple(variables),
        None if boundary is None else tuple((Boundary(low), Boundary(high)) for low, high in boundary),
        {key: float(value) for key, value in (parameters or {}).items()},
        str(np.result_type(np.float32, *(a.dtype for a in arrays.values()))),
    )
    if not any(v.sample_varying for v in variables):
        raise AxisMismatch(
            "no array has the axis 'sample': name the axis that counts them, or add one, array[None]"
        )
    return ArraySource(layout, values)


def _named(x: Any, y: Any) -> dict[str, tuple[Any, Role | None]]:
    """Return name -> (array, role); the role is None where the time axis decides."""
    if y is None:
        return {key: (value, None) for key, value in (x if isinstance(x, Mapping) else {"u": x}).items()}
    inputs = x if isinstance(x, Mapping) else {"input": x}
    outputs = y if isinstance(y, Mapping) else {"output": y}
    both = sorted(set(inputs) & set(outputs))
    if both:
        raise ValueError(
            f"{', '.join(both)} among inputs and outputs: names must differ; leave out y for states"
        )
    return {
        **{k: (v, Role.INPUT) for k, v in inputs.items()},
        **{k: (v, Role.OUTPUT) for k, v in outputs.items()},
    }


def _array(key: str, value: Any) -> NDArray[Any]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
        value = value.resolve_conj().resolve_neg().numpy()
    array = np.asarray(value)
    if array.dtype.kind == "c":
        raise TypeError(f"{key} is complex, fields are real: give its real and imaginary part as two arrays")
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise TypeError(f"{key} has the type {array.dtype}, fields are numbers of at most 64 bits")
    return array


def _axes(axes: Axes | Mapping[str, Axes], arrays: Mapping[str, NDArray[Any]]) -> dict[str, tuple[str, ...]]:
    if isinstance(axes, str):
        raise AxisMismatch(f"axes is one word, {axes!r}: give a tuple of names, one per axis of the arrays")
    if isinstance(axes, Mapping):
        odd = sorted(set(axes) ^ set(arrays))
        if odd:
            raise AxisMismatch(
                f"axes are named for {', '.join(axes)}, the arrays are {', '.join(arrays)}: name "
                "those of each"
            )
        named = {key: tuple(axes[key]) for key in arrays}
    else:
        named = dict.fromkeys(arrays, tuple(axes))
    for key, array in arrays.items():
        names = named[key]
        if array.ndim != len(names):
            raise AxisMismatch(
                f"{key} has {array.ndim} axes, shape {array.shape}, but {len(names)} are named: "
                f"{', '.join(names)}. When arrays differ, name the axes of each: axes={{{key!r}: (...), ...}}"
            )
        twice = [axis for axis in names if names.count(axis) > (2 if axis == COMPONENT else 1)]
        if twice:
            raise AxisMismatch(
                f"the axis {twice[0]!r} of {key} is named {names.count(twice[0])} times: {names}"
            )
    return named


def _sizes(
    arrays: Mapping[str, NDArray[Any]], named: Mapping[str, tuple[str, ...]], dim: int
) -> dict[str, int]:
    """Return the length of each axis that arrays share, or say which two differ."""
    sizes: dict[str, tuple[int, str]] = {}
    for key, array in arrays.items():
        for axis, n in zip(named[key], array.shape, strict=True):
            if n == 0:
                raise AxisMismatch(f"axis {axis!r} of {key} is empty: its shape is {array.shape}")
            if axis == COMPONENT and n != dim:
                raise AxisMismatch(
                    f"axis 'component' has {n} entries in {key}, the {dim} axes of space need {dim}: "
                    "call it 'channel' when its entries are no vector"
                )
            first, where = sizes.setdefault(axis, (n, key))
            if axis not in (CHANNEL, COMPONENT) and first != n:
                raise AxisMismatch(
                    f"axis {axis!r} has {first} entries in {where} and {n} in {key}: bring them to one "
                    "length, or name the axes of each array, axes={name: (...)}"
                )
    return {axis: n for axis, (n, _) in sizes.items()}


def _fields(
    key: str,
    array: NDArray[Any],
    names: tuple[str, ...],
    role: Role | None,
    space: tuple[str, ...],
    channels: Sequence[str] | None,
) -> list[tuple[Variable, NDArray[Any]]]:
    """Return the fields of an array, a view of it each, with its axes in the order of a layout."""
    own = tuple(axis for axis in space if axis in names)
    components = [i for i, axis in enumerate(names) if axis == COMPONENT]
    leading = [names.index(axis) for axis in (CHANNEL, SAMPLE, TIME) if axis in names]
    array = array.transpose(*leading, *(names.index(axis) for axis in own), *components)
    timed = TIME in names
    given = role if role is not None else Role.STATE if timed else Role.OUTPUT
    if CHANNEL not in names:
        called, parts = [key], [array]
    else:
        called, parts = list(channels or (f"{key}_{i}" for i in range(len(array)))), list(array)
        if len(called) != len(parts):
            raise AxisMismatch(
                f"axis 'channel' of {key} has {len(parts)} entries, named are {len(called)}: {called}"
            )
    kept = () if own == space else own
    return [
        (Variable(word, len(components), given, SAMPLE in names, timed, axes=kept), part)
        for word, part in zip(called, parts, strict=True)
    ]


def _positions(axis: str, n: int, coordinates: Mapping[str, ArrayLike] | None) -> NDArray[np.float64]:
    if coordinates is None or axis not in coordinates:
        return np.arange(float(n)) if axis == TIME else cell_centres(n)
    values = np.asarray(coordinates[axis], dtype=np.float64)
    if values.shape != (n,):
        raise AxisMismatch(
            f"axis {axis!r} has {n} entries in the arrays, its coordinates have the shape {values.shape}: "
            "give one position per entry"
        )
    return values


def cell_centres(n: int) -> NDArray[np.float64]:
    """Return the centres of n equal cells on (0, 1): what is assumed where a file has no coordinates."""
    return (np.arange(n) + 0.5) / n


def _form(dims: Sequence[str], shape: Sequence[int]) -> str:
    return "(" + ", ".join(f"{axis} {n}" for axis, n in zip(dims, shape, strict=True)) + ")"
