"""The loss of a problem on a batch of points: mean squares of residuals, in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from ..optim.objective import Objective
from .errors import BadProblem
from .model import Cloud, Model
from .problem import Term

CHUNK = 512  # points whose Jacobian is formed at once
_TRIED = 4  # points at which residuals are formed alone and together
_ROUNDING = 1e3  # in units of the largest residual
_AWAY = 0.1  # how far from theta: at a solution residuals vanish, and rounding is all that is left of them


class NotPointwise(BadProblem):
    """A residual at one point that changes with the other points."""


@final
class ResidualLoss(Objective):
    """L(theta) = sum over residuals k of weight_k mean((emphasis r_k)^2).

    Args:
        model: problem and network.
        clouds: points, one cloud per term of the problem.
        groups: numbers of the residuals of every group.
        compiled: compile the loss, and those of the groups, with torch.compile. What torch cannot form with a
            compiled function (products with the Hessian, the Jacobian), and reports, go without.
    """

    def __init__(
        self,
        model: Model,
        clouds: Sequence[Cloud],
        groups: Sequence[Sequence[int]],
        *,
        compiled: bool = False,
    ) -> None:
        self.model, self.clouds, self.groups = model, list(clouds), groups
        self.shapes = model.shapes
        problem = model.problem
        own = [term.block.weight for term in problem.terms for _ in term.labels]
        self.own = clouds[0].points.new_tensor(own)  # weights of the conditions
        self.weights = self.own.clone()
        self.compiled, self.shared = compiled, not compiled
        self._all, self._group = self._compile(self._mean_squares), self._compile(self._group_loss)
        self._tried: list[Tensor] = []  # points that stand alone, for all we know

    def weigh(self, weights: Tensor | None) -> None:
        """Set further weights of the residuals, (labels,); None for none."""
        self.weights = self.own.clone() if weights is None else self.own * weights

    def rows(self, theta: Tensor, *, emphasised: bool = True) -> list[Tensor]:
        """Return all residuals, a tensor (N,) per label, with or without their emphasis."""
        return self._rows(theta, self.clouds if emphasised else self._plain())

    def mean_squares(self, theta: Tensor, *, emphasised: bool = False) -> Tensor:
        """Return the mean square of every residual, without weights, (labels,).

        Without emphasis, it says how well the problem is solved; with it, it is what the loss is made of.
        """
        return torch.stack(self._mean_squares(theta, self.clouds if emphasised else self._plain()))

    def parts(self, theta: Tensor) -> tuple[Tensor, ...]:
        """Return the weighted losses of the groups as scalars, from points of their own."""
        if self.compiled:  # a graph of its own for each: a compiled one is differentiated once
            return tuple(self._group(theta, self.clouds, self.weights, tuple(g)) for g in self.groups)
        return self._sums(self._mean_squares(theta, self.clouds))

    def losses(self, theta: Tensor) -> Tensor:
        """Return the weighted losses of the groups, (n,)."""
        return torch.stack(self._sums(self._all(theta, self.clouds)))

    def smooth(self, theta: Tensor) -> Tensor:
        """Return the loss without compilation, a scalar."""
        return torch.stack(self._sums(self._mean_squares(theta, self.clouds))).sum()

    def residuals(self, theta: Tensor) -> Tensor:
        """Return all residuals such that the loss is the sum of their squares, (N,)."""
        scales = self._scales()
        return torch.cat([s * r for s, r in zip(scales, self.rows(theta), strict=True)])

    def jacobian(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the residuals (N,) and their derivatives (N, P), formed point by point.

        Raises:
            NotPointwise: a residual at one point depends on others. Every set of points is tried once.
        """
        theta, scales, label = theta.detach(), self._scales(), 0
        self._try(theta)
        values, rows = [], []
        for term, cloud in zip(self.model.problem.terms, self.clouds, strict=True):
            many = len(term.labels)

            def single(
                theta: Tensor,
                point: Tensor,
                *rest: Tensor,
                term: object = term,
                given: tuple[bool, ...] = tuple(p is not None for p in cloud.parts()[1:]),
            ) -> tuple[Tensor, Tensor]:
                left = iter(rest)
                parts = [next(left)[None] if there else None for there in given]
                found = self.model.residuals(theta, term, Cloud(point[None], *parts))  # pyright: ignore[reportArgumentType]
                stacked = torch.cat(found)
                return stacked, stacked

            present = [p for p in cloud.parts() if p is not None]
            each = vmap(jacrev(single, has_aux=True), in_dims=(None, *[0] * len(present)), chunk_size=CHUNK)
            jacobian, value = each(theta, *present)  # (N, many, P), (N, many)
            for k in range(many):
                scale = scales[label + k]
                if cloud.emphasis is not None:
                    scale = scale * cloud.emphasis[k]
                values.append(value[:, k] * scale)
                rows.append(jacobian[:, k] * (scale[:, None] if scale.ndim else scale))
            label += many
        return torch.cat(values), torch.cat(rows)

    def set_cloud(self, term: int, cloud: Cloud) -> None:
        """Give a term other points."""
        self.clouds[term] = cloud

    def emphasise(self, term: int, emphasis: Tensor) -> None:
        """Give the points of a term their emphasis, (labels, N)."""
        self.clouds[term] = replace(self.clouds[term], emphasis=emphasis)

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, dynamic=False) if self.compiled else function

    def _try(self, theta: Tensor) -> None:
        """Raise NotPointwise where residuals of some points together differ from those of each alone."""
        points = [cloud.points for cloud in self.clouds]
        if list(map(id, points)) == list(map(id, self._tried)):
            return
        away = theta + _AWAY * torch.arange(len(theta), dtype=theta.dtype, device=theta.device).cos()
        found: list[tuple[str, float, float]] = []
        with torch.no_grad():
            for term, cloud in zip(self.model.problem.terms, self.clouds, strict=True):
                count = min(len(cloud.points), _TRIED)
                together = self._few(away, term, cloud, range(count))
                alone = torch.cat([self._few(away, term, cloud, range(k, k + 1)) for k in range(count)], 1)
                size, gap = (r.abs().nan_to_num(0, 0).amax(1) for r in (together, together - alone))
                found += zip(term.labels, size.tolist(), gap.tolist(), strict=True)
        eps, largest = torch.finfo(theta.dtype).eps, max(size for _, size, _ in found)
        for label, size, gap in found:
            if gap > max(eps**0.5 * size, _ROUNDING * eps * largest):
                raise NotPointwise(
                    f"{label} at one point changes by {gap:.2g} with the other points, where it is up to "
                    f"{size:.2g}: Gauss-Newton differentiates point by point, and needs residuals without a "
                    "mean or sum over points. Use SSBroyden, LBFGS or Adam"
                )
        self._tried = points

    def _few(self, theta: Tensor, term: Term, cloud: Cloud, which: range) -> Tensor:
        """Return the residuals of a term at some of its points, (labels, n)."""
        parts = [None if p is None else p[which.start : which.stop] for p in cloud.parts()]
        return torch.stack(self.model.residuals(theta, term, Cloud(*parts)))  # pyright: ignore[reportArgumentType]

    def _scales(self) -> list[Tensor]:
        counts = [
            len(cloud.points)
            for term, cloud in zip(self.model.problem.terms, self.clouds, strict=True)
            for _ in term.labels
        ]
        return list((self.weights / self.weights.new_tensor(counts)).sqrt())

    def _rows(self, theta: Tensor, clouds: Sequence[Cloud]) -> list[Tensor]:
        rows: list[Tensor] = []
        for term, cloud in zip(self.model.problem.terms, clouds, strict=True):
            rows.extend(_emphasised(self.model.residuals(theta, term, cloud), cloud))
        return rows

    def _plain(self) -> list[Cloud]:
        return [replace(cloud, emphasis=None) for cloud in self.clouds]

    def _mean_squares(self, theta: Tensor, clouds: Sequence[Cloud]) -> tuple[Tensor, ...]:
        return tuple(r.square().mean() for r in self._rows(theta, clouds))

    def _sums(self, squares: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(
            torch.stack([self.weights[k] * squares[k] for k in group]).sum() for group in self.groups
        )

    def _group_loss(
        self, theta: Tensor, clouds: Sequence[Cloud], weights: Tensor, group: tuple[int, ...]
    ) -> Tensor:
        """Return the loss of one group from its own terms alone."""
        found, label = [], 0
        for term, cloud in zip(self.model.problem.terms, clouds, strict=True):
            numbers = range(label, label + len(term.labels))
            label += len(term.labels)
            if any(k in group for k in numbers):
                rows = _emphasised(self.model.residuals(theta, term, cloud), cloud)
                squares = zip(numbers, rows, strict=True)
                found += [weights[k] * r.square().mean() for k, r in squares if k in group]
        return torch.stack(found).sum()


def _emphasised(rows: Sequence[Tensor], cloud: Cloud) -> Sequence[Tensor]:
    if cloud.emphasis is None:
        return rows
    return [e * r for e, r in zip(cloud.emphasis, rows, strict=True)]


@final
class TermView:
    """What a method of weighting sees: every residual as a group of its own, without weights and emphasis.

    Args:
        loss: the loss.
        theta: where.
        generator: for random signs.
    """

    def __init__(self, loss: ResidualLoss, theta: Tensor, generator: torch.Generator) -> None:
        self.loss, self.theta, self.generator = loss, theta.detach(), generator
        self.kinds = loss.model.problem.kinds

    def losses(self) -> Tensor:
        """Return the mean squares of the residuals, (n,)."""
        with torch.no_grad():
            return self.loss.mean_squares(self.theta)

    def gradients(self) -> Tensor:
        """Return their gradients, (n, P)."""
        theta = self.theta.clone().requires_grad_()
        with torch.enable_grad():
            squares = [r.square().mean() for r in self.loss.rows(theta, emphasised=False)]
            return torch.stack([self._pulled(s, theta, None) for s in squares])

    def residuals(self, k: int) -> Tensor:
        """Return a residual, (N_k,)."""
        with torch.no_grad():
            return self.loss.rows(self.theta, emphasised=False)[k]

    def pull(self, k: int, c: Tensor) -> Tensor:
        """Return J_k^T c, (P,)."""
        theta = self.theta.clone().requires_grad_()
        with torch.enable_grad():
            return self._pulled(self.loss.rows(theta, emphasised=False)[k], theta, c)

    def _pulled(self, value: Tensor, theta: Tensor, c: Tensor | None) -> Tensor:
        return torch.autograd.grad(value, theta, c, retain_graph=True, materialize_grads=True)[0]
