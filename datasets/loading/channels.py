"""Fields as channels: components by name, channels first, every so many points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...meshes.grid import Boundary
from ..layout import Layout


class UnfitStride(ValueError):
    """Every so many points of an axis make no grid."""


@final
@dataclass(frozen=True, eq=False)
class Channels:
    """Turn fields of a layout into tensors, channels first.

    Args:
        layout: of the data.
        stride: keep every so many points, for all axes or one per axis.
        dtype: of the tensors.

    Raises:
        UnfitStride: fewer than two points are left, or the seam of a periodic axis would be narrower than the
            other cells.
    """

    layout: Layout
    stride: int | Sequence[int] = 1
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        strides = self.strides
        if len(strides) != self.layout.dim or min(strides) < 1:
            raise UnfitStride(
                f"the stride is one positive number, or one per axis ({', '.join(self.layout.axes)}), "
                f"got {self.stride}"
            )
        kinds = self.layout.boundary or [(None, None)] * self.layout.dim
        for axis, n, s, (low, _) in zip(
            self.layout.axes, self.layout.resolution, strides, kinds, strict=True
        ):
            if s > 1 and s >= n:
                raise UnfitStride(
                    f"a stride of {s} leaves one point of the {n} along {axis}: take a smaller one"
                )
            if low is Boundary.PERIODIC and n % s:
                fit = ", ".join(str(k) for k in range(2, n) if n % k == 0) or "none but 1"
                raise UnfitStride(
                    f"{axis} is periodic with {n} points, a stride of {s} does not divide it: "
                    f"strides that fit are {fit}"
                )

    @property
    def strides(self) -> tuple[int, ...]:
        """Points from one to the next that is kept, per axis."""
        if isinstance(self.stride, int):
            return (self.stride,) * self.layout.dim
        return tuple(int(s) for s in self.stride)

    @property
    def coordinates(self) -> tuple[NDArray[np.float64], ...]:
        """Positions of the points that are kept, per axis."""
        return tuple(c[::s] for c, s in zip(self.layout.coordinates, self.strides, strict=True))

    @property
    def resolution(self) -> tuple[int, ...]:
        """Points that are kept, per axis."""
        return tuple(len(c) for c in self.coordinates)

    def names(self, field: str) -> tuple[str, ...]:
        """Return the names of the channels of a field: u, velocity_x, stress_xy."""
        rank = self.layout[field].rank
        parts = ["".join(axes) for axes in product(self.layout.axes, repeat=rank)] if rank else []
        return tuple(f"{field}_{part}" for part in parts) or (field,)

    def shape(self, field: str) -> tuple[int, ...]:
        """Return the shape of a field at one time, (C, *space)."""
        return (len(self.names(field)), *self.resolution)

    def tensor(self, field: str, values: NDArray[np.floating]) -> Tensor:
        """Return values of a field as a tensor, ([T], C, *space); it may share their memory.

        Args:
            field: its name.
            values: ([T], *space, *components), as in the layout.
        """
        variable = self.layout[field]
        lead = int(variable.time_varying)
        along = variable.axes or self.layout.axes
        strided = (
            slice(None, None, s)
            for axis, s in zip(self.layout.axes, self.strides, strict=True)
            if axis in along
        )
        values = values[(slice(None),) * lead + tuple(strided)]
        missing = [i for i, axis in enumerate(self.layout.axes) if axis not in along]
        if missing:  # the same at all points along these axes
            values = np.expand_dims(values, [lead + i for i in missing])
            values = np.broadcast_to(
                values, (*values.shape[:lead], *self.resolution, *values.shape[lead + self.layout.dim :])
            )
        channels = len(self.names(field))
        values = values.reshape(*values.shape[: lead + self.layout.dim], channels)
        if channels > 1 or variable.rank:
            values = np.moveaxis(values, -1, lead)
        else:
            values = values.reshape(*values.shape[:lead], 1, *values.shape[lead:-1])
        if not values.dtype.isnative or not values.flags.writeable:
            values = values.astype(values.dtype.newbyteorder("="))
        return torch.from_numpy(values).to(self.dtype)
