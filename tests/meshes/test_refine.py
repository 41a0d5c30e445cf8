"""Refinement keeps volume, conformity, tags and shape."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_specimens import QUAD, SIMPLICIAL, TETRA, TRIANGLE, in_space, tagged

from solvus.meshes import Mesh, UnsupportedCells, box, disc, drop_unused, l_shape, orient, refine
from solvus.meshes.measure import signed_volumes

MESHES = {**SIMPLICIAL, "L": l_shape(2), "curve": in_space(box((3,))), "surface": in_space(box((2, 2)))}


def measure_of(mesh, dim, ids):
    """Length, area or volume of entities of a dimension; their count for points."""
    if dim == 0:
        return float(len(ids))
    rows = mesh.simplices[ids] if dim == mesh.dim else mesh.entities(dim)[ids]
    corners = mesh.points[rows]
    return float(np.abs(signed_volumes({1: "line", 2: "triangle", 3: "tetra"}[dim], corners)).sum())


def assert_conforming(coarse, fine):
    """Fail for hanging nodes: they leave facets inside with a cell on one side only."""
    before = measure_of(coarse, coarse.dim - 1, coarse.boundary_facets)
    after = measure_of(fine, fine.dim - 1, fine.boundary_facets)
    np.testing.assert_allclose(after, before, rtol=1e-12)


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_volume_conformity_and_tags_are_kept(mesh):
    mesh = tagged(mesh, overlap=True).with_tags(mesh.tags)
    fine = refine(mesh)
    assert fine.n_cells == 2**mesh.dim * mesh.n_cells
    np.testing.assert_allclose(fine.volumes.reshape(mesh.n_cells, -1).sum(axis=1), mesh.volumes, rtol=1e-12)
    assert_conforming(mesh, fine)
    assert list(fine.tags) == list(mesh.tags)
    for name, (dim, ids) in mesh.tags.items():
        assert len(fine.tags[name][1]) == len(ids) * 2**dim
        np.testing.assert_allclose(
            measure_of(fine, dim, fine.tags[name][1]), measure_of(mesh, dim, ids), rtol=1e-12
        )
        if len(ids):  # the parts lie where the tagged entity is
            old, new = mesh.points[mesh.tagged_points(name)], fine.points[fine.tagged_points(name)]
            np.testing.assert_allclose([new.min(0), new.max(0)], [old.min(0), old.max(0)])


def test_a_mesh_with_hanging_nodes_fails_the_check():
    mesh = box((1, 1))
    fine = refine(mesh)
    keep = {"triangle": np.concatenate([fine.simplices[:4], mesh.simplices[1:]])}
    points, cells, _ = drop_unused(fine.points, keep)
    with pytest.raises(AssertionError):
        assert_conforming(mesh, Mesh(points, cells))


def test_faces_of_the_box_stay_the_faces():
    fine = refine(box((1, 2, 1)), times=2)
    for axis, letter in enumerate("xyz"):
        for end, value in (("min", 0.0), ("max", 1.0)):
            points = fine.points[fine.tagged_points(f"{letter}{end}")]
            assert (points[:, axis] == value).all()
    tagged_facets = np.concatenate([ids for _, ids in fine.tags.values()])
    np.testing.assert_array_equal(np.sort(tagged_facets), fine.boundary_facets)


@given(st.lists(st.floats(-1, 1), min_size=12, max_size=12), st.permutations(range(4)))
@settings(max_examples=30, deadline=None)
def test_a_tetrahedron_has_at_most_three_kinds_of_descendants(numbers, order):
    points = np.array(numbers).reshape(4, 3)
    edges = points[1:] - points[0]
    if abs(np.linalg.det(edges)) < 1e-3:
        return
    mesh = Mesh(points, orient(points, {"tetra": np.array([order])}))
    worst = refine(mesh).quality.min()
    for times in (2, 4):
        fine = refine(mesh, times)
        shapes = fine.quality
        # Congruent tetrahedra have the same edges, up to the scale of the level.
        corners = fine.points[fine.simplices]
        pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
        lengths = np.stack([np.linalg.norm(corners[:, a] - corners[:, b], axis=1) for a, b in pairs], axis=1)
        kinds = np.unique(np.round(np.sort(lengths, axis=1) * 2**times, 6), axis=0)
        separate = np.concatenate([[True], np.abs(np.diff(kinds, axis=0)).max(axis=1) > 1e-5])
        assert separate.sum() <= 3
        np.testing.assert_allclose(shapes.min(), worst, rtol=1e-6)
        assert_conforming(mesh, fine)


def test_quality_of_the_structured_box_never_changes():
    fine = refine(box((1, 1, 1)), times=3)
    np.testing.assert_allclose(fine.quality, box((1, 1, 1)).quality[0], rtol=1e-12)


def test_children_in_another_order_degenerate(monkeypatch):
    children = refine.__globals__["_CHILDREN"]
    careless = [[b, a, c, d] for a, b, c, d in children[3]]
    monkeypatch.setitem(children, 3, careless)
    mesh = Mesh(TETRA.points, TETRA.cells)
    assert refine(mesh, 4).quality.min() < 0.5 * refine(mesh).quality.min()


def test_data_are_inherited():
    mesh = replace(
        TRIANGLE,
        point_data={"u": TRIANGLE.points @ [2.0, 3.0], "number": np.arange(TRIANGLE.n_points)},
        cell_data={"k": np.arange(TRIANGLE.n_cells)},
    )
    fine = refine(mesh)
    np.testing.assert_allclose(fine.point_data["u"], fine.points @ [2.0, 3.0], atol=1e-14)
    assert list(fine.point_data) == ["u"]
    np.testing.assert_array_equal(fine.cell_data["k"], np.repeat(np.arange(mesh.n_cells), 4))
    np.testing.assert_array_equal(fine.points[: mesh.n_points], mesh.points)


def test_single_precision_data_stay_single():
    mesh = Mesh(TRIANGLE.points, TRIANGLE.cells, point_data={"u": np.ones(TRIANGLE.n_points, np.float32)})
    assert refine(mesh).point_data["u"].dtype == np.float32


def test_refusals():
    with pytest.raises(UnsupportedCells, match="split its cells into triangle cells"):
        refine(QUAD)
    with pytest.raises(ValueError, match="cannot be -1"):
        refine(disc(1), -1)
