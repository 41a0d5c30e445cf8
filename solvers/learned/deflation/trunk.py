"""Bases from trained operator networks: the trunk of a DeepONet on any grid, the modes of a POD-DeepONet."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import torch
from torch import Tensor, nn

from ....meshes.grid import Boundary, Grid
from ....operators.linear.errors import NotSupported
from ....operators.neural.deeponet import DeepONetOnGrid
from ....operators.neural.layers.trunk import Trunk
from ....operators.neural.pod import PODDeepONetOnGrid
from ...training.surrogate import Surrogate
from ..part import LearnedPart
from .basis import Basis


@final
@dataclass(frozen=True)
class TrunkConfig:
    """Settings of `TrunkBasis`; all but the last are those of the DeepONet.

    Args:
        dim: coordinates of a point.
        hidden: widths of the hidden layers.
        features: functions.
        activation: name of one.
        fourier, periodic: waves fed to the trunk.
        lower, upper: box that is mapped to the unit box.
        vanish: multiply the functions by one that is zero on Dirichlet faces of the grid.
    """

    dim: int
    hidden: tuple[int, ...]
    features: int
    activation: str = "gelu"
    fourier: int = 0
    periodic: bool = False
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    vanish: bool = True


@final
class TrunkBasis(LearnedPart):
    """The functions t_1(y) .. t_k(y) in which a DeepONet writes its output, and the constant.

    They are functions of the point, so `on` evaluates them at the unknowns of any grid in the box: another
    resolution, centring or mask than that of the training: trained on a coarse grid, it serves fine ones.

    Source: Kopanicakova and Karniadakis (2024), arXiv:2401.02016 (trunk functions as a coarse space).

    >>> trunk = TrunkBasis(TrunkConfig(2, (16,), 8))
    >>> trunk.on(Grid((15, 15))).columns.shape[0], trunk.on(Grid((31, 31))).columns.shape[0]
    (225, 961)
    """

    Config = TrunkConfig

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__(config)
        widths = (config.dim, *config.hidden, config.features)
        self.trunk = Trunk(widths, config.activation, fourier=config.fourier, periodic=config.periodic)

    @classmethod
    def from_network(cls, network: Surrogate | nn.Module, *, vanish: bool = True) -> Self:
        """Return the trunk of a trained `DeepONetOnGrid` of one output, a copy.

        Raises:
            NotSupported: for other networks, and several outputs.
        """
        net = network.net if isinstance(network, Surrogate) else network
        if not isinstance(net, DeepONetOnGrid):
            raise NotSupported(
                f"a trunk is what a DeepONetOnGrid has, this is {type(net).__name__}: use "
                "Basis.from_snapshots(predictions), or train a DeepONet"
            )
        settings = net.config
        if settings.out_channels != 1:
            raise NotSupported(
                f"the network has {settings.out_channels} outputs, a scalar operator one: train it on one"
            )
        part = cls(
            TrunkConfig(
                net.dim,
                tuple(settings.trunk),
                settings.features,
                settings.trunk_activation or settings.activation,
                settings.fourier,
                settings.periodic,
                tuple(settings.lower),
                tuple(settings.upper),
                vanish,
            )
        )
        part.trunk.load_state_dict(net.net.trunk.state_dict())
        return part

    @torch.no_grad()
    def on(self, grid: Grid, *, columns: int | None = None) -> Basis:
        """Return the functions at the unknowns of a grid, orthonormal, in float64.

        Args:
            grid: in the box of the training; points outside of its mask get zeros.
            columns: keep at most so many, those that hold the most (singular vectors).

        Raises:
            NotSupported: another number of axes.
            NonFinite: the network gives NaN or infinity.
        """
        settings = self.config
        if grid.dim != settings.dim:
            raise NotSupported(
                f"the trunk takes points with {settings.dim} coordinates, the grid has {grid.dim} axes"
            )
        lower = torch.tensor(settings.lower or (0.0,) * grid.dim, dtype=torch.float64)
        upper = torch.tensor(settings.upper or (1.0,) * grid.dim, dtype=torch.float64)
        points = (torch.as_tensor(grid.points()) - lower) / (upper - lower)
        wide = copy.deepcopy(self.trunk).to("cpu", torch.float64)  # float32 would add columns of noise
        values = torch.cat([wide(points), torch.ones(len(points), 1, dtype=torch.float64)], 1)
        if settings.vanish:
            values = values * envelope(grid)[:, None]
        zero = None if grid.mask is None else torch.as_tensor(~grid.mask).flatten()
        source = f"a trunk on {' x '.join(map(str, grid.shape))} points"
        full = Basis.of(values, zero=zero, source=source)
        if columns is None or columns >= full.size:
            return full
        held = torch.linalg.svd(full.columns.mT @ values)[0][:, :columns]  # of the values, in the basis
        return Basis.of(full.columns @ held, source=source)


def envelope(grid: Grid) -> Tensor:
    """Return a function of the points that is zero on the Dirichlet faces and 1 at most, float64 (size,).

    >>> envelope(Grid((3,))).tolist()
    [0.75, 1.0, 0.75]
    """
    total = torch.ones(1, dtype=torch.float64)
    for x, a, b, pair in zip(grid.axes(), grid.lower, grid.upper, grid.boundary, strict=True):
        t = (torch.as_tensor(x) - a) / (b - a)
        low, high = (side is Boundary.DIRICHLET for side in pair)
        line = torch.ones_like(t)
        if low and high:
            line = 4 * t * (1 - t)
        elif low or high:
            line = t if low else 1 - t
        total = (total[:, None] * line).flatten()
    return total


def network_basis(model: Surrogate | nn.Module | str | Path) -> Basis | TrunkBasis:
    """Return what a trained network writes its output in, as a basis for deflation.

    A DeepONet gives its trunk, for any grid (`TrunkBasis`); a POD-DeepONet its modes and their mean, on the
    points of its training (`Basis`).

    Args:
        model: a surrogate, its network, or the folder that a surrogate was saved in.

    Raises:
        NotSupported: another network, or several outputs. What `Surrogate.load` raises.

    >>> from solvus.operators.neural.deeponet import DeepONetConfig
    >>> type(network_basis(DeepONetOnGrid(DeepONetConfig(1, 1, (8, 8), features=4)))).__name__
    'TrunkBasis'
    """
    model = Surrogate.load(model) if isinstance(model, str | Path) else model
    net = model.net if isinstance(model, Surrogate) else model
    if not isinstance(net, PODDeepONetOnGrid):
        return TrunkBasis.from_network(net)
    if net.config.out_channels != 1:
        raise NotSupported(
            f"the network has {net.config.out_channels} outputs, a scalar operator one: train it on one"
        )
    modes = net.net.basis
    fields = torch.cat([modes.vectors[0].mT, modes.mean, torch.zeros_like(modes.mean)]).detach()  # (q+2, n)
    fields = fields.unflatten(1, (1, *net.config.size))
    if isinstance(model, Surrogate):  # what decodes is affine: the image of zero, and differences to it
        fields = model.decode.decode(fields)
    *linear, mean, shift = fields.flatten(1).double()
    return Basis.of(torch.stack([v - shift for v in linear] + [mean], 1), source="a POD-DeepONet")
