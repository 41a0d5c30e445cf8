"""Algebraic multigrid: set-up by PyAMG on the CPU, cycles in torch on any device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import final

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ...operators.linear.base import SPD, SYMMETRIC, LinearOperator
from ...operators.linear.errors import NotSupported
from ...operators.linear.queries import to_scipy
from ..base import Solver
from ..preconditioners.base import Preconditioner
from ..preconditioners.inverse import Inverse
from ..stationary.richardson import Richardson, correct
from ..system import LinearSystem
from .algebraic_levels import Cycle, Hierarchy
from .coarsening import Coarsening, choose_coarsening
from .smoothers import ChebyshevSmoother, L1Jacobi, Smoother

_SHIFT = 1e-10  # of the mean diagonal, added for the set-up where the null space is known


@dataclass(frozen=True)
class AMGSettings:
    """Settings of algebraic multigrid.

    Args:
        coarsening: `RugeStuben()`, `SmoothedAggregation(...)`; None: the first for matrices close to an
            M-matrix, the second for others.
        smoother: None: `ChebyshevSmoother()` for symmetric matrices, `L1Jacobi(sweeps=4)` for others, whose
            spectrum is no interval; or any `Smoother`.
        cycle: "V", or "W", which visits the coarse levels more often: fewer, dearer steps.
        max_coarse: coarsen down to about so many unknowns, which a dense matrix then treats.
        dtype: of the cycle; torch.float32 inside a float64 solve halves its memory traffic. None: as A.
    """

    coarsening: Coarsening | None = None
    smoother: Smoother | None = None
    cycle: Cycle = "V"
    max_coarse: int = 200
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.cycle not in ("V", "W"):
            raise ValueError(f"cycle is 'V' or 'W', got {self.cycle!r}")
        if self.max_coarse < 1:
            raise ValueError(f"max_coarse counts unknowns, at least 1, got {self.max_coarse}")
        if self.dtype is not None and self.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"the cycle runs in torch.float32 or torch.float64, got {self.dtype}")


@final
class AlgebraicMultigrid(Inverse):
    """One multigrid cycle from zero as an operator, z = M r ~ A^-1 r; its repr is the level table.

    Symmetric positive definite by construction when A is: the same symmetric, convergent smoother acts before
    and after the coarse correction, restriction is the transpose of interpolation, and the bottom is solved
    exactly. Where A has a null space, r and z are projected onto its complement.

    Args:
        A: square and real; a `CSR`, a `Diffusion`, or anything that `to_scipy` converts.
        settings: see `AMGSettings`.

    Raises:
        ShapeMismatch: for a rectangular operator.
        NotSupported: for batches of operators, complex ones, and when coarsening stalls.
        ZeroDiagonal: when the smoother divides by a zero.
    """

    def __init__(self, A: LinearOperator, settings: AMGSettings) -> None:
        if A.dtype.is_complex:
            raise NotSupported(
                f"algebraic multigrid is for real matrices, this one is {A.dtype}: use ILU or a direct solver"
            )
        tags = SPD if A.positive_definite else SYMMETRIC if A.symmetric else frozenset()
        super().__init__(A, tags)
        matrix = sp.csr_array(to_scipy(A)).astype(np.float64)
        if A.nullspace is not None:
            shift = _SHIFT * float(np.abs(matrix.diagonal()).mean())
            matrix = sp.csr_array(matrix + shift * sp.eye_array(matrix.shape[0]))
        matrix.sort_indices()
        self.settings = settings
        self.coarsening = settings.coarsening or choose_coarsening(matrix)
        self.smoother = settings.smoother or (ChebyshevSmoother() if A.symmetric else L1Jacobi(sweeps=4))
        self.hierarchy = Hierarchy.build(
            matrix,
            self.coarsening,
            self.smoother,
            settings.cycle,
            max_coarse=settings.max_coarse,
            place=(settings.dtype or A.dtype, A.device),
            kind=(A.symmetric, A.positive_definite, A.nullspace is not None),
        )

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Run one cycle from zero on x."""
        _cycle(self.hierarchy, x, out)

    def transpose(self) -> LinearOperator:
        """Return M^T: M itself when A is symmetric."""
        return self if self.symmetric else _Transposed(self)

    def __repr__(self) -> str:
        s = self.settings
        name = type(self.coarsening).__name__
        dtype = s.dtype or self.dtype
        return (
            f"AlgebraicMultigrid({name}, {self.smoother}, {s.cycle} cycle in {dtype}, {self.device})\n"
            f"{self.hierarchy!r}"
        )


@final
class _Transposed(Inverse):
    """The cycle with every matrix transposed, for operators that are not symmetric."""

    def __init__(self, M: AlgebraicMultigrid) -> None:
        super().__init__(M)
        self.M, self.hierarchy = M, M.hierarchy.transpose()

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Run one transposed cycle from zero on x."""
        _cycle(self.hierarchy, x, out)

    def transpose(self) -> LinearOperator:
        """Return M."""
        return self.M


def _cycle(hierarchy: Hierarchy, x: Tensor, out: Tensor) -> None:
    """Write one cycle from zero on x, (..., n), into out; inside in the type of the hierarchy."""
    b = x if x.ndim == 1 else x.reshape(-1, x.shape[-1]).mT.contiguous()  # (n,) or (n, k)
    if hierarchy.inverse.dtype == b.dtype:
        z = out if b.ndim == 1 else torch.empty_like(b)
        hierarchy.improve(b, z, zero=True)
    else:  # scaled, so that residuals of any size stay inside the range of the short type
        scale = b.abs().amax(0, keepdim=True)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        short = torch.empty_like(b, dtype=hierarchy.inverse.dtype)
        hierarchy.improve((b / scale).to(short.dtype), short, zero=True)
        z = short.to(b.dtype) * scale
    if z is not out:
        out.copy_(z if x.ndim == 1 else z.mT.reshape(x.shape))


def amg(settings: AMGSettings | None = None) -> Preconditioner:
    """Return the algebraic multigrid preconditioner with these settings.

    Source: Trottenberg, Oosterlee, Schueller, Multigrid (2001), appendix A; set-up by PyAMG.

    >>> import scipy.sparse as sp
    >>> from solvus.operators.linear import sparse
    >>> A = sparse(sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(1000, 1000)))
    >>> amg()(A).hierarchy.table[:2]
    [(1000, 2998), (500, 1498)]
    """
    return partial(AlgebraicMultigrid, settings=settings or AMGSettings())


@final
@dataclass(frozen=True)
class AMG(Solver):
    """Solve A x = b by multigrid cycles alone, x <- x + M (b - A x).

    `CG(amg(settings))` needs fewer steps and forgives a mediocre hierarchy; the bare cycle shows how good the
    hierarchy is, and needs no symmetry. May diverge for matrices that are not symmetric positive definite.
    """

    settings: AMGSettings = field(default_factory=AMGSettings)

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        return correct(problem, x, amg(self.settings), 1.0)

    def keeping(self) -> Solver:
        """Return the same method with a memory of the last hierarchy."""
        return Richardson(amg(self.settings)).keeping()
