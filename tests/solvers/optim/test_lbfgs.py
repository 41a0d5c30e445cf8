"""L-BFGS: against the two-loop recursion, SciPy and torch.optim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from objectives import Fit, Rosenbrock, resumed, saved, weights
from scipy.optimize import minimize
from torch import Tensor

from solvus.solvers.optim.lbfgs import LBFGS, product, remember
from solvus.solvers.optim.objective import Objective

F64 = torch.float64


class Uphill(Rosenbrock):
    """A specimen whose gradient has the wrong sign from the third evaluation on."""

    calls = 0

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradient = super().gradient(theta)
        self.calls += 1
        return losses, -gradient if self.calls > 2 else gradient


def run(
    optimiser: LBFGS, objective: Objective, theta: Tensor, steps: int = 500
) -> tuple[Tensor, int, int, str]:
    state, evaluations = optimiser.start(theta), 0
    for k in range(steps):
        step = optimiser.step(objective, theta, state)
        theta, evaluations = step.theta, evaluations + step.evaluations
        if step.stopped:
            return theta, k, evaluations, step.stopped
    return theta, steps, evaluations, ""


def scipy_minimum(objective: Objective, theta: Tensor) -> Any:
    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        losses, gradient = objective.gradient(torch.from_numpy(x))
        return float(losses.sum()), gradient.numpy()

    options = {"gtol": 1e-10, "maxiter": 400, "maxcor": 100, "ftol": 0.0}
    return minimize(f, theta.numpy(), jac=True, method="L-BFGS-B", options=options)


@pytest.mark.parametrize("start", [torch.zeros(10, dtype=F64), torch.tensor([-1.2, 1.0] * 5, dtype=F64)])
def test_the_minimum_of_scipy(start: Tensor) -> None:
    theta, steps, evaluations, stopped = run(LBFGS(tolerance_grad=1e-10), Rosenbrock(), start)
    theirs = scipy_minimum(Rosenbrock(), start)
    assert stopped == "gradient not above 1e-10"
    assert torch.allclose(theta, torch.ones(10, dtype=F64), atol=1e-9)
    assert np.allclose(theirs.x, theta.numpy(), atol=1e-4)
    assert steps < 2 * theirs.nit
    assert evaluations < 1.5 * steps


def test_the_loss_of_scipy_on_a_network() -> None:
    theta, _, _, _ = run(LBFGS(), Fit(), weights(), 400)
    theirs = scipy_minimum(Fit(), weights())
    assert float(Fit().value(theta)) < 10 * theirs.fun
    assert float(Fit().value(theta)) < 1e-6


def test_the_evaluations_of_torch() -> None:
    start = torch.tensor([-1.2, 1.0] * 5, dtype=F64)
    objective = Rosenbrock()
    parameter = torch.nn.Parameter(start.clone())
    theirs = torch.optim.LBFGS(
        [parameter], 1, 500, 5000, 1e-8, 0.0, history_size=100, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        theirs.zero_grad()
        loss = objective.losses(parameter).sum()
        loss.backward()
        return loss

    theirs.step(closure)  # type: ignore[arg-type]
    assert torch.allclose(parameter.detach(), torch.ones(10, dtype=F64), atol=1e-8)
    _, _, evaluations, _ = run(LBFGS(tolerance_grad=1e-8), Rosenbrock(), start)
    assert evaluations < 1.25 * objective.seen


def two_loops(pairs: list[tuple[Tensor, Tensor]], g: Tensor) -> Tensor:
    """Nocedal and Wright (2006), algorithm 7.4."""
    q, alphas = g.clone(), []
    for s, y in reversed(pairs):
        alpha = (s @ q) / (s @ y)
        alphas.append(alpha)
        q = q - alpha * y
    s, y = pairs[-1]
    r = (s @ y) / (y @ y) * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + s * (alpha - (y @ r) / (s @ y))
    return r


def test_the_product_is_the_two_loop_recursion() -> None:
    n, generator = 12, torch.Generator().manual_seed(0)
    root = torch.randn(n, n, dtype=F64, generator=generator)
    A = root @ root.T + torch.eye(n, dtype=F64)
    state, pairs = LBFGS(history=5).start(torch.zeros(n, dtype=F64)), []
    g = torch.randn(n, dtype=F64, generator=generator)
    assert torch.equal(product(state, g), g)
    for _ in range(13):  # the ring is filled twice over
        s = torch.randn(n, dtype=F64, generator=generator)
        assert remember(state, s, A @ s)
        pairs = [*pairs, (s, A @ s)][-5:]
        assert torch.allclose(product(state, g), two_loops(pairs, g), rtol=1e-10, atol=1e-12)
        assert torch.allclose(product(state, A @ s), s, rtol=1e-9, atol=1e-10)  # secant equation


def test_pairs_without_curvature_are_not_taken() -> None:
    state = LBFGS().start(torch.zeros(2, dtype=F64))
    s = torch.tensor([1.0, 0.0], dtype=F64)
    assert not remember(state, s, -s)
    assert not remember(state, s, s.flip(0))
    assert state["count"] == 0


def test_the_history_changes_the_path() -> None:
    one, _, _, _ = run(LBFGS(history=1), Fit(), weights(), 20)
    many, _, _, _ = run(LBFGS(history=100), Fit(), weights(), 20)
    assert not torch.allclose(one, many)


def test_resuming_is_exact() -> None:
    state, again, _ = resumed(LBFGS(history=4), 5)
    assert torch.equal(state["S"], again["S"])


def test_a_step_tells_the_losses_before_it_and_leaves_theta_alone() -> None:
    optimiser, objective, theta = LBFGS(), Rosenbrock(), torch.zeros(10, dtype=F64)
    state = optimiser.start(theta)
    for _ in range(5):
        before = theta.clone()
        step = optimiser.step(objective, theta, state)
        assert torch.equal(step.losses, objective.losses(before))
        assert torch.equal(theta, before)
        theta = step.theta


def test_new_points_clear_what_must_be_cleared() -> None:
    optimiser, theta = LBFGS(), weights()
    state = optimiser.start(theta)
    for _ in range(5):
        theta = optimiser.step(Fit(), theta, state).theta
    other = Fit(seed=5)
    stale = saved(state)
    assert not torch.equal(optimiser.step(other, theta, stale).losses, other.losses(theta))  # specimen
    optimiser.renew(state)
    assert state["count"] == 0
    assert torch.equal(optimiser.step(other, theta, state).losses, other.losses(theta))


def test_a_failed_search_forgets_the_history_before_it_stops() -> None:
    theta, steps, _, stopped = run(LBFGS(), Uphill(), torch.zeros(10, dtype=F64), 20)
    assert stopped.startswith("line search failed: ")
    assert steps >= 1
    assert torch.isfinite(theta).all()


def test_after_forgetting_it_goes_on() -> None:
    optimiser, objective, theta = LBFGS(), Rosenbrock(), torch.zeros(10, dtype=F64)
    state = optimiser.start(theta)
    for _ in range(5):
        theta = optimiser.step(objective, theta, state).theta
    state["S"].neg_()  # H is now negative in many directions
    state["R"].neg_()
    step = optimiser.step(objective, theta, state)
    assert step.stopped == ""
    assert state["restarts"] == 1
    assert state["count"] == 1
    assert objective.value(step.theta) < objective.value(theta)


def test_a_short_step_stops() -> None:
    assert (
        run(LBFGS(tolerance_change=1e9), Rosenbrock(), torch.zeros(10, dtype=F64))[3]
        == "step not above 1e+09"
    )


def test_a_loss_that_is_not_finite() -> None:
    theta = torch.full((10,), torch.nan, dtype=F64)
    with pytest.raises(
        FloatingPointError, match=r"loss \(nan\) or its gradient is not finite at theta: start"
    ):
        LBFGS().step(Rosenbrock(), theta, LBFGS().start(theta))


def test_float32_goes_down() -> None:
    theta, _, _, _ = run(LBFGS(), Fit(), weights().float(), 100)
    assert theta.dtype == torch.float32
    assert float(Fit().value(theta)) < 1e-2


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"float64, or float32 with less accuracy, not torch.float16"):
        LBFGS().check(3, torch.float16)
    with pytest.raises(ValueError, match="history=0: LBFGS needs at least one pair"):
        LBFGS(history=0)
    with pytest.raises(ValueError, match="needed is 0 < c1 < c2 < 1"):
        LBFGS(c1=0.95)
