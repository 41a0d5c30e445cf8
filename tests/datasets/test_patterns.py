"""Presets of flows and patterns: what they promise, samples apart from their batch, failures in words."""

from dataclasses import replace

import numpy as np
import pytest

from solvus.datasets.recipe import Recipe
from solvus.datasets.recipes.patterns import fisher_kpp, gray_scott, kuramoto_sivashinsky, navier_stokes

SMALL = {
    "navier_stokes": navier_stokes(24, time=4.0, interval=2.0, refine=1, dt=0.1),
    "navier_stokes, refined": navier_stokes(16, time=1.0, interval=1.0, refine=3, dt=0.05),
    "navier_stokes, 64": navier_stokes(time=0.2, interval=0.2),
    "kuramoto_sivashinsky": kuramoto_sivashinsky(time=2.0),
    "fisher_kpp": fisher_kpp(128, time=0.1, interval=0.05),
    "fisher_kpp, 2D": fisher_kpp(32, dimensions=2, time=0.1, interval=0.05),
    "gray_scott": gray_scott(32, time=20.0, interval=10.0),
}


def drawn(recipe, n):
    return [recipe.draw(np.random.default_rng([5, i])) for i in range(n)]


def check_independent(recipe: Recipe, n: int = 4):
    """A sample is the same to the bit alone, among three, among four, and at another place."""
    draws = drawn(recipe, n)
    together = recipe.solve(draws)
    others = [recipe.solve([draw])[0] for draw in draws]
    for alone, sample in zip(others, together, strict=True):
        assert not sample.failure
        assert alone.residual == sample.residual
        for name, array in sample.arrays.items():
            np.testing.assert_array_equal(alone.arrays[name], array)
    for first, sample in zip(recipe.solve(draws[1:]), together[1:], strict=True):
        for name, array in sample.arrays.items():
            np.testing.assert_array_equal(first.arrays[name], array)


@pytest.mark.parametrize("name", SMALL)
def test_samples_do_not_depend_on_their_batch(name):
    check_independent(SMALL[name])


def test_a_sample_that_feels_the_others_is_caught():
    class Mixed(Recipe):
        def __init__(self, recipe):
            self.recipe = recipe

        storage = property(lambda self: self.recipe.storage)

        def draw(self, generator):
            return self.recipe.draw(generator)

        def solve(self, draws, device="cpu"):
            mean = {name: np.mean([d[name] for d in draws], axis=0) for name in draws[0]}
            near = [{name: d[name] + 1e-12 * mean[name] for name in d} for d in draws]
            return self.recipe.solve(near, device)

    with pytest.raises(AssertionError):
        check_independent(Mixed(SMALL["fisher_kpp"]))


@pytest.mark.parametrize("name", SMALL)
def test_samples_fit_their_layout(name):
    recipe = SMALL[name]
    (sample,) = recipe.solve(drawn(recipe, 1))
    assert set(sample.arrays) == {v.name for v in recipe.layout.variables}
    for field, array in sample.arrays.items():
        assert array.shape == recipe.layout.shape(field)
        assert np.abs(array[-1] - array[0]).max() > 1e-3
    assert sample.steps == recipe.every * recipe.frames


def test_published_flows():
    recipes = {nu: navier_stokes(viscosity=nu) for nu in (1e-3, 1e-4, 1e-5)}
    assert [r.grid.shape[0] for r in recipes.values()] == [64, 128, 256]
    assert [r.layout.shape("vorticity") for r in recipes.values()] == [
        (51, 64, 64),
        (31, 64, 64),
        (21, 64, 64),
    ]
    assert [r.dt for r in recipes.values()] == [0.04, 0.01, 0.005]
    layout = recipes[1e-4].layout
    assert np.array_equal(layout.coordinates[0], np.arange(64) / 64)
    assert layout.parameters["viscosity"] == 1e-4
    assert layout.parameters["sigma"] == 7**1.5
    assert navier_stokes(128).grid.shape == (128, 128)
    assert navier_stokes(48, viscosity=1e-4).grid.shape == (144, 144)


def test_stored_points_are_those_of_the_solved_grid():
    fine = SMALL["navier_stokes, refined"]
    whole = replace(fine, stride=1)
    (a,), (b,) = (r.solve(drawn(r, 1)) for r in (fine, whole))
    np.testing.assert_array_equal(a.arrays["vorticity"], b.arrays["vorticity"][:, ::3, ::3])


def test_a_step_that_is_too_long_fails_in_words():
    coarse = navier_stokes(24, time=4.0, interval=2.0, refine=1, dt=1.0, sigma=300.0)
    (sample,) = coarse.solve(drawn(coarse, 1))
    assert "lower dt, it is 1.0" in sample.failure
    assert not sample.arrays
    mild = kuramoto_sivashinsky(time=4.0, dt=1.0)
    assert "of the time steps above 1.0e-03: lower dt" in mild.solve(drawn(mild, 1))[0].failure


def test_times_that_do_not_fit():
    with pytest.raises(ValueError, match=r"the time 2.5 is no multiple of the interval 1.0"):
        navier_stokes(time=2.5)
    with pytest.raises(ValueError, match=r"no multiple of dt = 0.3"):
        kuramoto_sivashinsky(dt=0.3)
    with pytest.raises(ValueError, match="interval between frames must be positive, got 0"):
        fisher_kpp(interval=0.0)


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="viscosity must not be negative"):
        navier_stokes(viscosity=-1.0)
    with pytest.raises(ValueError, match="at least 1, got 0 and None"):
        navier_stokes(0)
    with pytest.raises(ValueError, match="at least 1, got 64 and 0"):
        navier_stokes(refine=0)


def check_margin(recipe, samples):
    """The defect stays a hundred times below what fails a sample."""
    for sample in recipe.solve(drawn(recipe, samples)):
        assert not sample.failure
        assert sample.residual < recipe.max_residual / 100


@pytest.mark.parametrize(
    "recipe",
    [
        kuramoto_sivashinsky(time=30.0),
        fisher_kpp(),
        fisher_kpp(64, dimensions=2, time=0.3),
        fisher_kpp(diffusion=0.5, rate=1.0),
    ],
    ids=["kuramoto_sivashinsky", "fisher_kpp", "fisher_kpp, 2D", "fisher_kpp, PDEBench"],
)
def test_margin(recipe):
    check_margin(recipe, 4)


def test_a_thin_margin_is_caught():
    with pytest.raises(AssertionError):
        check_margin(kuramoto_sivashinsky(time=5.0, dt=0.5), 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [navier_stokes(), kuramoto_sivashinsky(), fisher_kpp(), gray_scott(64, time=500.0)],
    ids=lambda recipe: recipe.name,
)
def test_margin_of_many_samples(recipe):
    check_margin(recipe, 32)
