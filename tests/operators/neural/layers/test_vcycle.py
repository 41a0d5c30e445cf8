"""V-cycles: boundary conditions, any size, linearity, and the formula against a dense computation."""

import copy

import pytest
import torch
from torch.nn import functional as F

from solvus.meshes.grid import Boundary
from solvus.operators.neural.base import WrongResolution, WrongSettings, parameter_count
from solvus.operators.neural.layers.boundary_convolution import (
    BoundaryConvolution,
    Prolongation,
    boundary_sides,
    extend,
)
from solvus.operators.neural.layers.vcycle import CycleSettings, VCycle

D = torch.float64
WORDS = ("dirichlet", "neumann", "periodic")
MODES = {"dirichlet": "constant", "neumann": "reflect", "periodic": "circular"}
THREE = ("10", "11", "20")


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def cycle(in_channels=2, channels=3, **settings):
    torch.manual_seed(0)
    made = CycleSettings(**{"smoothing": THREE, **settings})
    return VCycle(in_channels, channels, made).to(D)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_convolution_against_torch_padding(word, dim):
    torch.manual_seed(0)
    layer = BoundaryConvolution(2, 3, boundary_sides((word,), dim), kernel=5, bias=True).to(D)
    x = seeded(2, 2, *(6, 7, 5)[:dim])
    padded = F.pad(x, (2, 2) * dim, mode=MODES[word])
    convolve = (F.conv1d, F.conv2d, F.conv3d)[dim - 1]
    expected = convolve(padded, layer.convolution.weight, layer.convolution.bias)
    torch.testing.assert_close(layer(x), expected)
    for other in set(WORDS) - {word}:  # the wrong padding must be seen
        wrong = convolve(F.pad(x, (2, 2) * dim, mode=MODES[other]), layer.convolution.weight)
        assert (layer(x) - wrong).abs().max() > 0.1


def test_every_side_has_its_own_condition():
    x = torch.arange(1.0, 13).reshape(1, 1, 3, 4)
    sides = boundary_sides(("dirichlet", "neumann", "periodic", "periodic"), 2)
    found = extend(x, 1, sides)[0, 0]
    assert found.shape == (5, 6)
    torch.testing.assert_close(found[0], torch.zeros(6))
    torch.testing.assert_close(found[-1], found[-3])
    torch.testing.assert_close(found[:, 0], found[:, -2])
    torch.testing.assert_close(found[:, -1], found[:, 1])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("neumann",), "nn nn"),
        (("periodic", "dirichlet"), "pp dd"),
        (("dirichlet", "neumann", "periodic", "periodic"), "dn pp"),
    ],
)
def test_words_of_sides(words, expected):
    sides = boundary_sides(words, 2)
    assert " ".join("".join(side[0] for side in axis) for axis in sides) == expected
    assert boundary_sides(("dirichlet", "neumann"), 1) == ((Boundary.DIRICHLET, Boundary.NEUMANN),)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("robin",), "words dirichlet, neumann, periodic; got robin"),
        (("dirichlet",) * 3, "one word, 2 .one per axis. or 4"),
        (("periodic", "dirichlet", "neumann", "neumann"), "axis 0 is periodic on one side only"),
    ],
)
def test_wrong_sides(words, message):
    with pytest.raises(WrongSettings, match=message):
        boundary_sides(words, 2)


@pytest.mark.parametrize("n", [15, 16])
@pytest.mark.parametrize("dim", [1, 2])
def test_prolongation_is_the_transposed_convolution(n, dim):
    torch.manual_seed(0)
    layer = Prolongation(2, 3, boundary_sides(("dirichlet",), dim)).to(D)
    x = seeded(1, 2, *(8,) * dim)
    weight = layer.convolution.weight
    restrict = (F.conv1d, F.conv2d)[dim - 1]
    y = seeded(1, 3, *(n,) * dim, seed=1)
    # <P x, y> = <x, P' y>, P' the convolution with stride 2 and the same kernel
    right = (x * restrict(y, weight, stride=2, padding=1)).sum()
    torch.testing.assert_close((layer(x, y.shape[2:]) * y).sum(), right)


@pytest.mark.parametrize("kernel", [3, 4])
def test_periodic_prolongation_of_constants_is_uniform(kernel):
    torch.manual_seed(0)
    ones = torch.ones(1, 1, 8, dtype=D)
    for word, jumps in (("periodic", False), ("dirichlet", True)):
        layer = Prolongation(1, 1, boundary_sides((word,), 1), kernel=kernel).to(D)
        y = layer(ones, (16,))[0, 0].reshape(8, 2)
        assert bool((y - y[4]).abs().max() > 1e-6) is jumps


def test_neumann_prolongation_repeats_the_last_coarse_value():
    layer = Prolongation(1, 1, boundary_sides(("neumann",), 1)).to(D)
    layer.convolution.weight.data = torch.tensor([[[0.5, 1.0, 0.5]]], dtype=D)  # linear interpolation
    y = layer(torch.tensor([[[1.0, 2.0, 4.0]]], dtype=D), (6,))
    torch.testing.assert_close(y, torch.tensor([[[1.0, 1.5, 2.0, 3.0, 4.0, 4.0]]], dtype=D))


def conv(layer, x, stride=1):
    return F.conv2d(x, layer.convolution.weight, stride=stride, padding=1)


def smooth(step, u, f):
    return u + conv(step.S, f - conv(step.A, u))


def raised(layer, u, fine):
    extra = [n - 2 * c + 1 for n, c in zip(fine.shape[2:], u.shape[2:], strict=True)]
    return fine + F.conv_transpose2d(u, layer.convolution.weight, stride=2, padding=1, output_padding=extra)


def by_formula(net, f):
    """The V-cycle of three levels ("10", "11", "20") with zeros outside, by torch's functions."""
    u = conv(net.before[0][0].S, f)
    f1, u1 = conv(net.restrict_f[0].layer, f, 2), conv(net.restrict_u[0].layer, u, 2)
    u1 = smooth(net.before[1][0], u1, f1)
    f2, u2 = conv(net.restrict_f[1].layer, f1, 2), conv(net.restrict_u[1].layer, u1, 2)
    for step in net.before[2]:
        u2 = smooth(step, u2, f2)
    u1 = smooth(net.after[1][0], raised(net.prolong[1], u2, u1), f1)
    return raised(net.prolong[0], u1, u)


@pytest.mark.parametrize("space", [(16, 16), (17, 22), (37, 19)])
def test_cycle_is_the_formula(space):
    net, f = cycle(), seeded(2, 2, *space)
    torch.testing.assert_close(net(f), by_formula(net, f))
    wrong = copy.deepcopy(net)
    wrong.restrict_u[0].layer.convolution.weight.data *= 1.01
    assert (net(f) - by_formula(wrong, f)).abs().max() > 1e-5


def test_restricting_the_residual():
    net, f = cycle(restrict_residual=True), seeded(1, 2, 16, 16)
    plain = cycle()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("residual")})
    assert (net(f) - plain(f)).abs().max() > 1e-4
    for layer in net.residual:  # f - 0 u
        layer.convolution.weight.data.zero_()
    torch.testing.assert_close(net(f), plain(f))
    assert parameter_count(net) - parameter_count(plain) == 2 * 9 * 2 * 3


def test_restricted_residual_against_the_formula():
    net, f = cycle(restrict_residual=True, smoothing=("10", "10")), seeded(1, 2, 16, 17)
    u = conv(net.before[0][0].S, f)
    coarse = conv(net.restrict_f[0].layer, f - conv(net.residual[0], u), 2)
    below = smooth(net.before[1][0], conv(net.restrict_u[0].layer, u, 2), coarse)
    torch.testing.assert_close(net(f), raised(net.prolong[0], below, u))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(("dim", "space"), [(1, (29,)), (2, (16, 23)), (3, (8, 9, 11))])
def test_linear_and_bounded(word, dim, space):
    net = cycle(dim=dim, boundary=(word,))
    f, g = seeded(2, 2, *space), seeded(2, 2, *space, seed=1)
    torch.testing.assert_close(net(2.5 * f - 3 * g), 2.5 * net(f) - 3 * net(g))
    assert net(torch.zeros_like(f)).abs().max() == 0
    fields = [net(s * f).norm() / (s * f).norm() for s in (1e-8, 1.0, 1e8)]
    torch.testing.assert_close(fields[0], fields[2])
    assert fields[1] < 10


@pytest.mark.parametrize("settings", [{"smoother_bias": True}, {"cycle_norm": "group"}])
def test_bias_and_norm_are_not_linear(settings):
    net, f = cycle(**settings), seeded(1, 2, 16, 16)
    assert (net(2 * f) - 2 * net(f)).abs().max() > 1e-3


@pytest.mark.parametrize("n", [*range(16, 33), 37, 41, 53, 64, 79, 85])
def test_any_size(n):
    net = cycle(1, 2, smoothing=("10", "10", "10", "20"))
    assert net(seeded(1, 1, n, 101 - n)).shape == (1, 2, n, 101 - n)


def test_too_coarse():
    net = cycle(1, 2, smoothing=("10", "10", "10", "20"))
    with pytest.raises(WrongResolution, match=r"4 levels need at least 16 points on every axis, got .64, 15"):
        net(seeded(1, 1, 64, 15))


def test_periodic_cycle_commutes_with_shifts():
    f = seeded(1, 2, 16, 24)
    shift = lambda x: x.roll((4, -8), (2, 3))  # noqa: E731
    found = {}
    for word in WORDS:
        net = cycle(boundary=(word,))
        found[word] = (net(shift(f)) - shift(net(f))).abs().max().item()
    assert found["periodic"] < 1e-12
    assert min(found["dirichlet"], found["neumann"]) > 1e-3
    net = cycle(boundary=("periodic",))
    assert (net(f.roll(1, 2)) - net(f).roll(1, 2)).abs().max() > 1e-3  # not by less than 2^levels


def test_mixed_axes_commute_with_shifts_along_the_periodic_one():
    net, f = cycle(boundary=("periodic", "neumann")), seeded(1, 2, 16, 24)
    torch.testing.assert_close(net(f.roll(4, 2)), net(f).roll(4, 2))
    assert (net(f.roll(4, 3)) - net(f).roll(4, 3)).abs().max() > 1e-3


@pytest.mark.parametrize("word", WORDS)
def test_mirrored_kernels_mirror_the_output(word):
    net = cycle(dim=1, boundary=(word,))
    mirrored = copy.deepcopy(net)
    for p in mirrored.parameters():
        p.data = p.data.flip(-1)
    for n, symmetric in ((17, True), (16, False)):  # 17, 9, 5: coarse points lie on both ends
        f = seeded(1, 2, n)
        difference = (mirrored(f.flip(-1)) - net(f).flip(-1)).abs().max()
        assert bool(difference < 1e-12) is symmetric


def test_every_parameter_gets_a_gradient():
    for settings in ({}, {"restrict_residual": True}, {"smoother_bias": True, "cycle_norm": "group"}):
        net = cycle(**settings)
        net(seeded(2, 2, 16, 17)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_gradients():
    net = cycle(1, 2, dim=1, boundary=("neumann", "dirichlet"))
    f = seeded(1, 1, 9).requires_grad_()
    assert torch.autograd.gradcheck(net, (f,))


def test_growing_channels_and_narrow_transfers():
    settings = {"growing": True, "padded_transfers": False, "prolongation": (3, 4)}
    net = cycle(1, 2, boundary=("neumann",), **settings)
    assert net.settings.grids((24, 24)) == [(24, 24), (11, 11), (5, 5)]
    with pytest.raises(WrongResolution, match=r"\(3, 4\) does not lead back from 11 to 24 points"):
        net(seeded(1, 1, 24, 24))
    net = cycle(1, 2, boundary=("neumann",), **{**settings, "prolongation": (4, 3)})
    assert net(seeded(1, 1, 24, 24)).shape == (1, 2, 24, 24)
    assert [layer[0].S.convolution.weight.shape[:2] for layer in net.before] == [(2, 1), (4, 2), (6, 3)]
    with pytest.raises(WrongResolution, match="3 levels need at least 11 points"):
        net(seeded(1, 1, 10, 24))


def test_a_kernel_of_4_takes_even_sizes_only():
    net = cycle(prolongation=(4, 4))
    assert net(seeded(1, 2, 16, 20)).shape == (1, 3, 16, 20)
    with pytest.raises(WrongResolution, match=r"from 11 to 21 points \(level 0 of the grid \(16, 21\)"):
        net(seeded(1, 2, 16, 21))


def test_layer_norm_has_one_size():
    net = cycle(cycle_norm="layer", size=(16, 18))
    assert net.norms[1].weight.shape == (3, 8, 9)
    with pytest.raises(WrongResolution, match=r"made for the grid \(16, 18\), got \(18, 16\)"):
        net(seeded(1, 2, 18, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 4}, "dim is 1, 2 or 3, got 4"),
        ({"smoothing": ("1", "2")}, "two digits per level"),
        ({"smoothing": ()}, "two digits per level"),
        ({"smoothing": ("01", "10")}, "finest level needs a step"),
        ({"smoothing": ("10", "11")}, "the coarsest has none after"),
        ({"prolongation": (3,)}, "prolongation has 2 kernels of 3 or 4"),
        ({"prolongation": (3, 5)}, "prolongation has 2 kernels of 3 or 4"),
        ({"cycle_norm": "batch"}, "one of none, group, layer"),
        ({"cycle_norm": "layer"}, "give size, 2 numbers"),
        ({"size": (16,)}, "size has 2 numbers or none"),
        ({"boundary": ("open",)}, "got open"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(WrongSettings, match=message):
        CycleSettings(**{"smoothing": THREE, **settings})


def test_an_even_kernel_is_refused():
    with pytest.raises(WrongSettings, match="kernel is odd"):
        BoundaryConvolution(1, 1, boundary_sides(("periodic",), 1), kernel=2)
