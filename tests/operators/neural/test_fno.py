"""Fourier neural operators: published sizes, any grid, every variant, compiled and exported."""

import importlib.util
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from solvus.operators.neural.base import WrongChannels, WrongResolution, WrongSettings, parameter_count
from solvus.operators.neural.fno import FNO, FactorisedBlock, FNOConfig
from solvus.operators.neural.layers.channels import ChannelMLP, PointwiseLinear
from solvus.operators.neural.layers.coordinates import append_coordinates
from solvus.operators.neural.layers.padding import DomainPadding

SMALL = FNOConfig(2, 3, (3, 4), width=6, layers=2, projection=8)
VARIANTS = {
    "plain": SMALL,
    "1d": replace(SMALL, modes=(4,)),
    "3d": replace(SMALL, modes=(2, 2, 3)),
    "lifting": replace(SMALL, lifting=5),
    "padded": replace(SMALL, padding=(2, 0.25), padding_sides="both"),
    "batch": replace(SMALL, norm="batch"),
    "instance": replace(SMALL, norm="instance"),
    "group": replace(SMALL, norm="group"),
    "convolution": replace(SMALL, skip_kernel=3),
    "mlp": replace(SMALL, block="mlp", activation="silu"),
    "mlp with norm": replace(SMALL, block="mlp", norm="group", modes=(2, 2, 2)),
    "factorised": replace(SMALL, block="factorised", expansion=2.0),
    "by fft": replace(SMALL, path="fft"),
    "without coordinates": replace(SMALL, coordinates="none", activation="tanh"),
}
variants = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())


def network(config, dtype=torch.float32):
    torch.manual_seed(0)
    return FNO(config).to(dtype)


def inputs(config, batch=3, dtype=torch.float32, extra=0):
    grid = [9 + extra, 10 + extra, 11 + extra][: len(config.modes)]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, config.in_channels, *grid, dtype=dtype, generator=generator)


def waves(n, dtype=torch.float32):
    """A periodic field of frequencies 0 to 2 on n x n points."""
    t = torch.arange(n, dtype=torch.float64) * 2 * torch.pi / n
    x, y = t[:, None], t[None, :]
    first = 0.3 + torch.cos(x - 2 * y)
    second = torch.sin(2 * x) * torch.cos(y)
    return torch.stack((first, second))[None].to(dtype)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (FNOConfig.burgers(), 549_569),
        (FNOConfig.darcy(), 2_368_001),
        (FNOConfig.navier_stokes_2d(), 414_517),
        (FNOConfig.navier_stokes_3d(), 6_558_537),
        (FNOConfig.like_neuraloperator((16, 16), 1, 1, 32), 1_192_801),
        (FNOConfig.like_neuraloperator((32, 32), 1, 1, 32), 4_469_601),
        (FNOConfig.like_neuraloperator((32,), 1, 1, 64), 607_809),
        (FNOConfig.like_neuraloperator((16, 16, 16), 1, 1, 20), 7_378_181),
    ],
)
def test_published_parameter_counts(config, count):
    assert parameter_count(FNO(config)) == count


def test_a_count_that_is_off_is_seen():
    assert parameter_count(FNO(replace(FNOConfig.navier_stokes_2d(), norm="none"))) == 414_517 - 160


@variants
def test_shapes_gradients_and_settings(config):
    model = network(config)
    x = inputs(config)
    y = model(x)
    assert y.shape == (3, 3, *x.shape[2:])
    y.square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert all(not p.is_complex() for p in model.parameters())
    again = FNO.from_settings(model.settings())
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(x), model.eval()(x))


@variants
def test_float64_and_batches(config):
    if config.norm == "batch":
        pytest.skip("a batch norm in training mixes samples")
    model = network(config, torch.float64)
    x = inputs(config, dtype=torch.float64)
    y = model(x)
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, torch.cat([model(one[None]) for one in x]))


@variants
def test_both_paths_give_the_same(config):
    model = network(replace(config, path="fft"))
    other = network(replace(config, path="matrix"))
    x = inputs(config)
    torch.testing.assert_close(model(x), other(x), atol=1e-5, rtol=1e-5)


def test_a_finer_grid_gives_the_same_function():
    config = replace(SMALL, coordinates="none", activation="tanh", layers=3)
    model = network(config)
    with torch.no_grad():
        for block in model.blocks:
            block.spectral.weight.values.mul_(0.3)  # band-limited up to rounding through three tanh
    coarse, fine = model(0.1 * waves(48)), model(0.1 * waves(96))[..., ::2, ::2]
    assert (fine - coarse).norm() < 5e-7 * coarse.norm()
    padded = network(replace(config, padding=(4, 4)))
    off = padded(waves(48))[..., ::2, ::2] - padded(waves(24))
    assert off.norm() > 1e-3 * padded(waves(24)).norm()


@pytest.mark.parametrize("block", ["plain", "mlp", "factorised"])
def test_translations(block):
    periodic = network(replace(SMALL, block=block, coordinates="none"), torch.float64)
    x = inputs(SMALL, dtype=torch.float64)
    moved = periodic(x.roll((2, 3), (2, 3)))
    torch.testing.assert_close(moved, periodic(x).roll((2, 3), (2, 3)))
    placed = network(replace(SMALL, block=block, coordinates="periodic"), torch.float64)
    assert (placed(x.roll(2, 2)) - placed(x).roll(2, 2)).abs().max() > 1e-4


def test_the_plain_network_by_hand():
    """Two layers written out: no activation after the last, zeros at the far ends."""
    model = network(replace(SMALL, padding=(3, 2)), torch.float64)
    x = inputs(SMALL, dtype=torch.float64)
    v = model.lifting(append_coordinates(x, "closed"))
    v = torch.cat((v, v.new_zeros(3, 6, 3, 10)), dim=2)
    v = torch.cat((v, v.new_zeros(3, 6, 12, 2)), dim=3)
    first, last = model.blocks
    v = nn.functional.gelu(first.spectral(v) + first.skip(v))
    v = last.spectral(v) + last.skip(v)
    torch.testing.assert_close(model(x), model.projection(v[..., :9, :10]))


def test_the_mlp_block_by_hand():
    model = network(replace(SMALL, block="mlp", lifting=4, layers=1), torch.float64)
    x = inputs(SMALL, dtype=torch.float64)
    v = model.lifting(append_coordinates(x, "closed"))
    block = model.blocks[0]
    with torch.no_grad():
        block.gate.weight.copy_(torch.linspace(0.5, 2, 6))
    u = block.inner.spectral(v) + block.inner.skip(v)
    u = block.mlp.second(nn.functional.gelu(block.mlp.first(u))) + block.gate.weight[:, None, None] * v
    torch.testing.assert_close(model(x), model.projection(u))


def test_the_factorised_block_takes_each_axis_by_itself():
    block = FactorisedBlock(SMALL, network(SMALL).spectral_weight(), last=True).double()
    v = torch.randn(2, 6, 9, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows, columns = block.axes
    total = torch.stack([rows(v[..., j]) for j in range(10)], dim=-1)
    total = total + torch.stack([columns(v[:, :, i]) for i in range(9)], dim=2)
    torch.testing.assert_close(block(v), v + nn.functional.gelu(block.mlp(total)))
    assert [layer.weight.kept for layer in block.axes] == [(3,), (4,)]


def test_pointwise_layers_against_torch():
    layer = PointwiseLinear(3, 5)
    x = torch.randn(2, 3, 4, 6)
    expected = nn.functional.conv2d(x, layer.weight[..., None, None], layer.bias)
    torch.testing.assert_close(layer(x), expected)
    mlp = ChannelMLP(3, 7, 2, "relu")
    torch.testing.assert_close(mlp(x), mlp.second(torch.relu(mlp.first(x))))


def test_coordinates():
    x = append_coordinates(torch.zeros(2, 1, 3, 5), "closed")
    assert x.shape == (2, 3, 3, 5)
    assert x[1, 1, :, 2].tolist() == [0.0, 0.5, 1.0]
    assert x[1, 2, 0].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert append_coordinates(x, "none") is x
    assert append_coordinates(torch.zeros(1, 1, 1), "closed").tolist() == [[[0.0], [0.0]]]


@pytest.mark.parametrize("sides", ["end", "both"])
def test_padding_and_cropping(sides):
    padding = DomainPadding((2, 0.5), sides)
    x = torch.randn(1, 1, 4, 6)
    wide = padding.pad(x)
    assert tuple(wide.shape[2:]) == padding.padded((4, 6)) == ((6, 9) if sides == "end" else (8, 12))
    assert torch.equal(padding.crop(wide, (4, 6)), x)
    torch.testing.assert_close(wide.sum(), x.sum())


def test_a_grid_may_be_too_coarse_until_it_is_padded():
    x = torch.zeros(1, 2, 5, 8)
    with pytest.raises(WrongResolution, match=r"at least \(6, 6\) points, got \(5, 8\)"):
        network(SMALL)(x)
    assert network(replace(SMALL, padding=(1, 0)))(x).shape == (1, 3, 5, 8)
    with pytest.raises(WrongResolution, match=r"at least \(6,\)"):
        network(replace(SMALL, block="factorised"))(torch.zeros(1, 2, 8, 5))
    with pytest.raises(WrongChannels, match="2 channels"):
        network(SMALL)(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width is at least 1"),
        ({"lifting": -1}, "lifting"),
        ({"block": "dense"}, "block is one of plain, mlp, factorised"),
        ({"norm": "layer"}, "norm is one of"),
        ({"coordinates": "polar"}, "coordinates is one of"),
        ({"skip_kernel": 2}, "odd"),
        ({"padding": (1,)}, "2 entries"),
        ({"padding": (-1, 0)}, "fraction"),
        ({"padding": (1, 0), "padding_sides": "start"}, "both sides"),
        ({"activation": "square"}, "activation is one of gelu"),
        ({"modes": ()}, "modes"),
        ({"path": "fast"}, "path is one of"),
        ({"block": "factorised", "norm": "batch"}, "factorised block"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(WrongSettings, match=message):
        FNO(replace(SMALL, **changes))


def test_odd_n_modes_have_no_equal():
    with pytest.raises(WrongSettings, match="even"):
        FNOConfig.like_neuraloperator((16, 15), 1, 1, 8)


@pytest.mark.parametrize("block", ["plain", "mlp", "factorised"])
def test_autocast(block):
    model = network(replace(SMALL, block=block))
    x = inputs(SMALL)
    exact = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(x)
    low.float().square().mean().backward()
    assert (low - exact).norm() < 3e-2 * exact.norm()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
@variants
def test_plain_operations_give_the_same(config):
    """What compiles and exports, here by way of forward-mode differentiation, is the same function."""
    if config.norm == "batch":
        pytest.skip("a batch norm changes its running statistics")
    model = network(config, torch.float64)
    x, dx = inputs(config, dtype=torch.float64), inputs(config, dtype=torch.float64).flip(0)
    y, dy = torch.func.jvp(model, (x,), (dx,))
    torch.testing.assert_close(y, model(x))
    seed = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape)
    probe = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(probe), probe, seed)
    torch.testing.assert_close((gradient * dx).sum(), (dy * seed).sum())


@pytest.mark.parametrize("block", ["plain", "mlp", "factorised"])
def test_second_derivatives_by_the_input(block):
    """As in the residual of an equation, whose gradient by the weights goes through them."""
    model = network(replace(SMALL, block=block, width=3, modes=(2, 2)), torch.float64)
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    assert torch.autograd.gradgradcheck(model, (x,), nondet_tol=1e-12)
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    spectral = [p.grad for name, p in model.named_parameters() if "spectral" in name]
    assert all(g is not None and g.any() for g in spectral)


def test_it_learns():
    """Sixty steps on the map u -> u' of waves bring the error down to a tenth."""
    t = torch.arange(16) * 2 * torch.pi / 16
    phases = torch.linspace(0, 3, 8)[:, None]
    x, y = torch.sin(t + phases)[:, None], torch.cos(t + phases)[:, None]
    model = network(FNOConfig(1, 1, (4,), width=8, layers=1, projection=16))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def open_sizes():
    dim = torch.export.Dim
    return {"x": {0: dim("b", min=2), 2: dim("h", min=9), 3: dim("w", min=9)}}


@pytest.mark.parametrize("path", ["fft", "matrix", "auto"])
def test_export_with_open_sizes(path):
    model = network(replace(SMALL, path=path)).eval()
    program = torch.export.export(model, (inputs(SMALL),), dynamic_shapes=open_sizes())
    other = inputs(SMALL, batch=2, extra=3)
    torch.testing.assert_close(program.module()(other), model(other))
    if path != "fft":
        assert "fft" not in str(program.graph)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("sizes", ["fixed", "open"])
def test_onnx(sizes, tmp_path):
    missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(n) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed")
    import onnxruntime

    model = network(SMALL).eval()
    shapes = open_sizes() if sizes == "open" else None
    torch.onnx.export(
        model, (inputs(SMALL),), tmp_path / "m.onnx", dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    x = inputs(SMALL, extra=3 if sizes == "open" else 0)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.as_tensor(y), model(x).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["fft", "matrix"])
@pytest.mark.filterwarnings("ignore:.*complex operators:UserWarning", "ignore::DeprecationWarning")
def test_compile(path):
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler for torch.compile")
    model = network(replace(SMALL, path=path))
    x = inputs(SMALL)
    expected = torch.autograd.grad(model(x).square().mean(), list(model.parameters()))
    compiled = torch.compile(model)
    torch.testing.assert_close(compiled(x), model(x))
    found = torch.autograd.grad(compiled(x).square().mean(), list(model.parameters()))
    torch.testing.assert_close(found, expected)
