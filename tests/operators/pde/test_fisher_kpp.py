"""Fisher-KPP: travelling fronts, logistic growth, order in time, bounds."""

import numpy as np
import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.pde.evolution import ExactTrajectory
from solvus.operators.pde.fisher_kpp import FisherKPP
from solvus.solvers.time import ETDRK4, rollout

LONG = Grid((512,), upper=(280.0,), boundary="periodic")


def roll(equation, grid, u0, time, steps, frames=1):
    system = equation.semilinear(grid)
    stepper = ETDRK4(system, time / steps)
    return rollout(stepper, system.to_modes(u0), frames, every=steps // frames, observe=system.to_grid)[:, 1:]


def relative(a, b):
    return float((a - b).norm() / b.norm())


def check_trajectory(equation, grid, case, time, steps, tolerance):
    end = roll(equation, grid, case.initial["u"][None, None], time, steps, len(case.values["u"]))[0, :, 0]
    assert float((end - case.values["u"]).abs().max()) < tolerance


def test_fronts():
    equation = FisherKPP(1.0, 1.0)
    case = equation.exact(LONG, [2.5, 5.0])
    assert case.initial["u"].min() < 1e-10 < 1 - 1e-10 < case.initial["u"].max()
    check_trajectory(equation, LONG, case, 5.0, 400, 2e-9)


def test_fronts_move_at_the_known_speed():
    u = FisherKPP(1.0, 1.0).exact(LONG, [0.0, 6.0]).values["u"]
    travelled = float((u[1] - u[0]).sum()) * LONG.spacing[0] / 2  # each of two fronts
    assert abs(travelled / 6.0 - 5 / np.sqrt(6)) < 1e-9


def test_fronts_in_two_dimensions():
    grid = Grid((256, 4), upper=(280.0, 1.0), boundary="periodic")
    equation = FisherKPP(1.0, 1.0)
    check_trajectory(equation, grid, equation.exact(grid, [2.0]), 2.0, 100, 2e-6)


def test_a_wrong_speed_is_caught():
    equation = FisherKPP(1.0, 1.0)
    case = equation.exact(LONG, [2.5, 5.0])
    slow = ExactTrajectory(case.initial, equation.exact(LONG, [2.4, 4.8]).values)
    with pytest.raises(AssertionError):
        check_trajectory(equation, LONG, slow, 5.0, 400, 2e-9)


def test_growth_without_diffusion_is_logistic():
    grid = Grid((128,), boundary="periodic")
    u0 = 0.5 + 0.25 * torch.cos(2 * torch.pi * torch.as_tensor(grid.axes()[0]))
    growth = np.exp(2.0)
    end = roll(FisherKPP(0.0, 1.0), grid, u0[None, None], 2.0, 200)[0, 0, 0]
    assert float((end - u0 * growth / (1 + u0 * (growth - 1))).abs().max()) < 1e-8


@pytest.mark.parametrize("equation", [FisherKPP(), FisherKPP(0.0, 3.0)], ids=["short box", "no diffusion"])
def test_uniform_growth(equation):
    grid = Grid((16, 16), boundary="periodic")
    check_trajectory(equation, grid, equation.exact(grid, [0.5, 1.0]), 1.0, 200, 1e-7)


@pytest.mark.parametrize("shape", [(128,), (48, 48)])
def test_order_in_time(shape):
    grid = Grid(shape, boundary="periodic")
    equation = FisherKPP()
    u0 = equation.stack(equation.sample(grid, 1, np.random.default_rng(0)))
    coarse, middle, fine = (roll(equation, grid, u0, 1.0, n) for n in (40, 80, 160))
    assert abs(np.log2(relative(coarse, fine) / relative(middle, fine) - 1) - 4) < 0.3
    assert relative(middle, fine) < 2e-7


def test_densities_stay_between_zero_and_one():
    grid = Grid((256,), boundary="periodic")
    equation = FisherKPP()
    u0 = equation.stack(equation.sample(grid, 50, np.random.default_rng(0)))
    assert 0 < float(u0.min()) < 0.1
    assert 0.9 < float(u0.max()) < 1
    u = roll(equation, grid, u0, 1.0, 100, frames=10)
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    assert bool((u[:, 1:].mean((2, 3)) > u[:, :-1].mean((2, 3))).all())


def test_what_cannot_be_posed():
    with pytest.raises(ValueError, match="1 or 2 dimensions, the grid has 3"):
        FisherKPP().check(Grid((4, 4, 4), boundary="periodic"))
    with pytest.raises(ValueError, match=r"must not be negative, got -0\.1 and 5\.0"):
        FisherKPP(-0.1)
    with pytest.raises(ValueError, match="must not be negative"):
        FisherKPP(rate=-1.0)
