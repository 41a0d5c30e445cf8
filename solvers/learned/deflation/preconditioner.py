"""A smoother and an exact solve in a learned space, as a preconditioner that plain CG may use."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from ....operators.linear.base import SPD, LinearOperator
from ....operators.linear.errors import NotSupported, ShapeMismatch
from ...krylov.lanczos import ritz_bounds
from ...preconditioners.base import Preconditioner
from ...preconditioners.bounds import gershgorin
from ...preconditioners.inverse import Inverse
from ...preconditioners.jacobi import DiagonalInverse
from ...preconditioners.ssor import SSORInverse, ssor
from ...training.saving import read_config
from .basis import Basis
from .coarse import AnyBasis, CoarseSpace
from .trunk import TrunkBasis

TARGET = 4 / 3  # what damping brings the largest eigenvalue of S^-1 A to; the smoother converges below 2


class Form(StrEnum):
    """How the two corrections are put together; `deflation` has the equations.

    ADDITIVE: both of the same residual, added.
    MULTIPLICATIVE: one after the other, smoother first and last.
    """

    ADDITIVE = "additive"
    MULTIPLICATIVE = "multiplicative"


@final
class DeflatedInverse(Inverse):
    """What `deflation` builds for an operator.

    Attributes:
        fallback: why the smoother works alone; None where the basis is used.
        space: the coarse space.
        damping: factor of the smoother, multiplicative form, (*batch, 1) or a number.
    """

    fallback: str | None

    def __init__(
        self,
        A: LinearOperator,
        basis: AnyBasis,
        smoother: Preconditioner,
        form: Form | str = Form.ADDITIVE,
        probes: int = 1,
    ) -> None:
        self.space = CoarseSpace(A, basis)  # refuses an operator that is not SPD
        super().__init__(A, SPD)
        self.A, self.smoother, self.form = A, smoother(A), Form(form)
        if self.smoother.shape != A.shape:
            raise ShapeMismatch(
                f"the smoother is {self.smoother.shape}, the operator {A.shape}: build it from the same A"
            )
        if not self.smoother.positive_definite:
            raise NotSupported(
                f"deflation needs a symmetric positive definite smoother, {type(self.smoother).__name__} is "
                "not declared so: use ssor(), jacobi, ic0() or chebyshev()"
            )
        self.fallback = self.space.fault
        self.damping: Tensor | float = 1.0
        if self.form is Form.MULTIPLICATIVE and self.space.size:
            self.damping = damping(A, self.smoother)
        if self.fallback is None and not self._positive(probes):
            self.fallback = "r.Mr > 0 failed for a random r"

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write M x into out."""
        self.smoother.matvec_into(x, out)
        if self.fallback is not None or not self.space.size:
            return
        if self.form is Form.ADDITIVE:
            out.add_(self.space.correction(x))
            return
        out.mul_(self.damping)  # z = S^-1 r
        r = torch.empty_like(out)
        torch.sub(x, self.A.matvec_into(out, r), out=r)
        out.add_(self.space.correction(r))  # z += C (r - A z)
        torch.sub(x, self.A.matvec_into(out, r), out=r)
        out.addcmul_(
            self.smoother.matvec_into(r, torch.empty_like(r)), self._factor(r)
        )  # z += S^-T (r - A z)

    def _factor(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.damping, dtype=like.dtype, device=like.device)

    def _positive(self, probes: int) -> bool:
        """Whether r.M r > 0 for some random r, off the null space."""
        generator = torch.Generator().manual_seed(0)
        for _ in range(probes):
            r = torch.randn(*self.batch_shape, self.shape[1], generator=generator).to(self.device, self.dtype)
            if not bool(((r * self.matvec(r)).sum(-1) > 0).all()):
                return False
        return True

    def __repr__(self) -> str:
        note = f", basis not used: {self.fallback}" if self.fallback else ""
        kind = type(self.smoother).__name__
        return f"DeflatedInverse({self.form}, {self.space.size} columns, {kind}{note})"


def damping(A: LinearOperator, S: LinearOperator) -> Tensor | float:
    """Return w such that w S^-1 converges as an iteration for A, ||Id - w S^-1 A||_A < 1.

    w = min(1, 4 / (3 lambda)), lambda the largest eigenvalue of S^-1 A: 1 for SSOR, Gershgorin's bound for
    Jacobi where the entries are at hand, else the largest Ritz value of ten CG steps, which may be too low by
    half without harm.
    """
    if isinstance(S, SSORInverse):
        return 1.0
    largest = gershgorin(A) if isinstance(S, DiagonalInverse) else None
    found = ritz_bounds(A, S, steps=10)[1] if largest is None else largest.unsqueeze(-1)
    return (TARGET / found).clamp(max=1.0)


_DEFAULT_SMOOTHER = ssor()


def deflation(
    basis: AnyBasis | str | Path,
    smoother: Preconditioner = _DEFAULT_SMOOTHER,
    *,
    form: Form | str = Form.ADDITIVE,
    probes: int = 1,
) -> Preconditioner:
    """Make the preconditioner of a smoother S and an exact solve C in the span of a basis.

        C = Q E^-1 Q^T,  E = Q^T A Q
        additive:        M = S^-1 + C
        multiplicative:  z = S^-1 r;  z += C (r - A z);  z += S^-T (r - A z)

    Linear and symmetric positive definite for every basis, so valid in CG: C is positive semidefinite, S^-1
    positive definite; in the second form Id - M A = (Id - S^-1 A)(Id - C A)(Id - S^-1 A) with a projection
    in the middle and S damped until it converges. With an empty basis M = S^-1. The smoother works alone,
    and `fallback` of the operator says why, where the basis is not finite, E is not positive definite, or
    r.M r > 0 fails for a random r.

    Args:
        basis: on the unknowns of A, a trunk (evaluated at set-up on the grid of A), or the folder that one
            of them was saved in.
        smoother: symmetric positive definite: `ssor(1.5)`, `jacobi`, `ic0()`.
        form: "additive": an application costs the smoother and 4 n k operations; "multiplicative": twice
            the smoother and two products with A more, for fewer steps.
        probes: random vectors to test for r.M r > 0.

    Raises:
        On use: NotSupported (A or S is not declared SPD; a trunk without a grid), ShapeMismatch (a basis of
        other unknowns).

    Source: Kopanicakova and Karniadakis (2024), arXiv:2401.02016; Nicolaides (1987), SIAM J. Numer. Anal. 24.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.linear import Diffusion
    >>> from solvus.solvers import CG, LinearSystem, solve
    >>> from solvus.solvers.learned.deflation import Basis
    >>> A, x = Diffusion(Grid((63,))), torch.arange(1, 64, dtype=torch.float64) / 64
    >>> basis = Basis.of(torch.stack([torch.sin(j * torch.pi * x) for j in range(1, 9)], 1))
    >>> solve(LinearSystem(A, torch.ones_like(x)), CG(deflation(basis))).steps < 20
    True
    """
    part = _read(basis) if isinstance(basis, str | Path) else basis
    return partial(DeflatedInverse, basis=part, smoother=smoother, form=Form(form), probes=probes)


def _read(folder: str | Path) -> AnyBasis:
    """Read a saved basis or trunk."""
    kind = TrunkBasis if read_config(Path(folder)).get("part") == TrunkBasis.__name__ else Basis
    return kind.load(folder)
