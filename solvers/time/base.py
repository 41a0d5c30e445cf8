"""Time steppers, and the one loop that applies them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

Stepper = Callable[[Tensor], Tensor]


class TimeStepper(ABC):
    """One step of a numerical method, (B, ...) -> (B, ...); a `Stepper` that also knows the time.

    Attributes:
        order: exponent of dt in the global error.
        dt: length of a step.
    """

    order: ClassVar[int]

    def __init__(self, dt: float) -> None:
        if not dt > 0:
            raise ValueError(f"dt, the length of a step, must be positive, got {dt}")
        self.dt = dt

    @abstractmethod
    def step(self, u: Tensor, t: float) -> Tensor:
        """Return the state at t + dt from the state u at t, which is left as it is.

        Explicit parts that diverge become infinite or NaN without an error: the caller looks.
        """

    def __call__(self, u: Tensor) -> Tensor:
        """Take a step from t = 0: all there is to an equation that does not depend on t."""
        return self.step(u, 0.0)


def rollout(
    stepper: Stepper,
    u0: Tensor,  # (B, ...)
    frames: int,
    *,
    every: int = 1,
    t0: float = 0.0,
    observe: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Apply a stepper again and again; return the initial state and every `every`-th one after it.

    Args:
        stepper: a `TimeStepper`, or any map from a state to the next, a network for example.
        u0: initial states.
        frames: states to record after the initial one.
        every: steps between two records.
        t0: time of the initial state, for a `TimeStepper`.
        observe: what to record of a state, default the state itself; a spectral stepper's `to_grid`.

    Returns:
        (B, frames + 1, ...).

    >>> import torch
    >>> rollout(lambda u: 0.5 * u, torch.ones(1, 2), 3)[0, :, 0].tolist()
    [1.0, 0.5, 0.25, 0.125]
    """
    if frames < 0 or every < 1:
        raise ValueError(f"frames must be >= 0 and every >= 1, got {frames} and {every}")
    look = observe or (lambda u: u)
    u, first = u0, look(u0)
    record = first.new_empty((first.shape[0], frames + 1, *first.shape[1:]))
    record[:, 0] = first
    for frame in range(1, frames + 1):
        for k in range((frame - 1) * every, frame * every):
            u = stepper.step(u, t0 + k * stepper.dt) if isinstance(stepper, TimeStepper) else stepper(u)
        record[:, frame] = look(u)
    return record
