"""Evolution problems: random initial states, rolled out in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from ..recipe import Draw, Recipe, Solved
from ..well import GridStorage
from .parameters import parameters_of


@final
@dataclass(frozen=True)
class Trajectories(Recipe):
    """Samples of an evolution equation: initial states that it draws, and frames at equal intervals.

    The residual of a sample is the defect of its time steps: at every frame one step of dt is compared with
    two of dt / 2; the difference, relative to the state and times the steps of an interval, estimates the error
    that an interval adds. The largest counts.

    Args:
        name: of the dataset.
        equation: what is drawn and stepped.
        grid: where it is solved.
        dt: length of a step.
        interval: time between frames, a multiple of dt.
        frames: after the initial one.
        stepper: for the spectral form; a `Parabolic` equation takes `CrankNicolson`.
        max_residual: largest defect of a sample that counts.
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
    stride: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        self.equation.check(self.grid)
        if self.frames < 1 or not self.dt > 0:
            raise ValueError(f"frames and dt must be positive, got {self.frames} and {self.dt}")
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
            self.interval * np.arange(self.frames + 1),
            tuple(
                Variable(spec.name, role=Role.STATE, time_varying=True, meaning=spec.meaning)
                for spec in self.equation.state
            ),
            self.grid.boundary,
            {**parameters_of(self.equation), "dt": self.dt},
            self.dtype,
        )

    @property
    def storage(self) -> GridStorage:
        """Where the arrays of a sample go."""
        return GridStorage(self.layout)

    def draw(self, generator: np.random.Generator) -> Draw:
        """Draw the initial state of one sample."""
        fields = self.equation.sample(self.grid, 1, generator)
        return {name: value[0].numpy() for name, value in fields.items()}

    def solve(self, draws: Sequence[Draw], device: str = "cpu") -> list[Solved]:
        """Roll samples out: together where the form is spectral, one by one where linear systems are solved."""
        if isinstance(self.equation, Parabolic):
            return [sample for draw in draws for sample in self._solve_together([draw], device)]
        # Transforms of one sample take another code path than those of several: a lone one gets company.
        return self._solve_together(list(draws) * 2 if len(draws) == 1 else draws, device)[: len(draws)]

    def _solve_together(self, draws: Sequence[Draw], device: str) -> list[Solved]:
        names = [spec.name for spec in self.equation.state]
        u0 = self.equation.stack(
            {name: torch.stack([torch.as_tensor(draw[name]) for draw in draws]) for name in names}
        ).to(device)
        try:
            record, defects = self._roll(u0)
        except (SolveError, NonFinite) as error:
            return [Solved({}, float("nan"), 0, f"{type(error).__name__}: {error}") for _ in draws]
        thin = (slice(None, None, self.stride),) * self.grid.dim
        fields = {
            name: part[(..., *thin)].cpu().numpy() for name, part in self.equation.unstack(record, 2).items()
        }
        steps = self.every * self.frames
        return [
            self._judge({name: part[i] for name, part in fields.items()}, float(defects[i]), steps)
            for i in range(len(draws))
        ]

    def _roll(self, u0: Tensor) -> tuple[Tensor, np.ndarray]:
        """Return the frames (B, T, C, *shape) and the defect of each sample (B,)."""
        if isinstance(self.equation, Parabolic):
            full = CrankNicolson(self.equation, self.grid, self.dt)
            half = CrankNicolson(self.equation, self.grid, self.dt / 2)
            start, observe = u0, None
        else:
            system = self.equation.semilinear(self.grid, device=u0.device)
            full, half = self.stepper(system, self.dt), self.stepper(system, self.dt / 2)
            start, observe = system.to_modes(u0), system.to_grid
        defects, frame = np.zeros(len(u0)), 0

        def look(v: Tensor) -> Tensor:
            nonlocal frame
            if frame < self.frames:
                t = frame * self.interval
                once, twice = full.step(v, t), half.step(half.step(v, t), t + self.dt / 2)
                np.maximum(defects, self.every * _relative(once - twice, v), out=defects)
            frame += 1
            return v if observe is None else observe(v)

        record = rollout(full, start, self.frames, every=self.every, observe=look)
        return record, defects

    def _judge(self, arrays: dict[str, np.ndarray], defect: float, steps: int) -> Solved:
        bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if bad:
            return Solved({}, defect, steps, f"{', '.join(bad)} not finite: lower dt, it is {self.dt}")
        if not defect <= self.max_residual:
            text = f"defect {defect:.1e} of the time steps above {self.max_residual:.1e}: lower dt, it is {self.dt}"
            return Solved({}, defect, steps, text)
        return Solved(arrays, defect, steps)


def _relative(difference: Tensor, v: Tensor) -> np.ndarray:
    """Norm of each sample relative to another, summed in an order that does not depend on the batch."""

    def norms(u: Tensor) -> np.ndarray:
        rows = [np.abs(row).ravel() for row in u.cpu().numpy()]
        return np.array([np.sqrt(np.sum(row * row)) for row in rows])

    return norms(difference) / np.maximum(norms(v), np.finfo(float).tiny)
