"""Inner products over the last axis, kept broadcastable, and division that lets finished samples rest."""

from __future__ import annotations

import torch
from torch import Tensor


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Return sum_i conj(x_i) y_i, (..., 1)."""
    return torch.linalg.vecdot(x, y, dim=-1).unsqueeze(-1)


def norm(x: Tensor) -> Tensor:
    """Return ||x||, (..., 1)."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def working(done: Tensor | None, norm: Tensor) -> Tensor:
    """Return which samples are still worked on, bool (..., 1): not done, and of a residual that is not 0.

    Args:
        done: what `solve` sent back, bool (...); None where nobody did.
        norm: residual norms (..., 1).
    """
    busy = norm != 0
    return busy if done is None else busy & ~done.unsqueeze(-1)


def ratio(a: Tensor, b: Tensor, busy: Tensor) -> Tensor:
    """Return a / b for the busy samples and 0 for the others, so that a step along it changes nothing."""
    return torch.where(busy, a / b, 0.0)
