"""The Burgers equation against Cole's and Hopf's solution, which is itself checked against quadrature."""

from math import log2, pi

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from solvus.meshes import Grid
from solvus.operators.pde.burgers import Burgers
from solvus.operators.pde.random_fields import GaussianField
from solvus.solvers.time import ETDRK4, RK4, rollout


def line(n, length=2 * pi, lower=0.0):
    return Grid((n,), lower=(lower,), upper=(lower + length,), boundary="periodic")


def solve(equation, grid, start, t, steps):
    system = equation.semilinear(grid)
    v = system.to_modes(start[None, None])
    return rollout(ETDRK4(system, t / steps), v, 1, every=steps, observe=system.to_grid)[0, 1, 0]


def relative(u, exact):
    return float((u - exact).norm() / exact.norm())


def test_solution_against_quadrature():
    """The integrals of the textbook for u0 = sin x, at single points."""
    nu, t, grid = 0.05, 1.5, line(64)
    found = Burgers(nu).solution(grid, torch.sin(torch.from_numpy(grid.axes()[0])), [t])[0]

    def weight(y, x):
        return np.exp(-((x - y) ** 2) / (4 * nu * t) + (np.cos(y) - 1) / (2 * nu))

    for i in (5, 20, 50):
        x = grid.axes()[0][i]
        top = quad(lambda y, x=x: (x - y) / t * weight(y, x), x - 6, x + 6, limit=400, epsabs=1e-13)[0]
        below = quad(lambda y, x=x: weight(y, x), x - 6, x + 6, limit=400, epsabs=1e-13)[0]
        assert float(found[i]) == pytest.approx(top / below, abs=1e-9)


@pytest.mark.parametrize(
    ("viscosity", "n", "length", "steps", "bound"),
    [(0.1, 256, 2 * pi, 400, 2e-10), (0.01, 1024, 2 * pi, 1000, 2e-5), (0.02, 256, 1.0, 800, 1e-9)],
)
def test_against_the_exact_solution(viscosity, n, length, steps, bound):
    grid, equation = line(n, length, lower=-0.7), Burgers(viscosity)
    case = equation.exact(grid, [1.0])
    assert relative(solve(equation, grid, case.initial["u"], 1.0, steps), case.values["u"][0]) < bound


def test_a_moving_mean():
    grid, equation = line(256), Burgers()
    start = equation.exact(grid, [0.0]).initial["u"] + 0.8
    exact = equation.solution(grid, start, [0.0, 0.7])
    assert torch.equal(exact[0], start)
    assert relative(solve(equation, grid, start, 0.7, 400), exact[1]) < 1e-9


def test_a_wrong_viscosity_fails():
    grid = line(128)
    case = Burgers(0.1).exact(grid, [1.0])
    assert relative(solve(Burgers(0.05), grid, case.initial["u"], 1.0, 200), case.values["u"][0]) > 1e-2


def test_random_state_against_the_exact_solution():
    grid, equation = line(1024), Burgers()
    start = equation.sample(grid, 1, np.random.default_rng(0))["u"][0]
    errors = [
        relative(solve(equation, grid, start, 1.0, k), equation.solution(grid, start, [1.0])[0])
        for k in (100, 200)
    ]
    assert errors[1] < 1e-6
    assert log2(errors[0] / errors[1]) > 2.5  # rough at the start: less than the full order


def test_mean_is_kept_and_energy_falls():
    grid, equation = line(256), Burgers()
    start = equation.sample(grid, 1, np.random.default_rng(1))["u"][0] + 0.3
    end = solve(equation, grid, start, 1.0, 100)
    assert float(end.mean()) == pytest.approx(0.3, abs=1e-13)
    assert float(end.square().sum()) < float(start.square().sum())


def test_without_viscosity_the_products_keep_the_energy():
    """The 2/3 rule: <u, (u^2 / 2)_x> = 0 for states that it keeps."""
    grid = line(96)
    system = Burgers(1e-9).semilinear(grid)
    v = system.to_modes(GaussianField(2.0, 5.0, terms=40).sample(grid, 1, np.random.default_rng(0))[:, None])
    u, slope = system.to_grid(v), system.to_grid(system.nonlinear(v))
    assert abs(float((u * slope).sum())) < 1e-11 * float(u.norm() * slope.norm())


def test_stepping_explicitly_gives_the_same():
    grid, equation = line(128), Burgers()
    case = equation.exact(grid, [0.5])
    system = equation.semilinear(grid)
    v = system.to_modes(case.initial["u"][None, None])
    u = rollout(RK4(system, 0.0025), v, 1, every=200, observe=system.to_grid)[0, 1, 0]
    assert relative(u, case.values["u"][0]) < 1e-7


def test_samples_have_the_stated_variance():
    grid, equation = line(128), Burgers()
    u = equation.sample(grid, 400, np.random.default_rng(0))["u"]
    k = np.arange(1, 65)
    expected = (2 * 625 * (k**2 + 25.0) ** -2).sum() / (2 * pi)
    assert float(u.square().mean()) == pytest.approx(expected, rel=0.1)
    assert float(u.mean(1).abs().max()) < 1e-14


def test_errors():
    with pytest.raises(ValueError, match="viscosity must be positive, got 0"):
        Burgers(0)
    with pytest.raises(ValueError, match="posed in 1 dimensions, the grid has 2"):
        Burgers().check(Grid((8, 8), boundary="periodic"))
