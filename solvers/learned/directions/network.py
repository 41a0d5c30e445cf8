"""What direction networks share: boxes of cells in, boxes of cells out, any size."""

from __future__ import annotations

from abc import abstractmethod
from math import sqrt
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from ....meshes.grid import Boundary, Grid
from ....operators.linear.errors import NotSupported
from ..part import LearnedPart

FLUID, OPEN, WALL = 0, 1, 2  # channels of an image of cells


class DirectionNetwork(LearnedPart):
    """A network that proposes a search direction for a residual, on boxes in three dimensions.

    Attributes:
        multiple: box sizes that it works on are multiples of this; others are padded with wall, and cropped.
        linear: whether it is linear in the residual for all weights.
        symmetric: whether it is linear, symmetric and positive definite for all weights.
    """

    multiple: int
    linear: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False

    def prepare(self, image: Tensor) -> Any:
        """Return what depends on the cells alone, to be used for all residuals of a system.

        Args:
            image: (B or 1, 3, X + 2, Y + 2, Z + 2), see `cell_image`, padded to the multiple.
        """
        return None

    @abstractmethod
    def propose(self, r: Tensor, prepared: Any) -> Tensor:
        """Return directions (B, 1, X, Y, Z) for residuals of that shape, see `on_box` for their scale."""

    @final
    def prepared(self, image: Tensor) -> Any:
        """Return `prepare` of an image (B or 1, 3, X + 2, Y + 2, Z + 2) of any size."""
        extra = [-(n - 2) % self.multiple for n in image.shape[2:]]
        return self.prepare(with_ring(*_padded(*without_ring(image), extra)))

    @final
    def on_box(self, r: Tensor, prepared: Any) -> Tensor:
        """Return directions for residuals (B, 1, X, Y, Z) of unit norm.

        A network that is not linear sees them with unit root mean square, sqrt(X Y Z) r, so that its biases
        have the same weight on every box; for one box this is a rescaling of the weights.
        """
        shape = r.shape[2:]
        padding = [p for n in reversed(shape) for p in (0, -n % self.multiple)]
        scaled = functional.pad(r if self.linear else r * sqrt(shape.numel()), padding)
        x, y, z = shape
        return self.propose(scaled, prepared)[..., :x, :y, :z]

    @final
    def forward(self, r: Tensor, image: Tensor) -> Tensor:
        """Return directions (B, 1, X, Y, Z) for unit residuals and images of their cells."""
        return self.on_box(r, self.prepared(image))


def cell_image(grid: Grid) -> Tensor:
    """Return what each cell is, and what lies beyond each face, as one-hot channels, float32.

    Channels fluid, open (held at zero), wall (no flux); shape (1, 3, X + 2, Y + 2, Z + 2): a ring of one cell
    around the box carries the conditions of its faces.

    Raises:
        NotSupported: a grid that has not three axes, or a periodic one.

    >>> cell_image(Grid((4, 4, 4), centring="cell", boundary="neumann")).sum((0, 2, 3, 4)).tolist()
    [64.0, 0.0, 152.0]
    """
    if grid.dim != 3 or any(Boundary.PERIODIC in pair for pair in grid.boundary):
        faces = sorted({side.value for pair in grid.boundary for side in pair})
        raise NotSupported(
            f"direction networks know boxes with three axes and Dirichlet or Neumann faces, this grid has "
            f"{grid.dim} and {', '.join(faces)} faces: use CG(multigrid()) or CG(fast_transform())"
        )
    kinds = torch.zeros(grid.shape, dtype=torch.int64)
    if grid.mask is not None:
        kinds[torch.as_tensor(~grid.mask)] = _kind(grid.obstacle)
    inside = functional.one_hot(kinds, 3).movedim(-1, 0)[None].float()
    faces = torch.tensor([[_kind(side) for side in pair] for pair in grid.boundary])
    return with_ring(inside, functional.one_hot(faces, 3)[None].float())


def with_ring(inside: Tensor, faces: Tensor) -> Tensor:
    """Put a ring around cells: inside (B, 3, X, Y, Z), faces (B, axis, side, 3)."""
    image = inside
    for axis in range(3):
        shape = list(image.shape)
        shape[2 + axis] = 1
        low, high = (faces[:, axis, side, :, None, None, None].expand(shape) for side in (0, 1))
        image = torch.cat([low, image, high], 2 + axis)
    return image


def without_ring(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cells (B, 3, X, Y, Z) and the kinds of the faces (B, axis, side, 3)."""
    middle = [n // 2 for n in image.shape[2:]]
    faces = torch.stack(
        [
            torch.stack([image[(..., *middle[:axis], end, *middle[axis + 1 :])] for end in (0, -1)], 1)
            for axis in range(3)
        ],
        1,
    )
    return image[..., 1:-1, 1:-1, 1:-1], faces


def _padded(inside: Tensor, faces: Tensor, extra: list[int]) -> tuple[Tensor, Tensor]:
    """Add layers of what lies beyond the high faces."""
    for axis, layers in enumerate(extra):
        if layers:
            shape = list(inside.shape)
            shape[2 + axis] = layers
            inside = torch.cat([inside, faces[:, axis, 1, :, None, None, None].expand(shape)], 2 + axis)
    return inside, faces


def _kind(condition: Boundary) -> int:
    return OPEN if condition is Boundary.DIRICHLET else WALL
