"""Own data become a source once their axes are named; what does not fit is said by name and size."""

import numpy as np
import pytest
import torch

from solvus.datasets.formats.arrays import ArraySource, AxisMismatch, cell_centres, from_arrays
from solvus.datasets.layout import Layout, Role, Variable
from solvus.meshes.grid import Boundary


def numbers(*shape, dtype=np.float32):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def test_a_single_array_is_an_output_or_a_state():
    steady = from_arrays(numbers(3, 4, 5), axes=("sample", "x", "y"))
    assert (steady.samples, steady.layout.axes, steady.layout.resolution) == (3, ("x", "y"), (4, 5))
    assert (steady.layout["u"].role, steady.layout.steady) == (Role.OUTPUT, True)
    moving = from_arrays(numbers(3, 7, 4), axes=("sample", "time", "x"))
    assert moving.layout["u"].role is Role.STATE
    assert moving.layout.times.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_inputs_and_outputs():
    source = from_arrays(numbers(2, 3, 3), -numbers(2, 3, 3), axes=("sample", "x", "y"))
    assert [(v.name, v.role) for v in source.layout.variables] == [
        ("input", Role.INPUT),
        ("output", Role.OUTPUT),
    ]
    values = source.read(1, 2)
    assert values["output"].shape == (1, 3, 3)
    np.testing.assert_array_equal(values["input"], -values["output"])


def test_axes_in_any_order_come_out_in_the_order_of_the_layout():
    u = numbers(2, 3, 4, 5)  # x, y, time, sample: as MATLAB has them
    source = from_arrays({"u": u}, axes=("x", "y", "time", "sample"))
    assert source.samples == 5
    assert source.layout.shape("u") == (4, 2, 3)
    np.testing.assert_array_equal(source.read(0, 5)["u"], u.transpose(3, 2, 0, 1))


def test_channels_become_fields():
    u = numbers(2, 6, 4, 5, 3)
    axes = ("sample", "time", "x", "y", "channel")
    assert [v.name for v in from_arrays(u, axes=axes).layout.variables] == ["u_0", "u_1", "u_2"]
    source = from_arrays(u, axes=axes, channels={"u": ("rho", "p", "s")})
    np.testing.assert_array_equal(source.read(1, 2)["p"][0], u[1, ..., 1])
    first = from_arrays(u.transpose(0, 4, 1, 2, 3), axes=("sample", "channel", "time", "x", "y"))
    np.testing.assert_array_equal(first.read(0, 2)["u_2"], u[..., 2])


def test_components_make_vectors_and_tensors():
    v, t = numbers(2, 4, 5, 2), numbers(2, 2, 4, 2, 5)
    source = from_arrays(
        {"v": v, "t": t},
        axes={"v": ("sample", "x", "y", "component"), "t": ("component", "sample", "x", "component", "y")},
    )
    assert [variable.rank for variable in source.layout.variables] == [1, 2]
    np.testing.assert_array_equal(source.read(0, 2)["v"], v)
    np.testing.assert_array_equal(source.read(0, 2)["t"], t.transpose(1, 2, 4, 0, 3))


def test_shared_fields_and_fields_along_some_axes():
    source = from_arrays(
        {"f": numbers(4, 5), "inflow": numbers(2, 5)},
        numbers(2, 3, 4, 5),
        axes={"f": ("x", "y"), "inflow": ("sample", "y"), "output": ("sample", "time", "x", "y")},
    )
    assert not source.layout["f"].sample_varying
    assert source.layout["inflow"].axes == ("y",)
    values = source.read(1, 2)
    assert {name: array.shape for name, array in values.items()} == {
        "f": (4, 5),
        "inflow": (1, 5),
        "output": (1, 3, 4, 5),
    }


def test_tensors_and_types():
    narrow = from_arrays(torch.ones(2, 3), axes=("sample", "x")).layout
    assert narrow.dtype == "float32"
    assert from_arrays(np.ones((2, 3), dtype=bool), axes=("sample", "x")).layout.dtype == "float32"
    assert from_arrays(torch.ones(2, 3, dtype=torch.bfloat16), axes=("sample", "x")).layout.dtype == "float32"
    big = np.full((1, 2), 2**24 + 1)
    whole = from_arrays(big, axes=("sample", "x"))
    assert whole.layout.dtype == "float64"
    np.testing.assert_array_equal(whole.read(0, 1)["u"], big)
    grown = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    assert from_arrays(grown, axes=("sample", "x")).layout.dtype == "float64"


def test_nothing_is_copied_before_it_is_read(tmp_path):
    stored = np.lib.format.open_memmap(tmp_path / "u.npy", "w+", np.float32, (4, 3, 5))
    source = from_arrays(stored, axes=("sample", "time", "x"))
    stored[2] = 7
    assert (source.read(2, 3)["u"] == 7).all()


def test_coordinates_boundary_parameters():
    source = from_arrays(
        numbers(2, 3, 4),
        axes=("sample", "time", "x"),
        coordinates={"x": [0, 1, 2, 4], "time": [0, 0.5, 1]},
        name="heat",
        parameters={"nu": 1},
        boundary=[("dirichlet", "neumann")],
    )
    layout = source.layout
    assert (layout.name, dict(layout.parameters)) == ("heat", {"nu": 1.0})
    assert layout.coordinates[0].tolist() == [0, 1, 2, 4]
    assert layout.times.tolist() == [0, 0.5, 1]
    assert layout.boundary == ((Boundary.DIRICHLET, Boundary.NEUMANN),)
    assert cell_centres(4).tolist() == [0.125, 0.375, 0.625, 0.875]


def test_blocks_are_all_there_is():
    u = numbers(5, 4)
    source = from_arrays(u, axes=("sample", "x"))
    blocks = list(source.blocks(nbytes=32))
    assert [start for start, _ in blocks] == [0, 2, 4]
    np.testing.assert_array_equal(np.concatenate([values["u"] for _, values in blocks]), u)


T20, T21 = numbers(2, 20, 4), numbers(2, 21, 4)
WRONG = {
    "lengths": (
        lambda: from_arrays({"u": T20, "v": T21}, axes=("sample", "time", "x")),
        "axis 'time' has 20 entries in u and 21 in v",
    ),
    "samples": (
        lambda: from_arrays(numbers(3, 4), numbers(2, 4), axes=("sample", "x")),
        "axis 'sample' has 3 entries in input and 2 in output",
    ),
    "number of axes": (
        lambda: from_arrays(T20, axes=("sample", "x")),
        "u has 3 axes, shape (2, 20, 4), but 2 are named: sample, x",
    ),
    "one word": (lambda: from_arrays(T20, axes="stx"), "axes is one word, 'stx'"),
    "no space": (lambda: from_arrays(numbers(2, 3), axes=("sample", "time")), "axes of space are missing"),
    "too much space": (
        lambda: from_arrays(numbers(2, 3, 3, 3, 3), axes=("sample", "a", "b", "c", "d")),
        "one to three",
    ),
    "no sample": (lambda: from_arrays(numbers(2, 3), axes=("x", "y")), "no array has the axis 'sample'"),
    "twice": (
        lambda: from_arrays(numbers(2, 3, 3), axes=("sample", "x", "x")),
        "the axis 'x' of u is named 2 times",
    ),
    "empty": (lambda: from_arrays(numbers(2, 0), axes=("sample", "x")), "axis 'x' of u is empty"),
    "components": (
        lambda: from_arrays(numbers(2, 4, 4, 3), axes=("sample", "x", "y", "component")),
        "axis 'component' has 3 entries in u, the 2 axes of space need 2: call it 'channel'",
    ),
    "coordinates": (
        lambda: from_arrays(numbers(2, 4), axes=("sample", "x"), coordinates={"x": [0, 1, 2]}),
        "axis 'x' has 4 entries in the arrays, its coordinates have the shape (3,)",
    ),
    "unknown coordinates": (
        lambda: from_arrays(numbers(2, 4), axes=("sample", "x"), coordinates={"y": [0, 1]}),
        "coordinates for y: the axes of the arrays are x, time",
    ),
    "names of axes": (
        lambda: from_arrays({"u": T20}, axes={"w": ("sample", "time", "x")}),
        "axes are named for w, the arrays are u",
    ),
    "names of channels": (
        lambda: from_arrays(T20, axes=("sample", "channel", "x"), channels={"u": ("a", "b")}),
        "axis 'channel' of u has 20 entries, named are 2",
    ),
    "channels of what": (
        lambda: from_arrays(T20, axes=("sample", "time", "x"), channels={"u": ("a", "b")}),
        "channels named for u, which has no axis 'channel'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_said_by_name_and_size(case):
    make, text = WRONG[case]
    with pytest.raises(AxisMismatch) as caught:
        make()
    assert text in str(caught.value)


def test_other_refusals():
    with pytest.raises(TypeError, match="u is complex, fields are real"):
        from_arrays(np.ones((2, 3), dtype=complex), axes=("sample", "x"))
    with pytest.raises(TypeError, match="u has the type <U1"):
        from_arrays(np.full((2, 3), "a"), axes=("sample", "x"))
    with pytest.raises(ValueError, match="a among inputs and outputs"):
        from_arrays({"a": T20}, {"a": T20}, axes=("sample", "time", "x"))
    with pytest.raises(ValueError, match="two fields are called a"):
        from_arrays(
            {"a": numbers(1, 3), "b": numbers(1, 1, 3)},
            axes={"a": ("sample", "x"), "b": ("sample", "channel", "x")},
            channels={"b": ("a",)},
        )


def test_an_array_source_checks_its_arrays():
    layout = Layout("n", ("x",), (cell_centres(4),), np.arange(2.0), (Variable("u", time_varying=True),))
    with pytest.raises(AxisMismatch, match=r"u has the shape \(3, 4\), needed is \(sample 3, time 2, x 4\)"):
        ArraySource(layout, {"u": numbers(3, 4)})
    with pytest.raises(KeyError, match="the fields of n are u; given: v"):
        ArraySource(layout, {"v": numbers(3, 2, 4)})
    shared = Layout("n", ("x",), (cell_centres(4),), np.zeros(1), (Variable("u", sample_varying=False),))
    with pytest.raises(AxisMismatch, match="give the number of samples"):
        ArraySource(shared, {"u": numbers(4)})
    assert ArraySource(shared, {"u": numbers(4)}, 3).samples == 3
