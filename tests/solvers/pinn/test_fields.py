"""Outputs as functions: names of derivatives, arithmetic, and what is refused."""

import numpy as np
import pytest
import torch

from solvus.solvers.pinn.errors import BadProblem, NoDerivative, UnknownName, WrongShape
from solvus.solvers.pinn.fields import Field, Place, Recorder, arguments, derivative, per_point, values_of
from solvus.solvers.pinn.jets import Plan, nested

POINTS = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
X, Y, T = POINTS.T
KEYS = [(0, 0, 1), (0, 1, 2), (2,), (1, 1), (0, 0, 0, 0)]


def place(normals=None):
    """u = x^4 y t, v = sin(y) on five points of space (x, y) and time."""

    def f(p):
        return torch.stack([p[:, 0] ** 4 * p[:, 1] * p[:, 2], torch.sin(p[:, 1])], dim=1)

    return Place(POINTS, nested(f, POINTS, Plan(KEYS, laplacian=(0, 1))), ("x", "y", "t"), 2, normals)


def fields(normals=None):
    given = place(normals).named(("u", "v"), {})
    return given["u"], given["v"]


def test_derivatives_by_name():
    u, v = fields()
    for found, wanted in [
        (u.x, 4 * X**3 * Y * T),
        (u.xx, 12 * X**2 * Y * T),
        (u.xxy, 12 * X**2 * T),
        (u.yxx, 12 * X**2 * T),
        (u.xyt, 4 * X**3),
        (u.t, X**4 * Y),
        (u.xxxx, 24 * Y * T),
        (u.laplacian, 12 * X**2 * Y * T),
        (v.laplacian, -torch.sin(Y)),
        (v.yy, -torch.sin(Y)),
        (u.grad, torch.stack([4 * X**3 * Y * T, X**4 * T], dim=1)),
        (u.d("x", 1), 4 * X**3 * T),
    ]:
        torch.testing.assert_close(found, wanted)


def test_arithmetic_is_that_of_the_values():
    u, v = fields()
    a, b = u.value, v.value
    for found, wanted in [
        (u + v, a + b),
        (1 - u, 1 - a),
        (u * u.x - 2 * v, a * u.x - 2 * b),
        (u / (1 + v**2), a / (1 + b**2)),
        (2**u, 2**a),
        (-u, -a),
        (+u, a),
        (abs(u - 1), abs(a - 1)),
        (torch.sin(u), torch.sin(a)),
        (torch.stack([u, v]), torch.stack([a, b])),
        (torch.stack(tensors=[u, v]), torch.stack([a, b])),
        (torch.cat(tensors=(u, v), dim=0), torch.cat([a, b])),
        (torch.einsum("i,i->i", [u, v]), a * b),
        (torch.where(u > 0.5, u, v), torch.where(a > 0.5, a, b)),
    ]:
        assert torch.equal(torch.as_tensor(found), wanted)


def test_the_normal_derivative():
    normals = torch.tensor([[0.6, 0.8]], dtype=torch.float64).expand(5, 2)
    u, _ = fields(normals)
    torch.testing.assert_close(u.n, 0.6 * u.x + 0.8 * u.y)


def test_the_normal_derivative_needs_a_boundary():
    with pytest.raises(NoDerivative, match="it exists on the boundary"):
        fields()[0].n  # noqa: B018


def test_names_that_are_no_derivative():
    u, _ = fields()
    with pytest.raises(UnknownName, match=r"u\.xz is no derivative: .* of x, y, t"):
        u.xz  # noqa: B018
    with pytest.raises(UnknownName, match="there is no coordinate 'z': there are x, y, t"):
        u.d("z")
    with pytest.raises(UnknownName):
        u.d(3)


def test_attributes_that_are_no_derivative_are_not_there():
    u, _ = fields()
    assert hasattr(u, "xxy")
    assert not hasattr(u, "shape")
    assert getattr(u, "shape", None) is None


def test_the_fifth_derivative_is_refused():
    with pytest.raises(NoDerivative, match=r"up to order 4 are carried, u\.xxxxt is of order 5"):
        fields()[0].xxxxt  # noqa: B018


def test_long_coordinate_names():
    assert derivative("x10x1", ("x1", "x10")) == (0, 1)
    assert derivative("x11", ("x1", "x10")) is None


def test_a_recorder_notes_what_is_used():
    recorder = Recorder(POINTS, 1)
    u = Place(POINTS, recorder, ("x", "y", "t"), 2).named(("u",), {})["u"]
    u.t + u * u.xxy + u.laplacian
    plan = recorder.plan(2)
    assert set(plan.keys) == {(), (2,), (0, 0, 1)}
    assert plan.laplacian == (0, 1)


def test_made_up_values_lie_between_0_and_1():
    recorder = Recorder(POINTS, 3)
    first = recorder.of(())
    for found in [first, recorder.laplacian, *(recorder.of(key) for key in KEYS)]:
        assert ((found > 0) & (found < 1)).all()
    assert not torch.equal(recorder.of((0,)), first)


def test_arguments_by_name():
    assert arguments(lambda u, x, nu=0.1: u, ("u", "x", "y"), "f") == ("u", "x")
    with pytest.raises(UnknownName, match="the equation asks for w, which is not known here: there are u, x"):
        arguments(lambda u, w: u, ("u", "x"), "the equation")
    with pytest.raises(UnknownName, match="takes its arguments by name"):
        arguments(lambda *all: all, ("u",), "f")
    with pytest.raises(
        BadProblem, match=r"f is sin, .* wrap it in a function .*, such as lambda x: sin\(x\)"
    ):
        arguments(torch.sin, ("x", "y"), "f")
    with pytest.raises(BadProblem, match=r"f is a function of arguments by name, got 2\.0"):
        arguments(2.0, ("x",), "f")  # pyright: ignore[reportArgumentType]


def test_values_are_numbers_or_one_per_point():
    like = torch.zeros(0, dtype=torch.float64)
    for one in (2, 2.0, np.float32(2), np.array(2), torch.tensor(2.0)):
        assert values_of(one, like, 5, "f").shape == ()
        assert float(values_of(one, like, 5, "f")) == 2
    assert values_of(torch.ones(5), like, 5, "f").shape == (5,)
    with pytest.raises(WrongShape, match=r"f has shape \(5, 1\), there are 5 points"):
        values_of(torch.ones(5, 1), like, 5, "f")
    for none in (None, "two", np.ones(5), np.ones(1), [2.0], 1j):
        with pytest.raises(WrongShape, match=f"f gave {type(none).__name__}: a number, or a tensor of 5"):
            values_of(none, like, 5, "f")


@pytest.mark.parametrize("shape", [(5, 1), (5, 5), (1,), ()])
def test_one_number_per_point(shape):
    with pytest.raises(WrongShape, match=r"there are 5 points: it must be \(5,\)"):
        per_point(torch.zeros(shape), 5, "the equation")
    assert per_point(torch.zeros(5), 5, "the equation").shape == (5,)


def test_a_field_stands_for_its_values():
    u, _ = fields()
    assert torch.equal(per_point(u, 5, "the equation"), u.value)
    assert isinstance(u, Field)
    with pytest.raises(WrongShape, match="gave float: return a tensor of 5 numbers"):
        per_point(1.0, 5, "the equation")
