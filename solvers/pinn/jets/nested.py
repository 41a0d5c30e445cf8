"""Derivatives of any function by differentiating it again and again: slow, and right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import NoDerivative
from .jet import Jet
from .plan import Key, Plan

Function = Callable[[Tensor], Tensor]


def nested(f: Function, x: Tensor, plan: Plan) -> Jet:
    """Return the jet of any function by nested reverse differentiation.

    The result can be differentiated once more, in the parameters of f. Its cost grows with the number of
    outputs and, quickly, with the order.

    Args:
        f: maps (N, D) to (N, W), every point apart from the others, by operations that torch can
            differentiate as often as the plan says.
        x: points (N, D).
        plan: the derivatives.

    >>> nested(lambda x: x**3, torch.tensor([[2.0]]), Plan([(0, 0)])).rows[:, 0, 0].tolist()
    [8.0, 12.0, 12.0]
    """
    if torch._C._are_functorch_transforms_active():
        return _transformed(f, x, plan)
    with torch.enable_grad():
        x = x.detach().requires_grad_() if not x.requires_grad else x
        value = f(x)
        columns = []
        for u in value.unbind(1):
            gradients: dict[Key, Tensor] = {}

            def derivative(key: Key, u: Tensor = u, known: dict[Key, Tensor] = gradients) -> Tensor:
                if not key:
                    return u
                parent = key[:-1]
                if parent not in known:
                    known[parent] = _gradient(derivative(parent), x)
                return known[parent][:, key[-1]]

            rows = [derivative(key) for key in plan.rows]
            if plan.laplacian:
                rows.append(torch.stack([derivative((i, i)) for i in plan.laplacian]).sum(0))
            columns.append(torch.stack(rows))
        return Jet(plan, torch.stack(columns, dim=-1))


def _gradient(u: Tensor, x: Tensor) -> Tensor:
    found = None
    if u.requires_grad:
        found = torch.autograd.grad(u.sum(), x, create_graph=True, allow_unused=True)[0]
    return torch.zeros_like(x) if found is None else found  # constant in x


def check_known(u: Tensor, x: Tensor, what: str) -> None:
    """Raise NoDerivative where u (N, ...) differs between points x (N, D) by what torch did not follow."""
    followed = u.requires_grad and torch.autograd.grad(u.sum(), x, retain_graph=True, allow_unused=True)[0]
    if (followed is None or followed is False) and bool((u != u[:1]).any()):
        raise NoDerivative(
            f"{what} differs between points, but torch knows no derivative of it in the coordinates: write "
            "it by operations of torch, without NumPy, detach() or no_grad()"
        )


def _transformed(f: Function, x: Tensor, plan: Plan) -> Jet:
    """Inside transforms of torch.func their own gradients are needed; nothing is shared between rows."""

    def derivative(key: Key, column: int) -> Function:
        if not key:
            return lambda y: f(y)[:, column]
        parent = derivative(key[:-1], column)
        return lambda y: torch.func.grad(lambda w: parent(w).sum())(y)[:, key[-1]]

    def rows(column: int) -> Tensor:
        found = [derivative(key, column)(x) for key in plan.rows]
        if plan.laplacian:
            found.append(torch.stack([derivative((i, i), column)(x) for i in plan.laplacian]).sum(0))
        return torch.stack(found)

    width = f(x).shape[1]
    return Jet(plan, torch.stack([rows(c) for c in range(width)], dim=-1))
