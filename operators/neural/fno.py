"""Fourier neural operators in one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, final

from torch import Tensor, nn

from .base import NeuralOperator, WrongSettings
from .layers.channels import ChannelMLP, Gate, PointwiseLinear, activation, add_mixed, scale_channels
from .layers.chunked_mlp import gelu_residual
from .layers.coordinates import Coordinates, append_coordinates
from .layers.fused import fusible
from .layers.padding import DomainPadding, Sides
from .layers.spectral import DenseWeight, Path, SpectralConvolution, WeightFactory, check_modes

Block = Literal["plain", "mlp", "factorised"]
Norm = Literal["none", "batch", "instance", "group"]


@dataclass(frozen=True)
class FNOConfig:
    """Settings of a Fourier neural operator.

    Attributes:
        modes: per axis, k: frequencies -k, ..., k-1 are kept, and 0, ..., k-1 on the last axis. A third to
            two thirds of half the points. neuraloperator's even `n_modes` N are (N/2, ..., N/2 + 1).
        width: channels of the hidden fields.
        layers: Fourier layers.
        lifting: hidden channels of the lifting MLP; 0: one linear layer.
        projection: hidden channels of the projection MLP.
        block: "plain" (Li et al., 2021), "mlp" (a channel MLP with a gate after each spectral convolution,
            as in neuraloperator 2.0), "factorised" (F-FNO, Tran et al., 2023: one transform per axis,
            residual after the activation).
        expansion: hidden channels of the block's MLP over its width: 0.5 for "mlp", 2 to 4 for "factorised".
        skip_kernel: points of the convolution beside the spectral one; 1: linear per point, 3: local
            features.
        padding: per axis, zeros added to the hidden field: points (whole) or fraction; (): none.
        coordinates: d more input channels, with both ends of an axis as points ("closed") or "periodic".
        normal_start: draw spectral weights, and the biases beside them, from normal distributions, as
            neuraloperator does; otherwise the weights start uniform, as in the first FNO.
        path: how spectral convolutions are computed: "fft", "matrix" or "auto".
    """

    in_channels: int
    out_channels: int
    modes: tuple[int, ...]
    width: int = 32
    layers: int = 4
    lifting: int = 0
    projection: int = 128
    activation: str = "gelu"
    block: Block = "plain"
    expansion: float = 0.5
    skip_kernel: int = 1
    norm: Norm = "none"
    padding: tuple[float, ...] = ()
    padding_sides: Sides = "end"
    coordinates: Coordinates = "closed"
    normal_start: bool = False
    path: Path = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "modes", tuple(self.modes))
        object.__setattr__(self, "padding", tuple(self.padding))
        for name in ("in_channels", "out_channels", "width", "layers", "projection"):
            if getattr(self, name) < 1:
                raise WrongSettings(f"{name} is at least 1, got {getattr(self, name)}")
        if self.lifting < 0:
            raise WrongSettings(f"lifting is 0 (linear) or the hidden channels, got {self.lifting}")
        _one_of("block", self.block, ("plain", "mlp", "factorised"))
        _one_of("norm", self.norm, ("none", "batch", "instance", "group"))
        _one_of("coordinates", self.coordinates, ("none", "closed", "periodic"))
        if self.block == "factorised" and (self.skip_kernel != 1 or self.norm != "none"):
            raise WrongSettings("the factorised block has neither a convolution beside it nor a norm")
        if self.skip_kernel < 1 or self.skip_kernel % 2 == 0:
            raise WrongSettings(f"skip_kernel is odd, got {self.skip_kernel}")
        if self.padding and len(self.padding) != len(self.modes):
            raise WrongSettings(f"padding needs {len(self.modes)} entries or none, got {self.padding}")

    @classmethod
    def burgers(cls) -> FNOConfig:
        """Return the published settings for Burgers' equation in 1D: 549,569 real parameters."""
        return cls(1, 1, (16,), width=64)

    @classmethod
    def darcy(cls) -> FNOConfig:
        """Return the published settings for Darcy flow in 2D (85 x 85): 2,368,001 real parameters."""
        return cls(1, 1, (12, 12), width=32, padding=(9, 9))

    @classmethod
    def navier_stokes_2d(cls) -> FNOConfig:
        """Return the published settings for one step from ten frames of vorticity: 414,517 parameters."""
        return cls(10, 1, (8, 8), width=20, norm="batch")

    @classmethod
    def navier_stokes_3d(cls) -> FNOConfig:
        """Return the published settings for space and time at once, (x, y, t): 6,558,537 parameters."""
        return cls(10, 1, (8, 8, 8), width=20, norm="batch")

    @classmethod
    def like_neuraloperator(
        cls,
        n_modes: Sequence[int],
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        n_layers: int = 4,
    ) -> FNOConfig:
        """Return the settings equal to neuraloperator 2.0's FNO with these arguments and its defaults.

        >>> FNOConfig.like_neuraloperator((16, 16), 1, 1, 32).modes
        (8, 9)
        """
        if any(n % 2 for n in n_modes):
            raise WrongSettings(f"n_modes must be even to have an equal here, got {tuple(n_modes)}")
        return cls(
            in_channels,
            out_channels,
            (*(n // 2 for n in n_modes[:-1]), n_modes[-1] // 2 + 1),
            width=hidden_channels,
            layers=n_layers,
            lifting=2 * hidden_channels,
            projection=2 * hidden_channels,
            block="mlp",
            coordinates="periodic",
            normal_start=True,
        )


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise WrongSettings(f"{name} is one of {', '.join(allowed)}; got {value!r}")


class FNO(NeuralOperator):
    """Map fields to fields by linear layers in Fourier space and pointwise nonlinearities.

    v0 = P(a, x);  v_{l+1} = act(norm(W_l v_l + b_l + K_l v_l));  u = Q(v_L),  with no activation after the
    last layer; K is `SpectralConvolution`. (B, in_channels, *space) -> (B, out_channels, *space) on any grid
    that is fine enough for the modes; weights do not depend on the grid.

    Source: Li et al. (2021), Fourier neural operator for parametric partial differential equations.
    Good values: `FNOConfig.darcy()` and its neighbours; Adam at 1e-3, halved every 100 of 500 epochs.

    Raises:
        WrongResolution: when a grid is too coarse for the modes.

    >>> import torch
    >>> model = FNO(FNOConfig(1, 1, (4, 4), width=8))
    >>> model(torch.zeros(2, 1, 16, 17)).shape
    torch.Size([2, 1, 16, 17])
    """

    Config: ClassVar[type] = FNOConfig
    config: FNOConfig

    def __init__(self, config: FNOConfig) -> None:
        super().__init__(config)
        coordinates = 0 if config.coordinates == "none" else self.dim
        entering = config.in_channels + coordinates
        if config.lifting:
            self.lifting: nn.Module = ChannelMLP(entering, config.lifting, config.width, config.activation)
        else:
            self.lifting = PointwiseLinear(entering, config.width)
        make = {"plain": PlainBlock, "mlp": MLPBlock, "factorised": FactorisedBlock}[config.block]
        last = config.layers - 1
        self.blocks = nn.ModuleList(
            make(config, self.spectral_weight(), last=i == last) for i in range(config.layers)
        )
        self.projection = ChannelMLP(config.width, config.projection, config.out_channels, config.activation)
        self.padding = DomainPadding(config.padding, config.padding_sides)

    @property
    @final
    def dim(self) -> int:
        return len(self.config.modes)

    def spectral_weight(self) -> WeightFactory:
        """Return what makes the multipliers of the spectral convolutions; a compressed FNO overrides it."""
        return partial(DenseWeight, normal=self.config.normal_start)

    @final
    def check_resolution(self, space: tuple[int, ...]) -> None:
        if self.config.block == "factorised":
            for n, k in zip(self.padding.padded(space), self.config.modes, strict=True):
                check_modes((k,), (n,))
        else:
            check_modes(self.config.modes, self.padding.padded(space))

    @final
    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        space = x.shape[2:]
        v = self.padding.pad(self.lifting(append_coordinates(x, self.config.coordinates)))
        for block in self.blocks:
            v = block(v)
        return self.projection(self.padding.crop(v, space))


@final
class PlainBlock(nn.Module):
    """v -> act(norm(W v + b + K v)); no activation in the last one."""

    def __init__(self, config: FNOConfig, weight: WeightFactory, *, last: bool) -> None:
        super().__init__()
        w = config.width
        self.spectral = SpectralConvolution(w, w, config.modes, weight=weight, path=config.path)
        self.skip = make_skip(config)
        if config.normal_start and isinstance(self.skip.bias, Tensor):
            nn.init.normal_(self.skip.bias, std=w**-0.5)
        self.norm = make_norm(config)
        self.act = None if last else activation(config.activation)

    def forward(self, v: Tensor) -> Tensor:
        return self.finish(self.linear(v)[0])

    def linear(
        self, v: Tensor, *, then: PointwiseLinear | None = None, gate: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return then(W v + b + K v), without `then` W v + b + K v, and g v + c for gate = (g, c)."""
        if isinstance(self.skip, PointwiseLinear):
            W, b = self.skip.weight, self.skip.bias
            if then is None:
                return self.spectral.beside(v, W, b, gate=gate)
            M = then.weight
            return self.spectral.beside(v, M @ W, M @ b + then.bias, then=M, gate=gate)
        field = self.spectral(v) + self.skip(v)
        gated = None if gate is None else scale_channels(v.flatten(2), *gate)
        return field if then is None else then(field), gated

    def finish(self, v: Tensor) -> Tensor:
        """Apply the norm and the activation."""
        v = self.norm(v)
        return v if self.act is None else self.act(v)


@final
class MLPBlock(nn.Module):
    """v -> act(norm(MLP(act(norm(W v + b + K v))) + g v)); no activation outside the MLP in the last one."""

    def __init__(self, config: FNOConfig, weight: WeightFactory, *, last: bool) -> None:
        super().__init__()
        self.inner = PlainBlock(config, weight, last=last)
        hidden = max(1, round(config.width * config.expansion))
        self.mlp = ChannelMLP(config.width, hidden, config.width, config.activation)
        self.gate = Gate(config.width)
        self.norm = make_norm(config)
        self.act = None if last else activation(config.activation)
        # two linear maps in a row are one, and with fewer channels less work
        self.merge = last and config.norm == "none" and hidden <= config.width
        self.chunked = not last and config.norm == "none" and config.activation == "gelu"

    def forward(self, v: Tensor) -> Tensor:
        first, second = self.mlp.first, self.mlp.second
        u, through = self.inner.linear(
            v, then=first if self.merge else None, gate=(self.gate.weight, second.bias)
        )
        assert through is not None
        if self.chunked and fusible(v, first.weight, second.weight) and v.device.type == "cpu":
            lines = gelu_residual(u.flatten(2), first.weight, first.bias, second.weight, through)
            return lines.unflatten(2, v.shape[2:])
        hidden = self.mlp.act(u if self.merge else first(self.inner.finish(u)))
        v = self.norm(add_mixed(through, second.weight, hidden))
        return v if self.act is None else self.act(v)


@final
class FactorisedBlock(nn.Module):
    """v -> v + act(MLP(sum over axes of K_axis v)), each K a one-dimensional spectral convolution.

    Source: Tran et al. (2023), Factorized Fourier neural operators, eq. 6 to 8.
    """

    def __init__(self, config: FNOConfig, weight: WeightFactory, *, last: bool) -> None:
        super().__init__()
        del last  # every block is alike: the residual carries the field on
        w = config.width
        self.axes = nn.ModuleList(
            SpectralConvolution(w, w, (k,), weight=weight, path=config.path) for k in config.modes
        )
        self.mlp = ChannelMLP(w, max(1, round(w * config.expansion)), w, config.activation)
        self.act = activation(config.activation)

    def forward(self, v: Tensor) -> Tensor:
        total = None
        for axis, layer in enumerate(self.axes, start=2):
            lines = v.movedim(axis, -1).movedim(1, -2)  # (B, *others, C, n)
            part = layer(lines.flatten(0, -3)).unflatten(0, lines.shape[:-2])
            part = part.movedim(-2, 1).movedim(-1, axis)
            total = part if total is None else total + part
        return v + self.act(self.mlp(total))


def make_skip(config: FNOConfig) -> nn.Module:
    """Return the map beside the spectral convolution: linear, or a convolution that keeps the size."""
    if config.skip_kernel == 1:
        return PointwiseLinear(config.width, config.width)
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(config.modes) - 1]
    return convolution(config.width, config.width, config.skip_kernel, padding="same")


def make_norm(config: FNOConfig) -> nn.Module:
    """Return the norm over the channels of a field in any dimension."""
    match config.norm:
        case "batch":
            return AnyDimension(nn.BatchNorm1d(config.width))
        case "instance":
            return AnyDimension(nn.InstanceNorm1d(config.width))
        case "group":
            return nn.GroupNorm(1, config.width)
        case _:
            return nn.Identity()


@final
class AnyDimension(nn.Module):
    """Apply a norm for (B, C, n) to fields (B, C, *space)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(2)).unflatten(2, x.shape[2:])
