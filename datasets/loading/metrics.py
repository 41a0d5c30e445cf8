"""Errors of predicted fields, defined so that published figures can be compared.

All take predictions and references of the same shape, samples and channels first, (B, C, *space), compute in
float64 and return one value per sample, or per sample and channel: average as you report, `summary` gives
mean, median and worst. For trajectories (B, T, C, *space) `rollout_curve` applies any of them frame by frame.
NaN in a prediction stays NaN; `failure_rate` counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import pi

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]


def relative_l2(prediction: Tensor, reference: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ||e||_2 / ||u||_2 per sample, (B,), over all channels and points together.

    Args:
        prediction, reference: (B, ...); a rollout (B, T, C, *space) counts as one tensor, as FNO reports it.
        weights: quadrature weights that broadcast against a sample, on meshes; None for equal ones.

    >>> relative_l2(torch.tensor([[[3.0, 5.0]]]), torch.tensor([[[3.0, 4.0]]])).item()
    0.2
    """
    return _relative(prediction, reference, 2, weights)


def relative_l1(prediction: Tensor, reference: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ||e||_1 / ||u||_1 per sample, (B,); see `relative_l2`."""
    return _relative(prediction, reference, 1, weights)


def _relative(prediction: Tensor, reference: Tensor, power: int, weights: Tensor | None) -> Tensor:
    u, e = _error(prediction, reference)
    if weights is not None:
        weights = weights.double().expand(reference.shape[1:]).flatten()
    return _norm(e, power, weights) / _norm(u, power, weights)


def rmse(prediction: Tensor, reference: Tensor) -> Tensor:
    """Return sqrt(mean of e^2 over space), (B, C)."""
    _, e = _error(prediction, reference, channels=True)
    return _rms(e)


def nrmse(prediction: Tensor, reference: Tensor) -> Tensor:
    """Return the RMSE over the root mean square of the reference, (B, C): PDEBench averages it over all."""
    u, e = _error(prediction, reference, channels=True)
    return _rms(e) / _rms(u)


def vrmse(prediction: Tensor, reference: Tensor) -> Tensor:
    """Return sqrt(mean e^2 / (std(u)^2 + 1e-7)), (B, C), std over space and unbiased: The Well's main figure.

    1 is what predicting the mean of each field gives.
    """
    u, e = _error(prediction, reference, channels=True)
    return torch.sqrt(e.square().mean(-1) / (u.var(-1) + 1e-7))


def relative_h1(prediction: Tensor, reference: Tensor, lengths: Sequence[float] | None = None) -> Tensor:
    """Return the relative error in H1 of periodic fields, (B, C).

    sqrt(sum (1 + |k|^2) |e_hat|^2 / sum (1 + |k|^2) |u_hat|^2), k = 2 pi n / length. The default lengths of
    2 pi make k whole numbers: with others the figure is another one, say which you used.

    Args:
        prediction, reference: (B, C, *space), on all points of a period, the last one left out.
        lengths: of the periods, one per axis.
    """
    _error(prediction, reference, channels=True)
    shape = prediction.shape[2:]
    squares = _wave_numbers(shape, lengths or (2 * pi,) * len(shape), prediction.device).square().sum(0)
    u, e = reference.double(), prediction.double() - reference.double()
    axes = tuple(range(2, u.ndim))

    def norm(v: Tensor) -> Tensor:
        return torch.sqrt(((1 + squares) * torch.fft.fftn(v, dim=axes).abs().square()).flatten(2).sum(-1))

    return norm(e) / norm(u)


def fourier_rmse(prediction: Tensor, reference: Tensor, bands: Sequence[float] = (4, 12)) -> Tensor:
    """Return the RMSE of the Fourier coefficients in bands of |k|, (B, C, bands): low, middle and high.

    Coefficients are e_hat = mean of e exp(-i k x), over all whole wave numbers of periodic fields; |k| is
    Euclidean. PDEBench takes the positive quadrant alone and other factors: do not mix figures.

    Args:
        prediction, reference: (B, C, *space).
        bands: where a band ends and the next begins: k < 4, 4 <= k < 12, 12 <= k.
    """
    _error(prediction, reference, channels=True)
    shape = prediction.shape[2:]
    k = _wave_numbers(shape, (2 * pi,) * len(shape), prediction.device).square().sum(0).sqrt().flatten()
    e = prediction.double() - reference.double()
    power = torch.fft.fftn(e, dim=tuple(range(2, e.ndim)), norm="forward").abs().square().flatten(2)
    edges = [0.0, *bands, float("inf")]
    inside = [(k >= low) & (k < high) for low, high in pairwise(edges)]
    empty = [i for i, modes in enumerate(inside) if not modes.any()]
    if empty:
        raise ValueError(
            f"{tuple(shape)} points have no wave number in band {empty[0]} of {edges}: lower bands"
        )
    return torch.stack([power[..., modes].mean(-1).sqrt() for modes in inside], dim=-1)


def boundary_rmse(prediction: Tensor, reference: Tensor) -> Tensor:
    """Return the RMSE over the points on the faces of the box, (B, C)."""
    _error(prediction, reference, channels=True)
    edge = torch.zeros(prediction.shape[2:], dtype=torch.bool, device=prediction.device)
    for axis in range(edge.ndim):
        edge.select(axis, 0)[...] = True
        edge.select(axis, -1)[...] = True
    return _rms((prediction.double() - reference.double())[..., edge])


def conserved_error(prediction: Tensor, reference: Tensor) -> Tensor:
    """Return |mean of e over space|, (B, C): the error of what is conserved, per volume."""
    _, e = _error(prediction, reference, channels=True)
    return e.mean(-1).abs()


def max_error(prediction: Tensor, reference: Tensor) -> Tensor:
    """Return the largest |e| over space, (B, C)."""
    _, e = _error(prediction, reference, channels=True)
    return e.abs().amax(-1)


def correlation(prediction: Tensor, reference: Tensor) -> Tensor:
    """Return Pearson's correlation over space, (B, C); NaN where a field is constant."""
    u, e = _error(prediction, reference, channels=True)
    p = u + e
    p, u = p - p.mean(-1, keepdim=True), u - u.mean(-1, keepdim=True)
    return (p * u).sum(-1) / (p.square().sum(-1) * u.square().sum(-1)).sqrt()


def rollout_curve(prediction: Tensor, reference: Tensor, metric: Metric = relative_l2) -> Tensor:
    """Return a metric at every time of trajectories (B, T, C, *space): (B, T) or (B, T, C).

    Windows of a rollout are means of a part: The Well reports `curve[:, 6:12].mean()` and
    `curve[:, 13:30].mean()`.

    >>> u = torch.ones(1, 3, 1, 4)
    >>> rollout_curve(u * torch.tensor([1.0, 1.5, 2.0])[:, None, None], u)
    tensor([[0.0000, 0.5000, 1.0000]], dtype=torch.float64)
    """
    _trajectories(prediction, reference)
    return torch.stack([metric(prediction[:, t], reference[:, t]) for t in range(prediction.shape[1])], dim=1)


def correlation_time(prediction: Tensor, reference: Tensor, times: Tensor, threshold: float = 0.8) -> Tensor:
    """Return the first time at which the correlation, mean over channels, is below a threshold, (B,).

    A correlation that is NaN counts as below. Where it never falls the last time is returned: a lower bound.

    Args:
        prediction, reference: (B, T, C, *space).
        times: of the frames, (T,).
        threshold: 0.8 is usual.
    """
    values = rollout_curve(prediction, reference, correlation).mean(-1)
    times = torch.as_tensor(times, dtype=torch.float64, device=values.device)
    if times.shape != values.shape[1:]:
        raise ValueError(f"{values.shape[1]} frames need as many times, got the shape {tuple(times.shape)}")
    below = ~(values >= threshold)
    first = torch.where(below.any(1), below.int().argmax(1), len(times) - 1)
    return times[first]


def conservation_drift(trajectory: Tensor) -> Tensor:
    """Return |mean over space - that at the first time| of trajectories (B, T, C, *space): (B, T, C)."""
    _trajectories(trajectory, trajectory)
    means = trajectory.double().flatten(3).mean(-1)
    return (means - means[:, :1]).abs()


def failure_rate(prediction: Tensor) -> float:
    """Return the share of samples (B, ...) with a value that is NaN or infinite."""
    return float((~torch.isfinite(prediction.flatten(1)).all(1)).double().mean())


def summary(values: Tensor) -> Mapping[str, float]:
    """Return mean, median and worst of a metric's values.

    >>> summary(torch.tensor([1.0, 2.0, 6.0]))
    {'mean': 3.0, 'median': 2.0, 'worst': 6.0}
    """
    flat = values.double().flatten()
    return {"mean": float(flat.mean()), "median": float(flat.quantile(0.5)), "worst": float(flat.max())}


def _error(prediction: Tensor, reference: Tensor, *, channels: bool = False) -> tuple[Tensor, Tensor]:
    """Check shapes; return the reference and the error in float64, (B, n) or (B, C, n)."""
    if prediction.shape != reference.shape:
        raise ValueError(
            f"the prediction has the shape {tuple(prediction.shape)}, the reference "
            f"{tuple(reference.shape)}: bring both to the same, a difference in axes would be broadcast"
        )
    if prediction.ndim < (3 if channels else 2):
        needed = "(B, C, *space)" if channels else "(B, ...)"
        raise ValueError(
            f"needed are {needed}, got the shape {tuple(prediction.shape)}: add the missing axes"
        )
    if channels and prediction.ndim > 5:
        raise ValueError(f"a sample has 1 to 3 axes of space, got the shape {tuple(prediction.shape)}")
    lead = 2 if channels else 1
    u = reference.double()
    return u.flatten(lead), (prediction.double() - u).flatten(lead)


def _trajectories(prediction: Tensor, reference: Tensor) -> None:
    _error(prediction, reference)
    if prediction.ndim < 4:
        raise ValueError(f"trajectories are (B, T, C, *space), got the shape {tuple(prediction.shape)}")


def _rms(values: Tensor) -> Tensor:
    return values.square().mean(-1).sqrt()


def _norm(values: Tensor, power: int, weights: Tensor | None) -> Tensor:
    terms = values.abs() ** power
    if weights is not None:
        terms = terms * weights
    return terms.sum(-1) ** (1 / power)


def _wave_numbers(shape: Sequence[int], lengths: Sequence[float], device: torch.device) -> Tensor:
    """Return 2 pi n / length of all modes, (d, *shape)."""
    if len(lengths) != len(shape):
        raise ValueError(f"{len(shape)} axes need as many lengths, got {len(lengths)}")
    axes = [
        torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device=device) * (2 * pi / length)
        for n, length in zip(shape, lengths, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
