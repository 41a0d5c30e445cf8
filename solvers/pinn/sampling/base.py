"""How the points at which equations are asked for are chosen during a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...optim.base import State

Time = tuple[float, float]  # start and end
Draw = Callable[[int], Tensor]  # n -> points (n, D), uniform in the domain
Residual = Callable[[Tensor], Tensor]  # points (M, D) -> size of the residual there, (M,)


class Sampling(ABC):
    """A way to renew points. Subclasses are frozen dataclasses: what they remember is a state, as in `start`.

    Attributes:
        every: steps between two renewals; None never renews.
    """

    every: int | None

    def check(self, n: int, time: Time | None) -> None:  # noqa: B027
        """Raise ValueError for n points, or a problem over a time (start, end), that do not fit."""

    def start(self, time: Time | None, before: State) -> State:
        """Return what is remembered between renewals, plain values, at the beginning of a phase.

        Args:
            time: start and end of the problem's time, None without.
            before: what was remembered in the phase before, {} in the first one.
        """
        return {}

    @abstractmethod
    def renew(
        self,
        present: Tensor,  # (N, D)
        draw: Draw,
        residual: Residual,
        generator: np.random.Generator,
        state: State | None = None,
    ) -> Tensor:
        """Return the points of the next steps, (N', D), on the device and in the type of those given.

        Points that stay come first, in the order in which they were.

        Args:
            present: points so far.
            draw: draws uniform points.
            residual: size of the equation's residual at points.
            generator: of everything random that `draw` does not do.
            state: what `start` gave, changed in place; methods that remember nothing need none.

        Raises:
            FloatingPointError: a residual is not finite; the message says where.
        """


def check_period(every: int | None) -> None:
    """Raise ValueError unless the period is None or at least 1."""
    if every is not None and every < 1:
        raise ValueError(
            f"points are renewed every 1 step or more, got every={every}; FixedPoints() never does"
        )


def sizes(residual: Residual, points: Tensor) -> NDArray[np.float64]:
    """Return |residual| at points (M, D), (M,), all finite."""
    given = residual(points).detach()
    if given.shape != (len(points),):
        raise ValueError(
            f"the residual at {len(points)} points has shape ({len(points)},), got {tuple(given.shape)}"
        )
    found = np.abs(given.cpu().double().numpy())
    bad = ~np.isfinite(found)
    if bad.any():
        first = ", ".join(f"{x:.4g}" for x in points[int(bad.argmax())].tolist())
        raise FloatingPointError(
            f"the residual is not finite at {bad.sum()} of {len(points)} points, first at ({first}): "
            "the training has diverged, or the equation is singular there"
        )
    return found
