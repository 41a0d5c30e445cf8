"""The bridge from operators on sensors and points to operators on fields."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import final

import torch
from torch import Tensor

from .base import NeuralOperator, WrongResolution, WrongSettings
from .layers.trunk import Trunk


@dataclass(frozen=True, kw_only=True)
class BoxSettings:
    """Settings of what a trunk is given.

    Args:
        lower, upper: corners of the box, which is mapped to [0, 1]^d for the trunk; none: it is [0, 1]^d.
        fourier: wavenumbers fed to the trunk, cos and sin of 2 pi k x.
        periodic: feed these only, so that the output has the period of the box; its upper side is then the
            lower one again, and no point of the default coordinates lies there.
    """

    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    fourier: int = 0
    periodic: bool = False

    def box(self, dim: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the corners with `dim` numbers each.

        Raises:
            WrongSettings: for corners that do not span a box.
        """
        lower, upper = self.lower or (0.0,) * dim, self.upper or (1.0,) * dim
        if len(lower) != dim or len(upper) != dim or any(b <= a for a, b in zip(lower, upper, strict=True)):
            raise WrongSettings(f"lower {lower} and upper {upper} are no corners of a box of {dim} axes")
        return lower, upper


@dataclass(frozen=True, kw_only=True)
class TrunkSettings(BoxSettings):
    """Settings of a trunk on a box.

    Args:
        trunk: widths of the hidden layers.
        features: basis functions per output.
        trunk_activation: as `activation`; "" takes the same as the branch.
    """

    trunk: tuple[int, ...] = (128, 128)
    features: int = 128
    trunk_activation: str = ""

    def make_trunk(self, dim: int, outputs: int, activation: str) -> Trunk:
        """Return a trunk for points with `dim` coordinates."""
        return Trunk(
            (dim, *self.trunk, outputs),
            self.trunk_activation or activation,
            fourier=self.fourier,
            periodic=self.periodic,
        )


class OnGrid(NeuralOperator):
    """An operator that reads its input fields at fixed sensors: the points of one grid, `config.size`."""

    @property
    @final
    def dim(self) -> int:
        """Axes of space."""
        return len(self.config.size)

    @final
    def check_resolution(self, space: tuple[int, ...]) -> None:
        """Refuse every grid but that of the sensors."""
        if space != tuple(self.config.size):
            wanted, given = (" x ".join(str(n) for n in s) for s in (self.config.size, space))
            raise WrongResolution(
                f"{type(self).__name__} reads its input at fixed sensors, a grid of {wanted} points, got "
                f"{given}: resample the input to {wanted}, or use a network that takes any grid, such as FNO"
            )

    @abstractmethod
    def at(self, x: Tensor, points: Tensor) -> Tensor:
        """Return the output at other points (N, d), in shape (B, out_channels, N)."""


class FixedOnGrid(OnGrid):
    """An operator on sensors whose output is known on the same grid only."""

    @final
    def at(self, x: Tensor, points: Tensor) -> Tensor:
        """Refuse: modes of the training outputs are known on their own points only."""
        raise WrongResolution(
            f"{type(self).__name__} knows its output on the training grid {tuple(self.config.size)} only: "
            "interpolate it, or use DeepONet, whose trunk takes any point"
        )


class QueriedOnGrid(OnGrid):
    """An operator on sensors whose output can be asked for at any point.

    Attributes:
        points: (N, d) coordinates of the grid, a buffer saved with the weights.
    """

    points: Tensor
    lower: Tensor
    width: Tensor

    @final
    def place(self, settings: BoxSettings) -> None:
        """Lay the points of the grid evenly into the box; without the upper sides if it is periodic."""
        lower, upper = settings.box(self.dim)
        self.register_buffer("lower", torch.tensor(lower), persistent=False)
        self.register_buffer("width", torch.tensor(upper) - torch.tensor(lower), persistent=False)
        self.register_buffer("points", torch.zeros(prod(self.config.size), self.dim))
        spans = zip(lower, upper, self.config.size, strict=True)
        if settings.periodic:
            axes = [a + (b - a) * torch.arange(n, dtype=torch.float64) / n for a, b, n in spans]
        else:
            axes = [torch.linspace(a, b, n, dtype=torch.float64) for a, b, n in spans]
        self.set_coordinates(axes)

    @final
    def set_coordinates(self, axes: Sequence[Tensor]) -> None:
        """Set where the points of the grid lie, from coordinates along each axis, for example cell centres.

        Raises:
            WrongResolution: for axes that are not those of the sensor grid.
        """
        sizes = tuple(len(a) for a in axes)
        if sizes != tuple(self.config.size):
            raise WrongResolution(f"the grid has {self.config.size} points, got coordinates for {sizes}")
        mesh = torch.meshgrid(*axes, indexing="ij")
        self.points.copy_(torch.stack([m.flatten() for m in mesh], -1))

    @abstractmethod
    def evaluate(self, x: Tensor, points: Tensor) -> Tensor:
        """Return (B, out_channels, N) at points (N, d) of the unit box."""

    @final
    def at(self, x: Tensor, points: Tensor) -> Tensor:
        """Return the output at points (N, d), or (B, N, d) for points per sample: (B, out_channels, N)."""
        self.check(x)
        if points.ndim not in (2, 3) or points.shape[-1] != self.dim:
            raise WrongResolution(
                f"points are (N, {self.dim}), or (B, N, {self.dim}) for points per sample, "
                f"got {tuple(points.shape)}"
            )
        return self.evaluate(x, (points.to(x) - self.lower) / self.width)

    @final
    def forward(self, x: Tensor) -> Tensor:
        """Map fields (B, in_channels, *size) to fields (B, out_channels, *size)."""
        return self.finish(x, self.at(x, self.points).unflatten(-1, self.config.size))

    def finish(self, x: Tensor, values: Tensor) -> Tensor:
        """Return what `forward` gives of the values (B, out_channels, *size): these themselves."""
        return values
