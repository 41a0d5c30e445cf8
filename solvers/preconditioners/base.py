"""The one type of preconditioner: a function that takes an operator and returns an operator ~ its inverse."""

from __future__ import annotations

from collections.abc import Callable

from ...operators.linear.algebra import Identity
from ...operators.linear.base import LinearOperator

Preconditioner = Callable[[LinearOperator], LinearOperator]


def identity(A: LinearOperator) -> LinearOperator:
    """Return the identity: no preconditioning."""
    return Identity(A.shape[0], A.dtype, A.device)
