"""Chebyshev polynomial preconditioner."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
from torch import Tensor

from ...operators.linear.base import SPD, LinearOperator
from ...operators.linear.errors import NotSupported
from .base import Preconditioner
from .bounds import gershgorin, lanczos
from .inverse import Inverse
from .jacobi import nonzero_diagonal


@final
class ChebyshevPolynomial(Inverse):
    """M = p(D^-1 A) D^-1: the Chebyshev iteration for D^-1 A on [upper / ratio, upper], from zero.

    SPD by construction: with eigenvalues t of D^-1 A below upper + upper / ratio, 0 < t p(t) < 2. The upper
    end is Gershgorin's bound, which is certain, where the entries of A are at hand, else a Lanczos estimate.

    Args:
        A: symmetric positive definite, any device, batched or not.
        degree: of p: the number of products with A per application.
        ratio: upper end over lower end of the interval on which p is best.
        upper: upper end; None to find it.
    """

    def __init__(
        self, A: LinearOperator, degree: int = 3, ratio: float = 30.0, upper: float | None = None
    ) -> None:
        if not A.positive_definite:
            raise NotSupported(
                "the Chebyshev polynomial needs a symmetric positive definite operator, this one is not "
                "declared so: declare tags={Tag.SPD} if it is, else use ilu() or ssor()"
            )
        super().__init__(A, SPD)
        d = nonzero_diagonal(A)
        if not bool((d > 0).all()):
            raise NotSupported("the operator is declared SPD but has a negative diagonal entry: it is not")
        self.A, self.degree, self._inverse = A, degree, d.reciprocal()
        if upper is None:
            found = gershgorin(A)
            b = lanczos(A) if found is None else found
        else:
            b = torch.tensor(upper, dtype=A.dtype, device=A.device)
        self.upper = b  # (*batch) or ()
        a = b / ratio
        theta, delta = (b + a) / 2, (b - a) / 2
        sigma = theta / delta
        rho = 1 / sigma
        steps = []  # d <- decay d + gain D^-1 r
        for _ in range(degree):
            following = 1 / (2 * sigma - rho)
            steps.append((following * rho, 2 * following / delta))
            rho = following
        spread = lambda t: t.unsqueeze(-1)  # noqa: E731
        self._first = spread(1 / theta)  # (*batch, 1)
        self._steps = [(spread(decay), spread(gain)) for decay, gain in steps]

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write p(D^-1 A) D^-1 x into out."""
        torch.mul(x, self._inverse, out=out).mul_(self._first)
        if not self.degree:
            return
        r, direction, product = x.clone(), out.clone(), torch.empty_like(out)
        for decay, gain in self._steps:
            self.A.matvec_into(direction, product)
            r.sub_(product)
            torch.mul(r, self._inverse, out=product)
            direction.mul_(decay).addcmul_(product, gain)
            out.add_(direction)


def chebyshev(degree: int = 3, *, ratio: float = 30.0, upper: float | None = None) -> Preconditioner:
    """Make the Chebyshev polynomial preconditioner: SPD, matrix-free, any device, batched.

    The steps of CG fall about by the factor degree + 1, each costs degree + 1 products with A: a gain where
    inner products are dear (GPUs, clusters) or as a smoother, not in arithmetic.

    Args:
        degree: products with A per application, 0 is scaled Jacobi; good values 2 to 8.
        ratio: largest over smallest eigenvalue of D^-1 A that p aims at; 30 smooths, larger reaches lower.
        upper: bound of the largest eigenvalue of D^-1 A; None finds it (Gershgorin, else Lanczos).

    Source: Saad (2003), algorithm 12.1.

    Raises:
        ValueError: for degree < 0, ratio <= 1 or upper <= 0. When applied: NotSupported unless A is SPD,
            ZeroDiagonal.
    """
    if degree < 0 or not ratio > 1 or (upper is not None and not upper > 0):
        raise ValueError(
            f"chebyshev needs degree >= 0, ratio > 1 and upper > 0, got {degree}, {ratio} and {upper}"
        )
    return partial(ChebyshevPolynomial, degree=int(degree), ratio=float(ratio), upper=upper)
