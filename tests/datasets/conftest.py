"""Layouts of every kind, random data in them, and a recipe that makes such data without solving anything."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from solvus.datasets.formats.arrays import ArraySource
from solvus.datasets.formats.well_storage import GridStorage
from solvus.datasets.layout import Layout, Role, Variable
from solvus.datasets.recipe import Draw, Recipe, Solved
from solvus.meshes import Boundary

WALL, FLUX, AROUND = Boundary.DIRICHLET, Boundary.NEUMANN, Boundary.PERIODIC
STATE = {"role": Role.STATE, "time_varying": True}


def axes(*sizes: int) -> tuple[tuple[str, ...], tuple[np.ndarray, ...]]:
    return ("x", "y", "z")[: len(sizes)], tuple((np.arange(n) + 0.5) / n for n in sizes)


def all_layouts() -> dict[str, Layout]:
    times = 0.1 * np.arange(4)
    return {
        "line": Layout(
            "line", *axes(9), times, (Variable("u", **STATE, meaning="speed, m/s"),), ((AROUND,) * 2,)
        ),
        "plane": Layout(
            "plane",
            *axes(6, 5),
            times,
            (
                Variable("stress", 2, **STATE),
                Variable("density", **STATE),
                Variable("velocity", 1, **STATE),
                Variable("conductivity", role=Role.INPUT),
                Variable("obstacle", role=Role.INPUT, sample_varying=False),
                Variable("profile", role=Role.INPUT, axes=("y",)),
                Variable("forcing", 1, role=Role.INPUT, sample_varying=False, time_varying=True),
            ),
            ((WALL, FLUX), (AROUND, AROUND)),
            {"viscosity": 0.1, "speed": 3.0},
        ),
        "box": Layout("box", *axes(4, 3, 5), times, (Variable("v", 1, **STATE), Variable("p", **STATE))),
        "steady": Layout(
            "steady",
            *axes(5, 4),
            np.zeros(1),
            (Variable("k", role=Role.INPUT), Variable("u"), Variable("flux", 1)),
            ((WALL, WALL), (FLUX, WALL)),
        ),
        "double": Layout(
            "double", *axes(7), times, (Variable("u", **STATE),), ((WALL, WALL),), {}, "float64"
        ),
    }


@dataclass(frozen=True)
class Noise(Recipe):
    """Random numbers in a layout; a sample fails when its first number is below a threshold."""

    layout: Layout
    fail_below: float = 0.0
    max_residual: float = 1e-8

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def storage(self) -> GridStorage:
        return GridStorage(self.layout)

    def draw(self, generator: np.random.Generator) -> Draw:
        shared = np.random.default_rng(0)
        return {
            v.name: (generator if v.sample_varying else shared).random(self.layout.shape(v.name))
            for v in self.layout.variables
        }

    def solve(self, draws: Sequence[Draw], device: str = "cpu") -> list[Solved]:
        return [self._one(draw) for draw in draws]

    def _one(self, draw: Draw) -> Solved:
        first = float(draw[self.layout.variables[0].name].flat[0])
        return (
            Solved({}, 1.0, 2, f"{first:.2f} is too small")
            if first < self.fail_below
            else Solved(draw, 1e-9, 2)
        )


@pytest.fixture
def layouts():
    return all_layouts()


@pytest.fixture
def noise():
    """Class of the recipe."""
    return Noise


@pytest.fixture
def source_of():
    """Function that fills a layout with random numbers."""

    def fill(layout: Layout, samples: int = 3, seed: int = 0) -> ArraySource:
        generator = np.random.default_rng(seed)
        arrays = {
            v.name: generator.random((samples,) * v.sample_varying + layout.shape(v.name)).astype(
                layout.dtype
            )
            for v in layout.variables
        }
        return ArraySource(layout, arrays, samples)

    return fill
