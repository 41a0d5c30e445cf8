"""A network that writes the transmissibilities of a finite-volume scheme, which is then solved exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ...meshes.grid import Boundary
from .base import NeuralOperator, WrongResolution, WrongSettings
from .layers.boundary_convolution import boundary_sides
from .layers.channels import PointwiseLinear, activation
from .layers.two_point_flux import solve_fluxes

LARGEST_LOG = 12.0  # of a transmissibility, so that matrices stay solvable whatever the weights are
QUICKER = 4.0  # the few numbers for the whole field move so much faster than the weights of the convolutions


@final
@dataclass(frozen=True)
class LearnedFluxesConfig:
    """Settings of learned fluxes.

    Attributes:
        dim: axes of space, 1 to 3.
        width: channels of the convolutions.
        layers: convolutions of 3 points per axis, before the last, pointwise one; 0: no network N, only the
            few numbers of the whole field, such as the contrast.
        boundary: "dirichlet" or "neumann": one word, one per axis, or one per side; not all Neumann.
        shared: one network for the faces of all axes, which sees the fields turned; for problems that do not
            prefer an axis. If not, one per axis.
    """

    in_channels: int
    out_channels: int
    dim: int = 2
    width: int = 16
    layers: int = 3
    activation: str = "gelu"
    boundary: tuple[str, ...] = ("dirichlet",)
    shared: bool = True

    def __post_init__(self) -> None:
        words = (self.boundary,) if isinstance(self.boundary, str) else tuple(self.boundary)
        object.__setattr__(self, "boundary", words)
        if not 1 <= self.dim <= 3:
            raise WrongSettings(f"dim is 1, 2 or 3, got {self.dim}")
        for name, least in (("in_channels", 1), ("out_channels", 1), ("width", 1), ("layers", 0)):
            if getattr(self, name) < least:
                raise WrongSettings(f"{name} is at least {least}, got {getattr(self, name)}")
        activation(self.activation)
        sides = [side for pair in boundary_sides(words, self.dim) for side in pair]
        if Boundary.PERIODIC in sides or Boundary.DIRICHLET not in sides:
            raise WrongSettings(
                "learned fluxes need a box with a dirichlet side and no periodic one, got "
                f"{', '.join(words)}: take another network, FNO for periodic problems"
            )


@final
class LearnedFluxes(NeuralOperator):
    """Predict effective transmissibilities between neighbouring cells, and solve the flux balance with them.

    (B, in_channels, *space) -> (B, out_channels, *space). With log a a linear map of the inputs per point and
    a small convolutional network N,

        T_face = harmonic mean(a) exp(N_1),   T_end = 2 a exp(e + N_2),   sum of T (u_i - u_j) = s (1 + N_3),

    so that the first guess is the two-point flux scheme itself and training corrects it, as in the upscaling
    of transmissibilities. For elliptic problems with coefficients that the grid does not resolve: the long
    range of the solution comes from the solve, which a network would have to learn, and a few thousand
    parameters are enough. The scheme stays monotone: every T is positive.

    The solve is direct, on the CPU (`solve_fluxes`): for grids up to about 256 x 256. A network for one
    spacing, as MgNO. Not for `torch.compile` as one graph, nor for export.

    Source: this library's own; upscaling in Durlofsky (1991), two-point fluxes in Eymard, Gallouet, Herbin
    (2000). Good values: width 16, 3 layers; 3 epochs at 2e-2 after `train_network(False)`, for the numbers of
    the whole field, then 15 epochs at 6e-3 with all, batches of 20.

    Raises:
        WrongResolution: when an axis has one cell only.

    >>> net = LearnedFluxes(LearnedFluxesConfig(1, 1, width=4))
    >>> net(torch.zeros(2, 1, 16, 17)).shape
    torch.Size([2, 1, 16, 17])
    """

    Config: ClassVar[type] = LearnedFluxesConfig
    config: LearnedFluxesConfig

    def __init__(self, config: LearnedFluxesConfig) -> None:
        super().__init__(config)
        self.sides = boundary_sides(config.boundary, config.dim)
        self.log_coefficient = PointwiseLinear(config.in_channels, 1)
        nn.init.zeros_(self.log_coefficient.weight)
        self.corrections = nn.ModuleList(
            _Corrections(config) for _ in range(1 if config.shared else config.dim)
        )
        self.scale = nn.Parameter(torch.zeros(config.out_channels))
        self.offset = nn.Parameter(torch.zeros(config.out_channels))

    @property
    def dim(self) -> int:
        return self.config.dim

    def train_network(self, wanted: bool) -> None:
        """Say whether the convolutions are trained, or only the numbers of the whole field."""
        for part in self.corrections:
            assert isinstance(part, _Corrections)
            part.network.requires_grad_(wanted)

    def check_resolution(self, space: tuple[int, ...]) -> None:
        if min(space) < 2:
            raise WrongResolution(f"learned fluxes need at least 2 cells per axis, got {space}")

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        space, one_each = x.shape[2:], (-1, *(1 for _ in x.shape[2:]))
        log_a = _bounded(QUICKER * self.log_coefficient(x)[:, 0])  # (B, *space)
        a = log_a.exp()
        faces: list[Tensor] = []
        ends, sources = torch.zeros_like(a), torch.zeros_like(a)[:, None]
        for axis in range(self.dim):
            correct = self.corrections[0 if self.config.shared else axis]
            assert isinstance(correct, _Corrections)
            along = a.movedim(axis + 1, 1)
            face, end, source = (t.movedim(2, axis + 2) for t in correct(x.movedim(axis + 2, 2)))
            before, behind = along[:, :-1], along[:, 1:]
            mean = (2 * before * behind / (before + behind)).movedim(1, axis + 1)
            faces.append(mean * face[:, 0].narrow(axis + 1, 0, space[axis] - 1).exp())
            for side, cell in zip(self.sides[axis], (0, space[axis] - 1), strict=True):
                if side is Boundary.DIRICHLET:
                    there = torch.zeros(space[axis], dtype=a.dtype, device=a.device)
                    there[cell] = 1.0
                    shape = [-1 if k == axis else 1 for k in range(self.dim)]
                    log = _bounded(QUICKER * correct.ends[0 if cell == 0 else 1] + end[:, 0])
                    ends = ends + there.view(shape) * 2 * a * log.exp()
            sources = sources + source / self.dim
        size = 8 / max(space) ** 2  # the solution for a = 1 is then about one
        u = solve_fluxes(size * (1 + sources), faces, ends)
        return u * (QUICKER * self.scale).exp().view(one_each) + QUICKER * self.offset.view(one_each)


@final
class _Corrections(nn.Module):
    """From fields whose first axis of space is that of the faces: log T of faces, log T of ends, source."""

    def __init__(self, config: LearnedFluxesConfig) -> None:
        super().__init__()
        self.ends = nn.Parameter(torch.zeros(2))
        self.outputs = 2 + config.out_channels
        self.network = nn.ModuleList()
        self.act = activation(config.activation)
        if config.layers == 0:
            return
        make = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[config.dim - 1]
        channels = config.in_channels + 3 * config.dim
        for _ in range(config.layers):
            self.network.append(make(channels, config.width, 3, padding=1))
            channels = config.width
        last = PointwiseLinear(config.width, self.outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network.append(last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        space = x.shape[2:]
        if len(self.network) == 0:
            v = x.new_zeros(len(x), self.outputs, *space)
        else:
            v = torch.cat((x, _places(space, x).expand(len(x), *([-1] * (x.ndim - 1)))), dim=1)
            *convolutions, last = self.network
            for convolution in convolutions:
                v = self.act(convolution(v))
            v = last(v)
        return _bounded(v[:, :1]), v[:, 1:2], v[:, 2:]


def _bounded(log: Tensor) -> Tensor:
    return LARGEST_LOG * torch.tanh(log / LARGEST_LOG)


def _places(space: tuple[int, ...], like: Tensor) -> Tensor:
    """Return per axis the coordinate, the first cell and the last cell, (3 d, *space)."""
    fields = []
    for axis, n in enumerate(space):
        line = torch.linspace(-1.0, 1.0, n, dtype=like.dtype, device=like.device)
        first, last = (line == -1.0).to(like), (line == 1.0).to(like)
        shape = [n if k == axis else 1 for k in range(len(space))]
        fields += [part.view(shape).expand(space) for part in (line, first, last)]
    return torch.stack(fields)
