"""What Krylov methods ask of operators and preconditioners, with the advice given where it is not met."""

from __future__ import annotations

from typing import Any

from ...operators.linear.base import LinearOperator
from ...operators.linear.errors import NotSupported, ShapeMismatch
from ..preconditioners.base import Preconditioner
from ..system import LinearSystem


def require_real(problem: Any, method: str) -> None:
    """Reject what is not a real linear system."""
    if not isinstance(problem, LinearSystem):
        raise NotSupported(
            f"{method} solves a LinearSystem, this is a {type(problem).__name__}: linearise or discretise it "
            "first"
        )
    if problem.A.dtype.is_complex:
        raise NotSupported(
            f"{method} is for real systems, this one is {problem.A.dtype}: use a direct method, or the real "
            "form [[Re, -Im], [Im, Re]]"
        )


def require_symmetric(problem: LinearSystem, method: str) -> None:
    """Reject an operator that is not declared symmetric."""
    if not problem.A.symmetric:
        raise NotSupported(
            f"{method} needs a symmetric operator, this one is tagged {_tags(problem.A)}: declare "
            "tags={Tag.SYMMETRIC} if it is, else use GMRES or BiCGStab"
        )


def require_spd(problem: LinearSystem, method: str) -> None:
    """Reject an operator that is not declared symmetric positive definite."""
    if not problem.A.positive_definite:
        raise NotSupported(
            f"{method} needs a symmetric positive definite operator, this one is tagged {_tags(problem.A)}: "
            "declare tags={Tag.SPD} if it is, else use MINRES (symmetric) or GMRES (any)"
        )


def _tags(A: LinearOperator) -> str:
    return ", ".join(sorted(t.name for t in A.tags)) or "nothing"


def build(preconditioner: Preconditioner, A: LinearOperator, method: str, *, spd: bool) -> LinearOperator:
    """Build the preconditioner of A; reject another size, and with `spd` one that is not declared SPD."""
    M = preconditioner(A)
    if M.shape != A.shape:
        raise ShapeMismatch(
            f"the preconditioner is {M.shape}, the operator {A.shape}: build it from the same A"
        )
    if spd and not M.positive_definite:
        raise NotSupported(
            f"{method} needs a symmetric positive definite preconditioner, {type(M).__name__} is tagged "
            f"{_tags(M)}: use FlexibleCG (for SPD operators) or FGMRES, which take any"
        )
    return M
