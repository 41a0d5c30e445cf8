"""Spectral convolution: against full FFTs, on other grids, by two paths, with real weights."""

import pytest
import torch

from solvus.operators.neural.base import WrongResolution, WrongSettings
from solvus.operators.neural.layers.spectral import (
    DenseWeight,
    SpectralConvolution,
    check_modes,
    fft_is_faster,
    weight_from_blocks,
    weight_from_centred,
)
from solvus.operators.neural.layers.truncated_dft import _kept_matrix

PATHS = ("fft", "matrix")
# modes, grid, output grid: odd, even, equal, finer, coarser, and the highest frequency kept on either side
GRIDS = [
    ((3,), (9,), (9,)),
    ((5,), (8,), (8,)),
    ((5,), (8,), (12,)),
    ((4,), (12,), (6,)),
    ((4, 3), (8, 9), (8, 9)),
    ((4, 5), (8, 8), (11, 16)),
    ((4, 5), (13, 16), (8, 8)),
    ((2, 3, 3), (4, 6, 4), (4, 6, 4)),
    ((2, 3, 3), (4, 6, 4), (7, 6, 5)),
    ((2, 3, 3), (7, 8, 9), (4, 6, 4)),
]


def layer(modes, path="auto", channels=(2, 3), dtype=torch.float64):
    torch.manual_seed(1)
    return SpectralConvolution(*channels, modes, path=path).to(dtype)


def field(grid, channels=2, batch=4, dtype=torch.float64):
    return torch.randn(batch, channels, *grid, dtype=dtype, generator=torch.Generator().manual_seed(0))


def with_identity(convolution):
    with torch.no_grad():
        convolution.weight.values.zero_()
        convolution.weight.values[..., 0] = torch.eye(convolution.weight.in_channels)
    return convolution


def oracle(x, weight, modes):
    """The layer in 2D by full complex FFTs, with the blocks of the first FNO program."""
    k1, k2 = modes
    w = torch.view_as_complex(weight.detach()).movedim((-2, -1), (0, 1))  # (in, out, 2 k1, k2)
    X = torch.fft.rfft2(x)
    Y = torch.zeros(len(x), w.shape[1], *X.shape[2:], dtype=X.dtype)
    Y[..., :k1, :k2] = torch.einsum("bixy,ioxy->boxy", X[..., :k1, :k2], w[:, :, :k1])
    Y[..., -k1:, :k2] = torch.einsum("bixy,ioxy->boxy", X[..., -k1:, :k2], w[:, :, k1:])
    return torch.fft.irfft2(Y, s=x.shape[2:])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("grid", [(8, 8), (9, 11), (16, 13)])
def test_against_full_transforms(path, grid):
    convolution = layer((4, 5), path)
    x = field(grid)
    torch.testing.assert_close(convolution(x), oracle(x, convolution.weight(), (4, 5)))


def test_the_oracle_tells_frequencies_apart():
    convolution = layer((4, 5), "fft")
    x = field((9, 11))
    wrong = convolution.weight().roll(1, dims=0)
    assert (convolution(x) - oracle(x, wrong, (4, 5))).abs().max() > 1e-2


@pytest.mark.parametrize(("modes", "grid", "size"), GRIDS)
def test_the_paths_agree(modes, grid, size):
    x = field(grid, dtype=torch.float32)
    seen = []
    for path in PATHS:
        convolution = layer(modes, path, dtype=torch.float32)
        probe = x.clone().requires_grad_()
        y = convolution(probe, size)
        (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
        seen.append((y.detach(), probe.grad, convolution.weight.values.grad))
    for by_fft, by_matrix in zip(*seen, strict=True):
        assert (by_fft - by_matrix).abs().max() < 1e-5 * by_fft.abs().max()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("modes", "grid", "size"), GRIDS)
def test_a_finer_grid_holds_the_values_of_the_coarser_one(path, modes, grid, size):
    convolution = layer(modes, path)
    x = field(grid)
    every_second = (..., *(slice(None, None, 2) for _ in size))
    fine = convolution(x, [2 * n for n in size])
    torch.testing.assert_close(fine[every_second], convolution(x, size))


@pytest.mark.parametrize("path", PATHS)
def test_identity_keeps_a_band_limited_field(path):
    t = torch.arange(15, dtype=torch.float64) * 2 * torch.pi / 15
    x = (1 + torch.cos(3 * t[:, None] - 2 * t[None, :]) + torch.sin(3 * t)[:, None])[None, None]
    torch.testing.assert_close(with_identity(layer((4, 3), path, (1, 1)))(x), x)
    dropped = with_identity(layer((4, 2), path, (1, 1)))(x)
    assert (dropped - x).abs().max() > 0.5


@pytest.mark.parametrize("path", PATHS)
def test_identity_from_16_to_32(path):
    def wave(n):
        t = torch.arange(n, dtype=torch.float64) * 2 * torch.pi / n
        x, y = t[:, None], t[None, :]
        return (torch.cos(2 * (2 * x - y)) + torch.sin(x + 2 * y))[None, None]

    y = with_identity(layer((6, 6), path, (1, 1)))(wave(16), (32, 32))
    torch.testing.assert_close(y, wave(32), atol=1e-13, rtol=0)


@pytest.mark.parametrize("path", PATHS)
def test_identity_with_every_frequency_kept(path):
    x = field((8, 8), channels=1)
    torch.testing.assert_close(with_identity(layer((4, 5), path, (1, 1)))(x), x)


@pytest.mark.parametrize("path", PATHS)
def test_it_commutes_with_translations(path):
    convolution = layer((3, 4), path)
    x = field((9, 10))
    moved = convolution(x.roll((2, 3), (2, 3)))
    torch.testing.assert_close(moved, convolution(x).roll((2, 3), (2, 3)))


@pytest.mark.parametrize("path", PATHS)
def test_derivatives(path):
    convolution = layer((2, 2), path, (1, 2))
    x = field((5, 4), channels=1, batch=2).requires_grad_()
    assert torch.autograd.gradcheck(convolution, (x,))
    values = convolution.weight.values

    def of_weight(w):
        return torch.func.functional_call(convolution, {"weight.values": w}, (x.detach(),))

    assert torch.autograd.gradcheck(of_weight, (values.detach().clone().requires_grad_(),))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("modes", "grid"), [((4,), (9,)), ((3, 4), (8, 16)), ((3, 4), (7, 9)), ((2, 2, 3), (4, 5, 6))]
)
def test_the_linear_maps_of_a_block_at_once(path, modes, grid):
    """`beside` and its derivatives are those of its parts, one after the other."""
    convolution, x = layer(modes, path), field(grid).requires_grad_()
    W, b, M, g, c = (
        torch.randn(
            *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(i), requires_grad=True
        )
        for i, shape in enumerate([(4, 2), (4,), (4, 3), (2,), (2,)])
    )
    inputs = [x, W, b, M, g, c, convolution.weight.values]
    found = convolution.beside(x, W, b, then=M, gate=(g, c))
    mixed = torch.einsum("oi,bi...->bo...", M, convolution(x)) + torch.einsum("oi,bi...->bo...", W, x)
    expected = (mixed + b.reshape(-1, *(1,) * len(grid)), x.flatten(2) * g[:, None] + c[:, None])
    torch.testing.assert_close(found, expected)
    seeds = [torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape) for y in expected]
    first = torch.autograd.grad(found, inputs, seeds, create_graph=True)
    torch.testing.assert_close(first, torch.autograd.grad(expected, inputs, seeds))
    plain, gated = convolution.beside(x, W[:3], b[:3])
    assert gated is None
    torch.testing.assert_close(
        plain,
        convolution(x) + torch.einsum("oi,bi...->bo...", W[:3], x) + b[:3].reshape(-1, *(1,) * len(grid)),
    )


@pytest.mark.parametrize("path", PATHS)
def test_second_derivatives(path):
    convolution = layer((2, 2), path, (1, 2))
    x = field((5, 4), channels=1, batch=1).requires_grad_()
    W, b, g, c = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 1), (2,), (1,), (1,))
    )

    def block(x, W, b, g, c):
        y, gated = convolution.beside(x.tanh(), W, b, gate=(g, c))
        return y.square().sum() + (gated * y[:, :1].flatten(2)).sum()

    assert torch.autograd.gradgradcheck(convolution, (x,))
    assert torch.autograd.gradgradcheck(block, (x, W, b, g, c))


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
def test_transforms_of_functions():
    """vmap, forward-mode and per-sample gradients take the plain operations, with the same result."""
    convolution = layer((3, 3), "matrix")
    x, dx = field((8, 9)), field((8, 9)).flip(0)
    y, dy = torch.func.jvp(convolution, (x,), (dx,))
    torch.testing.assert_close((y, dy), (convolution(x), convolution(dx)))
    with torch.autograd.forward_ad.dual_level():
        dual = convolution(torch.autograd.forward_ad.make_dual(x, dx))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, dy)
    torch.testing.assert_close(torch.vmap(convolution)(torch.stack((x, dx))), torch.stack((y, dy)))
    each = torch.vmap(torch.func.grad(lambda one: convolution(one[None]).square().sum()))(x)
    probe = x.clone().requires_grad_()
    convolution(probe).square().sum().backward()
    torch.testing.assert_close(each, probe.grad)


@pytest.mark.parametrize("path", PATHS)
def test_float32_inside_autocast(path):
    convolution = layer((3, 3), path, dtype=torch.float32)
    x = field((8, 8), dtype=torch.float32)
    exact = convolution(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(convolution(x), exact)
        low = convolution(x.bfloat16())
    assert low.dtype == torch.bfloat16
    assert (low - exact).abs().max() < 2e-2 * exact.abs().max()


@pytest.mark.parametrize("path", PATHS)
def test_a_frequency_of_one_axis_alone(path):
    """cos(2 x) through a multiplier i at frequency 2 is -sin(2 x)."""
    convolution = layer((4,), path, (1, 1))
    with torch.no_grad():
        convolution.weight.values.zero_()
        convolution.weight.values[2, 0, 0, 1] = 1.0
    t = torch.arange(9, dtype=torch.float64) * 2 * torch.pi / 9
    torch.testing.assert_close(convolution(torch.cos(2 * t)[None, None])[0, 0], -torch.sin(2 * t))


def test_grids_that_are_too_coarse():
    convolution = layer((4, 5))
    for grid in [(7, 8), (8, 7)]:
        with pytest.raises(WrongResolution, match=r"at least \(8, 8\) points.*finer grid"):
            convolution(field(grid))
    with pytest.raises(WrongResolution, match="fewer modes"):
        convolution(field((8, 8)), (6, 8))
    with pytest.raises(WrongResolution, match="2 axes"):
        check_modes((4, 4), (8,))
    check_modes((1,), (1,))


def test_settings_that_cannot_be():
    with pytest.raises(WrongSettings, match="one to three"):
        SpectralConvolution(1, 1, ())
    with pytest.raises(WrongSettings, match="fft, matrix"):
        SpectralConvolution(1, 1, (2,), path="fast")


def test_auto_takes_the_fft_for_many_modes_only():
    cpu = torch.device("cpu")
    assert not fft_is_faster((16, 16), cpu)
    assert fft_is_faster((64, 64), cpu)
    assert fft_is_faster((8, 8), torch.device("cuda"))
    assert not fft_is_faster((64, 64), torch.device("mps"))


def test_blocks_of_a_complex_checkpoint():
    """The order of the blocks is (+ +), (- +), (+ -), (- -) in the leading two axes."""
    blocks = [torch.full((1, 1, 2, 3, 4), complex(i, -i), dtype=torch.complex128) for i in range(4)]
    w = weight_from_blocks(blocks)
    assert w.shape == (4, 6, 4, 1, 1, 2)
    seen = [w[r, c, 0, 0, 0].tolist() for r, c in ((0, 0), (2, 0), (0, 3), (2, 3))]
    assert seen == [[0, 0], [1, -1], [2, -2], [3, -3]]
    with pytest.raises(WrongSettings, match="4 blocks, got 1"):
        weight_from_blocks(blocks[:1])
    with pytest.raises(WrongSettings, match="complex"):
        weight_from_blocks([torch.ones(2, 2, 3)])


def test_a_complex_checkpoint_gives_the_same_layer():
    k1, k2 = 3, 4
    blocks = [torch.randn(2, 3, k1, k2, dtype=torch.complex128) for _ in range(2)]
    convolution = layer((k1, k2), "matrix")
    convolution.weight.load_state_dict({"values": weight_from_blocks(blocks)})
    x = field((9, 10))
    X = torch.fft.rfft2(x)
    Y = torch.zeros(4, 3, 9, 6, dtype=X.dtype)
    Y[..., :k1, :k2] = torch.einsum("bixy,ioxy->boxy", X[..., :k1, :k2], blocks[0])
    Y[..., -k1:, :k2] = torch.einsum("bixy,ioxy->boxy", X[..., -k1:, :k2], blocks[1])
    torch.testing.assert_close(convolution(x), torch.fft.irfft2(Y, s=(9, 10)))


def test_centred_weights_are_put_in_order():
    values = torch.arange(-3, 3, dtype=torch.float64).reshape(1, 1, 6, 1).to(torch.complex128)
    assert weight_from_centred(values)[:, 0, 0, 0, 0].tolist() == [0, 1, 2, -3, -2, -1]
    with pytest.raises(WrongSettings, match="even"):
        weight_from_centred(values[:, :, 1:])


def test_starting_weights():
    torch.manual_seed(0)
    first = DenseWeight(10, 20, (30,))()
    assert first.min() >= 0
    assert first.max() < 1 / 200
    normal = DenseWeight(10, 20, (30,), normal=True)()
    assert normal.square().sum(-1).mean().item() == pytest.approx(2 / 30, rel=0.05)


def test_matrices_made_in_inference_mode_can_be_trained_with():
    _kept_matrix.cache_clear()
    convolution = layer((3, 3), "matrix")
    with torch.inference_mode():
        convolution(field((8, 8)))
    convolution(field((8, 8)).requires_grad_()).sum().backward()
    assert convolution.weight.values.grad is not None
