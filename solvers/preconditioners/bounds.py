"""Upper bounds of the spectrum of D^-1 A, D the diagonal of A: Gershgorin and Lanczos."""

from __future__ import annotations

import torch
from torch import Tensor

from ...operators.linear.base import LinearOperator
from ...operators.linear.csr import CSR
from ...operators.linear.diffusion import Diffusion
from .jacobi import nonzero_diagonal


def gershgorin(A: LinearOperator) -> Tensor | None:
    """Return max_i sum_j |a_ij| / a_ii, (*batch): an upper bound of every eigenvalue of D^-1 A, certain.

    None where the entries of A are not at hand (only `CSR` and `Diffusion` show theirs).
    """
    d = nonzero_diagonal(A)
    if isinstance(A, CSR):
        sums = torch.zeros_like(d).index_add_(0, A.rows(), A.values.detach().abs())
    elif isinstance(A, Diffusion):  # off-diagonal entries are not positive: |A| 1 = 2 D 1 - A 1
        ones = torch.ones((*A.batch_shape, A.shape[1]), dtype=A.dtype, device=A.device)
        sums = 2 * d - A.matvec(ones).detach()
    else:
        return None
    return (sums / d).amax(-1)


def lanczos(A: LinearOperator, steps: int = 12) -> Tensor:
    """Return an upper estimate of the largest eigenvalue of D^-1 A, (*batch), A SPD.

    The largest Ritz value of D^-1/2 A D^-1/2 plus the norm of its residual, from a fixed random start: in
    practice a bound (Zhou and Li, 2011), though not a certain one. Costs `steps` products with A.
    """
    root = nonzero_diagonal(A).rsqrt()
    n = A.shape[0]
    steps = min(steps, n)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(n, generator=generator, dtype=torch.float64).to(A.device, A.dtype)
    v = start.expand(*A.batch_shape, n)
    v = v / v.norm(dim=-1, keepdim=True)
    previous, beta = torch.zeros_like(v), v.new_zeros(*A.batch_shape, 1)
    alphas, betas = [], []
    for _ in range(steps):
        w = root * A.matvec(root * v).detach() - beta * previous
        alpha = (w * v).sum(-1, keepdim=True)
        w = w - alpha * v
        beta = w.norm(dim=-1, keepdim=True)
        alphas.append(alpha[..., 0])
        betas.append(beta[..., 0])
        previous, v = v, w / beta.clamp_min(torch.finfo(A.dtype).tiny)
    T = torch.diag_embed(torch.stack(alphas, -1).double())  # (*batch, steps, steps)
    off = torch.stack(betas[:-1], -1).double() if steps > 1 else T.new_zeros(*A.batch_shape, 0)
    T = T + torch.diag_embed(off, offset=1) + torch.diag_embed(off, offset=-1)
    values, vectors = torch.linalg.eigh(T)
    residual = betas[-1].double() * vectors[..., -1, -1].abs()
    return (values[..., -1] + residual).to(A.dtype)
