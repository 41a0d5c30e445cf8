"""Gauss-Newton: both branches, against least squares of SciPy and ridge regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives import Fit, resumed, saved, weights
from scipy.optimize import least_squares
from torch import Tensor

from solvus.solvers.optim.gauss_newton import GaussNewton, Normal
from solvus.solvers.optim.objective import Objective

F64 = torch.float64


class Linear(Objective):
    """|A theta - b|^2 in two groups."""

    def __init__(self, N: int, P: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.shapes = [(P,)]
        self.A = torch.randn(N, P, dtype=F64, generator=generator)
        self.b = torch.randn(N, dtype=F64, generator=generator)

    def residuals(self, theta: Tensor) -> Tensor:
        return self.A @ theta - self.b

    def losses(self, theta: Tensor) -> Tensor:
        r = self.residuals(theta)
        return torch.stack([r[:2].square().sum(), r[2:].square().sum()])


class Wrong(Fit):
    """A specimen whose Jacobian has the wrong sign."""

    def jacobian(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        r, J = super().jacobian(theta)
        return r, -J


class Wall(Fit):
    """Not finite where a step is long."""

    def losses(self, theta: Tensor) -> Tensor:
        return super().losses(theta) / (theta.norm() < 8.0)


def run(
    optimiser: GaussNewton, objective: Objective, theta: Tensor, steps: int
) -> tuple[Tensor, dict[str, Any]]:
    state = optimiser.start(theta)
    for _ in range(steps):
        step = optimiser.step(objective, theta, state)
        theta = step.theta
        if step.stopped:
            break
    return theta, state


@settings(deadline=None, max_examples=50)
@given(N=st.integers(1, 40), P=st.integers(1, 40), damping=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_both_branches_agree(N: int, P: int, damping: float, seed: int) -> None:
    objective = Linear(N, P, seed)
    J, r = objective.A, objective.b
    direct, woodbury = Normal(J, direct=True).solve(r, damping), Normal(J, direct=False).solve(r, damping)
    dense = torch.linalg.lstsq(
        torch.cat([J, damping**0.5 * torch.eye(P, dtype=F64)]),
        torch.cat([r, torch.zeros(P, dtype=F64)])[:, None],
    ).solution[:, 0]
    assert direct is not None
    assert woodbury is not None
    assert float((direct - woodbury).norm()) <= 1e-10 * (1 + float(dense.norm()))
    assert float((direct - dense).norm()) <= 1e-10 * (1 + float(dense.norm()))


@pytest.mark.parametrize(("N", "P", "branch"), [(30, 12, "direct"), (12, 30, "woodbury")])
def test_auto_takes_the_smaller_matrix(N: int, P: int, branch: str) -> None:
    ends = {}
    for solver in ("auto", "direct", "woodbury"):
        optimiser = GaussNewton(damping=0.5, solver=solver, adapt=False)  # type: ignore[arg-type]
        ends[solver], _ = run(optimiser, Linear(N, P), torch.ones(P, dtype=F64), 1)
    assert torch.equal(ends["auto"], ends[branch])
    assert torch.allclose(ends["direct"], ends["woodbury"], atol=1e-10)


def test_linear_least_squares_takes_one_step() -> None:
    objective = Linear(30, 12)
    theta, _ = run(GaussNewton(damping=1e-12), objective, torch.ones(12, dtype=F64), 1)
    assert np.allclose(theta.numpy(), np.linalg.lstsq(objective.A.numpy(), objective.b.numpy())[0], atol=1e-9)


def test_a_step_is_ridge_regression() -> None:
    objective, theta = Linear(30, 12), torch.ones(12, dtype=F64)
    r, J = objective.jacobian(theta)
    d = torch.linalg.solve(J.T @ J + 0.5 * torch.eye(12, dtype=F64), J.T @ r)
    assert torch.allclose(run(GaussNewton(damping=0.5), objective, theta, 1)[0], theta - d, atol=1e-12)


@pytest.mark.parametrize("solver", ["direct", "woodbury"])
def test_momentum_is_that_of_spring(solver: str) -> None:
    objective, theta, mu, damping = Fit(), weights(), 0.7, 1e-2
    optimiser = GaussNewton(damping=damping, solver=solver, momentum=mu, adapt=False)  # type: ignore[arg-type]
    state, d = optimiser.start(theta), torch.zeros(18, dtype=F64)
    for _ in range(4):
        r, J = objective.jacobian(theta)
        inverse = torch.linalg.inv(J @ J.T + damping * torch.eye(len(r), dtype=F64))
        d = mu * d + J.T @ inverse @ (r - mu * J @ d)
        theta = optimiser.step(objective, theta, state).theta
        assert torch.allclose(state["direction"], d, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("optimiser", [GaussNewton(), GaussNewton(damping=1e-3, adapt=True)])
def test_the_minimum_of_scipy(optimiser: GaussNewton) -> None:
    objective = Fit()
    theta, _ = run(optimiser, objective, weights(), 100)
    theirs = least_squares(
        lambda x: objective.residuals(torch.from_numpy(x)).numpy(),
        weights().numpy(),
        xtol=1e-15,
        max_nfev=100,
    )
    assert float(objective.value(theta)) < 10 * 2 * theirs.cost
    assert float(objective.value(theta)) < 1e-6


def test_the_step_is_the_best_of_the_halvings() -> None:
    objective, theta = Fit(), weights()
    optimiser = GaussNewton(damping=1e-6, adapt=False)
    state = optimiser.start(theta)
    shorter = 0
    for _ in range(8):
        step = optimiser.step(objective, theta, state)
        values = [float(objective.value(theta - 0.5**k * state["direction"])) for k in range(31)]
        rising = next(k for k in range(31) if min(values[: k + 1]) < float(step.losses.sum()))
        while rising < 30 and values[rising + 1] < values[rising]:
            rising += 1
        shorter += rising > 0
        assert torch.equal(step.theta, theta - 0.5**rising * state["direction"])
        assert torch.equal(step.losses, objective.losses(theta))
        theta = step.theta
    assert shorter > 0


def test_the_damping_follows_the_steps() -> None:
    _, state = run(GaussNewton(damping=0.9, adapt=True), Linear(30, 12), torch.ones(12, dtype=F64), 1)
    assert state["damping"] == pytest.approx(0.3)
    _, state = run(GaussNewton(damping=1e-9, adapt=True), Fit(), weights(), 1)
    assert state["damping"] == 2e-9  # the whole step was too long
    _, state = run(GaussNewton(damping=0.9), Linear(30, 12), torch.ones(12, dtype=F64), 1)
    assert state["damping"] == 0.9


def test_what_is_not_finite_only_shortens_the_step() -> None:
    objective, theta = Wall(), weights()
    assert torch.isfinite(objective.value(theta))
    state = GaussNewton().start(theta)
    step = GaussNewton().step(objective, theta, state)
    assert not torch.isfinite(objective.value(theta - state["direction"]))
    assert float(objective.value(step.theta)) < float(step.losses.sum())


def test_a_singular_matrix_is_damped_more() -> None:
    J = torch.ones(3, 5, dtype=F64) * 1e8
    assert Normal(J, direct=True).solve(torch.ones(3, dtype=F64), 1e-12) is None
    assert Normal(J, direct=True).solve(torch.ones(3, dtype=F64), 1e4) is not None
    objective = Linear(20, 6)
    objective.A[:, 3:] = objective.A[:, :3]
    objective.A *= 1e6
    theta, _ = run(GaussNewton(damping=1e-13), objective, torch.ones(6, dtype=F64), 5)
    least = np.linalg.lstsq(objective.A.numpy(), objective.b.numpy())[0]
    assert float(objective.value(theta)) <= float(objective.value(torch.from_numpy(least))) * (1 + 1e-6)


def test_resuming_is_exact() -> None:
    state, again, _ = resumed(GaussNewton(damping=1e-3, momentum=0.5, adapt=True), 5)
    assert state["damping"] == again["damping"]


def test_new_points() -> None:
    optimiser, theta = GaussNewton(), weights()
    state = optimiser.start(theta)
    theta = optimiser.step(Fit(), theta, state).theta
    other = Fit(n=40, seed=5)
    stale = saved(state)
    assert not torch.equal(optimiser.step(other, theta, stale).losses, other.losses(theta))  # specimen
    optimiser.renew(state)
    assert torch.equal(optimiser.step(other, theta, state).losses, other.losses(theta))
    assert state["rows"] == 40


def test_momentum_that_leads_astray_is_dropped() -> None:
    objective, theta = Fit(), weights()
    optimiser = GaussNewton(damping=1e-2, momentum=0.9)
    state = optimiser.start(theta)
    state["direction"] = -1e6 * objective.gradient(theta)[1]
    state["losses"] = objective.losses(theta)
    plain = GaussNewton(damping=1e-2)
    step = optimiser.step(objective, theta, state)
    assert torch.equal(step.theta, plain.step(objective, theta, plain.start(theta)).theta)


def test_it_stops_where_no_step_lowers_the_loss() -> None:
    theta = weights()
    step = GaussNewton(halvings=3).step(Wrong(), theta, GaussNewton().start(theta))
    assert step.stopped.startswith("no step lowers the loss, up to damping")
    assert torch.equal(step.theta, theta)


def test_float32_goes_down() -> None:
    theta, _ = run(GaussNewton(damping=1e-5), Fit(), weights().float(), 60)
    assert theta.dtype == torch.float32
    assert float(Fit().value(theta.double())) < 1e-4


def test_messages() -> None:
    with pytest.raises(
        ValueError, match=r"Jacobian of 30 residuals by 18 parameters, 4.32e-06 GB, above limit=100"
    ):
        GaussNewton(limit=100).step(Fit(), weights(), GaussNewton().start(weights()))
    with pytest.raises(ValueError, match=r"float64, or float32 with less accuracy, not torch.float16"):
        GaussNewton().check(3, torch.float16)
    with pytest.raises(ValueError, match="damping=0: it must be positive"):
        GaussNewton(damping=0.0)
    with pytest.raises(ValueError, match="solver='qr': GaussNewton knows auto, direct and woodbury"):
        GaussNewton(solver="qr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="momentum=1: needed is a number from 0 to below 1"):
        GaussNewton(momentum=1.0)
    with pytest.raises(ValueError, match="halvings=-1: needed is 0"):
        GaussNewton(halvings=-1)
    theta = torch.full((18,), torch.nan, dtype=F64)
    with pytest.raises(FloatingPointError, match="or the Jacobian is not finite at theta"):
        GaussNewton().step(Fit(), theta, GaussNewton().start(theta))
