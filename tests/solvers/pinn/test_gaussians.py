"""Networks of Gaussians: their formula, and what of their widths is trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from solvus.solvers.pinn.jets import Plan
from solvus.solvers.pinn.networks import Gaussians, Network
from solvus.solvers.pinn.networks.gaussians import WIDTHS, Widths

BOX = torch.tensor([-1.0, 0.0]), torch.tensor([2.0, 0.5])


def points(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    lower, upper = (corner.to(dtype) for corner in BOX)
    drawn = torch.rand(count, 2, generator=torch.Generator().manual_seed(3), dtype=dtype)
    return lower + (upper - lower) * drawn


def built(widths: Widths, dtype: torch.dtype = torch.float64) -> Network:
    """Return a network with widths that differ, also in sign."""
    settings = Gaussians(count=5, features=3, spread=0.6, widths=widths, width=5)
    network = settings.build(2, 1, BOX, torch.Generator().manual_seed(0), dtype)
    trained = network.inverse if network.sigma is None else network.sigma
    factors = torch.linspace(0.7, 1.4, trained.numel(), dtype=dtype)
    trained.data *= (factors * (-1) ** torch.arange(trained.numel())).view_as(trained)
    return network


@pytest.mark.parametrize("widths", WIDTHS)
def test_gaussians_are_those_of_the_formula(widths: Widths) -> None:
    network, x = built(widths), points(7)
    lower, upper = BOX
    away = (2 * (x - lower) / (upper - lower) - 1)[:, None] - network.centres  # (N, G, D)
    if network.sigma is None:
        away = torch.einsum("gij,ngj->ngi", network.inverse, away)
    else:
        away = away / network.sigma
    bumps = torch.exp(-away.square().sum(-1) / 2).unflatten(1, network.weights.shape)
    features = (network.weights * bumps).sum(-1)
    hidden = torch.tanh(features @ network.hidden.weight.T)
    torch.testing.assert_close(network(x), hidden @ network.last.weight.T, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("widths", "columns"), [("diagonal", 2), ("isotropic", 1)])
def test_sigma_is_what_is_trained(widths: Widths, columns: int) -> None:
    """A step of Adam changes sigma by its rate, each axis by itself, and no other function of sigma."""
    settings = Gaussians(count=6, features=3, spread=0.1, widths=widths, width=5)
    network = settings.build(2, 1, BOX, torch.Generator().manual_seed(0))
    assert network.sigma.shape == (18, columns)
    assert (network.sigma == 0.1).all()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    x = points(400)
    (network(x) - torch.sin(8 * x[:, :1])).square().sum().backward()
    optimiser.step()
    change = network.sigma.detach() - 0.1
    torch.testing.assert_close(change.abs(), torch.full_like(change, 1e-3), rtol=1e-3, atol=0)
    assert columns == 1 or bool((change[:, 0] * change[:, 1] < 0).any())  # some are stretched
    assert Gaussians().widths == "diagonal"


@pytest.mark.parametrize("plan", [Plan([], laplacian=(0, 1)), Plan([(0, 0, 1, 1), (0, 0, 0, 0)])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_a_sigma_that_passes_zero_does_no_harm(dtype: torch.dtype, plan: Plan) -> None:
    network, x = built("diagonal", dtype), points(9, dtype)
    before = network(x, plan).rows
    network.sigma.data *= -1
    assert torch.equal(network(x, plan).rows, before)
    network.sigma.data[::2] = 0
    network.sigma.data[1::4, 0] = 1e-30
    rows = network(x, plan).rows
    assert bool(torch.isfinite(rows).all())
    for part in torch.autograd.grad(rows.square().sum(), list(network.parameters())):
        assert bool(torch.isfinite(part).all())
