"""MultiAdam: invariance to the scales of the losses, the flat form and that for training loops of torch."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from solvus.solvers.optim.adam import Adam
from solvus.solvers.optim.base import Optimiser
from solvus.solvers.optim.multiadam import MultiAdam, MultiAdamRule, moment_ratio, multiadam_update
from solvus.solvers.optim.multiadam_torch import MultiAdamTorch
from solvus.solvers.optim.objective import Objective


class Scaled(Objective):
    """A network's equation u'' + u = 0 and its value at 0, each loss times a factor of its own."""

    shapes = ((6, 1), (6,), (1, 6), (1,))

    def __init__(self, *scales: float, groups: int = 2) -> None:
        self.scales, self.groups = torch.tensor(scales, dtype=torch.float64), groups

    def losses(self, theta: Tensor) -> Tensor:
        a, b, c, d = theta.split([6, 6, 6, 1])
        x = torch.linspace(0, 1, 15, dtype=theta.dtype)[:, None]
        h = torch.tanh(x * a + b)
        u, uxx = h @ c + d, (-2 * h * (1 - h**2) * a**2) @ c
        losses = torch.stack([(uxx + u).square().mean(), (u[:1] - 1).square().sum()])
        return (losses * self.scales)[: self.groups]

    def residuals(self, theta: Tensor) -> Tensor:
        return self.losses(theta).sqrt()


def start() -> Tensor:
    return torch.randn(19, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def iterates(optimiser: Optimiser, objective: Objective, steps: int = 40) -> Tensor:
    theta = start()
    state, path = optimiser.start(theta), []
    for _ in range(steps):
        theta = optimiser.step(objective, theta, state).theta
        path.append(theta)
    return torch.stack(path)


VARIANTS = [
    {},
    {"amsgrad": True},
    {"agg_betas": (0.9, 0.99), "group_weights": (0.3, 0.7)},
    {"group_weights": (0.3, 0.7)},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("scales", [(4096.0, 1.0), (1.0, 4096.0), (2.0**-20, 2.0**30)])
def test_scaling_a_group_by_a_power_of_two_leaves_every_bit(variant: dict, scales: tuple[float, float]):
    optimiser = MultiAdam(0.01, eps=1e-30, **variant)
    assert torch.equal(iterates(optimiser, Scaled(*scales)), iterates(optimiser, Scaled(1.0, 1.0)))


def test_scaling_a_group_by_a_thousand_changes_roundings_only():
    optimiser = MultiAdam(0.01, eps=1e-30)
    paths = iterates(optimiser, Scaled(1000.0, 1.0)), iterates(optimiser, Scaled(1.0, 1.0))
    torch.testing.assert_close(*paths, rtol=1e-12, atol=1e-12)


@given(power=st.integers(-40, 40), second=st.integers(-40, 40))
@settings(max_examples=20, deadline=None)
def test_one_update_does_not_see_the_scales(power: int, second: int):
    g = torch.Generator().manual_seed(abs(power))
    gradients, theta = (
        torch.randn(2, 9, generator=g, dtype=torch.float64),
        torch.zeros(9, dtype=torch.float64),
    )
    rule, scales = MultiAdamRule(eps=1e-60), torch.tensor([[2.0**power], [2.0**second]], dtype=torch.float64)
    one, _ = multiadam_update(theta, gradients, {"t": 0}, rule, 0.1)
    two, _ = multiadam_update(theta, gradients * scales, {"t": 0}, rule, 0.1)
    assert torch.equal(one, two)


@pytest.mark.parametrize("wrong", [Adam(0.01, eps=1e-30), MultiAdam(0.01, eps=1e-30, weight_decay=0.1)])
def test_adam_on_the_sum_and_weight_decay_do_see_the_scales(wrong: Optimiser):
    assert (iterates(wrong, Scaled(4096.0, 1.0)) - iterates(wrong, Scaled(1.0, 1.0))).abs().max() > 1e-3


@pytest.mark.parametrize(("amsgrad", "weight_decay"), [(False, 0.0), (True, 0.0), (False, 0.05)])
def test_one_group_is_adam(amsgrad: bool, weight_decay: float):
    p = nn.Parameter(start())
    objective = Scaled(1.0, 1.0, groups=1)
    theirs = torch.optim.Adam([p], lr=0.01, betas=(0.99, 0.99), amsgrad=amsgrad, weight_decay=weight_decay)
    for _ in range(40):
        theirs.zero_grad()
        objective.value(p).backward()
        theirs.step()
    ours = iterates(MultiAdam(0.01, amsgrad=amsgrad, weight_decay=weight_decay), objective)[-1]
    torch.testing.assert_close(ours, p.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_update_is_its_formula(variant: dict):
    g = torch.Generator().manual_seed(3)
    rule, theta, moments = MultiAdamRule((0.8, 0.9), **variant), torch.zeros(4, dtype=torch.float64), {"t": 0}
    m, v, top = torch.zeros(3, 2, 4, dtype=torch.float64)
    sums = torch.zeros(2, 4, dtype=torch.float64)
    w, expected = torch.tensor(variant.get("group_weights", (0.5, 0.5)), dtype=torch.float64), theta
    for t in range(1, 6):
        gradients = torch.randn(2, 4, generator=g, dtype=torch.float64)
        theta, moments = multiadam_update(theta, gradients, moments, rule, 0.1)
        m, v = 0.8 * m + 0.2 * gradients, 0.9 * v + 0.1 * gradients**2
        top = torch.maximum(top, v)
        den = (top if "amsgrad" in variant else v).sqrt() / (1 - 0.9**t) ** 0.5 + 1e-8
        change = w @ (m / den)
        if "agg_betas" in variant:
            sums = torch.stack([0.9 * sums[0] + 0.1 * change, 0.99 * sums[1] + 0.01 * change**2])
            change = sums[0] / (1 - 0.9**t) / (sums[1].sqrt() / (1 - 0.99**t) ** 0.5 + 1e-8)
        expected = expected - 0.1 / (1 - 0.8**t) * change
        torch.testing.assert_close(theta, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("agg_betas", [(0.9, 0.99), (0.99, 0.99), None])
def test_the_first_steps_are_as_long_as_is_said(agg_betas: tuple[float, float] | None):
    """With a second Adam the authors' update starts with a hundred learning rates."""
    gradients, theta = torch.tensor([[1.0, 2.0], [3.0, 0.5]], dtype=torch.float64), torch.zeros(2).double()
    moments, steps = {"t": 0}, []
    for _ in range(100):
        new, moments = multiadam_update(theta, gradients, moments, MultiAdamRule(agg_betas=agg_betas), 1.0)
        steps.append(float((theta - new)[0]))
        theta = new
    wanted = [1.0, 1.0, 1.0] if agg_betas is None else [100.0, 48.0, 31.7]
    assert steps[:3] == pytest.approx(wanted, rel=0.02)
    assert (steps[49] > 2, steps[99] > 1.4) == ((False, False) if agg_betas is None else (True, True))


def test_the_update_changes_nothing_in_place():
    theta, gradients = torch.ones(3), torch.ones(2, 3)
    _, moments = multiadam_update(
        theta, gradients, {"t": 0}, MultiAdamRule(amsgrad=True, agg_betas=(0.9, 0.9)), 0.1
    )
    before = copy.deepcopy(moments)
    multiadam_update(theta, 2 * gradients, moments, MultiAdamRule(amsgrad=True, agg_betas=(0.9, 0.9)), 0.1)
    assert torch.equal(theta, torch.ones(3))
    assert all(torch.equal(moments[k], v) for k, v in before.items() if k != "t")


def test_a_zero_gradient_moves_nothing():
    gradients = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    theta, _ = multiadam_update(torch.ones(3), gradients, {"t": 0}, MultiAdamRule(), 0.1)
    torch.testing.assert_close(theta, torch.tensor([0.95, 1.0, 0.95]))


def test_the_ratio_of_the_second_moments_is_that_of_the_squared_gradients():
    optimiser, theta, objective = MultiAdam(), start(), Scaled(64.0, 1.0)
    state = optimiser.start(theta)
    with pytest.raises(ValueError, match="no moments before the first step"):
        moment_ratio(state)
    optimiser.step(objective, theta, state)
    _, gradients = objective.group_gradients(theta)
    means = gradients.square().mean(1)
    assert moment_ratio(state) == pytest.approx(float(means[0] / means[1]))
    assert moment_ratio(state, 1, 0) == pytest.approx(1 / moment_ratio(state))


def test_wrong_settings_and_groups_are_named():
    with pytest.raises(ValueError, match=r"there are 2 groups of losses and 3 group_weights"):
        iterates(MultiAdam(group_weights=(1, 1, 1)), Scaled(1.0, 1.0))
    with pytest.raises(ValueError, match=r"group_weights are finite and at least 0, got \(-1, 1\)"):
        MultiAdam(group_weights=(-1, 1))
    with pytest.raises(ValueError, match=r"agg_betas are two numbers in \[0, 1\)"):
        MultiAdam(agg_betas=(0.9, 1.0))
    _, moments = multiadam_update(torch.ones(3), torch.ones(2, 3), {"t": 0}, MultiAdamRule(), 0.1)
    with pytest.raises(
        ValueError, match=r"belong to \(groups, parameters\) = \(2, 3\), the gradients are \(3, 3\)"
    ):
        multiadam_update(torch.ones(3), torch.ones(3, 3), moments, MultiAdamRule(), 0.1)


# The form for training loops of torch.


def model(seed: int = 0) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        nn.init.normal_(p, std=0.5, generator=g)
    return net


POINTS = torch.rand(2, 20, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def losses_of(net: nn.Module, scale: float = 1.0, shared: bool = False) -> list[Tensor]:
    if shared:
        u = net(POINTS.reshape(40, 2))
        first, second = u[:20], u[20:]
    else:
        first, second = net(POINTS[0]), net(POINTS[1])
    return [scale * (first - 1).square().mean(), second.square().mean()]


def parameters_of(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def train(net: nn.Module, optimiser: MultiAdamTorch, steps: int, **how: float | bool) -> Tensor:
    for _ in range(steps):
        optimiser.step(losses_of(net, **how))  # pyright: ignore[reportArgumentType]
    return parameters_of(net)


@pytest.mark.parametrize("shared", [False, True])
def test_the_form_for_torch_takes_the_steps_of_the_flat_one(shared: bool):
    net = model()
    ours = train(net, MultiAdamTorch(net.parameters(), lr=0.01), 50, shared=shared)
    net = model()

    class Same(Objective):
        shapes = tuple(tuple(p.shape) for p in net.parameters())

        def losses(self, theta: Tensor) -> Tensor:
            parts = theta.split([p.numel() for p in net.parameters()])
            named = {k: v.view_as(p) for (k, p), v in zip(net.named_parameters(), parts, strict=True)}
            return torch.stack(losses_of(lambda x: torch.func.functional_call(net, named, x)))  # pyright: ignore

        def residuals(self, theta: Tensor) -> Tensor:
            return self.losses(theta).sqrt()

    optimiser, theta = MultiAdam(0.01), parameters_of(net)
    state = optimiser.start(theta)
    for _ in range(50):
        theta = optimiser.step(Same(), theta, state).theta
    torch.testing.assert_close(ours, theta, rtol=1e-11, atol=1e-11)


def test_the_form_for_torch_does_not_see_scales():
    ends = []
    for scale in (1.0, 4096.0):
        net = model()
        ends.append(train(net, MultiAdamTorch(net.parameters(), eps=1e-30), 30, scale=scale))
    assert torch.equal(*ends)


def test_a_parameter_without_gradient_counts_as_zero():
    net = model()
    optimiser = MultiAdamTorch(net.parameters(), lr=0.1)
    before = parameters_of(net)
    first = [p.clone() for p in net.parameters()]
    optimiser.step(
        [net[0].weight.square().sum(), net[2](torch.ones(3, 8, dtype=torch.float64)).square().sum()]
    )
    change = [(p - q).abs().max().item() for p, q in zip(net.parameters(), first, strict=True)]
    assert change[1] == 0.0
    assert change[0] == pytest.approx(0.05, rel=1e-3)
    assert before.shape == parameters_of(net).shape


def test_groups_of_parameters_keep_their_own_settings():
    net = model()
    groups = [
        {"params": net[0].parameters(), "lr": 0.0},
        {"params": net[2].parameters(), "betas": (0.9, 0.99)},
    ]
    still = [p.detach().clone() for p in net[0].parameters()]
    last = [p.detach().clone() for p in net[2].parameters()]
    optimiser = MultiAdamTorch(groups, lr=0.01)
    train(net, optimiser, 5)
    assert all(torch.equal(p, q) for p, q in zip(net[0].parameters(), still, strict=True))
    assert not any(torch.equal(p, q) for p, q in zip(net[2].parameters(), last, strict=True))
    whole, parts = model(), model()
    one = train(whole, MultiAdamTorch(whole.parameters(), lr=0.01), 20)
    split = [{"params": parts[0].parameters()}, {"params": parts[2].parameters()}]
    two = train(parts, MultiAdamTorch(split, lr=0.01), 20)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_a_frozen_parameter_stays():
    net = model()
    optimiser = MultiAdamTorch(net.parameters(), lr=0.01, weight_decay=0.1)
    train(net, optimiser, 3)
    net[0].weight.requires_grad_(False)
    before = net[0].weight.clone()
    train(net, optimiser, 3)
    assert torch.equal(net[0].weight, before)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_state_is_saved_and_restored_exactly(variant: dict, tmp_path):
    net = model()
    split = [{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 0.02}]
    optimiser = MultiAdamTorch(split, lr=0.01, **variant)
    train(net, optimiser, 7)
    torch.save((net.state_dict(), optimiser.state_dict()), tmp_path / "saved.pt")
    there, states = torch.load(tmp_path / "saved.pt", weights_only=True)
    expected = train(net, optimiser, 7)
    other = model(1)
    other.load_state_dict(there)
    again = MultiAdamTorch([{"params": other[0].parameters()}, {"params": other[2].parameters()}])
    again.load_state_dict(states)
    assert torch.equal(train(other, again, 7), expected)


def test_a_scheduler_of_torch_sets_the_rate():
    net = model()
    optimiser = MultiAdamTorch(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda t: 0.0 if t else 1.0)
    first = train(net, optimiser, 1)
    schedule.step()
    assert torch.equal(train(net, optimiser, 1), first)


def test_state_has_the_type_of_the_parameters():
    net = model().float()
    optimiser = MultiAdamTorch(net.parameters(), group_weights=[0.25, 0.75])
    optimiser.step([net(POINTS[0].float()).square().mean(), net(POINTS[1].float()).square().mean()])
    (state,) = optimiser.state.values()
    assert {v.dtype for v in state.values() if isinstance(v, Tensor)} == {torch.float32}
    assert state["m"].shape == (2, 33)


def test_what_cannot_be_stepped_is_named():
    net = model()
    optimiser = MultiAdamTorch(net.parameters())
    good, other = losses_of(net)
    with pytest.raises(ValueError, match=r"as a list of scalars: step\(\[loss_1, loss_2\]\)"):
        optimiser.step(good)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"that of group 1 has shape \(20, 1\)"):
        optimiser.step([good, net(POINTS[0])])
    with pytest.raises(ValueError, match="loss of group 0 depends on no parameter"):
        optimiser.step([good.detach(), other])
    before = parameters_of(net)
    with pytest.raises(FloatingPointError, match=r"loss of group 1 of 2 .* is inf at step 0"):
        optimiser.step([good, other / 0])
    assert torch.equal(parameters_of(net), before)
    optimiser.step(losses_of(net))
    with pytest.raises(ValueError, match="start anew"):
        optimiser.step([*losses_of(net), net(POINTS[0]).mean()])
    with pytest.raises(ValueError, match="lr is at least 0"):
        MultiAdamTorch(net.parameters(), lr=-1)
    mixed = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2).double())]
    with pytest.raises(
        ValueError, match=r"torch.float32 on cpu, torch.float64 on cpu: give a group for each"
    ):
        MultiAdamTorch(mixed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_steps_on_a_gpu_are_those_on_the_cpu():
    net, there = model(), model().cuda()
    ours = train(net, MultiAdamTorch(net.parameters(), group_weights=(0.4, 0.6)), 20)
    optimiser = MultiAdamTorch(there.parameters(), group_weights=(0.4, 0.6))
    for _ in range(20):
        optimiser.step(
            [(there(POINTS[0].cuda()) - 1).square().mean(), there(POINTS[1].cuda()).square().mean()]
        )
    torch.testing.assert_close(parameters_of(there).cpu(), ours, rtol=1e-9, atol=1e-9)
