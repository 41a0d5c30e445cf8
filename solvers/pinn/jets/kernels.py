"""Compiled passes over the rows of a jet on the CPU: activation and its gradient, block by block.

What a plan asks for is in tables (`tables.py`), so that every entry of a jet is read and written once, from
the first-level cache. They run on one thread and release the interpreter lock.

Arrays: z and h (K, M) rows before and after the activation, p and q (M,) the basis of the activation at z[0]
(`Activation.basis`, its only member twice), g the gradient in h. `code` and `order` say which derivatives s_0
... s_order are made of the basis: the same polynomials as in `activations.py`, where they are tested against.
"""

from __future__ import annotations

import numba
import numpy as np

BLOCK = 512  # entries worked on at a time


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _logistic(p, order, s, n):  # type: ignore[no-untyped-def]
    """s[k] = derivative k of the logistic function p, k = 1 ... order."""
    f = s.dtype.type  # a bare number would make every operation one in double precision
    for i in range(n):
        s[1, i] = p[i] * (f(1) - p[i])
    if order >= 2:
        for i in range(n):
            s[2, i] = s[1, i] * (f(1) - f(2) * p[i])
    if order >= 3:
        for i in range(n):
            s[3, i] = s[1, i] * (f(1) - f(6) * s[1, i])
    if order >= 4:
        for i in range(n):
            s[4, i] = s[2, i] * (f(1) - f(12) * s[1, i])
    if order >= 5:
        for i in range(n):
            s[5, i] = s[1, i] * (f(1) - s[1, i] * (f(30) - f(120) * s[1, i]))


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _tanh(p, order, s, n):  # type: ignore[no-untyped-def]
    f = s.dtype.type
    for i in range(n):
        s[0, i] = p[i]
        s[1, i] = f(1) - p[i] * p[i]
    if order >= 2:
        for i in range(n):
            s[2, i] = f(-2) * p[i] * s[1, i]
    if order >= 3:
        for i in range(n):
            s[3, i] = s[1, i] * (f(6) * p[i] * p[i] - f(2))
    if order >= 4:
        for i in range(n):
            s[4, i] = p[i] * s[1, i] * (f(16) - f(24) * p[i] * p[i])
    if order >= 5:
        for i in range(n):
            s[5, i] = s[1, i] * (f(16) + p[i] * p[i] * (f(120) * p[i] * p[i] - f(120)))


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _sin(p, q, order, s, n):  # type: ignore[no-untyped-def]
    for k in range(order + 1):
        even, positive = k % 2 == 0, k % 4 < 2
        for i in range(n):
            v = p[i] if even else q[i]
            s[k, i] = v if positive else -v


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _silu(p, q, order, s, n):  # type: ignore[no-untyped-def]
    f = s.dtype.type
    _logistic(q, order, s, n)
    for k in range(order, 1, -1):
        times = f(k)
        for i in range(n):
            s[k, i] = p[i] * s[k, i] + times * s[k - 1, i]
    for i in range(n):
        s[1, i] = p[i] * s[1, i] + q[i]
        s[0, i] = p[i] * q[i]


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _gaussian(p, q, order, s, n):  # type: ignore[no-untyped-def]
    f = s.dtype.type
    for i in range(n):
        s[0, i] = q[i]
        s[1, i] = -p[i] * q[i]
    for k in range(1, order):
        times = f(k)
        for i in range(n):
            s[k + 1, i] = -(p[i] * s[k, i] + times * s[k - 1, i])


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def derivatives(code, p, q, order, s):  # type: ignore[no-untyped-def]
    """s[k] = s_k for k = 0 ... order >= 1, on one block."""
    n = p.size
    if code == 1:
        _tanh(p, order, s, n)
    elif code == 2:
        _sin(p, q, order, s, n)
    elif code == 3:
        _silu(p, q, order, s, n)
    elif code == 4:  # softplus: its first derivative is the logistic function
        if order >= 2:
            _logistic(q, order - 1, s[1:], n)
        for i in range(n):
            s[0, i] = p[i]
            s[1, i] = q[i]
    else:
        _gaussian(p, q, order, s, n)


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _add_product(total, c, z, rows, count, factor, a, n):  # type: ignore[no-untyped-def]
    """total += factor * c * z[rows[0]] * ... * z[rows[count - 1]] on [a, a + n), up to three rows."""
    if count == 0:
        for i in range(n):
            total[i] += factor * c[i]
    elif count == 1:
        u = z[rows[0], a : a + n]
        for i in range(n):
            total[i] += factor * c[i] * u[i]
    elif count == 2:
        u, v = z[rows[0], a : a + n], z[rows[1], a : a + n]
        for i in range(n):
            total[i] += factor * c[i] * u[i] * v[i]
    else:
        u, v, w = z[rows[0], a : a + n], z[rows[1], a : a + n], z[rows[2], a : a + n]
        for i in range(n):
            total[i] += factor * c[i] * u[i] * (v[i] * w[i])


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def chain_forward(groups, terms, factors, function, p, q, z, h):  # type: ignore[no-untyped-def]
    """h = s(z), every row: the sum over groups of s_order times the sum of its terms."""
    code, highest = function
    zero = z.dtype.type(0)
    size = z.shape[1]
    inner, s = np.empty(BLOCK, dtype=z.dtype), np.empty((highest + 1, BLOCK), dtype=z.dtype)
    for a in range(0, size, BLOCK):
        n = min(BLOCK, size - a)
        derivatives(code, p[a : a + n], q[a : a + n], highest, s)
        h0 = h[0, a : a + n]
        for i in range(n):
            h0[i] = s[0, i]
        for k in range(groups.shape[0]):
            row, order, first, last, begins = (
                groups[k, 0],
                groups[k, 1],
                groups[k, 2],
                groups[k, 3],
                groups[k, 6],
            )
            for i in range(n):
                inner[i] = zero
            for t in range(first, last):
                _add_product(
                    inner, z[terms[t, 1], a : a + n], z, terms[t, 2:], terms[t, 0] - 1, factors[t], a, n
                )
            out, d = h[row, a : a + n], s[order]
            if begins:
                for i in range(n):
                    out[i] = d[i] * inner[i]
            else:
                for i in range(n):
                    out[i] += d[i] * inner[i]


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def chain_backward(formulas, function, p, q, z, g, h):  # type: ignore[no-untyped-def]
    """g, the gradient in h = s(z), becomes that in z; h is computed once more beside it."""
    groups, terms, factors, pulls, weights = formulas
    code, highest = function
    zero = z.dtype.type(0)
    size, rows = z.shape[1], z.shape[0]
    inner, scaled = np.empty(BLOCK, dtype=z.dtype), np.empty(BLOCK, dtype=z.dtype)
    s = np.empty((highest + 2, BLOCK), dtype=z.dtype)
    total = np.empty((rows, BLOCK), dtype=z.dtype)
    for a in range(0, size, BLOCK):
        n = min(BLOCK, size - a)
        derivatives(code, p[a : a + n], q[a : a + n], highest + 1, s)
        t0, g0, h0 = total[0], g[0, a : a + n], h[0, a : a + n]
        for i in range(n):
            t0[i] = g0[i] * s[1, i]
            h0[i] = s[0, i]
        for r in range(1, rows):
            o = total[r]
            for i in range(n):
                o[i] = zero
        for k in range(groups.shape[0]):
            row, order, first, last, begins = (
                groups[k, 0],
                groups[k, 1],
                groups[k, 2],
                groups[k, 3],
                groups[k, 6],
            )
            for i in range(n):
                inner[i] = zero
            for t in range(first, last):
                _add_product(
                    inner, z[terms[t, 1], a : a + n], z, terms[t, 2:], terms[t, 0] - 1, factors[t], a, n
                )
            gr, hr, d, e = g[row, a : a + n], h[row, a : a + n], s[order], s[order + 1]
            if begins:
                for i in range(n):
                    hr[i] = d[i] * inner[i]
            else:
                for i in range(n):
                    hr[i] += d[i] * inner[i]
            for i in range(n):
                t0[i] += gr[i] * e[i] * inner[i]
                scaled[i] = gr[i] * d[i]
            for t in range(groups[k, 4], groups[k, 5]):
                _add_product(total[pulls[t, 0]], scaled, z, pulls[t, 2:], pulls[t, 1], weights[t], a, n)
        for r in range(rows):
            o, gr = total[r], g[r, a : a + n]
            for i in range(n):
                gr[i] = o[i]


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def affine_forward(orders, c, function, p, q, h):  # type: ignore[no-untyped-def]
    """h[r, j] = c[r] s_order(r) at every point j; c (K, W), p and q (N, W), h (K, N, W)."""
    code, highest = function
    s = np.empty((highest + 1, h.shape[2]), dtype=h.dtype)
    for j in range(h.shape[1]):
        derivatives(code, p[j], q[j], highest, s)
        for r in range(h.shape[0]):
            out, d, factor = h[r, j], s[orders[r]], c[r]
            for i in range(out.size):
                out[i] = factor[i] * d[i]


@numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def affine_backward(orders, c, function, p, q, g, out, slopes):  # type: ignore[no-untyped-def]
    """out (N, W) = the gradient in z, slopes (K, W) += the gradient in c."""
    code, highest = function
    zero = out.dtype.type(0)
    s = np.empty((highest + 2, out.shape[1]), dtype=out.dtype)
    for j in range(out.shape[0]):
        derivatives(code, p[j], q[j], highest + 1, s)
        o = out[j]
        for i in range(o.size):
            o[i] = zero
        for r in range(c.shape[0]):
            gr, d, e, factor, total = g[r, j], s[orders[r]], s[orders[r] + 1], c[r], slopes[r]
            for i in range(o.size):
                o[i] += gr[i] * factor[i] * e[i]
                total[i] += gr[i] * d[i]
