"""Patching: exact return, halos, windows by index, boundaries, memory, the network on patches."""

import itertools
import json

import pytest
import torch
from torch import nn

from solvus.operators.neural.base import NeuralOperator, WrongChannels, WrongResolution, WrongSettings
from solvus.operators.neural.fno import FNO, FNOConfig
from solvus.operators.neural.patching import BOUNDARIES, Patched, PatchedConfig, Patching

CASES = [
    (Patching((2,), 1, (3,)), (17,)),
    (Patching((4,), 2, (0.1,)), (40,)),
    (Patching((2, 2), 1, (2, 2)), (15, 20)),
    (Patching((4, 4), 2, (0.125, 0.125), ("zero",)), (32, 32)),
    (Patching((3, 2), 1, (2, 0), ("reflect", "periodic")), (13, 9)),
    (Patching((1, 5), 0, (), ("replicate",)), (7, 23)),
    (
        Patching((2, 2, 2), 1, (1, 2, 1), ("zero", "reflect", "replicate", "zero", "periodic", "periodic")),
        (6, 7, 9),
    ),
]


def seeded(shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def returned(patching, x):
    """What the identity on patches makes of a field."""
    return patching.join(patching.split(x)[:, : x.shape[1]], x.shape[2:])


def beyond(line, place, sides):
    """The value of a line at any place, by walking back to the grid one boundary at a time."""
    n = len(line)
    while not 0 <= place < n:
        lower = place < 0
        match sides[0 if lower else 1]:
            case "zero":
                return 0.0
            case "replicate":
                place = 0 if lower else n - 1
            case "periodic":
                place += n if lower else -n
            case "reflect":
                place = -place if lower else 2 * (n - 1) - place
    return float(line[place])


@pytest.mark.parametrize(("patching", "space"), CASES)
def test_the_identity_returns_the_field_bit_for_bit(patching, space):
    x = seeded((3, 2, *space))
    patches = patching.split(x)
    assert patches.shape == (3 * patching.count, 2 * (patching.levels + 1), *patching.patch_size(space))
    assert torch.equal(returned(patching, x), x)


def test_a_wrong_order_of_patches_is_found():
    patching, x = Patching((2, 3)), seeded((1, 1, 8, 9))
    wrong = patching.join(patching.split(x).flip(0), (8, 9))
    assert not torch.equal(wrong, x)


def test_the_halo_is_the_inside_of_the_neighbour():
    patching = Patching((2, 2), 0, (2, 3), ("zero",))
    patches = patching.split(seeded((1, 1, 12, 16))).reshape(2, 2, 10, 14)
    assert torch.equal(patches[0, 0][-2:, 3:-3], patches[1, 0][2:4, 3:-3])
    assert torch.equal(patches[1, 0][:2, 3:-3], patches[0, 0][-4:-2, 3:-3])
    assert torch.equal(patches[0, 0][2:-2, -3:], patches[0, 1][2:-2, 3:6])
    assert torch.equal(patches[0, 0][-2:, -3:], patches[1, 1][2:4, 3:6])  # over the corner
    assert patches[0, 0][:2].abs().max() == 0


@pytest.mark.parametrize("sides", [(a, b) for a, b in itertools.product(BOUNDARIES, repeat=2)
                                   if (a == "periodic") == (b == "periodic")])  # fmt: skip
@pytest.mark.parametrize("n", [12, 13])
def test_windows_by_index(sides, n):
    patching, x = Patching((3,), 2, (2,), sides), seeded((1, 1, n), dtype=torch.float64)
    c, s = patching.interior((n,))[0], patching.patch_size((n,))[0]
    patches = patching.split(x)
    for level, i, k in itertools.product(range(3), range(3), range(s)):
        place = i * c - 2 - (2**level - 1) * (s - 1) // 2 + 2**level * k
        if sides == ("reflect", "reflect") or "reflect" not in sides or -n < place < 2 * n - 1:
            assert patches[i, level, k] == beyond(x[0, 0], place, sides)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_windows_of_all_levels_have_one_centre(level):
    """A linear field has the same mean in all windows, within half a spacing of the finest grid."""
    x = torch.arange(64.0, dtype=torch.float64)[None, None]
    patches = Patching((4,), 2, (2,)).split(x)
    inner = patches[1]  # windows of the levels 0 and 1 stay on the grid
    if level < 2:
        assert abs(inner[level].mean() - (16 + 7.5)).item() <= 0.5
        assert inner[level].diff().unique().tolist() == [2.0**level]
    else:
        assert patches[:, 2].min() >= 0


def test_channels_of_a_level_stand_together():
    x = seeded((1, 3, 16))
    patches = Patching((2,), 1, (2,)).split(x)
    alone = Patching((2,), 1, (2,)).split(x[:, 1:2])
    assert torch.equal(patches[:, [1, 4]], alone)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"patches": ()}, "1 to 3 axes"),
        ({"patches": (2, 0)}, "1 or more"),
        ({"patches": (2, 2), "levels": -1}, "levels"),
        ({"patches": (2, 2), "halo": (1,)}, "halo has 2"),
        ({"patches": (2, 2), "boundary": ("open",)}, "out of periodic"),
        ({"patches": (2, 2), "boundary": ("zero",) * 3}, "1, 2 or 4"),
        ({"patches": (2,), "boundary": ("periodic", "zero")}, "one side only"),
    ],
)
def test_wrong_settings_are_refused(settings, says):
    with pytest.raises(WrongSettings, match=says):
        Patching(**settings)


def test_grids_that_cannot_be_cut_are_refused():
    with pytest.raises(WrongResolution, match="last would be empty"):
        Patching((4,)).split(torch.zeros(1, 1, 9))
    with pytest.raises(WrongResolution, match="2 axes"):
        Patching((2, 2)).split(torch.zeros(1, 1, 9))
    with pytest.raises(WrongResolution, match="2 points along axis 0"):
        Patching((1,), boundary=("reflect",)).split(torch.zeros(1, 1, 1))
    with pytest.raises(WrongResolution, match="must keep the size"):
        Patching((2,)).join(torch.zeros(2, 1, 3), (8,))


def network(levels=1, inputs=1, outputs=1):
    torch.manual_seed(0)
    return FNO(FNOConfig(inputs * (levels + 1), outputs, (3, 3), width=6, layers=2))


def patched(at_once=0):
    return Patched.around(network(), Patching((2, 2), 1, (2, 2), ("zero",)), at_once)


def test_a_network_on_patches_is_split_network_join():
    model, x = patched(), seeded((2, 1, 15, 18))
    expected = model.patching.join(model.net(model.patching.split(x)), (15, 18))
    assert torch.equal(model(x), expected)
    assert model(x).shape == x.shape


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_patches_in_portions_give_the_same(at_once):
    x = seeded((2, 1, 16, 16))
    whole, portions = patched(), patched(at_once)
    torch.testing.assert_close(portions(x), whole(x))
    for model in (whole, portions):
        model(x).square().sum().backward()
    for a, b in zip(portions.parameters(), whole.parameters(), strict=True):
        assert a.grad is not None
        assert a.grad.abs().max() > 0
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def kept_for_backward(model, x):
    """Bytes that autograd keeps from the forward pass, parameters apart."""
    own = {p.data_ptr() for p in model.parameters()}
    kept = {}

    def note(t):
        if t.data_ptr() not in own:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        result = model(x)
    assert result.requires_grad
    return sum(kept.values())


def test_memory_falls_with_the_number_of_patches_at_once():
    x = seeded((1, 1, 64, 64))
    all_at_once, one_by_one = kept_for_backward(patched(), x), kept_for_backward(patched(1), x)
    assert one_by_one < all_at_once / 4


class Largest(nn.Module):
    """Note the largest input that a layer sees."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.largest = layer, 0

    def forward(self, x):
        self.largest = max(self.largest, x.numel())
        return self.layer(x)


def test_the_field_in_the_network_shrinks_with_the_number_of_patches():
    sizes = []
    for m in (1, 2, 4):
        net = network(0)
        net.projection = Largest(net.projection)
        with torch.no_grad():
            Patched.around(net, Patching((m, m)), at_once=1)(seeded((1, 1, 64, 64)))
        sizes.append(net.projection.largest)
    assert sizes == [6 * 64**2, 6 * 32**2, 6 * 16**2]


def test_settings_round_trip():
    model = patched(2)
    again = Patched.from_settings(json.loads(json.dumps(model.settings())))
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    x = seeded((1, 1, 16, 17))
    assert torch.equal(again(x), model(x))


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(WrongChannels, match="multiple of 2"):
        Patched.around(network(0, 3), Patching((2, 2), 1))
    with pytest.raises(WrongChannels, match="must have 2 inputs"):
        Patched(PatchedConfig(1, 1, (2, 2), "fno", levels=1), network(0))
    with pytest.raises(WrongSettings, match="at_once"):
        PatchedConfig(1, 1, (2, 2), "fno", at_once=-1)
    with pytest.raises(WrongResolution, match="at least"):
        patched()(torch.zeros(1, 1, 2, 2))


class Twice(NeuralOperator):
    """A network without a name."""

    Config = FNOConfig

    @property
    def dim(self):
        return 2

    def forward(self, x):
        return 2 * x


def test_a_network_without_a_name_goes_between_split_and_join():
    net, patching, x = Twice(FNOConfig(1, 1, (2, 2))), Patching((2, 2), 0, (1, 1)), seeded((1, 1, 8, 8))
    with pytest.raises(WrongSettings, match="has no name"):
        Patched.around(net, patching)
    assert torch.equal(patching.join(net(patching.split(x)), (8, 8)), 2 * x)


def test_a_shift_by_one_patch_shifts_the_result_of_a_periodic_field():
    torch.manual_seed(0)
    net = FNO(FNOConfig(2, 1, (3, 3), width=6, layers=2, coordinates="none")).double()
    model = Patched.around(net, Patching((4, 4), 1, (2, 2)))
    x = seeded((1, 1, 32, 32), dtype=torch.float64)
    torch.testing.assert_close(model(x.roll(8, -1)), model(x).roll(8, -1))


def test_double_precision_and_export():
    model = patched().double()
    x = seeded((1, 1, 15, 16), dtype=torch.float64)
    assert model(x).dtype == torch.float64
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_compile():
    model, x = patched(), seeded((1, 1, 15, 16))
    torch.testing.assert_close(torch.compile(model)(x), model(x), rtol=1e-4, atol=1e-5)
