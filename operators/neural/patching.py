"""Multigrid patching: a large field as patches with coarse views of what lies around them, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .architectures import architecture, name_of
from .base import NeuralOperator, WrongChannels, WrongResolution, WrongSettings

Boundary = Literal["periodic", "zero", "reflect", "replicate"]
BOUNDARIES = ("periodic", "zero", "reflect", "replicate")


@final
@dataclass(frozen=True)
class Patching:
    """Cut fields into patches along each axis, and put fields on patches together again.

    A grid of n points is cut into m patches of c = ceil(n / m) points. Patch i gets p more points on both
    sides (the halo), and for every level l a window of the same s = c + 2p points with 2^l times the spacing
    around the same centre, as further channels:

        level l, point k of patch i:  x at  i c - p - floor((2^l - 1) (s - 1) / 2) + 2^l k,    k = 0, ..., s -
            1.

    Where that is off the grid, `boundary` decides. Nothing is rounded: values are copied.

    Source: Kossaifi et al. (2024), Multi-grid tensorized Fourier neural operator, section 3.3; boundaries,
    sizes and dimensions are freed here.

    Attributes:
        patches: m, per axis.
        levels: coarser windows; log2(m) reach over most of the domain.
        halo: p per axis, in points (2) or as a fraction of the axis (0.1, rounded). (): none.
        boundary: "periodic", "zero", "reflect" (about the last point) or "replicate" (the last value): one
            word, one per axis, or two per axis (lower and upper side; first axis first).

    Raises:
        WrongSettings: for settings that do not go together.
        WrongResolution: for a grid that leaves a patch without points.

    >>> patching = Patching((2, 2), levels=1, halo=(2, 2))
    >>> x = torch.randn(3, 1, 15, 20)
    >>> patches = patching.split(x)
    >>> patches.shape
    torch.Size([12, 2, 12, 14])
    >>> torch.equal(patching.join(patches[:, :1], (15, 20)), x)
    True
    """

    patches: tuple[int, ...]
    levels: int = 0
    halo: tuple[float, ...] = ()
    boundary: tuple[Boundary, ...] = ("periodic",)

    def __post_init__(self) -> None:
        for name in ("patches", "halo", "boundary"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        d = len(self.patches)
        if not 1 <= d <= 3 or min(self.patches) < 1:
            raise WrongSettings(
                f"patches has one number of 1 or more per axis, 1 to 3 axes; got {self.patches}"
            )
        if self.levels < 0:
            raise WrongSettings(f"levels is 0 or more, got {self.levels}")
        if self.halo and (len(self.halo) != d or min(self.halo) < 0):
            raise WrongSettings(f"halo has {d} numbers of points or fractions, or none; got {self.halo}")
        if len(self.boundary) not in {1, d, 2 * d} or not set(self.boundary) <= set(BOUNDARIES):
            raise WrongSettings(
                f"boundary has 1, {d} or {2 * d} words out of {', '.join(BOUNDARIES)}; got {self.boundary}"
            )
        for axis in range(d):
            if self.sides(axis).count("periodic") == 1:
                raise WrongSettings(f"axis {axis} is periodic on one side only: {self.sides(axis)}")

    @property
    def dim(self) -> int:
        """Axes of space."""
        return len(self.patches)

    def sides(self, axis: int) -> tuple[Boundary, Boundary]:
        """Return what lies beyond the lower and the upper side of an axis."""
        if len(self.boundary) == 2 * self.dim:
            return self.boundary[2 * axis], self.boundary[2 * axis + 1]
        word = self.boundary[axis if len(self.boundary) == self.dim else 0]
        return word, word

    def halos(self, space: Sequence[int]) -> tuple[int, ...]:
        """Return the points of the halo on each side of a patch."""
        return tuple(
            round(n * p) if isinstance(p, float) else p
            for n, p in zip(space, self.halo or (0,) * self.dim, strict=True)
        )

    def interior(self, space: Sequence[int]) -> tuple[int, ...]:
        """Return the points of a patch without its halo.

        >>> Patching((2, 3)).interior((15, 20))
        (8, 7)
        """
        self._check_space(space)
        return tuple(-(-n // m) for n, m in zip(space, self.patches, strict=True))

    def patch_size(self, space: Sequence[int]) -> tuple[int, ...]:
        """Return the points of a patch with its halo."""
        return tuple(c + 2 * p for c, p in zip(self.interior(space), self.halos(space), strict=True))

    def split(
        self,
        x: Tensor,  # (B, C, *space)
    ) -> Tensor:
        """Return the patches (B m1 ... md, C (levels + 1), *patch_size), those of a sample together."""
        if x.ndim != self.dim + 2:
            raise WrongResolution(
                f"patches {self.patches} cut fields (B, C, {self.dim} axes of space), got {tuple(x.shape)}"
            )
        windows = [self._windows(x, level) for level in range(self.levels + 1)]
        return torch.cat(windows, dim=1)

    def _windows(self, x: Tensor, level: int) -> Tensor:
        d, space = self.dim, x.shape[2:]
        inner, halos = self.interior(space), self.halos(space)
        for axis in range(d):
            m, c, s = self.patches[axis], inner[axis], inner[axis] + 2 * halos[axis]
            start = -halos[axis] - (2**level - 1) * (s - 1) // 2
            i = torch.arange(m, device=x.device)[:, None]
            k = torch.arange(s, device=x.device)[None, :]
            place = (i * c + start + 2**level * k).flatten()
            place, zero = _source(place, space[axis], self.sides(axis))
            x = x.index_select(2 + 2 * axis, place)
            if zero is not None:
                x = x.masked_fill(zero.reshape(-1, *(1,) * (x.ndim - 3 - 2 * axis)), 0.0)
            x = x.unflatten(2 + 2 * axis, (m, s))
        # (B, C, m1, s1, m2, s2, ...) -> (B, m1, m2, ..., C, s1, s2, ...)
        order = [0, *range(2, 2 + 2 * d, 2), 1, *range(3, 3 + 2 * d, 2)]
        return x.permute(order).flatten(0, d)

    def join(
        self,
        y: Tensor,  # (B m1 ... md, C, *patch_size)
        space: Sequence[int],
    ) -> Tensor:
        """Return the fields (B, C, *space) of which `y` holds the patches; the halos are dropped."""
        d, size, inner = self.dim, self.patch_size(space), self.interior(space)
        count = self.count
        if tuple(y.shape[2:]) != size or y.shape[0] % count:
            raise WrongResolution(
                f"patches of a grid {tuple(space)} are (B * {count}, C, {', '.join(map(str, size))}), "
                f"got {tuple(y.shape)}: the network must keep the size of its input"
            )
        for axis, (c, p) in enumerate(zip(inner, self.halos(space), strict=True)):
            y = y.narrow(2 + axis, p, c)
        y = y.unflatten(0, (-1, *self.patches))  # (B, m1, ..., md, C, c1, ..., cd)
        pairs = [a for axis in range(d) for a in (1 + axis, 2 + d + axis)]
        y = y.permute(0, 1 + d, *pairs).reshape(
            y.shape[0], y.shape[1 + d], *(m * c for m, c in zip(self.patches, inner, strict=True))
        )
        for axis, n in enumerate(space):
            y = y.narrow(2 + axis, 0, n)
        return y

    @property
    def count(self) -> int:
        """Patches of a field."""
        count = 1
        for m in self.patches:
            count *= m
        return count

    def _check_space(self, space: Sequence[int]) -> None:
        for axis, (n, m) in enumerate(zip(space, self.patches, strict=True)):
            if (m - 1) * -(-n // m) >= n:
                raise WrongResolution(
                    f"{n} points along axis {axis} cannot be cut into {m} patches of {-(-n // m)} points, "
                    "the last would be empty: use fewer patches or a finer grid"
                )
            if "reflect" in self.sides(axis) and n < 2:
                raise WrongResolution(f"reflection needs 2 points along axis {axis}, got {n}")


def _source(place: Tensor, n: int, sides: tuple[Boundary, Boundary]) -> tuple[Tensor, Tensor | None]:
    """Return the point of the grid, 0 to n - 1, whose value stands at each place, and where a zero stands."""
    if sides[0] == "periodic":
        return place % n, None
    below, above = place < 0, place >= n
    source = place.clamp(0, n - 1)
    if "reflect" in sides:
        folded = place % (2 * n - 2)
        folded = torch.minimum(folded, 2 * n - 2 - folded)
        for side, outside in zip(sides, (below, above), strict=True):
            if side == "reflect":
                source = torch.where(outside, folded, source)
    zeros = [outside for side, outside in zip(sides, (below, above), strict=True) if side == "zero"]
    return source, torch.stack(zeros).any(0) if zeros else None


@dataclass(frozen=True)
class PatchedConfig:
    """Settings of a network on patches.

    Attributes:
        in_channels, out_channels: of the whole fields.
        patches, levels, halo, boundary: as in `Patching`.
        network: the name of the network on a patch, which has in_channels (levels + 1) inputs.
        settings: its settings, JSON values.
        at_once: patches evaluated at once; 0: all. In training the rest is computed again on the way back.
    """

    in_channels: int
    out_channels: int
    patches: tuple[int, ...]
    network: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    levels: int = 0
    halo: tuple[float, ...] = ()
    boundary: tuple[Boundary, ...] = ("periodic",)
    at_once: int = 0

    def __post_init__(self) -> None:
        if self.at_once < 0:
            raise WrongSettings(f"at_once is 0 (all patches) or more, got {self.at_once}")
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in self.settings.items()}
        object.__setattr__(self, "settings", plain)
        for name in ("patches", "halo", "boundary"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def patching(self) -> Patching:
        """Return how fields are cut."""
        return Patching(self.patches, self.levels, self.halo, self.boundary)


@final
class Patched(NeuralOperator):
    """Apply a network to patches of a field with coarse views of their surroundings: join(net(split(x))).

    Activations are needed for `at_once` patches at a time, so that memory falls with the number of patches. A
    network that appends coordinates sees those within the patch; append the global ones to the field where
    the operator depends on the place. Batch norms see the patches that are evaluated together.

    Source: Kossaifi et al. (2024), Multi-grid tensorized Fourier neural operator. Good values: 2^levels
    patches per axis, levels 1 or 2, a halo of 0.05 to 0.1 of the domain.

    >>> from .fno import FNO, FNOConfig
    >>> net = FNO(FNOConfig(2, 1, (4, 4), width=8))
    >>> model = Patched.around(net, Patching((2, 2), levels=1, halo=(2, 2), boundary=("zero",)))
    >>> model(torch.randn(3, 1, 31, 40)).shape
    torch.Size([3, 1, 31, 40])
    """

    Config: ClassVar[type] = PatchedConfig
    config: PatchedConfig

    def __init__(self, config: PatchedConfig, net: NeuralOperator | None = None) -> None:
        super().__init__(config)
        self.patching = config.patching()
        self.net = architecture(config.network).from_settings(config.settings) if net is None else net
        wanted = (config.in_channels * (config.levels + 1), config.out_channels, self.patching.dim)
        inner = (self.net.config.in_channels, self.net.config.out_channels, self.net.dim)
        if inner != wanted:
            raise WrongChannels(
                f"the network on a patch must have {wanted[0]} inputs ({config.in_channels} channels on "
                f"{config.levels + 1} levels), {wanted[1]} outputs and {wanted[2]} axes, "
                f"got {inner[0]}, {inner[1]} and {inner[2]}"
            )

    @classmethod
    def around(cls, net: NeuralOperator, patching: Patching, at_once: int = 0) -> Self:
        """Return a network on patches with a network that is there already.

        Raises:
            WrongChannels: when the inputs of `net` are not a multiple of the levels.
            WrongSettings: for a network that has no name here: a saved model could not be made again. Write
                `patching.join(net(patching.split(x)), x.shape[2:])` for it.
        """
        name, inputs = name_of(type(net)), net.config.in_channels
        if name is None:
            raise WrongSettings(
                f"{type(net).__name__} has no name among the networks: call Patching.split and join around it"
            )
        if inputs % (patching.levels + 1):
            raise WrongChannels(
                f"a network on patches with {patching.levels} coarser levels has a multiple of "
                f"{patching.levels + 1} inputs, got {inputs}"
            )
        channels = (inputs // (patching.levels + 1), net.config.out_channels)
        config = PatchedConfig(
            *channels, patching.patches, name, net.settings(),
            patching.levels, patching.halo, patching.boundary, at_once,
        )  # fmt: skip
        return cls(config, net)

    @property
    def dim(self) -> int:
        return self.patching.dim

    def check_resolution(self, space: tuple[int, ...]) -> None:
        self.net.check_resolution(self.patching.patch_size(space))

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        patches = self.patching.split(x)
        at_once = self.config.at_once
        if at_once == 0 or at_once >= len(patches):
            return self.patching.join(self.net(patches), x.shape[2:])
        parts = patches.split(at_once)
        if torch.is_grad_enabled():
            results = [checkpoint(self.net, part, use_reentrant=False) for part in parts]
        else:
            results = [self.net(part) for part in parts]
        return self.patching.join(torch.cat(results), x.shape[2:])
