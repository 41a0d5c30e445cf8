"""MultiONet: the sum over layers, its count of parameters, what its zero weights do."""

import copy
import json

import pytest
import torch
from torch import nn

from solvus.operators.neural.base import WrongSettings, parameter_count
from solvus.operators.neural.deeponet import DeepONet
from solvus.operators.neural.layers.multilayer import Multilayer
from solvus.operators.neural.layers.trunk import Trunk
from solvus.operators.neural.multionet import MultiONet, MultiONetConfig, MultiONetOnGrid

WIDTHS = (8, 8, 6, 6)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def made(outputs=1, layers=3, initial=1.0):
    branch = Multilayer((5, *WIDTHS), "silu", last=True)
    net = MultiONet(branch, Trunk((2, *WIDTHS), "silu_sin"), outputs, layers=layers, initial=initial)
    if initial:
        nn.init.normal_(net.weights)
        nn.init.normal_(net.bias)
    return net


def by_hand(net, u, y, divide=True):
    """Layer after layer, as in the definition, with activations written out."""
    a, t, out = u, y, 0.0
    for number, (left, right) in enumerate(zip(net.branch.layers, net.trunk.dense.layers, strict=True)):
        a, t = left(a), right(t)
        a = a * torch.sigmoid(a)
        s = torch.sin(torch.pi * t + torch.pi)
        t = s * torch.sigmoid(s) + t
        k = number - (len(WIDTHS) - net.layers)
        if k >= 0:
            groups = a.reshape(len(a), net.outputs, -1), t.reshape(len(t), net.outputs, -1)
            out = out + net.weights[k] * torch.einsum("bcp,ncp->bnc", *groups)
    return out / (net.layers if divide else 1) + net.bias


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_formula(outputs, layers):
    net, u, y = made(outputs, layers), torch.randn(4, 5), torch.rand(7, 2)
    torch.testing.assert_close(net(u, y), by_hand(net, u, y) if outputs > 1 else by_hand(net, u, y)[..., 0])


def test_a_wrong_formula_is_found():
    net, u, y = made(), torch.randn(4, 5), torch.rand(7, 2)
    assert (net(u, y) - by_hand(net, u, y, divide=False)[..., 0]).abs().max() > 1e-2


def test_it_has_one_parameter_per_layer_more_than_the_deeponet():
    net = made(layers=3)
    plain = DeepONet(Multilayer((5, *WIDTHS)), Trunk((2, *WIDTHS)))
    assert parameter_count(net) == parameter_count(plain) + 3
    dense = sum(a * b + b for a, b in [(8, 8), (8, 6), (6, 6)])
    assert parameter_count(net) == 2 * dense + (5 * 8 + 8) + (2 * 8 + 8) + 1 + 3


def gradients(net):
    net.zero_grad()
    (net(torch.randn(4, 5), torch.rand(7, 2)) - 1).square().sum().backward()
    return {n for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def test_zero_weights_give_the_bias_and_train_themselves_first():
    net = made(initial=0.0)
    nn.init.constant_(net.bias, 0.3)
    assert torch.equal(net(torch.randn(4, 5), torch.rand(7, 2)), torch.full((4, 7), 0.3))
    assert gradients(net) == {"weights", "bias"}
    torch.optim.SGD(net.parameters(), 1e-3).step()
    assert gradients(net) == {n for n, _ in net.named_parameters()}


def test_every_parameter_gets_a_gradient_from_the_start_with_initial_one():
    net = made(initial=1.0)
    assert gradients(net) == {n for n, _ in net.named_parameters()}


def test_points_permute_align_and_may_differ_by_sample():
    net, u, y = made(2), torch.randn(4, 5), torch.rand(4, 2)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(net(u, y[order]), net(u, y)[:, order])
    torch.testing.assert_close(net.aligned(u, y), net(u, y)[torch.arange(4), torch.arange(4)])
    torch.testing.assert_close(net(u, y.expand(4, 4, 2)), net(u, y))


def test_wrong_parts_are_refused():
    branch = Multilayer((5, *WIDTHS), last=True)
    with pytest.raises(WrongSettings, match="equally deep and wide"):
        MultiONet(branch, Trunk((2, 8, 8, 6, 7)))
    with pytest.raises(WrongSettings, match="at least 1 and below 4"):
        MultiONet(branch, Trunk((2, *WIDTHS)), layers=4)
    with pytest.raises(WrongSettings, match="cannot be split into 4"):
        MultiONet(branch, Trunk((2, *WIDTHS)), 4, layers=2)
    with pytest.raises(WrongSettings, match="every layer is activated"):
        MultiONet(Multilayer((5, *WIDTHS)), Trunk((2, *WIDTHS)), layers=2)


@pytest.mark.parametrize(
    "config",
    [
        MultiONetConfig(1, 1, (9,), width=8, initial=1.0),
        MultiONetConfig(2, 2, (4, 5), width=8, depth=3, layers=2, fourier=1, periodic=True),
        MultiONetConfig(1, 1, (3, 4, 5), width=8, upper=(1.0, 2.0, 3.0)),
    ],
)
def test_on_grid_contract(config):
    net = MultiONetOnGrid(config)
    nn.init.normal_(net.net.weights)
    x = torch.randn(3, config.in_channels, *config.size)
    y = net(x)
    assert y.shape == (3, config.out_channels, *config.size)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    again = MultiONetOnGrid.from_settings(json.loads(json.dumps(net.settings())))
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x), y)
    torch.testing.assert_close(copy.deepcopy(net).double()(x.double()).float(), y, rtol=1e-4, atol=1e-4)
