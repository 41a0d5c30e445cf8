"""Coordinates of the points of a box as further channels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Coordinates = Literal["none", "closed", "periodic"]


def append_coordinates(x: Tensor, kind: Coordinates) -> Tensor:
    """Return x (B, C, *space) with a further channel per axis, the coordinate of its points from 0 to 1.

    "closed": both ends are points, j / (n - 1); "periodic": the far end is the near one, j / n; "none": no
    channels.

    >>> append_coordinates(torch.zeros(1, 1, 4), "periodic")[0, 1]
    tensor([0.0000, 0.2500, 0.5000, 0.7500])
    """
    if kind == "none":
        return x
    space = x.shape[2:]
    channels = [x]
    for axis, n in enumerate(space):
        j = torch.arange(n, dtype=x.dtype, device=x.device)
        line = j / (n if kind == "periodic" else max(n - 1, 1))
        line = line.reshape(-1, *(1,) * (len(space) - 1 - axis))
        channels.append(line.expand(x.shape[0], 1, *space))
    return torch.cat(channels, dim=1)
