"""ConFIG: equal cosines, its two-loss form, and the variant with one gradient per step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from solvus.solvers.optim.adam import Adam
from solvus.solvers.optim.config import ConFIG, MConFIG, config_direction
from solvus.solvers.optim.objective import Objective
from solvus.solvers.optim.schedules import OneCycle


def unit(x: Tensor) -> Tensor:
    return x / x.norm()


def rows(n: int, parameters: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    scales = 10 ** (6 * torch.rand(n, 1, generator=g, dtype=torch.float64) - 3)
    return scales * torch.randn(n, parameters, generator=g, dtype=torch.float64)


def cosines(gradients: Tensor, direction: Tensor) -> Tensor:
    return (gradients / gradients.norm(dim=1, keepdim=True)) @ unit(direction)


@given(n=st.integers(1, 6), parameters=st.integers(6, 40), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_cosine_to_all_gradients_is_the_same_and_positive(n: int, parameters: int, seed: int):
    gradients = rows(n, parameters, seed)
    found = cosines(gradients, config_direction(gradients))
    assert found.min() > 0
    torch.testing.assert_close(found, found.mean().expand(n), rtol=1e-7, atol=1e-9)


def test_the_sum_does_not_have_equal_cosines():
    gradients = rows(3, 20, 0)
    found = cosines(gradients, gradients.sum(0))
    assert found.max() - found.min() > 0.1


@given(parameters=st.integers(2, 40), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_for_two_losses_it_is_the_sum_of_the_orthogonal_parts(parameters: int, seed: int):
    a, b = rows(2, parameters, seed)

    def orthogonal(p: Tensor, q: Tensor) -> Tensor:
        return q - (p @ q) / (p @ p) * p

    u = unit(unit(orthogonal(a, b)) + unit(orthogonal(b, a)))
    expected = (a @ u + b @ u) * u
    torch.testing.assert_close(config_direction(torch.stack([a, b])), expected, rtol=1e-6, atol=1e-9)


def test_it_is_the_least_squares_form():
    gradients = rows(4, 30, 7)
    x = torch.linalg.lstsq(
        gradients / gradients.norm(dim=1, keepdim=True), torch.ones(4, 1).double()
    ).solution[:, 0]
    u = unit(x)
    torch.testing.assert_close(config_direction(gradients), (gradients @ u).sum() * u, rtol=1e-10, atol=1e-10)


def test_scaling_one_gradient_changes_the_length_only():
    gradients = rows(3, 20, 3)
    scaled = gradients * torch.tensor([[1e6], [1.0], [1.0]])
    torch.testing.assert_close(
        unit(config_direction(scaled)), unit(config_direction(gradients)), rtol=1e-9, atol=1e-9
    )


def test_zero_equal_and_opposed_gradients():
    g = rows(1, 5, 0)[0]
    torch.testing.assert_close(config_direction(torch.stack([g, 0 * g])), g)
    torch.testing.assert_close(config_direction(torch.stack([g, g])), 2 * g)
    assert not config_direction(torch.stack([g, -g])).any()
    assert not config_direction(torch.stack([g, -3 * g])).any()
    assert not config_direction(torch.zeros(2, 5)).any()
    assert config_direction(torch.ones(2, 5)).dtype == torch.float32


class Conflict(Objective):
    """Two quadratic losses in six unknowns with a common minimum, and scales far apart."""

    shapes = ((6,),)

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(4)
        self.A, self.B = torch.randn(2, 3, 6, generator=g, dtype=torch.float64)
        self.solution = torch.randn(6, generator=g, dtype=torch.float64)

    def losses(self, theta: Tensor) -> Tensor:
        error = theta - self.solution
        return torch.stack([(self.A @ error).square().sum(), 1e4 * (self.B @ error).square().sum()])

    def residuals(self, theta: Tensor) -> Tensor:
        return torch.cat([self.A @ (theta - self.solution), 100 * self.B @ (theta - self.solution)])


def test_config_is_adam_along_the_direction():
    objective, theta = Conflict(), torch.zeros(6, dtype=torch.float64)
    optimiser = ConFIG(0.02)
    state, m, v, expected = optimiser.start(theta), 0.0, 0.0, theta
    for t in range(1, 30):
        g = config_direction(objective.group_gradients(theta)[1])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected = expected - 0.02 * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        theta = optimiser.step(objective, theta, state).theta
        torch.testing.assert_close(theta, expected, rtol=1e-10, atol=1e-10)


def test_with_one_group_both_are_adam():
    class One(Conflict):
        def losses(self, theta: Tensor) -> Tensor:
            return super().losses(theta).sum()[None]

    thetas = {}
    for optimiser in (ConFIG(0.02), MConFIG(0.02), Adam(0.02)):
        theta = torch.zeros(6, dtype=torch.float64)
        state = optimiser.start(theta)
        for _ in range(25):
            theta = optimiser.step(One(), theta, state).theta
        thetas[type(optimiser)] = theta
    torch.testing.assert_close(thetas[ConFIG], thetas[Adam], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(thetas[MConFIG], thetas[Adam], rtol=1e-9, atol=1e-9)


def test_m_config_is_its_formula():
    objective, theta = Conflict(), torch.zeros(6, dtype=torch.float64)
    optimiser = MConFIG(0.02)
    state = optimiser.start(theta)
    m, seen, pseudo, v, t, expected = torch.zeros(2, 6, dtype=torch.float64), [0, 0], 0.0, 0.0, 0, theta
    for k in range(20):
        g = objective.group_gradients(theta)[1][k % 2]
        seen[k % 2] += 1
        m[k % 2] = 0.9 * m[k % 2] + 0.1 * g
        if all(seen):
            t += 1
            d = config_direction(torch.stack([m[i] / (1 - 0.9 ** seen[i]) for i in (0, 1)]))
            p = (1 - 0.9**t) * d
            v = 0.999 * v + 0.001 * ((p - 0.9 * pseudo) / 0.1) ** 2
            pseudo = p
            expected = expected - 0.02 * d / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
        theta = optimiser.step(objective, theta, state).theta
        torch.testing.assert_close(theta, expected, rtol=1e-9, atol=1e-9)


def test_both_find_the_common_minimum():
    for optimiser in (ConFIG(0.1), MConFIG(0.1)):
        objective, theta = Conflict(), torch.zeros(6, dtype=torch.float64)
        state, before = optimiser.start(theta), objective.losses(theta)
        for _ in range(400):
            theta = optimiser.step(objective, theta, state).theta
        assert (objective.losses(theta) < 1e-3 * before).all()


def test_what_m_config_cannot_do_is_named():
    with pytest.raises(ValueError, match="give the schedule without momentum_range"):
        MConFIG(schedule=OneCycle(momentum_range=(0.8, 0.9)))

    class Three(Conflict):
        def losses(self, theta: Tensor) -> Tensor:
            return super().losses(theta)[[0, 1, 0]]

    optimiser, theta = MConFIG(), torch.zeros(6, dtype=torch.float64)
    state = optimiser.start(theta)
    optimiser.step(Conflict(), theta, state)
    with pytest.raises(ValueError, match="the state belongs to 2 groups, there are 3: start anew"):
        optimiser.step(Three(), theta, state)
