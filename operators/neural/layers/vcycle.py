"""One multigrid V-cycle with learned kernels and several channels, a linear map from fields to fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, final

from torch import Tensor, nn

from ..base import WrongResolution, WrongSettings
from .boundary_convolution import BoundaryConvolution, Prolongation, Sides, boundary_sides

Norm = Literal["none", "group", "layer"]


@dataclass(frozen=True, kw_only=True)
class CycleSettings:
    """Settings of a V-cycle.

    The first five are for use; the others exist to build the published variants.

    Attributes:
        dim: axes of space, 1 to 3.
        smoothing: a word per level, finest first: smoothing steps before and after the coarser levels, "10"
            or "11". The coarsest has no steps after.
        boundary: see `boundary_sides`.
        restrict_residual: restrict f - A u, not f; costs one convolution more per level.
        cycle_norm: after adding the coarser level: "none", "group" (any size; the map is then not linear) or
            "layer" (over channels and points, weights per point, one size only).
        size: the grid, where a "layer" norm needs it; () for any.
        smoother_bias: biases in the smoothing steps; the map is then affine.
        prolongation: kernel per prolongation, finest first, 3 or 4; (): 3, which takes every size.
        growing: level l (from 0) has l + 1 times as many channels.
        padded_transfers: whether restriction and prolongation overhang the grid by one point.
    """

    dim: int = 2
    smoothing: tuple[str, ...] = ("10", "10", "10", "10", "10", "20")
    boundary: tuple[str, ...] = ("dirichlet",)
    restrict_residual: bool = False
    cycle_norm: Norm = "none"
    size: tuple[int, ...] = ()
    smoother_bias: bool = False
    prolongation: tuple[int, ...] = ()
    growing: bool = False
    padded_transfers: bool = True

    def __post_init__(self) -> None:
        for name in ("smoothing", "boundary"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if not 1 <= self.dim <= 3:
            raise WrongSettings(f"dim is 1, 2 or 3, got {self.dim}")
        boundary_sides(self.boundary, self.dim)
        codes = self.smoothing
        if not codes or any(len(c) != 2 or not c.isdecimal() for c in codes):
            raise WrongSettings(
                f'smoothing has two digits per level, such as ("10", "11", "20"), got {codes}'
            )
        if codes[0][0] == "0" or codes[-1][1] != "0":
            raise WrongSettings(
                f"the finest level needs a step before the coarser ones, the coarsest has none after: {codes}"
            )
        if self.prolongation and (
            len(self.prolongation) != len(codes) - 1 or any(k not in (3, 4) for k in self.prolongation)
        ):
            raise WrongSettings(
                f"prolongation has {len(codes) - 1} kernels of 3 or 4 points, got {self.prolongation}"
            )
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "prolongation", tuple(self.prolongation))
        if len(self.size) not in (0, self.dim):
            raise WrongSettings(f"size has {self.dim} numbers or none, got {self.size}")
        check_norm(self.cycle_norm, self.size, self.dim)

    @property
    def sides(self) -> Sides:
        """Boundary conditions (low, high) per axis."""
        return boundary_sides(self.boundary, self.dim)

    @property
    def levels(self) -> int:
        """Number of grids, the finest included."""
        return len(self.smoothing)

    def grids(self, space: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the sizes of the grids of all levels, the finest first.

        >>> CycleSettings(smoothing=("10", "10", "20")).grids((85, 64))
        [(85, 64), (43, 32), (22, 16)]
        """
        sizes = [tuple(space)]
        for _ in range(self.levels - 1):
            sizes.append(tuple((n + 1) // 2 if self.padded_transfers else (n - 1) // 2 for n in sizes[-1]))
        return sizes

    @property
    def least_points(self) -> int:
        """Points that every axis needs: 2^levels, so that the coarsest grid has at least two."""
        return 2**self.levels if self.padded_transfers else 3 * 2 ** (self.levels - 1) - 1


def check_norm(norm: str, size: tuple[int, ...], dim: int) -> None:
    """Raise WrongSettings for an unknown norm, or a "layer" norm on a grid that is not told."""
    if norm not in ("none", "group", "layer"):
        raise WrongSettings(f"norm is one of none, group, layer; got {norm!r}")
    if norm == "layer" and len(size) != dim:
        raise WrongSettings(f'the norm "layer" has weights per point: give size, {dim} numbers')


def make_norm(norm: Norm, channels: int, space: Sequence[int]) -> nn.Module:
    """Return a norm over all channels and points of a field (B, channels, *space)."""
    match norm:
        case "group":
            return nn.GroupNorm(1, channels)
        case "layer":
            return nn.LayerNorm([channels, *space])
        case _:
            return nn.Identity()


@final
class Smoother(nn.Module):
    """u -> u + S (f - A u), with A and S convolutions of 3 points; u -> S f without A, for u = 0."""

    def __init__(self, in_channels: int, channels: int, settings: CycleSettings, *, from_zero: bool) -> None:
        super().__init__()
        sides, bias = settings.sides, settings.smoother_bias
        self.A = None if from_zero else BoundaryConvolution(channels, in_channels, sides, bias=bias)
        self.S = BoundaryConvolution(in_channels, channels, sides, bias=bias)

    def forward(self, u: Tensor | None, f: Tensor) -> Tensor:
        if u is None or self.A is None:
            return self.S(f)
        return u + self.S(f - self.A(u))


@final
class VCycle(nn.Module):
    """Apply one V-cycle to f, (B, in_channels, *space) -> (B, channels, *space): a bounded linear map.

    On each level u <- u + S (f - A u), starting with u = 0 on the finest; then f and u are restricted, by R
    and Pi; on the way back u <- u + P u_coarse, followed by the steps after. Each step of each level has
    kernels of its own, 3 points per axis. `smoother_bias` makes the map affine, and a norm nonlinear. It is
    not symmetric: as a preconditioner it is for GMRES or flexible methods, not for CG.

    Source: He, Liu and Xu (2024), MgNO, arXiv 2310.19809, section 3.
    Good values: so many levels that the coarsest grid has 4 to 8 points per axis.

    Raises:
        WrongResolution: for a grid with less than 2^levels points on an axis.

    >>> import torch
    >>> cycle = VCycle(1, 8, CycleSettings(smoothing=("10", "11", "20")))
    >>> f = torch.randn(2, 1, 17, 20)
    >>> cycle(f).shape, torch.allclose(cycle(3 * f), 3 * cycle(f), atol=1e-5)
    (torch.Size([2, 8, 17, 20]), True)
    """

    def __init__(self, in_channels: int, channels: int, settings: CycleSettings) -> None:
        super().__init__()
        self.settings = settings
        levels, sides = settings.levels, settings.sides
        factors = [l + 1 if settings.growing else 1 for l in range(levels)]
        fs, us = [in_channels * k for k in factors], [channels * k for k in factors]
        steps = [(int(code[0]), int(code[1])) for code in settings.smoothing]
        self.before = nn.ModuleList(
            nn.ModuleList(Smoother(fs[l], us[l], settings, from_zero=l == i == 0) for i in range(steps[l][0]))
            for l in range(levels)
        )
        self.after = nn.ModuleList(
            nn.ModuleList(Smoother(fs[l], us[l], settings, from_zero=False) for _ in range(steps[l][1]))
            for l in range(levels)
        )
        self.restrict_f = nn.ModuleList(Restriction(a, b, settings) for a, b in pairwise(fs))
        self.restrict_u = nn.ModuleList(Restriction(a, b, settings) for a, b in pairwise(us))
        kernels = settings.prolongation or (3,) * (levels - 1)
        padded = settings.padded_transfers
        self.prolong = nn.ModuleList(
            Prolongation(us[l + 1], us[l], sides, kernel=k, padded=padded) for l, k in enumerate(kernels)
        )
        self.residual = nn.ModuleList(
            BoundaryConvolution(us[l], fs[l], sides, bias=settings.smoother_bias)
            for l in range(levels - 1 if settings.restrict_residual else 0)
        )
        grids = settings.grids(settings.size)
        self.norms = nn.ModuleList(make_norm(settings.cycle_norm, us[l], grids[l]) for l in range(levels - 1))

    def check_space(self, space: Sequence[int]) -> None:
        """Raise WrongResolution, with what is needed, for a grid that the cycle cannot take."""
        s, least = self.settings, self.settings.least_points
        if min(space) < least:
            raise WrongResolution(
                f"{s.levels} levels need at least {least} points on every axis, got {tuple(space)}: "
                "leave out the coarsest levels of `smoothing`, or use a finer grid"
            )
        if s.size and tuple(space) != tuple(s.size):
            raise WrongResolution(f"the network was made for the grid {s.size}, got {tuple(space)}")
        if not s.prolongation and s.padded_transfers:
            return  # takes every size
        grids = s.grids(space)
        for level, prolong in enumerate(self.prolong):
            for fine, coarse in zip(grids[level], grids[level + 1], strict=True):
                if not prolong.reaches(coarse, fine):  # type: ignore[operator]
                    raise WrongResolution(
                        f"prolongation {s.prolongation} does not lead back from {coarse} to {fine} points "
                        f"(level {level} of the grid {tuple(space)}): leave it empty, which takes every size"
                    )

    def forward(self, f: Tensor) -> Tensor:
        self.check_space(f.shape[2:])
        kept: list[tuple[Tensor, Tensor]] = []
        u: Any = None  # zero on the finest grid
        for level, steps in enumerate(self.before):
            for step in steps:  # type: ignore[attr-defined]
                u = step(u, f)
            if level < len(self.prolong):
                kept.append((u, f))
                if len(self.residual):
                    f = f - self.residual[level](u)
                f, u = self.restrict_f[level](f), self.restrict_u[level](u)
        for level in reversed(range(len(self.prolong))):
            fine, f = kept[level]
            u = self.norms[level](fine + self.prolong[level](u, fine.shape[2:]))
            for step in self.after[level]:  # type: ignore[attr-defined]
                u = step(u, f)
        return u


@final
class Restriction(nn.Module):
    """Convolve with 3 points per axis and keep every second point, from the first (second if not padded)."""

    def __init__(self, in_channels: int, out_channels: int, settings: CycleSettings) -> None:
        super().__init__()
        if settings.padded_transfers:
            self.layer: nn.Module = BoundaryConvolution(in_channels, out_channels, settings.sides, stride=2)
        else:
            convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[settings.dim - 1]
            self.layer = convolution(in_channels, out_channels, 3, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)
