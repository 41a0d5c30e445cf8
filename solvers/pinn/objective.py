"""The loss of a problem on a batch of points: mean squares of residuals, in groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from ..optim.objective import Objective
from .model import Cloud, Model

CHUNK = 512  # points whose Jacobian is formed at once


@final
class ResidualLoss(Objective):
    """L(theta) = sum over residuals k of weight_k mean((emphasis r_k)^2).

    Args:
        model: problem and network.
        clouds: points, one cloud per term of the problem.
        groups: numbers of the residuals of every group.
        compiled: compile the loss with torch.compile.
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
        self._squares = torch.compile(self._mean_squares, dynamic=False) if compiled else self._mean_squares

    def weigh(self, weights: Tensor | None) -> None:
        """Set further weights of the residuals, (labels,); None for none."""
        self.weights = self.own.clone() if weights is None else self.own * weights

    def rows(self, theta: Tensor) -> list[Tensor]:
        """Return all residuals, a tensor (N,) per label, with their emphasis."""
        return self._rows(theta, self.clouds)

    def mean_squares(self, theta: Tensor) -> Tensor:
        """Return the mean square of every residual, without weights, (labels,)."""
        return torch.stack(self._squares(theta, self.clouds))

    def parts(self, theta: Tensor) -> tuple[Tensor, ...]:
        """Return the weighted losses of the groups as scalars, from points of their own."""
        squares = self._squares(theta, self.clouds)
        return tuple(
            torch.stack([self.weights[k] * squares[k] for k in group]).sum() for group in self.groups
        )

    def losses(self, theta: Tensor) -> Tensor:
        """Return the weighted losses of the groups, (n,)."""
        return torch.stack(self.parts(theta))

    def residuals(self, theta: Tensor) -> Tensor:
        """Return all residuals such that the loss is the sum of their squares, (N,)."""
        scales = self._scales()
        return torch.cat([s * r for s, r in zip(scales, self.rows(theta), strict=True)])

    def jacobian(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the residuals (N,) and their derivatives (N, P), formed point by point."""
        theta, scales, label = theta.detach(), self._scales(), 0
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
            found = self.model.residuals(theta, term, cloud)
            if cloud.emphasis is not None:
                found = [e * r for e, r in zip(cloud.emphasis, found, strict=True)]
            rows.extend(found)
        return rows

    def _mean_squares(self, theta: Tensor, clouds: Sequence[Cloud]) -> tuple[Tensor, ...]:
        return tuple(r.square().mean() for r in self._rows(theta, clouds))


@final
class TermView:
    """What a method of weighting sees: every residual as a group of its own, without weights.

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
            squares = [r.square().mean() for r in self.loss.rows(theta)]
            return torch.stack([self._pulled(s, theta, None) for s in squares])

    def residuals(self, k: int) -> Tensor:
        """Return a residual, (N_k,)."""
        with torch.no_grad():
            return self.loss.rows(self.theta)[k]

    def pull(self, k: int, c: Tensor) -> Tensor:
        """Return J_k^T c, (P,)."""
        theta = self.theta.clone().requires_grad_()
        with torch.enable_grad():
            return self._pulled(self.loss.rows(theta)[k], theta, c)

    def _pulled(self, value: Tensor, theta: Tensor, c: Tensor | None) -> Tensor:
        return torch.autograd.grad(value, theta, c, retain_graph=True, materialize_grads=True)[0]
