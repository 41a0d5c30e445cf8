"""Bounds of the spectrum from a few Lanczos steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...operators.linear.base import LinearOperator
from ..base import Breakdown
from .vectors import dot, ratio


def ritz_bounds(
    A: LinearOperator, M: LinearOperator, steps: int = 20, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest Ritz value of M A, (..., 1) each, A and M SPD.

    They lie inside the spectrum: the largest eigenvalue is met to a few per cent after some 10 steps, the
    smallest one much later. Where A has a known null space, the zero eigenvalue is left out. The start is
    random, the same for every sample of a batch and every call with the same seed.

    Raises:
        Breakdown: when A or M proves not to be positive definite.

    Source: Saad, Iterative Methods for Sparse Linear Systems (2003), section 6.7.3 (Lanczos from CG).
    """
    generator = torch.Generator().manual_seed(seed)
    r = torch.randn(A.shape[0], generator=generator, dtype=torch.float64).to(A.device, A.dtype)
    if A.nullspace is not None:
        r = A.nullspace.project(r)
    r = r.expand(*A.batch_shape, -1).clone()
    z, q = M.matvec(r).clone(), torch.empty_like(r)
    p = z.clone()
    rz = dot(r, z)
    floor = torch.finfo(r.dtype).eps ** 2 * rz
    alphas, betas = [], []
    for _ in range(min(steps, A.shape[0])):
        busy = rz > floor
        A.matvec_into(p, q)
        curvature = dot(p, q)
        if bool((busy & (curvature <= 0)).any()) or bool((rz < 0).any()):
            raise Breakdown("A or the preconditioner is not positive definite: use GMRES")
        alphas.append(ratio(rz, curvature, busy))
        r.addcmul_(q, alphas[-1], value=-1)
        M.matvec_into(r, z)
        rz, rz_old = dot(r, z), rz
        betas.append(ratio(rz, rz_old, busy))
        p.mul_(betas[-1]).add_(z)
    alpha, beta = (torch.cat(c, -1).double().cpu().numpy() for c in (alphas, betas))
    ends = [
        _ends(a, b) for a, b in zip(alpha.reshape(-1, len(alphas)), beta.reshape(-1, len(betas)), strict=True)
    ]
    low, high = (
        torch.tensor(e, dtype=A.dtype, device=A.device).reshape(rz.shape) for e in zip(*ends, strict=True)
    )
    return low, high


def _ends(alpha: np.ndarray, beta: np.ndarray) -> tuple[float, float]:
    """Extreme eigenvalues of the tridiagonal matrix that belongs to CG's coefficients."""
    k = int((alpha > 0).sum())
    if k == 0:  # nothing but the null space
        return 1.0, 1.0
    alpha, beta = alpha[:k], beta[: k - 1]
    main = 1 / alpha
    main[1:] += beta / alpha[:-1]
    side = np.sqrt(beta) / alpha[:-1]
    values = np.linalg.eigvalsh(np.diag(main) + np.diag(side, 1) + np.diag(side, -1))
    return float(values[0]), float(values[-1])
