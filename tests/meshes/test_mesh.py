"""What a mesh knows about itself, and what it refuses."""

import pickle
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_specimens import ALL, HEXAHEDRON, MIXED, ONE_TYPE, QUAD, TETRA, TRIANGLE

from solvus.meshes import (
    BadTag,
    DegenerateCells,
    IndexOutOfRange,
    InvalidMesh,
    InvertedCells,
    Mesh,
    NonFinitePoints,
    NonManifold,
    UnsupportedCells,
    UnusedPoints,
    box,
    drop_unused,
    orient,
)
from solvus.meshes.topology import find_rows, row_numbers

CORNER = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("mesh", "volume"),
    [
        (box((3,), upper=(2.0,)), 2.0),
        (box((3, 2), (0, 1), (2, 4)), 6.0),
        (box((2, 3, 1), upper=(1, 2, 3)), 6.0),
        (QUAD, 1.05),
        (MIXED, 1.05 + 0.5 * (1 / 3 * 1.0 - 0.2 * 0.1)),
        (HEXAHEDRON, 2 / 3),
    ],
)
def test_volumes(mesh, volume):
    assert mesh.volumes.shape == (mesh.n_cells,)
    np.testing.assert_allclose(mesh.volumes.sum(), volume, rtol=1e-14)


def test_volume_of_a_sheared_hexahedron_and_of_a_tilted_quad():
    shear = np.array([[1.0, 0.3, 0.0], [0.0, 2.0, 0.1], [0.2, 0.0, 1.5]])
    np.testing.assert_allclose(
        replace(HEXAHEDRON, points=HEXAHEDRON.points @ shear).volumes, 1 / 3 * np.linalg.det(shear)
    )
    tilted = Mesh([[0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]], {"quad": [[0, 1, 2, 3]]})
    np.testing.assert_allclose(tilted.volumes, sqrt(2))


@pytest.mark.parametrize("mesh", ALL.values(), ids=ALL)
def test_facets_and_their_cells_fit_together(mesh):
    facets, of_cells = mesh.facets, mesh.cell_entities(mesh.dim - 1)
    start = 0
    for name, rows in mesh.cells.items():
        for cell, numbers in enumerate(of_cells[name]):
            for number in numbers:
                assert set(facets[number]) <= set(rows[cell])
                assert start + cell in mesh.facet_cells[number]
        start += len(rows)
    sides = (mesh.facet_cells >= 0).sum(axis=1)
    assert sides.sum() == sum(numbers.size for numbers in of_cells.values())
    np.testing.assert_array_equal(np.flatnonzero(sides == 1), mesh.boundary_facets)


@pytest.mark.parametrize("name", ["triangle", "tetra", "quad", "hexahedron"])
def test_euler_characteristic_of_a_ball_is_one(name):
    mesh = ONE_TYPE[name]
    assert sum((-1) ** dim * mesh.n_entities(dim) for dim in range(mesh.dim + 1)) == 1


def test_facets_do_not_depend_on_the_order_of_cells_and_vertices():
    shuffled = Mesh(TETRA.points, {"tetra": TETRA.simplices[::-1][:, [1, 2, 0, 3]]})
    np.testing.assert_array_equal(shuffled.facets, TETRA.facets)


def test_quality_is_one_for_regular_cells_and_falls_with_flatness():
    regular = Mesh([[0, 0], [1, 0], [0.5, sqrt(3) / 2]], {"triangle": [[0, 1, 2]]})
    np.testing.assert_allclose(regular.quality, 1.0)
    cube = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    np.testing.assert_allclose(Mesh(cube, orient(cube, {"tetra": [[0, 1, 2, 3]]})).quality, 1.0)
    np.testing.assert_allclose(HEXAHEDRON.quality, 1.0)
    flat = Mesh([[0, 0], [1, 0], [0.5, 1e-3]], {"triangle": [[0, 1, 2]]})
    assert flat.quality[0] < 0.003
    np.testing.assert_allclose(box((4,)).quality, 1.0)
    assert QUAD.quality.min() < 1


def test_diameters_are_the_longest_distances():
    np.testing.assert_allclose(box((2, 2)).diameters, sqrt(0.5))
    np.testing.assert_allclose(HEXAHEDRON.diameters, sqrt(1 + 1 / 9 + 1))


@given(st.integers(2, 4), st.integers(1, 2**62), st.data())
def test_rows_are_numbered_as_numpy_does(width, top, data):
    value = st.sampled_from([0, 1, 2, top - 1, top])
    rows = np.array(data.draw(st.lists(st.lists(value, min_size=width, max_size=width), min_size=1)))
    first, number = row_numbers(rows)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    np.testing.assert_array_equal(rows[first], unique)
    np.testing.assert_array_equal(number, inverse.ravel())
    np.testing.assert_array_equal(find_rows(np.sort(unique), rows) >= 0, True)


def test_tags_are_sorted_and_find_their_points():
    mesh = TRIANGLE.with_tags({"two": (2, [3, 1, 3]), "end": (0, [4]), "bits": (1, [])})
    assert mesh.tags["two"][1].tolist() == [1, 3]
    np.testing.assert_array_equal(mesh.tagged("two"), mesh.simplices[[1, 3]])
    assert mesh.tagged_points("end").tolist() == [4]
    assert mesh.tagged("bits").shape == (0, 2)
    np.testing.assert_array_equal(mesh.tagged("xmin"), mesh.facets[mesh.tags["xmin"][1]])
    left = TRIANGLE.boundary_where(lambda x: x[:, 0] < 0.05)
    np.testing.assert_array_equal(left[1], mesh.tags["xmin"][1])
    assert "two" not in TRIANGLE.tags


def test_meshes_travel_by_pickle():
    copy = pickle.loads(pickle.dumps(TETRA))
    np.testing.assert_array_equal(copy.facets, TETRA.facets)


@pytest.mark.parametrize("mesh", ONE_TYPE.values(), ids=ONE_TYPE)
def test_orient_repairs_inverted_cells(mesh):
    mirrored = mesh.points * ([-1] + [1] * (mesh.dim - 1))
    with pytest.raises(InvertedCells, match=r"orient\(points, cells\)"):
        Mesh(mirrored, mesh.cells)
    np.testing.assert_allclose(Mesh(mirrored, orient(mirrored, mesh.cells)).volumes, mesh.volumes)


def test_drop_unused_keeps_the_cells_in_place():
    points, cells, kept = drop_unused([[9, 9], *CORNER, [8, 8]], {"triangle": [[1, 2, 3]]})
    np.testing.assert_array_equal(points, CORNER)
    assert cells["triangle"].tolist() == [[0, 1, 2]]
    assert kept.tolist() == [1, 2, 3]


def make(points=CORNER, rows=((0, 1, 2),), name="triangle", **more):
    return Mesh(points, {name: np.array(rows)}, **more)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: make([0.0, 1.0]), InvalidMesh, r"points must be \(N, space\)"),
        (lambda: make([[0, 0], [1, np.nan], [0, 1]]), NonFinitePoints, "1 of 3 points .* number 1: repair"),
        (lambda: make([[0, 0], [1, 0], [0, np.inf]]), NonFinitePoints, "number 2"),
        (lambda: make(rows=[[0, 1, 3]]), IndexOutOfRange, r"names the points \[0, 1, 3\], there are 0 to 2"),
        (lambda: make(rows=[[0, 1, -1]]), IndexOutOfRange, "number points from 0"),
        (lambda: make([*CORNER, [5, 5]]), UnusedPoints, "the first is number 3: .*drop_unused"),
        (lambda: make(rows=[[0, 1, 1], [0, 1, 2]]), DegenerateCells, "1 of 2 triangle cells are flat"),
        (lambda: make([[0, 0], [1, 1], [2, 2]]), DegenerateCells, r"number 0 with the points \[0, 1, 2\]"),
        (lambda: make([[0, 0], [1e-9, 0], [0, 1e-27]]), DegenerateCells, "repair the mesh"),
        (lambda: make(rows=[[0, 2, 1]]), InvertedCells, "run the wrong way round"),
        (lambda: make(rows=[[0.0, 1.0, 2.0]]), InvalidMesh, "must be an integer array"),
        (lambda: make(rows=[[0, 1]]), InvalidMesh, r"must be an integer array \(M, 3\)"),
        (lambda: make(name="triangle6"), UnsupportedCells, "convert curved cells to linear ones"),
        (lambda: make(rows=np.zeros((0, 3), int)), InvalidMesh, "has no cells"),
        (lambda: make([[0.0], [1.0], [2.0]]), InvalidMesh, "need points of 2 coordinates"),
        (
            lambda: Mesh(CORNER, {"triangle": [[0, 1, 2]], "line": [[0, 1]]}),
            UnsupportedCells,
            "tag facets by `tags`",
        ),
        (
            lambda: Mesh(QUAD.points, {"quad": [[1, 2, 5, 4]], "triangle": [[0, 1, 4], [0, 4, 3]]}),
            InvalidMesh,
            "triangles must come before quads",
        ),
        (lambda: Mesh(QUAD.points, {"quad": [[0, 1, 3, 4], [1, 2, 5, 4]]}), InvertedCells, "fold over"),
        (lambda: make(point_data={"u": [1.0]}), InvalidMesh, r"one entry per point \(3\)"),
        (lambda: make(cell_data={"k": 1.0}), InvalidMesh, r"one entry per cell \(1\)"),
        (lambda: make(cell_data={"k": ["steel"]}), InvalidMesh, "must be real numbers"),
        (lambda: make(tags={"": (1, [0])}), BadTag, "non-empty string"),
        (lambda: make(tags={"a": [0]}), BadTag, r"must be \(dim, indices\)"),
        (lambda: make(tags={"a": (3, [0])}), BadTag, "has dimension 3"),
        (lambda: make(tags={"a": (1, [True, False, True])}), BadTag, "numpy.flatnonzero"),
        (lambda: make(tags={"a": (1, [3])}), IndexOutOfRange, "there are 0 to 2"),
        (lambda: make(tags={"a": (2, [-1])}), IndexOutOfRange, "names parts -1"),
        (lambda: make().tagged("outlet"), BadTag, "no tag 'outlet'"),
        (lambda: MIXED.with_tags({"a": (2, [0])}).tagged("a"), BadTag, "no common vertex count"),
        (lambda: make().entities(2), ValueError, "use `cells`"),
        (lambda: QUAD.simplices, UnsupportedCells, "split its cells"),
        (lambda: drop_unused(CORNER, {"triangle": [[0, 1, 7]]}), IndexOutOfRange, "there are 0 to 2"),
    ],
)
def test_bad_meshes_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


def test_overlapping_cells_are_found():
    points = [[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 2]]
    mesh = Mesh(points, {"triangle": [[0, 1, 2], [1, 3, 2], [1, 4, 2]]})
    with pytest.raises(NonManifold, match="belongs to 3 cells"):
        _ = mesh.boundary_facets
