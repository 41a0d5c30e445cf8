"""Adam on a flat vector against torch.optim.Adam, and what the first-order optimisers share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from solvus.solvers.optim.adam import Adam
from solvus.solvers.optim.base import Optimiser
from solvus.solvers.optim.config import ConFIG, MConFIG
from solvus.solvers.optim.multiadam import MultiAdam
from solvus.solvers.optim.objective import Objective
from solvus.solvers.optim.schedules import Cosine, ExponentialDecay, OneCycle, StepDecay
from solvus.solvers.optim.soap import SOAP

SHAPES = ((5, 2), (5,), (1, 5), (1,))
FIRST_ORDER = (Adam(), MultiAdam(), SOAP(), ConFIG(), MConFIG())


class Groups(Objective):
    """Losses that are functions of theta; each residual is the root of a loss."""

    def __init__(
        self, *losses: Callable[[Tensor], Tensor], shapes: Sequence[tuple[int, ...]] = SHAPES
    ) -> None:
        self.functions, self.shapes = losses, shapes

    def losses(self, theta: Tensor) -> Tensor:
        return torch.stack([f(theta) for f in self.functions])

    def residuals(self, theta: Tensor) -> Tensor:
        return self.losses(theta).sqrt()


def network(theta: Tensor, x: Tensor) -> Tensor:
    a, b, c, d = theta.split([10, 5, 5, 1])
    return torch.tanh(x @ a.view(5, 2).T + b) @ c + d


def two_groups(dtype: torch.dtype = torch.float64) -> tuple[Groups, Tensor]:
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(30, 2, generator=g, dtype=dtype), torch.rand(20, 2, generator=g, dtype=dtype)
    theta = torch.randn(21, generator=g, dtype=dtype) / 2
    return Groups(
        lambda p: (network(p, x) - x[:, 0] * x[:, 1]).square().mean(),
        lambda p: (network(p, y) - y[:, 0] ** 2).square().mean(),
    ), theta


def run(optimiser: Optimiser, objective: Objective, theta: Tensor, steps: int) -> Tensor:
    state = optimiser.start(theta)
    for _ in range(steps):
        theta = optimiser.step(objective, theta, state).theta
    return theta


def torch_adam(
    objective: Objective, theta: Tensor, steps: int, factor: Callable[[int], float], **settings: float
):
    p = torch.nn.Parameter(theta.clone())
    optimiser = torch.optim.Adam([p], **settings)  # pyright: ignore[reportArgumentType]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    for _ in range(steps):
        optimiser.zero_grad()
        objective.losses(p).sum().backward()
        optimiser.step()
        schedule.step()
    return p.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("weight_decay", "eps"), [(0.0, 1e-8), (0.01, 1e-6)])
def test_the_steps_of_adam_are_those_of_torch(dtype: torch.dtype, weight_decay: float, eps: float):
    objective, theta = two_groups(dtype)
    ours = run(Adam(0.01, weight_decay=weight_decay, eps=eps), objective, theta, 100)
    theirs = torch_adam(objective, theta, 100, lambda t: 1.0, lr=0.01, weight_decay=weight_decay, eps=eps)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype]
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    wrong = run(Adam(0.01, betas=(0.9, 0.99), weight_decay=weight_decay, eps=eps), objective, theta, 100)
    assert (wrong - theirs).abs().max() > 100 * tolerance


@pytest.mark.parametrize(
    "schedule", [ExponentialDecay(10, 0.7, warmup=5), Cosine(warmup=0.1), StepDecay(7, per="batch")]
)
def test_a_schedule_scales_the_rate_as_in_torch(schedule: ExponentialDecay | Cosine | StepDecay):
    objective, theta = two_groups()
    ours = run(Adam(0.02, schedule=schedule).over(40), objective, theta, 40)
    theirs = torch_adam(objective, theta, 40, lambda t: schedule.at(min(t, 39), 40), lr=0.02)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_one_cycle_sets_the_momentum_too():
    schedule = OneCycle(momentum_range=(0.8, 0.95))
    adam = Adam(schedule=schedule, steps=10)
    assert [adam.momentum(t, 0.9) for t in (0, 2, 9)] == pytest.approx([0.95, 0.8, 0.95])
    assert Adam(steps=10).momentum(3, 0.9) == 0.9


def test_the_rate_decays_by_its_formula_and_stays_at_the_end():
    rate = ExponentialDecay(every=10, factor=0.5, warmup=4)
    assert [rate.at(t, 0) for t in (0, 3, 4, 14, 24)] == [0.2, 0.8, 1.0, 0.5, 0.25]
    assert Adam(schedule=Cosine(), steps=10).rate(100) == Adam(schedule=Cosine(), steps=10).rate(9)
    assert Adam(steps=5).over(7).steps == 5


@pytest.mark.parametrize("optimiser", FIRST_ORDER, ids=lambda o: type(o).__name__)
class TestEveryFirstOrderOptimiser:
    def test_lowers_the_loss(self, optimiser: Optimiser):
        objective, theta = two_groups()
        before, after = objective.losses(theta), objective.losses(run(optimiser, objective, theta, 400))
        assert (after < before / 2).all()

    def test_leaves_what_it_was_given(self, optimiser: Optimiser):
        objective, theta = two_groups()
        given = theta.clone()
        step = optimiser.step(objective, theta, optimiser.start(theta))
        assert torch.equal(theta, given)
        assert torch.equal(step.losses, objective.losses(theta))
        assert (step.evaluations, step.stopped) == (1, "")
        assert not step.theta.requires_grad
        assert not step.losses.requires_grad

    def test_resumes_exactly_from_its_state(self, optimiser: Optimiser, tmp_path):
        objective, theta = two_groups()
        state = optimiser.start(theta)
        for _ in range(13):
            theta = optimiser.step(objective, theta, state).theta
        torch.save({"theta": theta, "state": state}, tmp_path / "checkpoint.pt")
        saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        forgetful = optimiser.start(theta)
        ends = [
            _go_on(optimiser, objective, *pair)
            for pair in ((theta, state), (saved["theta"], saved["state"]), (theta.clone(), forgetful))
        ]
        assert torch.equal(ends[0], ends[1])
        assert not torch.equal(ends[0], ends[2])

    def test_a_kept_state_is_not_changed_by_later_steps(self, optimiser: Optimiser):
        objective, theta = two_groups()
        state = optimiser.start(theta)
        for _ in range(3):
            theta = optimiser.step(objective, theta, state).theta
        kept, frozen = dict(state), copy.deepcopy(state)
        optimiser.step(objective, theta, state)
        assert all(
            torch.equal(kept[k], v) if isinstance(v, Tensor) else kept[k] == v for k, v in frozen.items()
        )

    def test_works_in_single_precision(self, optimiser: Optimiser):
        objective, theta = two_groups(torch.float32)
        assert run(optimiser, objective, theta, 5).dtype == torch.float32

    def test_names_the_group_whose_loss_is_not_finite(self, optimiser: Optimiser):
        objective = Groups(lambda p: p.square().sum(), lambda p: (p[0] - p[0]) / 0, shapes=[(2,)])
        with pytest.raises(FloatingPointError, match=r"loss of group 1 of 2 .* is nan at step 0: lower the"):
            run(optimiser, objective, torch.ones(2), 2)

    def test_names_the_group_whose_gradient_is_not_finite(self, optimiser: Optimiser):
        objective = Groups(lambda p: (p[0] - 1).abs().sqrt(), lambda p: p.square().sum(), shapes=[(2,)])
        with pytest.raises(
            FloatingPointError, match=r"gradient of group 0 of 2 .* not finite at step 0, its loss is 0"
        ):
            run(optimiser, objective, torch.ones(2), 2)

    def test_a_schedule_needs_its_length(self, optimiser: Optimiser):
        with pytest.raises(
            ValueError, match=r"Cosine needs the length of the training: \w+\(\.\.\., steps=20000\)"
        ):
            type(optimiser)(schedule=Cosine()).start(torch.ones(2))

    @pytest.mark.parametrize("steps", [0, -3])
    def test_a_training_has_a_length(self, optimiser: Optimiser, steps: int):
        with pytest.raises(
            ValueError, match=f"length of the training, at least 1, got {steps}: leave it out"
        ):
            type(optimiser)(schedule=Cosine(), steps=steps)
        with pytest.raises(ValueError, match="at least 1, got 0"):
            type(optimiser)(schedule=Cosine()).over(0)

    def test_a_schedule_counts_steps(self, optimiser: Optimiser):
        with pytest.raises(
            ValueError, match=r"counts steps, not epochs: give StepDecay\(\.\.\., per='batch'\)"
        ):
            type(optimiser)(schedule=StepDecay())

    def test_its_settings_are_checked(self, optimiser: Optimiser):
        make = type(optimiser)
        with pytest.raises(ValueError, match="the learning rate is positive, got 0"):
            make(0)
        with pytest.raises(ValueError, match=r"betas are two numbers in \[0, 1\), got \(1.0, 0.9\)"):
            make(betas=(1.0, 0.9))
        with pytest.raises(ValueError, match="eps is at least 0, got -1"):
            make(eps=-1)


def _go_on(optimiser: Optimiser, objective: Objective, theta: Tensor, state: dict) -> Tensor:
    state = copy.deepcopy(state)
    for _ in range(11):
        theta = optimiser.step(objective, theta, state).theta
    return theta


def test_gradients_whose_sum_overflows_are_named():
    big = torch.finfo(torch.float32).max
    objective = Groups(
        lambda p: p[0] * (0.9 * big), lambda p: p[0] * (0.9 * big) - p[0].detach() * big, shapes=[(1,)]
    )
    with pytest.raises(FloatingPointError, match="sum of the gradients of the groups is not finite"):
        Adam().step(objective, torch.full((1,), 0.1), Adam().start(torch.ones(1)))


def test_a_decay_out_of_range_is_refused():
    with pytest.raises(ValueError, match="every >= 1, warmup >= 0 and factor in"):
        ExponentialDecay(factor=0)
    with pytest.raises(ValueError, match=r"weight_decay is at least 0, got -0\.1"):
        Adam(weight_decay=-0.1)
