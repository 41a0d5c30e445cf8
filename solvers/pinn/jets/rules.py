"""How jets go through what networks are made of: linear layers, activations, sums and products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ....operators.neural.layers.fused import fusible
from .activations import Activation
from .fused import Layers, Work
from .jet import Affine, Jet, written_out
from .plan import Chain, Plan


def linear(jet: Jet | Affine, weight: Tensor, bias: Tensor | None = None) -> Jet | Affine:
    """Return W f + b: one product of matrices for all rows; the bias belongs to the value alone.

    Args:
        jet: of W functions; rows (K, N, W), or (K, M, N, W) for M networks side by side.
        weight: (V, W), or (M, V, W).
        bias: (V,), or (M, V).
    """
    turned = weight.mT
    shift = None if bias is None else bias.unsqueeze(-2) if weight.ndim == 3 else bias
    if isinstance(jet, Affine):
        value = jet.value @ turned if shift is None else jet.value @ turned + shift
        slopes = jet.slopes if weight.ndim == jet.slopes.ndim else jet.slopes.unsqueeze(1)
        if weight.ndim == 3:  # (D, M or 1, 1, W) @ (M, W, V)
            return Affine(jet.plan, value, (slopes.unsqueeze(-2) @ turned).squeeze(-2))
        return Affine(jet.plan, value, slopes @ turned)
    rows = (jet.rows.unsqueeze(1) if weight.ndim == jet.rows.ndim else jet.rows) @ turned
    if shift is not None:
        rows = torch.cat([rows[:1] + shift, rows[1:]]) if len(rows) > 1 else rows + shift
    return Jet(jet.plan, rows)


def activate(jet: Jet | Affine, activation: Activation) -> Jet:
    """Return s(f) by the formula of Faa di Bruno, in operations that torch can differentiate and transform.

    Raises:
        NoDerivative: s has no derivative of the plan's order.
    """
    activation.check(jet.plan.order)
    if isinstance(jet, Affine):
        return _activate_affine(jet, activation)
    if jet.plan.size == 1:
        return Jet(jet.plan, activation.value(jet.rows))
    s = activation.derivatives(jet.value, jet.plan.order)
    return Jet(
        jet.plan, torch.stack([s[0], *(compose(terms, s, jet.rows) for terms in jet.plan.composition[1:])])
    )


def layers(
    jet: Jet | Affine,
    weights: Sequence[tuple[Tensor, Tensor]],
    activation: Activation,
    last: tuple[Tensor, Tensor] | None = None,
) -> Jet | Affine:
    """Return s(W_n ... s(W_1 f + b_1) ... + b_n), and W f + b of that if there is a last layer.

    On the CPU all of it is one operation with its gradient written by hand (`fused.py`); where that cannot be
    used (transforms of torch.func, torch.compile, other devices) it is composed of `linear` and `activate`.
    """
    activation.check(jet.plan.order)
    every = [*weights, last] if last is not None else list(weights)
    if jet.plan.size == 1 or not activation.code or not every or not _fits(jet, every):
        for weight, bias in weights:
            jet = activate(linear(jet, weight, bias), activation)
        return linear(jet, *last) if last is not None else jet
    if every[0][0].ndim == 3:
        found = [
            layers(
                _member(jet, m),
                [(w[m], b[m]) for w, b in weights],
                activation,
                last and (last[0][m], last[1][m]),
            )
            for m in range(len(every[0][0]))
        ]
        return Jet(jet.plan, torch.stack([written_out(j).rows for j in found], dim=1))
    return _fused(jet, every, activation, last is not None)


def _fits(jet: Jet | Affine, weights: Sequence[tuple[Tensor, Tensor]]) -> bool:
    given = [jet.value, *(t for pair in weights for t in pair)]
    return (
        all(t.device.type == "cpu" and t.dtype == given[0].dtype for t in given)
        and given[0].dtype in (torch.float32, torch.float64)
        and fusible(*given)
    )


def _member(jet: Jet | Affine, m: int) -> Jet | Affine:
    """Return the functions of one of M networks side by side, or what all of them share."""
    if isinstance(jet, Affine):
        return Affine(jet.plan, jet.value[m], jet.slopes[:, m]) if jet.slopes.ndim == 3 else jet
    return Jet(jet.plan, jet.rows[:, m]) if jet.rows.ndim == 4 else jet


def _fused(
    jet: Jet | Affine, weights: Sequence[tuple[Tensor, Tensor]], activation: Activation, last: bool
) -> Jet:
    plan = jet.plan
    if isinstance(jet, Affine) and len(weights) > last:
        inner = linear(jet, *weights[0])
        assert isinstance(inner, Affine)
        work = Work(plan, activation, last, True, _plain_affine(plan, activation, last))
        flat = [t for pair in weights[1:] for t in pair]
        return Jet(plan, Layers.apply(work, inner.value, _products(inner), *flat))
    work = Work(plan, activation, last, False, _plain(plan, activation, last))
    return Jet(plan, Layers.apply(work, written_out(jet).rows, None, *(t for pair in weights for t in pair)))


def _products(jet: Affine) -> Tensor:
    """Return c (K, W): row r of s(f) is c_r s_k(f), k the order of the row."""
    one = torch.ones_like(jet.slopes[0])
    rows = [_multiplied([one, *[jet.slopes[i] for i in key]]) for key in jet.plan.rows]
    if jet.plan.laplacian:
        rows.append(jet.slopes[list(jet.plan.laplacian)].square().sum(0))
    return torch.stack(rows)


def _plain(plan: Plan, activation: Activation, last: bool) -> Callable[..., Tensor]:
    def rows(start: Tensor, c: None, *flat: Tensor) -> Tensor:
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        jet: Jet | Affine = Jet(plan, start)
        for k, pair in enumerate(pairs):
            jet = linear(jet, *pair)
            jet = jet if last and k + 1 == len(pairs) else activate(jet, activation)
        return written_out(jet).rows

    return rows


def _plain_affine(plan: Plan, activation: Activation, last: bool) -> Callable[..., Tensor]:
    orders = [len(key) for key in plan.rows] + [2] * bool(plan.laplacian)
    rest = _plain(plan, activation, last)

    def rows(z: Tensor, c: Tensor, *flat: Tensor) -> Tensor:
        s = activation.derivatives(z, plan.order)
        return rest(torch.stack([s[k] * c[r] for r, k in enumerate(orders)]), None, *flat)

    return rows


def compose(terms: Sequence[Chain], s: Sequence[Tensor], z: Tensor) -> Tensor:
    """Return one row of s(z): sum_k s_k times the sum of products of rows that goes with it."""
    total: Tensor | None = None
    for order in sorted({t.order for t in terms}):
        inner: Tensor | None = None
        for term in terms:
            if term.order == order:
                part = _multiplied([z[r] for r in term.rows])
                part = part if term.factor == 1 else term.factor * part
                inner = part if inner is None else inner + part
        assert inner is not None
        total = s[order] * inner if total is None else torch.addcmul(total, s[order], inner)
    assert total is not None
    return total


def _multiplied(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total * part
    return total


def _activate_affine(jet: Affine, activation: Activation) -> Jet:
    # Second and higher derivatives of f are zero: only the partition into single coordinates is left.
    plan = jet.plan
    if plan.size == 1:
        return Jet(plan, activation.value(jet.value).unsqueeze(0))
    s = activation.derivatives(jet.value, plan.order)
    slopes = jet.slopes.unsqueeze(-2)  # (D, ..., 1, W)
    rows = [
        s[0],
        *(s[len(key)] * _multiplied([slopes[i] for i in key]) for key in plan.rows[1:]),
    ]
    if plan.laplacian:
        rows.append(s[2] * slopes[list(plan.laplacian)].square().sum(0))
    return Jet(plan, torch.stack(rows))


def product(a: Jet | Affine, b: Jet | Affine) -> Jet:
    """Return f g by the rule of Leibniz; both have the same plan."""
    f, g = written_out(a).rows, written_out(b).rows
    rows = []
    for terms in a.plan.products:
        total: Tensor | None = None
        for term in terms:
            first = f[term.first] if term.factor == 1 else term.factor * f[term.first]
            second = g[term.second]
            total = first * second if total is None else torch.addcmul(total, first, second)
        assert total is not None
        rows.append(total)
    return Jet(a.plan, torch.stack(rows))


def add(a: Jet | Affine, b: Jet | Affine) -> Jet:
    """Return f + g; both have the same plan."""
    return Jet(a.plan, written_out(a).rows + written_out(b).rows)


def subtract(a: Jet | Affine, b: Jet | Affine) -> Jet:
    """Return f - g; both have the same plan."""
    return Jet(a.plan, written_out(a).rows - written_out(b).rows)


def scale(jet: Jet | Affine, factor: Tensor | float) -> Jet:
    """Return c f, where c does not depend on the coordinates: a number, or (W,)."""
    return Jet(jet.plan, factor * written_out(jet).rows)


def concatenate(jets: Sequence[Jet | Affine]) -> Jet | Affine:
    """Return the functions of several jets of one plan side by side, (K, N, W_1 + W_2 + ...)."""
    if all(isinstance(j, Affine) for j in jets):
        affine = [j for j in jets if isinstance(j, Affine)]
        values = torch.cat([j.value for j in affine], dim=-1)
        return Affine(jets[0].plan, values, torch.cat([j.slopes for j in affine], dim=-1))
    return Jet(jets[0].plan, torch.cat([written_out(j).rows for j in jets], dim=-1))
