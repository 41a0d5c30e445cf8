"""What problems and solutions check of what they are given."""

import numpy as np
import pytest

from solvus.meshes import Grid, Mesh, box
from solvus.meshes.errors import UnsupportedCells
from solvus.operators.linear.errors import NonFinite, NotSupported, ShapeMismatch
from solvus.solvers.fem import (
    Elasticity,
    Helmholtz,
    Poisson,
    ScikitFem,
    UnknownPart,
    VariableDiffusion,
    lame,
)
from solvus.solvers.fem.discrete import discretise

GRID = Grid((3, 3))
HOLED = Grid((3, 3), mask=np.arange(9).reshape(3, 3) != 4, obstacle="dirichlet")
QUADS = Mesh([[0, 0], [1, 0], [1, 1], [0, 1]], {"quad": [[0, 1, 2, 3]]})
BENT = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]], {"triangle": [[0, 1, 2], [1, 3, 2]]})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Poisson(GRID, degree=4), NotSupported, "degree 1, 2 or 3, got 4"),
        (lambda: Poisson(Grid((4, 4), boundary="periodic")), NotSupported, "periodic faces"),
        (lambda: Poisson(np.zeros((3, 2))), TypeError, "a Grid or a Mesh, not ndarray"),
        (lambda: Poisson(QUADS), UnsupportedCells, "not simplicial"),
        (lambda: Poisson(BENT), NotSupported, "must be flat"),
        (
            lambda: Poisson(GRID, dirichlet={"top": 0.0}),
            UnknownPart,
            r"no part named \['top'\].*'xmax', 'xmin'",
        ),
        (
            lambda: Poisson(GRID, neumann={"xmin": 1.0}),
            UnknownPart,
            r"\['xmin'\] have a Dirichlet and a Neumann",
        ),
        (lambda: Elasticity(GRID, dirichlet=None), NotSupported, "singular .rigid motions.: fix a part"),
        (lambda: Elasticity(Grid((3,))), NotSupported, "a bar is VariableDiffusion"),
        (lambda: Poisson(HOLED), NotSupported, "removes 1 nodes without a cell between them"),
        (lambda: lame(1.0, 0.5), ValueError, "0 < poisson < 0.5, got 1.0 and 0.5"),
    ],
)
def test_bad_problems(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("problem", "error", "message"),
    [
        (Poisson(GRID, lambda x: x), ShapeMismatch, r"source must return \(192,\) for points"),
        (Poisson(GRID, np.zeros(7)), ShapeMismatch, r"source must be a number, or a function, got .*\(7,\)"),
        (Poisson(GRID, lambda x: 1 / x[:, 0]), NonFinite, "source holds NaN or infinite"),
        (Poisson(GRID, dirichlet=lambda x: x), ShapeMismatch, r"dirichlet\['xmin'\] must return"),
        (Poisson(GRID, dirichlet={"xmin": 0.0}, neumann={"xmax": np.nan}), NonFinite, r"neumann\['xmax'\]"),
        (VariableDiffusion(GRID, coefficient=np.zeros(32)), ValueError, "coefficient must be positive .* 0"),
        (VariableDiffusion(GRID, coefficient=np.ones(5)), ShapeMismatch, r"coefficient must be .*\(5,\)"),
        (Helmholtz(GRID, wavenumber=np.inf), NonFinite, "wavenumber holds"),
        (Elasticity(GRID, source=np.ones(3)), ShapeMismatch, "a number or one per component, or a function"),
        (Elasticity(GRID, mu=-1.0), ValueError, "mu must be positive everywhere, its least value is -1"),
    ],
)  # fmt: skip
def test_bad_data(problem, error, message):
    with np.errstate(divide="ignore"), pytest.raises(error, match=message):
        discretise(problem)


def test_later_parts_hold_where_parts_meet():
    data = discretise(Poisson(box((2, 2)), dirichlet={"xmin": 1.0, "ymin": 2.0}))
    points = data.problem.points[data.fixed]
    assert np.array_equal(data.fixed_values, np.where(points[:, 1] == 0, 2.0, 1.0))


def test_constant_vectors_are_allowed_and_spread():
    data = discretise(Elasticity(GRID, source=np.array([0.0, -1.0]), dirichlet={"xmin": 0.0}))
    assert np.array_equal(data.fields["source"], np.broadcast_to([0.0, -1.0], (32, 1, 2)))
    assert data.fixed_values.shape == (5, 2)


def test_slots_tell_facets_of_one_cell_apart():
    problem = Poisson(box((1, 1)), dirichlet=None, neumann={"boundary": 0.0})
    flux = discretise(problem).flux
    assert sorted(zip(flux.cells.tolist(), flux.slots.tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]


def test_tags_inside_the_domain_are_no_parts():
    mesh = box((2, 2))
    inner = np.setdiff1d(np.arange(len(mesh.facets)), mesh.boundary_facets)
    mesh = mesh.with_tags({"inside": (1, inner[:2]), "cells": (2, [0])})
    assert sorted(Poisson(mesh).mesh.parts) == ["boundary", "xmax", "xmin", "ymax", "ymin"]


def test_flat_mesh_in_space():
    flat = box((3, 3))
    lifted = Mesh(np.pad(flat.points, ((0, 0), (0, 1)), constant_values=2.0), flat.cells)
    assert np.allclose(
        ScikitFem().solve(Poisson(lifted, 1.0)).value, ScikitFem().solve(Poisson(flat, 1.0)).value
    )


@pytest.fixture(scope="module")
def solution():
    return ScikitFem().solve(Poisson(box((5, 5)), 0.0, lambda x: x[:, 0] ** 2 - x[:, 1] ** 2, degree=2))


def test_evaluation_is_exact_for_polynomials_of_the_degree(solution):
    points = np.random.default_rng(0).random((200, 2))
    points = np.concatenate([points, [[0, 0], [1, 1], [0.2, 0.4]]])
    assert np.allclose(solution.at(points), points[:, 0] ** 2 - points[:, 1] ** 2, atol=1e-12)


def test_evaluation_in_stretched_cells():
    # centroids of other cells lie nearer than that of the right one
    mesh = box((2, 60), upper=(100.0, 1.0))
    solution = ScikitFem().solve(Poisson(mesh, 0.0, lambda x: x[:, 0] + x[:, 1]))
    points = np.random.default_rng(0).random((50, 2)) * [100, 1]
    assert np.allclose(solution.at(points), points.sum(axis=1), atol=1e-9)


def test_evaluation_elsewhere(solution):
    with pytest.raises(ValueError, match=r"1 points lie outside the mesh, the first is \[1.5, 0.5\]"):
        solution.at(np.array([[0.5, 0.5], [1.5, 0.5]]))
    with pytest.raises(ShapeMismatch, match=r"points must be \(n, 2\), got \(3,\)"):
        solution.at(np.zeros(3))


def test_error_against_known_integrals(solution):
    # || 0 - (x^2 - y^2) ||^2 = 2/5 - 2/9
    zero = ScikitFem().solve(Poisson(box((5, 5)), 0.0, degree=1))
    exact = lambda x: x[:, 0] ** 2 - x[:, 1] ** 2  # noqa: E731
    assert zero.l2_error(exact) == pytest.approx((2 / 5 - 2 / 9) ** 0.5, rel=1e-12)
    assert zero.l2_error(exact, relative=True) == pytest.approx(1.0)
    assert solution.l2_error(exact) < 1e-13
    assert solution.mean() == pytest.approx(0.0, abs=1e-14)
