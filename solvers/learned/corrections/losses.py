"""Losses of correction networks, relative and free of the scale of A and of the residual.

Both compare a correction f(r), (B, 1, *shape), with a target (B, 3 + dim, *shape): the residual r, the error
e = A^-1 r, and the stencil of A (`stencil_channels`), in that order of channels: what `CorrectionData` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ....operators.linear.errors import ShapeMismatch
from .stencil import apply_stencil


@final
@dataclass(frozen=True)
class NotayLoss:
    """Return ||alpha f(r) - e||_A / ||e||_A per sample: what a step leaves of the error in the energy norm.

    Args:
        line_search: alpha = f.r / f.A f, as flexible CG and `Hybrid` step: the scale of f does not matter,
            the value is sqrt(1 - (f.r)^2 / (f.A f e.r)), at most 1. False: alpha = 1, the published loss.

    Source: Rudikov et al., ICML 2024, arXiv 2402.05598; the bound of Notay, SIAM J. Sci. Comput. 22 (2000).

    >>> from solvus.meshes import Grid
    >>> from solvus.solvers.learned.corrections import CorrectionData
    >>> x, y = CorrectionData(Grid((15, 15)), 2).tensors()
    >>> float(NotayLoss()(y[:, 1:2], y).max()) < 0.01  # the error itself leaves nothing, up to rounding
    True
    """

    line_search: bool = True

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        f, r, e, stencil = _parts(prediction, target)
        energy = _dot(e, r)
        if self.line_search:
            f = f * _step(f, r, apply_stencil(stencil, f))
        d = f - e
        left = _dot(d, apply_stencil(stencil, d))
        return (left / energy).clamp_min(torch.finfo(f.dtype).eps ** 2).sqrt()


@final
@dataclass(frozen=True)
class StencilResidual:
    """Return ||r - alpha A f(r)||^2 / ||r||^2 with alpha = f.r / f.A f per sample: no solution is needed.

    `LineSearchResidual` of the direction networks for operators with a coefficient. It may exceed 1.
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        f, r, _, stencil = _parts(prediction, target)
        Af = apply_stencil(stencil, f)
        d = r - _step(f, r, Af) * Af
        return _dot(d, d) / _dot(r, r)


def _step(f: Tensor, r: Tensor, Af: Tensor) -> Tensor:
    """Return f.r / f.Af, (B, 1, ...), 0 where f.Af is not positive."""
    curvature = _dot(f, Af)
    sound = curvature > torch.finfo(f.dtype).tiny
    step = torch.where(sound, _dot(f, r) / torch.where(sound, curvature, 1.0), 0.0)
    return step.reshape(-1, *[1] * (f.ndim - 1))


def _parts(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return f, r, e and the stencil."""
    dim = prediction.ndim - 2
    wanted = (len(prediction), dim + 3, *prediction.shape[2:])
    if dim < 1 or prediction.shape[1] != 1 or tuple(target.shape) != wanted:
        raise ShapeMismatch(
            f"the correction has shape {tuple(prediction.shape)}, the target {tuple(target.shape)}: needed "
            "are (B, 1, *shape), and residual, error and stencil, (B, 3 + dim, *shape), as `CorrectionData` "
            "gives them"
        )
    return prediction, target[:, :1], target[:, 1:2], target[:, 2:]


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return torch.linalg.vecdot(u.flatten(1), v.flatten(1))
