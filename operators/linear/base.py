"""What every linear operator offers: a product with vectors, a transpose, tags, and algebra on top."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, auto
from typing import overload

import torch
from torch import Tensor

from .errors import MixedDevices, MixedDtypes, NotSupported, ShapeMismatch
from .nullspace import NullSpace


class Tag(Enum):
    """Properties that a method may rely on. Declared by who builds the operator, not computed."""

    SYMMETRIC = auto()
    SPD = auto()  # symmetric positive definite; on the complement of `nullspace` where one is given
    DIAGONAL = auto()
    LINEAR_ONLY = auto()  # no transpose


SYMMETRIC = frozenset({Tag.SYMMETRIC})
SPD = frozenset({Tag.SYMMETRIC, Tag.SPD})


class LinearOperator(ABC):
    """A linear map y = A x on the last axis of tensors, x (..., n) -> y (..., m).

    Leading axes are batch axes. An operator with `batch_shape` (B,) is B maps at once: its x is (B, n).

    Attributes:
        shape: (m, n).
        dtype, device: of the vectors that it takes and returns.
        tags: frozenset of `Tag`.
        batch_shape: () or (B,).
        nullspace: kernel of a singular symmetric operator where it is known, else None.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        *,
        tags: frozenset[Tag] = frozenset(),
        batch_shape: tuple[int, ...] = (),
        nullspace: NullSpace | None = None,
    ) -> None:
        if not dtype.is_floating_point and not dtype.is_complex:
            raise MixedDtypes(
                f"an operator needs a floating-point type, got {dtype}: convert its entries first"
            )
        if Tag.SPD in tags:
            tags = tags | SYMMETRIC
        if tags & SPD and shape[0] != shape[1]:
            raise ShapeMismatch(f"a symmetric operator is square, this one is {shape[0]} x {shape[1]}")
        self.shape = (int(shape[0]), int(shape[1]))
        self.dtype = dtype
        self.device = torch.device(device)
        self.tags = frozenset(tags)
        self.batch_shape = torch.Size(batch_shape)
        self.nullspace = nullspace

    @abstractmethod
    def matvec(self, x: Tensor) -> Tensor:
        """Return A x for x (..., n); torch autograd passes through to x and to `parameters()`."""

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write A x into `out` (no autograd) and return it; solvers call this to reuse memory."""
        return out.copy_(self.matvec(x))

    @abstractmethod
    def transpose(self) -> LinearOperator:
        """Return the transposed operator."""

    def parameters(self) -> tuple[Tensor, ...]:
        """Return the tensors that `matvec` is differentiable in (coefficients, entries)."""
        return ()

    @property
    def T(self) -> LinearOperator:
        """The transposed operator."""
        return self.transpose()

    @property
    def symmetric(self) -> bool:
        """Whether the operator is declared symmetric."""
        return Tag.SYMMETRIC in self.tags

    @property
    def positive_definite(self) -> bool:
        """Whether the operator is declared SPD (on the complement of its null space)."""
        return Tag.SPD in self.tags

    def check_vector(self, x: Tensor, *, name: str = "x") -> None:
        """Reject a vector of the wrong length, type or device."""
        if x.ndim == 0 or x.shape[-1] != self.shape[1]:
            raise ShapeMismatch(
                f"{name} has shape {tuple(x.shape)}, the operator takes vectors (..., {self.shape[1]}): "
                "the last axis counts the unknowns"
            )
        if x.dtype != self.dtype:
            raise MixedDtypes(
                f"{name} is {x.dtype}, the operator is {self.dtype}: convert with {name}.to(A.dtype)"
            )
        if x.device != self.device:
            raise MixedDevices(f"{name} is on {x.device}, the operator on {self.device}: move one of them")
        if self.batch_shape and x.shape[: len(self.batch_shape)] not in (self.batch_shape, torch.Size((1,))):
            raise ShapeMismatch(
                f"{name} has shape {tuple(x.shape)}, the operator is a batch of {tuple(self.batch_shape)}: "
                f"give {name} the shape {(*self.batch_shape, self.shape[1])}"
            )

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...
    def __matmul__(self, other: Tensor | LinearOperator) -> Tensor | LinearOperator:
        if isinstance(other, Tensor):
            self.check_vector(other)
            return self.matvec(other)
        if not isinstance(other, LinearOperator):
            raise NotSupported(
                f"A @ x takes a torch tensor or a LinearOperator, got {type(other).__name__}: convert it "
                "with torch.as_tensor(x), or wrap A with `to_scipy_operator(A)`"
            )
        from .algebra import Product

        return Product(self, other)

    def __add__(self, other: LinearOperator) -> LinearOperator:
        from .algebra import Sum

        return Sum(self, other)

    def __mul__(self, factor: float) -> LinearOperator:
        from .algebra import Scaled

        return Scaled(self, float(factor))

    __rmul__ = __mul__

    def __neg__(self) -> LinearOperator:
        return self * -1.0

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return self + (-other)

    def __repr__(self) -> str:
        tags = ", ".join(sorted(t.name for t in self.tags)) or "no tags"
        batch = f"{tuple(self.batch_shape)} of " if self.batch_shape else ""
        size = f"{batch}{self.shape[0]} x {self.shape[1]}"
        return f"{type(self).__name__}({size}, {self.dtype}, {self.device}, {tags})"
