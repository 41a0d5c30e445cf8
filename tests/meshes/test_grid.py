"""Grids: which unknowns there are, where they sit, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvus.meshes import Boundary, Centring, Grid

SIDES = st.sampled_from(["dirichlet", "neumann"])
AXIS = st.one_of(st.just(("periodic", "periodic")), st.tuples(SIDES, SIDES))


@pytest.mark.parametrize(
    ("centring", "boundary", "axis"),
    [
        ("node", "dirichlet", [0.25, 0.5, 0.75]),
        ("node", "neumann", [0.0, 0.5, 1.0]),
        ("node", "periodic", [0.0, 1 / 3, 2 / 3]),
        ("node", [("dirichlet", "neumann")], [1 / 3, 2 / 3, 1.0]),
        ("node", [("neumann", "dirichlet")], [0.0, 1 / 3, 2 / 3]),
        ("cell", "dirichlet", [1 / 6, 1 / 2, 5 / 6]),
        ("cell", "periodic", [1 / 6, 1 / 2, 5 / 6]),
    ],
)
def test_unknowns_sit_where_they_should(centring, boundary, axis):
    grid = Grid((3,), centring=centring, boundary=boundary)
    np.testing.assert_allclose(grid.axes()[0], axis, rtol=0, atol=1e-15)


@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=3),
    st.sampled_from(list(Centring)),
    st.data(),
)
def test_spacing_cells_and_box_agree(shape, centring, data):
    boundary = tuple(data.draw(AXIS) for _ in shape)
    lower = tuple(-1.0 - i for i in range(len(shape)))
    upper = tuple(2.0 + i for i in range(len(shape)))
    grid = Grid(tuple(shape), lower, upper, centring, boundary)
    for axis, x in enumerate(grid.axes()):
        assert len(x) == shape[axis]
        np.testing.assert_allclose(np.diff(x), grid.spacing[axis])
        assert lower[axis] - 1e-12 <= x[0] < x[-1] <= upper[axis] + 1e-12
        total = grid.cells[axis] * grid.spacing[axis]
        np.testing.assert_allclose(total, upper[axis] - lower[axis])
    assert grid.points().shape == (grid.size, grid.dim)
    fine = grid.refine()
    assert fine.cells == tuple(2 * n for n in grid.cells)
    np.testing.assert_allclose(fine.spacing, np.array(grid.spacing) / 2)


def test_points_run_along_the_last_axis_first():
    points = Grid((2, 3), boundary="neumann").points()
    np.testing.assert_allclose(points[:4], [[0, 0], [0, 0.5], [0, 1], [1, 0]])


def test_boundary_is_given_once_per_axis_or_per_face():
    once = Grid((4, 4), boundary="neumann").boundary
    axes = Grid((4, 4), boundary=["neumann", "periodic"]).boundary
    assert once == ((Boundary.NEUMANN, Boundary.NEUMANN),) * 2
    assert axes[1] == (Boundary.PERIODIC, Boundary.PERIODIC)


def test_cell_axes_are_centres():
    np.testing.assert_allclose(Grid((3,)).cell_axes()[0], [0.125, 0.375, 0.625, 0.875])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": ()}, "1 to 3 axes"),
        ({"shape": (2, 2, 2, 2)}, "1 to 3 axes"),
        ({"shape": (0,)}, "at least one unknown"),
        ({"shape": (1,), "boundary": "neumann"}, "at least one unknown and one cell"),
        ({"shape": (3,), "lower": (1.0,), "upper": (0.0,)}, "must lie below upper"),
        ({"shape": (3,), "upper": (float("nan"),)}, "must lie below upper"),
        ({"shape": (3, 3), "lower": (0.0,)}, "one value per axis"),
        ({"shape": (3, 3), "boundary": ["neumann"] * 3}, "one entry per axis"),
        ({"shape": (3,), "boundary": [("periodic", "neumann")]}, "periodic on one side only"),
        ({"shape": (3,), "boundary": "robin"}, "robin"),
        ({"shape": (3,), "centring": "face"}, "face"),
        ({"shape": (3,), "obstacle": "periodic"}, "not 'periodic'"),
        ({"shape": (3,), "mask": np.ones(4, bool)}, r"the mask has shape \(4,\)"),
        ({"shape": (3,), "mask": np.zeros(3, bool)}, "leaves no unknown"),
    ],
)
def test_bad_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(**arguments)


def test_masked_grids_are_not_refined():
    with pytest.raises(ValueError, match="refine the box and mask it anew"):
        Grid((3,), mask=np.array([True, False, True])).refine()
