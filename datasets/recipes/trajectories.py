"""Evolution problems: random initial states, rolled out in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Grid
from ...operators.linear.errors import NonFinite
from ...operators.pde.evolution import Parabolic, Semilinear, SpectralEvolution
from ...solvers.base import SolveError
from ...solvers.time import ETDRK4, CrankNicolson, TimeStepper, rollout
from ..layout import Layout, Role, Variable, axes_of
from ..recipe import Draw, Solved
from .on_grid import GridRecipe
from .parameters import parameters_of


@final
@dataclass(frozen=True)
class Trajectories(GridRecipe[SpectralEvolution | Parabolic]):
    """Samples of an evolution equation: initial states that it draws, and frames at equal intervals.

    The residual of a sample is the largest relative error that an interval between frames adds, estimated by
    Richardson's rule: from the frame before, the interval is also solved with half as many steps.

    Args:
        name: of the dataset.
        equation: what is drawn and stepped.
        grid: where it is solved.
        dt: length of a step.
        interval: time between frames, a multiple of dt.
        frames: after the initial one.
        stepper: for the spectral form; a `Parabolic` equation takes `CrankNicolson`.
        max_residual: largest estimated error of a sample that counts.
        check_every: estimate the error of every so many intervals; all of them costs half as much again.
        stride: store every stride-th point along each axis.
        dtype: of stored fields.
    """

    name: str
    equation: SpectralEvolution | Parabolic
    grid: Grid
    dt: float
    interval: float
    frames: int
    stepper: Callable[[Semilinear, float], TimeStepper] = ETDRK4
    max_residual: float = 1e-3
    check_every: int = 1
    stride: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        self.equation.check(self.grid)
        if self.frames < 1 or self.check_every < 1 or not self.dt > 0:
            given = f"{self.frames}, {self.check_every} and {self.dt}"
            raise ValueError(f"frames, check_every and dt must be positive, got {given}")
        if self.every < 1 or abs(self.every * self.dt - self.interval) > 1e-9 * self.interval:
            raise ValueError(f"the interval {self.interval} between frames is no multiple of dt = {self.dt}")

    @property
    def every(self) -> int:
        """Steps between two frames."""
        return round(self.interval / self.dt)

    @property
    def layout(self) -> Layout:
        """Form of the samples."""
        names, coordinates = axes_of(self.grid)
        return Layout(
            self.name,
            names,
            tuple(c[:: self.stride] for c in coordinates),
            self.interval * np.arange(self.frames + 1, dtype=np.float64),
            tuple(
                Variable(spec.name, role=Role.STATE, time_varying=True, meaning=spec.meaning)
                for spec in self.equation.state
            ),
            self.grid.boundary,
            {**parameters_of(self.equation), "dt": self.dt},
            self.dtype,
        )

    def solve(self, draws: Sequence[Draw], device: str = "cpu") -> list[Solved]:
        """Roll samples out together; every operation acts on each sample alone."""
        # Transforms of one sample take another code path than those of several: a lone one gets company.
        lonely = len(draws) == 1 and isinstance(self.equation, SpectralEvolution)
        return self._solve_together(list(draws) * 2 if lonely else draws, device)[: len(draws)]

    def _solve_together(self, draws: Sequence[Draw], device: str) -> list[Solved]:
        names = [spec.name for spec in self.equation.state]
        u0 = self.equation.stack(
            {name: torch.stack([torch.as_tensor(draw[name]) for draw in draws]) for name in names}
        ).to(device)
        try:
            record, errors = self._roll(u0)
        except (SolveError, NonFinite) as error:  # of a linear system: one sample fails, not its neighbours
            if len(draws) > 1:
                return [sample for draw in draws for sample in self._solve_together([draw], device)]
            return [Solved({}, float("nan"), 0, f"{type(error).__name__}: {error}") for _ in draws]
        thin = (slice(None, None, self.stride),) * self.grid.dim
        fields = {
            name: part[(..., *thin)].cpu().numpy() for name, part in self.equation.unstack(record, 2).items()
        }
        steps = self.every * self.frames
        return [
            self._judge({name: part[i] for name, part in fields.items()}, float(errors[i]), steps)
            for i in range(len(draws))
        ]

    def _roll(self, u0: Tensor) -> tuple[Tensor, np.ndarray]:
        """Return the frames (B, T, C, *shape) and the largest error of an interval of each sample (B,)."""
        if isinstance(self.equation, Parabolic):
            equation = self.equation
            start, observe = u0, None

            def make(dt: float) -> TimeStepper:
                return CrankNicolson(equation, self.grid, dt)

        else:
            system = self.equation.semilinear(self.grid, device=u0.device)
            start, observe = system.to_modes(u0), system.to_grid

            def make(dt: float) -> TimeStepper:
                return self.stepper(system, dt)

        fine = make(self.dt)
        other_steps = self.every // 2 or 2  # a coarser run; a finer one where an interval is one step
        other = make(self.interval / other_steps)
        excess = abs(
            (self.every / other_steps) ** fine.order - 1
        )  # difference over the error of the fine run
        errors, frame, ahead = np.zeros(len(u0)), 0, None

        def look(v: Tensor) -> Tensor:
            nonlocal ahead, frame
            if ahead is not None:
                np.maximum(errors, _relative(v - ahead, v) / excess, out=errors)
            checked = frame < self.frames and frame % self.check_every == 0
            t = frame * self.interval
            ahead = rollout(other, v, 1, every=other_steps, t0=t)[:, 1] if checked else None
            frame += 1
            return v if observe is None else observe(v)

        record = rollout(fine, start, self.frames, every=self.every, observe=look)
        return record, errors

    def _judge(self, arrays: dict[str, np.ndarray], error: float, steps: int) -> Solved:
        bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if bad:
            return Solved({}, error, steps, f"{', '.join(bad)} not finite: lower dt, it is {self.dt}")
        if not error <= self.max_residual:
            text = f"error {error:.1e} of the time steps above {self.max_residual:.1e}"
            return Solved({}, error, steps, f"{text}: lower dt, it is {self.dt}")
        return Solved(arrays, error, steps)


def _relative(difference: Tensor, v: Tensor) -> np.ndarray:
    """Norm of each sample relative to another, summed in an order that does not depend on the batch."""

    def norms(u: Tensor) -> np.ndarray:
        rows = [np.abs(row).ravel() for row in u.cpu().numpy()]
        return np.array([np.sqrt(np.sum(row * row)) for row in rows])

    with np.errstate(over="ignore", invalid="ignore"):  # a diverged sample is judged by its NaN
        return norms(difference) / np.maximum(norms(v), np.finfo(float).tiny)


def dividing_step(interval: float, longest: float) -> float:
    """Return the longest step that divides an interval and does not exceed a length.

    >>> dividing_step(1.0, 0.3)
    0.25
    """
    return interval / ceil(interval / longest - 1e-9)
