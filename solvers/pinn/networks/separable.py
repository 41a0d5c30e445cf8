"""Separable networks: one small network per coordinate, multiplied and summed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ..errors import WrongShape
from ..jets import Affine, Jet, Key, Plan, coordinates
from ..jets.jet import written_out
from .base import Architecture, Box, Network, WrongSettings
from .mlp import MLP, check_sizes

PRODUCT = "pro,pro->po"  # at the same points
GRID = "pro,nro->pno"  # at every point of a grid


@final
@dataclass(frozen=True)
class Separable(Architecture):
    """u(x) = sum_r f_1r(x_1) f_2r(x_2) ... f_Dr(x_D), each f_d a perceptron of one coordinate.

    On a grid of n points per axis (`on_axes`) D n evaluations of networks give n^D values. Trainings take
    scattered points, where there is nothing to gain in time over `MLP`.

    Args:
        rank: terms of the sum; 16 to 64.
        width: neurons of a hidden layer.
        depth: hidden layers.
        activation: tanh, sin, cos, silu, softplus, gaussian, or relu for first derivatives alone.
        normalise: map the box to [-1, 1] first.

    Source: Cho et al. (2023), "Separable Physics-Informed Neural Networks".

    >>> box = torch.zeros(2), torch.ones(2)
    >>> network = Separable(rank=3, width=8).build(2, 1, box, torch.Generator().manual_seed(0))
    >>> network(torch.rand(5, 2, dtype=torch.float64)).shape
    torch.Size([5, 1])
    """

    rank: int = 32
    width: int = 64
    depth: int = 3
    activation: str = "tanh"
    normalise: bool = True

    def __post_init__(self) -> None:
        check_sizes(self.width, self.depth, self.activation)
        if self.rank < 1:
            raise WrongSettings(f"the rank is at least 1, got {self.rank}")

    def make(self, inputs: int, outputs: int, box: Box, generator: torch.Generator) -> Network:
        axis = MLP(self.width, self.depth, self.activation, normalise=self.normalise)
        lower, upper = box
        networks = [
            axis.make(1, self.rank * outputs, (lower[d : d + 1], upper[d : d + 1]), generator)
            for d in range(inputs)
        ]
        return Factors((inputs, outputs), networks)


@final
class Factors(Network):
    """The network of `Separable`."""

    def __init__(self, sizes: tuple[int, int], networks: Sequence[Network]) -> None:
        super().__init__(*sizes)
        self.networks = nn.ModuleList(networks)

    def propagate(self, x: Affine) -> Jet | Affine:
        return self._summed([x.value[:, d] for d in range(self.inputs)], x.plan, PRODUCT)

    def on_axes(self, axes: Sequence[Tensor], plan: Plan | None = None) -> Jet:
        """Return the outputs on a tensor grid, with the derivatives of a plan.

        Args:
            axes: coordinates (n_d,) along each axis.
            plan: as of `forward`.

        Returns:
            Rows (K, n_1 n_2 ... n_D, outputs); the last axis runs fastest.

        Raises:
            WrongShape: not one axis per coordinate.
        """
        if len(axes) != self.inputs or any(a.ndim != 1 for a in axes):
            raise WrongShape(
                f"on_axes takes {self.inputs} axes (n,), got {[tuple(a.shape) for a in axes]}: give the "
                "coordinates along every axis, not the points"
            )
        return self._summed(list(axes), plan or Plan(), GRID)

    def _summed(self, axes: Sequence[Tensor], plan: Plan, rule: str) -> Jet:
        factors = [self._factor(d, x, plan) for d, x in enumerate(axes)]

        def row(key: Key) -> Tensor:
            times = Counter(key)
            parts = [factor[times[d]] for d, factor in enumerate(factors)]  # (n_d, rank, outputs)
            total = parts[0]
            for part in parts[1:-1]:
                if rule == GRID:
                    total = (total.unsqueeze(1) * part).flatten(0, 1)
                else:
                    total = total * part
            if len(parts) == 1:
                return total.sum(1)
            found = torch.einsum(rule, total, parts[-1])
            return found.flatten(0, 1) if rule == GRID else found

        rows = [row(key) for key in plan.rows]
        if plan.laplacian:
            rows.append(torch.stack([row((i, i)) for i in plan.laplacian]).sum(0))
        return Jet(plan, torch.stack(rows))

    def _factor(self, d: int, x: Tensor, plan: Plan) -> Tensor:
        """Return f_d and its derivatives, (order + 1, n, rank, outputs)."""
        order = max((key.count(d) for key in plan.rows), default=0)
        order = max(order, 2 * (d in plan.laplacian))
        network = self.networks[d]
        assert isinstance(network, Network)
        jet = written_out(network.propagate(coordinates(x.unsqueeze(1), Plan([(0,) * order]))))
        return jet.rows.unflatten(-1, (-1, self.outputs))
