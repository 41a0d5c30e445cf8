"""The heat equation: its matrices, its sequence of systems, exact decay, order in time."""

from itertools import pairwise
from math import log2, pi

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.integrate import quad

from solvus.meshes import Grid
from solvus.operators.linear import ShapeMismatch, to_scipy
from solvus.operators.pde.heat import Heat, bump
from solvus.solvers.time import CrankNicolson, rollout

DT = 1e-3


def laplacian(n):
    """-Laplace on n x n interior nodes, built by SciPy alone."""
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)) * (n + 1) ** 2
    one = sp.eye_array(n)
    return sp.csr_array(sp.kron(line, one) + sp.kron(one, line))


def published(n, t, u):
    """Matrix and right-hand side of a step by the formulas of the source."""
    middle = t + DT / 2
    c = max(0.1 * np.sin(2 * np.pi * middle), -10 * np.sin(2 * np.pi * middle))
    x = np.arange(1, n + 1) / (n + 1)
    X, Y = np.meshgrid(x, x, indexing="ij")
    centre = 0.5 + np.cos(16 * np.pi * middle) / 4, 0.5 + np.sin(16 * np.pi * middle) / 4
    square = np.minimum(1, ((X - centre[0]) ** 2 + (Y - centre[1]) ** 2) / 0.125**2)
    f = np.zeros_like(X)
    f[square < 1] = 32 * np.exp(1 - 1 / (1 - square[square < 1]))
    L, one = laplacian(n), sp.eye_array(n * n)
    return one + c * DT / 2 * L, (one - c * DT / 2 * L) @ u + DT * f.ravel()


def cg(A, b, x):
    """Plain CG to ||r|| <= 1e-8 ||b||; the solution and the iterations."""
    r = b - A @ x
    p, rr, target = r.copy(), r @ r, 1e-8 * np.linalg.norm(b)
    steps = 0
    while np.sqrt(rr) > target:
        q = A @ p
        step = rr / (p @ q)
        x, r = x + step * p, r - step * q
        rr, old = r @ r, rr
        p = r + rr / old * p
        steps += 1
    return x, steps


def roll_cg(n, steps):
    """Iterations over a number of steps of the sequence, with the library's systems."""
    heat, grid = Heat(), Grid((n, n))
    L, one = laplacian(n), sp.eye_array(n * n)
    u, total = heat.start(grid), 0
    for k in range(steps):
        A, b = heat.system(grid, k * DT, DT, u)
        c = heat.diffusivity((k + 0.5) * DT)
        if k < 3 or k % 500 == 499:
            assert abs(to_scipy(A) - one - c * DT / 2 * L).max() < 1e-12
        x, done = cg(sp.csr_array(one + c * DT / 2 * L), b.numpy(), u.numpy().ravel())
        u, total = torch.from_numpy(x).view(n, n), total + done
    return total


@pytest.mark.parametrize("t", [0.0, 0.1, 0.6, 2.75])
def test_systems_of_the_sequence(t):
    n, grid = 24, Grid((24, 24))
    u = Heat().sample(grid, 2, np.random.default_rng(0))["u"]
    A, b = Heat().system(grid, t, DT, u)
    for state, row in zip(u, b, strict=True):
        matrix, rhs = published(n, t, state.numpy().ravel())
        assert abs(to_scipy(A) - matrix).max() < 1e-12
        np.testing.assert_allclose(row.numpy(), rhs, atol=1e-11)
    wrong, _ = published(n, t + DT / 2, u[0].numpy().ravel())  # diffusivity at the end of the step
    assert abs(to_scipy(A) - wrong).max() > 1e-5


def test_first_iterations_of_the_sequence():
    u, total = Heat().start(Grid((24, 24))).numpy().ravel(), 0
    for k in range(60):
        u, done = cg(*published(24, k * DT, u), u)
        total += done
    assert roll_cg(24, 60) == total


@pytest.mark.slow
def test_published_iterations_of_the_sequence():
    assert roll_cg(24, 5000) == pytest.approx(85_422, rel=5e-3)


def test_start_is_the_bump_in_the_middle():
    u = Heat().start(Grid((3, 3)))
    assert u[1, 1] == 1
    assert float(u.sum()) == 1  # radius 1/4 reaches no neighbour
    assert bump(Grid((7, 7)), (0.5, 0.5), 0.25)[3, 4] == pytest.approx(np.exp(1 - 1 / 0.75))


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.8, 1.0, 3.3])
def test_conducted_is_the_integral_of_the_diffusivity(t):
    heat = Heat(low=0.3, high=2.0)
    kinks = [k / 2 for k in range(1, 7) if k / 2 < t] or None
    assert heat.conducted(t) == pytest.approx(quad(heat.diffusivity, 0, t, points=kinks)[0], abs=1e-10)


def test_order_in_space():
    errors = []
    for n in (8, 16, 32):
        grid, heat = Grid((n - 1, n - 1)), Heat(low=0.2, high=0.2, forcing=0.0)
        case = heat.exact(grid, [0.5])
        u = rollout(CrankNicolson(heat, grid, 1 / 400), case.initial["u"][None, None], 1, every=200)[0, 1, 0]
        errors.append(float((u - case.values["u"][0]).norm() / case.values["u"][0].norm()))
    assert [log2(a / b) for a, b in pairwise(errors)] == pytest.approx([2, 2], abs=0.2)
    assert errors[-1] < 3e-3


def test_order_in_time_with_the_changing_diffusivity():
    """Against the decay of the discrete mode, so that the error is that of time alone."""
    n, heat = 16, Heat(forcing=0.0, high=1.0)
    grid = Grid((n - 1, n - 1))
    start = heat.exact(grid, [0.0]).initial["u"]
    rate = 2 * n**2 * (2 - 2 * np.cos(pi / n))
    exact, errors = np.exp(-rate * heat.conducted(0.75)) * start, []
    for steps in (24, 48, 96):
        stepper = CrankNicolson(heat, grid, 0.75 / steps)
        u = rollout(stepper, start[None, None], 1, every=steps)[0, 1, 0]
        errors.append(float((u - exact).norm() / exact.norm()))
    assert [log2(a / b) for a, b in pairwise(errors)] == pytest.approx([2, 2], abs=0.2)


def test_still_times_leave_the_state():
    """c(0) = 0: the operator is the identity, to rounding."""
    A = Heat().operator(Grid((5, 5)), 0.0, 0.1)
    x = torch.rand(25, dtype=torch.float64)
    assert torch.equal(A @ x, x)


def test_samples_are_bumps_inside():
    u = Heat().sample(Grid((63, 63)), 20, np.random.default_rng(1))["u"]
    assert u.shape == (20, 63, 63)
    assert float(u.min()) == 0
    assert 0.4 < float(u.amax((1, 2)).min()) < float(u.amax((1, 2)).max()) <= 2
    edge = torch.cat([u[:, 0], u[:, -1], u[:, :, 0], u[:, :, -1]], 1)
    assert float(edge.max()) < 0.05


def test_no_exact_solution_with_a_source():
    assert Heat().exact(Grid((3, 3)), [1.0]) is None


@pytest.mark.parametrize(
    "grid",
    [Grid((5,)), Grid((5, 5), upper=(2.0, 1.0)), Grid((5, 5), boundary="neumann"),
     Grid((2, 2), mask=np.array([[True, False], [True, True]]))],
)  # fmt: skip
def test_other_grids_are_rejected(grid):
    with pytest.raises(ValueError, match="unit square with zero Dirichlet values"):
        Heat().check(grid)


def test_errors():
    with pytest.raises(ValueError, match=r"must not be negative, got -1\.0"):
        Heat(low=-1.0)
    with pytest.raises(ShapeMismatch, match=r"needs \(\.\.\., \(5, 5\)\)"):
        Heat().system(Grid((5, 5)), 0.0, DT, torch.zeros(25, dtype=torch.float64))
