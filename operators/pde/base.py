"""What every equation offers: named fields, samples, a discrete problem, a residual, exact solutions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Grid
from ..linear.base import LinearOperator
from ..linear.errors import MixedDtypes, ShapeMismatch
from .boundary import FaceData

Fields = Mapping[str, Tensor]


class Place(Enum):
    """Where the values of a field sit."""

    UNKNOWNS = "unknowns"
    CELLS = "cells"


@final
@dataclass(frozen=True)
class FieldSpec:
    """Name a field of an equation, say where its values sit, and what they are.

    >>> FieldSpec("coefficient", Place.CELLS, "k > 0").shape(Grid((3, 3)))
    (4, 4)
    """

    name: str
    place: Place
    meaning: str

    def shape(self, grid: Grid) -> tuple[int, ...]:
        """Shape of one sample on a grid."""
        return grid.shape if self.place is Place.UNKNOWNS else grid.cells


class Assembled(NamedTuple):
    """The discrete problem A x = b of an equation; `LinearSystem(*assembled)` makes it solvable."""

    A: LinearOperator
    b: Tensor  # (..., n)


@final
@dataclass(frozen=True)
class Exact:
    """Data whose exact solution is known: input fields, boundary values, and the solution at the unknowns."""

    fields: Fields
    value: Tensor  # (*grid.shape)
    boundary: FaceData = field(default_factory=dict)


class Equation(ABC):
    """A partial differential equation on grids: a frozen dataclass that holds parameters only.

    Attributes:
        inputs: the fields that `sample` draws and `problem` takes.
        outputs: the fields that are solved for.
    """

    inputs: ClassVar[tuple[FieldSpec, ...]]
    outputs: ClassVar[tuple[FieldSpec, ...]]

    @abstractmethod
    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n samples of every input field, float64 (n, *shape) each."""

    @abstractmethod
    def problem(self, grid: Grid, fields: Fields, boundary: FaceData | None = None) -> Assembled:
        """Discretise: return the operator and the right-hand side for given fields and boundary values.

        Args:
            grid: where the unknowns sit and which conditions hold.
            fields: one tensor per input, (*shape) or (B, *shape).
            boundary: values on faces that are not homogeneous, see `FaceData`.

        Raises:
            KeyError: when a field is missing or unknown.
            ShapeMismatch: when a field or face does not fit the grid.
            MixedDtypes: when the fields have different types.
        """

    @abstractmethod
    def exact(self, grid: Grid) -> Exact:
        """Return data for which the solution is known, with non-zero values on every face.

        With pure Neumann or periodic conditions the source carries a constant of the size of the
        discretisation error, so that the discrete problem is compatible.
        """

    @final
    def residual(self, grid: Grid, fields: Fields, u: Tensor, boundary: FaceData | None = None) -> Tensor:
        """Return b - A u on the grid, (..., *grid.shape), for u (..., *grid.shape)."""
        A, b = self.problem(grid, fields, boundary)
        r = b - A @ u.reshape(*u.shape[: u.ndim - grid.dim], grid.size)
        return r.reshape(*r.shape[:-1], *grid.shape)

    @final
    def read(self, grid: Grid, fields: Fields) -> list[Tensor]:
        """Return the input fields in the order of `inputs`, checked against the grid."""
        names = [spec.name for spec in self.inputs]
        if set(fields) != set(names):
            given = ", ".join(sorted(fields)) or "none"
            raise KeyError(f"{type(self).__name__} takes the fields {', '.join(names)}; given: {given}")
        tensors = [torch.as_tensor(fields[name]) for name in names]
        if len({t.dtype for t in tensors}) > 1:
            types = ", ".join(f"{n} {t.dtype}" for n, t in zip(names, tensors, strict=True))
            raise MixedDtypes(f"all fields need one floating-point type, given: {types}")
        for spec, t in zip(self.inputs, tensors, strict=True):
            shape = spec.shape(grid)
            if tuple(t.shape[-grid.dim :]) != shape or t.ndim > grid.dim + 1:
                raise ShapeMismatch(
                    f"the field {spec.name} has shape {tuple(t.shape)}; this grid needs {shape} (one value "
                    f"for each of its {spec.place.value}) or (B, {', '.join(map(str, shape))})"
                )
        return tensors
