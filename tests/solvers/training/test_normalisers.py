"""Normalisers: statistics in one pass, inverse to rounding, no grid and no split but their own."""

import pytest
import torch

from solvus.operators.linear.errors import NonFinite
from solvus.operators.neural.base import WrongChannels, WrongResolution
from solvus.solvers.training.normalisers import Normaliser, NotTrainingData, normalisers

MODES = ("channel", "pointwise", "scalar", "none")


class Split:
    def __init__(self, x, y, split="train"):
        self.x, self.y, self.split = x, y, split

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


def data(n=40):
    x = (
        torch.randn(n, 2, 6, 5) * torch.tensor([3.0, 0.01])[:, None, None]
        + torch.tensor([100.0, -1.0])[:, None, None]
    )
    return Split(x, x[:, :1] ** 2)


@pytest.mark.parametrize("mode", MODES)
def test_decode_inverts_encode(mode):
    x = data().x
    normaliser = Normaliser.from_data(x, mode)
    assert torch.allclose(normaliser.decode(normaliser.encode(x)), x, rtol=1e-5, atol=1e-5)
    double = Normaliser.from_data(x.double(), mode, dtype=torch.float64)
    assert torch.allclose(double.decode(double.encode(x.double())), x.double(), rtol=1e-14)
    leaf = x.clone().requires_grad_()
    normaliser.encode(leaf).sum().backward()
    assert leaf.grad.abs().min() > 0
    again = Normaliser.from_settings(normaliser.settings())
    again.load_state_dict(normaliser.state_dict())
    assert torch.equal(again.encode(x), normaliser.encode(x))
    assert not list(normaliser.parameters())


AXES = {"channel": (0, 2, 3), "pointwise": (0,), "scalar": (0, 1, 2, 3)}


@pytest.mark.parametrize("mode", AXES)
def test_encoded_training_data_have_mean_zero_and_deviation_one(mode):
    pairs = data()
    z = Normaliser.from_data(pairs, mode, dtype=torch.float64).encode(pairs.x.double())
    assert z.mean(AXES[mode]).abs().max() < 1e-10
    assert (z.std(AXES[mode], correction=0) - 1).abs().max() < 1e-10
    assert (z[:20].mean(AXES[mode]).abs() > 1e-4).any()  # half the data: the check can fail


@pytest.mark.parametrize("mode", AXES)
def test_one_pass_equals_all_at_once(mode):
    pairs = data()
    x, y = normalisers(pairs, mode, mode)
    at_once = Normaliser.from_data(pairs.x, mode), Normaliser.from_data(pairs.y, mode)
    for a, b in zip((x, y), at_once, strict=True):
        assert torch.allclose(a.mean, b.mean, rtol=1e-6)
        assert torch.allclose(a.scale, b.scale, rtol=1e-6)


def test_no_cancellation_with_a_large_mean():
    x = 1e5 + torch.randn(500, 1, 4, dtype=torch.float64)
    found = Normaliser.from_data(Split(x, x), dtype=torch.float64)
    assert abs(found.scale.item() - x.std(correction=0).item()) < 1e-8


def test_what_hardly_varies_is_not_blown_up():
    x = torch.cat((torch.full((8, 1, 4), 300.0), torch.zeros(8, 1, 4), torch.randn(8, 1, 4)), dim=1)
    x[0, 0, 0] = 300.00003
    found = Normaliser.from_data(x)
    assert found.scale[:2].tolist() == pytest.approx([300.0, 1.0])
    edge = torch.randn(8, 1, 4)
    edge[:, :, 0] = 0.0  # a Dirichlet point
    scale = Normaliser.from_data(edge, "pointwise").scale
    assert scale[0, 0] == pytest.approx(edge.square().mean(0).max().sqrt().item(), rel=1e-5)


def test_grids_and_channels():
    x = data().x
    pointwise, channel = Normaliser.from_data(x, "pointwise"), Normaliser.from_data(x)
    with pytest.raises(WrongResolution, match=r"grid \(6, 5\), got fields on \(12, 10\)"):
        pointwise.encode(torch.ones(1, 2, 12, 10))
    assert channel.encode(torch.ones(1, 2, 12, 10)).shape == (1, 2, 12, 10)
    with pytest.raises(WrongChannels, match="2 channels, got 1"):
        channel.decode(torch.ones(1, 1, 6, 5))
    with pytest.raises(WrongResolution, match="different sizes"):
        Normaliser.from_data([(torch.ones(1, 4), 0), (torch.ones(1, 5), 0)], "pointwise")


@pytest.mark.parametrize("split", ["test", "valid", "pdebench-single-test"])
def test_data_that_are_not_for_training_are_refused(split):
    with pytest.raises(NotTrainingData, match="training data alone"):
        Normaliser.from_data(Split(torch.ones(2, 1, 4), torch.ones(2, 1, 4), split))


def test_bad_data():
    with pytest.raises(NonFinite, match="NaN or infinity"):
        Normaliser.from_data(torch.tensor([[[1.0, torch.nan]]]))
    with pytest.raises(ValueError, match="empty"):
        Normaliser.from_data([])
    with pytest.raises(ValueError, match="mode is one of"):
        Normaliser(torch.ones(1), torch.ones(1), "median")
    with pytest.raises(ValueError, match="one shape"):
        Normaliser(torch.ones(1), torch.ones(2))


def test_a_pair_of_tensors_is_not_a_list_of_samples():
    """Two tensors (x, y) have the length and the items of a dataset of two pairs, and are none."""
    pairs = data()
    for part, fields in (("x", pairs.x), ("y", pairs.y)):
        for given in ((pairs.x, pairs.y), [pairs.x, pairs.y]):
            found = Normaliser.from_data(given, part=part)
            assert torch.equal(found.mean, Normaliser.from_data(fields).mean)
            assert torch.equal(found.scale, Normaliser.from_data(fields).scale)
