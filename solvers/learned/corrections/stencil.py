"""The stencil of a `Diffusion` as channels on the grid, which networks look at and losses multiply with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ....meshes.grid import Boundary
from ....operators.linear.base import LinearOperator
from ....operators.linear.diffusion import Diffusion
from ....operators.linear.errors import NotSupported


def stencil_channels(A: LinearOperator) -> Tensor:
    """Return the diagonal, then per axis the coupling of an unknown with the next one, (B, 1 + dim, *shape).

    The last unknown of an axis has no next one: zero. B is the batch of A, or 1.

    Raises:
        NotSupported: A is no `Diffusion`, or has periodic axes.

    >>> from solvus.meshes import Grid
    >>> stencil_channels(Diffusion(Grid((3,))))[0].tolist()
    [[32.0, 32.0, 32.0], [16.0, 16.0, 0.0]]
    """
    if not isinstance(A, Diffusion):
        raise NotSupported(
            f"a learned correction works on the grid of a Diffusion, this is {type(A).__name__}: use "
            "FlexibleCG(amg()) or CG(ic0()) for matrices"
        )
    if any(Boundary.PERIODIC in pair for pair in A.grid.boundary):
        raise NotSupported(
            "a learned correction knows Dirichlet and Neumann faces, this grid has a periodic axis: use "
            "CG(multigrid()) or CG(fast_transform())"
        )
    shape, dim = A.grid.shape, A.grid.dim
    batch = max(1, *A.batch_shape) if A.batch_shape else 1
    channels = [A.diag.detach().expand(batch, *shape)]
    for axis, coupling in enumerate(A.couplings):
        inner = tuple(n - (k == axis) for k, n in enumerate(shape))
        padding = [int(k == axis and side) for k in reversed(range(dim)) for side in (0, 1)]
        channels.append(functional.pad(coupling.detach().expand(batch, *inner), padding))
    return torch.stack(channels, 1)


def apply_stencil(stencil: Tensor, u: Tensor) -> Tensor:
    """Return A u for fields u (B, 1, *shape), stencil (B or 1, 1 + dim, *shape); differentiable."""
    y = stencil[:, :1] * u
    for axis in range(2, u.ndim):
        n = u.shape[axis]
        t = stencil[:, axis - 1 : axis].narrow(axis, 0, n - 1)
        upper, lower = t * u.narrow(axis, 1, n - 1), t * u.narrow(axis, 0, n - 1)
        padding = [0] * (2 * (u.ndim - 1 - axis))
        y = y - functional.pad(upper, [*padding, 0, 1]) - functional.pad(lower, [*padding, 1, 0])
    return y
