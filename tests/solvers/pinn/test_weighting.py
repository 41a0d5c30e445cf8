"""Weights of the groups of a loss, against dense Jacobians and their formulas."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from solvus.solvers.pinn.weighting import (
    LRA,
    NTK,
    Constant,
    GradNorm,
    LRAPinnacle,
    NTKPinnacle,
    ReLoBRaLo,
    SoftAdapt,
    Weighting,
)

CASES: list[Weighting] = [
    Constant((1.0, 2.0, 3.0)),
    LRA(),
    LRA(weighted=False),
    LRAPinnacle(),
    GradNorm(),
    NTK(keep=0.5),
    NTKPinnacle(),
    SoftAdapt(),
    ReLoBRaLo(),
]


@dataclass
class Linear:
    """Groups of residuals s_k (J_k theta - b_k), their losses the mean squares."""

    scales: tuple[float, ...] = (30.0, 1.0, 0.1)
    kinds: tuple[str, ...] = ("equation", "condition", "condition")
    counts: tuple[int, ...] = (20, 7, 5)
    theta: Tensor = field(default_factory=lambda: torch.linspace(-1, 1, 6, dtype=torch.float64))
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def __post_init__(self) -> None:
        g = torch.Generator().manual_seed(1)
        like: Any = {"generator": g, "dtype": torch.float64}
        self.J = [s * torch.randn(n, 6, **like) for s, n in zip(self.scales, self.counts, strict=True)]
        self.b = [s * torch.randn(n, **like) for s, n in zip(self.scales, self.counts, strict=True)]

    def residuals(self, k: int) -> Tensor:
        return self.J[k] @ self.theta - self.b[k]

    def pull(self, k: int, c: Tensor) -> Tensor:
        return self.J[k].T @ c

    def losses(self) -> Tensor:
        return torch.stack([self.residuals(k).square().mean() for k in range(len(self.J))])

    def gradients(self) -> Tensor:
        rows = [2 * self.pull(k, self.residuals(k)) / n for k, n in enumerate(self.counts)]
        return torch.stack(rows)

    def move(self, step: float = 0.01) -> None:
        self.theta = self.theta - step * self.gradients().sum(0) / self.gradients().norm()


def updated(method: Weighting, view: Linear, times: int = 1) -> Tensor:
    state, weights = method.start(len(view.kinds), view.theta), torch.empty(0)
    for _ in range(times):
        weights = method.update(state, view)
        view.move()
    return weights


@pytest.mark.parametrize("method", CASES, ids=lambda m: type(m).__name__)
class TestEveryWeighting:
    def test_weights_are_finite_and_not_negative(self, method: Weighting):
        weights = updated(method, Linear(), 5)
        assert weights.shape == (3,)
        assert weights.dtype == torch.float64
        assert torch.isfinite(weights).all()
        assert (weights >= 0).all()
        assert not weights.requires_grad
        assert method.every >= 1

    def test_the_state_holds_the_weights_and_resumes_exactly(self, method: Weighting, tmp_path):
        view = Linear()
        state = method.start(3, view.theta)
        for _ in range(4):
            assert torch.equal(method.update(state, view), state["weights"])
            view.move()
        torch.save((state, view.generator.get_state()), tmp_path / "state.pt")
        saved, generator = torch.load(tmp_path / "state.pt", weights_only=True)
        other = copy.deepcopy(view)
        other.generator = torch.Generator()
        other.generator.set_state(generator)
        for _ in range(3):
            assert torch.equal(method.update(state, view), method.update(saved, other))
            view.move()
            other.move()

    def test_weights_that_were_returned_stay(self, method: Weighting):
        view = Linear()
        state = method.start(3, view.theta)
        first = method.update(state, view)
        kept = first.clone()
        view.move(0.5)
        method.update(state, view)
        assert torch.equal(first, kept)

    def test_what_is_not_finite_is_named(self, method: Weighting):
        view = Linear()
        state = method.start(3, view.theta)
        method.update(state, view)
        view.b[1] = view.b[1] * torch.nan
        view.J[1] = view.J[1] * torch.nan
        if isinstance(method, Constant):
            return  # looks at nothing
        with pytest.raises(
            FloatingPointError, match=r"of group 1 of 3 .* is not finite: the training has diverged"
        ):
            method.update(state, view)


def test_constant_weights_are_those_given():
    assert updated(Constant((1.0, 2.0, 3.0)), Linear()).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="the loss has 3 groups, there are 2 weights"):
        Constant((1.0, 2.0)).start(3, torch.empty(0))
    with pytest.raises(ValueError, match="weights are finite and at least 0"):
        Constant((1.0, -2.0))


@pytest.mark.parametrize("keep", [0.0, 0.9])
@pytest.mark.parametrize("weighted", [True, False])
def test_lra_is_the_published_ratio(keep: float, weighted: bool):
    view = Linear()
    g = view.gradients().abs()
    old = torch.tensor([1.0, 4.0, 5.0], dtype=torch.float64)
    ratios = g[0].max() / (g * (old[:, None] if weighted else 1))[1:].mean(1)
    found = LRA(keep=keep, weighted=weighted).update({"weights": old.clone()}, view)
    assert found[0] == 1
    torch.testing.assert_close(found[1:], keep * old[1:] + (1 - keep) * ratios)


def test_lra_settles_where_the_weighted_gradients_match_and_runs_away_without_the_weights():
    """A condition that is met the better the larger its weight, grad L_i = g / w_i."""

    class Obedient(Linear):
        weights = torch.ones(3, dtype=torch.float64)

        def gradients(self) -> Tensor:
            return super().gradients() / self.weights[:, None]

    ends = []
    for method in (LRA(), LRA(weighted=False)):
        view = Obedient()
        state = method.start(3, view.theta)
        for _ in range(300):
            view.weights = method.update(state, view)
        ends.append(view.weights[1:])
    g = Linear().gradients().abs()
    torch.testing.assert_close(ends[0], g[0].max() / g[1:].mean(1), rtol=1e-6, atol=0.0)
    assert (ends[1] > 1e3 * ends[0]).all()


def test_lra_takes_the_sum_of_all_equations():
    view = Linear(kinds=("equation", "equation", "condition"))
    g = view.gradients()
    found = updated(LRA(keep=0.0), view)
    assert found[:2].tolist() == [1, 1]
    torch.testing.assert_close(found[2], (g[0] + g[1]).abs().max() / g[2].abs().mean())


def test_lra_of_pinnacle_is_lra_at_every_step():
    assert (LRAPinnacle().every, LRA().every) == (1, 10)
    view, methods = Linear(), (LRA(), LRAPinnacle())
    states = [m.start(3, view.theta) for m in methods]
    for _ in range(20):
        one, other = (m.update(s, view) for m, s in zip(methods, states, strict=True))
        assert torch.equal(one, other)
        view.move()


def test_grad_norm_makes_weighted_gradients_equally_long():
    view = Linear()
    norms = view.gradients().norm(dim=1)
    found = updated(GradNorm(keep=0.0), view)
    torch.testing.assert_close(found * norms, norms.mean().expand(3))
    torch.testing.assert_close(updated(GradNorm(), Linear()), 0.9 + 0.1 * found)


def test_grad_norm_bounds_the_weight_of_a_group_that_is_all_but_met():
    found = updated(GradNorm(keep=0.0), Linear(scales=(1.0, 1.0, 1e-30)))
    assert float(found[2]) == pytest.approx(1e5)


def test_ntk_finds_the_traces_of_the_kernels():
    view = Linear()
    traces = torch.stack([(J @ J.T).trace() / len(J) for J in view.J])
    found = updated(NTK(probes=4000, keep=0.0), view)
    torch.testing.assert_close(found, traces.sum() / traces, rtol=0.05, atol=0.0)
    coded = updated(NTKPinnacle(), Linear())
    assert ((coded - traces.sum() / traces).abs() / coded).max() > 0.2


def test_the_spread_of_the_trace_is_as_said():
    view = Linear(scales=(1.0, 1.0), kinds=("equation", "condition"), counts=(20, 7))
    K = view.J[0] @ view.J[0].T
    drawn = torch.stack([NTK(probes=4)._trace(view, 0) * 20 for _ in range(400)])
    off = K - torch.diag(K.diag())
    assert float(drawn.mean()) == pytest.approx(float(K.trace()), rel=0.05)
    assert float(drawn.std()) == pytest.approx(float((2 * off.square().sum() / 4).sqrt()), rel=0.15)
    assert drawn.std() <= (2 / 4) ** 0.5 * K.trace()


def test_ntk_of_pinnacle_uses_the_gradient_of_sums():
    view = Linear()
    equation = view.J[0].sum(0).square().sum()
    condition = (view.J[1].sum(0) + view.J[2].sum(0)).square().sum()
    total = equation + condition
    expected = torch.stack([total / equation, total / condition, total / condition])
    torch.testing.assert_close(updated(NTKPinnacle(), view), expected)


def test_soft_adapt_weights_what_grows():
    view = Linear()
    method = SoftAdapt(beta=2.0, normalised=False)
    state = method.start(3, view.theta)
    before = view.losses()
    assert method.update(state, view).tolist() == [1, 1, 1]
    view.move(1e-3)
    rates = view.losses() - before
    torch.testing.assert_close(method.update(state, view), 3 * torch.softmax(2 * rates, 0))
    by_loss = SoftAdapt(beta=2.0, by_loss=True)
    state = {"weights": torch.ones(3).double(), "last": before}
    products = view.losses() * torch.exp(2 * rates / rates.abs().sum())
    torch.testing.assert_close(by_loss.update(state, view), 3 * products / products.sum())


def balance(now: Tensor, then: Tensor, temperature: float) -> Tensor:
    powers = torch.exp(now / (temperature * then))
    return len(now) * powers / powers.sum()


@pytest.mark.parametrize("saved", [0.0, 1.0])
def test_relobralo_is_its_formula(saved: float):
    view = Linear()
    method = ReLoBRaLo(alpha=0.7, temperature=0.5, saved=saved)
    state = method.start(3, view.theta)
    losses, weights = [view.losses()], method.update(state, view)
    for _ in range(4):
        view.move()
        losses.append(view.losses())
        past = weights if saved else balance(losses[-1], losses[0], 0.5)
        expected = 0.7 * past + 0.3 * balance(losses[-1], losses[-2], 0.5)
        weights = method.update(state, view)
        torch.testing.assert_close(weights, expected)
        assert float(weights.sum()) == pytest.approx(3)


def test_relobralo_looks_back_as_often_as_asked():
    view, back = Linear(), 0
    method = ReLoBRaLo(alpha=1.0, saved=0.75)
    state = method.start(3, view.theta)
    method.update(state, view)
    for _ in range(400):
        view.theta = view.theta * 1.0001
        before = state["weights"]
        back += not torch.equal(method.update(state, view), before)
    assert 70 < back < 130


def test_a_group_without_loss_or_gradient_keeps_its_weight():
    for method in (LRA(), LRAPinnacle(), GradNorm(), NTK(), NTKPinnacle()):
        view = Linear(kinds=("equation", "condition"), counts=(20, 7), scales=(1.0, 0.0))
        state = method.start(2, view.theta)
        assert float(method.update(state, view)[1]) == 1.0
    for method in (SoftAdapt(), ReLoBRaLo()):
        found = updated(method, Linear(scales=(1.0, 1.0, 0.0)), 3)
        assert torch.isfinite(found).all()


def test_losses_that_explode_do_not_break_relobralo():
    view = Linear()
    method = ReLoBRaLo(temperature=1e-3)
    state = method.start(3, view.theta)
    method.update(state, view)
    view.theta = view.theta * 1e150
    assert torch.isfinite(method.update(state, view)).all()


def test_groups_that_cannot_be_weighted_are_named():
    only = Linear(kinds=("condition", "condition", "condition"))
    with pytest.raises(
        ValueError, match="LRA weights conditions against equations, the loss has none: use GradNorm"
    ):
        updated(LRA(), only)
    with pytest.raises(ValueError, match=r"against conditions, the groups are .* use NTK"):
        updated(NTKPinnacle(), only)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LRA(every=0), "updated every 1 step or more, got every=0"),
        (lambda: GradNorm(keep=1.0), r"share of the old weights, lies in \[0, 1\), got 1.0"),
        (lambda: NTK(probes=0), "at least 1 probe, got 0"),
        (lambda: ReLoBRaLo(alpha=2.0), r"alpha and saved lie in \[0, 1\], got 2.0 and 0.999"),
        (lambda: ReLoBRaLo(temperature=0.0), "the temperature is positive, got 0.0"),
    ],
)
def test_wrong_settings_are_named(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_contract_fails_for_a_method_that_forgets():
    class Forgetful(Weighting):
        every = 1

        def update(self, state: dict[str, Any], view: Any) -> Tensor:
            return view.losses().log()

    with pytest.raises(AssertionError):
        TestEveryWeighting().test_weights_are_finite_and_not_negative(Forgetful())
