"""Trajectories: samples independent of their batch, an estimate near the true error, failures in words."""

import pickle
from dataclasses import replace
from math import pi

import numpy as np
import pytest
import torch

from solvus.datasets.recipe import digest
from solvus.datasets.recipes.trajectories import Trajectories
from solvus.meshes import Grid
from solvus.operators.pde.advection import Advection
from solvus.operators.pde.burgers import Burgers
from solvus.operators.pde.evolution import Semilinear
from solvus.operators.pde.heat import Heat
from solvus.operators.pde.korteweg_de_vries import KortewegDeVries
from solvus.solvers.time import ETDRK4, RK4, IMEXEuler, IMEXHeun

CIRCLE = Grid((64,), upper=(2 * pi,), boundary="periodic")
BURGERS = Trajectories("burgers", Burgers(), CIRCLE, 0.01, 0.1, 3)
RECIPES = {
    "burgers": BURGERS,
    "long line": replace(BURGERS, grid=Grid((8192,), upper=(2 * pi,), boundary="periodic"), frames=1),
    "odd": replace(BURGERS, grid=Grid((63,), upper=(2 * pi,), boundary="periodic"), stepper=IMEXHeun),
    "plane": Trajectories("a", Advection((1.0, 0.5)), Grid((64, 64), boundary="periodic"), 0.1, 0.1, 2),
    "kdv": Trajectories(
        "k", KortewegDeVries(), Grid((128,), upper=(40.0,), boundary="periodic"), 0.01, 0.1, 2
    ),
    "heat": Trajectories("heat", Heat(), Grid((15, 20)), 1e-3, 0.01, 2),
}


def drawn(recipe, n=5):
    return [recipe.draw(np.random.default_rng(seed)) for seed in range(n)]


def assert_same(a, b):
    assert (a.residual, a.steps, a.failure) == (b.residual, b.steps, b.failure)
    assert a.arrays.keys() == b.arrays.keys()
    for name in a.arrays:
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name])


@pytest.mark.parametrize("name", RECIPES)
def test_samples_do_not_depend_on_their_batch(name):
    recipe = replace(RECIPES[name], max_residual=1.0)
    draws = drawn(recipe)
    whole = recipe.solve(draws)
    assert all(not s.failure for s in whole)
    for size in (1, 2, 3):
        parts = [s for i in range(0, 5, size) for s in recipe.solve(draws[i : i + size])]
        for a, b in zip(whole, parts, strict=True):
            assert_same(a, b)
    assert np.abs(whole[0].arrays["u"] - whole[1].arrays["u"]).max() > 1e-3


class Coupled(torch.nn.Module):
    """A wrong equation: its samples feel each other."""

    def __init__(self, symbol):
        super().__init__()
        self.symbol = symbol

    def forward(self, v):
        return -v * v.mean()


def coupled(system, dt):
    return ETDRK4(Semilinear(system.symbol, Coupled(system.symbol), system.to_modes, system.to_grid), dt)


def test_coupled_samples_are_found():
    recipe = replace(BURGERS, stepper=coupled, max_residual=1.0)
    draws = drawn(recipe, 3)
    with pytest.raises(AssertionError):
        assert_same(recipe.solve(draws)[0], recipe.solve(draws[:2])[0])


def test_frames_and_layout():
    recipe = replace(BURGERS, stride=4)
    (sample,) = recipe.solve(drawn(recipe, 1))
    assert sample.arrays["u"].shape == recipe.layout.shape("u") == (4, 16)
    assert sample.steps == 30
    np.testing.assert_allclose(recipe.layout.times, [0, 0.1, 0.2, 0.3])
    start = recipe.draw(np.random.default_rng(0))["u"][::4]
    np.testing.assert_allclose(sample.arrays["u"][0], start, atol=1e-14)
    assert recipe.layout.parameters["viscosity"] == 0.1
    assert recipe.layout.parameters["dt"] == 0.01


def test_frames_are_those_of_the_exact_solution():
    grid = Grid((512,), upper=(2 * pi,), boundary="periodic")
    recipe = replace(BURGERS, grid=grid, dt=0.005)
    (sample,) = recipe.solve(drawn(recipe, 1))
    exact = Burgers().solution(grid, torch.from_numpy(drawn(recipe, 1)[0]["u"]), recipe.layout.times)
    np.testing.assert_allclose(sample.arrays["u"], exact.numpy(), atol=2e-6)


@pytest.mark.parametrize(
    ("stepper", "dt"), [(ETDRK4, 0.02), (ETDRK4, 0.2), (IMEXHeun, 0.01), (IMEXEuler, 0.005), (RK4, 0.005)]
)
def test_residual_estimates_the_true_error(stepper, dt):
    """One interval of smooth data, against 2,000 steps of ETDRK4."""
    grid = Grid((48,), upper=(2 * pi,), boundary="periodic")
    equation = Burgers(0.1, alpha=6.0, tau=2.0, sigma=8.0)
    recipe = Trajectories("b", equation, grid, dt, 0.2, 1, stepper=stepper, max_residual=1.0)
    draws = drawn(recipe, 3)
    reference = replace(recipe, dt=1e-4, stepper=ETDRK4).solve(draws)
    for sample, good in zip(recipe.solve(draws), reference, strict=True):
        there, end = sample.arrays["u"][1], good.arrays["u"][1]
        error = np.linalg.norm(there - end) / np.linalg.norm(end)
        assert 0.5 * error < sample.residual < 2 * error


def test_errors_can_be_looked_at_now_and_then():
    every = BURGERS.solve(drawn(BURGERS, 2))
    some = replace(BURGERS, check_every=2).solve(drawn(BURGERS, 2))
    for a, b in zip(every, some, strict=True):
        assert 0 < b.residual <= a.residual
        np.testing.assert_array_equal(a.arrays["u"], b.arrays["u"])


def test_too_large_an_error_fails_in_words():
    recipe = replace(BURGERS, max_residual=1e-12)
    (sample,) = recipe.solve(drawn(recipe, 1))
    assert sample.arrays == {}
    assert sample.residual > 1e-12
    assert (
        sample.failure == f"error {sample.residual:.1e} of the time steps above 1.0e-12: lower dt, it is 0.01"
    )


def test_a_diverging_sample_fails_and_its_neighbours_do_not():
    recipe = replace(BURGERS, stepper=RK4, dt=0.01, interval=0.5)
    calm, wild, more = drawn(recipe, 3)
    wild = {"u": 1e4 * wild["u"]}
    results = recipe.solve([calm, wild, more])
    assert results[1].failure == "u not finite: lower dt, it is 0.01"
    assert results[1].arrays == {}
    for alone, together in zip(recipe.solve([calm, more]), results[::2], strict=True):
        assert not together.failure
        assert_same(alone, together)


@pytest.mark.parametrize("name", ["burgers", "heat"])
def test_nan_fails_alone(name):
    recipe = replace(RECIPES[name], max_residual=1.0)
    good, bad = drawn(recipe, 2)
    bad = {"u": np.where(bad["u"] == bad["u"].max(), np.nan, bad["u"])}
    first, second = recipe.solve([good, bad])
    assert_same(first, recipe.solve([good])[0])
    assert second.arrays == {}
    assert "not finite" in second.failure or "NaN" in second.failure


def test_picklable_and_described():
    assert digest(pickle.loads(pickle.dumps(BURGERS))) == digest(BURGERS)
    assert digest(replace(BURGERS, stepper=RK4)) != digest(BURGERS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dt": 0.03}, "no multiple of dt"),
        ({"dt": 0.2}, "no multiple of dt"),
        ({"dt": 0.0}, "must be positive"),
        ({"frames": 0}, "must be positive"),
        ({"check_every": 0}, "must be positive"),
        ({"grid": Grid((8,))}, "periodic conditions"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(BURGERS, **changes)
