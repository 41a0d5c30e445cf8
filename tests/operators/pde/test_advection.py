"""Advection moves a state and does nothing else to it."""

import numpy as np
import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.pde.advection import Advection
from solvus.solvers.time import ETDRK4, rollout

BOXES = {
    "line": (Advection((0.7,)), Grid((32,), lower=(-1.0,), upper=(2.0,), boundary="periodic")),
    "plane": (Advection((1.0, -0.5)), Grid((32, 36), upper=(1.0, 2.0), boundary="periodic")),
    "space": (Advection((0.3, 0.0, 1.0)), Grid((32, 32, 33), boundary="periodic")),
}


def moved(equation, grid, u, t, steps=1):
    system = equation.semilinear(grid)
    v = system.to_modes(u[:, None])
    return rollout(ETDRK4(system, t / steps), v, 1, every=steps, observe=system.to_grid)[:, 1, 0]


@pytest.mark.parametrize("name", BOXES)
def test_exact_for_any_step(name):
    equation, grid = BOXES[name]
    case = equation.exact(grid, [0.9])
    for steps in (1, 7):
        u = moved(equation, grid, case.initial["u"][None], 0.9, steps)
        torch.testing.assert_close(u[0], case.values["u"][0], atol=1e-11, rtol=0)


def test_a_wrong_velocity_is_found():
    equation, grid = BOXES["plane"]
    case = equation.exact(grid, [0.9])
    u = moved(Advection((1.0, 0.5)), grid, case.initial["u"][None], 0.9)
    assert float((u[0] - case.values["u"][0]).abs().max()) > 0.1


def test_a_sample_comes_back():
    equation, grid = Advection((0.25, -0.5)), Grid((17, 32), boundary="periodic")
    u = equation.sample(grid, 2, np.random.default_rng(0))["u"]
    u = u - nyquist(u)
    there = moved(equation, grid, u, 4.0)  # one box along x, two along y
    torch.testing.assert_close(there, u, atol=1e-12, rtol=0)


def nyquist(u):
    """The part of u at the Nyquist number of the last axis."""
    v = torch.fft.rfft(u)
    v[..., :-1] = 0
    return torch.fft.irfft(v, n=u.shape[-1])


def test_velocity_needs_a_part_per_axis():
    with pytest.raises(ValueError, match="has 1 parts, the grid 2 axes: give one number per axis"):
        Advection((1.0,)).check(BOXES["plane"][1])
