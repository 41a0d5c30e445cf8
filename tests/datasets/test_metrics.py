"""Every metric on numbers that were worked out by hand, or by another library."""

import math

import numpy as np
import pytest
import torch

from solvus.datasets.loading import metrics
from solvus.datasets.loading.metrics import (
    boundary_rmse,
    conservation_drift,
    conserved_error,
    correlation,
    correlation_time,
    failure_rate,
    fourier_rmse,
    max_error,
    nrmse,
    relative_h1,
    relative_l1,
    relative_l2,
    rmse,
    rollout_curve,
    summary,
    vrmse,
)

U = torch.tensor([[[1.0, 2.0, 2.0], [0.0, 4.0, 4.0]]])  # one sample, two channels, three points
P = torch.tensor([[[1.0, 2.0, 5.0], [2.0, 4.0, 0.0]]])  # errors 0 0 3 and 2 0 -4


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float64))


BY_HAND = {
    relative_l2: [math.sqrt(29 / 41)],
    relative_l1: [9 / 13],
    rmse: [[math.sqrt(3), math.sqrt(20 / 3)]],
    nrmse: [[1.0, math.sqrt(20 / 32)]],
    vrmse: [[math.sqrt(3 / (1 / 3 + 1e-7)), math.sqrt((20 / 3) / (16 / 3 + 1e-7))]],
    conserved_error: [[1.0, 2 / 3]],
    max_error: [[3.0, 4.0]],
    boundary_rmse: [[math.sqrt(4.5), math.sqrt(10)]],
    # deviations (-5 -2 7)/3 with (-2 1 1)/3, and (0 2 -2) with (-8 4 4)/3
    correlation: [[(15 / 9) / math.sqrt(78 / 9 * 6 / 9), 0.0]],
}


@pytest.mark.parametrize("metric", BY_HAND, ids=lambda m: m.__name__)
def test_by_hand(metric):
    close(metric(P, U), BY_HAND[metric])
    both = metric(torch.cat([P, U]), torch.cat([U, U]))  # samples are kept apart
    close(both[:1], BY_HAND[metric])
    close(both[1:], torch.full_like(both[1:], 1.0 if metric is correlation else 0.0))


def test_a_biased_variance_would_be_noticed(monkeypatch):
    """The wrong specimen: std divided by n is not The Well's."""
    var = torch.Tensor.var
    monkeypatch.setattr(torch.Tensor, "var", lambda self, dim: var(self, dim, correction=0))
    with pytest.raises(AssertionError):
        test_by_hand(vrmse)


SCALE_FREE = (relative_l2, relative_l1, nrmse, relative_h1, correlation)


@pytest.mark.parametrize("metric", SCALE_FREE, ids=lambda m: m.__name__)
def test_relative_errors_do_not_depend_on_units(metric):
    close(metric(1e-3 * P.double(), 1e-3 * U.double()), metric(P, U))


def test_predicting_the_mean_has_a_vrmse_of_one():
    u = torch.randn(4, 2, 30, 30)
    mean = u.mean((2, 3), keepdim=True).expand_as(u)
    np.testing.assert_allclose(vrmse(mean, u), 1, atol=1e-3)


def test_quadrature_weights():
    weights = torch.tensor([1.0, 1.0, 0.0])
    close(relative_l2(P, U, weights), [math.sqrt(4 / 21)])
    close(relative_l1(P, U, 2 * weights), [2 / 7])


def waves(*terms, shape=(16,)):
    """A sum of amplitude * cos(k x), (1, 1, *shape)."""
    axes = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in shape), indexing="ij")
    total = sum(a * np.cos(sum(k * x for k, x in zip(ks, axes, strict=True))) for a, ks in terms)
    return torch.as_tensor(total)[None, None]


def test_h1_weighs_modes_by_their_wave_number():
    u, e = waves((3.0, (1,))), waves((0.5, (2,)))
    close(relative_h1(u + e, u), [[math.sqrt(5 * 0.25 / (2 * 9))]])
    k = math.pi  # of the first mode on a period of 2
    close(relative_h1(u + e, u, lengths=(2.0,)), [[math.sqrt((1 + 4 * k**2) * 0.25 / ((1 + k**2) * 9))]])
    u, e = waves((1.0, (1, 0)), shape=(8, 6)), waves((1.0, (2, 1)), shape=(8, 6))
    close(relative_h1(u + e, u), [[math.sqrt(6 / 2)]])


def test_h1_is_that_of_the_gradient():
    """Against integrals: ||v||^2 + ||grad v||^2 by differences on a fine grid."""
    n = 4096
    u, e = (waves((1.0, (1,)), (a, (3,)), shape=(n,)) for a in (0.5, 0.2))

    def norm(v):
        slope = (torch.roll(v, -1) - torch.roll(v, 1)) / (4 * math.pi / n)
        return (v.square() + slope.square()).sum().sqrt()

    np.testing.assert_allclose(relative_h1(u + e, u).item(), norm(e) / norm(u), rtol=1e-5)


def test_fourier_bands():
    n = 32
    e = waves((1.0, (0,)), (2.0, (3,)), (3.0, (5,)), (4.0, (13,)), shape=(n,))
    found = fourier_rmse(e, torch.zeros_like(e))
    # |coefficient|^2: 1 at k = 0, then amplitude^2 / 4 at k and -k; 7, 16 and 9 wave numbers in the bands
    close(found, [[[math.sqrt((1 + 2 * 1) / 7), math.sqrt(2 * 9 / 4 / 16), math.sqrt(2 * 4 / 9)]]])


@pytest.mark.parametrize("shape", [(32,), (26, 30), (8, 26, 6)])
def test_bands_add_up_to_the_whole(shape):
    """Parseval: the sum of all squared coefficients is the mean square."""
    e = torch.randn(2, 3, *shape, dtype=torch.float64)
    zero = torch.zeros_like(e)
    k = metrics._wave_numbers(shape, (2 * math.pi,) * len(shape), e.device).square().sum(0).sqrt()
    counts = torch.tensor([(k < 4).sum(), ((k >= 4) & (k < 12)).sum(), (k >= 12).sum()])
    assert counts.sum() == math.prod(shape)
    close((fourier_rmse(e, zero).square() * counts).sum(-1), rmse(e, zero).square())


def test_boundary_points_of_boxes():
    e = torch.zeros(1, 1, 4, 5)
    e[..., 1:-1, 1:-1] = 7
    assert boundary_rmse(e, torch.zeros_like(e)).item() == 0
    e[..., 0, 2] = 2.0
    close(boundary_rmse(e, torch.zeros_like(e)), [[math.sqrt(4 / 14)]])


def test_correlation_is_that_of_numpy():
    p, u = torch.randn(2, 3, 2, 7, 5)
    found = correlation(p, u)
    for b in range(3):
        for c in range(2):
            expected = np.corrcoef(p[b, c].ravel(), u[b, c].ravel())[0, 1]
            np.testing.assert_allclose(found[b, c], expected, rtol=1e-10)
    assert correlation(torch.ones(1, 1, 4), torch.randn(1, 1, 4)).isnan().all()


def drifting(*values):
    """A trajectory (1, T, 1, 4) whose correlation with (1, -1, 1, -1) takes given values."""
    u, v = torch.tensor([1.0, -1, 1, -1]), torch.tensor([1.0, 1, -1, -1])
    p = torch.stack([c * u + math.sqrt(1 - c * c) * v for c in values])[None, :, None]
    return p, u.expand_as(p)


def test_correlation_time():
    times = torch.tensor([0.0, 0.5, 1.0, 1.5])
    assert correlation_time(*drifting(1, 0.9, 0.7, 0.9), times).tolist() == [1.0]
    assert correlation_time(*drifting(1, 0.9, 0.7, 0.9), times, threshold=0.95).tolist() == [0.5]
    assert correlation_time(*drifting(1, 0.9, 0.85, 0.81), times).tolist() == [1.5]
    assert correlation_time(*drifting(0, 0.9, 0.85, 0.81), times).tolist() == [0.0]
    p, u = drifting(1, 1, 1, 1)
    p[0, 2] = torch.nan
    assert correlation_time(p, u, times).tolist() == [1.0]
    with pytest.raises(ValueError, match=r"4 frames need as many times, got the shape \(3,\)"):
        correlation_time(p, u, times[:3])


def test_rollout_curve():
    u = torch.randn(3, 5, 2, 8)
    p = u + 0.1 * torch.randn_like(u)
    curve = rollout_curve(p, u, nrmse)
    assert curve.shape == (3, 5, 2)
    close(curve[:, 2], nrmse(p[:, 2], u[:, 2]))
    assert rollout_curve(p, u).shape == (3, 5)


def test_conservation_and_failures():
    u = torch.tensor([1.0, 1.0, 3.0]).reshape(1, 3, 1, 1).expand(1, 3, 1, 4)
    assert conservation_drift(u).flatten().tolist() == [0, 0, 2]
    p = torch.zeros(4, 2, 3)
    p[1, 0, 2], p[3, 1, 1] = torch.nan, torch.inf
    assert failure_rate(p) == 0.5
    assert rmse(p, torch.zeros_like(p))[1].isnan().tolist() == [True, False]


def test_computed_in_float64():
    u = 1e4 + torch.randn(1, 1, 100_000)
    expected = np.sqrt(np.mean(np.square((u + 1).numpy().astype(float) - u.numpy().astype(float))))
    np.testing.assert_allclose(rmse(u + 1, u).item(), expected, rtol=1e-12)
    assert rmse(u.half(), u.half()).dtype == torch.float64


def test_summary():
    assert summary(torch.tensor([[1.0, 2.0], [6.0, 3.0]])) == {"mean": 3.0, "median": 2.5, "worst": 6.0}


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: relative_l2(U, U[:, :1]),
            r"shape \(1, 2, 3\), the reference \(1, 1, 3\): bring both to the same",
        ),
        (lambda: rmse(U[0], U[0]), r"needed are \(B, C, \*space\), got the shape \(2, 3\)"),
        (lambda: relative_l2(U[0, 0], U[0, 0]), r"needed are \(B, ...\)"),
        (lambda: rmse(torch.zeros((1,) * 6), torch.zeros((1,) * 6)), "1 to 3 axes of space"),
        (lambda: rollout_curve(U, U), r"trajectories are \(B, T, C, \*space\), got the shape \(1, 2, 3\)"),
        (lambda: relative_h1(P, U, lengths=(1.0, 1.0)), "1 axes need as many lengths, got 2"),
        (
            lambda: fourier_rmse(P, U),
            r"\(3,\) points have no wave number in band 1 of \[0.0, 4, 12, inf\]: lower",
        ),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()
