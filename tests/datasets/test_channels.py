"""Fields as channels: names, order, and strides that make no grid."""

import numpy as np
import pytest
import torch

from solvus.datasets.layout import Layout, Role, Variable
from solvus.datasets.loading.channels import Channels, UnfitStride
from solvus.meshes.grid import Boundary


def test_components_of_tensors():
    tensor = Layout("t", ("x", "y"), (np.arange(3.0),) * 2, np.zeros(1), (Variable("stress", 2),))
    assert Channels(tensor).names("stress") == ("stress_xx", "stress_xy", "stress_yx", "stress_yy")
    values = np.random.default_rng(0).standard_normal((3, 3, 2, 2))
    turned = Channels(tensor, dtype=torch.float64).tensor("stress", values)
    np.testing.assert_array_equal(turned[1], values[..., 0, 1])


def periodic(n=12):
    layout = Layout(
        "ring",
        ("x",),
        (np.arange(n) / n,),
        np.zeros(1),
        (Variable("a", role=Role.INPUT), Variable("u")),
        ((Boundary.PERIODIC, Boundary.PERIODIC),),
    )
    return Channels(layout, stride=5)


def test_a_stride_must_divide_a_period():
    with pytest.raises(
        UnfitStride, match=r"x is periodic with 12 points, .* divide it: .* fit are 2, 3, 4, 6"
    ):
        periodic()
    assert periodic(15).resolution == (3,)
