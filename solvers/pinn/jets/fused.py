"""A row of layers as one operation on the CPU, with its gradient written by hand.

Points go through all layers in chunks whose rows stay in the second-level cache. What torch would do in many
passes over memory per layer, with a buffer for each, is one product of matrices and one compiled pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from .activations import Activation
from .kernels import affine_backward, affine_forward, chain_backward, chain_forward
from .plan import Plan
from .tables import Tables, tables

CHUNK = 384 << 10  # bytes of the rows of a chunk


@final
@dataclass(frozen=True, eq=False)
class Work:
    """What is fixed for one call.

    Attributes:
        plan: derivatives carried.
        activation: of all hidden layers.
        last: whether the last weight belongs to a layer without activation.
        plain: the same function in operations of torch.
    """

    plan: Plan
    activation: Activation
    last: bool
    affine: bool
    plain: Callable[..., Tensor]

    @property
    def function(self) -> tuple[int, int]:
        """The code of the activation and the highest derivative, for the compiled passes."""
        return self.activation.code, self.plan.order

    def tables(self, like: Tensor) -> Tables:
        return tables(self.plan, "float32" if like.dtype == torch.float32 else "float64")


class Layers(torch.autograd.Function):
    """(rows, None, W_1, b_1, ...) or (z, c, W_2, b_2, ...) -> rows of what comes out.

    With c (K, W) the first layer is done but for its activation: z (N, W) are its values, affine in the
    coordinates, and row r of its jet is c_r s_order(r)(z).
    """

    @staticmethod
    def forward(ctx: Any, work: Work, start: Tensor, c: Tensor | None, *layers: Tensor) -> Tensor:
        weights, biases = layers[::2], layers[1::2]
        K, N = work.plan.size, start.shape[-2]
        widths = [start.shape[-1], *(len(w) for w in weights)]
        out = start.new_empty(K, N, widths[-1])
        hidden = len(weights) - work.last
        chunks = _chunks(N, K * max(widths[: 1 + hidden]) * start.element_size())
        t, f = work.tables(start), work.function
        h = _Buffer(start, K, chunks[0][1], max(widths[: 1 + hidden]))
        saved: list[list[_Rows]] = []
        for a, b in chunks:
            known: list[_Rows] = []
            now = h.rows(b - a, widths[0])
            if c is not None:
                known.append(_Rows.of(start[a:b], work.activation))
                affine_forward(t.orders, c.numpy(), f, known[0].p, known[0].q, now.numpy())
            else:
                now.copy_(start[:, a:b])
            for k in range(hidden):
                rows = start.new_empty(K, b - a, widths[k + 1])
                torch.mm(now.view(-1, widths[k]), weights[k].T, out=rows.view(-1, widths[k + 1]))
                rows[0] += biases[k]
                known.append(_Rows.of(rows, work.activation))
                now = h.rows(b - a, widths[k + 1])
                _push(t, f, known[-1], now)
            if work.last:
                now = now @ weights[-1].T
                now[0] += biases[-1]
            out[:, a:b] = now
            saved.append(known)
        ctx.work, ctx.widths, ctx.chunks, ctx.saved = work, widths, chunks, saved
        ctx.save_for_backward(start, *(() if c is None else (c,)), *layers)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        work: Work = ctx.work
        (gradient,) = gradients
        given = ctx.saved_tensors
        start = given[0]
        c, layers = (given[1], given[2:]) if work.affine else (None, given[1:])
        if torch.is_grad_enabled():  # create_graph: the gradient itself will be differentiated
            return (None, *_differentiable(work, start, c, layers, gradient))
        weights, widths, K = layers[::2], ctx.widths, work.plan.size
        hidden = len(weights) - work.last
        t, f = work.tables(start), work.function
        out = [torch.zeros_like(v) for v in layers]
        slopes = None if c is None else torch.zeros_like(c)
        first = torch.empty_like(start)
        h, *both = (_Buffer(start, K, ctx.chunks[0][1], max(widths)) for _ in range(3))
        for (a, b), known in zip(ctx.chunks, ctx.saved, strict=True):
            n = b - a
            g = both[0].rows(n, widths[-1])
            g.copy_(gradient[:, a:b])
            if not work.last and hidden:
                _pull(t, f, known[-1], g, h.rows(n, widths[-1]))
            for k in range(len(weights) - 1, -1, -1):
                v, w = widths[k], widths[k + 1]
                flat, now, inner = g.view(-1, w), h.rows(n, v), both[(len(weights) - k) % 2].rows(n, v)
                torch.mm(flat, weights[k], out=inner.view(-1, v))
                # The input h of this layer is not kept but computed again: less memory passes by.
                if k > 0:
                    _pull(t, f, known[k - 1 + (c is not None)], inner, now)
                elif c is not None:
                    affine_forward(t.orders, c.numpy(), f, known[0].p, known[0].q, now.numpy())
                else:
                    now.copy_(start[:, a:b])
                out[2 * k].addmm_(flat.T, now.view(-1, v))
                out[2 * k + 1] += g[0].sum(0)
                g = inner
            if c is not None and slopes is not None:
                p, q, inner = known[0].p, known[0].q, first[a:b]
                affine_backward(t.orders, c.numpy(), f, p, q, g.numpy(), inner.numpy(), slopes.numpy())
            else:
                first[:, a:b] = g
        return (None, first, slopes, *out)


def _chunks(points: int, per_point: int) -> list[tuple[int, int]]:
    """Return chunks [a, b) of nearly equal size."""
    count = max(1, round(points * per_point / CHUNK))
    size = max(-(-points // count), 1)
    return [(a, min(a + size, points)) for a in range(0, max(points, 1), size)]


@final
class _Buffer:
    """Memory for the rows of a chunk, used again and again."""

    def __init__(self, like: Tensor, rows: int, points: int, width: int) -> None:
        self.memory, self.count = like.new_empty(rows * points * width), rows

    def rows(self, points: int, width: int) -> Tensor:
        return self.memory[: self.count * points * width].view(self.count, points, width)


@final
@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows before an activation, the value among them replaced by the first function of the basis."""

    p: Any  # (n, W), as q
    q: Any
    array: Any  # (K, n W)

    @classmethod
    def of(cls, rows: Tensor, activation: Activation) -> _Rows:
        """Take rows (K, n, W), or only values (n, W)."""
        z = rows[0] if rows.ndim == 3 else rows
        basis = activation.basis(z)
        if rows.ndim == 3 and basis[0] is not z:
            basis = (z.copy_(basis[0]), *basis[1:])
        return cls(basis[0].numpy(), basis[-1].numpy(), _array(rows))


def _push(t: Tables, function: tuple[int, int], z: _Rows, h: Tensor) -> None:
    p, q = z.p.reshape(-1), z.q.reshape(-1)
    chain_forward(t.groups, t.terms, t.factors, function, p, q, z.array, _array(h))


def _pull(t: Tables, function: tuple[int, int], z: _Rows, g: Tensor, h: Tensor) -> None:
    formulas = t.groups, t.terms, t.factors, t.pulls, t.weights
    chain_backward(formulas, function, z.p.reshape(-1), z.q.reshape(-1), z.array, _array(g), _array(h))


def _array(rows: Tensor) -> Any:
    return rows.flatten(1).numpy()


def _differentiable(
    work: Work, start: Tensor, c: Tensor | None, layers: Sequence[Tensor], g: Tensor
) -> list[Tensor | None]:
    given = [start, c, *layers]
    wanted = [v for v in given if v is not None and v.requires_grad]
    with torch.enable_grad():
        found = iter(
            torch.autograd.grad(
                work.plain(start, c, *layers), wanted, g, create_graph=True, materialize_grads=True
            )
        )
    return [next(found) if v is not None and v.requires_grad else None for v in given]
