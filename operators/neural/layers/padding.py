"""Zeros around a field, for domains that are not periodic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

from torch import Tensor
from torch.nn import functional as F

from ..base import WrongSettings

Sides = Literal["end", "both"]


@final
class DomainPadding:
    """Add zeros to the axes of space, and crop them off again.

    Fourier layers take their input for periodic; zeros between the far end and the near end keep the two
    apart.

    Args:
        amount: per axis, whole numbers are points and others fractions of the axis (rounded). No entries:
            none.
        sides: at the far "end" of each axis, or on "both" sides.

    >>> import torch
    >>> padding = DomainPadding((9, 0.25), "end")
    >>> padding.pad(torch.zeros(1, 1, 85, 40)).shape
    torch.Size([1, 1, 94, 50])
    >>> padding.crop(torch.zeros(1, 1, 94, 50), (85, 40)).shape
    torch.Size([1, 1, 85, 40])
    """

    def __init__(self, amount: Sequence[float], sides: Sides = "end") -> None:
        if any(a < 0 or (isinstance(a, float) and a >= 4) for a in amount):
            raise WrongSettings(
                f"padding is a number of points (2) or a fraction (0.25) per axis, got {tuple(amount)}"
            )
        if sides not in ("end", "both"):
            raise WrongSettings(f"padding is at the end or on both sides, got {sides!r}")
        self.amount = tuple(amount)
        self.sides = sides

    def points(self, space: Sequence[int]) -> tuple[int, ...]:
        """Return the points that each side of each axis gets."""
        return tuple(
            round(n * a) if isinstance(a, float) else a for n, a in zip(space, self.amount, strict=False)
        )

    def padded(self, space: Sequence[int]) -> tuple[int, ...]:
        """Return the size of a padded grid."""
        if not self.amount:
            return tuple(space)
        sides = 2 if self.sides == "both" else 1
        return tuple(n + sides * p for n, p in zip(space, self.points(space), strict=True))

    def pad(self, x: Tensor) -> Tensor:
        """Return x (B, C, *space) with zeros added."""
        if not any(self.amount):
            return x
        pairs = [(p if self.sides == "both" else 0, p) for p in self.points(x.shape[2:])]
        return F.pad(x, [p for pair in reversed(pairs) for p in pair])

    def crop(self, x: Tensor, space: Sequence[int]) -> Tensor:
        """Return the part of a padded x that lies on the grid `space`."""
        if not any(self.amount):
            return x
        for axis, (n, p) in enumerate(zip(space, self.points(space), strict=True)):
            x = x.narrow(2 + axis, p if self.sides == "both" else 0, n)
        return x
