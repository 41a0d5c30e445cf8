"""Masked DeepONet: the loss sees the domain only, nothing leaks out of it, coefficients count once."""

import copy
import json

import pytest
import torch

from solvus.operators.linear.errors import ShapeMismatch
from solvus.operators.neural.base import WrongSettings, parameter_count
from solvus.operators.neural.deeponet import DeepONet
from solvus.operators.neural.layers.multilayer import Multilayer
from solvus.operators.neural.layers.trunk import Trunk
from solvus.operators.neural.masked_deeponet import (
    MaskedDeepONet,
    MaskedDeepONetConfig,
    MaskedDeepONetOnGrid,
    masked_square,
)

N = 9
POINTS = torch.linspace(0, 1, N)[:, None]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def made(outside="nan", outputs=1, coefficients=2):
    branch = Multilayer((N + N + coefficients, 8, 4 * outputs))
    return MaskedDeepONet(DeepONet(branch, Trunk((1, 8, 4)), outputs), outside=outside)


def masks(batch=3):
    mask = torch.ones(batch, N)
    for i in range(batch):
        mask[i, N - 1 - i :] = 0
    return mask


def naive(prediction, target, mask):
    """Multiplication by the mask: right for finite values, wrong for NaN outside."""
    return (mask * (prediction - target).square()).sum(1) / mask.sum(1)


def test_loss_agrees_with_its_formula():
    p, y, m = torch.randn(3, N), torch.randn(3, N), masks()
    torch.testing.assert_close(masked_square(p, y, m), naive(p, y, m))


def test_values_outside_do_not_change_the_loss():
    p, y, m = torch.randn(3, N), torch.randn(3, N), masks()
    loss = masked_square(p, y, m)
    for value in (0.0, 1e30, float("nan"), float("inf")):
        assert torch.equal(masked_square(p.masked_fill(m == 0, value), y, m), loss)
        assert torch.equal(masked_square(p, y.masked_fill(m == 0, value), m), loss)
    assert naive(p.masked_fill(m == 0, float("nan")), y, m).isnan().all()  # the wrong specimen


def test_loss_does_not_depend_on_the_share_of_masked_points():
    few, many = torch.zeros(1, 100), torch.zeros(1, 100)
    few[:, :10], many[:, :90] = 1, 1
    p, y = torch.full((1, 100), 3.0), torch.ones(1, 100)
    assert masked_square(p, y, few) == masked_square(p, y, many) == 4


def test_loss_of_fields_stretches_the_mask_over_channels():
    p, y = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    m = (torch.rand(2, 1, 4, 5) > 0.4).float()
    expected = (m * (p - y).square()).sum((1, 2, 3)) / (3 * m.sum((1, 2, 3)))
    torch.testing.assert_close(masked_square(p, y, m), expected)


def test_an_empty_domain_gives_zero():
    assert masked_square(torch.ones(1, 4), torch.zeros(1, 4), torch.zeros(1, 4)) == 0


@pytest.mark.parametrize("outside", ["nan", "zero"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_outputs_outside_are_hidden_and_inside_are_those_of_the_network(outside, outputs):
    net, u, m, c = made(outside, outputs), torch.randn(3, N), masks(), torch.randn(3, 2)
    y, plain = net(u, m, POINTS, c), net.net(torch.cat([u, m, c], 1), POINTS)
    assert torch.equal(y[m > 0], plain[m > 0])
    hidden = y[m == 0]
    assert hidden.isnan().all() if outside == "nan" else (hidden == 0).all()


@pytest.mark.parametrize("outside", ["nan", "zero"])
def test_points_outside_carry_no_gradient(outside):
    net, u, m, target = made(outside, coefficients=0), torch.randn(3, N), masks(), torch.randn(3, N)
    masked_square(net(u, m, POINTS), target, m).sum().backward()
    found = [p.grad.clone() for p in net.parameters()]
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in found)
    net.zero_grad()
    masked_square(net(u, m, POINTS), target.masked_fill(m == 0, 1e6), m).sum().backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), found, strict=True))


def test_other_points_need_their_own_mask():
    net, u, m = made("zero", coefficients=0), torch.randn(3, N), masks()
    with pytest.raises(ShapeMismatch, match=r"give inside=\(B, N\)"):
        net(u, m, POINTS[:4])
    torch.testing.assert_close(net(u, m, POINTS[:4], inside=m[:, :4]), net(u, m, POINTS)[:, :4])


def test_coefficients_and_mask_change_the_prediction():
    net, u, m = made("zero"), torch.randn(3, N), masks()
    y = net(u, m, POINTS, torch.zeros(3, 2))
    assert (net(u, m, POINTS, torch.ones(3, 2)) - y).abs().max() > 1e-3
    smaller = m.clone()
    smaller[:, 4:] = 0
    assert (net(u, smaller, POINTS, torch.zeros(3, 2)) - y)[:, :4].abs().max() > 1e-3


def test_wrong_settings_are_refused():
    with pytest.raises(WrongSettings, match="outside is one of nan, zero, got 'inf'"):
        made("inf")
    with pytest.raises(WrongSettings, match="outside is one of"):
        MaskedDeepONetConfig(2, 1, (8,), outside="none")
    with pytest.raises(WrongSettings, match="the last of 2 input channels is the mask"):
        MaskedDeepONetConfig(2, 1, (8,), coefficients=2)


# --- on grids -----------------------------------------------------------------------------------------------

CONFIGS = {
    "1d": MaskedDeepONetConfig(2, 1, (9,), branch=(8,), features=4, outside="zero"),
    "2d coefficients": MaskedDeepONetConfig(
        4, 2, (4, 5), branch=(8,), features=4, coefficients=2, outside="zero"
    ),
    "2d convolution": MaskedDeepONetConfig(
        3, 1, (6, 5), branch=(8,), filters=(2,), kernel=3, features=4, coefficients=1, outside="zero"
    ),
    "3d": MaskedDeepONetConfig(2, 1, (3, 4, 3), branch=(8,), features=4, outside="zero"),
}


def grid_input(config, batch=3):
    x = torch.randn(batch, config.in_channels, *config.size)
    first = config.in_channels - 1 - config.coefficients
    for i in range(first, config.in_channels - 1):
        x[:, i] = torch.randn(batch).view(-1, *[1] * len(config.size))
    x[:, -1] = (torch.rand(batch, *config.size) > 0.3).float()
    return x


@pytest.mark.parametrize("name", CONFIGS)
def test_on_grid_contract(name):
    config = CONFIGS[name]
    net, x = MaskedDeepONetOnGrid(config), grid_input(config)
    y, inside = net(x), x[:, -1:] > 0
    assert y.shape == (3, config.out_channels, *config.size)
    assert (y.masked_select(~inside) == 0).all()
    plain = net.at(x, net.points).unflatten(-1, config.size)
    assert torch.equal(y.masked_select(inside), plain.masked_select(inside))
    masked_square(y, torch.ones_like(y), inside).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    again = MaskedDeepONetOnGrid.from_settings(json.loads(json.dumps(net.settings())))
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x), y)
    torch.testing.assert_close(copy.deepcopy(net).double()(x.double()).float(), y, rtol=1e-4, atol=1e-5)


def test_a_coefficient_is_one_number_of_the_branch():
    with_two, without = (
        MaskedDeepONetOnGrid(MaskedDeepONetConfig(2 + c, 1, (4, 5), branch=(8,), features=4, coefficients=c))
        for c in (2, 0)
    )
    assert parameter_count(with_two) == parameter_count(without) + 2 * 8


def test_the_branch_takes_field_mask_and_coefficients_in_order():
    config = CONFIGS["2d coefficients"]
    x = grid_input(config)
    numbers = MaskedDeepONetOnGrid(config).numbers(x)
    expected = torch.cat([x[:, 0].flatten(1), x[:, 3].flatten(1), x[:, 1, 0, :1], x[:, 2, 0, :1]], 1)
    assert torch.equal(numbers, expected)


def test_a_mask_shifted_and_scaled_by_its_channel_is_still_the_mask():
    net, x = MaskedDeepONetOnGrid(CONFIGS["1d"]), grid_input(CONFIGS["1d"])
    inside = x[:, -1:] > 0
    x[:, -1] = (x[:, -1] - x[:, -1].mean()) / x[:, -1].std()
    assert torch.equal(net(x) != 0, inside)
