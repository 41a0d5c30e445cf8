"""Dense layers, trunks and branches against torch's own layers and formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from solvus.operators.neural.base import WrongSettings
from solvus.operators.neural.layers.branch import BranchSettings, FieldBranch
from solvus.operators.neural.layers.multilayer import (
    ACTIVATIONS,
    Multilayer,
    SideBySide,
    output_width,
    silu_sin,
)
from solvus.operators.neural.layers.trunk import Trunk

MODULES = {"tanh": nn.Tanh, "gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("last", [False, True])
def test_multilayer_is_torchs_sequence(name, last):
    net, x = Multilayer((3, 8, 5, 2), name, last=last), torch.randn(4, 3)
    modules = [m for layer in net.layers for m in (layer, MODULES[name]())]
    plain = nn.Sequential(*(modules if last else modules[:-1]))
    torch.testing.assert_close(net(x), plain(x))
    other = nn.Sequential(*(modules[:-1] if last else modules))
    assert (net(x) - other(x)).abs().max() > 1e-4  # the wrong specimen: an activation too few, or too many


def test_every_layer_is_given_first_to_last():
    net, x = Multilayer((3, 8, 5, 2), "relu"), torch.randn(4, 3)
    values = net.every_layer(x)
    assert [v.shape[-1] for v in values] == [8, 5, 2]
    assert torch.equal(values[-1], net(x))
    assert torch.equal(values[0], F.relu(net.layers[0](x)))


def test_silu_sin_is_the_sum_of_its_input_and_a_wave():
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    s = torch.sin(math.pi * x + math.pi)
    torch.testing.assert_close(silu_sin(x), s / (1 + torch.exp(-s)) + x)
    assert ACTIVATIONS["silu_sin"] is silu_sin


@pytest.mark.parametrize("widths", [(3,), (3, 0), ()])
def test_wrong_widths_are_refused(widths):
    with pytest.raises(WrongSettings, match="two or more positive integers"):
        Multilayer(widths)


def test_wrong_names_are_refused():
    with pytest.raises(WrongSettings, match="no activation is called 'swish': choose one of tanh"):
        Multilayer((2, 2), "swish")
    with pytest.raises(WrongSettings, match="Linear does not say how many"):
        output_width(nn.Linear(2, 2))


def test_side_by_side_joins():
    parts = [Multilayer((3, 2)), Multilayer((3, 4))]
    x = torch.randn(5, 3)
    torch.testing.assert_close(SideBySide(parts)(x), torch.cat([p(x) for p in parts], 1))


@pytest.mark.parametrize("periodic", [False, True])
def test_features_of_a_trunk(periodic):
    trunk, y = Trunk((2, 8, 4), fourier=2, periodic=periodic), torch.rand(6, 2)
    columns = [] if periodic else [y]
    for k in (1, 2):
        columns += [torch.cos(2 * math.pi * k * y), torch.sin(2 * math.pi * k * y)]
    torch.testing.assert_close(trunk.features(y), torch.cat(columns, 1))
    assert trunk.dense.widths == (2 * (4 + (not periodic)), 8, 4)
    torch.testing.assert_close(
        trunk(y), F.gelu(trunk.dense.layers[-1](trunk.dense.every_layer(trunk.features(y))[0]))
    )


@pytest.mark.parametrize("wrong", [{"fourier": -1}, {"periodic": True}])
def test_wrong_features_are_refused(wrong):
    with pytest.raises(WrongSettings, match="wavenumbers"):
        Trunk((1, 4), **wrong)


@pytest.mark.parametrize("size", [(11,), (11, 9), (9, 7, 8)])
def test_convolutions_of_a_branch_are_torchs(size):
    settings = BranchSettings(2, 1, size, branch=(6,), filters=(3, 4), kernel=3, activation="tanh")
    branch, x = FieldBranch(settings, 2, 5), torch.randn(4, 2, *size)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(size) - 1]
    assert all(isinstance(c, kind) for c in branch.convolutions)
    a, b = branch.convolutions
    hidden = torch.tanh(b(torch.tanh(a(x)))).flatten(1)
    c, d = branch.dense.layers
    torch.testing.assert_close(branch(x), d(torch.tanh(c(hidden))))


def test_a_branch_without_filters_takes_all_sensors():
    branch, x = FieldBranch(BranchSettings(2, 1, (4, 3), branch=()), 2, 5), torch.randn(4, 2, 4, 3)
    torch.testing.assert_close(branch(x), branch.dense.layers[0](x.reshape(4, 24)))


def test_a_grid_too_small_for_the_convolutions_is_refused():
    with pytest.raises(WrongSettings, match="2 convolutions with kernel 5 and stride 2 leave nothing"):
        FieldBranch(BranchSettings(1, 1, (9, 9), filters=(4, 4)), 1, 5)
