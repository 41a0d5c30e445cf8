"""Inner products over the last axis, kept broadcastable, and division that lets converged samples rest."""

from __future__ import annotations

import torch
from torch import Tensor


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Return sum_i conj(x_i) y_i, (..., 1)."""
    return torch.linalg.vecdot(x, y, dim=-1).unsqueeze(-1)


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, and 0 where a is 0 (a sample that has converged exactly)."""
    return torch.where(a == 0, torch.zeros_like(a), a / b)
