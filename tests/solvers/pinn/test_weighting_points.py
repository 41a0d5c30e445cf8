"""Weights of points."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.solvers.pinn.weighting import PointWeighting, ResidualAttention


def test_it_is_its_formula():
    method, r = ResidualAttention(), torch.tensor([1.0, -4.0, 2.0], dtype=torch.float64)
    weights = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    expected = 0.999 * weights + 0.001 * torch.tensor([0.25, 1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(method.update(weights, r), expected)
    assert isinstance(method, PointWeighting)


@given(
    first=st.floats(0, 1),
    rate=st.floats(1e-3, 0.5),
    residual=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
)
@settings(max_examples=40, deadline=None)
def test_weights_stay_within_their_bound(first: float, rate: float, residual: list[float]):
    method = ResidualAttention(decay=1 - rate, rate=rate, first=first)
    r = torch.tensor(residual, dtype=torch.float64)
    weights = method.start(len(r), r)
    for _ in range(30):
        weights = method.update(weights, r)
        assert weights.min() >= 0
        assert weights.max() <= 1 + 1e-12


def test_weights_tend_to_the_relative_residual():
    method, r = ResidualAttention(decay=0.9, rate=0.1), torch.tensor([0.5, 1.0, 2.0])
    weights = method.start(3, r)
    assert weights.tolist() == [1, 1, 1]
    for _ in range(300):
        weights = method.update(weights, r)
    torch.testing.assert_close(weights, r / 2)
    double = weights
    for _ in range(300):
        double = method.update(double, 1000 * r)
    torch.testing.assert_close(double, weights)


def test_zero_residuals_only_decay_and_no_graph_is_kept():
    method = ResidualAttention(decay=0.5)
    assert method.update(torch.ones(2), torch.zeros(2)).tolist() == [0.5, 0.5]
    assert not method.update(torch.ones(2), torch.ones(2, requires_grad=True)).requires_grad
    assert method.update(torch.ones(0), torch.ones(0)).shape == (0,)
    assert ResidualAttention(first=0.0).start(2, torch.empty(0)).tolist() == [0, 0]


def test_what_is_wrong_is_named():
    method = ResidualAttention()
    with pytest.raises(
        ValueError, match=r"weights of \(3,\) points and residuals of \(4,\): points that are drawn"
    ):
        method.update(torch.ones(3), torch.ones(4))
    with pytest.raises(FloatingPointError, match="the residual is not finite at 1 of 2 points"):
        method.update(torch.ones(2), torch.tensor([1.0, torch.nan]))
    with pytest.raises(ValueError, match=r"decay lies in \[0, 1\), got 1"):
        ResidualAttention(decay=1)
    with pytest.raises(ValueError, match="rate is positive and first at least 0, got 0 and 1"):
        ResidualAttention(rate=0, first=1)
