"""POD: the basis against NumPy, the published scaling, no leak, refusal of other grids, saved buffers."""

import copy
import json

import numpy as np
import pytest
import torch

from solvus.operators.neural.base import WrongResolution, WrongSettings, parameter_count
from solvus.operators.neural.layers.multilayer import Multilayer
from solvus.operators.neural.pod import (
    NoBasis,
    PODBasis,
    PODDeepONet,
    PODDeepONetConfig,
    PODDeepONetOnGrid,
)

CONFIG = PODDeepONetConfig(2, 2, (5, 4), branch=(8,), modes=3)


def fields(samples, channels=1, points=20, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(samples, channels, points, generator=g, dtype=torch.float64).cumsum(-1)


def fitted(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    net = PODDeepONetOnGrid(config)
    net.fit_basis(torch.randn(12, config.out_channels, *config.size))
    return net


def oracle(Y, q):
    """Best approximations of rows in q modes about the mean, by NumPy's SVD."""
    mean = Y.mean(0)
    _, _, Vt = np.linalg.svd(Y - mean, full_matrices=False)
    return (Y - mean) @ Vt[:q].T @ Vt[:q] + mean


def test_projection_agrees_with_numpy_for_every_channel():
    Y = fields(15, channels=2)
    basis = PODBasis.from_training(Y, modes=4)
    rebuilt = basis(basis.coefficients(Y))
    for c in range(2):
        np.testing.assert_allclose(rebuilt[:, c].numpy(), oracle(Y[:, c].numpy(), 4), atol=1e-10)


def test_scaling_is_the_published_one():
    Y = fields(15)
    basis = PODBasis.from_training(Y, modes=4)
    gram = basis.vectors[0].mT @ basis.vectors[0]
    torch.testing.assert_close(gram, 20 * torch.eye(4, dtype=torch.float64))
    coefficients = torch.randn(3, 4, dtype=torch.float64)
    expected = coefficients @ basis.vectors[0].mT / 4 + Y[:, 0].mean(0)
    torch.testing.assert_close(basis(coefficients)[:, 0], expected)


def test_a_wrong_scaling_is_found():
    basis = PODBasis.from_training(fields(15), modes=4)
    basis.vectors /= 20**0.5
    assert not torch.allclose(basis.vectors[0].mT @ basis.vectors[0], 20 * torch.eye(4, dtype=torch.float64))


def test_modes_by_energy_are_the_fewest():
    Y = fields(30)
    s = np.linalg.svd((Y - Y.mean(0))[:, 0].numpy(), compute_uv=False)
    share = np.cumsum(s**2) / np.sum(s**2)
    for energy in (0.5, 0.9, 0.999):
        assert PODBasis.from_training(Y, energy=energy).modes == int(np.argmax(share >= energy)) + 1


def test_energy_one_needs_all_modes_of_the_rank():
    low = fields(30)[:, :, :3] @ torch.randn(3, 20, dtype=torch.float64)
    assert PODBasis.from_training(low, energy=1 - 1e-10).modes == 3


def test_every_channel_keeps_its_share():
    smooth = torch.linspace(0, 1, 20, dtype=torch.float64) * fields(30)[:, :, :1]
    both = torch.cat([smooth, fields(30)], 1)
    assert PODBasis.from_training(smooth, energy=0.999).modes == 1
    alone = PODBasis.from_training(fields(30), energy=0.999).modes
    assert PODBasis.from_training(both, energy=0.999).modes == alone > 1


def test_the_basis_depends_on_training_outputs_only():
    train, test = fields(15), fields(15, seed=1)
    basis = PODBasis.from_training(train, modes=4)
    leaked = PODBasis.from_training(torch.cat([train, test]), modes=4)
    error = [(b(b.coefficients(test)) - test).norm() for b in (basis, leaked)]
    assert error[1] < error[0]  # what a leak would look like
    before = basis.vectors.clone()
    basis.coefficients(test)
    assert torch.equal(before, basis.vectors)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, "either modes or energy"),
        ({"modes": 2, "energy": 0.9}, "either modes or energy"),
        ({"modes": 5}, "at most 4 modes"),
        ({"modes": 0}, "asked for 0"),
        ({"energy": 1.5}, "between 0 and 1"),
    ],
)
def test_wrong_choices_are_refused(choice, message):
    with pytest.raises(WrongSettings, match=message):
        PODBasis.from_training(fields(5), **choice)


def test_outputs_without_channels_are_refused():
    with pytest.raises(WrongSettings, match=r"outputs are \(K, C"):
        PODBasis.from_training(torch.ones(5, 20), modes=2)


@pytest.mark.parametrize("outputs", [1, 2])
def test_formula_of_pod_deeponet(outputs):
    torch.manual_seed(0)
    basis = PODBasis.from_training(fields(15, channels=outputs).float(), modes=4)
    net = PODDeepONet(Multilayer((7, 16, 4 * outputs)), basis)
    u = torch.randn(3, 7)
    a = net.branch(u).reshape(3, outputs, 4)
    expected = torch.stack([a[:, c] @ basis.vectors[c].mT / 4 + basis.mean[c] for c in range(outputs)], -1)
    torch.testing.assert_close(net(u), expected if outputs > 1 else expected[..., 0])


def test_a_branch_of_another_width_is_refused():
    with pytest.raises(WrongSettings, match="the branch gives 5 numbers, the basis takes 1 x 4"):
        PODDeepONet(Multilayer((7, 5)), PODBasis.from_training(fields(15), modes=4))


def test_parameter_count_of_the_published_burgers_network():
    config = PODDeepONetConfig(1, 1, (128,), branch=(128, 128), modes=32, activation="tanh")
    expected = 2 * (128 * 128 + 128) + (128 * 32 + 32)
    assert parameter_count(PODDeepONetOnGrid(config)) == expected == 37_152


def test_on_grid_contract():
    net, x = fitted(), torch.randn(3, 2, 5, 4)
    y = net(x)
    assert y.shape == (3, 2, 5, 4)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    torch.testing.assert_close(copy.deepcopy(net).double()(x.double()).float(), y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.net(x).movedim(-1, 1).reshape(y.shape), y)


def test_basis_is_saved_with_the_state():
    net, x = fitted(), torch.randn(3, 2, 5, 4)
    again = PODDeepONetOnGrid.from_settings(json.loads(json.dumps(net.settings())))
    with pytest.raises(NoBasis, match="fit_basis"):
        again(x)
    with pytest.raises(NoBasis):
        copy.deepcopy(again)(x)
    copied = copy.deepcopy(again)
    copied.load_state_dict(net.state_dict())
    assert torch.equal(copied(x), net(x))
    with pytest.raises(NoBasis):
        again(x)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x), net(x))


def test_the_basis_is_no_parameter():
    assert {n for n, _ in fitted().named_buffers()} == {"net.basis.vectors", "net.basis.mean"}


def test_other_grids_and_points_are_refused():
    net = fitted()
    with pytest.raises(WrongResolution, match="a grid of 5 x 4 points, got 10 x 8"):
        net(torch.ones(1, 2, 10, 8))
    with pytest.raises(WrongResolution, match="interpolate it, or use DeepONet"):
        net.at(torch.ones(1, 2, 5, 4), torch.rand(3, 2))
    with pytest.raises(WrongResolution, match="training outputs are"):
        net.fit_basis(torch.ones(12, 2, 4, 5))
    with pytest.raises(WrongResolution, match="the basis has"):
        net.net.basis.fill(torch.ones(2, 19, 3), torch.ones(2, 19))


def test_modes_beyond_the_points_are_refused():
    with pytest.raises(WrongSettings, match="modes are 1 to points"):
        PODDeepONetOnGrid(PODDeepONetConfig(1, 1, (8,), modes=9))


def test_training_reaches_the_projection_error():
    x = fields(12, points=20).float()
    y = x.flip(-1) / 4
    torch.manual_seed(0)
    net = PODDeepONetOnGrid(PODDeepONetConfig(1, 1, (20,), branch=(64,), modes=4, activation="tanh"))
    net.fit_basis(y)
    floor = (net.net.basis(net.net.basis.coefficients(y)) - y).norm() / y.norm()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(400):
        optimiser.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        optimiser.step()
    reached = (net(x) - y).norm() / y.norm()
    assert floor * (1 - 1e-5) < reached < 1.1 * floor
