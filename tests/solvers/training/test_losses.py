"""Losses against hand-computed arrays, dense formulas and the library's metrics."""

import math

import pytest
import torch

from solvus.datasets.loading.metrics import relative_h1, relative_l2
from solvus.operators.linear.errors import ShapeMismatch
from solvus.solvers.training.losses import (
    BandLimitedH1,
    MaskedMSE,
    Mixed,
    RelativeH1,
    RelativeL2,
    describe,
)

LOSSES = {
    "l2": RelativeL2(),
    "l2 per channel": RelativeL2(per_channel=True),
    "h1 open": RelativeH1(0.1),
    "h1 periodic": RelativeH1(0.1, "periodic", per_channel=True),
    "band": BandLimitedH1(3),
    "band radial": BandLimitedH1(3, radial=True),
    "masked": MaskedMSE(),
    "mixed": Mixed({RelativeL2(): 1.0, BandLimitedH1(3): 0.5}),
}


def fields(*shape, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))


@pytest.mark.parametrize("space", [(9,), (8, 7), (4, 5, 6)])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_contract(loss, space):
    p, y = fields(3, 2, *space)
    values = loss(p, y)
    assert values.shape == (3,)
    assert torch.allclose(loss(y, y), torch.zeros(3, dtype=y.dtype))
    assert torch.allclose(
        torch.cat([loss(p[i : i + 1], y[i : i + 1]) for i in range(3)]), values
    )  # batch = loop
    assert loss(p.half(), y.half()).dtype == torch.float32
    q = p.requires_grad_()
    loss(q, y).sum().backward()
    assert q.grad.abs().min() > 0
    perfect = y.clone().requires_grad_()
    loss(perfect, y).sum().backward()
    assert torch.isfinite(perfect.grad).all()
    assert torch.isfinite(loss(p, torch.zeros_like(y))).all()
    with pytest.raises(ShapeMismatch, match="must have one shape"):
        loss(p, y[:, :1])


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in ("masked", "mixed")])
def test_relative_losses_do_not_change_with_the_unit(name):
    p, y = fields(2, 1, 8, 8)
    assert torch.allclose(LOSSES[name](1e3 * p, 1e3 * y), LOSSES[name](p, y))
    assert not torch.allclose(MaskedMSE()(1e3 * p, 1e3 * y), MaskedMSE()(p, y))  # a wrong specimen


def test_l2_by_hand_and_by_the_metric():
    y = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    p = y + torch.tensor([[[0.3, 0.0], [0.0, 0.8]], [[1.0, 1.0], [0.0, 0.0]]])
    values = RelativeL2(epsilon=0.5)(p, y)
    assert torch.allclose(values, torch.tensor([math.sqrt(0.73) / 5, math.sqrt(2) / (0.5 * 2)]))
    assert torch.allclose(RelativeL2(per_channel=True)(p, y)[0], torch.tensor(0.15))  # (0.1 + 0.2) / 2
    p, y = fields(4, 2, 8, 9)
    assert torch.allclose(RelativeL2()(p, y), relative_l2(p, y))


def test_unequal_norms_do_not_mix():
    p, y = fields(2, 1, 16)
    scale = torch.tensor([1e-5, 1e5], dtype=torch.float64)[:, None, None]
    assert torch.allclose(RelativeL2()(p * scale, y * scale), RelativeL2()(p, y))


def test_h1_open_by_hand():
    y = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]]]])
    p = y + torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])  # jumps of 1 along the second axis alone, twice
    value = RelativeH1((1.0, 0.5))(p, y)
    assert torch.allclose(value, torch.tensor([math.sqrt((2 + 2 * 4) / 4)]))


def test_h1_periodic_is_the_metric():
    p, y = fields(3, 1, 12, 9)
    spacing = (2 * math.pi / 12, 2 * math.pi / 9)
    assert torch.allclose(RelativeH1(spacing, "periodic")(p, y), relative_h1(p, y)[:, 0])
    assert not torch.allclose(RelativeH1(spacing, "open")(p, y), relative_h1(p, y)[:, 0])


def test_h1_of_a_sine_and_mixed_axes():
    x = torch.arange(32, dtype=torch.float64) / 32
    e = torch.sin(2 * math.pi * 3 * x)[None, None, :, None].expand(1, 1, 32, 5)
    y = torch.ones(1, 1, 32, 5, dtype=torch.float64)
    value = RelativeH1((1 / 32, 0.25), ("periodic", "open"))(y + e, y)
    assert torch.allclose(
        value, torch.tensor([math.sqrt(0.5 * (1 + (6 * math.pi) ** 2))], dtype=torch.float64)
    )


def dense_band(p, y, cut, radial):
    """MgNO's norm from a full complex transform and a dense table of weights."""
    space = y.shape[2:]
    axes = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in space]
    k = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    if radial:
        k = torch.where(k.square().sum(0).sqrt() >= cut, 0.0, k)
    else:
        k = torch.where(k.abs() >= cut, 0.0, k)
    w = torch.sqrt(1 + k.square().sum(0))
    dims = tuple(range(2, y.ndim))
    norm = lambda v: (w * torch.fft.fftn(v, dim=dims, norm="ortho")).abs().square().flatten(1).sum(1).sqrt()  # noqa: E731
    return norm(p - y) / norm(y)


@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize("space", [(10,), (9, 8), (8, 9), (5, 6, 4)])
def test_band_limited_h1_is_the_dense_formula(space, radial):
    p, y = fields(2, 2, *space)
    for cut in (0.5, 3, 100):
        value = BandLimitedH1(cut, radial)(p, y)
        assert torch.allclose(value, dense_band(p, y, cut, radial))
    assert torch.allclose(BandLimitedH1(0.5)(p, y), RelativeL2()(p, y))  # nothing is weighted
    if len(space) > 1:
        assert not torch.allclose(BandLimitedH1(2, radial)(p, y), dense_band(p, y, 2, not radial))


def test_masked_values_have_no_part():
    y = torch.tensor([[[1.0, math.nan, 3.0]], [[math.nan] * 3]])
    p = torch.tensor([[[0.0, 7.0, 0.0]], [[1.0] * 3]], requires_grad=True)
    values = MaskedMSE()(p, y)
    assert values.tolist() == [5.0, 0.0]
    values.sum().backward()
    assert torch.equal(p.grad, torch.tensor([[[-1.0, 0.0, -3.0]], [[0.0] * 3]]))


def test_settings_are_checked_and_told():
    with pytest.raises(ValueError, match="positive"):
        RelativeH1(0.0)
    with pytest.raises(ValueError, match="'open' or 'periodic'"):
        RelativeH1(0.1, "reflecting")
    with pytest.raises(ShapeMismatch, match="1 axes"):
        RelativeH1((0.1, 0.1))(*fields(1, 1, 8))
    with pytest.raises(ValueError, match="at least one"):
        Mixed({})
    assert describe(Mixed({RelativeL2(): 0.5})) == "Mixed(0.5 RelativeL2(per_channel=False, epsilon=1e-08))"
    assert describe(fields) == "fields"
