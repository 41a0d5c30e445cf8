"""Evolution equations u_t = F(u, t): initial states, a form that steppers take, exact solutions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Grid
from ..linear.base import LinearOperator
from ..linear.errors import ShapeMismatch
from .base import Assembled, FieldSpec


@final
@dataclass(frozen=True, eq=False)
class Semilinear:
    """v_t = L v + N(v) for the coefficients v of a state in a basis that makes L diagonal.

    Args:
        symbol: L, real or complex, broadcast against (C, *modes).
        nonlinear: N, coefficients (B, C, *modes) -> the same shape, dealiased; None where F is linear.
        to_modes: state on the grid (B, C, *shape) -> coefficients (B, C, *modes).
        to_grid: the inverse.
    """

    symbol: Tensor
    nonlinear: Callable[[Tensor], Tensor] | None
    to_modes: Callable[[Tensor], Tensor]
    to_grid: Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True)
class ExactTrajectory:
    """An initial state and what becomes of it: `initial[name]` (*shape), `values[name]` (T, *shape)."""

    initial: Mapping[str, Tensor]
    values: Mapping[str, Tensor]


class Evolution(ABC):
    """An evolution equation: a frozen dataclass that holds parameters only.

    Attributes:
        state: the components of the state, one field each; a state is a tensor (B, C, *shape).
    """

    state: ClassVar[tuple[FieldSpec, ...]]

    @abstractmethod
    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n initial states: every component float64 (n, *grid.shape)."""

    @abstractmethod
    def check(self, grid: Grid) -> None:
        """Raise ValueError, with what is needed, when the equation cannot be posed on a grid."""

    def exact(self, grid: Grid, times: Sequence[float]) -> ExactTrajectory | None:
        """Return data whose solution is known at given times; None where there is none."""
        return None

    @final
    def stack(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Return the state (B, C, *shape) of named components, (B, *shape) each."""
        names = [spec.name for spec in self.state]
        if set(fields) != set(names):
            given = ", ".join(sorted(fields)) or "none"
            raise ShapeMismatch(
                f"{type(self).__name__} has the components {', '.join(names)}; given: {given}"
            )
        return torch.stack([fields[name] for name in names], dim=1)

    @final
    def unstack(self, u: Tensor, axis: int = 1) -> dict[str, Tensor]:
        """Return the components of a state or a trajectory, taken along the axis of components."""
        parts = u.unbind(axis)
        return {spec.name: part for spec, part in zip(self.state, parts, strict=True)}


class SpectralEvolution(Evolution):
    """An evolution equation that is solved by the coefficients of its state; see `Semilinear`."""

    @abstractmethod
    def semilinear(self, grid: Grid, *, device: torch.device | str = "cpu") -> Semilinear:
        """Return the equation in a basis that makes its linear part diagonal, float64 on a device."""


class Parabolic(Evolution):
    """u_t = -K(t) u + f(t) with a symmetric positive (semi)definite K(t), one component."""

    @abstractmethod
    def operator(self, grid: Grid, t: float, scale: float) -> LinearOperator:
        """Return Id + scale K(t), positive definite for scale >= 0."""

    @abstractmethod
    def source(self, grid: Grid, t: float) -> Tensor:
        """Return f(t), (*grid.shape) float64."""

    @final
    def system(self, grid: Grid, t: float, dt: float, u: Tensor) -> Assembled:
        """Return the linear system of one step of the implicit midpoint rule from u (..., *grid.shape) at t.

            (Id + dt/2 K) u_1 = (Id - dt/2 K) u + dt f,     K and f at t + dt/2

        b (..., n) is in the type and on the device of the operator. Learned relaxation is trained on a
        sequence of such systems.
        """
        shape = tuple(u.shape[u.ndim - grid.dim :])
        if shape != grid.shape:
            raise ShapeMismatch(f"the state has shape {tuple(u.shape)}, this grid needs (..., {grid.shape})")
        A = self.operator(grid, t + dt / 2, dt / 2)
        f = self.source(grid, t + dt / 2).to(A.device, A.dtype).reshape(-1)
        flat = u.to(A.device, A.dtype).reshape(*u.shape[: u.ndim - grid.dim], grid.size)
        return Assembled(A, 2 * flat - A @ flat + dt * f)
