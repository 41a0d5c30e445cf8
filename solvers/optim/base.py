"""Optimisers of a flat vector of parameters: settings in the object, state in a dictionary of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from .objective import Objective

State = dict[str, Any]  # tensors, numbers and words: what a checkpoint keeps


@final
@dataclass(frozen=True)
class Step:
    """What one step of an optimiser did.

    Attributes:
        theta: the parameters after it, (P,); a new tensor, or the one given, changed in place.
        losses: of the groups, (n,), before the step (where the gradient was taken).
        evaluations: of loss and gradient, or of the Jacobian, in this step.
        stopped: why the method cannot go on from here, "" while it can.
    """

    theta: Tensor
    losses: Tensor
    evaluations: int = 1
    stopped: str = ""


class Optimiser(ABC):
    """A method that lowers an `Objective`. Subclasses are frozen dataclasses without state.

    >>> # state = optimiser.start(theta); step = optimiser.step(objective, step.theta, state)
    """

    @abstractmethod
    def start(self, theta: Tensor) -> State:
        """Return the state before the first step, on the device and in the type of theta (P,)."""

    @abstractmethod
    def step(self, objective: Objective, theta: Tensor, state: State) -> Step:
        """Take one step; `state` is changed in place.

        Raises:
            FloatingPointError: the loss or its gradient is not finite at theta.
        """

    def renew(self, state: State) -> None:  # noqa: B027
        """Say that the batch of points has changed: a method that compares gradients may have to forget."""

    def check(self, parameters: int, dtype: Any) -> None:  # noqa: B027
        """Raise ValueError, with the alternative, for a number of parameters or a type that does not fit."""
