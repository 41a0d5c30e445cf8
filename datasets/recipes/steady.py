"""Steady problems: random inputs, one linear system each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Grid
from ...operators.pde.base import Equation, FieldSpec, Place
from ...solvers.auto import Auto
from ...solvers.base import Result, Solver, Stop, solve
from ...solvers.direct import Direct
from ...solvers.system import LinearSystem
from ..layout import Layout, Role, Variable, axes_of
from ..recipe import Draw, Solved
from .on_grid import GridRecipe
from .parameters import parameters_of

_AUTO = Auto()
# what bad data raise, and bad settings do not
_UNSOLVABLE = (ValueError, ArithmeticError, torch.linalg.LinAlgError)  # pyright: ignore[reportPrivateImportUsage]


@final
@dataclass(frozen=True)
class Steady(GridRecipe[Equation]):
    """Samples of an `Equation`: the inputs that it draws and the solution of its linear system.

    Args:
        name: of the dataset.
        equation: what is drawn and solved.
        grid: where; cell-centred when the equation has fields per cell, so that all fields share its points.
        solver: on the CPU one system after the other, elsewhere all of a batch as one system.
        rtol: relative residual that the solver is asked for.
        max_residual: what a sample must meet to count.
        stride: store every stride-th point along each axis.
        dtype: of stored fields.
    """

    name: str
    equation: Equation
    grid: Grid
    solver: Solver = _AUTO
    rtol: float = 1e-10
    max_residual: float = 1e-8
    stride: int = 1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        specs = (*self.equation.inputs, *self.equation.outputs)
        if any(spec.shape(self.grid) != self.grid.shape for spec in specs):
            per_cell = ", ".join(spec.name for spec in specs if spec.place is Place.CELLS)
            raise ValueError(
                f"the fields {per_cell} have one value per cell, the unknowns sit elsewhere: give a "
                "cell-centred grid"
            )
        if self.stride < 1:
            raise ValueError(f"stride counts points, so at least 1 (all of them), got {self.stride}")

    @property
    def layout(self) -> Layout:
        """Form of the samples."""
        names, coordinates = axes_of(self.grid)
        return Layout(
            self.name,
            names,
            tuple(c[:: self.stride] for c in coordinates),
            np.zeros(1),
            (*_variables(self.equation.inputs, Role.INPUT), *_variables(self.equation.outputs, Role.OUTPUT)),
            self.grid.boundary,
            parameters_of(self.equation),
            self.dtype,
        )

    def solve(self, draws: Sequence[Draw], device: str = "cpu") -> list[Solved]:
        """Solve samples: one by one on the CPU, so that none depends on the others; else as one batch.

        Direct methods factor one matrix on the CPU: they get one sample at a time there, whatever the device.
        """
        if isinstance(self.solver, Direct):
            device = "cpu"
        if torch.device(device).type == "cpu":
            return [sample for draw in draws for sample in self.solve_together([draw], device)]
        return self.solve_together(draws, device)

    def solve_together(self, draws: Sequence[Draw], device: str) -> list[Solved]:
        """Solve samples as one batch of systems on a device.

        Where the batch cannot be posed or set up at all (a coefficient that is infinite or not positive), its
        samples are solved one by one, so that only those that are to blame fail.
        """
        if not draws:
            return []
        try:
            result = self._result(draws, device)
        except _UNSOLVABLE as error:
            if len(draws) > 1:
                return [sample for draw in draws for sample in self.solve_together([draw], device)]
            return [Solved({}, float("nan"), 0, f"{type(error).__name__}: {error}")]
        residuals = np.atleast_1d(result.relative_residual.cpu().numpy())
        steps = np.atleast_1d(result.sample_steps.cpu().numpy())
        values = result.value.reshape(len(draws), *self.grid.shape).cpu().numpy()
        return [
            self._judge(draw, value, Solved({}, float(residual), int(taken)), result)
            for draw, value, residual, taken in zip(draws, values, residuals, steps, strict=True)
        ]

    def _result(self, draws: Sequence[Draw], device: str) -> Result:
        fields: dict[str, Tensor] = {}
        for spec in self.equation.inputs:
            stacked = torch.stack([torch.as_tensor(draw[spec.name]) for draw in draws])
            fields[spec.name] = (stacked[0] if len(draws) == 1 else stacked).to(device)
        system = LinearSystem(*self.equation.problem(self.grid, fields))
        return solve(system, self.solver, stop=Stop(rtol=self.rtol), throw=False)

    def _judge(self, draw: Draw, value: np.ndarray, sample: Solved, result: Result) -> Solved:
        if not sample.residual <= self.max_residual:
            advice = result.reason or result.status.advice
            missed = f"residual {sample.residual:.1e} above {self.max_residual:.1e}"
            return replace(sample, failure=f"{missed}: {result.status.name}, {advice}")
        (output,) = self.equation.outputs
        thin = (slice(None, None, self.stride),) * self.grid.dim
        return replace(sample, arrays={name: a[thin] for name, a in {**draw, output.name: value}.items()})


def _variables(specs: Sequence[FieldSpec], role: Role) -> tuple[Variable, ...]:
    return tuple(Variable(spec.name, role=role, meaning=spec.meaning) for spec in specs)
