"""Jets against nested differentiation, and against published formulas."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from solvus.solvers.pinn.errors import NoDerivative
from solvus.solvers.pinn.jets import (
    ACTIVATIONS,
    Activation,
    Affine,
    Jet,
    Plan,
    activate,
    add,
    concatenate,
    coordinates,
    fused,
    layers,
    linear,
    nested,
    product,
    scale,
    subtract,
)
from solvus.solvers.pinn.jets.activations import COS, EXP, TANH
from solvus.solvers.pinn.jets.jet import combined, written_out
from solvus.solvers.pinn.jets.kernels import derivatives
from solvus.solvers.pinn.jets.plan import Chain, partitions
from solvus.solvers.pinn.jets.rules import _fused

PLANS = {
    "value": Plan(),
    "gradient": Plan([(0,), (1,)]),
    "laplacian": Plan([], laplacian=(0, 1)),
    "heat": Plan([(2,)], laplacian=(0, 1)),
    "mixed": Plan([(0, 1), (0, 0, 2)]),
    "fourth": Plan([(0, 0, 0, 0)]),
    "biharmonic": Plan([(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1)], laplacian=(0, 1)),
    "all mixed": Plan([(0, 0, 1, 2)], laplacian=(0, 1, 2)),
}
SMOOTH = [a for a in ACTIVATIONS.values() if a.code]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@dataclass
class Case:
    """A perceptron written in plain torch, and its pieces."""

    weights: list[tuple[Tensor, Tensor]]
    x: Tensor
    activation: Activation

    @classmethod
    def make(cls, activation: Activation, dtype: torch.dtype = torch.float64, points: int = 11) -> Case:
        g = torch.Generator().manual_seed(1)
        widths = [3, 7, 5, 6, 2]
        weights = [
            (
                (torch.randn(m, n, generator=g, dtype=dtype) * (1.5 / n**0.5)).requires_grad_(),
                (0.3 * torch.randn(m, generator=g, dtype=dtype)).requires_grad_(),
            )
            for n, m in pairwise(widths)
        ]
        return cls(weights, torch.rand(points, 3, generator=g, dtype=dtype), activation)

    def f(self, x: Tensor) -> Tensor:
        for w, b in self.weights[:-1]:
            x = self.activation.value(x @ w.T + b)
        return x @ self.weights[-1][0].T + self.weights[-1][1]

    def jet(self, plan: Plan) -> Jet:
        start = coordinates(self.x, plan)
        return written_out(layers(start, self.weights[:-1], self.activation, last=self.weights[-1]))

    def composed(self, plan: Plan) -> Jet:
        jet: Jet | Affine = coordinates(self.x, plan)
        for w, b in self.weights[:-1]:
            jet = activate(linear(jet, w, b), self.activation)
        return written_out(linear(jet, *self.weights[-1]))

    def flat(self) -> list[Tensor]:
        return [t for pair in self.weights for t in pair]


def rows_differ(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of rows, relative to the largest entry of each."""
    a, b = a.detach(), b.detach()
    scale = b.abs().flatten(1).amax(1).clamp_min(1e-30)
    return float(((a - b).abs().flatten(1).amax(1) / scale).max())


def check_contract(case: Case, plan: Plan, jet: Any, tolerance: float) -> None:
    """Values, derivatives and gradients in the weights are those of nested differentiation."""
    found, truth = jet(plan).rows, nested(case.f, case.x, plan).rows
    assert found.shape == truth.shape == (plan.size, len(case.x), 2)
    assert rows_differ(found, truth) < tolerance
    mark = torch.linspace(0.5, 1.5, truth.numel(), dtype=truth.dtype).view_as(truth)
    mark = mark / truth.detach().abs().flatten(1).amax(1).clamp_min(1e-3)[:, None, None]
    got = torch.autograd.grad((found * mark).sum(), case.flat(), materialize_grads=True)
    want = torch.autograd.grad((truth * mark).sum(), case.flat(), materialize_grads=True)
    for a, b in zip(got, want, strict=True):
        assert float((a - b).abs().max()) <= 5 * tolerance * float(b.abs().max().clamp_min(1e-3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("activation", SMOOTH, ids=lambda a: a.name)
@pytest.mark.parametrize("name", PLANS)
def test_contract(name: str, activation: Activation, dtype: torch.dtype) -> None:
    case = Case.make(activation, dtype)
    tolerance = TOLERANCE[dtype] * (3 if dtype == torch.float32 and PLANS[name].order == 4 else 1)
    check_contract(case, PLANS[name], case.jet, tolerance)
    check_contract(case, PLANS[name], case.composed, tolerance)


class WrongThird(Activation):
    """tanh whose third derivative has another constant."""

    name, order, code = "wrong", 4, 0

    def value(self, z: Tensor) -> Tensor:
        return torch.tanh(z)

    def basis(self, z: Tensor) -> tuple[Tensor, ...]:
        return (torch.tanh(z),)

    def polynomials(self, basis: Any, order: int) -> list[Any]:
        found = TANH.polynomials(basis, order)
        return [*found[:3], *(1.001 * s for s in found[3:4]), *found[4:]]


def test_the_contract_finds_a_wrong_third_derivative() -> None:
    case = Case.make(WrongThird())
    with pytest.raises(AssertionError):
        check_contract(case, PLANS["mixed"], case.jet, 1e-12)
    check_contract(case, PLANS["gradient"], case.jet, 1e-12)


def test_the_contract_finds_a_wrong_pass() -> None:
    class Mislabelled(WrongThird):
        code = 2  # the compiled passes take it for a sine

        def basis(self, z: Tensor) -> tuple[Tensor, ...]:
            return torch.tanh(z), torch.tanh(z)

    case = Case.make(Mislabelled())
    with pytest.raises(AssertionError):
        check_contract(case, PLANS["gradient"], case.jet, 1e-12)


@pytest.mark.parametrize("activation", SMOOTH, ids=lambda a: a.name)
def test_polynomials_of_the_compiled_passes(activation: Activation) -> None:
    z = torch.linspace(-3, 3, 40, dtype=torch.float64)
    basis = activation.basis(z)
    for order in range(1, 6):
        s = torch.empty(order + 1, 40, dtype=torch.float64)
        derivatives(activation.code, basis[0].numpy(), basis[-1].numpy(), order, s.numpy())
        torch.testing.assert_close(s, torch.stack(activation.derivatives(z, order)), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("activation", [*SMOOTH, COS, EXP], ids=lambda a: a.name)
def test_five_derivatives(activation: Activation) -> None:
    z = torch.linspace(-3, 3, 41, dtype=torch.float64, requires_grad=True)
    truth = activation.value(z)
    for s in activation.derivatives(z.detach(), 5):
        assert float((s - truth.detach()).abs().max()) < 1e-11
        (truth,) = torch.autograd.grad(truth.sum(), z, create_graph=True)


def test_formulas_of_one_variable() -> None:
    fourth = Plan([(0, 0, 0, 0)]).composition[4]
    assert {(t.order, t.rows): t.factor for t in fourth} == {
        (4, (1, 1, 1, 1)): 1.0,
        (3, (1, 1, 2)): 6.0,
        (2, (1, 3)): 4.0,
        (2, (2, 2)): 3.0,
        (1, (4,)): 1.0,
    }
    laplacian = Plan([], laplacian=(0, 1)).composition[-1]
    assert laplacian == (Chain(1, 1.0, (3,)), Chain(2, 1.0, (1, 1)), Chain(2, 1.0, (2, 2)))


@given(st.integers(0, 6))
def test_partitions_are_counted_by_bell_numbers(n: int) -> None:
    assert len(partitions(tuple(range(n)))) == [1, 1, 2, 5, 15, 52, 203][n]


keys = st.lists(st.integers(0, 2), max_size=4).map(tuple)


@settings(max_examples=30, deadline=None)
@given(st.lists(keys, max_size=3), st.sets(st.integers(0, 2)))
def test_any_plan(wanted: list[tuple[int, ...]], axes: set[int]) -> None:
    plan = Plan(wanted, laplacian=axes)
    assert plan.rows[0] == ()
    assert len(set(plan.rows)) == len(plan.rows)
    turned = Plan([key[::-1] for key in wanted], laplacian=axes)
    assert (plan, hash(plan)) == (turned, hash(turned))
    case = Case.make(TANH, points=3)
    assert rows_differ(case.jet(plan).rows, nested(case.f, case.x, plan).rows) < 1e-11


@settings(max_examples=20, deadline=None)
@given(st.lists(keys, max_size=2), st.sets(st.integers(0, 2)))
def test_algebra(wanted: list[tuple[int, ...]], axes: set[int]) -> None:
    plan = Plan(wanted, laplacian=axes)
    case = Case.make(TANH, points=3)
    f, x = case.jet(plan), coordinates(case.x, plan)
    g = linear(x, case.weights[0][0][:2])
    want = nested(lambda y: case.f(y) * (y @ case.weights[0][0][:2].T), case.x, plan)
    assert rows_differ(product(f, g).rows, want.rows) < 1e-11
    assert torch.allclose(product(f, g).rows, product(g, f).rows)
    torch.testing.assert_close(subtract(add(f, g), g).rows, f.rows)
    torch.testing.assert_close(scale(f, 2.0).rows, add(f, f).rows)
    side = concatenate([f, g])
    torch.testing.assert_close(written_out(side).rows[..., 2:], written_out(g).rows)
    assert isinstance(concatenate([x, g]), Affine)


@pytest.mark.parametrize("points", [1, 16, 1000])
@pytest.mark.parametrize("name", ["laplacian", "fourth"])
def test_chunks_of_points(points: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "CHUNK", 20_000)
    case = Case.make(TANH, points=points)
    check_contract(case, PLANS[name], case.jet, 1e-12)


@pytest.mark.parametrize("activation", SMOOTH, ids=lambda a: a.name)
@pytest.mark.parametrize("last", [True, False])
def test_gradients_of_the_fused_layers(activation: Activation, last: bool) -> None:
    plan = Plan([(0, 0, 1)], laplacian=(0, 1))
    case = Case.make(activation, points=2)
    rows = coordinates(case.x, plan).jet().rows

    def general(rows: Tensor, *flat: Tensor) -> Tensor:
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        return _fused(Jet(plan, rows), pairs, activation, last).rows

    def affine(x: Tensor, *flat: Tensor) -> Tensor:
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        return _fused(coordinates(x, plan), pairs, activation, last).rows

    flat = tuple(t.detach().requires_grad_() for t in case.flat()[:4])
    assert torch.autograd.gradcheck(general, (rows.requires_grad_(), *flat))
    assert torch.autograd.gradcheck(affine, (case.x.requires_grad_(), *flat))


@pytest.mark.parametrize("name", ["laplacian", "mixed"])
def test_double_backward(name: str) -> None:
    case = Case.make(TANH)
    plan, flat = PLANS[name], case.flat()

    def product_with(rows: Tensor) -> list[Tensor]:
        loss = rows.square().sum()
        first = torch.autograd.grad(loss, flat, create_graph=True, materialize_grads=True)
        inner = torch.stack([(g * torch.ones_like(g)).sum() for g in first]).sum()
        return list(torch.autograd.grad(inner, flat, materialize_grads=True))

    got, want = product_with(case.jet(plan).rows), product_with(nested(case.f, case.x, plan).rows)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * float(b.abs().max() + 1))


def test_no_points() -> None:
    case = Case.make(TANH, points=0)
    rows = case.jet(PLANS["laplacian"]).rows
    rows.sum().backward()
    assert rows.shape == (4, 0, 2)
    for t in case.flat():
        assert t.grad is not None
        assert float(t.grad.abs().max()) == 0


def test_two_gradients_of_one_graph() -> None:
    case = Case.make(TANH)
    rows = case.jet(PLANS["laplacian"]).rows
    first = torch.autograd.grad(rows.sum(), case.flat(), retain_graph=True)
    again = torch.autograd.grad(rows.sum(), case.flat())
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)


def test_nested_shares_nothing_wrong_under_transforms() -> None:
    case = Case.make(TANH, points=4)
    plan = Plan([(0, 1)], laplacian=(0, 2))
    want = nested(case.f, case.x, plan).rows
    got = torch.func.vmap(lambda x: nested(case.f, x[None], plan).rows[:, 0])(case.x)
    torch.testing.assert_close(got.movedim(0, 1), want)
    constant = nested(lambda x: torch.ones_like(x[:, :1]), case.x, plan)
    assert constant.rows[1:].abs().max() == 0


def test_combined_fills_with_zeros() -> None:
    ones = torch.ones(2, 1)
    jet = combined(Plan([(0, 0)], laplacian=(0,)), {(): ones, (0,): 2 * ones}, 3 * ones)
    assert jet.rows[:, 0, 0].tolist() == [1.0, 2.0, 0.0, 3.0]
    assert jet.laplacian.tolist() == [[3.0], [3.0]]
    assert combined(Plan([], laplacian=(0,)), {(): ones}).laplacian.abs().max() == 0


def test_errors() -> None:
    with pytest.raises(NoDerivative, match=r"up to order 4 are carried, \(0, 0, 0, 0, 1\) is of order 5"):
        Plan([(0, 0, 1, 0, 0)])
    with pytest.raises(NoDerivative, match="numbered from 0"):
        Plan([(-1,)])
    jet = Case.make(TANH).jet(PLANS["gradient"])
    with pytest.raises(NoDerivative, match=r"derivative \(0, 0\) is not carried.*put it in the plan"):
        jet.of((0, 0))
    with pytest.raises(NoDerivative, match=r"no Laplacian is carried.*laplacian=\(0, 1\)"):
        _ = jet.laplacian
    relu = Case.make(ACTIVATIONS["relu"])
    assert relu.jet(PLANS["gradient"]).rows.shape == (3, 11, 2)
    for make in (relu.jet, relu.composed):
        with pytest.raises(NoDerivative, match=r"relu has no derivative of order 2.*smooth activation"):
            make(PLANS["laplacian"])
