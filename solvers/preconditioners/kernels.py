"""Compiled loops over CSR rows: relaxation sweeps and triangular substitutions, several right-hand sides at
once.

All take row pointers, column indices sorted within each row, and entries; vectors are C-contiguous (k, n).
"""

from __future__ import annotations

import numpy as np
from numba import njit

_Array = np.ndarray


@njit(cache=True, nogil=True)
def sor_sweep(
    indptr: _Array,
    indices: _Array,
    data: _Array,
    d: _Array,
    x: _Array,
    b: _Array,
    omega: float,
    backward: bool,
) -> None:
    """Relax x_i += omega (b - A x)_i / d_i in place, rows ascending or, when `backward`, descending."""
    n = d.shape[0]
    for s in range(x.shape[0]):
        for k in range(n):
            i = n - 1 - k if backward else k
            r = b[s, i]
            for p in range(indptr[i], indptr[i + 1]):
                r -= data[p] * x[s, indices[p]]
            x[s, i] += omega * r / d[i]


@njit(cache=True, nogil=True)
def ssor_forward_backward(
    indptr: _Array, indices: _Array, data: _Array, d: _Array, x: _Array, omega: float
) -> None:
    """Overwrite x by (D/w + U)^-1 ((2 - w)/w D) (D/w + L)^-1 x."""
    n = d.shape[0]
    for s in range(x.shape[0]):
        for i in range(n):
            t = x[s, i]
            for p in range(indptr[i], indptr[i + 1]):
                j = indices[p]
                if j >= i:
                    break
                t -= data[p] * x[s, j]
            x[s, i] = t * omega / d[i]
        for i in range(n - 1, -1, -1):
            t = x[s, i] * (2.0 - omega) * d[i] / omega
            for p in range(indptr[i + 1] - 1, indptr[i] - 1, -1):
                j = indices[p]
                if j <= i:
                    break
                t -= data[p] * x[s, j]
            x[s, i] = t * omega / d[i]


@njit(cache=True, nogil=True)
def ssor_backward_forward(
    indptr: _Array, indices: _Array, data: _Array, d: _Array, x: _Array, omega: float
) -> None:
    """Overwrite x by (D/w + L)^-1 ((2 - w)/w D) (D/w + U)^-1 x."""
    n = d.shape[0]
    for s in range(x.shape[0]):
        for i in range(n - 1, -1, -1):
            t = x[s, i]
            for p in range(indptr[i + 1] - 1, indptr[i] - 1, -1):
                j = indices[p]
                if j <= i:
                    break
                t -= data[p] * x[s, j]
            x[s, i] = t * omega / d[i]
        for i in range(n):
            t = x[s, i] * (2.0 - omega) * d[i] / omega
            for p in range(indptr[i], indptr[i + 1]):
                j = indices[p]
                if j >= i:
                    break
                t -= data[p] * x[s, j]
            x[s, i] = t * omega / d[i]


@njit(cache=True, nogil=True)
def cholesky_substitute(indptr: _Array, indices: _Array, data: _Array, x: _Array) -> None:
    """Overwrite x by (L L^T)^-1 x; L lower triangular in CSR, the diagonal last in each row."""
    n = x.shape[1]
    for s in range(x.shape[0]):
        for i in range(n):
            t = x[s, i]
            last = indptr[i + 1] - 1
            for p in range(indptr[i], last):
                t -= data[p] * x[s, indices[p]]
            x[s, i] = t / data[last]
        for i in range(n - 1, -1, -1):
            last = indptr[i + 1] - 1
            t = x[s, i] / data[last]
            x[s, i] = t
            for p in range(indptr[i], last):
                x[s, indices[p]] -= data[p] * t


@njit(cache=True, nogil=True)
def greedy_colours(indptr: _Array, indices: _Array) -> _Array:
    """Colour a symmetric graph, first fit in the order of the rows; no two neighbours share a colour."""
    n = indptr.shape[0] - 1
    colour = np.full(n, -1, dtype=np.int64)
    taken = np.full(n + 1, -1, dtype=np.int64)  # taken[c] == i: a neighbour of row i has colour c
    for i in range(n):
        for p in range(indptr[i], indptr[i + 1]):
            j = indices[p]
            if j != i and colour[j] >= 0:
                taken[colour[j]] = i
        c = 0
        while taken[c] == i:
            c += 1
        colour[i] = c
    return colour
