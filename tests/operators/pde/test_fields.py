"""Random coefficient fields: statistics, seeds, shapes, errors."""

import numpy as np
import pytest
from scipy import ndimage

from solvus.meshes import Grid
from solvus.operators.pde import gaussian, log_normal, two_phase
from solvus.operators.pde.fields import source_field


@pytest.mark.parametrize("shape", [(50,), (31, 40), (9, 8, 7)])
def test_one_value_per_cell_with_mean_zero_and_variance_one(shape):
    grid = Grid(shape)
    g = gaussian(grid, 3)
    assert g.shape == grid.cells
    assert abs(g.mean()) < 1e-12
    assert abs(g.std() - 1) < 1e-12


def test_the_seed_decides():
    grid = Grid((15, 15))
    assert np.array_equal(gaussian(grid, 1), gaussian(grid, 1))
    assert not np.array_equal(gaussian(grid, 1), gaussian(grid, 2))
    generator = np.random.default_rng(1)
    assert np.array_equal(gaussian(grid, generator), gaussian(grid, 1))
    assert not np.array_equal(gaussian(grid, generator), gaussian(grid, 1))


def test_structures_set_the_detail():
    grid = Grid((255, 255))
    crossings = {}
    for structures in (5, 20):
        positive = gaussian(grid, 0, structures=structures) > 0
        crossings[structures] = (positive[1:] != positive[:-1]).mean() * 255
    assert 15 < crossings[5] < 30  # sign changes along a side
    assert 40 < crossings[20] < 70
    _, islands = ndimage.label(gaussian(grid, 0) > 0)
    assert 200 < islands < 800


def test_the_spectrum_is_the_one_stated():
    grid = Grid((255, 255))
    power = np.zeros((256, 256))
    for seed in range(40):
        power += abs(np.fft.fft2(gaussian(grid, seed))) ** 2
    at = lambda k: power[k, 0] + power[0, k] + power[-k, 0] + power[0, -k]  # noqa: E731
    low, high = sum(map(at, range(3, 8))), sum(map(at, range(58, 63)))
    expected = ((1 + 9.0) / (1 + 0.0625)) ** 2  # amplitudes 1 / (1 + (k / 20)^2) at k = 60 and 5
    assert expected / 1.4 < low / high < expected * 1.4


def test_isotropic_in_a_long_box():
    grid = Grid((511, 127), upper=(4.0, 1.0))
    positive = gaussian(grid, 0) > 0
    along, across = (positive[1:] != positive[:-1]).mean(), (positive[:, 1:] != positive[:, :-1]).mean()
    assert 0.7 < along / across < 1.4


def test_log_normal_and_two_phase_follow_the_field():
    grid = Grid((31, 31))
    g = gaussian(grid, 7)
    np.testing.assert_allclose(np.log(log_normal(grid, 3.0, 7)), 3 * g, atol=1e-12)
    np.testing.assert_array_equal(two_phase(grid, 1e4, 7), np.where(g > 0, 1e4, 1.0))


def test_sources_sit_at_the_unknowns():
    grid = Grid((12, 10))
    assert source_field(grid, 4, 0).shape == (4, 12, 10)
    assert source_field(grid, 0, 0).shape == (0, 12, 10)


def test_errors_name_what_is_needed():
    with pytest.raises(ValueError, match="structures must be positive, got 0"):
        gaussian(Grid((4,)), 0, structures=0)
    with pytest.raises(ValueError, match="at least two cells"):
        gaussian(Grid((1,), centring="cell"), 0)
    with pytest.raises(ValueError, match="sigma is a standard deviation"):
        log_normal(Grid((4,)), -1.0, 0)
    with pytest.raises(ValueError, match="contrast is a ratio"):
        two_phase(Grid((4,)), 0.0, 0)
