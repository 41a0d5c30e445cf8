"""U-Net: published size, any grid, boundary conditions, compiled and exported."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from solvus.operators.neural.base import WrongChannels, WrongResolution, WrongSettings, parameter_count
from solvus.operators.neural.unet import UNet, UNetConfig

SMALL = UNetConfig(2, 3, width=8, levels=2, groups=2)
D = torch.float64


def network(config, dtype=torch.float32):
    torch.manual_seed(0)
    return UNet(config).to(dtype)


def seeded(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_published_parameter_count():
    """7,763,041 is what the U-Net from which PDEBench's comes has with three inputs and 32 channels."""
    assert parameter_count(UNet(UNetConfig.pdebench(3, 1))) == 7_763_041
    assert parameter_count(UNet(replace(UNetConfig.pdebench(3, 1), levels=3))) != 7_763_041
    assert parameter_count(UNet(UNetConfig(3, 1))) == 7_763_041  # group norm has as many


def by_hand(model, x, act=F.gelu):
    """Levels = 1, no norm, zeros outside: written out with torch's functions."""

    def double(block, u):
        for layer in (block.first, block.second):
            u = act(F.conv2d(u, layer.convolution.weight, layer.convolution.bias, padding=1))
        return u

    fine = double(model.first, x)
    coarse = double(model.down[0], F.max_pool2d(fine, 2, ceil_mode=True))
    up = F.conv_transpose2d(coarse, model.up[0].weight, model.up[0].bias, stride=2)
    up = up[..., : x.shape[2], : x.shape[3]]
    return F.conv2d(double(model.merge[0], torch.cat((fine, up), 1)), model.head.weight, model.head.bias)


def test_network_against_the_formula():
    model = network(replace(SMALL, levels=1, norm="none"), D)
    x = seeded(2, 2, 11, 12, dtype=D)
    torch.testing.assert_close(model(x), by_hand(model, x))
    assert (model(x) - by_hand(model, x, F.relu)).abs().max() > 1e-3


VARIANTS = {
    "default": {},
    "no norm": {"norm": "none"},
    "batch norm": {"norm": "batch"},
    "tanh": {"activation": "tanh"},
    "periodic": {"boundary": ("periodic",)},
    "neumann": {"boundary": ("neumann",)},
    "four sides": {"boundary": ("neumann", "dirichlet", "periodic", "periodic")},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant(name):
    model, x = network(replace(SMALL, **VARIANTS[name])), seeded(3, 2, 16, 17)
    y = model(x)
    assert y.shape == (3, 3, 16, 17)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    double = model.double()(x.double())
    assert double.dtype == D
    torch.testing.assert_close(double.float(), y, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n", [*range(4, 18), 31, 37, 61, 85])
def test_any_size(n):
    assert network(SMALL)(seeded(1, 2, n, 90 - n)).shape == (1, 3, n, 90 - n)


@pytest.mark.parametrize(("dim", "space"), [(1, (31,)), (3, (8, 9, 11))])
def test_dimensions(dim, space):
    model = network(replace(SMALL, dim=dim))
    assert model.dim == dim
    assert model(seeded(2, 2, *space)).shape == (2, 3, *space)


def test_boundary_conditions():
    x = seeded(1, 2, 16, 24, dtype=D)
    shift = lambda t, n: t.roll((n, 2 * n), (2, 3))  # noqa: E731
    model = network(replace(SMALL, boundary=("periodic",)), D)
    torch.testing.assert_close(model(shift(x, 4)), shift(model(x), 4))
    assert (model(shift(x, 1)) - shift(model(x), 1)).abs().max() > 1e-3
    for word in ("dirichlet", "neumann"):
        model = network(replace(SMALL, boundary=(word,)), D)
        assert (model(shift(x, 4)) - shift(model(x), 4)).abs().max() > 1e-3


def test_neumann_needs_two_points_on_the_coarsest_grid():
    model = network(replace(SMALL, boundary=("neumann",)))
    assert model(seeded(1, 2, 5, 5)).shape == (1, 3, 5, 5)
    with pytest.raises(WrongResolution, match="at least 5 points"):
        model(seeded(1, 2, 4, 8))


def test_wrong_input():
    with pytest.raises(
        WrongResolution, match=r"halves the grid 2 times needs at least 4 points .* got \(3, 8\)"
    ):
        network(SMALL)(seeded(1, 2, 3, 8))
    with pytest.raises(WrongChannels, match=r"UNet takes fields \(B, 2, n1, n2\)"):
        network(SMALL)(seeded(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim is 1, 2 or 3"),
        ({"levels": 0}, "levels is at least 1"),
        ({"norm": "layer"}, "one of group, batch, none"),
        ({"groups": 3}, "width 8 does not split into 3 groups"),
        ({"activation": "sin"}, "activation is one of"),
        ({"boundary": ("periodic", "x")}, "got periodic, x"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(WrongSettings, match=message):
        replace(SMALL, **settings)


def test_settings_travel_as_json():
    config = replace(SMALL, boundary=("periodic", "neumann"))
    again = UNet.from_settings(json.loads(json.dumps(network(config).settings())))
    assert again.config == config


def test_export_with_any_batch():
    model = network(replace(SMALL, boundary=("periodic", "neumann"))).eval()
    shapes = {"x": {0: torch.export.Dim("b", min=2)}}
    program = torch.export.export(model, (seeded(3, 2, 17, 20),), dynamic_shapes=shapes)
    x = seeded(5, 2, 17, 20, seed=1)
    torch.testing.assert_close(program.module()(x), model(x), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compile():
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler for torch.compile")
    model, x = network(SMALL), seeded(2, 2, 17, 20)
    expected = torch.autograd.grad(model(x).square().mean(), list(model.parameters()))
    compiled = torch.compile(model)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-4)
    found = torch.autograd.grad(compiled(x).square().mean(), list(model.parameters()))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
