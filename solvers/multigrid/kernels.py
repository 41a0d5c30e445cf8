"""Compiled kernels for single operators on the CPU: what small grids spend on calls is saved.

Each does in one pass what the torch code beside its caller does in several; the two are tested against each
other. They run on one thread and release the interpreter lock.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

BLOCK = 1024  # entries whose terms are summed before the next ones: they stay in the first-level cache


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def residual(arrays, b, x, span, out):  # type: ignore[no-untyped-def]
    """out = b - A x on [first, last) = span.

    arrays: row sums r, couplings w[k, i] of i with i + d[k], distances d, inverse of the smoother g.
    """
    r, w, d, _ = arrays
    first, last = span
    for s in range(first, last, BLOCK):
        n = min(BLOCK, last - s)
        _residual_block(b, x, r, w, d, s, n, out[s : s + n])


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def smooth(arrays, b, x, span, weight, out):  # type: ignore[no-untyped-def]
    """out = x + weight g (b - A x) on span; arrays as in `residual`."""
    r, w, d, g = arrays
    first, last = span
    t = np.empty(BLOCK, dtype=x.dtype)
    for s in range(first, last, BLOCK):
        n = min(BLOCK, last - s)
        _residual_block(b, x, r, w, d, s, n, t)
        xs, gs, o = x[s : s + n], g[s : s + n], out[s : s + n]
        for i in range(n):
            o[i] = xs[i] + weight * gs[i] * t[i]


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy", inline="always")
def _residual_block(b, x, r, w, d, s, n, t):  # type: ignore[no-untyped-def]
    # Differences, not a_ii x_i: where a vector is nearly constant nothing cancels, and no rounding error of
    # the row sum acts like a wrong tie. Slices counted from 0 let the compiler use vector instructions.
    bs, xs, rs = b[s : s + n], x[s : s + n], r[s : s + n]
    for i in range(n):
        t[i] = bs[i] - rs[i] * xs[i]
    for k in range(d.size):
        j = d[k]
        up, down = w[k, s : s + n], w[k, s - j : s - j + n]
        after, before = x[s + j : s + j + n], x[s - j : s - j + n]
        for i in range(n):
            t[i] -= up[i] * (after[i] - xs[i]) + down[i] * (before[i] - xs[i])


@numba.njit(cache=True, nogil=True)
def row_sums(crow: Ints, col: Ints, values: Floats, v: Floats, out: Floats) -> None:
    """out = S v for a sparse matrix S in compressed rows."""
    for m in range(crow.size - 1):
        total = values.dtype.type(0.0)
        for k in range(crow[m], crow[m + 1]):
            total += values[k] * v[col[k]]
        out[m] = total


@numba.njit(cache=True, nogil=True)
def add_rows(crow: Ints, col: Ints, values: Floats, c: Floats, v: Floats) -> None:
    """v += S^T c for a sparse matrix S in compressed rows."""
    for m in range(crow.size - 1):
        for k in range(crow[m], crow[m + 1]):
            v[col[k]] += values[k] * c[m]


@numba.njit(cache=True, nogil=True)
def strong_components(c, w, d, home, strength):  # type: ignore[no-untyped-def]
    """Return per unknown the root of its component of strong couplings, and its row sum.

    Couplings are w[k, i] between i and home[i + d[k]]; i runs over unknowns (c > 0). Union-find with path
    halving.
    """
    n = c.size
    root = np.arange(n)
    slack = c.copy()
    for k in range(d.size):
        for i in range(n - d[k]):
            a = w[k, i]
            if a == 0.0 or c[i] <= 0.0:
                continue
            j = home[i + d[k]]
            slack[i] += a
            slack[j] += a
            if a * a <= strength * strength * c[i] * c[j]:
                continue
            p, q = i, j
            while root[p] != p:
                root[p] = root[root[p]]
                p = root[p]
            while root[q] != q:
                root[q] = root[root[q]]
                q = root[q]
            if p < q:
                root[q] = p
            else:
                root[p] = q
    for i in range(n):  # a root is never larger than its members: one pass settles all
        root[i] = root[root[i]]
    return root, slack


@numba.njit(cache=True, nogil=True)
def cut_couplings(c, w, d, home, root):  # type: ignore[no-untyped-def]
    """Return i, j, a_ij of the couplings between different components."""
    count = 0
    for k in range(d.size):
        for i in range(c.size - d[k]):
            if w[k, i] != 0.0 and c[i] > 0.0 and root[i] != root[home[i + d[k]]]:
                count += 1
    left, right, values = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, c.dtype)
    count = 0
    for k in range(d.size):
        for i in range(c.size - d[k]):
            if w[k, i] != 0.0 and c[i] > 0.0 and root[i] != root[home[i + d[k]]]:
                left[count], right[count], values[count] = i, home[i + d[k]], w[k, i]
                count += 1
    return left, right, values


@numba.njit(cache=True, nogil=True)
def measure_components(c, slack, root, i, j, a):  # type: ignore[no-untyped-def]
    """Return per root the unknowns, 1.D 1 and 1.A 1 of its component; (i, j, a): the cut couplings."""
    size, mass, energy = np.zeros(c.size, np.int64), np.zeros(c.size), np.zeros(c.size)
    for k in range(c.size):
        if c[k] > 0.0:
            size[root[k]] += 1
            mass[root[k]] += c[k]
            energy[root[k]] += slack[k]
    for k in range(a.size):
        energy[root[i[k]]] -= a[k]
        energy[root[j[k]]] -= a[k]
    return size, mass, energy


@numba.njit(cache=True, nogil=True)
def scale(b, g, weight, out):  # type: ignore[no-untyped-def]
    """out = weight g b."""
    for i in range(b.size):
        out[i] = weight * g[i] * b[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def interpolate(v, weights, d, start, strides):  # type: ignore[no-untyped-def]
    """Fill the unknowns of a class from their neighbours at distances d; weights (len(d), n0, n1, n2)."""
    count, n0, n1, n2 = weights.shape
    for i in range(n0):
        for j in range(n1):
            p = start + i * strides[0] + j * strides[1]
            for k in range(n2):
                total = v.dtype.type(0.0)
                for o in range(count):
                    total += weights[o, i, j, k] * v[p + d[o]]
                v[p] = total
                p += strides[2]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def distribute(v, weights, d, start, strides):  # type: ignore[no-untyped-def]
    """Add the unknowns of a class to their neighbours: the transpose of `interpolate`."""
    count, n0, n1, n2 = weights.shape
    for i in range(n0):
        for j in range(n1):
            p = start + i * strides[0] + j * strides[1]
            for k in range(n2):
                for o in range(count):
                    v[p + d[o]] += weights[o, i, j, k] * v[p]
                p += strides[2]
