"""What a dataset on a grid holds: variables, axes, times, conditions. Every reader and writer speaks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..meshes.grid import Boundary, Grid

Values = Mapping[str, NDArray[np.floating]]
AXES = ("x", "y", "z")


class Role(StrEnum):
    """What a variable is to a model that learns the solution map."""

    INPUT = "input"  # given
    OUTPUT = "output"  # solved for
    STATE = "state"  # both: what is known at one time is asked for at the next


@final
@dataclass(frozen=True)
class Variable:
    """A field of a dataset.

    One sample has the shape [T where time_varying] + (*space) + (D,) * rank; a block of samples has one more
    axis in front where sample_varying.

    Args:
        name: of the field; not empty, no "/".
        rank: 0 scalar, 1 vector, 2 tensor; the components stand last.
        role: what it is to a model.
        sample_varying: False for a field that all samples share.
        time_varying: has one value per time.
        meaning: in words or a formula, with units where there are any.
        axes: names of the axes along which it varies, in the order of the layout; () stands for all.
    """

    name: str
    rank: int = 0
    role: Role = Role.OUTPUT
    sample_varying: bool = True
    time_varying: bool = False
    meaning: str = ""
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"{self.name!r} cannot name a field: give a non-empty name without '/'")
        if self.rank not in (0, 1, 2):
            raise ValueError(
                f"the rank of {self.name} is 0, 1 or 2 (scalar, vector, tensor), got {self.rank}"
            )
        object.__setattr__(self, "role", Role(self.role))


@final
@dataclass(frozen=True, eq=False)
class Layout:
    """The form of all samples of a dataset on one grid.

    Args:
        name: of the dataset.
        axes: names of the axes of space, in the order in which arrays have them.
        coordinates: positions along each axis, float64 (n,) each.
        times: float64 (T,); (0,) alone for steady problems.
        variables: the fields.
        boundary: (low, high) condition per axis; None where it is not known.
        parameters: numbers that hold for all samples (viscosity, ...), the Well's simulation parameters.
        dtype: "float32" or "float64", of stored fields.

    >>> u = Variable("u", time_varying=True)
    >>> layout = Layout("heat", ("x",), (np.linspace(0, 1, 5),), np.arange(3.0), (u,))
    >>> layout.shape("u")
    (3, 5)
    """

    name: str
    axes: tuple[str, ...]
    coordinates: tuple[NDArray[np.float64], ...]
    times: NDArray[np.float64]
    variables: tuple[Variable, ...]
    boundary: tuple[tuple[Boundary, Boundary], ...] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not 1 <= len(self.axes) <= 3 or len(set(self.axes)) != len(self.axes):
            raise ValueError(f"a grid has 1 to 3 axes with different names, given: {self.axes}")
        if len(self.coordinates) != len(self.axes):
            raise ValueError(
                f"{len(self.axes)} axes need as many coordinates, given: {len(self.coordinates)}"
            )
        names = [v.name for v in self.variables]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a dataset has at least one field, and different names: given {names}")
        if self.boundary is not None and len(self.boundary) != len(self.axes):
            raise ValueError(f"boundary needs one (low, high) pair per axis ({len(self.axes)})")
        for variable in self.variables:
            unknown = [axis for axis in variable.axes if axis not in self.axes]
            if unknown:
                raise ValueError(f"{variable.name} varies along {unknown}, the axes are {self.axes}")

    @property
    def dim(self) -> int:
        """Number of axes of space."""
        return len(self.axes)

    @property
    def resolution(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(len(c) for c in self.coordinates)

    @property
    def steady(self) -> bool:
        """No field varies in time."""
        return not any(v.time_varying for v in self.variables)

    def __getitem__(self, name: str) -> Variable:
        """Return a variable by name."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        have = ", ".join(v.name for v in self.variables)
        raise KeyError(f"there is no field {name!r}: the fields are {have}")

    def dims(self, name: str) -> tuple[str, ...]:
        """Names of the axes of one sample of a field: "time", those of space, "component"s."""
        v = self[name]
        space = tuple(axis for axis in self.axes if not v.axes or axis in v.axes)
        return ("time",) * v.time_varying + space + ("component",) * v.rank

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one sample of a field."""
        sizes = {
            "time": len(self.times),
            "component": self.dim,
            **dict(zip(self.axes, self.resolution, strict=True)),
        }
        return tuple(sizes[axis] for axis in self.dims(name))

    def bytes_per_sample(self) -> int:
        """Size of one sample as stored."""
        size = np.dtype(self.dtype).itemsize
        return sum(size * prod(self.shape(v.name)) for v in self.variables if v.sample_varying)


def axes_of(grid: Grid) -> tuple[tuple[str, ...], tuple[NDArray[np.float64], ...]]:
    """Return names and coordinates of the axes of a grid's unknowns."""
    return AXES[: grid.dim], grid.axes()
