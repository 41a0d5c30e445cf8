"""The lattice of nodes: basis, numbering, correspondence of cells; quadrature."""

from math import comb, factorial

import numpy as np
import pytest

from solvus.meshes import box, refine
from solvus.solvers.fem import lattice
from solvus.solvers.fem.quadrature import simplex_rule
from solvus.solvers.fem.simplex import nodes, simplices

SHAPES = [(dim, degree) for dim in (1, 2, 3) for degree in (1, 2, 3, 4)]


@pytest.mark.parametrize(("dim", "degree"), SHAPES)
def test_basis_is_one_at_its_node_and_zero_at_the_others(dim, degree):
    values = lattice.basis(dim, degree, lattice.barycentric_nodes(dim, degree))
    assert np.allclose(values, np.eye(comb(degree + dim, dim)), atol=1e-13)


@pytest.mark.parametrize(("dim", "degree"), SHAPES)
def test_basis_reproduces_polynomials_of_its_degree_and_no_more(dim, degree):
    bary = np.random.default_rng(1).dirichlet(np.ones(dim + 1), 20)
    at_nodes = lattice.barycentric_nodes(dim, degree)
    table = lattice.basis(dim, degree, bary)
    assert np.allclose(table @ at_nodes[:, 0] ** degree, bary[:, 0] ** degree, atol=1e-13)
    assert not np.allclose(table @ at_nodes[:, 0] ** (degree + 1), bary[:, 0] ** (degree + 1), atol=1e-4)


def test_degree_zero_is_the_constant():
    assert np.array_equal(lattice.basis(2, 0, np.full((3, 3), 1 / 3)), np.ones((3, 1)))


@pytest.mark.parametrize(("dim", "degree"), SHAPES)
def test_degree_is_read_from_the_number_of_nodes(dim, degree):
    assert lattice.lattice_degree(dim, len(lattice.multi_indices(dim, degree))) == degree


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_nodes_are_numbered_once_and_lie_where_every_cell_puts_them(dim, degree):
    mesh = simplices(refine(box((2,) * dim)) if dim > 1 else box((4,)))
    numbers, points = nodes(mesh, degree)
    own = lattice.barycentric_nodes(dim, degree) @ mesh.points[mesh.cells]
    assert np.allclose(points[numbers], own, atol=1e-14)
    assert len(points) == (4 * degree + 1) ** dim  # the lattice of a box cut by Kuhn is a grid
    assert len(np.unique(points.round(9), axis=0)) == len(points)
    assert np.array_equal(points[: len(mesh.points)], mesh.points)


def test_correspondence_follows_a_change_of_vertex_order():
    rng = np.random.default_rng(0)
    cells = np.array([[3, 7, 5, 1], [2, 3, 9, 4]])
    others = rng.permuted(cells, axis=1)
    indices = rng.permutation(lattice.multi_indices(3, 3))
    local = lattice.correspondence(cells, others, 3, indices)
    points = rng.random((10, 3))
    theirs = (indices / 3) @ points[others]
    ours = lattice.barycentric_nodes(3, 3) @ points[cells]
    assert np.allclose(np.take_along_axis(ours, local[..., None], axis=1), theirs)


def test_correspondence_refuses_different_cells():
    with pytest.raises(AssertionError, match="do not name the same cells"):
        lattice.positions(np.array([[0, 1, 2]]), np.array([[0, 1, 3]]))


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("degree", [1, 4, 7, 10])
def test_quadrature_is_exact_to_its_degree(dim, degree):
    points, weights = simplex_rule(dim, degree)
    assert np.isclose(weights.sum(), 1)
    for first in range(degree + 1):
        second = degree - first
        exact = factorial(first) * factorial(second) * factorial(dim) / factorial(degree + dim)
        assert np.isclose(weights @ (points[:, 0] ** first * points[:, -1] ** second), exact, rtol=1e-12)
    if degree % 2:  # Gauss points are exact to an odd degree
        beyond = factorial(degree + 1) * factorial(dim) / factorial(degree + 1 + dim)
        assert not np.isclose(weights @ points[:, -1] ** (degree + 1), beyond, rtol=1e-9) or dim == 0
