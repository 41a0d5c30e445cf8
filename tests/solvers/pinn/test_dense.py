"""Slopes and factors of linear layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from solvus.solvers.pinn.networks import MLP
from solvus.solvers.pinn.networks.dense import SLOPES, Dense

BOX = torch.tensor([-1.0, 0.0]), torch.tensor([2.0, 0.5])


def points(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    lower, upper = (corner.to(dtype) for corner in BOX)
    drawn = torch.rand(count, 2, generator=torch.Generator().manual_seed(3), dtype=dtype)
    return lower + (upper - lower) * drawn


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("slope", ["layer", "neuron"])
def test_slopes_are_ten_times_their_parameter(slope: Any, dtype: torch.dtype) -> None:
    """Jagtap et al. (2020), tanh(n a (W x + b)): a step of Adam changes the slope by n times its rate."""
    network = MLP(width=6, depth=2, slope=slope).build(2, 1, BOX, torch.Generator().manual_seed(0), dtype)
    slopes = [layer.slope for layer in network.hidden]
    before = [layer.weight.detach().clone() for layer in network.hidden]
    network.hidden[0].bias.data += 0.3
    assert all(torch.equal(layer.used()[0], w) for layer, w in zip(network.hidden, before, strict=True))
    optimiser = torch.optim.Adam(slopes, lr=1e-3)
    network(points(50, dtype)).square().sum().backward()
    optimiser.step()
    for layer, w in zip(network.hidden, before, strict=True):
        change = layer.used()[0].detach() / w - 1
        torch.testing.assert_close(change.abs(), torch.full_like(change, 1e-2), rtol=1e-3, atol=0)
        torch.testing.assert_close(layer.used()[1].detach(), (1 + change[:, 0]) * layer.bias.detach())


@pytest.mark.parametrize("slope", [None, *SLOPES])
@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3)])
def test_weights_that_are_applied_can_be_set(slope: Any, shape: tuple[int, ...]) -> None:
    layer = Dense(shape, BOX[0].double(), torch.Generator().manual_seed(0), slope)
    if slope is not None:
        layer.slope.data *= torch.linspace(0.5, 2, layer.slope.numel()).view_as(layer.slope)
        kept = layer.slope.detach().clone()
    generator = torch.Generator().manual_seed(1)
    weight, bias = (torch.randn(s, generator=generator, dtype=torch.float64) for s in (shape, shape[:-1]))
    layer.use(weight, bias)
    torch.testing.assert_close(layer.used(), (weight, bias))
    assert slope is None or torch.equal(layer.slope, kept)
