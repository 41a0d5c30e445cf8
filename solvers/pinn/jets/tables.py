"""A plan's formulas as arrays for the compiled passes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import final

import numpy as np
from numpy.typing import NDArray

from .plan import HIGHEST, Plan

Ints = NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class Tables:
    """The terms of s(z) and of its gradient, for one type of numbers.

    Attributes:
        groups: terms with the same row and order of s: row, order, terms from and to, pulls from and to,
            and whether the group is the first of its row.
        terms: number of rows multiplied, and these rows.
        factors: of the terms.
        pulls: derivatives of the terms in the rows of z: which row, number of rows multiplied, these rows.
        weights: of the pulls.
        orders: the order of s in every row, where z is affine in the coordinates.
    """

    groups: Ints  # (G, 7)
    terms: Ints  # (T, 5)
    factors: NDArray[np.floating]  # (T,)
    pulls: Ints  # (P, 5)
    weights: NDArray[np.floating]  # (P,)
    orders: Ints  # (K,)


@cache
def tables(plan: Plan, dtype: str) -> Tables:
    """Return the tables of a plan, "float32" or "float64"."""
    groups: list[list[int]] = []
    terms: list[list[int]] = []
    pulls: list[list[int]] = []
    factors: list[float] = []
    weights: list[float] = []
    for row, chain in enumerate(plan.composition[1:], start=1):
        for begun, (order, group) in enumerate(groupby(chain, key=lambda t: t.order)):
            starts = [len(terms), len(pulls)]
            for term in group:
                terms.append(_padded([len(term.rows), *term.rows], 1 + HIGHEST))
                factors.append(term.factor)
                for target, times in Counter(term.rows).items():
                    rest = list(term.rows)
                    rest.remove(target)
                    pulls.append(_padded([target, len(rest), *rest], 1 + HIGHEST))
                    weights.append(times * term.factor)
            groups.append([row, order, starts[0], len(terms), starts[1], len(pulls), not begun])
    orders = [len(key) for key in plan.rows] + [2] * bool(plan.laplacian)
    return Tables(
        np.array(groups, dtype=np.int64).reshape(-1, 7),
        np.array(terms, dtype=np.int64).reshape(-1, 1 + HIGHEST),
        np.array(factors, dtype=dtype),
        np.array(pulls, dtype=np.int64).reshape(-1, 1 + HIGHEST),
        np.array(weights, dtype=dtype),
        np.array(orders, dtype=np.int64),
    )


def _padded(numbers: list[int], length: int) -> list[int]:
    return numbers + [0] * (length - len(numbers))
