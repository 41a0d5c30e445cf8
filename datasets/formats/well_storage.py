"""How grid data lie in HDF5 files: the schema of The Well (PolymathicAI), and exact facts beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, final

import h5py
import numpy as np

from ...meshes.grid import Boundary
from ..layout import Layout, Role, Variable
from ..recipe import Arrays

GROUPS = ("t0_fields", "t1_fields", "t2_fields")  # scalars, vectors, tensors
MAKING = ("generator", "config_json", "seed_root", "config_sha256", "license", "software_json")
RESERVED = frozenset(
    {"dataset_name", "grid_type", "n_spatial_dims", "n_trajectories", "simulation_parameters", "steady"}
    | {"format", "format_version", *MAKING}
)  # attributes of a file
STRING = h5py.string_dtype()
_LARGEST_CHUNK = 1 << 31  # bytes; HDF5 ends at 4 GiB


@final
@dataclass(frozen=True)
class GridStorage:
    """Lay samples on a grid out in an HDF5 file that is valid for The Well.

    Solutions of steady problems get a time axis of length `steady_frames`, their inputs none: so other
    programs can tell them apart. One chunk holds one sample at one time, with a fletcher32 checksum.

    Args:
        layout: form of the samples.
        compression: None, "gzip" (level 1, with shuffle) or "lzf"; solver fields gain 1.2 to 1.5 times.
        steady_frames: 1, or 2 to repeat a steady state, since The Well's loader needs two times.

    Raises:
        ValueError: a name is taken by the format, or a setting is unknown.

    >>> u = Variable("u", time_varying=True)
    >>> layout = Layout("heat", ("x",), (np.linspace(0, 1, 5),), np.arange(3.0), (u,))
    >>> with h5py.File("heat.hdf5", "w", driver="core", backing_store=False) as file:
    ...     GridStorage(layout).allocate(file, 2)
    ...     GridStorage(layout).put(file, 0, {"u": np.ones((3, 5))})
    ...     file["t0_fields/u"][:, 0, 0]
    array([ 1., nan], dtype=float32)
    """

    layout: Layout
    compression: str | None = None
    steady_frames: int = 1

    def __post_init__(self) -> None:
        taken = sorted(RESERVED & set(self.layout.parameters)) + ["time"] * ("time" in self.layout.axes)
        if taken:
            raise ValueError(f"the format uses {', '.join(taken)} itself: rename these parameters or axes")
        if self.compression not in (None, "gzip", "lzf"):
            raise ValueError(f"compression is None, 'gzip' or 'lzf', got {self.compression!r}")
        if self.steady_frames not in (1, 2):
            raise ValueError(f"a steady state is stored 1 or 2 times, got {self.steady_frames}")
        if self.layout.dtype not in ("float32", "float64"):
            raise ValueError(f"fields are stored as float32 or float64, got {self.layout.dtype!r}")

    def allocate(self, file: h5py.File, samples: int) -> None:
        """Create everything for a number of samples; fields are NaN until they are written.

        Raises:
            ValueError: fewer than one sample.
        """
        if samples < 1:
            raise ValueError(f"a file holds at least one sample, got {samples}")
        layout = self.layout
        file.attrs["dataset_name"], file.attrs["grid_type"] = layout.name, "cartesian"
        file.attrs["n_spatial_dims"], file.attrs["n_trajectories"] = layout.dim, samples
        file.attrs["steady"] = layout.steady
        _words(file, "simulation_parameters", layout.parameters)
        for name, value in layout.parameters.items():
            file.attrs[name] = float(value)
        self._dimensions(file)
        self._boundary(file)
        scalars = file.create_group("scalars")
        for name, value in layout.parameters.items():
            scalar = scalars.create_dataset(name, data=np.array(value, dtype=self._dtype))
            _flags(scalar, sample_varying=False, time_varying=False)
        _words(scalars, "field_names", layout.parameters)
        for rank, group in enumerate(GROUPS):
            fields = [v for v in layout.variables if v.rank == rank]
            _words(file.create_group(group), "field_names", [v.name for v in fields])
        for number, variable in enumerate(layout.variables):
            self._field(file[GROUPS[variable.rank]], variable, number, samples)

    def put(self, file: h5py.File, index: int, arrays: Arrays) -> None:
        """Write a sample; fields that all samples share are written with the first one.

        Args:
            file: that was allocated.
            index: of the sample in the file.
            arrays: by name, one per variable, in the shapes of the layout.

        Raises:
            KeyError: a field is missing or unknown.
            ValueError: a field has another shape, or a shared field differs from that of other samples.
            OverflowError: values too large for the type.
        """
        names = [v.name for v in self.layout.variables]
        if set(arrays) != set(names):
            given = ", ".join(sorted(arrays)) or "none"
            raise KeyError(f"the fields of {self.layout.name} are {', '.join(names)}; given: {given}")
        for variable in self.layout.variables:
            values = self._stored(variable, arrays[variable.name])
            dataset = file[GROUPS[variable.rank]][variable.name]
            if variable.sample_varying:
                dataset[index] = values
                dataset.flush()  # its place in the file does not wait for when it is closed
            elif dataset.id.get_num_chunks() == 0:
                dataset[...] = values
            elif not np.array_equal(dataset[...], values, equal_nan=True):
                raise ValueError(
                    f"{variable.name} is the same for all samples (sample_varying=False), but sample "
                    f"{index} has other values than those before"
                )

    def bytes_per_sample(self) -> int:
        """Size of one sample as stored, before compression."""
        size = self._dtype.itemsize
        return sum(size * prod(self._shape(v)) for v in self.layout.variables if v.sample_varying)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(self.layout.dtype).newbyteorder("<")

    def _timed(self, variable: Variable) -> bool:
        """Whether a field has a time axis in the file."""
        return variable.time_varying or (self.layout.steady and variable.role is not Role.INPUT)

    def _shape(self, variable: Variable) -> tuple[int, ...]:
        """Shape of one sample of a field in the file."""
        shape = self.layout.shape(variable.name)
        return shape if variable.time_varying or not self._timed(variable) else (self.steady_frames, *shape)

    def _stored(self, variable: Variable, given: Any) -> np.ndarray:
        """Check an array and bring it to the form of the file."""
        array, shape = np.asarray(given), self.layout.shape(variable.name)
        dims = self.layout.dims(variable.name)
        if wrong := mismatch(dims, shape, array.shape):
            raise ValueError(f"{variable.name} {wrong}")
        with np.errstate(over="ignore"):
            stored = array.astype(self._dtype)
        if np.isinf(stored).any() and not np.isinf(array).any():
            raise OverflowError(f"{variable.name} exceeds {self.layout.dtype}: store it as float64")
        return np.broadcast_to(stored, self._shape(variable))

    def _field(self, group: h5py.Group, variable: Variable, number: int, samples: int) -> None:
        shape, layout = self._shape(variable), self.layout
        timed = self._timed(variable)
        chunk = list(shape)
        if timed:
            chunk[0] = 1
        while self._dtype.itemsize * prod(chunk) > _LARGEST_CHUNK:
            chunk[timed] = -(-chunk[timed] // 2)
        several = variable.sample_varying
        dataset = group.create_dataset(
            variable.name,
            shape=(samples, *shape) if several else shape,
            chunks=(1, *chunk) if several else tuple(chunk),
            dtype=self._dtype,
            fillvalue=np.nan,
            fletcher32=True,
            **_filters(self.compression),
        )
        _flags(dataset, sample_varying=several, time_varying=timed)
        along = variable.axes or layout.axes
        dataset.attrs["dim_varying"] = np.array([axis in along for axis in layout.axes])
        if variable.rank == 2:
            dataset.attrs["symmetric"] = dataset.attrs["antisymmetric"] = False
        dataset.attrs["role"], dataset.attrs["meaning"] = variable.role.value, variable.meaning
        dataset.attrs["number"] = number  # place among the variables of the layout
        _words(dataset, "axes", variable.axes)

    def _dimensions(self, file: h5py.File) -> None:
        """Write coordinates twice: in the type of the fields, as The Well has them, and exactly."""
        layout = self.layout
        start = float(layout.times[0]) if len(layout.times) else 0.0
        times = start + np.arange(self.steady_frames) if layout.steady else layout.times
        group, exact = file.create_group("dimensions"), file.create_group("coordinates")
        _words(group, "spatial_dims", layout.axes)
        for name, values in zip(("time", *layout.axes), (times, *layout.coordinates), strict=True):
            _flags(
                group.create_dataset(name, data=np.asarray(values).astype(self._dtype)),
                sample_varying=False,
                time_varying=name == "time",
            )
            exact.create_dataset(name, data=np.asarray(values).astype("<f8"))

    def _boundary(self, file: h5py.File) -> None:
        """Write The Well's conditions, which know walls only, and the true ones beside them."""
        group = file.create_group("boundary_conditions")
        layout = self.layout
        if layout.boundary is None:
            return
        exact = file.create_group("boundary_conditions_ext")
        for axis, count, (low, high) in zip(layout.axes, layout.resolution, layout.boundary, strict=True):
            kind = "PERIODIC" if low is Boundary.PERIODIC else "WALL"
            condition = group.create_group(f"{axis}_{kind.lower()}")
            _words(condition, "associated_dims", [axis])
            _words(condition, "associated_fields", [])
            condition.attrs["bc_type"] = kind
            _flags(condition, sample_varying=False, time_varying=False)
            mask = np.zeros(count, dtype=bool)
            mask[[0, -1]] = True
            condition.create_dataset("mask", data=mask)
            sides = exact.create_group(axis)
            sides.attrs["low"], sides.attrs["high"] = low.value, high.value


def _words(thing: h5py.Group | h5py.Dataset, key: str, values: Iterable[str]) -> None:
    # an empty list without a type would become an array of numbers
    thing.attrs.create(key, np.array(list(values), dtype=object), dtype=STRING)


def _flags(thing: h5py.Group | h5py.Dataset, *, sample_varying: bool, time_varying: bool) -> None:
    thing.attrs["sample_varying"], thing.attrs["time_varying"] = sample_varying, time_varying


def _filters(compression: str | None) -> dict[str, Any]:
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    return {"compression": compression, "shuffle": True} if compression else {}


def mismatch(dims: Sequence[str], needed: Sequence[int], given: Sequence[int]) -> str:
    """Return in words where a shape differs from the one needed; "" when it does not.

    >>> mismatch(("time", "x"), (3, 5), (3, 4))
    'has the shape (time 3, x 4), needed is (time 3, x 5): wrong along x'
    """
    if tuple(given) == tuple(needed):
        return ""
    form = ", ".join(f"{d} {n}" for d, n in zip(dims, needed, strict=True))
    if len(given) != len(needed):
        return f"has {len(given)} axes {tuple(given)}, needed are {len(needed)}: ({form})"
    have = ", ".join(f"{d} {n}" for d, n in zip(dims, given, strict=True))
    wrong = [d for d, n, m in zip(dims, given, needed, strict=True) if n != m]
    return f"has the shape ({have}), needed is ({form}): wrong along {', '.join(wrong)}"
