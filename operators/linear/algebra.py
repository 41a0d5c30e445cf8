"""Operators made of other operators: identity, diagonal, sum, multiple, product, transpose."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from .base import SPD, SYMMETRIC, LinearOperator, Tag
from .errors import MixedDevices, MixedDtypes, ShapeMismatch
from .nullspace import same


@final
class Identity(LinearOperator):
    """The identity on n unknowns."""

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        super().__init__((n, n), dtype, device, tags=SPD | {Tag.DIAGONAL})

    def matvec(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def transpose(self) -> LinearOperator:
        """Return the operator itself."""
        return self


@final
class Diagonal(LinearOperator):
    """Multiplication by given entries.

    Args:
        entries: (n,) or (B, n).
    """

    def __init__(self, entries: Tensor, tags: frozenset[Tag] = SYMMETRIC) -> None:
        n = entries.shape[-1]
        batch = tuple(entries.shape[:-1])
        tags = tags | {Tag.DIAGONAL}
        super().__init__((n, n), entries.dtype, entries.device, tags=tags, batch_shape=batch)
        self.entries = entries

    def matvec(self, x: Tensor) -> Tensor:
        """Return entries * x."""
        return self.entries * x

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write entries * x into out."""
        return torch.mul(self.entries, x, out=out)

    def transpose(self) -> LinearOperator:
        """Return the operator itself."""
        return self

    def parameters(self) -> tuple[Tensor, ...]:
        """Return the entries."""
        return (self.entries,)


def _joint(A: LinearOperator, B: LinearOperator, verb: str) -> tuple[int, ...]:
    """Check that A and B can be combined; return the joint batch shape."""
    if A.dtype != B.dtype:
        raise MixedDtypes(f"cannot {verb} operators of {A.dtype} and {B.dtype}: build both in one type")
    if A.device != B.device:
        raise MixedDevices(f"cannot {verb} operators on {A.device} and {B.device}: move one of them")
    return tuple(torch.broadcast_shapes(A.batch_shape, B.batch_shape))


@final
class Sum(LinearOperator):
    """A + B."""

    def __init__(self, A: LinearOperator, B: LinearOperator) -> None:
        if A.shape != B.shape:
            raise ShapeMismatch(f"cannot add operators of shapes {A.shape} and {B.shape}")
        batch = _joint(A, B, "add")
        tags, nullspace = A.tags & B.tags, None
        if A.nullspace is not None and B.nullspace is not None:  # singular together only on a common kernel
            if same(A.nullspace, B.nullspace):
                nullspace = A.nullspace
            else:
                tags = tags - {Tag.SPD}
        super().__init__(A.shape, A.dtype, A.device, tags=tags, batch_shape=batch, nullspace=nullspace)
        self.A, self.B = A, B

    def matvec(self, x: Tensor) -> Tensor:
        """Return A x + B x."""
        return self.A.matvec(x) + self.B.matvec(x)

    def transpose(self) -> LinearOperator:
        """Return A^T + B^T."""
        return Sum(self.A.T, self.B.T)

    def parameters(self) -> tuple[Tensor, ...]:
        """Return the parameters of both."""
        return self.A.parameters() + self.B.parameters()


@final
class Scaled(LinearOperator):
    """A real multiple of an operator."""

    def __init__(self, A: LinearOperator, factor: float) -> None:
        tags = A.tags if factor > 0 else A.tags - {Tag.SPD}
        nullspace = A.nullspace if factor != 0 else None
        super().__init__(
            A.shape, A.dtype, A.device, tags=tags, batch_shape=A.batch_shape, nullspace=nullspace
        )
        self.A, self.factor = A, factor

    def matvec(self, x: Tensor) -> Tensor:
        """Return factor * A x."""
        return self.factor * self.A.matvec(x)

    def transpose(self) -> LinearOperator:
        """Return factor * A^T."""
        return Scaled(self.A.T, self.factor)

    def parameters(self) -> tuple[Tensor, ...]:
        """Return the parameters of A."""
        return self.A.parameters()


@final
class Product(LinearOperator):
    """A B, applied right to left."""

    def __init__(self, A: LinearOperator, B: LinearOperator, tags: frozenset[Tag] = frozenset()) -> None:
        if A.shape[1] != B.shape[0]:
            raise ShapeMismatch(f"cannot multiply operators of shapes {A.shape} and {B.shape}")
        batch = _joint(A, B, "multiply")
        super().__init__((A.shape[0], B.shape[1]), A.dtype, A.device, tags=tags, batch_shape=batch)
        self.A, self.B = A, B

    def matvec(self, x: Tensor) -> Tensor:
        """Return A (B x)."""
        return self.A.matvec(self.B.matvec(x))

    def transpose(self) -> LinearOperator:
        """Return B^T A^T."""
        return Product(self.B.T, self.A.T, self.tags)

    def parameters(self) -> tuple[Tensor, ...]:
        """Return the parameters of both."""
        return self.A.parameters() + self.B.parameters()
