"""Points of an early stretch of time, which becomes longer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from torch import Tensor

from ...optim.base import State
from .adaptive import RAR, RARD
from .base import Draw, Residual, Sampling, Time


@final
@dataclass(frozen=True)
class Until(Sampling):
    """Draw points of an early stretch of time only, and lengthen it once the equation holds there.

    Evolution equations have solutions for every start: trained for all times at once, networks find one that
    forgets the start. With growth above 1 the stretch becomes longer at a renewal where the mean square of
    the residual in its newest part, the last two growths, is below `tolerance`; a quasi-Newton method keeps
    its curvature, and so what it learned. The mean is that over fresh uniform points: those of `inner` may
    all lie elsewhere. Where the stretch ends is remembered, also from one phase to the next.

    Args:
        inner: how the points are chosen: a method that draws all of them anew, such as `Uniform` or `RAD`.
        time: where the stretch ends at first; None for where it ended in the phase before, or for the end of
            time if that phase had none.
        growth: of the length of the stretch.
        tolerance: of the mean square of the residual.
        power: 1 for uniform times; larger ones put more points to the beginning,
            t = start + length s^power, s uniform in [0, 1].

    >>> import torch
    >>> from solvus.solvers.pinn.sampling import Uniform
    >>> until = Until(Uniform(), time=1.5, growth=2.0)
    >>> state, rng = until.start((1.0, 3.0), {}), np.random.default_rng(0)
    >>> draw = lambda n: 1 + 2 * torch.rand(n, 1, generator=torch.Generator().manual_seed(0))
    >>> points = torch.zeros(100, 1)
    >>> for _ in range(3):
    ...     points = until.renew(points, draw, lambda x: 0 * x[:, 0], rng, state)
    ...     print(state["until"], bool(points.min() >= 1), bool(points.max() <= state["until"]))
    1.5 True True
    2.0 True True
    3.0 True True
    """

    inner: Sampling
    time: float | None = None
    growth: float = 1.0
    tolerance: float = 1e-3
    power: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Sampling):
            raise TypeError(f"Until is given a way to choose points, Until(Uniform()), got {self.inner!r}")
        if self.inner.every is None or isinstance(self.inner, RAR | RARD | Until):
            raise ValueError(
                f"Until needs points that are all drawn anew, got {type(self.inner).__name__}: use "
                "Until(Uniform(every=...)) or Until(RAD(every=...))"
            )
        if not (self.growth >= 1 and self.tolerance > 0 and self.power > 0):
            raise ValueError(
                "growth is at least 1, tolerance and power are positive, got "
                f"{self.growth}, {self.tolerance} and {self.power}"
            )

    @property
    def every(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the inner one."""
        return self.inner.every

    def check(self, n: int, time: Time | None) -> None:
        """Raise ValueError where there is no time, or a stretch that does not end in it."""
        if time is None:
            raise ValueError(
                "Until takes points of an early stretch of time, and the problem has no time: give "
                f"BoundaryProblem(..., time=(start, end)), or sampling={type(self.inner).__name__}(...)"
            )
        if self.time is not None and not time[0] < self.time <= time[1]:
            raise ValueError(
                f"the stretch of Until ends in the problem's time, after {time[0]:g} and at {time[1]:g} at "
                f"the latest, got time={self.time:g}"
            )
        self.inner.check(n, time)

    def start(self, time: Time | None, before: State) -> State:
        """Return start and end of time, where the stretch ends, and whether it was trained on."""
        self.check(0, time)
        assert time is not None
        state = {"from": float(time[0]), "to": float(time[1]), "until": float(time[1]), "trained": False}
        if self.time is not None:
            state["until"] = float(self.time)
        elif "until" in before:
            state |= {"until": before["until"], "trained": before["trained"]}
        return state

    def renew(
        self,
        present: Tensor,
        draw: Draw,
        residual: Residual,
        generator: np.random.Generator,
        state: State | None = None,
    ) -> Tensor:
        if state is None:
            raise TypeError("Until remembers where its stretch ends: pass the state that `start` returned")
        if state["trained"] and self.growth > 1 and state["until"] < state["to"]:
            self._lengthen(len(present), draw, residual, state)
        state["trained"] = True
        start, length, whole = state["from"], state["until"] - state["from"], state["to"] - state["from"]

        def early(n: int) -> Tensor:
            points = draw(n).clone()
            points[:, -1] = start + length * ((points[:, -1] - start) / whole) ** self.power
            return points

        return self.inner.renew(present, early, residual, generator)

    def _lengthen(self, n: int, draw: Draw, residual: Residual, state: State) -> None:
        """Let the stretch grow if the equation holds in its newest part."""
        start, length, whole = state["from"], state["until"] - state["from"], state["to"] - state["from"]
        old = length / self.growth**2
        newest = draw(n).clone()
        newest[:, -1] = start + old + (length - old) * (newest[:, -1] - start) / whole
        if float(residual(newest).square().mean()) < self.tolerance:
            state["until"] = min(start + self.growth * length, state["to"])
