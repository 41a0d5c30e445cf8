"""Sine and cosine transforms along the axes of a tensor, by SciPy on the CPU or by FFT on any device.

Unnormalised, as in `scipy.fft` (norm="backward"): each kind and its inverse multiply to `period(kind, n)`.
The torch path reduces every kind to one FFT: types I by odd or even extension, II and III by Makhoul's
reordering, IV by a twiddled FFT of double length.
Source: Makhoul, A fast cosine transform in one and two dimensions, IEEE Trans. ASSP 28 (1980).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import pi

import numpy as np
import torch
from scipy import fft
from torch import Tensor


class Kind(StrEnum):
    """A real transform; the value is its family and type."""

    DST1 = "dst1"
    DST2 = "dst2"
    DST3 = "dst3"
    DST4 = "dst4"
    DCT1 = "dct1"
    DCT2 = "dct2"
    DCT3 = "dct3"
    DCT4 = "dct4"

    @property
    def sine(self) -> bool:
        """Whether it is a sine transform."""
        return self.value.startswith("dst")

    @property
    def type(self) -> int:
        """The type, 1 to 4."""
        return int(self.value[-1])

    @property
    def inverse(self) -> Kind:
        """The kind that undoes this one, up to `period`."""
        return Kind(self.value[:3] + {"1": "1", "2": "3", "3": "2", "4": "4"}[self.value[-1]])

    def period(self, n: int) -> int:
        """Factor that this kind followed by its inverse leaves, for n values."""
        return {Kind.DST1: 2 * (n + 1), Kind.DCT1: 2 * (n - 1)}.get(self, 2 * n)


class Backend(StrEnum):
    """Who transforms: SciPy (CPU), torch (any device), or SciPy exactly where the tensors are on the CPU."""

    AUTO = "auto"
    SCIPY = "scipy"
    TORCH = "torch"


def transform_scipy(x: Tensor, kind: Kind, axes: Sequence[int], workers: int) -> Tensor:
    """Transform a contiguous CPU tensor along `axes` in place, with `workers` threads, and return it."""
    array = x.numpy()
    call = fft.dstn if kind.sine else fft.dctn
    result = call(array, type=kind.type, axes=list(axes), overwrite_x=True, workers=workers)
    return x if np.may_share_memory(result, array) else x.copy_(torch.from_numpy(np.asarray(result)))


def transform_torch(x: Tensor, kind: Kind, axis: int) -> Tensor:
    """Return the transform of x along one axis, as a new tensor on the same device."""
    x = x.movedim(axis, -1)
    match kind:
        case Kind.DST1:
            zero = torch.zeros_like(x[..., :1])
            y = -torch.fft.rfft(torch.cat([zero, x, zero, -x.flip(-1)], -1)).imag[..., 1:-1]
        case Kind.DCT1:
            y = torch.fft.rfft(torch.cat([x, x[..., 1:-1].flip(-1)], -1)).real
        case Kind.DCT2:
            y = _dct2(x)
        case Kind.DST2:
            y = _dct2(x * _signs(x)).flip(-1)
        case Kind.DCT3:
            y = _dct3(x)
        case Kind.DST3:
            y = _dct3(x.flip(-1)) * _signs(x)
        case Kind.DCT4:
            y = _type4(x).real
        case Kind.DST4:
            y = -_type4(x).imag
    return y.movedim(-1, axis)


def _signs(x: Tensor) -> Tensor:
    """1, -1, 1, ... of the length of x."""
    return 1 - 2 * (torch.arange(x.shape[-1], dtype=x.dtype, device=x.device) % 2)


def _phase(count: int, step: float, like: Tensor, offset: float = 0.0) -> Tensor:
    """exp(-i step (j + offset)), j < count, in the complex type of `like`."""
    angle = -step * (torch.arange(count, dtype=torch.float64, device=like.device) + offset)
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype.to_complex())


def _dct2(x: Tensor) -> Tensor:
    """Even entries forwards, odd ones backwards, one real FFT; its imaginary part holds the upper half."""
    n = x.shape[-1]
    v = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    w = 2 * _phase(n // 2 + 1, pi / (2 * n), x) * torch.fft.rfft(v)
    upper = w.imag[..., 1 : (n - 1) // 2 + 1]
    return torch.cat([w.real, -upper.flip(-1)], -1)


def _dct3(x: Tensor) -> Tensor:
    """The steps of `_dct2` undone in reverse order."""
    n = x.shape[-1]
    half = n // 2 + 1
    mirrored = torch.cat([torch.zeros_like(x[..., :1]), x.flip(-1)], -1)  # x[n - k], x[n] = 0
    spectrum = torch.complex(x[..., :half], -mirrored[..., :half]) * _phase(half, pi / (2 * n), x).conj()
    v = torch.fft.irfft(spectrum, n=n, norm="forward")
    y = torch.empty_like(v)
    evens = (n + 1) // 2
    y[..., ::2], y[..., 1::2] = v[..., :evens], v[..., evens:].flip(-1)
    return y


def _type4(x: Tensor) -> Tensor:
    """2 sum_j x_j exp(-i pi (2k + 1)(2j + 1) / (4n))."""
    n = x.shape[-1]
    padded = torch.fft.fft(x * _phase(n, pi / (2 * n), x), n=2 * n)[..., :n]
    return 2 * _phase(n, pi / (2 * n), x, offset=0.5) * padded
