"""DeepONet: branch networks of the input's values at sensors times trunk networks of the output's points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from ..linear.errors import ShapeMismatch
from .base import WrongSettings
from .layers.branch import BranchSettings, FieldBranch
from .layers.multilayer import SideBySide, output_width
from .on_grid import QueriedOnGrid, TrunkSettings

STRATEGIES = ("independent", "split_both", "split_branch", "split_trunk")


def basis_size(branch: int, trunk: int, outputs: int) -> int:
    """Return p, how many products make up one output, from the widths of branch and trunk.

    One of three must hold: branch = trunk = C p, branch = C p and trunk = p, or branch = p and trunk = C p.

    >>> basis_size(64, 32, outputs=2)
    32
    """
    if outputs >= 1:
        if branch == trunk and branch % outputs == 0:
            return branch // outputs
        if branch == outputs * trunk or trunk == outputs * branch:
            return min(branch, trunk)
    raise WrongSettings(
        f"branch width {branch} and trunk width {trunk} do not make {outputs} outputs: let both be "
        f"{outputs} p, or one of them {outputs} p and the other p"
    )


def contract(
    b: Tensor,  # (B, p) or (B, C p)
    t: Tensor,  # (N, p) or (N, C p), with B in front for points per sample
    outputs: int,
) -> Tensor:
    """Return sum_p b_cp t_cp for every sample, output and point: (B, C, N).

    >>> contract(torch.ones(2, 6), torch.ones(5, 3), outputs=2).shape
    torch.Size([2, 2, 5])
    """
    p = basis_size(b.shape[-1], t.shape[-1], outputs)
    if t.ndim == 3 and t.shape[0] != b.shape[0]:
        raise ShapeMismatch(f"points are given for {t.shape[0]} samples, sensors for {b.shape[0]}")
    left, right = "b", "bn" if t.ndim == 3 else "n"
    if b.shape[-1] > p:
        b, left = b.unflatten(-1, (outputs, p)), "bc"
    if t.shape[-1] > p:
        t, right = t.unflatten(-1, (outputs, p)), right + "c"
    product = torch.einsum(f"{left}p,{right}p->{'bcn' if outputs > 1 else 'bn'}", b, t)
    return product if outputs > 1 else product.unsqueeze(1)


class PointOperator(nn.Module, ABC):
    """A network from values at sensors to values at any points: the trunk sees each point once per batch.

    Attributes:
        outputs: fields of the output.
    """

    outputs: int

    @abstractmethod
    def by_channel(self, sensors: Any, points: Tensor) -> Tensor:
        """Return the outputs channels first, (B, outputs, N)."""

    @final
    def forward(
        self,
        sensors: Any,  # (B, m), or what the branch takes
        points: Tensor,  # (N, d) for all samples, or (B, N, d)
    ) -> Tensor:
        """Return the outputs of all samples at all points: (B, N), or (B, N, outputs) for several."""
        values = self.by_channel(sensors, points)
        return values.movedim(1, -1) if self.outputs > 1 else values.squeeze(1)

    @final
    def aligned(
        self,
        sensors: Any,  # (B, m), or what the branch takes
        points: Tensor,  # (B, d)
    ) -> Tensor:
        """Return the output of each sample at its own point: (B,), or (B, outputs) for several."""
        return self(sensors, points.unsqueeze(1))[:, 0]


@final
class DeepONet(PointOperator):
    """Map an input function u, known at m sensors, to an output function at any points y.

    G_c(u)(y) = sum_p b_cp(u(x_1) .. u(x_m)) t_cp(y) + bias_c, the sum over p functions per output c. The
    widths of the networks say how several outputs C share them: both C p (split both, or independent
    networks side by side), branch C p and trunk p (split branch), branch p and trunk C p (split trunk).

    Source: Lu et al. (2021), Nature Machine Intelligence 3; several outputs: Lu et al. (2022), CMAME 393.

    Args:
        branch: (B, m) -> (B, width), with an attribute `outputs`, its width.
        trunk: (N, d) -> (N, width), likewise.
        outputs: C.

    >>> from solvus.operators.neural.layers.multilayer import Multilayer
    >>> from solvus.operators.neural.layers.trunk import Trunk
    >>> net = DeepONet(Multilayer((50, 64, 32)), Trunk((1, 64, 32)))
    >>> u = torch.ones(4, 50)
    >>> net(u, torch.rand(100, 1)).shape, net.aligned(u, torch.rand(4, 1)).shape
    (torch.Size([4, 100]), torch.Size([4]))
    """

    def __init__(self, branch: nn.Module, trunk: nn.Module, outputs: int = 1) -> None:
        super().__init__()
        basis_size(output_width(branch), output_width(trunk), outputs)
        self.branch, self.trunk, self.outputs = branch, trunk, outputs
        self.bias = nn.Parameter(torch.zeros(outputs))

    def by_channel(self, sensors: Any, points: Tensor) -> Tensor:
        """Return the outputs channels first, (B, outputs, N)."""
        return contract(self.branch(sensors), self.trunk(points), self.outputs) + self.bias[:, None]


def side_by_side(networks: Sequence[nn.Module]) -> nn.Module:
    """Return networks as one; a single one as it is."""
    return networks[0] if len(networks) == 1 else SideBySide(networks)


@final
@dataclass(frozen=True)
class DeepONetConfig(TrunkSettings, BranchSettings):
    """Settings of `DeepONetOnGrid`.

    Args:
        strategy: how several outputs share the networks, "independent", "split_both", "split_branch" (the
            trunk is shared, the cheapest to query) or "split_trunk".
    """

    strategy: str = "split_branch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in STRATEGIES:
            raise WrongSettings(f"strategy is one of {', '.join(STRATEGIES)}, got {self.strategy!r}")


@final
class DeepONetOnGrid(QueriedOnGrid):
    """Map fields to fields by a DeepONet whose sensors are the points of a grid.

    >>> net = DeepONetOnGrid(DeepONetConfig(2, 1, (16, 16), trunk=(32,), features=8))
    >>> x = torch.ones(3, 2, 16, 16)
    >>> net(x).shape, net.at(x, torch.rand(50, 2)).shape
    (torch.Size([3, 1, 16, 16]), torch.Size([3, 1, 50]))
    """

    Config = DeepONetConfig

    def __init__(self, config: DeepONetConfig) -> None:
        super().__init__(config)
        C, p = config.out_channels, config.features
        alone = config.strategy == "independent"
        copies = C if alone else 1
        branch_width = p if alone or config.strategy == "split_trunk" else C * p
        trunk_width = p if alone or config.strategy == "split_branch" else C * p
        branches = [FieldBranch(config, config.in_channels, branch_width) for _ in range(copies)]
        trunks = [config.make_trunk(self.dim, trunk_width, config.activation) for _ in range(copies)]
        self.net = DeepONet(side_by_side(branches), side_by_side(trunks), C)
        self.place(config)

    def evaluate(self, x: Tensor, points: Tensor) -> Tensor:
        """Return (B, out_channels, N) at points (N, d) of the unit box."""
        return self.net.by_channel(x, points)
