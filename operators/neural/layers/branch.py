"""Branch networks: what a DeepONet makes of an input field that is known at sensors on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import final

from torch import Tensor, nn

from ..base import WrongSettings
from .multilayer import Multilayer, activation_named


@dataclass(frozen=True)
class BranchSettings:
    """Settings of a field branch.

    Args:
        in_channels: fields of the input.
        out_channels: fields of the output.
        size: points of the sensor grid along each axis.
        branch: widths of the hidden dense layers.
        filters: channels of the convolutions in front of them; none: the dense layers see the sensors.
        kernel, stride: of the convolutions, which do not pad.
        activation: "tanh", "gelu", "relu", "silu" or "silu_sin".
    """

    in_channels: int
    out_channels: int
    size: tuple[int, ...]
    branch: tuple[int, ...] = (128, 128)
    filters: tuple[int, ...] = ()
    kernel: int = 5
    stride: int = 2
    activation: str = "gelu"

    def __post_init__(self) -> None:
        if not 1 <= len(self.size) <= 3 or min(self.size) < 1:
            raise WrongSettings(f"size holds the points along 1 to 3 axes, got {self.size}")
        if min(self.in_channels, self.out_channels, self.kernel, self.stride) < 1:
            raise WrongSettings(
                f"channels, kernel and stride are 1 or more, got in_channels={self.in_channels}, "
                f"out_channels={self.out_channels}, kernel={self.kernel}, stride={self.stride}"
            )


@final
class FieldBranch(nn.Module):
    """Map fields (B, channels, *size) to features (B, outputs): convolutions, if any, then dense layers.

    The activation follows every layer but the last. Lu et al. (2022) take filters (64, 128), kernel 5, stride
    2, one dense layer of 128 and relu for Darcy flow on 29 x 29 points.

    >>> import torch
    >>> settings = BranchSettings(1, 1, (29, 29), branch=(128,), filters=(64, 128), activation="relu")
    >>> FieldBranch(settings, channels=1, outputs=115)(torch.ones(2, 1, 29, 29)).shape
    torch.Size([2, 115])

    Raises:
        WrongSettings: for a grid that is too small for the convolutions.
    """

    def __init__(self, settings: BranchSettings, channels: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.activation = activation_named(settings.activation)
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(settings.size) - 1]
        widths, size = (channels, *settings.filters), settings.size
        self.convolutions = nn.ModuleList()
        for a, b in pairwise(widths):
            self.convolutions.append(convolution(a, b, settings.kernel, settings.stride))
            size = tuple((n - settings.kernel) // settings.stride + 1 for n in size)
            if min(size) < 1:
                raise WrongSettings(
                    f"{len(settings.filters)} convolutions with kernel {settings.kernel} and stride "
                    f"{settings.stride} leave nothing of {settings.size} points: take fewer or smaller ones"
                )
        self.dense = Multilayer((widths[-1] * prod(size), *settings.branch, outputs), settings.activation)

    def forward(
        self,
        x: Tensor,  # (B, channels, *size)
    ) -> Tensor:
        """Return the features (B, outputs)."""
        for layer in self.convolutions:
            x = self.activation(layer(x))
        return self.dense(x.flatten(1))
