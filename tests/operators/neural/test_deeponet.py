"""DeepONet: formulas, sharing between outputs, parameter counts, points, the bridge to grids."""

import copy
import json

import pytest
import torch
from torch import nn

from solvus.operators.linear.errors import ShapeMismatch
from solvus.operators.neural.base import WrongChannels, WrongResolution, WrongSettings, parameter_count
from solvus.operators.neural.deeponet import (
    STRATEGIES,
    DeepONet,
    DeepONetConfig,
    DeepONetOnGrid,
    basis_size,
    contract,
)
from solvus.operators.neural.layers.multilayer import Multilayer, SideBySide
from solvus.operators.neural.layers.trunk import Trunk

C, P = 3, 5


def seeded(shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def parts(strategy, outputs=C):
    """Branch and trunk of a strategy; 7 sensors, points in the plane."""
    if strategy == "independent":
        return (
            SideBySide([Multilayer((7, 8, P)) for _ in range(outputs)]),
            SideBySide([Trunk((2, 8, P)) for _ in range(outputs)]),
        )
    left = P if strategy == "split_trunk" else outputs * P
    right = P if strategy == "split_branch" else outputs * P
    return Multilayer((7, 8, left)), Trunk((2, 8, right))


def by_hand(net, sensors, points, strategy):
    """Sums of products, one output, sample and point at a time."""
    b, t = net.branch(sensors), net.trunk(points)
    out = torch.zeros(len(sensors), len(points), C)
    for i in range(len(sensors)):
        for j in range(len(points)):
            for c in range(C):
                left = b[i] if strategy == "split_trunk" else b[i, c * P : (c + 1) * P]
                right = t[j] if strategy == "split_branch" else t[j, c * P : (c + 1) * P]
                out[i, j, c] = (left * right).sum() + net.bias[c]
    return out


def disagreement(net, strategy):
    sensors, points = seeded((4, 7)), seeded((6, 2), 1)
    return (net(sensors, points) - by_hand(net, sensors, points, strategy)).abs().max().item()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_outputs_are_the_sums_of_products(strategy):
    net = DeepONet(*parts(strategy), C)
    nn.init.normal_(net.bias)
    assert disagreement(net, strategy) < 1e-5


def test_a_wrong_sharing_is_found():
    net = DeepONet(*parts("split_both"), C)
    sensors, points = seeded((4, 7)), seeded((6, 2), 1)
    b, t = net.branch(sensors).unflatten(-1, (P, C)), net.trunk(points).unflatten(-1, (P, C))
    interleaved = torch.einsum("bpc,npc->bnc", b, t)
    assert (interleaved - by_hand(net, sensors, points, "split_both")).abs().max() > 1e-2


def test_independent_outputs_do_not_share_weights():
    net = DeepONet(*parts("independent"), C)
    net(seeded((4, 7)), seeded((6, 2)))[..., 1].sum().backward()
    moved = [p.grad.abs().max() > 0 for p in net.branch.networks[0].parameters()]
    assert not any(moved)
    assert all(p.grad.abs().max() > 0 for p in net.branch.networks[1].parameters())


@pytest.mark.parametrize("outputs", [1, C])
def test_shapes_and_agreement_of_the_three_ways_to_give_points(outputs):
    net = DeepONet(*parts("split_branch", outputs), outputs)
    sensors, points = seeded((4, 7)), seeded((4, 2), 1)
    product = net(sensors, points)
    assert product.shape == ((4, 4) if outputs == 1 else (4, 4, C))
    aligned = net.aligned(sensors, points)
    assert aligned.shape == ((4,) if outputs == 1 else (4, C))
    torch.testing.assert_close(aligned, product[torch.arange(4), torch.arange(4)])
    torch.testing.assert_close(net(sensors, points.expand(4, 4, 2)), product)


def test_points_for_other_samples_are_refused():
    net = DeepONet(*parts("split_both", 1))
    with pytest.raises(ShapeMismatch, match="points are given for 3 samples, sensors for 4"):
        net(seeded((4, 7)), seeded((3, 9, 2)))


def test_permuted_points_permute_outputs():
    net = DeepONet(*parts("split_trunk"), C)
    sensors, points, order = seeded((4, 7)), seeded((6, 2)), torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(net(sensors, points[order]), net(sensors, points)[:, order])


def test_the_trunk_is_evaluated_once_per_batch():
    net, calls = DeepONet(*parts("split_both", 1)), []
    net.trunk.register_forward_hook(lambda m, inputs, out: calls.append(inputs[0].shape))
    net(seeded((4, 7)), seeded((6, 2)))
    assert calls == [(6, 2)]


def test_parameter_count_of_the_published_burgers_network():
    # 128 sensors, branch five layers of 128; cos and sin of 2 pi x and 4 pi x, trunk three layers of 128
    branch = 5 * (128 * 128 + 128)
    trunk = (4 * 128 + 128) + 2 * (128 * 128 + 128)
    config = DeepONetConfig(
        1, 1, (128,), branch=(128,) * 4, trunk=(128, 128), activation="tanh", fourier=2, periodic=True
    )
    assert parameter_count(DeepONetOnGrid(config)) == branch + trunk + 1 == 116_225


def test_parameter_count_of_the_published_darcy_branch():
    # 29 -> 13 -> 5 points, 64 and 128 filters of 5 x 5, dense 128, p = 128; trunk 2-128-128
    convolutions = (25 * 1 * 64 + 64) + (25 * 64 * 128 + 128)
    dense = (5 * 5 * 128 * 128 + 128) + (128 * 128 + 128)
    trunk = (2 * 128 + 128) + (128 * 128 + 128)
    config = DeepONetConfig(1, 1, (29, 29), branch=(128,), filters=(64, 128), trunk=(128,), activation="relu")
    assert parameter_count(DeepONetOnGrid(config)) == convolutions + dense + trunk + 1


@pytest.mark.parametrize(("b", "t", "outputs"), [(6, 4, 1), (6, 4, 2), (7, 7, 2), (6, 3, 0)])
def test_widths_that_do_not_fit_are_refused(b, t, outputs):
    with pytest.raises(WrongSettings, match="do not make"):
        basis_size(b, t, outputs)


def test_contract_takes_any_sharing():
    assert contract(torch.ones(2, 3), torch.ones(4, 6), 2).shape == (2, 2, 4)
    assert contract(torch.ones(2, 3), torch.ones(2, 4, 3), 1).shape == (2, 1, 4)


# --- on grids -----------------------------------------------------------------------------------------------

CONFIGS = {
    "1d": DeepONetConfig(2, 1, (9,), trunk=(8,), features=4),
    "2d independent": DeepONetConfig(
        1, 2, (5, 6), branch=(8,), trunk=(8,), features=4, strategy="independent"
    ),
    "2d convolution": DeepONetConfig(2, 2, (9, 8), filters=(3, 4), kernel=3, branch=(), features=4),
    "3d": DeepONetConfig(1, 2, (3, 4, 5), branch=(8,), trunk=(8,), features=4, strategy="split_trunk"),
    "3d convolution": DeepONetConfig(1, 1, (5, 4, 6), filters=(2,), kernel=3, features=4, activation="relu"),
    "periodic": DeepONetConfig(1, 2, (8, 8), fourier=2, periodic=True, features=4, strategy="split_both"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_on_grid_contract(name):
    config = CONFIGS[name]
    net = DeepONetOnGrid(config)
    x = seeded((3, config.in_channels, *config.size))
    y = net(x)
    assert y.shape == (3, config.out_channels, *config.size)
    torch.testing.assert_close(net.at(x, net.points).unflatten(-1, config.size), y)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    double = copy.deepcopy(net).double()
    torch.testing.assert_close(double(x.double()).float(), y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([net(one[None]) for one in x]), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_is_rebuilt_from_json_and_state(name):
    net = DeepONetOnGrid(CONFIGS[name])
    net.set_coordinates([torch.rand(n).sort().values for n in net.config.size])
    again = DeepONetOnGrid.from_settings(json.loads(json.dumps(net.settings())))
    again.load_state_dict(net.state_dict())
    x = seeded((2, net.config.in_channels, *net.config.size))
    assert torch.equal(again(x), net(x))


def test_grid_values_are_those_of_the_points_in_row_order():
    net = DeepONetOnGrid(DeepONetConfig(1, 1, (3, 4), lower=(0.0, 2.0), upper=(1.0, 8.0)))
    assert net.points[1].tolist() == [0.0, 4.0]
    x = seeded((2, 1, 3, 4))
    value = net.at(x, torch.tensor([[0.5, 6.0]]))
    torch.testing.assert_close(net(x)[:, :, 1, 2], value[..., 0])
    one_box = net.net(x, torch.tensor([[0.5, 4 / 6]]))
    torch.testing.assert_close(value[:, 0], one_box)


def test_a_periodic_output_has_the_period_of_the_box():
    net = DeepONetOnGrid(DeepONetConfig(1, 1, (8,), lower=(-1.0,), upper=(3.0,), fourier=3, periodic=True))
    torch.testing.assert_close(net.points[:, 0], torch.arange(8) * 0.5 - 1)
    x, y = seeded((2, 1, 8)), torch.rand(5, 1)
    torch.testing.assert_close(net.at(x, y + 4), net.at(x, y), rtol=0, atol=1e-5)
    other = DeepONetOnGrid(DeepONetConfig(1, 1, (8,), lower=(-1.0,), upper=(3.0,), fourier=3))
    assert (other.at(x, y + 4) - other.at(x, y)).abs().max() > 1e-3


def test_other_grids_channels_and_points_are_refused():
    net = DeepONetOnGrid(CONFIGS["2d independent"])
    with pytest.raises(WrongResolution, match=r"sensors, a grid of 5 x 6 points, got 10 x 6: resample"):
        net(torch.ones(1, 1, 10, 6))
    with pytest.raises(WrongChannels):
        net(torch.ones(1, 2, 5, 6))
    with pytest.raises(WrongResolution, match=r"points are \(N, 2\)"):
        net.at(torch.ones(1, 1, 5, 6), torch.ones(4, 3))
    with pytest.raises(WrongResolution, match="got coordinates for"):
        net.set_coordinates([torch.linspace(0, 1, 5), torch.linspace(0, 1, 5)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "split"}, "strategy is one of"),
        ({"activation": "swish"}, "no activation"),
        ({"periodic": True}, "wavenumbers"),
        ({"filters": (4, 4), "kernel": 9}, "leave nothing"),
        ({"lower": (1.0, 1.0)}, "no corners of a box"),
        ({"size": (2, 2, 2, 2)}, "1 to 3 axes"),
        ({"in_channels": 0}, "1 or more"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(WrongSettings, match=message):
        DeepONetOnGrid(DeepONetConfig(**{"in_channels": 1, "out_channels": 1, "size": (12, 12), **changes}))


def test_a_few_steps_learn_an_antiderivative():
    grid = torch.linspace(0, 1, 16)
    amplitudes = seeded((32, 4))
    k = torch.arange(1, 5)[:, None] * torch.pi
    u, y = amplitudes @ torch.cos(k * grid), amplitudes @ (torch.sin(k * grid) / k)
    net = DeepONetOnGrid(DeepONetConfig(1, 1, (16,), branch=(32,), trunk=(32, 32), features=16))
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    losses = []
    for _ in range(300):
        optimiser.zero_grad()
        loss = (net(u[:, None]) - y[:, None]).square().mean() / y.square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.03 < 0.5 < losses[0]
