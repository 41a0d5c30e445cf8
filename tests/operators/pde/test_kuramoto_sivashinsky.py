"""Kuramoto-Sivashinsky: against SciPy's integrator, order in time, invariants, spectrum of growth."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from solvus.meshes import Grid
from solvus.operators.pde.evolution import Semilinear
from solvus.operators.pde.kuramoto_sivashinsky import KuramotoSivashinsky
from solvus.solvers.time import ETDRK4, rollout

EQUATION = KuramotoSivashinsky()
LINE = Grid((128,), upper=(32 * np.pi,), boundary="periodic")  # Kassam and Trefethen's


def classic_state(grid=LINE):
    x = torch.as_tensor(grid.axes()[0])
    return (torch.cos(x / 16) * (1 + torch.sin(x / 16)))[None, None]


def roll(system, u0, time, steps):
    dt = time / steps
    return rollout(ETDRK4(system, dt), system.to_modes(u0), 1, every=steps, observe=system.to_grid)[0, 1, 0]


def relative(a, b):
    return float((a - b).norm() / b.norm())


def by_scipy(grid, u0, time):
    """Implicit Runge-Kutta on collocation equations in physical space, quadratic term on a padded grid."""
    n = grid.shape[0]
    k = 2 * np.pi / (grid.upper[0] - grid.lower[0]) * np.fft.rfftfreq(n, 1 / n)
    kept = 3 * np.fft.rfftfreq(n, 1 / n) < n

    def rate(_, u):
        v = np.fft.rfft(u)
        fine = np.fft.irfft(v, 2 * n) * 2
        flux = -0.5j * k * np.fft.rfft(fine**2)[: n // 2 + 1] / 2
        return np.fft.irfft((flux + (k**2 - k**4) * v) * kept, n)

    u = np.fft.irfft(np.fft.rfft(u0) * kept, n)
    return solve_ivp(rate, (0, time), u, method="Radau", rtol=1e-9, atol=1e-11).y[:, -1]


def check_against_scipy(system, grid, u0):
    end = roll(system, u0, 4.0, 256)
    assert relative(end, torch.as_tensor(by_scipy(grid, u0[0, 0].numpy(), 4.0))) < 1e-7


def test_against_scipy():
    grid = Grid((64,), upper=(22.0,), boundary="periodic")
    u0 = EQUATION.stack(EQUATION.sample(grid, 1, np.random.default_rng(3)))
    check_against_scipy(EQUATION.semilinear(grid), grid, u0)


def test_a_wrong_system_is_caught():
    grid = Grid((64,), upper=(22.0,), boundary="periodic")
    u0 = EQUATION.stack(EQUATION.sample(grid, 1, np.random.default_rng(3)))
    right = EQUATION.semilinear(grid)
    doubled = Semilinear(right.symbol, lambda v: 2 * right.nonlinear(v), right.to_modes, right.to_grid)
    with pytest.raises(AssertionError):
        check_against_scipy(doubled, grid, u0)


def test_order_in_time():
    grid = Grid((64,), upper=LINE.upper, boundary="periodic")  # less stiff: full order shows at larger steps
    system, u0 = EQUATION.semilinear(grid), classic_state(grid)
    coarse, middle, fine = (roll(system, u0, 10.0, n) for n in (160, 320, 640))
    assert abs(np.log2(relative(coarse, fine) / relative(middle, fine) - 1) - 4) < 0.3
    assert relative(middle, fine) < 1e-8


def test_the_step_of_the_preset_holds():
    system = EQUATION.semilinear(LINE)
    assert (
        relative(roll(system, classic_state(), 10.0, 200), roll(system, classic_state(), 10.0, 1600)) < 1e-6
    )


def test_mean_and_energy_balance():
    system = EQUATION.semilinear(LINE)
    v = system.to_modes(classic_state() + 0.5)
    u, change = system.to_grid(v), system.to_grid(system.nonlinear(v))
    assert abs(float((u * change).mean())) < 1e-15  # u u_x neither feeds nor takes energy
    end = roll(system, classic_state() + 0.5, 20.0, 400)
    assert abs(float(end.mean() - (classic_state() + 0.5).mean())) < 1e-14


def test_linear_growth():
    grid = Grid((32,), upper=(22.0,), boundary="periodic")
    case = EQUATION.exact(grid, [5.0, 10.0])
    end = roll(EQUATION.semilinear(grid), case.initial["u"][None, None], 10.0, 100)
    assert relative(end, case.values["u"][1]) < 1e-7
    k = 2 * np.pi / 22.0
    assert relative(case.values["u"][1], case.initial["u"] * np.exp(10 * (k**2 - k**4))) < 1e-14


def test_samples():
    grid = Grid((128,), upper=(64.0,), boundary="periodic")
    u = EQUATION.sample(grid, 300, np.random.default_rng(0))["u"]
    assert abs(float(u.std()) - 0.375) < 0.02
    assert float(u.mean(1).abs().max()) < 1e-12


def test_what_cannot_be_posed():
    with pytest.raises(ValueError, match="posed in 1 dimensions, the grid has 2"):
        EQUATION.check(Grid((8, 8), boundary="periodic"))
    with pytest.raises(ValueError, match="sigma"):
        KuramotoSivashinsky(sigma=-1.0)
