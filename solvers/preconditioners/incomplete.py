"""Compiled incomplete Cholesky factorisations: without fill, IC(0), and by threshold, ICT."""

from __future__ import annotations

import numpy as np
from numba import njit

_Array = np.ndarray
_PIVOT = 1e-12  # a pivot below this share of the diagonal entry counts as a breakdown


@njit(cache=True, nogil=True)
def factor_ic0(indptr: _Array, indices: _Array, data: _Array, shift: float) -> int:
    """Overwrite the lower triangle (CSR, diagonal last in each row) of A + shift diag(A) by its IC(0) factor.

    Return -1, or the row whose pivot is not positive. Source: Saad (2003), section 10.3, row by row.
    """
    for i in range(indptr.shape[0] - 1):
        start, last = indptr[i], indptr[i + 1] - 1
        pivot = data[last] * (1.0 + shift)
        for p in range(start, last):
            k = indices[p]
            t = data[p]
            a, c, c_last = start, indptr[k], indptr[k + 1] - 1
            while a < p and c < c_last:  # merge rows i and k
                if indices[a] == indices[c]:
                    t -= data[a] * data[c]
                    a += 1
                    c += 1
                elif indices[a] < indices[c]:
                    a += 1
                else:
                    c += 1
            t /= data[c_last]
            data[p] = t
            pivot -= t * t
        if not pivot > _PIVOT * data[last]:
            return i
        data[last] = np.sqrt(pivot)
    return -1


@njit(cache=True, nogil=True)
def factor_ict(
    indptr: _Array,
    indices: _Array,
    data: _Array,
    shift: float,
    drop: float,
    fill: int,
    out: tuple[_Array, _Array, _Array],
) -> int:
    """Factor A + shift diag(A) ~ L L^T column by column, dropping small entries.

    A comes as its upper triangle in CSR (row k is column k of the lower triangle, diagonal first); L goes to
    `out` = (pointers, row indices, entries) in CSC, diagonal first in each column. Entry (i, k) is dropped
    when |l_ik| l_kk <= drop sqrt(a_ii a_kk); of the rest, the largest survive, `fill` more than A's column
    holds. Return -1, or the column whose pivot is not positive. Source: Lin and More (1999), with a
    threshold.
    """
    n = indptr.shape[0] - 1
    out_ptr, out_idx, out_val = out
    work = np.zeros(n)
    seen = np.full(n, -1, dtype=np.int64)
    rows = np.empty(n, dtype=np.int64)
    head = np.full(n, -1, dtype=np.int64)  # head[k], after[.]: columns whose next unused row is k
    after = np.full(n, -1, dtype=np.int64)
    cursor = np.zeros(n, dtype=np.int64)
    root = np.empty(n)
    for k in range(n):
        root[k] = np.sqrt(data[indptr[k]])
    end = 0
    out_ptr[0] = 0
    for k in range(n):
        count = 0
        for p in range(indptr[k], indptr[k + 1]):
            i = indices[p]
            work[i] = data[p]
            seen[i] = k
            if i != k:
                rows[count] = i
                count += 1
        limit = count + fill
        seen[k] = k
        work[k] *= 1.0 + shift
        j = head[k]
        while j != -1:
            following = after[j]
            start = cursor[j]
            factor = out_val[start]
            for p in range(start, out_ptr[j + 1]):
                i = out_idx[p]
                if seen[i] != k:
                    seen[i] = k
                    work[i] = 0.0
                    rows[count] = i
                    count += 1
                work[i] -= factor * out_val[p]
            start += 1
            if start < out_ptr[j + 1]:
                cursor[j] = start
                i = out_idx[start]
                after[j] = head[i]
                head[i] = j
            j = following
        pivot = work[k]
        if not pivot > _PIVOT * data[indptr[k]]:
            return k
        kept = 0
        for p in range(count):
            i = rows[p]
            if abs(work[i]) > drop * root[i] * root[k]:
                rows[kept] = i
                kept += 1
        chosen = rows[:kept]
        if kept > limit:
            size = np.abs(work[chosen]) / root[chosen]
            chosen = chosen[np.argsort(-size)[:limit]]
        chosen = np.sort(chosen)
        diagonal = np.sqrt(pivot)
        out_idx[end] = k
        out_val[end] = diagonal
        end += 1
        if chosen.shape[0]:
            cursor[k] = end
            after[k] = head[chosen[0]]
            head[chosen[0]] = k
        for i in chosen:
            out_idx[end] = i
            out_val[end] = work[i] / diagonal
            end += 1
        out_ptr[k + 1] = end
    return -1
