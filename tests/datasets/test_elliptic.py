"""Steady problems: equations are met, batches do not matter, failures stay alone, presets are published."""

import json
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from solvus.datasets.recipe import describe, digest
from solvus.datasets.recipes.elliptic import (
    FAST,
    ROBUST,
    darcy,
    darcy_lognormal,
    darcy_multiscale,
    darcy_rough,
    helmholtz,
    poisson,
)
from solvus.datasets.recipes.parameters import parameters_of
from solvus.datasets.recipes.steady import Steady
from solvus.meshes import Grid
from solvus.operators.pde import VariableDiffusion
from solvus.operators.pde.coefficients import TwoPhase
from solvus.operators.pde.darcy import Darcy
from solvus.solvers import CG, SuperLU

PRESETS = {
    "poisson": poisson(24),
    "poisson in space": poisson(10, dimensions=3),
    "darcy": darcy(33),
    "darcy, large contrast": darcy(32, high=1e5, low=1.0),
    "darcy-rough": darcy_rough(32),
    "darcy-lognormal": darcy_lognormal(32),
    "darcy-multiscale": darcy_multiscale(32),
    "helmholtz": helmholtz(33, omega=300.0),
}
LINEAR_SOLVES = [name for name in PRESETS if name != "helmholtz"]


def draws(recipe, n, seed=0):
    return [recipe.draw(np.random.default_rng([seed, i])) for i in range(n)]


def check_equation(recipe, draw, solved):
    """The stored solution meets the discrete equation; only meaningful at stride 1."""
    recipe = replace(recipe, stride=1)
    (full,) = recipe.solve([draw])
    fields = {name: torch.as_tensor(value) for name, value in draw.items()}
    u = torch.as_tensor(full.arrays["u"])
    r = recipe.equation.residual(recipe.grid, fields, u)
    scale = recipe.equation.residual(recipe.grid, fields, torch.zeros_like(u)).norm()
    assert r.norm() <= recipe.max_residual * scale
    thin = (slice(None, None, solved[0]),) * recipe.grid.dim
    np.testing.assert_array_equal(full.arrays["u"][thin], solved[1].arrays["u"])


@pytest.mark.parametrize("name", PRESETS)
def test_samples_meet_their_equation_and_fit_the_layout(name):
    recipe = PRESETS[name]
    drawn = draws(recipe, 2)
    for draw, solved in zip(drawn, recipe.solve(drawn), strict=True):
        assert not solved.failure
        assert solved.residual <= recipe.max_residual
        assert {k: v.shape for k, v in solved.arrays.items()} == {
            v.name: recipe.layout.shape(v.name) for v in recipe.layout.variables
        }
        assert all(np.isfinite(v).all() and v.dtype == np.float64 for v in solved.arrays.values())
        check_equation(recipe, draw, (recipe.stride, solved))


def test_the_equation_check_can_fail():
    recipe = PRESETS["darcy"]
    draw = draws(recipe, 1)[0]
    (solved,) = recipe.solve([draw])
    with pytest.raises(AssertionError):
        check_equation(recipe, {"coefficient": draw["coefficient"] * 1.001}, (1, solved))


@pytest.mark.parametrize("name", PRESETS)
def test_a_sample_does_not_depend_on_the_others_to_the_bit(name):
    recipe = PRESETS[name]
    drawn = draws(recipe, 3)
    together = recipe.solve(drawn)
    for i, draw in enumerate(drawn):
        (alone,) = pickle.loads(pickle.dumps(recipe)).solve([draw])
        assert (alone.residual, alone.steps) == (together[i].residual, together[i].steps)
        for key, value in alone.arrays.items():
            assert value.tobytes() == together[i].arrays[key].tobytes()
    backwards = recipe.solve(drawn[::-1])[::-1]
    assert all(
        a.arrays["u"].tobytes() == b.arrays["u"].tobytes() for a, b in zip(together, backwards, strict=True)
    )


@pytest.mark.parametrize("name", LINEAR_SOLVES)
def test_a_batch_of_systems_is_its_samples(name):
    recipe = PRESETS[name]
    drawn = draws(recipe, 3)
    together, singles = recipe.solve_together(drawn, "cpu"), recipe.solve(drawn)
    for a, b in zip(together, singles, strict=True):
        assert not a.failure
        assert a.steps > 0
        assert np.linalg.norm(a.arrays["u"] - b.arrays["u"]) <= 1e-7 * np.linalg.norm(b.arrays["u"])
    assert recipe.solve_together([], "cpu") == []


def test_direct_methods_take_one_sample_at_a_time_on_any_device():
    recipe = PRESETS["helmholtz"]
    drawn = draws(recipe, 2)
    on_device, on_cpu = (
        recipe.solve(drawn, "cuda"),
        recipe.solve(drawn),
    )  # no device is needed: LU runs on the host
    assert all(
        a.arrays["u"].tobytes() == b.arrays["u"].tobytes() for a, b in zip(on_device, on_cpu, strict=True)
    )


@pytest.mark.parametrize("name", PRESETS)
def test_recipes_travel_and_describe_themselves(name):
    recipe = PRESETS[name]
    other = pickle.loads(pickle.dumps(recipe))
    assert digest(other) == digest(recipe)
    assert json.loads(json.dumps(describe(recipe)))["name"] == recipe.name
    assert all(np.isfinite(v) for v in recipe.layout.parameters.values())
    draw, again = draws(recipe, 1)[0], draws(other, 1)[0]
    assert all(np.array_equal(draw[key], again[key]) for key in draw)


def test_settings_change_the_description():
    digests = {
        digest(r) for r in (*PRESETS.values(), darcy(33, low=4.0), darcy(33, tau=4.0), darcy(33, stride=2))
    }
    assert len(digests) == len(PRESETS) + 3


def test_defaults_are_the_published_ones():
    assert darcy().grid.shape == (421, 421)
    assert [darcy(stride=s).layout.resolution[0] for s in (2, 3, 5)] == [211, 141, 85]
    coefficient = draws(darcy(33), 1)[0]["coefficient"]
    assert sorted(set(coefficient.ravel().tolist())) == [3.0, 12.0]
    rough = darcy_rough()
    assert (rough.layout.resolution, rough.equation.coefficient.low) == ((256, 256), 2.0)
    assert darcy_multiscale().layout.resolution == (256, 256)
    assert helmholtz().layout.resolution == (101, 101)
    assert helmholtz().equation.omega == 1000.0
    assert helmholtz().equation.speed.field.terms == 100
    np.testing.assert_allclose(darcy(stride=5).layout.coordinates[0], (np.arange(0, 421, 5) + 0.5) / 421)
    assert (helmholtz().layout.coordinates[0][[0, -1]] == [0, 1]).all()


def test_pardiso_agrees_where_it_is_there():
    pytest.importorskip("pypardiso", reason="an optional package: pip install solvus[direct]")
    recipe, other = PRESETS["helmholtz"], helmholtz(33, omega=300.0, solver="pardiso")
    drawn = draws(recipe, 1)
    (a,), (b,) = recipe.solve(drawn), other.solve(drawn)
    np.testing.assert_allclose(a.arrays["u"], b.arrays["u"], rtol=1e-8)


def test_large_contrasts_get_the_robust_solver():
    assert darcy().solver is FAST
    assert darcy(high=1.0, low=2e3).solver is ROBUST
    assert (darcy().rtol, darcy(high=1.0, low=2e3).rtol) == (1e-10, 1e-9)
    assert darcy(high=2e3, low=1.0).solver is ROBUST


@pytest.mark.parametrize("contrast", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("solver", [FAST, ROBUST])
def test_contrasts_are_solved(contrast, solver):
    recipe = replace(darcy(96, high=contrast, low=1.0), solver=solver)
    for solved in recipe.solve(draws(recipe, 2)):
        assert not solved.failure
        assert solved.residual < 1e-8
        assert solved.steps < 60


def test_what_a_preset_with_a_stride_stores():
    whole, thin = darcy(31), darcy(31, stride=3)
    drawn = draws(whole, 1)
    (a,), (b,) = whole.solve(drawn), thin.solve(drawn)
    assert b.arrays["u"].shape == (11, 11)
    for key in a.arrays:
        np.testing.assert_array_equal(a.arrays[key][::3, ::3], b.arrays[key])


def test_a_sample_that_misses_the_residual_fails_alone():
    recipe = replace(PRESETS["darcy"], solver=CG(), rtol=1e-13, max_residual=1e-12)
    easy, hard = (draws(r, 1)[0] for r in (recipe, darcy(33, high=1e8, low=1e-4)))
    for solve in (recipe.solve, lambda d: recipe.solve_together(d, "cpu")):
        good, bad, fine = solve([easy, hard, easy])
        assert not good.failure
        assert not fine.failure
        assert good.arrays["u"].shape == (33, 33)
        assert bad.arrays == {}
        assert bad.residual > 1e-12
        assert f"residual {bad.residual:.1e} above 1.0e-12" in bad.failure
        assert "BREAKDOWN" in bad.failure or "MAX_STEPS" in bad.failure


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_bad_data_fail_alone(value):
    recipe = PRESETS["darcy"]
    good, bad = draws(recipe, 1)[0], {"coefficient": np.full((33, 33), value)}
    for solve in (recipe.solve, lambda d: recipe.solve_together(d, "cpu")):
        first, second, third = solve([good, bad, good])
        assert not first.failure
        assert not third.failure
        assert (second.arrays, second.steps) == ({}, 0)
        assert np.isnan(second.residual)
        assert "coefficient" in second.failure


@dataclass(frozen=True)
class Huge:
    """A coefficient that overflows."""

    def __call__(self, grid, *, seed):
        return np.exp(np.full(grid.cells, 1e3))


def test_an_overflow_in_a_draw_is_a_failure():
    recipe = Steady("huge", Darcy(Huge()), Grid((8, 8), centring="cell"), SuperLU())
    with np.errstate(over="ignore"):
        (solved,) = recipe.solve(draws(recipe, 1))
    assert "NaN or infinite" in solved.failure


def test_wrong_settings_are_errors_and_no_failed_samples():
    with pytest.raises(ValueError, match="coefficient have one value per cell"):
        Steady("x", Darcy(), Grid((8, 8)))
    with pytest.raises(ValueError, match="stride counts points"):
        darcy(8, stride=0)
    with pytest.raises(ValueError, match="one of superlu, pardiso, got 'cg'"):
        helmholtz(solver="cg")
    recipe = replace(poisson(8), equation=VariableDiffusion())
    with pytest.raises(TypeError, match="constant"):
        recipe.solve(draws(recipe, 1))


def test_parameters_are_found_inside():
    assert parameters_of(Darcy(TwoPhase(low=4.0)))["coefficient_low"] == 4.0
    assert parameters_of(Darcy(TwoPhase()))["coefficient_field_tau"] == 3.0
    assert darcy(8).layout.parameters["source"] == 1.0
