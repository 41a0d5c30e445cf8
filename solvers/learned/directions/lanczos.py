"""Ritz vectors of a symmetric operator by Lanczos with full re-orthogonalisation, for small matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ....operators.linear.base import LinearOperator
from ....operators.linear.errors import NotSupported


@final
@dataclass(frozen=True)
class RitzModes:
    """Ritz pairs of an operator: A v ~ theta v in the Krylov space.

    Attributes:
        values: theta, ascending, (m,).
        vectors: orthonormal, (m, n).
    """

    values: Tensor
    vectors: Tensor

    def draw(
        self, count: int, generator: torch.Generator, *, weight: float = 9.0, low: float = 0.55
    ) -> Tensor:
        """Return right-hand sides b = sum_i c_i v_i of unit norm, (count, n).

        The c_i are normal, of standard deviation `weight` for the lowest share `low` of the Ritz vectors.
        """
        m = len(self.values)
        c = torch.randn(count, m, generator=generator, dtype=torch.float64).to(self.vectors)
        c[:, : round(low * m)] *= weight
        b = c @ self.vectors
        return b / b.norm(dim=-1, keepdim=True)


def ritz_modes(A: LinearOperator, steps: int, generator: torch.Generator, *, drop: float = 1e-8) -> RitzModes:
    """Return the Ritz pairs of A after some Lanczos steps from A x, x random.

    Every new vector is made orthogonal to all former ones, twice. Fewer pairs come back where the Krylov
    space ends early, and where Ritz values are below `drop` times the largest: those belong to a null space.
    Memory: 2 steps vectors; 10,000 of them for 128^3 unknowns would take 336 GB, so use `BoxModes` on boxes.

    Args:
        A: symmetric, one operator.
        steps: dimension of the Krylov space; at most n.
        generator: of the start, on the CPU.
        drop: see above.

    Raises:
        NotSupported: an operator that is not declared symmetric, or a batch.
        ValueError: steps < 1.

    Source: Saad, Numerical Methods for Large Eigenvalue Problems (2011), section 6.6.

    >>> from solvus.operators.linear import Diagonal, SPD
    >>> A = Diagonal(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64), tags=SPD)
    >>> ritz_modes(A, 3, torch.Generator().manual_seed(0)).values.round(decimals=6).tolist()
    [1.0, 2.0, 5.0]
    """
    if not A.symmetric or A.batch_shape:
        what = f"a batch of {tuple(A.batch_shape)}" if A.batch_shape else "not declared symmetric"
        raise NotSupported(
            f"Lanczos works on one symmetric operator, this one is {what}: declare tags={{Tag.SYMMETRIC}} if "
            "it is, or call it for each one"
        )
    if steps < 1:
        raise ValueError(f"Lanczos takes at least 1 step, got {steps}")
    n = A.shape[0]
    steps = min(steps, n)
    v = A.matvec(torch.randn(n, generator=generator, dtype=torch.float64).to(A.device, A.dtype))
    basis = torch.zeros(steps, n, dtype=A.dtype, device=A.device)
    alphas, betas = [], []
    size = v.norm()
    scale, m = float(size), 0
    while m < steps and float(size) > 1e3 * torch.finfo(A.dtype).eps * scale:
        basis[m] = v / size
        if m:
            betas.append(size)
        v = A.matvec(basis[m])
        alphas.append(v @ basis[m])
        m += 1
        for _ in range(2):
            v = v - (basis[:m] @ v) @ basis[:m]
        scale = max(scale, float(alphas[-1].abs())) if m > 1 else float(alphas[-1].abs())
        size = v.norm()
    T = torch.diag(torch.stack(alphas))
    if betas:
        side = torch.stack(betas)
        T = T + torch.diag(side, 1) + torch.diag(side, -1)
    values, rotation = torch.linalg.eigh(T)
    kept = values > drop * values[-1]
    return RitzModes(values[kept], rotation.mT[kept] @ basis[:m])
