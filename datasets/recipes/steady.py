"""Steady problems: random inputs, one linear system each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Grid
from ...operators.pde.base import Equation, FieldSpec, Place
from ...solvers.auto import Auto
from ...solvers.base import Result, Solver, Status, Stop, solve
from ...solvers.system import LinearSystem
from ..layout import Layout, Role, Variable, axes_of
from ..recipe import Draw, Recipe, Solved
from ..well import GridStorage
from .parameters import parameters_of

_AUTO = Auto()


@final
@dataclass(frozen=True)
class Steady(Recipe):
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
                f"the fields {per_cell} have one value per cell, the unknowns sit elsewhere: give a cell-centred grid"
            )

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

    @property
    def storage(self) -> GridStorage:
        """Where the arrays of a sample go."""
        return GridStorage(self.layout)

    def draw(self, generator: np.random.Generator) -> Draw:
        """Draw the inputs of one sample."""
        fields = self.equation.sample(self.grid, 1, generator)
        return {name: value[0].numpy() for name, value in fields.items()}

    def solve(self, draws: Sequence[Draw], device: str = "cpu") -> list[Solved]:
        """Solve samples: one by one on the CPU, so that none depends on the others; else as one batch."""
        if device == "cpu":
            return [sample for draw in draws for sample in self.solve_together([draw], device)]
        return self.solve_together(draws, device)

    def solve_together(self, draws: Sequence[Draw], device: str) -> list[Solved]:
        """Solve samples as one batch of systems on a device."""
        single = len(draws) == 1
        fields: dict[str, Tensor] = {}
        for spec in self.equation.inputs:
            stacked = torch.stack([torch.as_tensor(draw[spec.name]) for draw in draws])
            fields[spec.name] = (stacked[0] if single else stacked).to(device)
        A, b = self.equation.problem(self.grid, fields)
        result = solve(LinearSystem(A, b), self.solver, stop=Stop(rtol=self.rtol), throw=False)
        residuals = np.atleast_1d(result.relative_residual.cpu().numpy())
        values = result.value.reshape(len(draws), *self.grid.shape).cpu().numpy()
        return [
            self._judge(draw, value, float(residual), result)
            for draw, value, residual in zip(draws, values, residuals, strict=True)
        ]

    def _judge(self, draw: Draw, value: np.ndarray, residual: float, result: Result) -> Solved:
        if not residual <= self.max_residual:
            reason = result.reason or Status(result.status).advice
            text = f"{result.status.name}, residual {residual:.1e} above {self.max_residual:.1e}: {reason}"
            return Solved({}, residual, result.steps, text)
        (output,) = self.equation.outputs
        thin = (slice(None, None, self.stride),) * self.grid.dim
        stored = {name: array[thin] for name, array in {**draw, output.name: value}.items()}
        return Solved(stored, residual, result.steps)


def _variables(specs: Sequence[FieldSpec], role: Role) -> tuple[Variable, ...]:
    return tuple(Variable(spec.name, role=role, meaning=spec.meaning) for spec in specs)
