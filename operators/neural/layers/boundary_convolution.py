"""Convolutions and prolongations that know the boundary condition on every side of the box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....meshes.grid import Boundary
from ..base import WrongSettings

Sides = tuple[tuple[Boundary, Boundary], ...]


def boundary_sides(words: Sequence[str], dim: int) -> Sides:
    """Return the (low, high) boundary conditions of each axis.

    Args:
        words: "dirichlet" (zero outside), "neumann" (mirrored about the last point) or "periodic": one for
            all sides, one per axis, or one per side in the order low, high of the first axis, then the next.

    Raises:
        WrongSettings: for another number of words, another word, or an axis periodic on one side only.

    >>> [[str(side) for side in axis] for axis in boundary_sides(("periodic", "neumann"), 2)]
    [['periodic', 'periodic'], ['neumann', 'neumann']]
    """
    known = [b.value for b in Boundary]
    if any(w not in known for w in words):
        raise WrongSettings(f"boundary has the words {', '.join(known)}; got {', '.join(map(str, words))}")
    kinds = [Boundary(w) for w in words]
    if len(kinds) == 1:
        sides = tuple((kinds[0], kinds[0]) for _ in range(dim))
    elif len(kinds) == 2 * dim:
        sides = tuple(zip(kinds[::2], kinds[1::2], strict=True))
    elif len(kinds) == dim:
        sides = tuple((k, k) for k in kinds)
    else:
        raise WrongSettings(
            f"boundary takes one word, {dim} (one per axis) or {2 * dim} (one per side), got {len(kinds)}"
        )
    for axis, pair in enumerate(sides):
        if pair.count(Boundary.PERIODIC) == 1:
            raise WrongSettings(f"axis {axis} is periodic on one side only: make both so, or neither")
    return sides


def extend(x: Tensor, width: int, sides: Sides, *, repeat_edge: bool = False) -> Tensor:
    """Return fields (B, C, *space) with `width` points more on every side, as the boundary conditions say.

    Axes with "dirichlet" on both sides are left alone: a convolution pads these with zeros itself, faster.

    Args:
        repeat_edge: mirror about half a cell outside the last point, not about the last point.

    >>> periodic = boundary_sides(("periodic",), 1)
    >>> extend(torch.tensor([[[1.0, 2.0, 3.0]]]), 1, periodic)
    tensor([[[3., 1., 2., 3., 1.]]])
    """
    for axis, (low, high) in enumerate(sides, start=2):
        if zeros_outside(low, high):
            continue
        n = x.shape[axis]
        skip = 0 if repeat_edge else 1
        ghosts = [
            _ghost(x, low, (axis, skip, n - width), width),
            _ghost(x, high, (axis, n - width - skip, 0), width),
        ]
        x = torch.cat((ghosts[0], x, ghosts[1]), axis)
    return x


def zeros_outside(low: Boundary, high: Boundary) -> bool:
    """Return whether an axis has zeros outside at both ends."""
    return low == high == Boundary.DIRICHLET


def _ghost(x: Tensor, side: Boundary, where: tuple[int, int, int], width: int) -> Tensor:
    """Return the points outside a side; `where` is the axis, the start of the mirrored and the far points."""
    axis, mirrored, far = where
    match side:
        case Boundary.PERIODIC:
            return x.narrow(axis, far, width)
        case Boundary.NEUMANN:
            return x.narrow(axis, mirrored, width).flip(axis)
        case _:
            return torch.zeros_like(x.narrow(axis, 0, width))


@final
class BoundaryConvolution(nn.Module):
    """Convolve fields whose values outside the box follow from the boundary condition.

    (B, in, *space) -> (B, out, *space); with `stride` 2 a point of every pair is kept, (n + 1) // 2 per axis.
    Dirichlet sides have zeros outside, Neumann sides the mirror image about the last point, periodic ones the
    other end. The weights are drawn as in `torch.nn.Conv2d`.

    Args:
        sides: see `boundary_sides`; their number is the dimension.
        kernel: points of the kernel per axis, odd.

    >>> layer = BoundaryConvolution(2, 5, boundary_sides(("neumann", "periodic"), 2))
    >>> layer(torch.zeros(1, 2, 16, 17)).shape
    torch.Size([1, 5, 16, 17])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        sides: Sides,
        *,
        kernel: int = 3,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise WrongSettings(f"kernel is odd, so that it has a middle, got {kernel}")
        self.sides = sides
        self.width = kernel // 2
        convolution: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(sides) - 1]
        own = tuple(self.width if zeros_outside(*pair) else 0 for pair in sides)
        self.convolution = convolution(
            in_channels, out_channels, kernel, stride=stride, padding=own, bias=bias
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(extend(x, self.width, self.sides) if self.width else x)


@final
class Prolongation(nn.Module):
    """Bring fields to a grid of twice as many points, by a transposed convolution with stride 2.

    (B, in, *coarse) -> (B, out, *space) for space = 2 coarse or 2 coarse - 1 on every axis, without a bias.
    Past a periodic end the first coarse points follow, past a Neumann end the last ones come back.

    Args:
        kernel: 3 reaches both sizes; 4 only the even one.
        padded: whether the kernel overhangs by one point; if not, space = 2 (coarse - 1) + kernel.

    Raises:
        torch's error for a size that is out of reach; `VCycle.check_space` names it before.

    >>> layer = Prolongation(2, 2, boundary_sides(("dirichlet",), 2))
    >>> layer(torch.zeros(1, 2, 8, 8), (15, 16)).shape
    torch.Size([1, 2, 15, 16])
    """

    def __init__(
        self, in_channels: int, out_channels: int, sides: Sides, *, kernel: int = 3, padded: bool = True
    ) -> None:
        super().__init__()
        self.sides = sides
        self.kernel = kernel
        self.padded = padded
        transposed: Any = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[len(sides) - 1]
        # an axis that gets a coarse point more on both sides loses two more fine points there
        crop = tuple((1 if zeros_outside(*pair) else 3) if padded else 0 for pair in sides)
        self.convolution = transposed(in_channels, out_channels, kernel, stride=2, padding=crop, bias=False)

    def least_size(self, coarse: int) -> int:
        """Return the smaller of the sizes that an axis of `coarse` points can get."""
        return 2 * (coarse - 1) + self.kernel - (2 if self.padded else 0)

    def reaches(self, coarse: int, fine: int) -> bool:
        """Return whether an axis of `coarse` points can be brought to `fine` points.

        >>> layer = Prolongation(1, 1, boundary_sides(("dirichlet",), 1), kernel=4)
        >>> layer.reaches(8, 16), layer.reaches(8, 15)
        (True, False)
        """
        return fine - self.least_size(coarse) in ((0, 1) if self.kernel == 3 and self.padded else (0,))

    def forward(self, x: Tensor, space: Sequence[int]) -> Tensor:
        extra = [n - self.least_size(c) for n, c in zip(space, x.shape[2:], strict=True)]
        if self.padded:
            x = extend(x, 1, self.sides, repeat_edge=True)
        c = self.convolution
        apply = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(self.sides) - 1]
        return apply(x, c.weight, None, c.stride, c.padding, extra)  # type: ignore[arg-type]
