"""Newton's method with sketched conjugate gradients: on quadratics, against dense algebra, on a network."""

from __future__ import annotations

import math

import pytest
import torch
from objectives import Fit, resumed, weights
from torch import Tensor

from solvus.solvers.optim.nystrom import NystromNewtonCG, sketch
from solvus.solvers.optim.objective import Objective

F64 = torch.float64


class Quadratic(Objective):
    """|A theta - b|^2, its Hessian is 2 A'A."""

    def __init__(self, values: Tensor) -> None:
        n = len(values)
        generator = torch.Generator().manual_seed(0)
        Q = torch.linalg.qr(torch.randn(n, n, dtype=F64, generator=generator)).Q
        self.shapes = [(n,)]
        self.A, self.b = values.sqrt()[:, None] * Q, torch.randn(n, dtype=F64, generator=generator)
        self.products = 0

    @property
    def hessian(self) -> Tensor:
        return 2 * self.A.T @ self.A

    def residuals(self, theta: Tensor) -> Tensor:
        return self.A @ theta - self.b

    def losses(self, theta: Tensor) -> Tensor:
        return self.residuals(theta).square().sum()[None]

    def hessian_product(self, theta: Tensor, v: Tensor) -> Tensor:
        self.products += 1 if v.ndim == 1 else len(v)
        return super().hessian_product(theta, v)


class Wrong(Fit):
    """A specimen whose gradient has the wrong sign."""

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradient = super().gradient(theta)
        return losses, -gradient


class Concave(Objective):
    """1 + cos^2: the Hessian at the start is negative."""

    shapes = ((3,),)

    def residuals(self, theta: Tensor) -> Tensor:
        return torch.cos(theta)

    def losses(self, theta: Tensor) -> Tensor:
        return self.residuals(theta).square().sum()[None]


def test_a_sketch_of_full_rank_is_the_matrix() -> None:
    H = Quadratic(torch.logspace(0, -4, 12, dtype=F64)).hessian
    U, S = sketch(lambda v: v @ H, torch.zeros(12, dtype=F64), 12, torch.Generator().manual_seed(3))
    assert torch.allclose(U @ torch.diag(S) @ U.T, H, atol=1e-10)
    assert torch.allclose(U.T @ U, torch.eye(12, dtype=F64), atol=1e-10)
    assert bool((S[:-1] >= S[1:]).all())


def test_a_sketch_of_a_matrix_of_low_rank_is_exact() -> None:
    values = torch.zeros(20, dtype=F64)
    values[:4] = torch.tensor([5.0, 3.0, 2.0, 1.0])
    H = Quadratic(values).hessian
    U, S = sketch(lambda v: v @ H, torch.zeros(20, dtype=F64), 6, torch.Generator().manual_seed(3))
    assert torch.allclose(U @ torch.diag(S) @ U.T, H, atol=1e-7)
    assert float(S[4:].max()) < 1e-7


def test_a_sketch_is_below_the_matrix_and_as_near_as_theory_says() -> None:
    n, rank, errors = 30, 8, []
    H = Quadratic(torch.logspace(2, -4, n, dtype=F64)).hessian
    for seed in range(20):
        U, S = sketch(lambda v: v @ H, torch.zeros(n, dtype=F64), rank, torch.Generator().manual_seed(seed))
        rest = torch.linalg.eigvalsh(H - U @ torch.diag(S) @ U.T)
        assert float(rest[0]) > -1e-9
        errors.append(float(rest[-1]))
    values = torch.linalg.eigvalsh(H).flip(0)
    bounds = [  # of the expected error: Frangella, Tropp and Udell (2023), proposition 2.2
        (1 + 2 * k / (rank - k - 1)) * values[k]
        + 2 * math.e**2 * rank / ((rank - k) ** 2 - 1) * values[k:].sum()
        for k in range(rank - 2)
    ]
    assert float(values[rank]) <= sum(errors) / 20 <= float(min(bounds))


def test_an_indefinite_matrix_has_a_sketch() -> None:
    H = torch.diag(torch.linspace(-1, 3, 9, dtype=F64))
    U, S = sketch(lambda v: v @ H, torch.zeros(9, dtype=F64), 5, torch.Generator().manual_seed(3))
    assert bool((S >= 0).all())
    assert torch.allclose(U.T @ U, torch.eye(5, dtype=F64), atol=1e-9)


def test_a_quadratic_takes_one_damped_step() -> None:
    objective, mu = Quadratic(torch.logspace(0, -3, 40, dtype=F64)), 1e-2
    theta = weights(n=40)
    optimiser = NystromNewtonCG(rank=10, damping=mu)
    _, g = objective.gradient(theta)
    step = optimiser.step(objective, theta, optimiser.start(theta))
    H = objective.hessian + mu * torch.eye(40, dtype=F64)
    assert torch.allclose(step.theta, theta - torch.linalg.solve(H, g), atol=1e-8)
    assert torch.equal(step.losses, objective.losses(theta))
    assert step.evaluations == objective.products + 2


def test_the_sketch_saves_products() -> None:
    values = torch.cat([torch.logspace(4, 0, 20, dtype=F64), torch.full((100,), 1e-4, dtype=F64)])
    counts = []
    for rank in (1, 30):
        objective, theta = Quadratic(values), weights(n=120)
        optimiser = NystromNewtonCG(rank=rank, damping=1e-2)
        optimiser.step(objective, theta, optimiser.start(theta))
        counts.append(objective.products - rank)
    assert counts[1] < counts[0] / 3


def test_the_last_direction_is_where_conjugate_gradients_start() -> None:
    objective, theta = Quadratic(torch.logspace(0, -3, 40, dtype=F64)), weights(n=40)
    optimiser = NystromNewtonCG(rank=5, damping=1e-2)
    state = optimiser.start(theta)
    optimiser.step(objective, theta, state)
    first = objective.products - 5
    state.pop("losses"), state.pop("gradient")
    optimiser.step(objective, theta, state)  # the same system again
    assert objective.products - 5 - first <= 2


def test_a_network_is_trained() -> None:
    optimiser, objective, theta = NystromNewtonCG(rank=10, damping=1e-4), Fit(), weights()
    state, last = optimiser.start(theta), float("inf")
    for _ in range(60):
        step = optimiser.step(objective, theta, state)
        assert float(step.losses.sum()) < last
        last, theta = float(step.losses.sum()), step.theta
    assert last < 1e-3


def test_where_the_hessian_is_negative_it_descends() -> None:
    optimiser, objective = NystromNewtonCG(rank=2, damping=1e-3), Concave()
    theta = torch.full((3,), 0.1, dtype=F64)
    state = optimiser.start(theta)
    for _ in range(20):
        step = optimiser.step(objective, theta, state)
        assert step.stopped in ("", "the gradient is zero", "no step along the direction lowers the loss")
        theta = step.theta
    assert float(objective.value(theta)) < 1e-10


class Valley(Objective):
    """50 x^2 - y^2 / 2 + y^4 / 4: a saddle between two minima at y = +-1, both of -1/4."""

    shapes = ((2,),)

    def residuals(self, theta: Tensor) -> Tensor:
        pytest.fail("this method looks at losses alone")

    def losses(self, theta: Tensor) -> Tensor:
        x, y = theta
        return (50 * x**2 - y**2 / 2 + y**4 / 4)[None]


@pytest.mark.parametrize("rank", [1, 2])
def test_a_last_direction_is_not_taken_again_where_the_hessian_is_negative(rank: int) -> None:
    optimiser, objective = NystromNewtonCG(rank=rank, damping=1e-3), Valley()
    theta = torch.tensor([0.0, 1e-3], dtype=F64)
    state = optimiser.start(theta)
    for _ in range(25):  # steps of 1e-3 would be at 0.026
        step = optimiser.step(objective, theta, state)
        theta = step.theta
        if step.stopped:
            break
    torch.testing.assert_close(theta, torch.tensor([0.0, 1.0], dtype=F64), atol=1e-6, rtol=0)


class Rooted(Objective):
    """|x|^1.5 + y^2: loss and gradient are finite at x = 0, the second derivative is not."""

    shapes = ((2,),)

    def residuals(self, theta: Tensor) -> Tensor:
        pytest.fail("this method looks at losses alone")

    def losses(self, theta: Tensor) -> Tensor:
        return (theta[0].abs() ** 1.5 + theta[1] ** 2)[None]


@pytest.mark.parametrize("age", [0, 1])  # found by the sketch, and by the conjugate gradients
def test_a_hessian_that_is_not_finite_is_named(age: int) -> None:
    optimiser, theta = NystromNewtonCG(rank=1, damping=1e-3), torch.tensor([0.0, 1.0], dtype=F64)
    losses, gradient = Rooted().gradient(theta)
    assert bool(torch.isfinite(losses).all() & torch.isfinite(gradient).all())
    state = optimiser.start(theta) | {"age": age}
    with pytest.raises(FloatingPointError, match=r"product with the Hessian is not finite, though .* LBFGS"):
        optimiser.step(Rooted(), theta, state)
    with pytest.raises(FloatingPointError, match="product with the Hessian is not finite"):
        sketch(lambda v: v * torch.nan, theta, 2, torch.Generator().manual_seed(0))


def test_resuming_is_exact_over_a_new_sketch() -> None:
    state, again, _ = resumed(NystromNewtonCG(rank=5, every=3, damping=1e-3), 5)
    assert state["seed"] == again["seed"] == 4


def test_the_seed_draws_the_sketch() -> None:
    theta, states = weights(), []
    for seed in (0, 0, 1):
        optimiser = NystromNewtonCG(rank=3, seed=seed)
        states.append(optimiser.start(theta))
        optimiser.step(Fit(), theta, states[-1])
    assert torch.equal(states[0]["U"], states[1]["U"])
    assert not torch.allclose(states[0]["U"], states[2]["U"])


def test_new_points_keep_the_sketch() -> None:
    optimiser, theta = NystromNewtonCG(rank=5), weights()
    state = optimiser.start(theta)
    theta = optimiser.step(Fit(), theta, state).theta
    U = state["U"].clone()
    optimiser.renew(state)
    step = optimiser.step(Fit(seed=5), theta, state)
    assert torch.equal(step.losses, Fit(seed=5).losses(theta))
    assert torch.equal(state["U"], U)


def test_it_stops() -> None:
    optimiser, theta = NystromNewtonCG(rank=3), weights()
    step = optimiser.step(Wrong(), theta, optimiser.start(theta))
    assert step.stopped == "no step along the direction lowers the loss"
    assert torch.equal(step.theta, theta)
    zero = torch.zeros(3, dtype=F64)
    assert optimiser.step(Concave(), zero, optimiser.start(zero)).stopped == "the gradient is zero"


def test_messages() -> None:
    with pytest.raises(
        ValueError, match=r"needs float64, not torch.float32: conjugate gradients on a Hessian"
    ):
        NystromNewtonCG().start(torch.zeros(3))
    with pytest.raises(ValueError, match="rank=0, every=20, cg_steps=1000: each must be at least 1"):
        NystromNewtonCG(rank=0)
    with pytest.raises(ValueError, match="damping=0: it must be positive"):
        NystromNewtonCG(damping=0.0)
    with pytest.raises(ValueError, match="needed are 0 < armijo < 1/2"):
        NystromNewtonCG(armijo=0.7)
    theta = torch.full((18,), torch.nan, dtype=F64)
    with pytest.raises(FloatingPointError, match="or its gradient is not finite at theta"):
        NystromNewtonCG().step(Fit(), theta, NystromNewtonCG().start(theta))
