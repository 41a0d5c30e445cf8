"""Gray-Scott: against SciPy, order in time, balances, initial states."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from solvus.meshes import Grid
from solvus.operators.pde.gray_scott import GrayScott
from solvus.solvers.time import ETDRK4, rollout

BOX = Grid((48, 40), upper=(1.2, 1.0), boundary="periodic")
EQUATION = GrayScott(diffusion_u=8e-4, diffusion_v=4e-4, bumps=6, width=0.1)


def start(equation=EQUATION, grid=BOX, seed=0):
    return equation.stack(equation.sample(grid, 1, np.random.default_rng(seed)))


def roll(equation, u0, time, steps, grid=BOX):
    system = equation.semilinear(grid)
    stepper = ETDRK4(system, time / steps)
    return rollout(stepper, system.to_modes(u0), 1, every=steps, observe=system.to_grid)[0, 1]


def relative(a, b):
    return float((a - b).norm() / b.norm())


def by_scipy(equation, u0, time):
    """An explicit method of high order; derivatives by full complex transforms, reactions at grid points."""
    waves = [2 * np.pi * np.fft.fftfreq(n, side / n) for n, side in zip(BOX.shape, BOX.upper, strict=True)]
    k2 = waves[0][:, None] ** 2 + waves[1] ** 2

    def rate(_, flat):
        u, v = flat.reshape(2, *BOX.shape)
        lap = [np.fft.ifft2(-k2 * np.fft.fft2(w)).real for w in (u, v)]
        r = u * v**2
        du = equation.diffusion_u * lap[0] - r + equation.feed * (1 - u)
        dv = equation.diffusion_v * lap[1] + r - (equation.feed + equation.kill) * v
        return np.concatenate([du.ravel(), dv.ravel()])

    result = solve_ivp(rate, (0, time), u0.ravel(), method="DOP853", rtol=1e-10, atol=1e-12)
    return result.y[:, -1].reshape(2, *BOX.shape)


def check_against_scipy(solved):
    reference = torch.as_tensor(by_scipy(EQUATION, start()[0].numpy(), 20.0))
    assert relative(solved, reference) < 1e-5
    assert relative(solved[1], reference[1]) < 1e-4


def test_against_scipy():
    check_against_scipy(roll(EQUATION, start(), 20.0, 80))


@pytest.mark.parametrize(
    "wrong",
    [
        GrayScott(0.057, 0.029, diffusion_u=8e-4, diffusion_v=4e-4),
        GrayScott(diffusion_u=4e-4, diffusion_v=8e-4),
    ],
)
def test_a_wrong_equation_is_caught(wrong):
    with pytest.raises(AssertionError):
        check_against_scipy(roll(wrong, start(), 20.0, 80))


def test_order_in_time():
    coarse, middle, fine = (roll(EQUATION, start(), 40.0, n) for n in (40, 80, 160))
    assert abs(np.log2(relative(coarse, fine) / relative(middle, fine) - 1) - 4) < 0.3
    assert relative(middle, fine) < 1e-5


def test_balance_of_what_is_fed():
    """Reaction moves u into v: the mean of u + v follows feed, flow out and decay only."""
    system = EQUATION.semilinear(BOX)
    v = system.to_modes(start())
    change = system.to_grid(system.nonlinear(v)).sum(1).mean()
    assert abs(float(change) - EQUATION.feed) < 1e-15
    dead = torch.stack([torch.ones(BOX.shape), torch.zeros(BOX.shape)]).double()[None]
    assert relative(roll(EQUATION, dead, 50.0, 50), dead[0]) < 1e-13


def test_patterns_live():
    grid = Grid((64, 64), upper=(2.0, 2.0), boundary="periodic")
    equation = GrayScott(width=0.08)
    end = roll(equation, start(equation, grid), 400.0, 400, grid)
    assert float(end[1].max()) > 0.2
    assert float(end[1].std()) > 0.03


def test_initial_states():
    state = GrayScott(bumps=3).sample(
        Grid((64, 64), upper=(2.0, 2.0), boundary="periodic"), 5, np.random.default_rng(0)
    )
    assert torch.allclose(state["u"], 1 - 2 * state["v"])
    assert float(state["v"].min()) >= 0
    assert 0.2 < float(state["v"].max()) <= 0.25
    assert len({float(v.sum()) for v in state["v"]}) == 5
    edges = state["v"] - torch.roll(state["v"], 1, dims=1)
    assert float(edges.abs().max()) < 0.1  # bumps go on across the seam


def test_what_cannot_be_posed():
    with pytest.raises(ValueError, match="posed in 2 dimensions, the grid has 1"):
        GrayScott().check(Grid((8,), boundary="periodic"))
    with pytest.raises(ValueError, match="must not be negative"):
        GrayScott(kill=-1.0)
    with pytest.raises(ValueError, match="bumps must be at least 1"):
        GrayScott(bumps=0)
