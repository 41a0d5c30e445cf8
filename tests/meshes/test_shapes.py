"""Boxes, the L, the disc and grids as meshes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvus.meshes import Grid, box, disc, grid_mesh, l_shape


@pytest.mark.parametrize("cells", [(4,), (3, 2), (2, 1, 3)])
def test_boxes_fill_the_box_with_equal_cells(cells):
    dim = len(cells)
    mesh = box(cells, lower=(-1.0,) * dim, upper=(2.0,) * dim)
    assert mesh.n_points == np.prod(np.array(cells) + 1)
    np.testing.assert_allclose(mesh.volumes, 3.0**dim / mesh.n_cells)
    assert sorted(mesh.tags) == sorted(f"{axis}{end}" for axis in "xyz"[:dim] for end in ("min", "max"))
    faces = np.concatenate([ids for _, ids in mesh.tags.values()])
    np.testing.assert_array_equal(np.sort(faces), mesh.boundary_facets)
    for axis, letter in enumerate("xyz"[:dim]):
        assert (mesh.points[mesh.tagged_points(f"{letter}max"), axis] == 2.0).all()


def test_the_disc_converges_to_the_circle():
    errors = [np.pi * 4 - disc(n, radius=2.0).volumes.sum() for n in (4, 8, 16)]
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(rates, 2.0, atol=0.05)
    mesh = disc(5, radius=2.0)
    np.testing.assert_allclose(np.linalg.norm(mesh.points[mesh.tagged_points("boundary")], axis=1), 2.0)
    assert len(mesh.tags["boundary"][1]) == 30
    assert mesh.quality.min() > 0.75


def test_the_l_has_its_corner():
    mesh = l_shape(3)
    np.testing.assert_allclose(mesh.volumes.sum(), 3.0)
    corner = mesh.points[mesh.tagged_points("reentrant")]
    assert len(mesh.tags["reentrant"][1]) == 6
    assert ((corner == 0).any(axis=1)).all()
    assert len(np.concatenate([ids for _, ids in mesh.tags.values()])) == len(mesh.boundary_facets)


@given(
    st.lists(st.integers(2, 6), min_size=1, max_size=3),
    st.sampled_from(["node", "cell"]),
    st.sampled_from(["dirichlet", "neumann", "periodic"]),
)
def test_grids_become_meshes(shape, centring, boundary):
    grid = Grid(tuple(shape), centring=centring, boundary=boundary)
    mesh = grid_mesh(grid)
    np.testing.assert_allclose(mesh.volumes.sum(), 1.0)
    centre = mesh.points[mesh.simplices].mean(axis=1)
    of_cell = np.stack([c.ravel() for c in np.meshgrid(*grid.cell_axes(), indexing="ij")], axis=-1)
    assert np.abs((centre - of_cell[mesh.cell_data["grid_cell"]]) / grid.spacing).max() < 0.5
    if centring == "cell":
        assert not mesh.point_data
        return
    number = mesh.point_data["unknown"]
    assert set(number[number >= 0]) == set(range(grid.size))
    gap = np.abs(mesh.points[number >= 0] - grid.points()[number[number >= 0]])
    if boundary == "periodic":
        gap = np.minimum(gap, 1 - gap)
    assert gap.max() < 1e-14


def test_cell_centred_masks_leave_holes():
    mask = np.ones((4, 4), bool)
    mask[1:3, 1:3] = False
    mesh = grid_mesh(Grid((4, 4), centring="cell", mask=mask))
    np.testing.assert_allclose(mesh.volumes.sum(), 0.75)
    assert len(mesh.tags["obstacle"][1]) == 8
    assert len(mesh.tags["xmin"][1]) == 4
    assert set(mesh.cell_data["grid_cell"]) == set(np.flatnonzero(mask))


@pytest.mark.parametrize(("obstacle", "area"), [("neumann", 32 / 36), ("dirichlet", 1.0)])
def test_node_centred_masks(obstacle, area):
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    mesh = grid_mesh(Grid((5, 5), mask=mask, obstacle=obstacle))
    np.testing.assert_allclose(mesh.volumes.sum(), area)
    assert (mesh.point_data["unknown"] >= 0).sum() == mask.sum()
    wide = np.ones((7, 7), bool)
    wide[2:5, 2:5] = False
    hole = grid_mesh(Grid((7, 7), mask=wide, obstacle=obstacle))
    np.testing.assert_allclose(1 - hole.volumes.sum(), (16 if obstacle == "neumann" else 4) / 64)
    assert len(hole.tags["obstacle"][1]) == (16 if obstacle == "neumann" else 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: box((2, 0)), "positive cell counts"),
        (lambda: box((2, 2), lower=(0.0,)), "corners to match"),
        (lambda: box((2,), (1.0,), (0.0,)), "must lie below upper"),
        (lambda: disc(0), "at least one ring"),
        (lambda: disc(2, radius=-1.0), "positive radius"),
        (lambda: l_shape(0), "cannot be 0"),
        (
            lambda: grid_mesh(Grid((3, 3), boundary="neumann", mask=np.eye(3, dtype=bool))),
            "no whole cell between its nodes",
        ),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
