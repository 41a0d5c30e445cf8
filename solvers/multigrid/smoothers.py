"""Symmetric smoothers for sparse matrices: damped Jacobi, l1-Jacobi and Chebyshev, made of products alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from torch import Tensor

from ...operators.linear.errors import ZeroDiagonal

_LANCZOS_STEPS = 15


def residual_into(matrix: Tensor, b: Tensor, x: Tensor, out: Tensor) -> Tensor:
    """Write b - A x into out; b and x are (n,) or (n, k)."""
    return (torch.addmv if b.ndim == 1 else torch.addmm)(b, matrix, x, alpha=-1, out=out)


def add_product(matrix: Tensor, x: Tensor, out: Tensor) -> Tensor:
    """Add A x to out."""
    return (torch.addmv if x.ndim == 1 else torch.addmm)(out, matrix, x, out=out)


def product_into(matrix: Tensor, x: Tensor, out: Tensor) -> Tensor:
    """Write A x into out."""
    return (torch.addmv if x.ndim == 1 else torch.addmm)(out, matrix, x, beta=0, out=out)


class Relaxation(ABC):
    """A smoother bound to one matrix: x <- x + S (b - A x) with a symmetric S."""

    @abstractmethod
    def relax(
        self,
        b: Tensor,  # (n,) or (n, k)
        x: Tensor,  # as b, changed in place
        work: tuple[Tensor, Tensor],  # two of the shape of b
        zero: bool,  # x counts as zero, whatever it holds
    ) -> None:
        """Improve x in place."""

    @abstractmethod
    def on(self, tensor: Tensor) -> Relaxation:
        """Return the same smoother, weights and all, for another matrix (the transposed one)."""


class Smoother(ABC):
    """Settings of a smoother; `bind` makes it fit a matrix."""

    @abstractmethod
    def bind(self, matrix: sp.csr_array, tensor: Tensor, *, symmetric: bool) -> Relaxation:
        """Return the smoother of a matrix given twice: on the CPU (set-up), and where the cycles run."""


@final
class _PointRelaxation(Relaxation):
    """Sweeps x <- x + w * (b - A x) with one weight per unknown."""

    def __init__(self, tensor: Tensor, weights: Tensor, sweeps: int) -> None:
        self._matrix, self._weights, self._sweeps = tensor, weights, sweeps

    def on(self, tensor: Tensor) -> Relaxation:
        """Return the same smoother for another matrix."""
        return _PointRelaxation(tensor, self._weights, self._sweeps)

    def relax(self, b: Tensor, x: Tensor, work: tuple[Tensor, Tensor], zero: bool) -> None:
        """Sweep."""
        w = self._weights if b.ndim == 1 else self._weights[:, None]
        for sweep in range(self._sweeps):
            if zero and sweep == 0:
                torch.mul(b, w, out=x)
            else:
                x.addcmul_(residual_into(self._matrix, b, x, work[0]), w)


@final
class _ChebyshevRelaxation(Relaxation):
    """The Chebyshev iteration on D^-1 A (or A) for a target interval of its spectrum."""

    def __init__(
        self, tensor: Tensor, scale: Tensor | None, interval: tuple[float, float], degree: int
    ) -> None:
        self._matrix, self._scale, self._interval, self._degree = tensor, scale, interval, degree

    def on(self, tensor: Tensor) -> Relaxation:
        """Return the same smoother for another matrix."""
        return _ChebyshevRelaxation(tensor, self._scale, self._interval, self._degree)

    def relax(self, b: Tensor, x: Tensor, work: tuple[Tensor, Tensor], zero: bool) -> None:
        """Run the three-term recurrence."""
        r, d = work
        low, high = self._interval
        centre, half = (high + low) / 2, (high - low) / 2
        scale = self._scale if self._scale is None or b.ndim == 1 else self._scale[:, None]
        rho = half / centre
        for step in range(self._degree):
            first = zero and step == 0
            source = b if first else residual_into(self._matrix, b, x, r)
            scaled = source if scale is None else torch.mul(source, scale, out=r)
            if step == 0:
                torch.mul(scaled, 1 / centre, out=d)
            else:
                previous, rho = rho, 1 / (2 * centre / half - rho)
                d.mul_(rho * previous).add_(scaled, alpha=2 * rho / half)
            if first:
                x.copy_(d)
            else:
                x.add_(d)


def _like(tensor: Tensor, values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).to(tensor.device, tensor.dtype)


def _inverse_diagonal(matrix: sp.csr_array) -> np.ndarray:
    diagonal = matrix.diagonal()
    if (diagonal == 0).any():
        row = int(np.flatnonzero(diagonal == 0)[0])
        raise ZeroDiagonal(
            f"the smoother divides by the diagonal, and row {row} of {matrix.shape[0]} has a zero "
            "there: eliminate the unknown or use a direct solver"
        )
    return 1.0 / diagonal


def spectral_radius(matrix: sp.csr_array, *, scaled: bool, symmetric: bool) -> float:
    """Estimate the largest |eigenvalue| of D^-1 A (scaled) or of A, from below and to a few per cent.

    Symmetric matrices: 15 Lanczos steps from a fixed start vector; others: PyAMG's restarted Arnoldi method.
    """
    diagonal = matrix.diagonal()
    if not symmetric or (scaled and (diagonal <= 0).any()):
        from pyamg.relaxation.smoothing import rho_D_inv_A
        from pyamg.util.linalg import approximate_spectral_radius

        return float(rho_D_inv_A(matrix) if scaled else approximate_spectral_radius(matrix))
    root = 1 / np.sqrt(diagonal) if scaled else np.ones(1)
    q = np.random.default_rng(0).standard_normal(matrix.shape[0])
    q /= np.linalg.norm(q)
    before, alphas, betas = np.zeros_like(q), [], [0.0]
    for _ in range(min(_LANCZOS_STEPS, matrix.shape[0])):
        w = root * (matrix @ (root * q)) - betas[-1] * before
        alphas.append(float(w @ q))
        w -= alphas[-1] * q
        betas.append(float(np.linalg.norm(w)))
        if betas[-1] <= 1e-12 * abs(alphas[0]):  # the Krylov space is exhausted
            break
        before, q = q, w / betas[-1]
    values = scipy.linalg.eigvalsh_tridiagonal(alphas, betas[1 : len(alphas)])
    return float(np.abs(values).max())


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


@final
@dataclass(frozen=True)
class DampedJacobi(Smoother):
    """Smooth by x <- x + omega / rho(D^-1 A) * D^-1 (b - A x).

    Args:
        omega: 0 < omega < 2; 4/3 damps the upper half of a Poisson spectrum evenly.
        sweeps: how many before and how many after the coarse correction.

    Source: Trottenberg, Oosterlee, Schueller, Multigrid (2001), section 2.1; the scaling by rho is PyAMG's.
    """

    omega: float = 4 / 3
    sweeps: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.omega < 2:
            raise ValueError(f"damped Jacobi needs 0 < omega < 2 to be convergent, got {self.omega}")
        _positive("sweeps", self.sweeps)

    def bind(self, matrix: sp.csr_array, tensor: Tensor, *, symmetric: bool) -> Relaxation:
        """Return the smoother of a matrix."""
        inverse = _inverse_diagonal(matrix)
        radius = spectral_radius(matrix, scaled=True, symmetric=symmetric)
        return _PointRelaxation(tensor, _like(tensor, self.omega / radius * inverse), self.sweeps)


@final
@dataclass(frozen=True)
class L1Jacobi(Smoother):
    """Smooth by x <- x + omega * (b - A x)_i / sum_j |a_ij|.

    Convergent for every symmetric positive definite matrix and 0 < omega < 2, without eigenvalue estimates.
    Source: Baker, Falgout, Kolev, Yang, SIAM J. Sci. Comput. 33 (2011) 2864.
    """

    omega: float = 1.0
    sweeps: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.omega < 2:
            raise ValueError(f"l1-Jacobi needs 0 < omega < 2 to be convergent, got {self.omega}")
        _positive("sweeps", self.sweeps)

    def bind(self, matrix: sp.csr_array, tensor: Tensor, *, symmetric: bool) -> Relaxation:
        """Return the smoother of a matrix."""
        rows = np.asarray(abs(matrix).sum(axis=1)).ravel()
        if (rows == 0).any():
            raise ZeroDiagonal(f"row {int(np.flatnonzero(rows == 0)[0])} of the matrix is zero: remove it")
        return _PointRelaxation(tensor, _like(tensor, self.omega / rows), self.sweeps)


@final
@dataclass(frozen=True)
class ChebyshevSmoother(Smoother):
    """Smooth by the Chebyshev iteration for [low * rho, high * rho], rho the spectral radius of D^-1 A.

    Each degree costs one product with A. The interval need not hold the lower end of the spectrum, which is
    the coarse grid's affair; below it the error still shrinks, so that the smoother is convergent.

    Args:
        degree: of the polynomial; 2 to 4.
        low, high: the interval as shares of rho. 0.1 to 0.3 suits hierarchies that coarsen by two to three
            per axis; PyAMG takes 1/30 with A unscaled and degree 3, and needs up to twice the steps.
        scaled: take D^-1 A, fit for coefficients that vary; False takes A itself.

    Source: Adams, Brezina, Hu, Tuminaro, J. Comput. Phys. 188 (2003) 593; Saad (2003), algorithm 12.1.
    """

    degree: int = 2
    low: float = 0.2
    high: float = 1.1
    scaled: bool = True

    def __post_init__(self) -> None:
        _positive("degree", self.degree)
        if not 0 < self.low < self.high or self.high < 1:
            raise ValueError(
                f"Chebyshev needs 0 < low < high and high >= 1 to cover the spectrum, got {self.low} "
                f"and {self.high}"
            )

    def bind(self, matrix: sp.csr_array, tensor: Tensor, *, symmetric: bool) -> Relaxation:
        """Return the smoother of a matrix."""
        inverse = _inverse_diagonal(matrix) if self.scaled else None
        radius = spectral_radius(matrix, scaled=self.scaled, symmetric=symmetric)
        interval = (self.low * radius, self.high * radius)
        scale = None if inverse is None else _like(tensor, inverse)
        return _ChebyshevRelaxation(tensor, scale, interval, self.degree)
