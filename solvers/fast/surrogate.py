"""The constant-coefficient box problem that stands in for a variable or masked one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...meshes.grid import Grid
from ...operators.linear.diffusion import Diffusion
from ...operators.linear.queries import diagonal
from .separable import axis_transform


@dataclass(frozen=True)
class Surrogate:
    """inv(A) ~ S inv(L) S + E, with L constant-coefficient diffusion on the full box.

    Attributes:
        coefficient, reaction: of L; a number or (B,).
        scale: diagonal of S, 0 where the mask or isolation cuts an unknown off, (n,) or (B, n); None: ones.
        rest: diagonal of E, the inverse of the rows that S leaves out; None: zeros.
        scaled: whether S scales by the local coefficient, () or (B,).
    """

    coefficient: Tensor | float
    reaction: Tensor | float
    scale: Tensor | None
    rest: Tensor | None
    scaled: Tensor


def surrogate(A: Diffusion, scaling: bool | None) -> Surrogate:
    """Fit a box problem to A.

    Without scaling L has the mean coefficient k and the mean reaction: the condition number is about the
    contrast max k / min k. With scaling S = k^(-1/2): the substitution w = k^(1/2) u turns
    -div(k grad u) + c u into -laplacian w + q w with the potential q = (laplacian k^(1/2)) / k^(1/2) + c / k,
    and L gets the mean of q: the condition number is about 1 + dq / lambda, dq the variation of q and lambda
    the lowest eigenvalue of the box. None for `scaling` takes what is smaller, with the standard deviation of
    q for dq.
    """
    grid, constant = A.grid, A.coefficient is not None and A.reaction is not None
    no = torch.tensor(False)
    if constant and (grid.mask is None or grid.mask.all()):
        return Surrogate(A.coefficient, A.reaction, None, None, no)  # type: ignore[arg-type]
    held = neighbour_sum(A)
    inside = held > 0
    rest = None if bool(inside.all()) else torch.where(inside, 0.0, diagonal(A).reciprocal())
    if constant:
        return Surrogate(A.coefficient, A.reaction, inside.to(A.dtype), rest, no)  # type: ignore[arg-type]
    unit = Diffusion(grid, 1.0, dtype=A.dtype, device=A.device)
    reference = neighbour_sum(unit)
    free = inside & (
        diagonal(unit) - reference < 1e-4 * reference
    )  # no wall: the row sum of A is the reaction
    local = torch.where(inside, held / torch.where(inside, reference, 1.0), 1.0)
    mean = held.sum(-1) / reference.sum(-1) if bool(inside.any()) else torch.ones_like(held[..., 0])
    if A.nullspace is not None:
        reaction = torch.zeros_like(mean)
    elif A.reaction is not None:
        reaction = torch.full_like(mean, A.reaction)
    else:
        reaction, _ = _potential(A, inside.to(A.dtype), free)
    root = torch.where(inside, local.rsqrt(), 0.0)
    potential, deviation = _potential(A, root, free)
    contrast = local.amax(-1) / local.masked_fill(~inside, torch.inf).amin(-1)
    gains = 1 + deviation / _lowest_eigenvalue(grid) < contrast
    scaled = gains if scaling is None else torch.full_like(gains, scaling)
    return Surrogate(
        torch.where(scaled, 1.0, mean),
        torch.where(scaled, potential, reaction),
        torch.where(scaled[..., None], root, inside.to(A.dtype)),
        rest,
        scaled,
    )


def neighbour_sum(A: Diffusion) -> Tensor:
    """Sum of the couplings of each unknown to its neighbours, (..., n): the diagonal less reaction, walls."""
    shape = A.grid.shape
    total = A.diag.new_zeros(*A.batch_shape, *shape)
    for axis, (t, wrap) in enumerate(zip(A.couplings, A.wraps, strict=True)):
        a, n = axis - A.grid.dim, shape[axis]
        total.narrow(a, 0, n - 1).add_(t)
        total.narrow(a, 1, n - 1).add_(t)
        if wrap is not None:
            total.narrow(a, 0, 1).add_(wrap)
            total.narrow(a, n - 1, 1).add_(wrap)
    return total.reshape(*A.batch_shape, -1)


def _potential(A: Diffusion, s: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, at least 0, and standard deviation of s (A s) / w over the free unknowns, (...)."""
    s = s.expand(free.shape) if s.ndim < free.ndim else s
    q = torch.where(free, s * A.matvec(s) / torch.where(free, A.weights(), 1.0), 0.0)
    count = free.sum(-1).clamp_min(1)
    mean = q.sum(-1) / count
    variance = torch.where(free, q - mean[..., None], 0.0).square().sum(-1) / count
    return mean.clamp_min(0), variance.sqrt()


def _lowest_eigenvalue(grid: Grid) -> float:
    """Smallest positive eigenvalue of the negative Laplacian on the full box."""
    lines = [
        axis_transform(grid, axis).eigenvalues / h**2
        for axis, h in zip(range(grid.dim), grid.spacing, strict=True)
    ]
    base = sum(float(line.min()) for line in lines)
    if base > 0:
        return base
    return min((float(line[line > 0].min()) for line in lines if (line > 0).any()), default=1.0)
