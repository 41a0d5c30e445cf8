"""The presets: small ones against exact solutions or refined runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from solvus.datasets.recipes import transport
from solvus.datasets.recipes.transport import advection, burgers, heat, kdv

SMALL = {
    "heat": heat(16, time=0.1, frames=2),
    "advection": advection(64, frames=4),
    "burgers": burgers(256),
    "kdv": kdv(128, time=2.0, frames=2),
}


def first(recipe, seed=0):
    (sample,) = recipe.solve([recipe.draw(np.random.default_rng(seed))])
    assert not sample.failure
    return sample


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("name", SMALL)
def test_preset_meets_its_bound_with_margin(name):
    recipe = SMALL[name]
    sample = first(recipe)
    assert sample.arrays["u"].shape == recipe.layout.shape("u")
    assert sample.residual < 0.3 * recipe.max_residual
    assert recipe.name == name


@pytest.mark.parametrize("name", SMALL)
def test_defaults(name):
    recipe = getattr(transport, name)()
    assert recipe.layout.resolution[0] in (63, 256, 1024, 8192)
    assert recipe.every * recipe.dt == pytest.approx(recipe.interval)
    assert recipe.frames == {"heat": 20, "advection": 40, "burgers": 1, "kdv": 20}[name]


@pytest.mark.parametrize(("viscosity", "grid"), [(0.1, 1024), (0.01, 2048), (0.001, 16384)])
def test_small_viscosity_is_solved_on_a_finer_grid(viscosity, grid):
    recipe = burgers(256, viscosity=viscosity)
    assert recipe.grid.shape == (grid,)
    assert recipe.layout.shape("u") == (2, 256)


@pytest.mark.parametrize("viscosity", [0.1, 0.01])
def test_burgers_against_the_exact_solution(viscosity):
    recipe = burgers(256, viscosity=viscosity)
    start = torch.from_numpy(recipe.draw(np.random.default_rng(0))["u"])
    exact = recipe.equation.solution(recipe.grid, start, [1.0])[0].numpy()[:: recipe.stride]
    assert relative(first(recipe).arrays["u"][1], exact) < 1e-6


def test_burgers_is_the_same_at_every_resolution():
    low, high = first(burgers(256)).arrays["u"], first(burgers(2048)).arrays["u"][:, ::8]
    assert relative(low[1], high[1]) < 1e-3
    assert relative(low[1], first(burgers(256), seed=1).arrays["u"][1]) > 0.5


def test_advection_moves_by_the_velocity():
    recipe = advection(64, velocity=0.25, time=4.0, frames=4)
    u = first(recipe).arrays["u"]
    np.testing.assert_allclose(u[2], np.roll(u[0], 32), atol=1e-6)
    np.testing.assert_allclose(u[4], u[0], atol=1e-12)


def test_kdv_against_a_refined_run():
    recipe = kdv(256, time=4.0, frames=2)
    start = recipe.draw(np.random.default_rng(0))
    fine = kdv(512, time=4.0, frames=2)
    fine = replace(fine, dt=fine.interval / (4 * fine.every))
    (end,) = fine.solve([fine.draw(np.random.default_rng(0))])
    (sample,) = recipe.solve([start])
    assert relative(sample.arrays["u"], end.arrays["u"][:, ::2]) < 2e-6


def test_heat_against_a_refined_run():
    """Second order: a quarter of the step leaves a fifteenth of the error."""
    recipe = replace(heat(16, time=0.1, frames=2, dt=2e-3), max_residual=1.0)
    sample, fine = first(recipe), first(replace(recipe, dt=recipe.dt / 4))
    assert relative(sample.arrays["u"], fine.arrays["u"]) < 5e-3
    assert fine.residual < sample.residual / 8


def test_a_coarse_step_fails_the_bound():
    recipe = replace(SMALL["kdv"], dt=0.1)
    (sample,) = recipe.solve([recipe.draw(np.random.default_rng(0))])
    assert "lower dt, it is 0.1" in sample.failure
