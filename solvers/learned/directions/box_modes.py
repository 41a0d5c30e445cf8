"""Right-hand sides to train on: random sums of the exact modes of a box, made when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Literal, final, get_args

import numpy as np
import torch
from scipy import fft
from torch import Tensor
from torch.utils.data import Dataset

from ....meshes.grid import Boundary, Centring, Grid
from ....operators.linear.diffusion import Diffusion
from ....operators.linear.errors import NotSupported, ShapeMismatch
from ...fast.separable import axis_transform
from .network import cell_image

Density = Literal["ritz", "modes", "errors"]


@final
class BoxModes:
    """Draw right-hand sides b = sum_i c_i v_i over the eigenvectors v_i of the Laplacian on a full box.

    The c_i are independent and normal, of standard deviation `weight` for the lowest part of the spectrum and
    1 above; the zero mode of closed boxes is left out; b has unit norm. One inverse sine or cosine transform
    makes a b, nothing is stored.

    The published data are such sums over Ritz vectors of a Lanczos iteration. Those crowd at the ends of the
    spectrum, whereas most modes of a box in three dimensions lie in the middle: with equal weight for each
    mode hardly a smooth part would be left. So "ritz" gives every interval of eigenvalues the share of energy
    that the Ritz values have there, that of the arcsine law F(t) = (2 / pi) arcsin sqrt(t / t_max); "modes"
    weighs all modes alike; "errors" gives mode i the deviation lambda_i^(-5/4), which in three dimensions is
    the same energy v.A v in every octave. `low` is a share of Ritz values, else of modes.

    Args:
        grid: the box; its mask is not looked at.
        weight: of the low part; 9 as published.
        low: share of the spectrum that is low; 0.55 as published by Kaneda et al., 0.6 by Lan et al.
        density: "ritz", "modes" or "errors".

    Raises:
        NotSupported: periodic faces, and node-centred grids with Neumann faces.
        ValueError: low outside of 0 to 1, another density.

    >>> b = BoxModes(Grid((8, 8, 8), centring="cell", boundary="neumann")).draw(2, torch.Generator())
    >>> b.shape, bool(b.sum((1, 2, 3)).abs().max() < 1e-12)
    (torch.Size([2, 8, 8, 8]), True)
    """

    def __init__(
        self, grid: Grid, *, weight: float = 9.0, low: float = 0.55, density: Density = "ritz"
    ) -> None:
        if not 0 <= low <= 1:
            raise ValueError(f"low is a share of the spectrum, 0 to 1, got {low}")
        if density not in get_args(Density):
            raise ValueError(f"density is 'ritz', 'modes' or 'errors', got {density!r}")
        faces = {side for pair in grid.boundary for side in pair}
        halves = grid.centring is Centring.NODE and Boundary.NEUMANN in faces
        if Boundary.PERIODIC in faces or halves:
            raise NotSupported(
                "BoxModes transforms cell-centred grids with Dirichlet and Neumann faces and node-centred "
                "ones with Dirichlet faces: use `ritz_modes(A, steps, generator)` for other operators"
            )
        axes = [axis_transform(grid, axis) for axis in range(grid.dim)]
        self.grid, self.kinds = grid, [axis.kind for axis in axes]
        eigenvalues = np.zeros(grid.shape)
        for axis, h in enumerate(grid.spacing):
            line = axes[axis].eigenvalues / h**2
            eigenvalues = eigenvalues + line.reshape([-1 if a == axis else 1 for a in range(grid.dim)])
        self.deviations = torch.from_numpy(_deviations(eigenvalues, weight, low, density))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return right-hand sides of unit norm, (count, *shape), float64 on the CPU."""
        shape = (count, *self.grid.shape)
        b = torch.randn(shape, generator=generator, dtype=torch.float64).mul_(self.deviations).numpy()
        for axis, kind in enumerate(self.kinds, start=1):
            assert kind is not None
            inverse = fft.idst if kind.sine else fft.idct
            b = inverse(b, type=kind.type, axis=axis, norm="ortho", overwrite_x=True)
        out = torch.from_numpy(np.ascontiguousarray(b))
        return out / torch.linalg.vector_norm(out.flatten(1), dim=1).reshape(-1, *[1] * self.grid.dim)


def _deviations(eigenvalues: np.ndarray, weight: float, low: float, density: Density) -> np.ndarray:
    """Return the standard deviation of the coefficient of every mode."""
    values, place, counts = np.unique(eigenvalues.round(9), return_inverse=True, return_counts=True)
    if density != "ritz":
        counted = np.where(values > 0, counts, 0)
        below = (np.cumsum(counted) - counted) / counted.sum()
        power = 0.0 if density == "modes" else -2.5
        energy = np.where(values > 0, np.where(values > 0, values, 1.0) ** power, 0.0)
    else:
        between = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, values[-1:]])
        law = 2 / pi * np.arcsin(np.sqrt(between / values[-1]))
        below, energy = law[:-1], np.where(values > 0, np.diff(law) / counts, 0.0)
    deviations = np.where(below < low, weight, 1.0) * np.sqrt(energy)
    return deviations[place].reshape(eigenvalues.shape)


@final
class Residuals(Dataset[tuple[tuple[Tensor, Tensor], Tensor]]):
    """Serve right-hand sides on boxes with obstacles as ((b, image), target), for `fit` and its losses.

    Sample i lies on grid i mod len(grids). It is drawn by a generator seeded with (seed, i), whenever it is
    asked for: any number of samples takes no memory and no time before. On a masked grid it is a draw for
    the full box without the cells outside of the mask and the means over floating parts.

    Args:
        grids: boxes in three dimensions, all of one shape and with the same faces.
        samples: how many.
        seed: of the draws; another one for validation.
        modes: how to draw; default `BoxModes` of the first grid.

    Raises:
        ValueError: no grids or no samples.
        ShapeMismatch: grids of several shapes.
        NotSupported: see `cell_image`.

    >>> (b, image), target = Residuals([Grid((8, 8, 8), centring="cell", boundary="neumann")], 100)[7]
    >>> b.shape, image.shape, target.shape
    (torch.Size([1, 8, 8, 8]), torch.Size([3, 10, 10, 10]), torch.Size([4, 10, 10, 10]))
    """

    def __init__(
        self, grids: Sequence[Grid], samples: int, seed: int = 0, *, modes: BoxModes | None = None
    ) -> None:
        if not grids or samples < 1:
            raise ValueError(f"training takes at least one grid and one sample, got {len(grids)}, {samples}")
        shapes = {(grid.shape, grid.boundary) for grid in grids}
        if len(shapes) > 1:
            raise ShapeMismatch(
                f"the grids have {len(shapes)} shapes and boundaries: train on one after the other"
            )
        self.samples, self.seed = samples, seed
        self.modes = modes or BoxModes(grids[0])
        self.images = [cell_image(grid)[0] for grid in grids]
        self.nullspaces = [Diffusion(grid).nullspace for grid in grids]

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        if not 0 <= index < self.samples:
            raise IndexError(index)
        scene = index % len(self.images)
        image, nullspace = self.images[scene], self.nullspaces[scene]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        b = self.modes.draw(1, generator)[0] * image[0, 1:-1, 1:-1, 1:-1]
        if nullspace is not None:
            b = nullspace.project(b.reshape(-1)).reshape(b.shape)
        b = (b / b.norm()).float()[None]
        ringed = torch.nn.functional.pad(b, (1,) * 6)
        return (b, image), torch.cat([ringed, image])
