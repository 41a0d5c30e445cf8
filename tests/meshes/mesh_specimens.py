"""Meshes and comparisons for the tests of this folder."""

from dataclasses import replace

import numpy as np

from solvus.meshes import Mesh, box, disc

_PLANE = np.array([[0, 0], [1 / 3, 0], [1, 0], [0, 1], [1 / 3, 1.1], [1, 1]])
_BRICKS = np.array([[x, y, z] for z in (0, 1) for y in (0, 1 / 3) for x in (0, 1, 2)])


def shaken(mesh: Mesh) -> Mesh:
    """Move the points a little, so that coordinates have all their digits."""
    shift = np.random.default_rng(7).uniform(-0.02, 0.02, mesh.points.shape)
    return replace(mesh, points=mesh.points + shift)


def in_space(mesh: Mesh) -> Mesh:
    """Bend a mesh into one more dimension."""
    return Mesh(np.column_stack([mesh.points, np.sin(3 * mesh.points[:, 0])]), mesh.cells)


LINE, TRIANGLE, TETRA = box((5,)), shaken(box((3, 4))), shaken(box((2, 3, 2)))
QUAD = Mesh(_PLANE, {"quad": [[0, 1, 4, 3], [1, 2, 5, 4]]})
HEXAHEDRON = Mesh(_BRICKS, {"hexahedron": [[0, 1, 4, 3, 6, 7, 10, 9], [1, 2, 5, 4, 7, 8, 11, 10]]})
MIXED = Mesh([*_PLANE, [0.2, 2.0]], {"triangle": [[0, 1, 4], [0, 4, 3], [3, 4, 6]], "quad": [[1, 2, 5, 4]]})
SIMPLICIAL = {"line": LINE, "triangle": TRIANGLE, "tetra": TETRA, "disc": disc(4)}
ONE_TYPE = {"line": LINE, "triangle": TRIANGLE, "tetra": TETRA, "quad": QUAD, "hexahedron": HEXAHEDRON}
ALL = {
    **ONE_TYPE,
    "mixed": MIXED,
    "curve": in_space(LINE),
    "surface": in_space(TRIANGLE),
    "flat in space": Mesh(np.pad(TRIANGLE.points, ((0, 0), (0, 1))), TRIANGLE.cells),
    "tiny": replace(TETRA, points=TETRA.points * 1e-9 - 1e-7),
    "huge": replace(TETRA, points=TETRA.points * 1.234567e9 - 1e8),
}


def tagged(mesh: Mesh, overlap: bool = False) -> Mesh:
    """Tag cells, facets, edges, points; in ways that not every format can hold if `overlap`."""
    tags = {
        "part A" if overlap else "part": (mesh.dim, [0]),
        "wall": (mesh.dim - 1, mesh.boundary_facets[:2]),
        "inner": (mesh.dim - 1, [len(mesh.facets) - 1]),
    }
    if mesh.dim == 3:
        tags["edge"] = (1, [3, 1])
    if mesh.dim > 1:
        tags["corner"] = (0, [2])
    if overlap:
        tags |= {"all": (mesh.dim, np.arange(mesh.n_cells)), "nothing": (mesh.dim - 1, [])}
    return Mesh(mesh.points, mesh.cells, mesh.point_data, mesh.cell_data, tags)


def with_data(mesh: Mesh, point: str, cell: str) -> Mesh:
    """Add scalars and vectors of float64 ("f") and int64 ("i")."""
    rng = np.random.default_rng(3)

    def data(kinds: str, n: int) -> dict[str, np.ndarray]:
        out = {"s": rng.standard_normal(n), "v": rng.standard_normal((n, 3))} if "f" in kinds else {}
        return out | ({"i": np.arange(n) * 3 - 7} if "i" in kinds else {})

    return replace(mesh, point_data=data(point, mesh.n_points), cell_data=data(cell, mesh.n_cells))


def assert_same(a: Mesh, b: Mesh, ordered: bool = True) -> None:
    """Fail unless two meshes agree to the last bit; vertices of a cell in any order unless `ordered`."""
    np.testing.assert_array_equal(a.points, b.points)
    assert list(a.cells) == list(b.cells)
    for name, rows in a.cells.items():
        pair = (rows, b.cells[name]) if ordered else (np.sort(rows), np.sort(b.cells[name]))
        np.testing.assert_array_equal(*pair)
    assert set(a.tags) == set(b.tags)
    for name, (dim, ids) in a.tags.items():
        assert dim == b.tags[name][0]
        np.testing.assert_array_equal(ids, b.tags[name][1])
    for x, y in ((a.point_data, b.point_data), (a.cell_data, b.cell_data)):
        assert {k: (v.dtype, v.shape) for k, v in x.items()} == {k: (v.dtype, v.shape) for k, v in y.items()}
        for name, values in x.items():
            np.testing.assert_array_equal(values, y[name])
