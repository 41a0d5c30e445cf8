"""MgNO: neural operators whose linear layers are multigrid V-cycles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ..linear.base import LinearOperator
from .base import NeuralOperator, WrongSettings
from .layers.channels import activation
from .layers.vcycle import CycleSettings, Norm, VCycle, check_norm, make_norm

Branch = Literal["affine", "linear", "none"]
Head = Literal["pointwise", "cycle"]


@final
@dataclass(frozen=True)
class MgNOConfig(CycleSettings):
    """Settings of an MgNO; those of its V-cycles are in `CycleSettings`.

    Attributes:
        channels: of the hidden fields.
        layers: V-cycles with an activation after them.
        activation: "gelu" and so on, or "none": the network is then one linear map, if nothing has a bias.
        branch: what is added to the V-cycle, "affine" (B u + b), "linear" (B u) or "none".
        head: last map, "pointwise" or a "cycle" of its own.
        layer_norm: before each activation, as `cycle_norm`.
        add_input: give x + net(x), for one step in time.
    """

    in_channels: int
    out_channels: int
    channels: int = 24
    layers: int = 4
    activation: str = "gelu"
    branch: Branch = "affine"
    head: Head = "pointwise"
    layer_norm: Norm = "none"
    add_input: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("in_channels", "out_channels", "channels", "layers"):
            if getattr(self, name) < 1:
                raise WrongSettings(f"{name} is at least 1, got {getattr(self, name)}")
        for name, words in (("branch", ("affine", "linear", "none")), ("head", ("pointwise", "cycle"))):
            if getattr(self, name) not in words:
                raise WrongSettings(f"{name} is one of {', '.join(words)}; got {getattr(self, name)!r}")
        check_norm(self.layer_norm, self.size, self.dim)
        if self.activation != "none":
            activation(self.activation)
        if self.add_input and self.in_channels != self.out_channels:
            raise WrongSettings(
                f"add_input needs as many outputs as inputs, got {self.in_channels} and {self.out_channels}"
            )

    @property
    def linear(self) -> bool:
        """Whether the network is a linear map: no activation, bias or norm anywhere."""
        norms = (self.cycle_norm, self.layer_norm)
        return (
            self.activation == "none"
            and self.branch != "affine"
            and not self.smoother_bias
            and norms == ("none", "none")
        )

    @classmethod
    def darcy_smooth(cls) -> MgNOConfig:
        """Return the released settings for smooth Darcy flow on 211 x 211 points: 678,093 parameters."""
        return cls(1, 1, layers=5, prolongation=(3, 4, 3, 3, 4))

    @classmethod
    def darcy_rough(cls) -> MgNOConfig:
        """Return the released settings for rough and multiscale Darcy flow, 256 x 256: 572,661 parameters."""
        return cls(1, 1, prolongation=(4,) * 5)

    @classmethod
    def navier_stokes(cls) -> MgNOConfig:
        """Return the released settings for one step of the vorticity on 64 x 64 points: 2,885,194 parameters.

        Prolongation wraps round, so that the cycle commutes with shifts; the released one has zeros outside.
        """
        return cls(
            1,
            1,
            channels=32,
            layers=5,
            branch="none",
            add_input=True,
            smoothing=("10", "10", "10", "20", "20"),
            boundary=("periodic",),
            cycle_norm="layer",
            size=(64, 64),
            smoother_bias=True,
            prolongation=(4,) * 4,
        )

    @classmethod
    def pipe(cls) -> MgNOConfig:
        """Return the released settings for flow through a pipe, 128 x 128 points: 783,876 parameters."""
        return cls(2, 1, layers=5, smoothing=("10", "10", "10", "10", "11", "20"), prolongation=(4,) * 5)

    @classmethod
    def helmholtz(cls) -> MgNOConfig:
        """Return the released settings for the Helmholtz equation on 101 x 101 points: 5,340,565 parameters.

        The released network has 5,351,806: 11,241 of them are in five kernels A that it never applies.
        """
        return cls(
            1,
            1,
            channels=20,
            branch="none",
            head="cycle",
            layer_norm="layer",
            smoothing=("10", "10", "10", "10", "20"),
            boundary=("neumann",),
            size=(101, 101),
            smoother_bias=True,
            prolongation=(3, 4, 4, 3),
            growing=True,
            padded_transfers=False,
        )


@final
class MgNO(NeuralOperator):
    """Map fields to fields by multigrid V-cycles: u <- act(W u + B u + b), then a linear head.

    W is a `VCycle`, B a matrix per point. (B, in_channels, *space) -> (B, out_channels, *space), with neither
    coordinates nor lifting. The weights fit every grid, but a kernel of 3 points means another map on another
    grid: train and evaluate with the same distance between points.

    Source: He, Liu and Xu (2024), MgNO: Efficient parameterization of linear operators via multigrid.
    Good values: the defaults; Adam at 5e-4 with a one-cycle schedule, batch 8, H1 loss, 500 epochs.

    Raises:
        WrongResolution: for a grid with less than 2^levels points on an axis, or not of a fixed size.

    >>> model = MgNO(MgNOConfig(1, 1, channels=8, smoothing=("10", "10", "20")))
    >>> model(torch.zeros(2, 1, 19, 32)).shape
    torch.Size([2, 1, 19, 32])
    """

    Config: ClassVar[type] = MgNOConfig
    config: MgNOConfig

    def __init__(self, config: MgNOConfig) -> None:
        super().__init__(config)
        widths = [config.in_channels] + [config.channels] * config.layers
        pairs = list(pairwise(widths))
        pointwise = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[config.dim - 1]
        self.cycles = nn.ModuleList(VCycle(i, o, config) for i, o in pairs)
        self.branches = nn.ModuleList(
            pointwise(i, o, 1, bias=config.branch == "affine") for i, o in pairs if config.branch != "none"
        )
        self.norms = nn.ModuleList(make_norm(config.layer_norm, o, config.size) for _, o in pairs)
        if config.head == "cycle":
            self.head: nn.Module = VCycle(config.channels, config.out_channels, config)
        else:
            self.head = pointwise(config.channels, config.out_channels, 1, bias=False)
        self.act: Callable[[Tensor], Tensor] | None = (
            None if config.activation == "none" else activation(config.activation)
        )

    @property
    def dim(self) -> int:
        return self.config.dim

    def check_resolution(self, space: tuple[int, ...]) -> None:
        cycle = self.cycles[0]
        assert isinstance(cycle, VCycle)
        cycle.check_space(space)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        u = x
        for layer, cycle in enumerate(self.cycles):
            w = cycle(u)
            if len(self.branches):
                w = w + self.branches[layer](u)
            w = self.norms[layer](w)
            u = w if self.act is None else self.act(w)
        u = self.head(u)
        return x + u if self.config.add_input else u

    def as_operator(self, space: tuple[int, ...]) -> MgNOOperator:
        """Return the network as a linear operator on vectors of the points of a grid, for linear settings.

        Channels come first in a vector, then the points, last axis fastest. The map is not symmetric: use it
        as a preconditioner of GMRES, not of CG.

        Raises:
            WrongSettings: if the network is not linear.

        >>> linear = MgNOConfig(1, 1, channels=4, activation="none", branch="linear", smoothing=("10", "20"))
        >>> MgNO(linear).as_operator((7, 8)).shape
        (56, 56)
        """
        if not self.config.linear:
            raise WrongSettings(
                'this network is not linear: make it with activation="none", branch="linear" or "none", '
                'smoother_bias=False, cycle_norm="none" and layer_norm="none"'
            )
        self.check_resolution(space)
        return MgNOOperator(self, space)


@final
class MgNOOperator(LinearOperator):
    """A linear MgNO on one grid, x (..., in_channels prod(space)) -> (..., out_channels prod(space))."""

    def __init__(self, model: MgNO, space: tuple[int, ...], *, transposed: bool = False) -> None:
        points, config = prod(space), model.config
        self.inner = (config.in_channels, *space)
        self.outer = (config.out_channels, *space)
        m, n = config.out_channels * points, config.in_channels * points
        weight = next(model.parameters())
        super().__init__((n, m) if transposed else (m, n), weight.dtype, weight.device)
        self.model, self.space, self.transposed = model, space, transposed

    def matvec(self, x: Tensor) -> Tensor:
        """Return the product with x (..., n); the transposed one by automatic differentiation."""
        fields = x.reshape(-1, *(self.outer if self.transposed else self.inner))
        if self.transposed:
            zeros = fields.new_zeros(len(fields), *self.inner)
            (result,) = torch.func.vjp(self.model, zeros)[1](fields)
        else:
            result = self.model(fields)
        return result.reshape(*x.shape[:-1], self.shape[0])

    def transpose(self) -> MgNOOperator:
        """Return the transposed operator."""
        return MgNOOperator(self.model, self.space, transposed=not self.transposed)

    def parameters(self) -> tuple[Tensor, ...]:
        """Return the weights of the network."""
        return tuple(self.model.parameters())
