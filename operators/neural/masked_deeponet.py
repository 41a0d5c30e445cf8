"""DeepONet across geometries and equations: the mask of the domain and coefficients enter the branch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import final

import torch
from torch import Tensor, nn

from ..linear.errors import ShapeMismatch
from .base import WrongSettings
from .deeponet import DeepONet
from .layers.branch import BranchSettings, FieldBranch
from .layers.multilayer import Multilayer
from .on_grid import QueriedOnGrid, TrunkSettings

FILLS = {"nan": float("nan"), "zero": 0.0}


def fill_named(name: str) -> float:
    """Return the value outside the domain, by its name.

    >>> fill_named("zero")
    0.0
    """
    if name not in FILLS:
        raise WrongSettings(f"outside is one of {', '.join(FILLS)}, got {name!r}")
    return FILLS[name]


def masked_square(
    prediction: Tensor,  # (B, ...)
    target: Tensor,  # (B, ...)
    mask: Tensor,  # (B, ...), positive inside; axes of size 1 are stretched
) -> Tensor:
    """Return the mean square of the difference over the domain, per sample (B,).

    L = sum m (p - y)^2 / sum m. What lies outside is never multiplied, so NaN there changes
    neither the loss nor a gradient. A sample with an empty domain gives 0.

    >>> masked_square(torch.tensor([[1.0, float("nan")]]), torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    tensor([1.])
    """
    inside = (mask > 0).expand(prediction.shape)
    difference = torch.where(inside, prediction - target, 0.0).flatten(1)
    return difference.square().sum(1) / inside.flatten(1).sum(1).clamp(min=1)


@final
class MaskedDeepONet(nn.Module):
    """Map an input function, a domain and coefficients of the equation to an output function on the domain.

    The branch takes [sensors, mask, coefficients] as one vector. Outside the domain the output means
    nothing: it is NaN, or zero, and has no gradient. Train with `masked_square`.

    Source: arXiv 2408.02198 (2024).

    Args:
        net: its branch takes (B, m + k + c).
        outside: "nan" or "zero".

    >>> from solvus.operators.neural.layers.trunk import Trunk
    >>> net = MaskedDeepONet(DeepONet(Multilayer((9 + 9 + 2, 16, 8)), Trunk((1, 16, 8))), outside="zero")
    >>> mask = (torch.arange(9) < 6).float().repeat(4, 1)
    >>> y = net(torch.ones(4, 9), mask, torch.linspace(0, 1, 9)[:, None], torch.ones(4, 2))
    >>> y.shape, y[:, 6:].abs().max().item()
    (torch.Size([4, 9]), 0.0)
    """

    def __init__(self, net: DeepONet, *, outside: str = "nan") -> None:
        super().__init__()
        self.net, self.fill = net, fill_named(outside)

    def forward(
        self,
        sensors: Tensor,  # (B, m)
        mask: Tensor,  # (B, k), positive inside
        points: Tensor,  # (N, d) or (B, N, d)
        coefficients: Tensor | None = None,  # (B, c)
        *,
        inside: Tensor | None = None,  # (B, N), positive inside
    ) -> Tensor:
        """Return the outputs (B, N), or (B, N, C) for several.

        Args:
            inside: the mask at the points; None: `mask` is given at these very points.

        Raises:
            ShapeMismatch: for points whose number is not that of the mask, without `inside`.
        """
        numbers = [sensors, mask.to(sensors)] + ([] if coefficients is None else [coefficients])
        inside = mask if inside is None else inside
        if inside.shape[-1] != points.shape[-2]:
            raise ShapeMismatch(
                f"the mask covers {inside.shape[-1]} points, the output is asked for at {points.shape[-2]}: "
                "give inside=(B, N), the mask at these points"
            )
        values = self.net(torch.cat(numbers, 1), points)
        outside = inside <= 0
        return values.masked_fill(outside if values.ndim == 2 else outside.unsqueeze(-1), self.fill)


@final
@dataclass(frozen=True)
class MaskedDeepONetConfig(TrunkSettings, BranchSettings):
    """Settings of `MaskedDeepONetOnGrid`.

    Args:
        coefficients: how many channels in front of the mask hold one number each, constant over the grid.
        outside: "nan" or "zero".
    """

    coefficients: int = 0
    outside: str = "nan"

    def __post_init__(self) -> None:
        super().__post_init__()
        fill_named(self.outside)
        if not 0 <= self.coefficients <= self.in_channels - 1:
            raise WrongSettings(
                f"the last of {self.in_channels} input channels is the mask, so that 0 to "
                f"{self.in_channels - 1} can be coefficients, got {self.coefficients}"
            )


@final
class MaskedDeepONetOnGrid(QueriedOnGrid):
    """Map fields to fields on varying domains: the last input channel is the mask, positive inside.

    The channels before it may be coefficients of the equation, constant over the grid: the dense branch takes
    each of them as one number. A mask of 0 and 1 that a normaliser has shifted by its mean is still positive
    inside. At other points (`at`) nothing is masked, since the domain is known on the grid only.

    >>> net = MaskedDeepONetOnGrid(MaskedDeepONetConfig(3, 1, (8, 8), coefficients=1, features=8))
    >>> x = torch.ones(2, 3, 8, 8)
    >>> x[:, -1, :, 4:] = 0
    >>> net(x).isnan().sum().item()
    64
    """

    Config = MaskedDeepONetConfig

    def __init__(self, config: MaskedDeepONetConfig) -> None:
        super().__init__(config)
        width = config.out_channels * config.features
        if config.filters:
            branch: nn.Module = FieldBranch(config, config.in_channels, width)
        else:
            fields = config.in_channels - config.coefficients
            numbers = fields * prod(config.size) + config.coefficients
            branch = Multilayer((numbers, *config.branch, width), config.activation)
        trunk = config.make_trunk(self.dim, config.features, config.activation)
        self.net = DeepONet(branch, trunk, config.out_channels)
        self.place(config)

    def evaluate(self, x: Tensor, points: Tensor) -> Tensor:
        """Return (B, out_channels, N) at points (N, d) of the unit box, inside the domain or not."""
        return self.net.by_channel(x if self.config.filters else self.numbers(x), points)

    def finish(self, x: Tensor, values: Tensor) -> Tensor:
        """Hide what lies outside the domain."""
        return values.masked_fill(x[:, -1:] <= 0, FILLS[self.config.outside])

    def numbers(self, x: Tensor) -> Tensor:
        """Return fields and mask at all points, then one number per coefficient."""
        first = x.shape[1] - 1 - self.config.coefficients
        coefficients = x[:, first:-1].flatten(2)[..., 0]
        return torch.cat([x[:, :first].flatten(1), x[:, -1].flatten(1), coefficients], 1)
