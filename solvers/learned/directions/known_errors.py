"""Residuals whose errors are known: what a symmetric preconditioner is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from ....meshes.grid import Grid
from .box_modes import BoxModes, Residuals
from .losses import graph_laplacian


@final
class KnownErrors(Dataset[tuple[tuple[Tensor, Tensor], Tensor]]):
    """Serve residuals r = A x of random errors x as ((r, image), target), for `EnergyLeft`.

    x is a sum of the modes of the box, cut to the fluid, with coefficients of standard deviation
    lambda^(-5/4): in three dimensions every octave of the spectrum then has the same energy x.A x. That is
    what an iteration to a small tolerance meets, whereas `Residuals` hardly hold the upper end. A is
    `graph_laplacian`; r has unit norm, and x the scale that belongs to it. Drawn when asked for, as in
    `Residuals`.

    Args:
        grids: boxes in three dimensions, all of one shape and with the same faces.
        samples: how many.
        seed: of the draws; another one for validation.

    Raises:
        ValueError, ShapeMismatch, NotSupported: see `Residuals`.

    >>> (r, image), target = KnownErrors([Grid((8, 8, 8), centring="cell", boundary="neumann")], 100)[7]
    >>> r.shape, image.shape, target.shape
    (torch.Size([1, 8, 8, 8]), torch.Size([3, 10, 10, 10]), torch.Size([4, 10, 10, 10]))
    """

    def __init__(self, grids: Sequence[Grid], samples: int, seed: int = 0) -> None:
        modes = BoxModes(grids[0], weight=1.0, density="errors") if grids else None
        self.drawn = Residuals(grids, samples, seed, modes=modes)
        self.images = self.drawn.images

    def __len__(self) -> int:
        return len(self.drawn)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (x, image), _ = self.drawn[index]
        r = graph_laplacian(image[None], x[None])[0]
        size = torch.linalg.vector_norm(r)
        ringed = functional.pad(x / size, (1,) * 6)
        return (r / size, image), torch.cat([ringed, image])
