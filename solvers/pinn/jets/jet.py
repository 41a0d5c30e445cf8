"""Values and derivatives of a function on a batch of points, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .plan import Key, Plan


@final
@dataclass(frozen=True, eq=False)
class Jet:
    """A function with the derivatives of a plan: rows (K, N, W), or (K, M, N, W) for M functions.

    >>> x = torch.tensor([[2.0], [3.0]])
    >>> squares = Jet(Plan([(0, 0)]), torch.stack([x * x, 2 * x, torch.full_like(x, 2.0)]))
    >>> squares.of((0,)).tolist()
    [[4.0], [6.0]]
    """

    plan: Plan
    rows: Tensor  # (K, ..., N, W)

    @property
    def value(self) -> Tensor:
        """The function, (N, W)."""
        return self.rows[0]

    def of(self, key: Key) -> Tensor:
        """Return a derivative, (N, W).

        Raises:
            NoDerivative: the plan does not carry it.
        """
        return self.rows[self.plan.place(key)]

    @property
    def laplacian(self) -> Tensor:
        """The sum of the pure second derivatives over the coordinates of `plan.laplacian`, (N, W).

        Raises:
            NoDerivative: the plan does not carry it.
        """
        return self.rows[self.plan.laplacian_row]


@final
@dataclass(frozen=True, eq=False)
class Affine:
    """A function that is affine in the coordinates: first derivatives are constants, higher ones zero.

    The coordinates themselves, what a first linear layer makes of them, and their normalisation: their jets
    need no work per point beyond the value.
    """

    plan: Plan
    value: Tensor  # (..., N, W)
    slopes: Tensor  # (D, ..., W): the derivative by every coordinate

    def jet(self) -> Jet:
        """Return the same with all rows written out."""
        zero = torch.zeros_like(self.value)
        rows = [self.value]
        for key in self.plan.rows[1:]:
            rows.append(self.slopes[key[0]].unsqueeze(-2) + zero if len(key) == 1 else zero)
        if self.plan.laplacian:
            rows.append(zero)
        return Jet(self.plan, torch.stack(rows))


def coordinates(x: Tensor, plan: Plan) -> Affine:
    """Return the coordinates themselves, (N, D), as functions of the coordinates."""
    return Affine(plan, x, torch.eye(x.shape[1], dtype=x.dtype, device=x.device))


def written_out(jet: Jet | Affine) -> Jet:
    """Return a jet with all its rows."""
    return jet.jet() if isinstance(jet, Affine) else jet


def combined(plan: Plan, parts: Mapping[Key, Tensor], laplacian: Tensor | None = None) -> Jet:
    """Return the jet of a function whose derivatives are known; those not given are zero.

    Args:
        plan: the derivatives carried.
        parts: derivatives (N, W); the value () is needed.
        laplacian: (N, W), where the plan carries it.
    """
    zero = torch.zeros_like(parts[()])
    rows = [parts.get(key, zero) for key in plan.rows]
    if plan.laplacian:
        rows.append(zero if laplacian is None else laplacian)
    return Jet(plan, torch.stack(rows))
