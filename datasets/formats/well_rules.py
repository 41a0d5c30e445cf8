"""The rules of The Well for one HDF5 file: groups, attributes, shapes; every breach is named."""

from __future__ import annotations

from typing import Any, final

import h5py
import numpy as np

from ..checking.fault import Fault
from .well_storage import GROUPS, mismatch

GRID_TYPES = ("cartesian", "spherical")
CONDITIONS = ("PERIODIC", "WALL", "OPEN")


def check_schema(file: h5py.File) -> list[Fault]:
    """Return every breach of The Well's rules; `where` is the object in the file.

    Structure only: attributes and shapes are read, values are not.
    """
    return _Schema(file).inspect()


@final
class _Schema:
    """An open file and the faults found so far; sizes that are not known are None and not compared."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.samples: int | None = None
        self.axes: list[str] = []
        self.sizes: dict[str, int] = {}  # of time and the axes of space

    def inspect(self) -> list[Fault]:
        """Go through the file."""
        self._root()
        groups = {
            name: self._group(name) for name in ("dimensions", "boundary_conditions", "scalars", *GROUPS)
        }
        if (dimensions := groups["dimensions"]) is not None:
            self._dimensions(dimensions)
        if (scalars := groups["scalars"]) is not None:
            self._scalars(scalars)
        fields: dict[str, str] = {}
        for rank, name in enumerate(GROUPS):
            if (group := groups[name]) is not None:
                for field, dataset in self._listed(group, name):
                    if field in fields:
                        self._fault(
                            f"{name}/{field}", f"{fields[field]} has a field of that name: rename one"
                        )
                    fields[field] = name
                    self._field(dataset, f"{name}/{field}", rank)
        if not fields and all(groups[name] is not None for name in GROUPS):
            self._fault(", ".join(GROUPS), "there is no field: list the names of datasets in field_names")
        if (conditions := groups["boundary_conditions"]) is not None:
            for name, group in conditions.items():
                self._condition(group, f"boundary_conditions/{name}", fields)
        return self.faults

    def _fault(self, where: str, what: str) -> None:
        self.faults.append(Fault(where, what))

    def _root(self) -> None:
        attrs = self.file.attrs
        self._text(self.file, "/", "dataset_name")
        kind = self._text(self.file, "/", "grid_type")
        if kind is not None and kind not in GRID_TYPES:
            self._fault("/ @grid_type", f"{kind!r}, needed is one of {', '.join(GRID_TYPES)}")
        for key in ("n_spatial_dims", "n_trajectories"):
            value = attrs.get(key)
            if not isinstance(value, int | np.integer) or isinstance(value, bool | np.bool_) or value < 1:
                given = "the attribute is missing" if value is None else f"{value!r}"
                self._fault(f"/ @{key}", f"{given}, needed is an integer, 1 or more")
            elif key == "n_trajectories":
                self.samples = int(value)
        scalars = self.file.get("scalars")
        for name in self._words(self.file, "/", "simulation_parameters") or []:
            if name not in attrs:
                self._fault(
                    f"/ @{name}", "simulation_parameters names it, there is no such attribute: add its value"
                )
            if isinstance(scalars, h5py.Group) and name not in scalars:
                self._fault(
                    f"scalars/{name}", "simulation_parameters names it, there is no such dataset: add one"
                )

    def _dimensions(self, group: h5py.Group) -> None:
        self.axes = self._words(group, "dimensions", "spatial_dims") or []
        wanted = self.file.attrs.get("n_spatial_dims")
        if isinstance(wanted, int | np.integer) and self.axes and wanted != len(self.axes):
            self._fault(
                "dimensions @spatial_dims",
                f"{len(self.axes)} axes, but n_spatial_dims is {wanted}: make them agree",
            )
        if "spatial_dims" in group.attrs and not self.axes:
            self._fault("dimensions @spatial_dims", "names no axis, needed are one to three")
        for name in ("time", *self.axes):
            where, dataset = f"dimensions/{name}", group.get(name)
            if not isinstance(dataset, h5py.Dataset):
                self._fault(where, "the dataset is missing: add the coordinates of this axis")
                continue
            several = self._flag(dataset, where, "sample_varying")
            timed = self._flag(dataset, where, "time_varying")
            if timed is not None and timed != (name == "time"):
                needed = (
                    "True: it is the time axis"
                    if name == "time"
                    else "False: grids that move are not supported"
                )
                self._fault(f"{where} @time_varying", f"{timed}, needed is {needed}")
            self._floating(dataset, where)
            if dataset.ndim:
                self.sizes[name] = int(dataset.shape[-1])
            if several is not None:
                size = self.sizes.get(name)
                self._shape(dataset, where, [("sample", self.samples)] * several + [(name, size)])

    def _scalars(self, group: h5py.Group) -> None:
        for name, dataset in self._listed(group, "scalars"):
            where = f"scalars/{name}"
            several, timed = (
                self._flag(dataset, where, "sample_varying"),
                self._flag(dataset, where, "time_varying"),
            )
            if several is not None and timed is not None:
                self._shape(
                    dataset,
                    where,
                    [("sample", self.samples)] * several + [("time", self.sizes.get("time"))] * timed,
                )

    def _field(self, dataset: h5py.Dataset, where: str, rank: int) -> None:
        several, timed = (
            self._flag(dataset, where, "sample_varying"),
            self._flag(dataset, where, "time_varying"),
        )
        self._floating(dataset, where)
        if rank == 2:
            self._flag(dataset, where, "symmetric")
            self._flag(dataset, where, "antisymmetric")
        along = dataset.attrs.get("dim_varying")
        if not isinstance(along, np.ndarray) or along.dtype != bool or along.shape != (len(self.axes),):
            given = "the attribute is missing" if along is None else f"{along!r}"
            self._fault(
                f"{where} @dim_varying", f"{given}, needed are {len(self.axes)} booleans, one for each axis"
            )
            return
        if several is None or timed is None:
            return
        space = [
            (axis, self.sizes.get(axis)) for axis, varies in zip(self.axes, along, strict=True) if varies
        ]
        lead = [("sample", self.samples)] * several + [("time", self.sizes.get("time"))] * timed
        self._shape(dataset, where, [*lead, *space, *[("component", len(self.axes))] * rank])

    def _condition(self, group: Any, where: str, fields: dict[str, str]) -> None:
        if not isinstance(group, h5py.Group):
            self._fault(where, "is no group: give every condition a group with bc_type and mask")
            return
        kind = self._text(group, where, "bc_type")
        if kind is not None and kind not in CONDITIONS:
            advice = "Dirichlet and Neumann conditions are WALL, their kind goes to boundary_conditions_ext"
            self._fault(f"{where} @bc_type", f"{kind!r}, needed is one of {', '.join(CONDITIONS)}: {advice}")
        several, timed = self._flag(group, where, "sample_varying"), self._flag(group, where, "time_varying")
        for name in self._words(group, where, "associated_fields") or []:
            if name not in fields:
                self._fault(f"{where} @associated_fields", f"names {name!r}, there is no such field")
        axes = self._words(group, where, "associated_dims")
        if axes is not None and not axes:
            self._fault(f"{where} @associated_dims", "names no axis, needed is at least one")
        unknown = [axis for axis in axes or [] if axis not in self.axes]
        if unknown:
            self._fault(f"{where} @associated_dims", f"names {', '.join(unknown)}; the axes are {self.axes}")
        mask = group.get("mask")
        if not isinstance(mask, h5py.Dataset):
            self._fault(f"{where}/mask", "the dataset is missing: booleans, True where the condition applies")
            return
        if mask.dtype != bool:
            self._fault(f"{where}/mask", f"has the type {mask.dtype}, needed are booleans")
        if axes and not unknown and several is not None and timed is not None:
            lead = [("sample", self.samples)] * several + [("time", self.sizes.get("time"))] * timed
            self._shape(mask, f"{where}/mask", lead + [(axis, self.sizes.get(axis)) for axis in axes])

    def _group(self, name: str) -> h5py.Group | None:
        found = self.file.get(name)
        if isinstance(found, h5py.Group):
            return found
        self._fault(name, "the group is missing: The Well needs it, even when it is empty")
        return None

    def _listed(self, group: h5py.Group, where: str) -> list[tuple[str, h5py.Dataset]]:
        """Return the datasets that field_names lists; what one has and the other not is a fault."""
        names = self._words(group, where, "field_names")
        if names is None:
            return []
        for name in sorted(set(group) - set(names)):
            self._fault(f"{where}/{name}", "is not listed in field_names, so nobody reads it: add it there")
        found = []
        for name in names:
            thing = group.get(name)
            if isinstance(thing, h5py.Dataset):
                found.append((name, thing))
            else:
                self._fault(f"{where}/{name}", "field_names lists it, there is no such dataset")
        return found

    def _text(self, thing: Any, where: str, key: str) -> str | None:
        value = thing.attrs.get(key)
        if isinstance(value, str):
            return value
        given = "the attribute is missing" if value is None else f"{value!r}"
        self._fault(f"{where} @{key}", f"{given}, needed is a string of variable length")
        return None

    def _words(self, thing: Any, where: str, key: str) -> list[str] | None:
        value = thing.attrs.get(key)
        if (
            isinstance(value, np.ndarray)
            and value.dtype == object
            and all(isinstance(v, str) for v in value.flat)
        ):
            return [str(v) for v in value.flat]
        given = "the attribute is missing" if value is None else f"{value!r}"
        advice = "an array of strings of variable length, which an empty one must be, too"
        self._fault(f"{where} @{key}", f"{given}, needed is {advice}")
        return None

    def _flag(self, thing: Any, where: str, key: str) -> bool | None:
        value = thing.attrs.get(key)
        if isinstance(value, bool | np.bool_):
            return bool(value)
        given = "the attribute is missing" if value is None else f"{value!r}"
        self._fault(f"{where} @{key}", f"{given}, needed is a boolean")
        return None

    def _floating(self, dataset: h5py.Dataset, where: str) -> None:
        if dataset.dtype.kind != "f":
            self._fault(where, f"has the type {dataset.dtype}, needed is float32 or float64")

    def _shape(self, dataset: h5py.Dataset, where: str, needed: list[tuple[str, int | None]]) -> None:
        if any(size is None for _, size in needed):  # a fault of its own
            return
        if wrong := mismatch([name for name, _ in needed], [size or 0 for _, size in needed], dataset.shape):
            self._fault(where, wrong)
