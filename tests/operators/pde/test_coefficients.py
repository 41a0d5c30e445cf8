"""Random coefficients follow their fields and formulas."""

from math import pi

import numpy as np
import pytest

from solvus.meshes import Grid
from solvus.operators.pde.coefficients import LogNormal, Trigonometric, TwoPhase
from solvus.operators.pde.random_fields import GaussianField


def test_coefficients_follow_their_field():
    grid = Grid((24, 24), centring="cell")
    field = GaussianField(2.0, 3.0, boundary="neumann")
    g = field.sample(grid, 1, np.random.default_rng(7)).numpy()[0]
    np.testing.assert_array_equal(TwoPhase()(grid, seed=7), np.where(g >= 0, 12.0, 3.0))
    np.testing.assert_array_equal(
        TwoPhase(high=1.0, low=9.0, level=0.1)(grid, seed=7), np.where(g >= 0.1, 1.0, 9.0)
    )
    field = GaussianField(2.0, 3.0, 6.0, boundary="neumann")
    np.testing.assert_allclose(np.log(LogNormal(field, 5.0)(grid, seed=7) / 5), 2 * g, atol=1e-13)
    assert TwoPhase()(Grid((7, 5)), seed=0).shape == (8, 6)  # cells, not unknowns


def test_the_standard_deviation_that_the_preset_states():
    assert abs(LogNormal().field.variance(Grid((256, 256), centring="cell")) ** 0.5 - 0.973) < 1e-3


def test_the_trigonometric_formula():
    grid, s = Grid((40, 30), centring="cell"), 0.5
    a = Trigonometric()(grid, seed=5)
    f = np.random.default_rng(5).uniform([1, 2, 4, 8, 16, 32], [1.5, 3, 6, 12, 24, 48])
    x, y = grid.cell_axes()[0][17], grid.cell_axes()[1][4]
    product = np.prod((1 + s * np.cos(f * pi * (x + y))) * (1 + s * np.sin(f * pi * (y - 3 * x))))
    assert abs(a[17, 4] / product - 1) < 1e-12
    assert a.min() > 0


def test_errors_name_what_is_needed():
    with pytest.raises(ValueError, match="coefficients must be positive, got 12"):
        TwoPhase(low=-3.0)
    with pytest.raises(ValueError, match="the median of a positive coefficient"):
        LogNormal(scale=0.0)
    with pytest.raises(ValueError, match="0 <= swing < 1"):
        Trigonometric(swing=1.0)
    with pytest.raises(TypeError, match="one of the plane, the grid has 3 axes"):
        Trigonometric()(Grid((4, 4, 4)), seed=0)
