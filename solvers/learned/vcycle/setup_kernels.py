"""Compiled set-up of a stencil hierarchy: interpolation, P^T A P, islands; one process, any dimension.

Grids are padded, flat arrays (`multigrid.layout`). A stencil is its diagonal and half of its couplings,
w[k, i] between i and i + d[k]. An offset q is read as one signed number: 0 the diagonal, k + 1 for w[k] at i,
-(k + 1) for w[k] at i - d[k]. Lines are those of the last axis.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, error_model="numpy", inline="always")
def _add_line(out, a, start, n):  # type: ignore[no-untyped-def]
    b = a[start : start + 2 * n - 1]
    for j in range(n):
        out[j] += b[2 * j]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def interpolation(stencil, coarse, grid, reads, roles, far, p):  # type: ignore[no-untyped-def]
    """Fill p[o, J] = P(fine point of J + offset o, J) with the black-box weights.

    Args:
        stencil: diagonal, couplings and their distances.
        coarse: (lines, 3): start of every coarse line, of its fine points, its unknowns.
        grid: distances of the offsets o, the middle first, then by the number of non-zero entries.
        reads: signed couplings q, in the order of `roles`.
        roles: (offsets, couplings): -1 the coupling stays within the class, -2 it counts for the row sum,
            m >= 0 it leads to the fine point of offset m, which p[m] already serves.
        far: work array, (3, longest line).
    """
    centre, w, d = stencil
    for line in range(coarse.shape[0]):
        at, fine, n = coarse[line, 0], coarse[line, 1], coarse[line, 2]
        p[0, at : at + n] = 1.0
        for o in range(1, grid.shape[0]):
            i = fine + grid[o]
            mid, total, lead = far[0, :n], far[1, :n], far[2, :n]
            mid[:] = 0.0
            total[:] = 0.0
            lead[:] = 0.0
            for q in range(reads.size):
                role, k = roles[o, q], reads[q]
                a = centre if k == 0 else w[abs(k) - 1]
                start = i if k >= 0 else i - d[-k - 1]
                if role == -1:
                    _add_line(mid, a, start, n)
                    continue
                v = a[start : start + 2 * n - 1]
                for j in range(n):
                    total[j] -= v[2 * j]
                if role >= 0:
                    pm = p[role, at : at + n]
                    for j in range(n):
                        lead[j] -= v[2 * j] * pm[j]
            po = p[o, at : at + n]
            for j in range(n):
                divisor = mid[j] if mid[j] > 0.5 * total[j] else total[j]
                po[j] = lead[j] / divisor if divisor > 0 else 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def product(stencil, coarse, terms, step, p, out, line_sum):  # type: ignore[no-untyped-def]
    """Add P^T A P to out[D, J]: the diagonal first, then half of the couplings of J with J + D.

    Args:
        terms: (count, 5) rows o, distance of o, signed coupling q, o' of the other end, D; sorted by (D, o).
        step: distances of the D in the coarse array.
    """
    centre, w, d = stencil
    for line in range(coarse.shape[0]):
        at, fine, n = coarse[line, 0], coarse[line, 1], coarse[line, 2]
        t = 0
        while t < terms.shape[0]:
            o, D = terms[t, 0], terms[t, 4]
            s = line_sum[:n]
            s[:] = 0.0
            i = fine + terms[t, 1]
            shift = at + step[D]
            while t < terms.shape[0] and terms[t, 0] == o and terms[t, 4] == D:
                k, e = terms[t, 2], terms[t, 3]
                a = centre if k == 0 else w[abs(k) - 1]
                start = i if k >= 0 else i - d[-k - 1]
                v = a[start : start + 2 * n - 1]
                pe = p[e, shift : shift + n]
                for j in range(n):
                    s[j] += v[2 * j] * pe[j]
                t += 1
            po, into = p[o, at : at + n], out[D, at : at + n]
            for j in range(n):
                into[j] += po[j] * s[j]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def shorten(centre, w, d, span, sums, couplings, inverse):  # type: ignore[no-untyped-def]
    """Write row sums, couplings and 1 / max(a_ii, sum_j |a_ij| / 2) in the type of the cycle."""
    first, last = span
    for k in range(d.size):
        for i in range(centre.size):
            couplings[k, i] = w[k, i]
    total, size = np.empty(1024), np.empty(1024)
    for s in range(first, last, 1024):
        n = min(1024, last - s)
        c = centre[s : s + n]
        for i in range(n):
            total[i] = c[i]
            size[i] = c[i]
        for k in range(d.size):
            up, down = w[k, s : s + n], w[k, s - d[k] : s - d[k] + n]
            for i in range(n):
                total[i] += up[i] + down[i]
                size[i] += abs(up[i]) + abs(down[i])
        for i in range(n):
            rounding = abs(total[i]) <= 16 * 2.2e-16 * c[i] or c[i] == 0.0
            sums[s + i] = 0.0 if rounding else total[i]
            bound = max(c[i], 0.5 * size[i])
            inverse[s + i] = 1.0 / bound if bound > 0.0 else 0.0


@numba.njit(cache=True, nogil=True)
def components(c, w, d, strength):  # type: ignore[no-untyped-def]
    """Return per unknown the root of its component of strong couplings, by union-find with path halving."""
    n = c.size
    root = np.arange(n).astype(np.int32)
    limit = strength * strength
    for k in range(d.size):
        for i in range(n - d[k]):
            a = w[k, i]
            if a == 0.0:
                continue
            j = i + d[k]
            if a * a <= limit * c[i] * c[j]:
                continue
            p, q = root[i], root[j]
            if p == q:
                continue
            while root[p] != p:
                root[p] = root[root[p]]
                p = root[p]
            while root[q] != q:
                root[q] = root[root[q]]
                q = root[q]
            if p < q:
                root[q] = p
            elif q < p:
                root[p] = q
    for i in range(n):  # a root is never larger than its members: one pass settles all
        root[i] = root[root[i]]
    return root


@numba.njit(cache=True, nogil=True, error_model="numpy")
def measure(c, w, d, root):  # type: ignore[no-untyped-def]
    """Return unknowns, 1.D 1 and 1.A 1 of every component, by its root."""
    n = c.size
    size, mass, energy = np.zeros(n, np.int32), np.zeros(n), np.zeros(n)
    slack = c.copy()
    cut = np.zeros(n)
    for k in range(d.size):
        j = d[k]
        for i in range(n - j):
            a = w[k, i]
            slack[i] += a
            slack[i + j] += a
            if a != 0.0 and root[i] != root[i + j]:
                cut[i] -= a
                cut[i + j] -= a
    for i in range(n):
        if c[i] > 0.0:
            q = root[i]
            size[q] += 1
            mass[q] += c[i]
            if abs(slack[i]) < 1e-13 * c[i]:
                slack[i] = 0.0
            energy[q] += slack[i] + cut[i]
    return size, mass, energy, slack


@numba.njit(cache=True, nogil=True)
def borders(c, w, d, label, slack, m):  # type: ignore[no-untyped-def]
    """Return runs of members (start, end, island), the entries (row, island, value) of A Z, and Z^T A Z."""
    n = c.size
    runs = 0
    for i in range(n):
        if label[i] >= 0 and (i == 0 or label[i - 1] != label[i]):
            runs += 1
    run = np.empty((runs, 3), np.int32)
    runs = -1
    for i in range(n):
        if label[i] < 0:
            continue
        if i == 0 or label[i - 1] != label[i]:
            runs += 1
            run[runs, 0] = i
            run[runs, 2] = label[i]
        run[runs, 1] = i + 1
    count = 0
    for i in range(n):
        if label[i] >= 0 and slack[i] != 0.0:
            count += 1
    for k in range(d.size):
        for i in range(n - d[k]):
            if w[k, i] != 0.0 and label[i] != label[i + d[k]]:
                count += 2 * (label[i] >= 0) + 2 * (label[i + d[k]] >= 0)
    rows, which, values = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count)
    E = np.zeros((m, m))
    t = 0
    for i in range(n):
        if label[i] >= 0 and slack[i] != 0.0:
            rows[t], which[t], values[t] = i, label[i], slack[i]
            t += 1
    for k in range(d.size):
        for i in range(n - d[k]):
            a, j = w[k, i], i + d[k]
            p, q = label[i], label[j]
            if a == 0.0 or p == q:
                continue
            if p >= 0:
                rows[t], which[t], values[t] = i, p, -a
                rows[t + 1], which[t + 1], values[t + 1] = j, p, a
                t += 2
            if q >= 0:
                rows[t], which[t], values[t] = j, q, -a
                rows[t + 1], which[t + 1], values[t + 1] = i, q, a
                t += 2
    for t in range(count):
        own = label[rows[t]]
        if own >= 0:
            E[own, which[t]] += values[t]
    return run, rows, which, values, E


@numba.njit(cache=True, nogil=True)
def matrix(centre, w, d, place):  # type: ignore[no-untyped-def]
    """Return the dense matrix of a stencil; place: number of every unknown, -1 at ghosts."""
    n = place.max() + 1
    A = np.zeros((n, n))
    for i in range(centre.size):
        if place[i] < 0:
            continue
        A[place[i], place[i]] = centre[i]
        for k in range(d.size):
            j = i + d[k]
            if j < centre.size and place[j] >= 0 and w[k, i] != 0.0:
                A[place[i], place[j]] = w[k, i]
                A[place[j], place[i]] = w[k, i]
    return A


@numba.njit(cache=True, nogil=True, error_model="numpy")
def restricted(entries, m, fine, coarse, first, number, p):  # type: ignore[no-untyped-def]
    """Return P^T S for a sparse matrix S of m columns, entries (row, column, value), equal places summed up.

    Args:
        fine, coarse: (3, 3), rows extent, stride and lead of three axes; missing ones have extent 1.
        first: index of the first coarse unknown per axis.
        number: (3, 3, 3), number of every offset in p, counted from -1.
        p: the weights, (offsets, coarse total).
    """
    rows, which, values = entries
    count = rows.size
    begin = np.zeros(m + 1, np.int64)
    for t in range(count):
        begin[which[t] + 1] += 1
    for c in range(m):
        begin[c + 1] += begin[c]
    order, at = np.empty(count, np.int64), begin[:-1].copy()
    for t in range(count):
        order[at[which[t]]] = t
        at[which[t]] += 1
    total = np.zeros(p.shape[1])
    seen = np.full(p.shape[1], -1, np.int32)
    most = 4 * count + 16
    out_row, out_column, out_value = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most)
    touched = np.empty(p.shape[1], np.int32)
    J, off = np.zeros((3, 2), np.int64), np.zeros((3, 2), np.int64)
    ways = np.zeros(3, np.int64)
    filled = 0
    for c in range(m):
        last = 0
        for k in range(begin[c], begin[c + 1]):
            t = order[k]
            rest = rows[t] - fine[2, 0]
            for axis in range(3):
                i = rest // fine[1, axis]
                rest -= i * fine[1, axis]
                i -= first[axis]
                ways[axis] = 0
                for o in (0, 1, -1):
                    if (i - o) % 2 == 0 and 0 <= (i - o) // 2 < coarse[0, axis]:
                        if fine[0, axis] == 1 and o != 0:
                            continue
                        J[axis, ways[axis]] = (i - o) // 2
                        off[axis, ways[axis]] = o
                        ways[axis] += 1
            for a in range(ways[0]):
                for b in range(ways[1]):
                    for e in range(ways[2]):
                        place = coarse[2, 0] + J[0, a] * coarse[1, 0]
                        place += J[1, b] * coarse[1, 1] + J[2, e] * coarse[1, 2]
                        o = number[off[0, a] + 1, off[1, b] + 1, off[2, e] + 1]
                        v = p[o, place] * values[t]
                        if v == 0.0:
                            continue
                        if seen[place] != c:
                            seen[place] = c
                            total[place] = 0.0
                            touched[last] = place
                            last += 1
                        total[place] += v
        if filled + last > most:
            most = 2 * (filled + last)
            r2, c2, v2 = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most)
            r2[:filled], c2[:filled], v2[:filled] = out_row[:filled], out_column[:filled], out_value[:filled]
            out_row, out_column, out_value = r2, c2, v2
        for k in range(last):
            out_row[filled], out_column[filled] = touched[k], c
            out_value[filled] = total[touched[k]]
            filled += 1
    return out_row[:filled], out_column[:filled], out_value[:filled]
