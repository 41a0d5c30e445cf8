"""Hierarchies in two flat arrays, set up by compiled kernels: what `cycle_kernels.run_cycle` works on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from ....operators.linear.diffusion import Diffusion
from ...multigrid.hierarchy import SMALLEST
from ...multigrid.islands import Islands, _inverse
from ...multigrid.layout import Layout, Offset, half_offsets
from . import cycle_kernels as ck
from . import setup_kernels as sk
from .hierarchy import first_coarse, padded

Array = NDArray[Any]


@final
@dataclass(frozen=True)
class Geometry:
    """How the unknowns of a level and of the next one lie to each other."""

    fine: Layout
    coarse: Layout
    first: Offset
    lines: Array  # (count, 3): start of a coarse line, of its fine points, unknowns
    steps: Array  # distance of every offset, fine
    parents: Array  # (count, 4), by fine line, see `cycle_kernels.prolong`
    triples: Array  # (lead offsets, 3)


@final
@dataclass
class Plain:
    """A stencil as arrays: diagonal (total,), couplings (sides, total), their distances."""

    layout: Layout
    centre: Array
    w: Array
    d: Array


@final
@dataclass
class Group:
    """Islands of a level: runs of members, entries of A Z or P^T A Z, inverse of Z^T A Z."""

    run: Array
    rows: Array
    which: Array
    values: Array
    inverse: Array

    def on(self, shape: Geometry, p: Array) -> Group:
        """Return the same with P^T A Z for A Z."""
        pad = 3 - len(shape.first)
        fine, coarse = (
            np.array([(1,) * pad + x.shape, (10**9,) * pad + x.strides, (x.lead,) * 3])
            for x in (shape.fine, shape.coarse)
        )
        number = np.zeros((3, 3, 3), int)
        for k, o in enumerate(offsets(len(shape.first))):
            number[tuple(a + 1 for a in (0,) * pad + o)] = k
        first = np.array((0,) * pad + shape.first)
        entries = sk.restricted(
            (self.rows, self.which, self.values), len(self.inverse), fine, coarse, first, number, p
        )
        return Group(self.run, *entries, self.inverse)


@cache
def offsets(dim: int) -> list[Offset]:
    """Return all neighbours, fewest steps first: the middle is number 0."""
    return sorted(product((-1, 0, 1), repeat=dim), key=lambda o: (sum(map(abs, o)), o))


def reads(dim: int, *, star: bool) -> list[Offset]:
    """Return the offsets of the couplings of a stencil, the diagonal first."""
    sides = _sides(dim, star=star)
    return [(0,) * dim, *sides, *(tuple(-a for a in o) for o in sides)]


def _sides(dim: int, *, star: bool) -> list[Offset]:
    return [o for o in half_offsets(dim) if not star or sum(map(abs, o)) == 1]


def _sign(q: Offset, sides: list[Offset]) -> int:
    if not any(q):
        return 0
    back = tuple(-a for a in q)
    return sides.index(q) + 1 if q in sides else -(sides.index(back) + 1)


@cache
def roles(dim: int, star: bool) -> tuple[Array, Array]:
    """Return the signed couplings, and what each means to the interpolation at every offset."""
    every, read = offsets(dim), reads(dim, star=star)
    table = np.full((len(every), len(read)), -2)
    for n, o in enumerate(every):
        axes = [a for a in range(dim) if o[a]]
        for m, q in enumerate(read):
            kept = tuple(q[a] if a in axes else 0 for a in range(dim))
            if not any(kept):
                table[n, m] = -1
            elif all(kept[a] in (0, -o[a]) for a in axes):
                table[n, m] = every.index(tuple(i + j for i, j in zip(o, kept, strict=True)))
    return np.array([_sign(q, _sides(dim, star=star)) for q in read]), table


@cache
def terms(dim: int, star: bool) -> Array:
    """Return rows o, q, o', D of the sum a_(J, J + D) = sum p_o(J) a_q p_o'(J + D), sorted by D and o."""
    every, sides = offsets(dim), _sides(dim, star=star)
    rows = []
    for number, D in enumerate([(0,) * dim, *half_offsets(dim)]):
        for n, o in enumerate(every):
            for q in reads(dim, star=star):
                end = tuple(i + j - 2 * k for i, j, k in zip(o, q, D, strict=True))
                if end in every:
                    rows.append((n, _sign(q, sides), every.index(end), number))
    return np.array(rows)


def geometry(fine: Layout, first: Offset) -> Geometry:
    """Return how the lines of a level lie to those of the next one."""
    shape = tuple(len(range(f, n, 2)) for f, n in zip(first, fine.shape, strict=True))
    coarse, dim = Layout(shape, fine.periodic), len(shape)
    begin = _heads(coarse)
    heads = np.indices(shape[:-1]).reshape(dim - 1, begin.size).T
    start = fine.lead + first[-1] + (2 * heads + np.array(first[:-1], int)) @ np.array(fine.strides[:-1], int)
    lines = np.stack([begin, start, np.full(begin.size, shape[-1])], axis=1)
    steps = np.array([fine.distance(o) for o in offsets(dim)])
    every, leads = offsets(dim), offsets(dim - 1)
    triples = np.array([[every.index((*lead, o)) for o in (-1, 0, 1)] for lead in leads])
    return Geometry(fine, coarse, first, lines, steps, _parents(fine, coarse, first), triples)


def _heads(layout: Layout) -> Array:
    """Return where the lines of a layout begin."""
    shape = layout.shape[:-1]
    index = np.indices(shape).reshape(len(shape), int(np.prod(shape, dtype=int))).T
    return layout.lead + index @ np.array(layout.strides[:-1], int)


def _parents(fine: Layout, coarse: Layout, first: Offset) -> Array:
    """Return the parents of the fine lines, see `cycle_kernels.prolong`."""
    shape, leads = fine.shape[:-1], offsets(len(fine.shape) - 1)
    code = {o: k for k, o in enumerate(leads)}
    table = np.zeros((3,) * len(shape), int)
    for o, k in code.items():
        table[tuple(a + 1 for a in o)] = k
    index = np.indices(shape).reshape(len(shape), int(np.prod(shape, dtype=int)))
    line = fine.lead + first[-1] + np.array(fine.strides[:-1], int) @ index
    rows = []
    for choice in product((0, 1), repeat=len(shape)):
        valid, at = np.ones(line.shape, bool), np.full(line.shape, coarse.lead)
        step = []
        for axis, second in enumerate(choice):
            i = index[axis] - first[axis]
            o = np.where(i % 2 == 0, 0, 1 - 2 * second)
            J = (i - o) // 2
            valid &= (J >= 0) & (coarse.shape[axis] > J) & ((i % 2 == 1) | (second == 0))
            at = at + J * coarse.strides[axis]
            step.append(o + 1)
        lead = table[tuple(step)] if step else np.zeros(line.shape, int)
        rows.append(np.stack([line, at, np.full(line.shape, coarse.shape[-1]), lead], axis=1)[valid])
    every = np.concatenate(rows)
    return every[np.argsort(every[:, 0], kind="stable")]


def plain(A: Diffusion) -> Plain:
    """Copy a `Diffusion` into arrays of float64."""
    stencil = padded(A)
    sides = [o for o in half_offsets(A.grid.dim) if sum(map(abs, o)) == 1]
    w = torch.stack([stencil.sides[o] for o in sides]).double().numpy()
    d = np.array([stencil.layout.distance(o) for o in sides])
    return Plain(stencil.layout, stencil.centre.double().numpy(), w, d)


def coarsen(stencil: Plain, shape: Geometry) -> tuple[Array, Plain]:
    """Return the basis p (offsets, coarse total) and P^T A P."""
    dim, coarse = len(shape.fine.shape), shape.coarse
    star = stencil.d.size == dim
    read, role = roles(dim, star)
    p = np.zeros((shape.steps.size, coarse.total))
    far = np.empty((3, coarse.shape[-1]))
    lead = shape.fine.lead  # neighbours of ghosts are read too, and must be zero
    wide = (np.pad(stencil.centre, lead), np.pad(stencil.w, ((0, 0), (lead, lead))), stencil.d)
    lines = shape.lines + np.array([0, lead, 0])
    sk.interpolation(wide, lines, shape.steps, read, role, far, p)
    half = half_offsets(dim)
    out = np.zeros((1 + len(half), coarse.total))
    table = terms(dim, star)
    table = np.column_stack([table[:, 0], shape.steps[table[:, 0]], table[:, 1:]])
    step = np.array([0, *(coarse.distance(o) for o in half)])
    sk.product(wide, lines, table, step, p, out, far[0])
    return p, Plain(coarse, out[0], out[1:], step[1:])


def find_islands(stencil: Plain, islands: Islands) -> Group | None:
    """Return the islands of a level as `multigrid.islands.find` does, or None where there are not two."""
    c, w, d = stencil.centre, stencil.w, stencil.d
    root = sk.components(c, w, d, islands.strength)
    size, mass, energy, slack = sk.measure(c, w, d, root)
    groups = np.flatnonzero(size >= 2)
    quotient = energy[groups] / mass[groups]
    good = (quotient < islands.rayleigh) & (quotient > 0)
    chosen, quotient = groups[good], quotient[good]
    if chosen.size > islands.limit:
        chosen = chosen[np.sort(np.argsort(quotient, kind="stable")[: islands.limit])]
    if chosen.size < 2:
        return None
    number = np.full(c.size, -1, dtype=np.int32)
    number[chosen] = np.arange(chosen.size, dtype=np.int32)
    label = np.where(c > 0, number[root], np.int32(-1))
    run, rows, which, values, E = sk.borders(c, w, d, label, slack, chosen.size)
    return Group(run, rows, which, values, _inverse(E, chosen.size))


@final
class Packed:
    """All levels of a hierarchy for `run_cycle`: black-box transfers, Galerkin operators, islands.

    Args:
        A: one operator on the CPU, without periodic axes.
        bottom: unknowns from which on the inverse is dense.
        islands: how to find groups to deflate; None for none.
        dtype: of the cycle, numpy.

    Attributes:
        stencils: the operators of the levels, float64.
        groups: their islands.
    """

    def __init__(self, A: Diffusion, bottom: int, islands: Islands | None, dtype: type[np.floating]) -> None:
        first, stencil = first_coarse(A), plain(A)
        self.stencils, shapes, bases, searches = [stencil], [], [], []
        with ThreadPoolExecutor(1) as beside:  # islands are found while the next level is formed
            while stencil.layout.size > bottom and all(n > SMALLEST for n in stencil.layout.shape):
                if islands is not None:
                    searches.append(beside.submit(find_islands, stencil, islands))
                shapes.append(geometry(stencil.layout, first))
                p, stencil = coarsen(stencil, shapes[-1])
                bases.append(p)
                self.stencils.append(stencil)
        found = [s.result() for s in searches] or [None] * len(shapes)
        self.groups = [
            None if group is None else group.on(shape, p)
            for group, shape, p in zip(found, shapes, bases, strict=True)
        ]
        self.inverse, self.places = _bottom(stencil, singular=A.nullspace is not None)
        self._fill(shapes, bases, dtype)
        shape = self.stencils[0].layout
        begin = _heads(shape)
        n = shape.shape[-1]
        self.rows = np.stack([begin, n * np.arange(begin.size), np.full(begin.size, n)], axis=1)

    def sweeps(self, weights: list[float]) -> Array:
        """Return the table of smoothing weights, the same on every level."""
        return np.array([weights] * (len(self.stencils) - 1), dtype=self.store.dtype)

    def run(self, weights: Array, program: Array, factors: Array, b: Array, z: Array, rows: Array) -> None:
        """Run a program of `cycle_kernels`, z = M b; `rows`: where lines lie, those of the finest level."""
        memory = (self.store, self.index, self.table)
        given = factors.astype(self.store.dtype, copy=False)
        ck.run_cycle(memory, weights, program, given, (self.scratch, self.work), b, z, rows)

    def _fill(self, shapes: list[Geometry], bases: list[Array], dtype: type[np.floating]) -> None:
        """Write everything into `store` and `index`."""
        depth = len(shapes)
        self.table = np.zeros((depth + 1, ck.COLUMNS), dtype=np.int64)
        numbers, integers = 0, 0
        parts: list[tuple[int, Array]] = []
        whole: list[tuple[int, Array]] = []

        def number(level: int, column: int, values: Array | int) -> None:
            nonlocal numbers
            self.table[level, column] = numbers
            if not isinstance(values, int):
                parts.append((numbers, values))
                values = values.size
            numbers += -(-values // 16) * 16

        def integer(level: int, column: int, values: Array) -> None:
            nonlocal integers
            self.table[level, column] = integers
            whole.append((integers, values))
            integers += values.size

        for level, stencil in enumerate(self.stencils):
            T, layout = self.table[level], stencil.layout
            T[ck.SIZE], T[ck.FIRST], T[ck.LAST] = layout.total, layout.first, layout.last
            for column in (ck.RHS, ck.X, ck.Y, ck.OLD):
                number(level, column, layout.total)
            if level == depth:
                T[ck.ISLANDS] = self.places.size
                number(level, ck.DENSE, self.inverse)
                integer(level, ck.RUN, self.places)
                continue
            shape, group = shapes[level], self.groups[level]
            T[ck.SIDES], T[ck.OFFSETS], T[ck.LINES] = stencil.d.size, shape.steps.size, len(shape.parents)
            for column in (ck.SUMS, ck.INVERSE):
                number(level, column, layout.total)
            number(level, ck.COUPLINGS, stencil.w.size)
            number(level, ck.BASIS, bases[level])
            integer(level, ck.DISTANCES, stencil.d)
            integer(level, ck.STEPS, shape.triples)
            integer(level, ck.LINE, shape.parents)
            self.table[level + 1, ck.HEAD_COUNT] = len(shape.lines)
            integer(level + 1, ck.HEADS, shape.lines[:, ::2])
            if group is not None:
                T[ck.ISLANDS] = group.inverse.shape[0]
                T[ck.RUNS], T[ck.ENTRIES] = group.run.shape[0], group.rows.size
                number(level, ck.DENSE, group.inverse)
                number(level, ck.VALUES, group.values)
                for column, values in ((ck.RUN, group.run), (ck.ROWS, group.rows), (ck.WHICH, group.which)):
                    integer(level, column, values)
        self.store = np.zeros(numbers, dtype=dtype)
        self.index = np.empty(integers, dtype=np.int32)
        for place, values in parts:
            self.store[place : place + values.size] = values.reshape(-1)
        for place, values in whole:
            self.index[place : place + values.size] = values.reshape(-1)
        for level, stencil in enumerate(self.stencils[:-1]):
            T, n = self.table[level], stencil.layout.total
            view = lambda column, count, T=T: self.store[T[column] : T[column] + count]  # noqa: E731
            sk.shorten(
                stencil.centre,
                stencil.w,
                stencil.d,
                (stencil.layout.first, stencil.layout.last),
                view(ck.SUMS, n),
                view(ck.COUPLINGS, stencil.w.size).reshape(stencil.w.shape),
                view(ck.INVERSE, n),
            )
        most = max([self.places.size, *(g.inverse.shape[0] for g in self.groups if g is not None)])
        self.work = np.zeros((2, max(x.layout.shape[-1] for x in self.stencils) + 2), dtype=dtype)
        self.scratch = np.zeros((depth + 2, most), dtype=dtype)


def _bottom(stencil: Plain, *, singular: bool) -> tuple[Array, Array]:
    """Return the inverse of the last operator and where its unknowns lie."""
    layout = stencil.layout
    numbers = torch.full((layout.total,), -1)
    layout.inside(numbers).copy_(torch.arange(layout.size).reshape(layout.shape))
    place = numbers.numpy()
    matrix = torch.as_tensor(sk.matrix(stencil.centre, stencil.w, stencil.d, place))
    places = np.flatnonzero(place >= 0)
    if singular:
        return torch.linalg.pinv(matrix, hermitian=True, rtol=1e-11).numpy(), places
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix)).numpy(), places
