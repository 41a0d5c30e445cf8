"""Truncated discrete Fourier transforms between fields and their low frequencies, by FFT and by matrices.

A field (B, C, *space) has coefficients `X_f = 1/n sum_j x_j exp(-2 pi i f j / n)`, so that they do not depend
on the grid. `modes` = (k1, ..., kd) keeps the frequencies 0, ..., k-1, -k, ..., -1 of every axis but the
last, and 0, ..., k-1 of the last, whose negative half is the conjugate of the positive one. They are stored
frequency first and in real numbers: (m, 2, B, C), with m kept frequencies (last axis fastest) and the real
and the imaginary part on the second axis.

The way back evaluates the trigonometric polynomial on a grid of any size. A coefficient at the highest
frequency n/2 of an even grid stands for cos(pi j), which both +n/2 and -n/2 take: it is shared out between
the two. Hence a finer output grid holds the values of the coarser one wherever the two meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


def kept_frequencies(modes: Sequence[int]) -> tuple[int, ...]:
    """Return how many frequencies each axis keeps.

    >>> kept_frequencies((12, 12))
    (24, 12)
    """
    return (*(2 * k for k in modes[:-1]), modes[-1])


def signed_frequencies(k: int) -> tuple[int, ...]:
    """Return the kept frequencies of an axis that is not the last, in the order of storage.

    >>> signed_frequencies(3)
    (0, 1, 2, -3, -2, -1)
    """
    return (*range(k), *range(-k, 0))


def analyse_by_fft(x: Tensor, modes: Sequence[int]) -> Tensor:
    """Return the low frequencies (m, 2, B, C) of x (B, C, *space), by FFT one axis after the other."""
    d, n, k = len(modes), x.shape[-1], modes[-1]
    X = torch.fft.rfft(x, dim=-1, norm="forward")[..., :k]
    if 2 * (k - 1) == n:
        X = torch.cat((X[..., :-1], X[..., -1:] / 2), dim=-1)
    for axis in range(d, 1, -1):
        X = torch.fft.fft(X, dim=axis, norm="forward")
        k, n = modes[axis - 2], x.shape[axis]
        X = torch.cat((X.narrow(axis, 0, k), X.narrow(axis, n - k, k)), dim=axis)
    return _frequency_first(torch.view_as_real(X))


def synthesise_by_fft(Y: Tensor, modes: Sequence[int], source: Sequence[int], size: Sequence[int]) -> Tensor:
    """Return the field (B, C, *size) of the coefficients Y (m, 2, B, C) of a field on a grid `source`."""
    d = len(modes)
    Z = torch.view_as_complex(_channels_first(Y, kept_frequencies(modes)).contiguous())  # (B, C, *kept)
    for axis in range(2, d + 1):
        Z = _spread(Z, axis, size[axis - 2], shared=2 * modes[axis - 2] == source[axis - 2])
        Z = torch.fft.ifft(Z, dim=axis, norm="forward")
    k, n = modes[-1], size[-1]
    highest = 2 * (k - 1) == n
    keep = Z.real.new_ones(k)
    keep[0] = 0.0
    if highest:
        keep[-1] = 0.0
    # the DC and the highest column are real for a real field; some GPU libraries do not ignore the rest
    Z = torch.complex(Z.real, Z.imag * keep)
    if highest:
        Z = torch.cat((Z[..., :-1], Z[..., -1:] * 2), dim=-1)
    return torch.fft.irfft(Z, n=n, dim=-1, norm="forward")


def _spread(Z: Tensor, axis: int, n: int, *, shared: bool) -> Tensor:
    """Put 0, ..., k-1, -k, ..., -1 in their places on an axis of n points; share out -k between -k and k."""
    k = Z.shape[axis] // 2
    low, high = Z.narrow(axis, 0, k), Z.narrow(axis, k, k)
    if shared and n > 2 * k:
        edge = high.narrow(axis, 0, 1) / 2
        low = torch.cat((low, edge), dim=axis)
        high = torch.cat((edge, high.narrow(axis, 1, k - 1)), dim=axis)
    after = (0, 0) * (Z.ndim - 1 - axis)
    return F.pad(low, (*after, 0, n - low.shape[axis])) + F.pad(high, (*after, n - k, 0))


def analysis_matrices(modes: Sequence[int], like: Tensor) -> tuple[Tensor, ...]:
    """Return the matrices of `separable.to_modes` for fields (B, C, *space) such as the given one."""
    *others, n = like.shape[2:]
    pairs = (_matrix(_pair_analysis, n, k, like=like) for n, k in zip(others, modes[:-1], strict=True))
    return *pairs, _matrix(_last_analysis, n, modes[-1], like=like)


def synthesis_matrices(
    modes: Sequence[int], source: Sequence[int], size: Sequence[int], like: Tensor
) -> tuple[Tensor, ...]:
    """Return the matrices of `separable.to_field` for coefficients of fields on a grid `source`."""
    pairs = []
    for k, before, n in zip(modes[:-1], source[:-1], size[:-1], strict=True):
        pairs.append(_matrix(_shared_synthesis if 2 * k == before else _pair_synthesis, n, k, like=like))
    return *pairs, _matrix(_last_synthesis, size[-1], modes[-1], like=like)


Make = Callable[[int, int, torch.dtype, torch.device], Tensor]


def _matrix(make: Make, n: int, k: int, *, like: Tensor) -> Tensor:
    """Return a DFT matrix: a kept one, or, while a graph is traced (any size), one made in the graph."""
    if torch.compiler.is_compiling():
        return make(n, k, like.dtype, like.device)
    return _kept_matrix(make, n, k, like.dtype, like.device)


@lru_cache(maxsize=128)
def _kept_matrix(make: Make, n: int, k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False), torch.no_grad():
        return make(n, k, dtype, device)


def _waves(n: int, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos and sin of 2 pi f j / n, each (n, frequencies), with exact zeros where there are any."""
    j = torch.arange(n, device=frequencies.device)
    points = torch.full((), n, device=frequencies.device)  # a tensor, so that ONNX takes a size left open
    turn = torch.remainder(j[:, None] * frequencies[None, :], points)  # whole numbers: no loss for large f j
    angle = turn.double() * (2 * math.pi / points.double())
    return torch.cos(angle), torch.sin(angle).masked_fill(torch.remainder(2 * turn, points) == 0, 0.0)


def _last_analysis(n: int, k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n, 2 k): the real, then the imaginary parts."""
    cos, sin = _waves(n, torch.arange(k, device=device))
    share = torch.where(2 * torch.arange(k, device=device) == torch.full((), n, device=device), 0.5, 1.0)
    share = share.double() / n
    return torch.cat((cos * share, -sin * share), dim=1).to(dtype)


def _last_synthesis(n: int, k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n, 2 k): every frequency but 0 stands for its conjugate too."""
    cos, sin = _waves(n, torch.arange(k, device=device))
    twice = torch.where(torch.arange(k, device=device) == 0, 1.0, 2.0).double()
    return torch.cat((cos * twice, -sin * twice), dim=1).to(dtype)


def _pair_synthesis(n: int, k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2 (k + 1), n): the cosines, then the sines of 0, ..., k."""
    cos, sin = _waves(n, torch.arange(k + 1, device=device))
    return torch.cat((cos.mT, sin.mT)).to(dtype)


def _pair_analysis(n: int, k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return (_pair_synthesis(n, k, torch.float64, device) / n).to(dtype)


def _shared_synthesis(n: int, k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The same with -k shared out between -k and k: the frequency k has no sine."""
    waves = _pair_synthesis(n, k, dtype, device)
    return torch.cat((waves[:-1], torch.zeros_like(waves[-1:])))


def _frequency_first(parts: Tensor) -> Tensor:
    """(B, C, *kept, 2) -> (m, 2, B, C)."""
    batch, channels = parts.shape[:2]
    return parts.reshape(batch, channels, -1, 2).permute(2, 3, 0, 1).contiguous()


def _channels_first(Y: Tensor, kept: Sequence[int]) -> Tensor:
    """(m, 2, B, C) -> (B, C, *kept, 2)."""
    _, _, batch, channels = Y.shape
    return Y.permute(2, 3, 0, 1).reshape(batch, channels, *kept, 2)
