"""Training losses: callables (prediction, target) -> one value per sample, (B,).

All take tensors (B, C, *space) of one shape. Norms run over channels and points together, or per channel and
then averaged with `per_channel`. A relative loss divides by max(||target||, epsilon sqrt(n)), n values in the
norm: a target whose root mean square lies below `epsilon` is measured against `epsilon`, so zero targets give
no infinity. The gradient at a perfect prediction is zero, not NaN. Half precision is raised to float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ...operators.linear.errors import ShapeMismatch

Loss = Callable[[Tensor, Tensor], Tensor]
Edge = Literal["open", "periodic"]


@final
@dataclass(frozen=True)
class RelativeL2:
    """Return ||p - y||_2 / ||y||_2 per sample.

    Args:
        per_channel: take the ratio for every channel, and their mean: fields of unequal size count the same.
        epsilon: see the head of this file; in units of the target.

    >>> RelativeL2()(torch.tensor([[[3.0, 5.0]]]), torch.tensor([[[3.0, 4.0]]]))
    tensor([0.2000])
    """

    per_channel: bool = False
    epsilon: float = 1e-8

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        p, y = _pair(prediction, target)
        first = 2 if self.per_channel else 1
        return _ratio(
            _norm(p - y, first), _norm(y, first), self.epsilon * math.sqrt(y[0].numel() / _split(y, first))
        )


@final
@dataclass(frozen=True)
class RelativeH1:
    """Return sqrt((||e||^2 + ||grad e||^2) / (||y||^2 + ||grad y||^2)) per sample, e = p - y.

    Derivatives along an open axis are differences of neighbours, (e_{i+1} - e_i) / h: the gradient of the
    piecewise linear interpolant, with no checkerboard in its kernel. Along a periodic axis they are spectral,
    k = 2 pi m / (n h), Nyquist included.

    Args:
        spacing: h, of every axis or per axis; in the unit of length in which gradients are to count.
        boundary: "open" or "periodic", of every axis or per axis; periodic grids leave the last point out.
        per_channel, epsilon: as in `RelativeL2`.

    >>> e = torch.tensor([[[0.0, 1.0, 0.0]]])
    >>> RelativeH1(spacing=0.5)(torch.ones(1, 1, 3) + e, torch.ones(1, 1, 3))  # sqrt((1 + 4 + 4) / 3)
    tensor([1.7321])
    """

    spacing: float | tuple[float, ...]
    boundary: Edge | tuple[Edge, ...] = "open"
    per_channel: bool = False
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if not isinstance(self.spacing, int | float):
            object.__setattr__(self, "spacing", tuple(self.spacing))
        if not isinstance(self.boundary, str):
            object.__setattr__(self, "boundary", tuple(self.boundary))
        steps = self.spacing if isinstance(self.spacing, tuple) else (self.spacing,)
        edges = self.boundary if isinstance(self.boundary, tuple) else (self.boundary,)
        if not all(h > 0 for h in steps):
            raise ValueError(f"spacing must be positive, got {self.spacing}")
        if not set(edges) <= {"open", "periodic"}:
            raise ValueError(f"boundary is 'open' or 'periodic' per axis, got {self.boundary}")

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        p, y = _pair(prediction, target)
        dim, first = y.ndim - 2, 2 if self.per_channel else 1
        steps = _per_axis(self.spacing, dim, "spacing")
        edges = _per_axis(self.boundary, dim, "boundary")

        def norm(v: Tensor) -> Tensor:
            parts = [_norm(v, first)]
            for axis, (h, edge) in enumerate(zip(steps, edges, strict=True), start=2):
                derivative = v.diff(dim=axis) / h if edge == "open" else _spectral_slope(v, axis, h)
                parts.append(_norm(derivative, first))
            return torch.linalg.vector_norm(torch.stack(parts), dim=0)

        return _ratio(norm(p - y), norm(y), self.epsilon * math.sqrt(y[0].numel() / _split(y, first)))


@final
@dataclass(frozen=True)
class BandLimitedH1:
    """Return ||w e_hat|| / ||w y_hat|| per sample, w = sqrt(1 + k_1^2 + ... + k_d^2): the loss of MgNO.

    e_hat is the orthonormal discrete Fourier transform and k are whole wave numbers, without 2 pi, whatever
    the boundary conditions. Wave numbers of `cut` and above count as 0, so that those modes have the weight 1
    of plain L2. This is not the H1 norm: do not report it as one.

    Args:
        cut: 20 in MgNO; of no effect where it is larger than half the points.
        radial: set all of k to zero where its length is at least `cut`; otherwise each component on its own.
        epsilon: as in `RelativeL2`.

    Source: He, Liu, Xu (2024), MgNO, the released training program.

    >>> y = torch.tensor([[[1.0, 0.0, -1.0, 0.0]]])  # cos(2 pi x): k = 1 alone, weight sqrt 2
    >>> BandLimitedH1()(y + 0.5, y)  # k = 0 has weight 1: ||0.5|| / (sqrt 2 ||y||)
    tensor([0.5000])
    """

    cut: float = 20
    radial: bool = False
    epsilon: float = 1e-8

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        p, y = _pair(prediction, target)
        space = y.shape[2:]
        squares = torch.zeros((), dtype=y.dtype, device=y.device)
        for axis, n in enumerate(space):
            full = torch.fft.rfftfreq if axis == len(space) - 1 else torch.fft.fftfreq
            k = full(n, d=1 / n, dtype=y.dtype, device=y.device)
            k2 = k.square() if self.radial else torch.where(k.abs() < self.cut, k.square(), 0.0)
            squares = squares[..., None] + k2
        if self.radial:
            squares = torch.where(squares < self.cut**2, squares, 0.0)
        weight = (1 + squares).sqrt() * _multiplicity(space[-1], y).sqrt()

        def norm(v: Tensor) -> Tensor:
            spectrum = torch.fft.rfftn(v, dim=tuple(range(2, v.ndim)), norm="ortho")
            return _norm(weight[..., None] * torch.view_as_real(spectrum), 1)

        return _ratio(norm(p - y), norm(y), self.epsilon * math.sqrt(y[0].numel()))


@final
@dataclass(frozen=True, init=False)
class Mixed:
    """Return the weighted sum of losses.

    >>> loss = Mixed({RelativeL2(): 1.0, RelativeH1(spacing=1 / 84): 0.1})
    >>> loss(torch.zeros(2, 1, 85, 85), torch.ones(2, 1, 85, 85))
    tensor([1.1000, 1.1000])
    """

    terms: tuple[tuple[Loss, float], ...]

    def __init__(self, terms: Mapping[Loss, float]) -> None:
        if not terms:
            raise ValueError("Mixed needs at least one loss with its weight")
        object.__setattr__(self, "terms", tuple((loss, float(weight)) for loss, weight in terms.items()))

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.stack([weight * loss(prediction, target) for loss, weight in self.terms]).sum(0)


@final
@dataclass(frozen=True)
class MaskedMSE:
    """Return the mean square error over the values that are known, per sample: those whose target is not NaN.

    A sample without a known value gives 0. For domains that differ between samples, and for tasks of which
    each sample has a part; write NaN where there is nothing.

    >>> y = torch.tensor([[[1.0, float("nan"), 3.0]]])
    >>> MaskedMSE()(torch.zeros(1, 1, 3), y)  # (1 + 9) / 2
    tensor([5.])
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        p, y = _pair(prediction, target)
        known = ~torch.isnan(y)
        squares = torch.where(known, p - torch.where(known, y, 0.0), 0.0).square().flatten(1)
        return squares.sum(1) / known.flatten(1).sum(1).clamp(min=1)


def describe(loss: Loss) -> str:
    """Return the name of a loss with its settings, the same in every process."""
    if isinstance(loss, Mixed):
        return f"Mixed({', '.join(f'{weight:g} {describe(term)}' for term, weight in loss.terms)})"
    if hasattr(loss, "__dataclass_fields__"):
        return repr(loss)
    return getattr(loss, "__qualname__", type(loss).__qualname__)


def _pair(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if prediction.shape != target.shape or target.ndim < 2:
        raise ShapeMismatch(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must have one shape "
            "(B, C, *space): check the channels of the network"
        )
    work = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    return prediction.to(work), target.to(work)


def _norm(v: Tensor, first: int) -> Tensor:
    """Return the Euclidean norm over all axes from `first` on."""
    return torch.linalg.vector_norm(v.flatten(first) if v.ndim > first else v[..., None], dim=-1)


def _split(y: Tensor, first: int) -> int:
    """Return into how many norms the values of a sample are split."""
    return y.shape[1] if first == 2 else 1


def _ratio(error: Tensor, scale: Tensor, least: float) -> Tensor:
    ratio = error / scale.clamp(min=least)
    return ratio.mean(1) if ratio.ndim == 2 else ratio


def _multiplicity(n: int, like: Tensor) -> Tensor:
    """Return how often each column of a real transform of n points stands in the full one."""
    twice = torch.full((n // 2 + 1,), 2.0, dtype=like.dtype, device=like.device)
    twice[0] = 1.0
    if n % 2 == 0:
        twice[-1] = 1.0
    return twice


def _spectral_slope(v: Tensor, axis: int, h: float) -> Tensor:
    """Return numbers whose Euclidean norm is that of the spectral derivative along an axis (Parseval)."""
    n = v.shape[axis]
    k = 2 * math.pi * torch.fft.rfftfreq(n, d=h, dtype=v.dtype, device=v.device)
    spectrum = torch.fft.rfft(v.movedim(axis, -1), norm="ortho")
    slope = torch.view_as_real(spectrum) * (k * _multiplicity(n, v).sqrt())[:, None]
    return slope.flatten(-2)


def _per_axis(value: float | str | Sequence[float] | Sequence[str], dim: int, name: str) -> Sequence:
    values = (value,) * dim if isinstance(value, int | float | str) else value
    if len(values) != dim:
        raise ShapeMismatch(f"{name} {value} has {len(values)} values, the fields have {dim} axes of space")
    return values
