"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .base import State, Step
from .first_order import Betas, FirstOrder, check_at_least_zero, check_betas, gradient_of_sum
from .objective import Objective

Shape = tuple[int, ...]


@final
@dataclass(frozen=True)
class SOAP(FirstOrder):
    """Lower the sum of all losses by Adam in slowly turning bases, one pair for each matrix of parameters.

    L = b L + (1 - b) G G^T;  R = b R + (1 - b) G^T G   with b = b2, for every matrix G of the gradient
    Q_L, Q_R: eigenvectors of L, R; every `frequency` steps one power iteration and QR factorisation of each
    theta -= lr Q_L Adam(Q_L^T G Q_R) Q_R^T;  theta -= lr weight_decay theta

    `objective.shapes` tells the matrices: of tensors with more than two sides the last two are the matrix.
    Tensors with one side get Adam. The first step only sets the bases. Raises FloatingPointError, naming the
    group, where a loss or a gradient is not finite.

    Args:
        learning_rate: 3e-3; for physics-informed networks 1e-3 with
            `ExponentialDecay(2000, 0.9, warmup=5000)`.
        betas: (0.95, 0.95).
        eps: added to the root of the second moment.
        weight_decay: taken off beside the step, not added to the gradient; 0 for physics-informed networks.
        frequency: steps between two renewals of the bases; 2 for physics-informed networks.
        largest: sides of matrices that are longer keep their basis (their factor would be too large).
        schedule, steps: see `FirstOrder`.

    Source: Vyas et al., "SOAP: improving and stabilizing Shampoo using Adam" (2024), algorithm 3; settings
    for physics-informed networks: Wang et al. (2025), arXiv 2502.00604.

    >>> class Fit(Objective):
    ...     shapes = ((2, 2),)
    ...     def losses(self, theta): return (theta - torch.arange(4.0)).square().sum()[None]
    ...     def residuals(self, theta): return theta - torch.arange(4.0)
    >>> theta, soap = torch.zeros(4), SOAP(0.05, weight_decay=0.0)
    >>> state = soap.start(theta)
    >>> for _ in range(300):
    ...     theta = soap.step(Fit(), theta, state).theta
    >>> bool((theta - torch.arange(4.0)).abs().max() < 0.05)
    True
    """

    learning_rate: float = 3e-3
    betas: Betas = (0.95, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.01
    frequency: int = 10
    largest: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_betas(self.betas)
        check_at_least_zero(eps=self.eps, weight_decay=self.weight_decay)
        if self.frequency < 1 or self.largest < 0:
            raise ValueError(
                f"frequency is at least 1, largest at least 0, got {self.frequency}, {self.largest}"
            )

    def start(self, theta: Tensor) -> State:
        return {**super().start(theta), "first": True}

    def step(self, objective: Objective, theta: Tensor, state: State) -> Step:
        t = state["t"]
        losses, gradient = gradient_of_sum(objective, theta, t)
        theta = theta.detach()
        blocks = list(_matrices(objective.shapes, len(theta)))
        if state["first"]:
            state["first"] = False
            state["m"], state["v"] = torch.zeros_like(theta), torch.zeros_like(theta)
            self._gather(gradient, blocks, state)
            for key in _factors(state):
                state[f"basis.{key}"] = _eigenvectors(state[f"factor.{key}"])
            return Step(theta, losses)
        turned = _turn(gradient, blocks, state)
        b1, b2 = self.momentum(t, self.betas[0]), self.betas[1]
        state["t"] = t + 1
        state["m"] = m = torch.lerp(state["m"], turned, 1 - b1)
        state["v"] = v = torch.mul(state["v"], b2).addcmul_(turned, turned, value=1 - b2)
        den = (v.sqrt() / (1 - b2 ** (t + 1)) ** 0.5).add_(self.eps)
        change = _turn(m / den, blocks, state, back=True)
        new = theta.sub(change, alpha=self.rate(t) / (1 - b1 ** (t + 1)))
        if self.weight_decay:
            new.mul_(1 - self.rate(t) * self.weight_decay)
        self._gather(gradient, blocks, state)
        if state["t"] % self.frequency == 0:
            _renew(blocks, state)
        return Step(new, losses)

    def _gather(self, gradient: Tensor, blocks: Sequence[Block], state: State) -> None:
        """Move the factors of both sides towards those of this gradient."""
        b = self.betas[1]
        for block in blocks:
            G = block.of(gradient)
            for side, size in (("left", G.shape[-2]), ("right", G.shape[-1])):
                if size <= self.largest:
                    square = G @ G.mT if side == "left" else G.mT @ G
                    key = f"factor.{block.start}.{side}"
                    state[key] = torch.lerp(state.get(key, torch.zeros_like(square)), square, 1 - b)


@final
@dataclass(frozen=True)
class Block:
    """Entries start, ..., stop - 1 of a flat vector, a matrix or a stack of matrices."""

    start: int
    stop: int
    shape: Shape

    def of(self, flat: Tensor) -> Tensor:
        """Return the entries as matrices, a view."""
        return flat[self.start : self.stop].view(self.shape)


def _matrices(shapes: Sequence[Shape], parameters: int) -> Iterator[Block]:
    end = 0
    for shape in shapes:
        start, end = end, end + torch.Size(shape).numel()
        if len(shape) >= 2:
            yield Block(start, end, tuple(shape))
    if end != parameters:
        raise ValueError(f"the shapes hold {end} parameters, theta has {parameters}: {list(shapes)}")


def _factors(state: State) -> list[str]:
    return [key.removeprefix("factor.") for key in state if key.startswith("factor.")]


def _turn(flat: Tensor, blocks: Sequence[Block], state: State, back: bool = False) -> Tensor:
    """Return Q_L^T G Q_R for every matrix G of a flat vector, or Q_L G Q_R^T; the rest as it is."""
    new = flat.clone()
    for block in blocks:
        G = block.of(flat)
        left, right = (state.get(f"basis.{block.start}.{side}") for side in ("left", "right"))
        if left is not None:
            G = (left if back else left.mT) @ G
        if right is not None:
            G = G @ (right.mT if back else right)
        block.of(new).copy_(G)
    return new


def _eigenvectors(A: Tensor) -> Tensor:
    """Return the eigenvectors of symmetric A (..., n, n), those of the largest eigenvalues first."""
    return torch.linalg.eigh(A.double()).eigenvectors.flip(-1).to(A.dtype)


def _renew(blocks: Sequence[Block], state: State) -> None:
    """Turn the bases by a power iteration and a QR factorisation; the first moments turn with them."""
    m, v = _turn(state["m"], blocks, state, back=True), state["v"].clone()
    for block in blocks:
        for side, axis in (("left", -2), ("right", -1)):
            key = f"{block.start}.{side}"
            if f"factor.{key}" not in state:
                continue
            A, Q = state[f"factor.{key}"], state[f"basis.{key}"]
            order = ((A @ Q) * Q).sum(-2).argsort(dim=-1, descending=True)  # of the Rayleigh quotients
            along = order.unsqueeze(-1 if axis == -2 else -2)
            block.of(v).copy_(torch.take_along_dim(block.of(v), along, dim=axis))
            Q = torch.take_along_dim(Q, order.unsqueeze(-2), dim=-1)
            state[f"basis.{key}"] = torch.linalg.qr(A @ Q).Q
    state["m"], state["v"] = _turn(m, blocks, state), v
