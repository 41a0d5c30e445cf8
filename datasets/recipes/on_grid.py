"""What recipes on grids share: an equation that draws, and a layout."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

import numpy as np

from ...meshes.grid import Grid
from ...operators.pde.base import Equation
from ...operators.pde.evolution import Evolution
from ..formats.well import GridStorage
from ..layout import Layout
from ..recipe import Draw, Recipe

E = TypeVar("E", bound=Equation | Evolution)


class GridRecipe(Recipe, Generic[E]):
    """A recipe whose samples are fields on one grid.

    Attributes:
        equation: draws the inputs or the initial state.
        grid: of the draws.
    """

    equation: E
    grid: Grid

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Form of the samples."""

    @property
    def storage(self) -> GridStorage:
        """Where the arrays of a sample go."""
        return GridStorage(self.layout)

    def draw(self, generator: np.random.Generator) -> Draw:
        """Draw the inputs, or the initial state, of one sample."""
        fields = self.equation.sample(self.grid, 1, generator)
        return {name: value[0].numpy() for name, value in fields.items()}
