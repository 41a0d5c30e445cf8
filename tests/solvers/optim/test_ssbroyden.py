"""SSBroyden: against its formulas written out, the secant equation, and SciPy's BFGS."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives import Fit, Rosenbrock, resumed, saved, weights
from scipy.optimize import minimize
from torch import Tensor

from solvus.solvers.optim.objective import Objective
from solvus.solvers.optim.ssbroyden import (
    SSBroyden,
    Variant,
    append,
    first_trial,
    flush,
    product,
    reset,
    scaling,
)

F64 = torch.float64
VARIANTS: tuple[Variant, ...] = ("ssbroyden", "bfgs", "ssbfgs-ab", "ssbfgs-ol")


class Recorder(Fit):
    """Keeps every gradient, by its point."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[Tensor, Tensor]] = []

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradient = super().gradient(theta)
        self.points.append((theta, gradient))
        return losses, gradient

    def at(self, theta: Tensor) -> Tensor:
        return next(g for point, g in self.points if torch.equal(point, theta))


class Uphill(Rosenbrock):
    """A specimen whose gradient has the wrong sign from the fourth evaluation on."""

    calls = 0

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradient = super().gradient(theta)
        self.calls += 1
        return losses, -gradient if self.calls > 3 else gradient


def run(o: SSBroyden, objective: Objective, theta: Tensor, steps: int = 300) -> tuple[Tensor, int, str]:
    state = o.start(theta)
    for k in range(steps):
        step = o.step(objective, theta, state)
        theta = step.theta
        if step.stopped:
            return theta, k, step.stopped
    return theta, steps, ""


def inverse_hessian(state: dict[str, Any]) -> Tensor:
    return torch.stack([product(state, e) for e in torch.eye(len(state["H"]), dtype=F64)], 1)


def updated(H: Tensor, s: Tensor, y: Tensor, tau: float, phi: float) -> Tensor:
    """The update as it is printed."""
    Hy = H @ y
    yHy, rho = y @ Hy, 1 / (y @ s)
    v = rho * s - Hy / yHy
    first = H - torch.outer(Hy, Hy) / yHy + phi * yHy * torch.outer(v, v)
    return first / tau + rho * torch.outer(s, s)


def printed_scaling(variant: Variant, b: float, h: float, P: int, first: bool) -> tuple[float, float]:
    """The formulas as they are printed, without a guard."""
    a = h * b - 1
    theta, tau = 0.0, 1.0
    if variant == "ssbroyden":
        c = math.sqrt(abs(a) / (1 + a))
        low = min(1.0, h * (1 - c))
        theta = max((low - 1) / a, min(1 / low, (1 - b) / b))
        sigma = 1 + theta * a
        root = abs(sigma) ** (1 / (1 - P))
        rho = min(1.0, 1 / b)
        tau = min(rho * root, sigma) if theta <= 0 else rho * min(root, 1 / theta)
    if variant == "ssbfgs-ab":
        tau = min(1.0, 1 / b)
    if variant == "ssbfgs-ol":
        tau = 1 / b
    phi = (1 - theta) / (1 + a * theta)
    return (h / (1 + a * theta) if first else tau), phi


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_matrix_follows_the_formulas(variant: Variant) -> None:
    optimiser, objective, theta = SSBroyden(variant), Recorder(), weights()
    state, H = optimiser.start(theta), torch.eye(18, dtype=F64)
    for k in range(30):
        new = optimiser.step(objective, theta, state).theta
        s, g = new - theta, objective.at(theta)
        y = objective.at(new) - g
        b = float(s @ torch.linalg.solve(H, s)) / float(s @ y)  # s.Bs / s.y, from B itself
        h = float(y @ H @ y) / float(s @ y)
        H, theta = updated(H, s, y, *printed_scaling(variant, b, h, 18, k == 0)), new
        ours = inverse_hessian(state)
        assert torch.allclose(ours, H, rtol=1e-5, atol=1e-7 * float(H.abs().max()))
        assert torch.allclose(ours @ y, s, rtol=0, atol=1e-10 * float(s.norm()) * (1 + float(ours.norm())))
        assert float(torch.linalg.eigvalsh((ours + ours.T) / 2)[0]) > 0
        assert torch.allclose(state["direction"], -ours @ objective.at(new), rtol=1e-6, atol=1e-9)
        H = ours
    assert state["resets"] == 0


@settings(deadline=None)
@given(
    b=st.floats(1e-3, 1e3),
    excess=st.floats(1e-3, 1e3),
    P=st.integers(2, 500),
    variant=st.sampled_from(VARIANTS),
)
def test_scaling_is_the_printed_one(b: float, excess: float, P: int, variant: Variant) -> None:
    h = (1 + excess) / b
    for first in (False, True):
        ours = scaling(variant, b, h, P, first=first)
        assert ours == pytest.approx(printed_scaling(variant, b, h, P, first), rel=1e-9)
        assert ours[0] > 0


def test_scaling_tells_an_indefinite_matrix() -> None:
    assert math.isnan(scaling("ssbroyden", -1.0, 1.0, 5)[0])
    assert math.isnan(scaling("ssbroyden", 1.0, -1.0, 5)[0])
    assert all(map(math.isfinite, scaling("ssbroyden", 1.0, 1.0, 5)))  # a = 0
    assert all(map(math.isfinite, scaling("ssbroyden", 0.5, 4.0, 1)))  # one parameter


@pytest.mark.parametrize("variant", VARIANTS)
def test_rosenbrock(variant: Variant) -> None:
    start = torch.full((10,), 2.0, dtype=F64)
    theta, steps, stopped = run(SSBroyden(variant, tolerance_grad=1e-10), Rosenbrock(), start)
    assert stopped == "gradient not above 1e-10"
    assert torch.allclose(theta, torch.ones(10, dtype=F64), atol=1e-9)
    assert 30 <= steps <= 60


def test_the_variants_differ() -> None:
    ends = [run(SSBroyden(v), Rosenbrock(), torch.zeros(10, dtype=F64), 10)[0] for v in VARIANTS]
    ends.append(
        run(SSBroyden("bfgs", initial_scaling=False), Rosenbrock(), torch.zeros(10, dtype=F64), 10)[0]
    )
    for i, one in enumerate(ends):
        for other in ends[:i]:
            assert float((one - other).abs().max()) > 1e-6


@pytest.mark.parametrize("start", [torch.zeros(10, dtype=F64), torch.tensor([-1.2, 1.0] * 5, dtype=F64)])
def test_bfgs_of_scipy(start: Tensor) -> None:
    def f(x: np.ndarray) -> tuple[float, np.ndarray]:
        losses, gradient = Rosenbrock().gradient(torch.from_numpy(x))
        return float(losses.sum()), gradient.numpy()

    theirs = minimize(f, start.numpy(), jac=True, method="BFGS", options={"gtol": 1e-8})
    ours = SSBroyden("bfgs", initial_scaling=False, tolerance_grad=1e-8)
    theta, steps, _ = run(ours, Rosenbrock(), start)
    assert np.allclose(theta.numpy(), theirs.x, atol=1e-7)
    assert theirs.nit / 1.6 < steps < 1.6 * theirs.nit


def test_self_scaling_pays_on_a_network() -> None:
    plain, _, _ = run(SSBroyden("bfgs"), Fit(), weights(), 300)
    scaled, _, _ = run(SSBroyden(), Fit(), weights(), 300)
    assert float(Fit().value(scaled)) < float(Fit().value(plain))
    assert float(Fit().value(scaled)) < 1e-8


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), updates=st.integers(1, 20))
def test_updates_that_wait_do_not_change_the_matrix(seed: int, updates: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    state, H = SSBroyden().start(torch.zeros(7, dtype=F64)), torch.eye(7, dtype=F64)
    for _ in range(updates):
        U = torch.randn(3, 7, dtype=F64, generator=generator)
        d = torch.randn(3, dtype=F64, generator=generator)
        append(state, U, d, 0.8)
        H = H / 0.8 + U.T @ (d[:, None] * U)
    assert torch.allclose(inverse_hessian(state), H, rtol=1e-10, atol=1e-10 * float(H.abs().max()))
    flush(state)
    assert torch.allclose(state["H"], H, rtol=1e-10, atol=1e-10 * float(H.abs().max()))


def test_the_matrix_stays_symmetric() -> None:
    optimiser, objective, theta = SSBroyden(), Fit(), weights()
    state = optimiser.start(theta)
    state["H"] += 1e-6 * torch.randn(18, 18, dtype=F64, generator=torch.Generator().manual_seed(0)).triu()
    for k in range(64):
        if k == 48:
            state["H"][0, 1] *= 1 + 1e-6
        theta = optimiser.step(objective, theta, state).theta
    assert (state["pending"], state["blocks"]) == (0, 8)
    assert torch.equal(state["H"], state["H"].T)


def test_resuming_is_exact() -> None:
    state, again, kept = resumed(SSBroyden(), 12)
    assert kept["pending"] > 0  # in the middle of a block of updates
    assert torch.equal(state["H"], again["H"])


def test_one_evaluation_a_step_near_the_end() -> None:
    optimiser, objective, theta = SSBroyden("bfgs"), Rosenbrock(), torch.full((10,), 2.0, dtype=F64)
    state, counts = optimiser.start(theta), []
    for _ in range(40):
        step = optimiser.step(objective, theta, state)
        assert torch.equal(step.losses, objective.losses(theta))
        theta = step.theta
        counts.append(step.evaluations)
    assert sum(counts[-10:]) <= 12


def test_the_first_trial() -> None:
    g, state = torch.tensor([3.0, 4.0], dtype=F64), SSBroyden().start(torch.zeros(2, dtype=F64))
    assert first_trial(state, g, -25.0) == 0.2
    state["fresh"] = 0
    assert first_trial(state, g, -25.0) == 1.0
    state["fall"] = 5.0
    assert first_trial(state, g, -25.0) == pytest.approx(1.01 * 0.4)
    assert first_trial(state, g, -1.0) == first_trial(state, g, 1.0) == 1.0


def test_new_points_keep_the_matrix() -> None:
    optimiser, theta = SSBroyden(), weights()
    state = optimiser.start(theta)
    for _ in range(20):
        theta = optimiser.step(Fit(), theta, state).theta
    H, other = inverse_hessian(state), Fit(seed=5)
    stale = saved(state)
    assert not torch.equal(optimiser.step(other, theta, stale).losses, other.losses(theta))  # specimen
    optimiser.renew(state)
    assert torch.equal(inverse_hessian(state), H)
    _, gradient = other.gradient(theta)
    step = optimiser.step(other, theta, state)
    assert torch.equal(step.losses, other.losses(theta))
    s = step.theta - theta
    assert float(torch.nn.functional.cosine_similarity(s, -H @ gradient, dim=0)) > 1 - 1e-10


def test_a_matrix_that_is_not_positive_definite_is_reset() -> None:
    optimiser, objective, theta = SSBroyden(), Rosenbrock(), torch.zeros(10, dtype=F64)
    state = optimiser.start(theta)
    for _ in range(5):
        theta = optimiser.step(objective, theta, state).theta
    flush(state)
    state["H"].neg_()
    optimiser.renew(state)
    step = optimiser.step(objective, theta, state)
    assert state["resets"] == 1
    assert step.stopped == ""
    assert objective.value(step.theta) < objective.value(theta)


def test_a_reset_is_the_identity() -> None:
    state = SSBroyden().start(torch.zeros(4, dtype=F64))
    append(state, torch.ones(3, 4, dtype=F64), torch.ones(3, dtype=F64), 0.5)
    reset(state)
    assert torch.equal(inverse_hessian(state), torch.eye(4, dtype=F64))
    assert (state["resets"], state["fresh"]) == (1, 1)


def test_a_search_that_fails_twice_stops() -> None:
    theta, steps, stopped = run(SSBroyden(), Uphill(), torch.zeros(10, dtype=F64), 30)
    assert stopped.startswith("line search failed: ")
    assert steps >= 1
    assert torch.isfinite(theta).all()


def test_messages() -> None:
    with pytest.raises(
        ValueError, match=r"30000 x 30000 numbers, 7.2 GB, above limit=20000 parameters: use LBFGS"
    ):
        SSBroyden().check(30_000, F64)
    with pytest.raises(ValueError, match=r"needs float64, not torch.float32: its update divides differences"):
        SSBroyden().start(torch.zeros(3))
    with pytest.raises(ValueError, match="variant='sr1': SSBroyden knows ssbroyden, bfgs"):
        SSBroyden("sr1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needed is 0 < c1 < c2 < 1"):
        SSBroyden(c2=2.0)
    theta = torch.full((10,), torch.inf, dtype=F64)
    with pytest.raises(FloatingPointError, match="or its gradient is not finite at theta"):
        SSBroyden().step(Rosenbrock(), theta, SSBroyden().start(theta))
