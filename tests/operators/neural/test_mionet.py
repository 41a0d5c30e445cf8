"""MIONet: one branch is DeepONet bit for bit; merges against formulas; POD-MIONet."""

import copy
import json

import pytest
import torch
from torch import nn

from solvus.operators.neural.base import WrongResolution, WrongSettings
from solvus.operators.neural.deeponet import DeepONet, DeepONetConfig, DeepONetOnGrid
from solvus.operators.neural.layers.multilayer import Multilayer
from solvus.operators.neural.layers.trunk import Trunk
from solvus.operators.neural.mionet import (
    MergedBranches,
    MIONet,
    MIONetConfig,
    MIONetOnGrid,
    PODMIONetConfig,
    PODMIONetOnGrid,
)
from solvus.operators.neural.pod import NoBasis

SENSORS, P = (7, 5, 3), 6
INPUTS = [torch.randn(4, m, generator=torch.Generator().manual_seed(m)) for m in SENSORS]
POINTS = torch.rand(9, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def branches():
    return [Multilayer((m, 8, P)) for m in SENSORS]


def expected(net, how):
    b = [branch(u) for branch, u in zip(net.branch.branches, INPUTS, strict=True)]
    t = net.trunk(POINTS)
    if how == "mul":
        return torch.einsum("bp,bp,bp,np->bn", *b, t) + net.bias
    if how == "add":
        return sum(torch.einsum("bp,np->bn", one, t) for one in b) + net.bias
    return torch.einsum("bp,np->bn", torch.cat(b, 1), t) + net.bias


def made(how):
    width = P * len(SENSORS) if how == "cat" else P
    net = MIONet(MergedBranches(branches(), how), Trunk((2, 8, width)))
    nn.init.normal_(net.bias)
    return net


@pytest.mark.parametrize("how", ["mul", "add", "cat"])
def test_merges_agree_with_their_formulas(how):
    net = made(how)
    torch.testing.assert_close(net(INPUTS, POINTS), expected(net, how))


def test_a_wrong_merge_is_found():
    net = made("mul")
    assert (net(INPUTS, POINTS) - expected(net, "add")).abs().max() > 1e-2


@pytest.mark.parametrize("outputs", [1, 2])
def test_one_branch_is_deeponet_bit_for_bit(outputs):
    branch, trunk = Multilayer((7, 8, outputs * P)), Trunk((2, 8, P))
    one, other = MIONet(MergedBranches([branch]), trunk, outputs), DeepONet(branch, trunk, outputs)
    assert torch.equal(one(INPUTS[:1], POINTS), other(INPUTS[0], POINTS))


def test_one_channel_on_a_grid_is_deeponet_bit_for_bit():
    shared = {"in_channels": 1, "out_channels": 2, "size": (6, 5), "features": 4}
    one, other = MIONetOnGrid(MIONetConfig(**shared)), DeepONetOnGrid(DeepONetConfig(**shared))
    names = [n.replace("branch.branches.0.", "branch.") for n in one.state_dict()]
    other.load_state_dict(dict(zip(names, one.state_dict().values(), strict=True)))
    x = torch.randn(3, 1, 6, 5)
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("how", ["mul", "add", "cat"])
def test_every_parameter_gets_a_gradient(how):
    net = made(how)
    net(INPUTS, POINTS).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_mergers_after_the_merge_and_of_the_output():
    merger = Multilayer((3 * P, 16, 10))
    output = Multilayer((10, 8, 2))
    net = MIONet(MergedBranches(branches(), "cat", merger), Trunk((2, 10)), 2, output_merger=output)
    b = merger(torch.cat([f(u) for f, u in zip(net.branch.branches, INPUTS, strict=True)], 1))
    by_hand = output(b[:, None] * net.trunk(POINTS)[None]) + net.bias
    torch.testing.assert_close(net(INPUTS, POINTS), by_hand)
    net(INPUTS, POINTS).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_points_permute_and_align():
    net, order = made("mul"), torch.randperm(9)
    torch.testing.assert_close(net(INPUTS, POINTS[order]), net(INPUTS, POINTS)[:, order])
    torch.testing.assert_close(net.aligned(INPUTS, POINTS[:4]), net(INPUTS, POINTS[:4]).diagonal())


def test_wrong_parts_are_refused():
    with pytest.raises(WrongSettings, match="make them equal"):
        MergedBranches([Multilayer((3, 4)), Multilayer((3, 5))])
    with pytest.raises(WrongSettings, match="one of mul, add, cat"):
        MergedBranches(branches(), "max")
    with pytest.raises(WrongSettings, match="merge 0 branches"):
        MergedBranches([])
    with pytest.raises(WrongSettings, match="3 branches take as many inputs, got 2"):
        made("mul")(INPUTS[:2], POINTS)
    with pytest.raises(WrongSettings, match="do not make"):
        MIONet(MergedBranches(branches(), "cat"), Trunk((2, P)))
    with pytest.raises(WrongSettings, match="an output merger takes equal widths"):
        MIONet(MergedBranches(branches()), Trunk((2, P)), 2, output_merger=Multilayer((P, 1)))
    with pytest.raises(WrongSettings, match="does not say how many"):
        MergedBranches([nn.Linear(3, 4)])


# --- on grids -----------------------------------------------------------------------------------------------

CONFIGS = {
    "mul": MIONetConfig(3, 1, (8,), groups=(1, 2), branch=(8,), features=4),
    "add": MIONetConfig(2, 2, (4, 5), branch=(8,), features=4, merge="add", fourier=1),
    "cat": MIONetConfig(2, 2, (7, 7), branch=(8,), features=4, merge="cat", filters=(2,), kernel=3),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_on_grid_contract(name):
    config = CONFIGS[name]
    net = MIONetOnGrid(config)
    x = torch.randn(3, config.in_channels, *config.size)
    y = net(x)
    assert y.shape == (3, config.out_channels, *config.size)
    torch.testing.assert_close(net.at(x, net.points).unflatten(-1, config.size), y)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    again = MIONetOnGrid.from_settings(json.loads(json.dumps(net.settings())))
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x), y)
    torch.testing.assert_close(copy.deepcopy(net).double()(x.double()).float(), y, rtol=1e-4, atol=1e-5)


def test_each_branch_sees_its_own_channels():
    net = MIONetOnGrid(CONFIGS["mul"])
    seen = []
    for branch in net.net.branch.branches:
        branch.register_forward_hook(lambda m, inputs, out: seen.append(inputs[0]))
    x = torch.randn(2, 3, 8)
    net(x)
    assert torch.equal(seen[0], x[:, :1])
    assert torch.equal(seen[1], x[:, 1:])


def test_wrong_groups_are_refused():
    with pytest.raises(WrongSettings, match="do not share out 3 input channels"):
        MIONetOnGrid(MIONetConfig(3, 1, (8,), groups=(1, 1)))
    with pytest.raises(WrongSettings, match="cannot be shared out to 3 joined branches"):
        MIONetOnGrid(MIONetConfig(3, 1, (8,), features=4, merge="cat"))


@pytest.mark.parametrize("merge", ["mul", "cat"])
def test_pod_mionet(merge):
    config = PODMIONetConfig(2, 2, (4, 5), branch=(8,), modes=3, merge=merge)
    net, x = PODMIONetOnGrid(config), torch.randn(3, 2, 4, 5)
    with pytest.raises(NoBasis):
        net(x)
    net.fit_basis(torch.randn(10, 2, 4, 5))
    a = [f(x[:, i : i + 1]) for i, f in enumerate(net.net.branch.branches)]
    merged = (a[0] * a[1] if merge == "mul" else torch.cat(a, 1)).reshape(3, 2, 3)
    basis = net.net.basis
    by_hand = torch.einsum("bcq,cnq->bcn", merged, basis.vectors) / 3 + basis.mean
    torch.testing.assert_close(net(x).flatten(2), by_hand)
    net(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    again = PODMIONetOnGrid.from_settings(json.loads(json.dumps(net.settings())))
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x), net(x))
    with pytest.raises(WrongResolution):
        net(torch.ones(1, 2, 8, 5))
