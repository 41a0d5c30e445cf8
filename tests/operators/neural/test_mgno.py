"""MgNO: published sizes, boundary conditions, the linear network as an operator, compiled and exported."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.linear.errors import NotSupported
from solvus.operators.neural.base import (
    NeuralOperator,
    WrongChannels,
    WrongResolution,
    WrongSettings,
    parameter_count,
)
from solvus.operators.neural.mgno import MgNO, MgNOConfig
from solvus.solvers import CG, GMRES, LinearSystem, Stop, solve

D = torch.float64
SMALL = MgNOConfig(2, 3, channels=4, layers=2, smoothing=("10", "11", "20"))
LINEAR = replace(SMALL, activation="none", branch="linear")


def network(config, dtype=torch.float32):
    torch.manual_seed(0)
    return MgNO(config).to(dtype)


def seeded(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


PUBLISHED = {
    "darcy_smooth": (678_093, 211),
    "darcy_rough": (572_661, 256),
    "navier_stokes": (2_885_194, 64),
    "pipe": (783_876, 128),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    assert parameter_count(MgNO(getattr(MgNOConfig, name)())) == PUBLISHED[name][0]


def test_published_parameter_count_of_helmholtz():
    config = MgNOConfig.helmholtz()
    # the released cycles hold a kernel A (and its bias) on the finest level, which they never apply
    never_applied = sum(9 * u * f + f for f, u in ((1, 20), (20, 20), (20, 20), (20, 20), (20, 1)))
    assert parameter_count(MgNO(config)) + never_applied == 5_351_806
    assert parameter_count(MgNO(config)) == 5_340_565


def test_count_with_prolongation_for_every_size():
    assert parameter_count(MgNO(MgNOConfig(1, 1))) == 492_021


@pytest.mark.parametrize(
    "change", [{"layers": 5}, {"channels": 25}, {"branch": "linear"}, {"restrict_residual": True}]
)
def test_a_wrong_variant_has_another_count(change):
    assert parameter_count(MgNO(replace(MgNOConfig(1, 1), **change))) != 492_021


@pytest.mark.parametrize("name", [*PUBLISHED, "helmholtz"])
def test_published_variants_take_their_grid_and_no_other(name):
    n = 101 if name == "helmholtz" else PUBLISHED[name][1]
    config = getattr(MgNOConfig, name)()
    model = network(config)
    with torch.no_grad():
        assert model(seeded(1, config.in_channels, n, n)).shape == (1, 1, n, n)
    with pytest.raises(WrongResolution):
        model(seeded(1, config.in_channels, n + 2, n + 2))


def by_hand(model, x):
    u = x
    for cycle, branch in zip(model.cycles, model.branches, strict=True):
        weight = branch.weight[..., 0, 0]
        u = F.gelu(cycle(u) + torch.einsum("oi,bixy->boxy", weight, u) + branch.bias[:, None, None])
    return torch.einsum("oi,bixy->boxy", model.head.weight[..., 0, 0], u)


def test_layers_against_the_formula():
    model, x = network(SMALL, D), seeded(2, 2, 17, 20, dtype=D)
    torch.testing.assert_close(model(x), by_hand(model, x))
    model.act = torch.relu  # the wrong activation must be seen
    assert (model(x) - by_hand(model, x)).abs().max() > 1e-3


VARIANTS = {
    "default": {},
    "bias": {"smoother_bias": True},
    "residual": {"restrict_residual": True},
    "group": {"cycle_norm": "group", "layer_norm": "group"},
    "layer": {"cycle_norm": "layer", "layer_norm": "layer", "size": (16, 17)},
    "no branch": {"branch": "none"},
    "linear": {"branch": "linear", "activation": "none"},
    "cycle head": {"head": "cycle"},
    "growing": {"growing": True},
    "one step": {"out_channels": 2, "add_input": True},
    "periodic": {"boundary": ("periodic",)},
    "four sides": {"boundary": ("neumann", "dirichlet", "dirichlet", "dirichlet")},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant(name):
    config = replace(SMALL, **VARIANTS[name])
    model, x = network(config), seeded(3, 2, 16, 17)
    y = model(x)
    assert y.shape == (3, config.out_channels, 16, 17)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    torch.testing.assert_close(model(x[1:2]), y[1:2], atol=1e-6, rtol=1e-4)
    double = model.double()(x.double())
    assert double.dtype == D
    torch.testing.assert_close(double.float(), y, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["navier_stokes", "helmholtz"])
def test_every_parameter_of_a_published_variant_gets_a_gradient(name):
    config = replace(getattr(MgNOConfig, name)(), channels=3)
    model = network(config)
    model(seeded(1, 1, *config.size)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize(("dim", "space"), [(1, (31,)), (2, (16, 85)), (3, (8, 9, 11))])
def test_dimensions_and_sizes(dim, space):
    model = network(replace(SMALL, dim=dim))
    assert model.dim == dim
    assert model(seeded(2, 2, *space)).shape == (2, 3, *space)


def test_add_input():
    config = replace(SMALL, out_channels=2, add_input=True)
    x = seeded(1, 2, 16, 16)
    without = network(replace(config, add_input=False))
    torch.testing.assert_close(network(config)(x), x + without(x))


def test_periodic_network_commutes_with_shifts():
    x = seeded(1, 2, 16, 24, dtype=D)
    shift = lambda t: t.roll((4, 8), (2, 3))  # noqa: E731
    model = network(replace(SMALL, boundary=("periodic",)), D)
    torch.testing.assert_close(model(shift(x)), shift(model(x)))
    model = network(SMALL, D)
    assert (model(shift(x)) - shift(model(x))).abs().max() > 1e-4


def test_another_distance_between_points_is_another_map():
    t = torch.linspace(0, 1, 65, dtype=D)
    fine = (t[:, None] * t).expand(1, 2, -1, -1)
    model = network(SMALL, D)
    assert (model(fine)[..., ::2, ::2] - model(fine[..., ::2, ::2])).abs().max() > 1e-3


def test_settings_travel_as_json():
    config = replace(SMALL, boundary=("periodic", "neumann"), size=(16, 20), cycle_norm="layer")
    model = network(config)
    again = MgNO.from_settings(json.loads(json.dumps(model.settings())))
    assert again.config == config
    again.load_state_dict(model.state_dict())
    x = seeded(1, 2, 16, 20)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "channels is at least 1, got 0"),
        ({"branch": "bias"}, "branch is one of affine, linear, none; got 'bias'"),
        ({"head": "mlp"}, "head is one of pointwise, cycle; got 'mlp'"),
        ({"activation": "elu"}, "activation is one of"),
        ({"add_input": True}, "as many outputs as inputs, got 2 and 3"),
        ({"layer_norm": "layer"}, "give size, 2 numbers"),
        ({"boundary": ("periodic",) * 3}, "one word, 2"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(WrongSettings, match=message):
        replace(SMALL, **settings)


def test_wrong_input():
    model = network(SMALL)
    with pytest.raises(WrongChannels, match=r"MgNO takes fields \(B, 2, n1, n2\)"):
        model(seeded(1, 1, 16, 16))
    with pytest.raises(WrongResolution, match="3 levels need at least 8 points on every axis"):
        model(seeded(1, 2, 16, 7))


@pytest.mark.parametrize("change", [{}, {"head": "cycle"}, {"branch": "none"}, {"boundary": ("neumann",)}])
def test_linear_settings_make_a_linear_map(change):
    config = replace(LINEAR, **change)
    assert config.linear
    model = network(config, D)
    x, y = seeded(2, 2, 16, 17, dtype=D), seeded(2, 2, 16, 17, seed=1, dtype=D)
    torch.testing.assert_close(model(2 * x - 3 * y), 2 * model(x) - 3 * model(y))


@pytest.mark.parametrize(
    "change",
    [{"activation": "gelu"}, {"branch": "affine"}, {"smoother_bias": True}, {"cycle_norm": "group"},
     {"layer_norm": "group"}],
)  # fmt: skip
def test_other_settings_do_not(change):
    config = replace(LINEAR, **change)
    assert not config.linear
    model, x = network(config, D), seeded(1, 2, 16, 17, dtype=D)
    assert (model(2 * x) - 2 * model(x)).abs().max() > 1e-6
    with pytest.raises(WrongSettings, match="this network is not linear"):
        model.as_operator((16, 17))


def test_as_operator():
    model = network(LINEAR, D)
    W = model.as_operator((8, 9))
    assert W.shape == (3 * 72, 2 * 72)
    assert not W.symmetric
    x, y = seeded(5, 144, dtype=D), seeded(5, 216, seed=1, dtype=D)
    torch.testing.assert_close(W @ x, model(x.reshape(5, 2, 8, 9)).reshape(5, 216))
    torch.testing.assert_close(((W @ x) * y).sum(-1), (x * (W.T @ y)).sum(-1))
    torch.testing.assert_close(W.T.T @ x[0], (W @ x)[0])
    with pytest.raises(WrongResolution):
        model.as_operator((8, 7))


def test_preconditioner():
    """A linear network trained towards the inverse saves steps of GMRES; CG refuses it by name."""
    A = Diffusion(Grid((15, 15)))
    config = MgNOConfig(
        1, 1, channels=4, layers=1, smoothing=("11", "11", "20"), activation="none", branch="none"
    )
    model = network(config, D)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    scale = 16**2
    for i in range(150):
        f = seeded(16, 225, seed=i, dtype=D)
        r = f - A @ (model(f.reshape(16, 1, 15, 15)).reshape(16, 225) / scale)
        optimiser.zero_grad()
        (r.square().sum(-1) / f.square().sum(-1)).mean().backward()
        optimiser.step()
    W = model.as_operator((15, 15))
    b = torch.ones(225, dtype=D)
    stop = Stop(rtol=1e-8)
    with torch.no_grad():
        plain = solve(LinearSystem(A, b), GMRES(), stop=stop).steps
        learned = solve(LinearSystem(A, b), GMRES(lambda _: W), stop=stop).steps
    assert learned < 0.7 * plain
    with pytest.raises(NotSupported, match="CG needs a symmetric positive definite preconditioner"):
        solve(LinearSystem(A, b), CG(lambda _: W), stop=stop)


def test_training_lowers_the_error():
    model, x = network(replace(SMALL, channels=8)), seeded(4, 2, 16, 16)
    y = F.avg_pool2d(x, 3, 1, 1)[:, [0, 1, 1]]
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_channels_last_gives_the_same():
    x = seeded(2, 2, 16, 17)
    model = network(SMALL)
    y = model(x)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(x), y, atol=1e-6, rtol=1e-5)


def test_is_a_neural_operator():
    assert issubclass(MgNO, NeuralOperator)
    with pytest.raises(WrongSettings, match="takes a MgNOConfig"):
        MgNO({"in_channels": 1})


@pytest.mark.parametrize("boundary", [("dirichlet",), ("periodic", "neumann")])
def test_export_with_any_batch(boundary):
    model = network(replace(SMALL, boundary=boundary)).eval()
    shapes = {"x": {0: torch.export.Dim("b", min=2)}}
    program = torch.export.export(model, (seeded(3, 2, 17, 20),), dynamic_shapes=shapes)
    x = seeded(5, 2, 17, 20, seed=1)
    torch.testing.assert_close(program.module()(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("boundary", [("dirichlet",), ("periodic", "neumann")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compile(boundary):
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler for torch.compile")
    model, x = network(replace(SMALL, boundary=boundary)), seeded(2, 2, 17, 20)
    expected = torch.autograd.grad(model(x).square().mean(), list(model.parameters()))
    compiled = torch.compile(model)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-6, rtol=1e-5)
    found = torch.autograd.grad(compiled(x).square().mean(), list(model.parameters()))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
