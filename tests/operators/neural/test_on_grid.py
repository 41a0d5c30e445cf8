"""The contract of every member of the DeepONet family on grids."""

import copy
import json
import warnings

import pytest
import torch
from torch import nn

from solvus.operators.neural.base import NeuralOperator, WrongChannels, WrongResolution
from solvus.operators.neural.deeponet import DeepONetConfig, DeepONetOnGrid
from solvus.operators.neural.masked_deeponet import MaskedDeepONetConfig, MaskedDeepONetOnGrid
from solvus.operators.neural.mionet import MIONetConfig, MIONetOnGrid, PODMIONetConfig, PODMIONetOnGrid
from solvus.operators.neural.multionet import MultiONetConfig, MultiONetOnGrid
from solvus.operators.neural.on_grid import BoxSettings
from solvus.operators.neural.pod import PODDeepONetConfig, PODDeepONetOnGrid

SHAPE = {"in_channels": 2, "out_channels": 2, "size": (6, 5)}
SMALL = {**SHAPE, "branch": (8,)}


def fitted(net):
    net.fit_basis(torch.randn(12, 2, 6, 5, generator=torch.Generator().manual_seed(1)))
    return net


FAMILY = {
    "deeponet": lambda: DeepONetOnGrid(DeepONetConfig(**SMALL, trunk=(8,), features=4)),
    "mionet": lambda: MIONetOnGrid(MIONetConfig(**SMALL, trunk=(8,), features=4)),
    "multionet": lambda: MultiONetOnGrid(MultiONetConfig(**SHAPE, width=8, initial=1.0)),
    "masked": lambda: MaskedDeepONetOnGrid(
        MaskedDeepONetConfig(**SMALL, trunk=(8,), features=4, outside="zero")
    ),
    "pod": lambda: fitted(PODDeepONetOnGrid(PODDeepONetConfig(**SMALL, modes=4))),
    "pod mionet": lambda: fitted(PODMIONetOnGrid(PODMIONetConfig(**SMALL, modes=4))),
}


def faults(net, x):
    """What of the contract a network on a grid breaks."""
    found, y = [], net(x)
    if y.shape != (len(x), net.config.out_channels, *net.config.size):
        found.append("shape")
    if not torch.allclose(torch.cat([net(one[None]) for one in x]), y, atol=1e-5):
        found.append("batch differs from loop")
    net.zero_grad()
    y.square().sum().backward()
    if not all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters()):
        found.append("no gradient")
    again = type(net).from_settings(json.loads(json.dumps(net.settings())))
    again.load_state_dict(copy.deepcopy(net.state_dict()))
    if not torch.equal(again(x), y):
        found.append("other values after rebuilding")
    if not torch.allclose(copy.deepcopy(net).double()(x.double()).float(), y, atol=1e-4):
        found.append("other values in double precision")
    for wrong, error in ((x[:, :1], WrongChannels), (x[:, :, :-1], WrongResolution)):
        try:
            net(wrong)
            found.append(f"no {error.__name__}")
        except error:
            pass
    return found


def given():
    return torch.rand(3, 2, 6, 5, generator=torch.Generator().manual_seed(0)) + 0.1


@pytest.mark.parametrize("name", FAMILY)
def test_contract(name):
    torch.manual_seed(0)
    assert not faults(FAMILY[name](), given())


class Forgetful(NeuralOperator):
    """Wrong on purpose: an unused weight, a mean over the batch, state that is not saved, no check."""

    Config = DeepONetConfig
    dim = 2

    def __init__(self, config):
        super().__init__(config)
        self.used, self.unused = nn.Conv2d(2, 2, 1), nn.Linear(3, 3)
        self.hidden = torch.rand(1)

    def forward(self, x):
        return self.used(x[:, [0, -1]] - x.mean(0)) + self.hidden


def test_a_wrong_network_is_found():
    assert set(faults(Forgetful(DeepONetConfig(**SHAPE)), given())) == {
        "batch differs from loop",
        "no gradient",
        "other values after rebuilding",
        "no WrongChannels",
        "no WrongResolution",
    }


@pytest.mark.parametrize("name", FAMILY)
def test_export(name):
    net = FAMILY[name]().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        shapes = ({0: torch.export.Dim("batch", min=1)},)
        program = torch.export.export(net, (given(),), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(given()[:2]), net(given()[:2]))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_compile(name):
    net = FAMILY[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the compiler
        compiled = torch.compile(net, fullgraph=True)
        y = compiled(given())
        y.sum().backward()
    found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    expected = net(given())
    expected.sum().backward()
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, [p.grad for p in net.parameters()], rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore::DeprecationWarning")
def test_onnx():
    pytest.importorskip("onnxscript", reason="torch.onnx needs onnxscript")
    program = torch.onnx.export(FAMILY["deeponet"]().eval(), (given(),), dynamo=True)
    assert program is not None


@pytest.mark.parametrize("name", ["deeponet", "mionet", "multionet", "masked"])
def test_points_can_be_asked_for_anywhere_and_in_any_order(name):
    net, points = FAMILY[name](), torch.rand(11, 2)
    y, order = net.at(given(), points), torch.randperm(11)
    assert y.shape == (3, 2, 11)
    torch.testing.assert_close(net.at(given(), points[order]), y[..., order])
    torch.testing.assert_close(net.at(given(), points.expand(3, 11, 2)), y)


@pytest.mark.parametrize("name", ["deeponet", "mionet", "multionet", "masked"])
def test_coordinates_move_the_grid(name):
    net = FAMILY[name]()
    before, axes = net(given()), [(torch.arange(n) + 0.5) / n for n in (6, 5)]
    net.set_coordinates(axes)
    assert net.points[7].tolist() == pytest.approx([1.5 / 6, 2.5 / 5])
    assert (net(given()) - before).abs().max() > 1e-6


def test_the_box():
    assert BoxSettings().box(2) == ((0.0, 0.0), (1.0, 1.0))
    assert BoxSettings(lower=(1.0,), upper=(3.0,)).box(1) == ((1.0,), (3.0,))
