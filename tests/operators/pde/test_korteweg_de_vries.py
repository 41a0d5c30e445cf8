"""Solitons of the Korteweg-de Vries equation keep their shape, pass each other, and keep mass and energy."""

from math import log2

import numpy as np
import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.pde.korteweg_de_vries import KortewegDeVries
from solvus.solvers.time import ETDRK4, rollout


def box(n, length=20.0):
    return Grid((n,), lower=(-3.0,), upper=(length - 3.0,), boundary="periodic")


def solve(equation, grid, start, t, steps, frames=1):
    system = equation.semilinear(grid)
    v = system.to_modes(start[None, None])
    return rollout(ETDRK4(system, t / steps / frames), v, frames, every=steps, observe=system.to_grid)[
        0, :, 0
    ]


def relative(u, exact):
    return float((u - exact).norm() / exact.norm())


@pytest.mark.parametrize("equation", [KortewegDeVries(), KortewegDeVries(-2.0, 0.3)])
def test_exact_solution_satisfies_the_equation(equation):
    """The difference quotient in time of the exact pair against the right-hand side, before and after."""
    grid, e = box(384), 1e-5 / equation.dispersion
    for t in (0.3 / equation.dispersion, 1.1 / equation.dispersion):
        case = equation.exact(grid, [t - e, t, t + e]).values["u"]
        system = equation.semilinear(grid)
        v = system.to_modes(case[1][None, None])
        slope = system.to_grid(system.symbol * v + system.nonlinear(v))[0, 0]
        assert relative((case[2] - case[0]) / (2 * e), slope) < 1e-5


@pytest.mark.parametrize("equation", [KortewegDeVries(), KortewegDeVries(-2.0, 0.3)])
def test_two_solitons_pass(equation):
    """They meet near t = L^3 / 11520 / dispersion = 0.69 / dispersion."""
    grid, t = box(256), 1.2 / equation.dispersion
    case, errors = equation.exact(grid, [t]), []
    for steps in (1200, 2400):
        errors.append(relative(solve(equation, grid, case.initial["u"], t, steps)[1], case.values["u"][0]))
    assert errors[1] < 1e-5
    assert log2(errors[0] / errors[1]) > 3.8
    start, end = case.initial["u"], case.values["u"][0]
    assert float(start.argmax() - end.argmax()) != 0


def test_a_wrong_dispersion_fails():
    grid = box(256)
    case = KortewegDeVries().exact(grid, [0.5])
    u = solve(KortewegDeVries(dispersion=0.9), grid, case.initial["u"], 0.5, 500)[1]
    assert relative(u, case.values["u"][0]) > 0.1


def test_speed_and_height_of_a_soliton():
    """As documented: height 12 k^2 b / a, speed 4 k^2 b."""
    equation, grid, k = KortewegDeVries(3.0, 2.0), box(256, 40.0), 0.8
    x = torch.from_numpy(grid.axes()[0])
    wave = lambda t: 12 * k**2 * 2 / 3 / torch.cosh(k * (x - 15 - 4 * k**2 * 2 * t)) ** 2  # noqa: E731
    assert relative(solve(equation, grid, wave(0.0), 1.0, 1600)[1], wave(1.0)) < 1e-6


def test_mass_and_energy_are_kept():
    grid, equation = Grid((256,), upper=(64.0,), boundary="periodic"), KortewegDeVries()
    start = equation.sample(grid, 1, np.random.default_rng(0))["u"][0]
    u = solve(equation, grid, start, 10.0, 200, frames=10)
    mass, energy = u.mean(1), u.square().mean(1)
    assert float((mass - mass[0]).abs().max()) < 1e-13
    assert float((energy / energy[0] - 1).abs().max()) < 1e-6


def test_samples_are_periodic_sums_of_solitons():
    grid, equation = Grid((256,), upper=(64.0,), boundary="periodic"), KortewegDeVries(solitons=2)
    u = equation.sample(grid, 50, np.random.default_rng(0))["u"]
    assert u.shape == (50, 256)
    assert float(u.min()) > 0
    assert float(u.max()) <= 2 * 2 * 0.81
    mass = u.sum(1) * 0.25  # 4 k each
    assert float(mass.min()) >= 2 * 4 * 0.3
    assert float(mass.max()) <= 2 * 4 * 0.9
    spectrum = torch.fft.rfft(u).abs()
    assert float((spectrum[:, -1] / spectrum[:, 0]).max()) < 1e-5  # smooth across the ends


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steepening": 0.0}, "steepening must not be zero"),
        ({"dispersion": 0.0}, "without one of them there are no solitons"),
        ({"solitons": 0}, "one or more solitons"),
        ({"slowest": 1.0}, "0 < slowest <= fastest"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        KortewegDeVries(**settings)


def test_needs_an_interval():
    with pytest.raises(ValueError, match="posed in 1 dimensions"):
        KortewegDeVries().check(Grid((8, 8), boundary="periodic"))
