"""A whole multigrid cycle as one compiled call: no interpreter between the levels.

All levels lie in one array of numbers, `store`, and one of integers, `index`; row l of `table` says where
those of level l begin. The order in which levels are visited is a list of operations, written once at set-up.
"""

from __future__ import annotations

import numba

from ...multigrid import kernels

FROM_ZERO, GO_ON, UP, BOTTOM, KEEP, BLEND = range(6)  # operations of a program

# Columns of the table: sizes, then places in `store`, then places in `index`.
SIZE, FIRST, LAST, SIDES, OFFSETS, LINES, ISLANDS, RUNS, ENTRIES, HEAD_COUNT = range(10)
SUMS, COUPLINGS, INVERSE, RHS, X, Y, OLD, BASIS, DENSE, VALUES = range(10, 20)
DISTANCES, STEPS, LINE, RUN, ROWS, WHICH, HEADS = range(20, 27)
COLUMNS = 27
FAST = {"contract", "reassoc"}


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def restrict(fine, p, parents, lines, triples, work, coarse):  # type: ignore[no-untyped-def]
    """coarse = P^T fine; `parents` and `triples` as in `prolong`, `lines` where the coarse lines begin."""
    for line in range(lines.shape[0]):
        coarse[lines[line, 0] : lines[line, 0] + lines[line, 1]] = 0
    for k in range(parents.shape[0]):
        start, at, n, lead = parents[k, 0], parents[k, 1], parents[k, 2], parents[k, 3]
        even, odd = work[0, : n + 1], work[1, : n + 1]
        if k == 0 or parents[k - 1, 0] != start:
            f = fine[start - 1 : start + 2 * n]
            for j in range(n):
                odd[j] = f[2 * j]
                even[j] = f[2 * j + 1]
            odd[n] = f[2 * n]
        c, after = coarse[at : at + n], odd[1:]
        left, right = p[triples[lead, 0], at : at + n], p[triples[lead, 2], at : at + n]
        if lead == 0:
            for j in range(n):
                c[j] += even[j] + left[j] * odd[j] + right[j] * after[j]
        else:
            middle = p[triples[lead, 1], at : at + n]
            for j in range(n):
                c[j] += middle[j] * even[j] + left[j] * odd[j] + right[j] * after[j]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def prolong(coarse, p, parents, triples, work, fine):  # type: ignore[no-untyped-def]
    """fine += P coarse, line by line of the last axis.

    Args:
        p: (offsets, coarse size), the weights.
        parents: (count, 4), by fine line: place of its first unknown that coincides with a coarse one along
            the last axis; a coarse line that it takes from; unknowns of that; number of the offset between.
        triples: per such number, the offsets that end in -1, 0, 1 along the last axis.
        work: (2, at least 1 + unknowns).
    """
    for k in range(parents.shape[0]):
        start, at, n, lead = parents[k, 0], parents[k, 1], parents[k, 2], parents[k, 3]
        even, odd = work[0, : n + 1], work[1, : n + 1]
        if k == 0 or parents[k - 1, 0] != start:
            even[:] = 0
            odd[:] = 0
        c, before = coarse[at : at + n + 1], coarse[at - 1 : at + n]
        left, right = p[triples[lead, 0], at : at + n + 1], p[triples[lead, 2], at - 1 : at + n]
        middle = p[triples[lead, 1], at : at + n + 1]
        for j in range(n + 1):
            odd[j] += left[j] * c[j] + right[j] * before[j]
            even[j] += middle[j] * c[j]
        if k + 1 == parents.shape[0] or parents[k + 1, 0] != start:
            f = fine[start - 1 : start + 2 * n]
            for j in range(n):
                f[2 * j] += odd[j]
                f[2 * j + 1] += even[j]
            f[2 * n] += odd[n]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def multiply(matrix, x, out):  # type: ignore[no-untyped-def]
    """out = matrix x."""
    for i in range(out.size):
        row = matrix[i]
        total = x.dtype.type(0.0)
        for j in range(x.size):
            total += row[j] * x[j]
        out[i] = total


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def island_sums(run, x, out):  # type: ignore[no-untyped-def]
    """out = Z^T x; run (count, 3): start, end, island."""
    out[:] = 0
    for k in range(run.shape[0]):
        part = x[run[k, 0] : run[k, 1]]
        total = x.dtype.type(0.0)
        for i in range(part.size):
            total += part[i]
        out[run[k, 2]] += total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def operator(store, index, T):  # type: ignore[no-untyped-def]
    """View row sums, couplings, distances and the inverse of the smoother, as `kernels.smooth` wants them."""
    n, sides = T[SIZE], T[SIDES]
    w = store[T[COUPLINGS] : T[COUPLINGS] + sides * n].reshape(sides, n)
    d = index[T[DISTANCES] : T[DISTANCES] + sides]
    return store[T[SUMS] : T[SUMS] + n], w, d, store[T[INVERSE] : T[INVERSE] + n]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def transfer(store, index, T, below):  # type: ignore[no-untyped-def]
    """View the basis (offsets, coarse size), the parents of the fine lines and the triples of offsets."""
    p = store[T[BASIS] : T[BASIS] + T[OFFSETS] * below].reshape(T[OFFSETS], below)
    parents = index[T[LINE] : T[LINE] + 4 * T[LINES]].reshape(T[LINES], 4)
    return p, parents, index[T[STEPS] : T[STEPS] + T[OFFSETS]].reshape(T[OFFSETS] // 3, 3)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def coarse_lines(index, T):  # type: ignore[no-untyped-def]
    """View where the lines of a level begin, and how long they are."""
    return index[T[HEADS] : T[HEADS] + 2 * T[HEAD_COUNT]].reshape(T[HEAD_COUNT], 2)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def islands(store, index, T):  # type: ignore[no-untyped-def]
    """View the runs of members, the entries of P^T A Z by coarse row, and the inverse of Z^T A Z."""
    m, count = T[ISLANDS], T[ENTRIES]
    run = index[T[RUN] : T[RUN] + 3 * T[RUNS]].reshape(T[RUNS], 3)
    rows, which = index[T[ROWS] : T[ROWS] + count], index[T[WHICH] : T[WHICH] + count]
    values = store[T[VALUES] : T[VALUES] + count]
    return run, rows, which, values, store[T[DENSE] : T[DENSE] + m * m].reshape(m, m)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def down(store, index, table, level, weights, zero, scratch, work):  # type: ignore[no-untyped-def]
    """Smooth, and send the residual to the next level; row 1 + level of scratch keeps what islands get."""
    T, below = table[level], table[level + 1]
    n = T[SIZE]
    b, x, y = store[T[RHS] : T[RHS] + n], store[T[X] : T[X] + n], store[T[Y] : T[Y] + n]
    arrays, span = operator(store, index, T), (T[FIRST], T[LAST])
    for sweep in range(weights.size):
        if zero and sweep == 0:
            kernels.scale(b, arrays[3], weights[0], y)
        else:
            kernels.smooth(arrays, b, x, span, weights[sweep], y)
        x, y = y, x
    if weights.size % 2 == 1:  # the solution belongs into the array called X
        y[:] = x
        x, y = y, x
    kernels.residual(arrays, b, x, span, y)
    m = T[ISLANDS]
    c = scratch[1 + level, :m]
    if m > 0:
        run, _, _, _, inverse = islands(store, index, T)
        sums = scratch[0, :m]
        island_sums(run, y, sums)
        multiply(inverse, sums, c)
    p, parents, triples = transfer(store, index, T, below[SIZE])
    coarse = store[below[RHS] : below[RHS] + below[SIZE]]
    restrict(y, p, parents, coarse_lines(index, below), triples, work, coarse)
    if m > 0:  # P^T (r - A Z c) = P^T r - (P^T A Z) c
        _, rows, which, values, _ = islands(store, index, T)
        for k in range(rows.size):
            coarse[rows[k]] -= values[k] * c[which[k]]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def up(store, index, table, level, weights, scratch, work):  # type: ignore[no-untyped-def]
    """Add the correction of the next level, and smooth."""
    T, below = table[level], table[level + 1]
    n, m = T[SIZE], T[ISLANDS]
    b, x, y = store[T[RHS] : T[RHS] + n], store[T[X] : T[X] + n], store[T[Y] : T[Y] + n]
    p, parents, triples = transfer(store, index, T, below[SIZE])
    correction = store[below[X] : below[X] + below[SIZE]]
    prolong(correction, p, parents, triples, work, x)
    if m > 0:
        run, rows, which, values, inverse = islands(store, index, T)
        sums, c, further = scratch[0, :m], scratch[1 + level, :m], scratch[scratch.shape[0] - 1, :m]
        sums[:] = 0
        for k in range(rows.size):
            sums[which[k]] += values[k] * correction[rows[k]]
        multiply(inverse, sums, further)
        for k in range(run.shape[0]):
            more = c[run[k, 2]] - further[run[k, 2]]
            for i in range(run[k, 0], run[k, 1]):
                x[i] += more
    arrays, span = operator(store, index, T), (T[FIRST], T[LAST])
    for sweep in range(weights.size):
        kernels.smooth(arrays, b, x, span, weights[weights.size - 1 - sweep], y)
        x, y = y, x
    if weights.size % 2 == 1:
        y[:] = x


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bottom(store, index, T, scratch):  # type: ignore[no-untyped-def]
    """Solve exactly on the last level."""
    m = T[ISLANDS]
    places = index[T[RUN] : T[RUN] + m]
    inverse = store[T[DENSE] : T[DENSE] + m * m].reshape(m, m)
    b, x, given, solved = store[T[RHS] :], store[T[X] :], scratch[0, :m], scratch[scratch.shape[0] - 1, :m]
    for i in range(m):
        given[i] = b[places[i]]
    multiply(inverse, given, solved)
    for i in range(m):
        x[places[i]] = solved[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def run_cycle(memory, weights, program, factors, spare, b, z, rows):  # type: ignore[no-untyped-def]
    """Run a program: z = M b; rows (count, 3): where the lines of the finest level begin, in it and in b.

    KEEP scales X and remembers it, BLEND moves from what is remembered towards X by a factor.
    """
    store, index, table = memory
    scratch, work = spare
    T = table[0]
    right, x = store[T[RHS] :], store[T[X] :]
    for line in range(rows.shape[0]):
        into, out, n = rows[line, 0], rows[line, 1], rows[line, 2]
        right[into : into + n] = b[out : out + n]
    for step in range(program.shape[0]):
        what, level = program[step, 0], program[step, 1]
        if what in (FROM_ZERO, GO_ON):
            down(store, index, table, level, weights[level], what == FROM_ZERO, scratch, work)
        elif what == UP:
            up(store, index, table, level, weights[level], scratch, work)
        elif what == BOTTOM:
            bottom(store, index, table[level], scratch)
        else:
            T = table[level]
            now, old = store[T[X] : T[X] + T[SIZE]], store[T[OLD] : T[OLD] + T[SIZE]]
            f = factors[step]
            if what == BLEND:
                for i in range(now.size):
                    now[i] = old[i] + f * (now[i] - old[i])
                    old[i] = now[i]
            else:
                for i in range(now.size):
                    now[i] *= f
                    old[i] = now[i]
    for line in range(rows.shape[0]):
        into, out, n = rows[line, 0], rows[line, 1], rows[line, 2]
        z[out : out + n] = x[into : into + n]
