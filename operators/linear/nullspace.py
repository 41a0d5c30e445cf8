"""Null spaces of singular symmetric operators, as orthogonal projections onto their complement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor


class NullSpace(ABC):
    """The kernel Z of a symmetric operator; `project` removes the part of a vector that lies in Z."""

    @abstractmethod
    def component(self, x: Tensor) -> Tensor:
        """Return the orthogonal projection of x, (..., n), onto the null space, same shape."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Number of independent null vectors."""

    def project(self, x: Tensor) -> Tensor:
        """Return x minus its part in the null space."""
        return x - self.component(x)


@final
class Constants(NullSpace):
    """Vectors constant on each connected part of the domain and zero elsewhere.

    Args:
        labels: int64 (n,), 0 .. parts-1 for members of a floating part, -1 for all others; None: one part
            that is the whole domain.
    """

    def __init__(self, labels: Tensor | None = None) -> None:
        self.labels = labels
        if labels is not None:
            self._parts = int(labels.max()) + 1
            self._members = (labels >= 0).double()
            self._index = labels.clamp_min(0)
            self._count = torch.bincount(labels[labels >= 0], minlength=self._parts)

    @property
    def dimension(self) -> int:
        """Number of floating parts."""
        return 1 if self.labels is None else self._parts

    def component(self, x: Tensor) -> Tensor:
        """Return the mean of x over each part, spread over the part."""
        if self.labels is None:
            return x.mean(-1, keepdim=True).expand_as(x)
        inside = self._members.to(x.dtype)
        if self._parts == 1:
            return (x @ inside / self._count[0]).unsqueeze(-1) * inside
        sums = x.new_zeros(*x.shape[:-1], self._parts).index_add_(-1, self._index, x * inside)
        return (sums / self._count)[..., self._index] * inside


@final
class Span(NullSpace):
    """Null space spanned by given vectors.

    Args:
        vectors: (k, n), linearly independent; orthonormalised here.
    """

    def __init__(self, vectors: Tensor) -> None:
        vectors = torch.atleast_2d(vectors)
        basis, triangular = torch.linalg.qr(vectors.mT)
        small = torch.finfo(vectors.dtype).eps ** 0.75 * triangular.abs().max()
        lengths = triangular.diagonal().abs()
        independent = len(vectors) <= vectors.shape[1] and bool((lengths > small).all())
        if not (independent and bool(torch.isfinite(vectors).all())):
            raise ValueError("the null vectors are linearly dependent or not finite: give an independent set")
        self.basis = basis  # (n, k)

    @property
    def dimension(self) -> int:
        """Number of null vectors."""
        return self.basis.shape[-1]

    def component(self, x: Tensor) -> Tensor:
        """Return Z Z^H x."""
        return (x @ self.basis.conj()) @ self.basis.mT


def same(a: NullSpace, b: NullSpace) -> bool:
    """Whether two null spaces are known to be equal (False: perhaps not)."""
    if a is b:
        return True
    if isinstance(a, Constants) and isinstance(b, Constants):
        if a.labels is None or b.labels is None:
            return a.labels is b.labels
        return a.labels.shape == b.labels.shape and bool((a.labels == b.labels).all())
    return False
