"""Conditions that hold exactly: u = lift + factor * network, with derivatives by the product rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any, final

import torch
from torch import Tensor

from .fields import Values, arguments, values_of
from .jets.nested import check_known, nested
from .jets.plan import Key, Plan


def _zero(points: Tensor) -> Tensor:
    """Return 0 at every point."""
    return torch.zeros_like(points[:, 0])


def _one(points: Tensor) -> Tensor:
    """Return 1 at every point."""
    return torch.ones_like(points[:, 0])


@final
@dataclass(frozen=True, eq=False)
class Hard:
    """u = lift + factor * N: where the factor vanishes, u equals the lift whatever the network N says.

    Args:
        lift: function of coordinates by name, (N,), with the prescribed values on the boundary.
        factor: function of coordinates by name, (N,), zero exactly there. It should be smooth: second
            derivatives of approximate distances blow up at corners.

    Example, u = 0 on the unit square's boundary: `Hard(factor=lambda x, y: x * (1 - x) * y * (1 - y))`.
    """

    lift: Callable[..., Any] = _zero
    factor: Callable[..., Any] = _one


@final
class Shape:
    """The lifts and factors of all outputs, with derivatives, on any points."""

    def __init__(
        self, constraint: Mapping[str, Hard], outputs: Sequence[str], coordinates: Sequence[str]
    ) -> None:
        hard = {name: constraint.get(name, Hard()) for name in outputs}
        self.lifts = {f"the lift of {name}": h.lift for name, h in hard.items()}
        self.factors = {f"the factor of {name}": h.factor for name, h in hard.items()}
        self.coordinates = coordinates

    def jets(self, points: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        """Return lift and factor with the derivatives of a plan, (rows, N, W) each.

        Raises:
            WrongShape: one of them is not one number per point.
        """
        with torch.enable_grad():
            rows = [
                nested(lambda x, parts=parts: self._stack(parts, x), points.detach(), plan).rows.detach()
                for parts in (self.lifts, self.factors)
            ]
        return rows[0], rows[1]

    def check(self, points: Tensor) -> None:
        """Raise NoDerivative if torch does not know the derivatives of a lift or factor at points (N, D)."""
        with torch.enable_grad():
            x = points.detach().requires_grad_()
            for parts in (self.lifts, self.factors):
                for what, column in self._columns(parts, x).items():
                    check_known(column, x, what)

    def _stack(self, parts: Mapping[str, Callable[..., Any]], points: Tensor) -> Tensor:
        zero = 0 * points.sum(dim=1)  # also constants have derivatives
        return torch.stack([column + zero for column in self._columns(parts, points).values()], dim=1)

    def _columns(self, parts: Mapping[str, Callable[..., Any]], points: Tensor) -> dict[str, Tensor]:
        given: dict[str, Any] = {name: points[:, i] for i, name in enumerate(self.coordinates)}
        given["points"] = points
        known, columns = tuple(given), {}
        for what, part in parts.items():
            value = part(**{name: given[name] for name in arguments(part, known, what)})
            columns[what] = values_of(value, points, len(points), what)
        return columns


@cache
def splits(key: Key) -> tuple[tuple[Key, Key, int], ...]:
    """Return the ways to share a derivative out between two factors, with multiplicities (Leibniz).

    >>> splits((0, 0))
    (((), (0, 0), 1), ((0,), (0,), 2), ((0, 0), (), 1))
    """
    ways: Counter[tuple[Key, Key]] = Counter()
    for size in range(len(key) + 1):
        for chosen in combinations(range(len(key)), size):
            left = tuple(key[i] for i in chosen)
            right = tuple(key[i] for i in range(len(key)) if i not in chosen)
            ways[left, right] += 1
    return tuple((left, right, count) for (left, right), count in sorted(ways.items()))


@final
class Constrained:
    """Outputs lift + factor * N with their derivatives.

    Args:
        inner: the network's.
        plan: what `lift` and `factor` were computed for.
        lift, factor: (rows, N, W).
    """

    def __init__(self, inner: Values, plan: Plan, lift: Tensor, factor: Tensor) -> None:
        self.inner, self.plan, self.lift, self.factor = inner, plan, lift, factor

    def of(self, key: Key) -> Tensor:
        total = self.lift[self.plan.place(key)]
        for left, right, count in splits(key):
            total = total + count * self.factor[self.plan.place(left)] * self.inner.of(right)
        return total

    @property
    def laplacian(self) -> Tensor:
        place = self.plan.place
        total = (
            self.lift[-1]
            + self.factor[-1] * self.inner.of(())
            + self.factor[place(())] * self.inner.laplacian
        )
        for i in self.plan.laplacian:
            total = total + 2 * self.factor[place((i,))] * self.inner.of((i,))
        return total
