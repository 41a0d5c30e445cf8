"""Low-rank operator: the dense kernel matrix, weights, permutations, density, gradients."""

import json

import pytest
import torch

from solvus.operators.neural.base import WrongSettings
from solvus.operators.neural.layers.integral import LowRankIntegral, low_rank_product
from solvus.operators.neural.layers.neighbours import grid_quadrature
from solvus.operators.neural.low_rank_operator import LowRankConfig, LowRankOperator

DOUBLE = torch.float64


def seeded(shape, seed=0, dtype=DOUBLE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def against_dense(phi, psi, v, share):
    """The largest difference to the product with the kernel matrix (points x channels)^2, per sample."""
    worst = 0.0
    for p, s, values, out in zip(phi, psi, v, low_rank_product(phi, psi, v, share), strict=True):
        K = p.flatten(0, 1) @ s.flatten(0, 1).T  # (M out, N in)
        weighted = (share[:, None] * values).flatten()
        worst = max(worst, (K @ weighted - out.flatten()).abs().max().item())
    return worst


def test_the_product_is_that_of_the_dense_kernel_matrix():
    phi, psi = seeded((3, 7, 5, 4)), seeded((3, 6, 2, 4), 1)
    v, share = seeded((3, 6, 2), 2), torch.rand(6, dtype=DOUBLE)
    assert against_dense(phi, psi, v, share) < 1e-12
    assert torch.linalg.matrix_rank(phi[0].flatten(0, 1) @ psi[0].flatten(0, 1).T) == 4


def test_a_wrong_weight_is_found():
    phi, psi, v = seeded((3, 7, 5, 4)), seeded((3, 6, 2, 4), 1), seeded((3, 6, 2), 2)
    share = torch.linspace(0.1, 1, 6, dtype=DOUBLE)
    right = low_rank_product(phi, psi, v, share)
    assert (low_rank_product(phi, psi, v, share.flip(0)) - right).abs().max() > 0.1


def test_the_layer_evaluates_both_networks_at_the_points():
    torch.manual_seed(0)
    layer = LowRankIntegral(3, 5, 2, (8,)).double()
    v, f, share = seeded((2, 6, 5)), seeded((2, 6, 3), 1), torch.full((6,), 1 / 6, dtype=DOUBLE)
    expected = torch.zeros(2, 6, 5, dtype=DOUBLE)
    for b in range(2):
        for r in range(2):
            phi, psi = layer.phi(f[b]).reshape(6, 5, 2)[..., r], layer.psi(f[b]).reshape(6, 5, 2)[..., r]
            expected[b] += phi * (psi * v[b]).sum() / 6
    torch.testing.assert_close(layer(v, f, share), expected)


def model_of(**more):
    torch.manual_seed(0)
    return LowRankOperator(
        LowRankConfig(2, 3, width=6, layers=2, kernel=(8,), projection=10, **more)
    ).double()


def test_permuting_points_permutes_the_output():
    model, points, a = model_of(), torch.rand(40, 2, dtype=DOUBLE), seeded((2, 40, 2))
    weights = torch.rand(40, dtype=DOUBLE) + 0.1
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    out = model.on_points(a, model.geometry(points, weights))
    permuted = model.on_points(a[:, order], model.geometry(points[order], weights[order]))
    torch.testing.assert_close(permuted, out[:, order])


def test_a_grid_is_a_cloud_of_its_points():
    model, x = model_of(), seeded((2, 2, 7, 5))
    out = model.on_points(x.flatten(2).mT, model.geometry(*grid_quadrature((7, 5), "closed")))
    assert torch.equal(model(x), out.mT.reshape(2, 3, 7, 5))


def change(model, n):
    def on_grid(n):
        t = torch.linspace(0, 1, n, dtype=DOUBLE)
        return model(torch.stack([torch.sin(3 * t), torch.cos(5 * t)])[None])

    with torch.no_grad():
        return (on_grid(2 * n - 1)[..., ::2] - on_grid(n)).abs().max().item()


def test_twice_the_density_changes_the_output_by_the_error_of_quadrature():
    model = model_of(dim=1, activation="tanh")
    assert change(model, 65) < 1e-3
    assert 3.5 < change(model, 33) / change(model, 65) < 4.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_every_parameter_gets_a_gradient(dim, dtype):
    model = model_of(dim=dim, activation="gelu", coordinates="periodic").to(dtype)
    out = model(seeded((2, 2, *(6, 5, 4)[:dim]), dtype=dtype))
    assert out.dtype == dtype
    out.square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


def test_settings():
    model, x = model_of(rank=3), seeded((1, 2, 7, 5))
    again = LowRankOperator.from_settings(json.loads(json.dumps(model.settings()))).double()
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))
    assert LowRankConfig(1, 1).rank == 4
    with pytest.raises(WrongSettings, match="rank is at least 1"):
        LowRankConfig(1, 1, rank=0)


def test_export_on_a_grid():
    model, x = model_of().eval(), seeded((2, 2, 7, 5))
    expected = model(x)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)
