"""Weights of the groups of a loss, updated during a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from ...optim.base import State


class View(Protocol):
    """What a method of weighting sees of a loss with n groups, at the parameters theta (P,).

    Attributes:
        kinds: of the groups, "equation" or "condition".
        theta: parameters.
        generator: for methods that draw numbers.
    """

    kinds: tuple[str, ...]
    theta: Tensor
    generator: torch.Generator

    def losses(self) -> Tensor:
        """Return the losses without weights, (n,)."""
        ...

    def gradients(self) -> Tensor:
        """Return the gradients of the losses without weights, (n, P)."""
        ...

    def residuals(self, k: int) -> Tensor:
        """Return the residuals of group k, not scaled, (N_k,)."""
        ...

    def pull(self, k: int, c: Tensor) -> Tensor:
        """Return J_k^T c for c (N_k,), J_k the Jacobian of those residuals, (P,)."""
        ...


class Weighting(ABC):
    """A method that weights the groups of a loss. Subclasses are frozen dataclasses without state.

    Attributes:
        every: steps between two updates.
    """

    every: int

    def start(self, n: int, like: Tensor) -> State:
        """Return the state before the first update, with weights of n groups in the type of a tensor."""
        return {"weights": like.new_ones(n)}

    @abstractmethod
    def update(self, state: State, view: View) -> Tensor:
        """Return the weights (n,), detached; `state` is changed in place.

        Raises:
            FloatingPointError: a loss or its gradient is not finite; the message names the group.
            ValueError: the groups are none that the method can weight.
        """


class PointWeighting(ABC):
    """A method that weights the residual of every point. Subclasses are frozen dataclasses without state."""

    @abstractmethod
    def start(self, n: int, like: Tensor) -> Tensor:
        """Return the weights of n points before the first update, (n,)."""

    @abstractmethod
    def update(
        self,
        weights: Tensor,  # (N,)
        residual: Tensor,  # (N,)
    ) -> Tensor:
        """Return the next weights, (N,), detached."""


def check_every(every: int) -> None:
    """Raise ValueError unless weights are updated every 1 step or more."""
    if every < 1:
        raise ValueError(f"weights are updated every 1 step or more, got every={every}")


def check_keep(keep: float) -> None:
    """Raise ValueError unless the share of the old weights lies in [0, 1)."""
    if not 0 <= keep < 1:
        raise ValueError(f"keep, the share of the old weights, lies in [0, 1), got {keep}")


def finite(values: Tensor, what: str) -> Tensor:
    """Return values (n,) or (n, P), or raise FloatingPointError that names the first group not finite."""
    if not torch.isfinite(values).all():
        rows = torch.isfinite(values.reshape(len(values), -1)).all(1)
        k = int((~rows).int().argmax())
        raise FloatingPointError(
            f"{what} of group {k} of {len(values)} (counted from 0) is not finite: the training has "
            "diverged; lower the learning rate or the weights"
        )
    return values.detach()


def of_kind(view: View, kind: str) -> list[int]:
    """Return the numbers of the groups of a kind."""
    return [k for k, given in enumerate(view.kinds) if given == kind]


def blend(old: Tensor, new: Tensor, keep: float) -> Tensor:
    """Return keep old + (1 - keep) new; old where new is not finite (a group without gradient)."""
    return torch.where(torch.isfinite(new), keep * old + (1 - keep) * new, old)
