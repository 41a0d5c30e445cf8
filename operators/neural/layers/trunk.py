"""Trunk networks: functions of a point, the basis in which a DeepONet writes its output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from ..base import WrongSettings
from .multilayer import Multilayer


@final
class Trunk(nn.Module):
    """Map points (..., d) to values (..., outputs) of learned functions.

    The input of the dense layers is [x, cos 2 pi k x, sin 2 pi k x for k = 1 .. fourier] per axis; with
    `periodic` x itself is left out, and every function has period one along every axis.

    Args:
        widths: of the points (d), the hidden layers, and the output.
        activation: a name of `ACTIVATIONS`; it follows the last layer too, unless `last` is False.
        fourier: how many wavenumbers; Lu et al. (2022) take 2 for periodic Burgers.
        periodic: leave out x.

    >>> trunk = Trunk((1, 32, 8), "tanh", fourier=2, periodic=True)
    >>> y = trunk(torch.tensor([[0.25], [1.25]]))
    >>> y.shape, torch.allclose(y[0], y[1], atol=1e-5)
    (torch.Size([2, 8]), True)
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "gelu",
        *,
        fourier: int = 0,
        periodic: bool = False,
        last: bool = True,
    ) -> None:
        super().__init__()
        if fourier < 0 or (periodic and not fourier):
            raise WrongSettings(
                f"fourier={fourier}, periodic={periodic}: give 0 or more wavenumbers, and 1 or more for a "
                "periodic trunk, which sees nothing but these waves"
            )
        self.outputs, self.fourier, self.periodic = widths[-1], fourier, periodic
        entries = widths[0] * (2 * fourier + (not periodic))
        self.dense = Multilayer((entries, *widths[1:]), activation, last=last)

    def features(
        self,
        points: Tensor,  # (..., d)
    ) -> Tensor:
        """Return what the dense layers take, (..., d (1 + 2 fourier)) or (..., 2 d fourier)."""
        waves = [2 * math.pi * k * points for k in range(1, self.fourier + 1)]
        parts = [] if self.periodic else [points]
        parts += [wave(angle) for angle in waves for wave in (torch.cos, torch.sin)]
        return torch.cat(parts, -1)

    def forward(self, points: Tensor) -> Tensor:
        """Map points (..., d) to (..., outputs)."""
        return self.dense(self.features(points))
