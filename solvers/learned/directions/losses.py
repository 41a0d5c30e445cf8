"""Losses of direction networks, without solutions: how much of a residual does a direction take away?

All compare a direction q with a target (B, 4, X + 2, Y + 2, Z + 2): the right-hand side b (of `EnergyLeft`
the error), then the image of the cells (`cell_image`), in that order of channels. The operator is the graph
Laplacian of the fluid cells, h^2 times `Diffusion` with coefficient 1: it does not depend on the spacing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from ....operators.linear.errors import ShapeMismatch
from .network import FLUID, OPEN

_LEAST = 1e-10  # energies in float32 are not known better


@final
@dataclass(frozen=True)
class LineSearchResidual:
    """Return ||b - alpha A q||^2 with alpha = (q.b) / (q.A q), per sample: for unit b, of `DCDMNetwork`.

    The scale of q does not matter. alpha minimises the A-norm of the error, not the residual, so that the
    loss may exceed 1. Where q.A q is not positive alpha is 0.

    Source: Kaneda et al., ICML 2023, PMLR 202:15720.

    >>> from solvus.meshes import Grid
    >>> from solvus.solvers.learned.directions import Residuals
    >>> (b, _), target = Residuals([Grid((8, 8, 8), centring="cell", boundary="neumann")], 1)[0]
    >>> loss = LineSearchResidual()
    >>> bool(torch.isclose(loss(b[None], target[None]), loss(-7 * b[None], target[None])))
    True
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        q, b, image = _parts(prediction, target)
        Aq = graph_laplacian(image, q)
        slope, curvature = _dot(q, b), _dot(q, Aq)
        sound = curvature > torch.finfo(q.dtype).tiny
        alpha = torch.where(sound, slope / torch.where(sound, curvature, 1.0), 0.0)
        r = b - alpha[:, None, None, None, None] * Aq
        return _dot(r, r)


@final
@dataclass(frozen=True)
class ResidualNorm:
    """Return ||b - A q||, per sample: for unit b, of `MultilevelNetwork`. The scale of q matters.

    Source: Lan et al., ICML 2024, arXiv 2310.00177.
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        q, b, image = _parts(prediction, target)
        return torch.linalg.vector_norm((b - graph_laplacian(image, q)).flatten(1), dim=1)


@final
@dataclass(frozen=True)
class EnergyLeft:
    """Return 1 - (q.r)^2 / (x.r q.A q), r = A x, per sample: for `SymmetricMultilevelNetwork`.

    The share of the error's energy x.A x that the best step along q leaves, 0 to 1; the scale of q does not
    matter. For q = M r it is at most ((k - 1) / (k + 1))^2, k the condition number of M A (Kantorovich), so
    that it speaks for the steps of preconditioned CG. Residual norms do not: they weigh rough errors with
    another power of A, and training on them raised the iterations of CG. Needs errors: see `KnownErrors`.

    Args:
        logarithm: return the logarithm, in which easy and hard residuals weigh alike: for `UnrolledCG`.

    >>> from solvus.meshes import Grid
    >>> from solvus.solvers.learned.directions import KnownErrors
    >>> _, target = KnownErrors([Grid((8, 8, 8), centring="cell", boundary="neumann")], 1)[0]
    >>> x = target[None, :1, 1:-1, 1:-1, 1:-1]
    >>> bool(EnergyLeft()(-7 * x, target[None]).abs() < 1e-5)
    True
    """

    logarithm: bool = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        q, x, image = _parts(prediction, target)
        r, Aq = graph_laplacian(image, x), graph_laplacian(image, q)
        slope, curvature = _dot(q, r), _dot(q, Aq)
        sound = curvature > torch.finfo(q.dtype).tiny
        best = torch.where(sound, slope / torch.where(sound, curvature, 1.0), 0.0)[:, None, None, None, None]
        left = _dot(x - best * q, r - best * Aq) / _dot(x, r)
        return left.clamp_min(_LEAST).log() if self.logarithm else left


def graph_laplacian(image: Tensor, q: Tensor) -> Tensor:
    """Return A q = sum over neighbours (q - q_neighbour), fluid ones, + 2 q per open one.

    Args:
        image: (B or 1, 3, X + 2, Y + 2, Z + 2), see `cell_image`.
        q: (B, 1, X, Y, Z); what it holds outside of the fluid is not looked at.

    An open neighbour is held at zero half a cell away, hence the 2. A q is zero outside of the fluid.
    """
    fluid = image[:, FLUID : FLUID + 1]
    degree = fluid + 2 * image[:, OPEN : OPEN + 1]
    inside = (..., slice(1, -1), slice(1, -1), slice(1, -1))
    u = functional.pad(q, (1,) * 6) * fluid
    diagonal, neighbours = torch.zeros_like(degree[inside]), torch.zeros_like(q)
    for axis in (-3, -2, -1):
        for shift in (1, -1):
            diagonal = diagonal + degree.roll(shift, axis)[inside]
            neighbours = neighbours + u.roll(shift, axis)[inside]
    return fluid[inside] * (diagonal * u[inside] - neighbours)


def _parts(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, b, image."""
    ringed = (len(prediction), 4, *(n + 2 for n in prediction.shape[2:]))
    if prediction.ndim != 5 or prediction.shape[1] != 1 or tuple(target.shape) != ringed:
        raise ShapeMismatch(
            f"the direction has shape {tuple(prediction.shape)}, the target {tuple(target.shape)}: needed "
            "are (B, 1, X, Y, Z), and b with the image of the cells, (B, 4, X + 2, Y + 2, Z + 2), as "
            "`Residuals` gives them"
        )
    return prediction, target[:, :1, 1:-1, 1:-1, 1:-1], target[:, 1:]


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return torch.linalg.vecdot(u.flatten(1), v.flatten(1))
