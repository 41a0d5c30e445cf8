"""Operators that work on points with quadrature weights, and on grids as points."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

import torch
from torch import Tensor, nn

from .base import NeuralOperator, WrongChannels, WrongResolution, WrongSettings
from .layers.multilayer import Multilayer, activation_named
from .layers.neighbours import GridKind, check_quadrature, grid_quadrature

G = TypeVar("G")


@dataclass(frozen=True)
class PointSettings:
    """Settings of an operator on points.

    Attributes:
        in_channels, out_channels: fields in and out.
        dim: axes of space, 1 to 3.
        width: channels of the hidden fields.
        layers: integral layers.
        kernel: widths of the hidden layers of every kernel network.
        projection: hidden channels of the last MLP.
        activation: "relu", "gelu", "silu", "tanh" or "silu_sin".
        coordinates: how a grid lies in the unit box: "closed" (both ends are points) or "periodic".
    """

    in_channels: int
    out_channels: int
    dim: int = 2
    width: int = 64
    layers: int = 4
    kernel: tuple[int, ...] = (256, 256)
    projection: int = 128
    activation: str = "relu"
    coordinates: GridKind = "closed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", tuple(self.kernel))
        for name in ("in_channels", "out_channels", "width", "layers", "projection"):
            if getattr(self, name) < 1:
                raise WrongSettings(f"{name} is at least 1, got {getattr(self, name)}")
        if not 1 <= self.dim <= 3:
            raise WrongSettings(f"dim is 1, 2 or 3, got {self.dim}")
        if not self.kernel or min(self.kernel) < 1:
            raise WrongSettings(f"kernel holds one or more widths, got {self.kernel}")
        if self.coordinates not in ("closed", "periodic"):
            raise WrongSettings(f"coordinates is closed or periodic, got {self.coordinates!r}")


class OnPoints(NeuralOperator, Generic[G]):
    """v0 = P(x, a(x));  v <- act(W v + b + K v), no activation after the last layer;  u = Q(v).

    On a grid, `model(x)`: the geometry of every grid is made once and kept. On other points,
    `model.on_points(a, model.geometry(points, weights))`. Weights of the network depend on neither.
    """

    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        c = config
        self.lifting = nn.Linear(c.dim + c.in_channels, c.width)
        self.layers = nn.ModuleList(self.make_layer() for _ in range(c.layers))
        self.projection = Multilayer((c.width, c.projection, c.out_channels), c.activation)
        self.act = activation_named(c.activation)
        self._grids: dict[tuple[Any, ...], tuple[Tensor, G]] = {}

    @property
    @final
    def dim(self) -> int:
        return self.config.dim

    @abstractmethod
    def make_layer(self) -> nn.Module:
        """Return a layer; it is called with (v, features, geometry)."""

    @abstractmethod
    def make_geometry(self, points: Tensor, weights: Tensor) -> G:
        """Return what the layers need to know of points (N, d) with weights (N,) of sum 1."""

    @abstractmethod
    def move_geometry(self, geometry: G, device: torch.device, dtype: torch.dtype) -> G:
        """Return a geometry on a device, real numbers in a dtype."""

    def integrate(self, v: Tensor, features: Tensor, geometry: G) -> Tensor:
        """Apply all layers to v (B, N, width) with the features (x, a(x)) of its points."""
        for number, layer in enumerate(self.layers, 1):
            v = layer(v, features, geometry)
            if number < len(self.layers):
                v = self.act(v)
        return v

    @final
    def geometry(self, points: Tensor, weights: Tensor | None = None) -> tuple[Tensor, G]:
        """Return the geometry of points (N, d), for `on_points`; make it once.

        Args:
            weights: what each point stands for, for example the lumped areas of a mesh; none: the same each,
            which
                is right for points drawn uniformly only.
        """
        share = check_quadrature(points, weights)
        if points.shape[1] != self.dim:
            raise WrongResolution(f"points have {self.dim} coordinates here, got {tuple(points.shape)}")
        return points, self.make_geometry(points, share)

    @final
    def on_points(
        self,
        a: Tensor,  # (B, N, in_channels)
        geometry: tuple[Tensor, G],
    ) -> Tensor:
        """Return the fields (B, N, out_channels) on the points of a geometry; it is moved to where `a` is."""
        points, places = geometry
        if a.ndim != 3 or tuple(a.shape[1:]) != (len(points), self.config.in_channels):
            raise WrongChannels(
                f"values here are (B, {len(points)}, {self.config.in_channels}), got {tuple(a.shape)}"
            )
        if points.device != a.device or points.dtype != a.dtype:
            points, places = points.to(a), self.move_geometry(places, a.device, a.dtype)
        features = torch.cat((points.expand(a.shape[0], -1, -1), a), dim=-1)
        return self.projection(self.integrate(self.lifting(features), features, places))

    @final
    def on_grid(self, space: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, G]:
        """Return the geometry of a grid on the unit box; made at the first call and kept."""
        key = (space, device, dtype)
        if key not in self._grids:
            points, places = self.geometry(*grid_quadrature(space, self.config.coordinates))
            self._grids[key] = (points.to(device, dtype), self.move_geometry(places, device, dtype))
        return self._grids[key]

    @final
    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        space = tuple(x.shape[2:])
        values = self.on_points(x.flatten(2).mT, self.on_grid(space, x.device, x.dtype))
        return values.mT.unflatten(2, space)
