"""MIONet: one branch per input function, merged before they meet the trunk; POD-MIONet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import final

import torch
from torch import Tensor, nn

from .base import WrongSettings
from .deeponet import PointOperator, basis_size, contract
from .layers.branch import BranchSettings, FieldBranch
from .layers.multilayer import output_width
from .on_grid import QueriedOnGrid, TrunkSettings
from .pod import PODBasis, PODDeepONet, PODOnGrid

MERGES = ("mul", "add", "cat")


@final
class MergedBranches(nn.Module):
    """Merge what several branches make of their own inputs: product, sum, or side by side.

    Args:
        branches: any number; of equal width for "mul" and "add".
        merge: "mul" (the tensor product of MIONet), "add" or "cat".
        merger: a network after the merge, with an attribute `outputs`.

    >>> from solvus.operators.neural.layers.multilayer import Multilayer
    >>> merged = MergedBranches([Multilayer((3, 8)), Multilayer((5, 8))], "cat")
    >>> merged([torch.ones(2, 3), torch.ones(2, 5)]).shape
    torch.Size([2, 16])
    """

    def __init__(
        self, branches: Sequence[nn.Module], merge: str = "mul", merger: nn.Module | None = None
    ) -> None:
        super().__init__()
        widths = [output_width(b) for b in branches]
        if merge not in MERGES or not widths:
            raise WrongSettings(f"merge {len(widths)} branches by one of {', '.join(MERGES)}, got {merge!r}")
        if merge != "cat" and len(set(widths)) > 1:
            raise WrongSettings(f"branches of widths {widths} cannot be merged by {merge!r}: make them equal")
        self.branches, self.merge, self.merger = nn.ModuleList(branches), merge, merger
        merged = sum(widths) if merge == "cat" else widths[0]
        self.outputs = merged if merger is None else output_width(merger)

    def forward(
        self,
        inputs: Sequence[Tensor],  # one per branch, (B, m_i)
    ) -> Tensor:
        """Return the merged features (B, outputs).

        Raises:
            WrongSettings: for another number of inputs than of branches.
        """
        if len(inputs) != len(self.branches):
            raise WrongSettings(f"{len(self.branches)} branches take as many inputs, got {len(inputs)}")
        values = [branch(u) for branch, u in zip(self.branches, inputs, strict=True)]
        if self.merge == "cat":
            merged = torch.cat(values, -1)
        else:
            merged = reduce(torch.mul if self.merge == "mul" else torch.add, values)
        return merged if self.merger is None else self.merger(merged)


@final
class MIONet(PointOperator):
    """Map several input functions v_i to an output function at any points y.

    G(v_1 .. v_n)(y) = sum_p (prod_i b^i_p(v_i)) t_p(y) + bias; with one branch this is DeepONet. An output
    merger f takes the place of the sum: G = f(b_1 t_1(y) .. b_p t_p(y)) + bias.

    Source: Jin, Meng, Lu (2022), SIAM J. Sci. Comput. 44(6), A3490; other merges as in DeepXDE.

    Args:
        branch: the merged branches; its input is a sequence of tensors (B, m_i).
        trunk: (N, d) -> (N, width), with an attribute `outputs`.
        outputs: C, shared out as in `DeepONet`.
        output_merger: (..., p) -> (..., C) in place of the sum; branch and trunk are then equally wide.

    >>> from solvus.operators.neural.layers.multilayer import Multilayer
    >>> from solvus.operators.neural.layers.trunk import Trunk
    >>> branch = MergedBranches([Multilayer((m, 32, 16)) for m in (50, 20, 3)])
    >>> net = MIONet(branch, Trunk((2, 32, 16)))
    >>> net([torch.ones(4, 50), torch.ones(4, 20), torch.ones(4, 3)], torch.rand(7, 2)).shape
    torch.Size([4, 7])
    """

    def __init__(
        self,
        branch: MergedBranches,
        trunk: nn.Module,
        outputs: int = 1,
        *,
        output_merger: nn.Module | None = None,
    ) -> None:
        super().__init__()
        widths = branch.outputs, output_width(trunk)
        if output_merger is None:
            basis_size(*widths, outputs)
        elif widths[0] != widths[1] or output_width(output_merger) != outputs:
            raise WrongSettings(
                f"an output merger takes equal widths of branch and trunk, got {widths[0]} and {widths[1]}, "
                f"and gives {outputs} numbers, got {output_width(output_merger)}"
            )
        self.branch, self.trunk, self.outputs = branch, trunk, outputs
        self.output_merger = output_merger
        self.bias = nn.Parameter(torch.zeros(outputs))

    def by_channel(
        self,
        sensors: Sequence[Tensor],  # one per branch, (B, m_i)
        points: Tensor,  # (N, d) or (B, N, d)
    ) -> Tensor:
        """Return the outputs channels first, (B, outputs, N)."""
        b, t = self.branch(sensors), self.trunk(points)
        if self.output_merger is None:
            return contract(b, t, self.outputs) + self.bias[:, None]
        return self.output_merger(b.unsqueeze(1) * t).movedim(-1, 1) + self.bias[:, None]


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """Settings of merged branches on a grid.

    Args:
        groups: input channels per branch, in order; none: one branch per channel.
        merge: "mul", "add" or "cat".
    """

    groups: tuple[int, ...] = ()
    merge: str = "mul"

    def shares(self, channels: int) -> list[int]:
        """Return how many input channels each branch takes."""
        groups = list(self.groups) or [1] * channels
        if sum(groups) != channels or min(groups) < 1:
            raise WrongSettings(f"groups {groups} do not share out {channels} input channels")
        return groups

    def make_branches(self, settings: BranchSettings, outputs: int) -> MergedBranches:
        """Return one field branch per group; together they give `outputs` numbers."""
        groups = self.shares(settings.in_channels)
        parts = len(groups) if self.merge == "cat" else 1
        if outputs % parts:
            raise WrongSettings(f"{outputs} features cannot be shared out to {parts} joined branches")
        return MergedBranches([FieldBranch(settings, g, outputs // parts) for g in groups], self.merge)


@final
@dataclass(frozen=True)
class MIONetConfig(MergeSettings, TrunkSettings, BranchSettings):
    """Settings of `MIONetOnGrid`; several outputs share the trunk."""


@final
class MIONetOnGrid(QueriedOnGrid):
    """Map fields to fields by a MIONet: a branch for each channel, or group of channels.

    >>> net = MIONetOnGrid(MIONetConfig(3, 1, (16,), groups=(2, 1), features=8))
    >>> net(torch.ones(4, 3, 16)).shape
    torch.Size([4, 1, 16])
    """

    Config = MIONetConfig

    def __init__(self, config: MIONetConfig) -> None:
        super().__init__(config)
        branch = config.make_branches(config, config.out_channels * config.features)
        trunk = config.make_trunk(self.dim, config.features, config.activation)
        self.net = MIONet(branch, trunk, config.out_channels)
        self.groups = config.shares(config.in_channels)
        self.place(config)

    def evaluate(self, x: Tensor, points: Tensor) -> Tensor:
        """Return (B, out_channels, N) at points (N, d) of the unit box."""
        return self.net.by_channel(x.split(self.groups, 1), points)


@final
@dataclass(frozen=True)
class PODMIONetConfig(MergeSettings, BranchSettings):
    """Settings of `PODMIONetOnGrid`.

    Args:
        modes: of the POD basis, per output.
    """

    modes: int = 32


@final
class PODMIONetOnGrid(PODOnGrid):
    """Map fields to fields by a POD-MIONet on one grid; `fit_basis` comes before training.

    >>> net = PODMIONetOnGrid(PODMIONetConfig(2, 1, (16,), modes=4))
    >>> net.fit_basis(torch.randn(20, 1, 16))
    >>> net(torch.ones(3, 2, 16)).shape
    torch.Size([3, 1, 16])
    """

    Config = PODMIONetConfig

    def __init__(self, config: PODMIONetConfig) -> None:
        super().__init__(config)
        branch = config.make_branches(config, config.out_channels * config.modes)
        self.groups = config.shares(config.in_channels)
        self.net = PODDeepONet(branch, PODBasis(config.modes, prod(config.size), config.out_channels))

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what the branches take."""
        return x.split(self.groups, 1)
