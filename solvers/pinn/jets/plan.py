"""Which derivatives are carried through a network, and the sums that compose them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import final

from ..errors import NoDerivative

HIGHEST = 4  # order of derivatives

Key = tuple[int, ...]
"""Sorted coordinate numbers of a derivative: () the value, (0,) u_x, (0, 0, 1) u_xxy."""


@final
@dataclass(frozen=True)
class Chain:
    """A term c s_k z_a z_b ... of a derivative of s(z); s_k is the k-th derivative of s at the value of z."""

    order: int
    factor: float
    rows: tuple[int, ...]


@final
@dataclass(frozen=True)
class Product:
    """A term c f_a g_b of a derivative of f g."""

    factor: float
    first: int
    second: int


@final
@dataclass(frozen=True, init=False)
class Plan:
    """Derivatives wanted of a function of D coordinates, with those that composition needs besides.

    Args:
        keys: derivatives, each given by its coordinate numbers in any order; the value is always carried.
        laplacian: coordinates over which the sum of pure second derivatives is wanted. It is carried as one
            quantity ("collapsed"), with the first derivatives, instead of one second derivative for each.

    Attributes:
        rows: derivatives carried, the value first: those wanted, and all that these are composed from.
        order: highest derivative of an activation that is needed.
        coordinates: those along which anything is differentiated.
        composition: the terms of every row of s(z).
        products: the terms of every row of f g.

    Raises:
        NoDerivative: an order above 4, or a negative number.

    >>> plan = Plan([(1, 0, 0)])
    >>> plan.rows
    ((), (0,), (1,), (0, 0), (0, 1), (0, 0, 1))
    >>> plan.place((0, 1))
    4
    >>> Plan([], laplacian=(0, 1)).size
    4
    """

    keys: tuple[Key, ...]
    laplacian: tuple[int, ...]
    rows: tuple[Key, ...] = field(init=False, repr=False, compare=False)
    order: int = field(init=False, repr=False, compare=False)
    coordinates: tuple[int, ...] = field(init=False, repr=False, compare=False)
    composition: tuple[tuple[Chain, ...], ...] = field(init=False, repr=False, compare=False)
    products: tuple[tuple[Product, ...], ...] = field(init=False, repr=False, compare=False)
    _places: dict[Key, int] = field(init=False, repr=False, compare=False)

    def __init__(self, keys: Iterable[Iterable[int]] = (), laplacian: Iterable[int] = ()) -> None:
        wanted = {tuple(sorted(key)) for key in keys} | {()}
        for key in wanted:
            if len(key) > HIGHEST:
                raise NoDerivative(
                    f"derivatives up to order {HIGHEST} are carried, {key} is of order {len(key)}: make a "
                    "further output for a lower derivative, with an equation that ties them"
                )
        axes = tuple(sorted(set(laplacian)))
        if any(i < 0 for key in (*wanted, axes) for i in key):
            raise NoDerivative(f"coordinates are numbered from 0, got {sorted(wanted)}, laplacian {axes}")
        rows = _closure(wanted, axes)
        made = {
            "keys": tuple(sorted(wanted, key=_by_order)),
            "laplacian": axes,
            "rows": rows,
            "order": max(len(rows[-1]), 2 * bool(axes)),
            "coordinates": tuple(sorted({i for key in rows for i in key})),
            "_places": {key: row for row, key in enumerate(rows)},
        }
        for (
            name,
            value,
        ) in made.items():  # now, not when first asked for: plans are read while graphs are traced
            object.__setattr__(self, name, value)
        object.__setattr__(self, "composition", self._composition())
        object.__setattr__(self, "products", self._products())

    @property
    def size(self) -> int:
        """Quantities carried, K: the derivatives, and the collapsed Laplacian as the last one."""
        return len(self.rows) + bool(self.laplacian)

    def place(self, key: Iterable[int]) -> int:
        """Return the row of a derivative.

        Raises:
            NoDerivative: it is not carried.
        """
        row = self._places.get(tuple(sorted(key)))
        if row is None:
            raise NoDerivative(
                f"derivative {tuple(key)} is not carried, there are {self.rows}: put it in the plan. What an "
                "equation uses is found by one trial call: ask for the same derivatives in every call, not "
                "in one branch of an if"
            )
        return row

    @property
    def laplacian_row(self) -> int:
        """The row of the collapsed Laplacian.

        Raises:
            NoDerivative: none is carried.
        """
        if not self.laplacian:
            raise NoDerivative("no Laplacian is carried: give its coordinates, Plan(keys, laplacian=(0, 1))")
        return len(self.rows)

    def _composition(self) -> tuple[tuple[Chain, ...], ...]:
        """Return the terms of every row of s(z): the formula of Faa di Bruno, equal terms merged.

        The derivative by the coordinates m_1 ... m_n is the sum over the partitions of {1 ... n}, into k
        blocks, of s_k times the product of z differentiated by the coordinates of each block. The Laplacian
        is s_1 (laplacian z) + s_2 sum z_i^2. Orders are ascending.
        """
        rows: list[tuple[Chain, ...]] = []
        for key in self.rows:
            blocks = Counter(
                tuple(sorted(self.place(key[p] for p in block) for block in partition))
                for partition in partitions(tuple(range(len(key))))
            )
            terms = [Chain(len(b), float(n), b) for b, n in blocks.items()]
            rows.append(tuple(sorted(terms, key=lambda t: (t.order, t.rows))))
        if self.laplacian:
            squares = [self.place((i,)) for i in self.laplacian]
            rows.append((Chain(1, 1.0, (len(self.rows),)), *(Chain(2, 1.0, (i, i)) for i in squares)))
        return tuple(rows)

    def _products(self) -> tuple[tuple[Product, ...], ...]:
        """Return the terms of every row of f g: the rule of Leibniz, equal terms merged."""
        rows: list[tuple[Product, ...]] = []
        for key in self.rows:
            pairs: Counter[tuple[int, int]] = Counter()
            for n in range(len(key) + 1):
                for chosen in combinations(range(len(key)), n):
                    rest = [key[p] for p in range(len(key)) if p not in chosen]
                    pairs[self.place(key[p] for p in chosen), self.place(rest)] += 1
            rows.append(tuple(Product(float(n), *pair) for pair, n in sorted(pairs.items())))
        if self.laplacian:
            first = [self.place((i,)) for i in self.laplacian]
            last = len(self.rows)
            rows.append((Product(1.0, 0, last), Product(1.0, last, 0), *(Product(2.0, i, i) for i in first)))
        return tuple(rows)


def _closure(wanted: Iterable[Key], axes: tuple[int, ...]) -> tuple[Key, ...]:
    """Return all derivatives from which those wanted, and the Laplacian, are composed."""
    needed: set[Key] = {(i,) for i in axes}
    for key in wanted:
        for n in range(len(key) + 1):
            needed.update(combinations(key, n))
    return tuple(sorted(needed, key=_by_order))


def _by_order(key: Key) -> tuple[int, Key]:
    return len(key), key


@cache
def partitions(items: tuple[int, ...]) -> tuple[tuple[Key, ...], ...]:
    """Return all partitions of distinct items into blocks.

    >>> partitions((0, 1))
    (((0, 1),), ((0,), (1,)))
    """
    if not items:
        return ((),)
    first, rest = items[0], items[1:]
    found: list[tuple[Key, ...]] = []
    for n in range(len(rest), -1, -1):
        for mates in combinations(rest, n):
            others = tuple(i for i in rest if i not in mates)
            found.extend(((first, *mates), *tail) for tail in partitions(others))
    return tuple(found)
