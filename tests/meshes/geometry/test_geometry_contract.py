"""What every geometry promises; the oracles use nothing but `contains` and the box."""

import pickle
from functools import cache

import numpy as np
import pytest
from geometry_specimens import ALL, SHAPES, WRONG
from scipy.spatial import cKDTree
from scipy.stats import chi2_contingency

from solvus.meshes.geometry import BoundaryPoints, Geometry

_N = 2000


def grid_cells(geometry: Geometry, points: np.ndarray) -> np.ndarray:
    """Number of the cell of each point in a coarse grid, whose cuts miss the specimens' faces."""
    lower, upper = np.array(geometry.lower), np.array(geometry.upper)
    cuts = 5 if geometry.dim <= 2 else 3 if geometry.dim == 3 else 2
    place = (cuts * (0.011 + 0.97 * (points - lower) / (upper - lower))).astype(int)
    return np.ravel_multi_index(tuple(np.clip(place, 0, cuts - 1).T), (cuts,) * geometry.dim)


def same_distribution(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two samples of cell numbers agree, by a chi-square test of level 1e-4."""
    table = np.stack(
        [np.bincount(cells, minlength=1 + max(first.max(), second.max())) for cells in (first, second)]
    )
    rare = table.sum(axis=0) < 20
    table = np.concatenate([table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)], axis=1)
    table = table[:, table.sum(axis=0) > 0]
    return table.shape[1] == 1 or chi2_contingency(table).pvalue > 1e-4


def in_box(geometry: Geometry, n: int, margin: float = 0.0) -> np.ndarray:
    lower, upper = np.array(geometry.lower), np.array(geometry.upper)
    return np.random.default_rng(5).uniform(
        lower - margin * (upper - lower), upper + margin * (upper - lower), (n, geometry.dim)
    )


@cache
def crossings(geometry: Geometry, n: int = 60_000) -> tuple[np.ndarray, float]:
    """Where random short needles cross the boundary, and the measure of the boundary (Crofton).

    Needles of length h and random direction cross a surface with chance h E|cos| area / volume, whichever way
    the surface faces.
    """
    generator = np.random.default_rng(6)
    lower, upper = np.array(geometry.lower), np.array(geometry.upper)
    h = 0.015 * (upper - lower).min()
    start = generator.uniform(lower - h, upper + h, (n, geometry.dim))
    way = generator.standard_normal(start.shape)
    way *= h / np.linalg.norm(way, axis=1, keepdims=True)
    crossed = geometry.contains(start) != geometry.contains(start + way)
    mean_cosine = {1: 1.0, 2: 2 / np.pi, 3: 0.5, 4: 4 / (3 * np.pi), 5: 3 / 8}[geometry.dim]
    measure = crossed.mean() * float((upper - lower + 2 * h).prod()) / (h * mean_cosine)
    start, way = start[crossed], way[crossed]
    first = geometry.contains(start)
    for _ in range(12):
        way = way / 2
        start = np.where((geometry.contains(start + way) == first)[:, None], start + way, start)
    return np.clip(start, lower, upper), measure


def points_are_inside(geometry):
    generator = np.random.default_rng(1)
    for method in ("uniform", "sobol"):
        points = geometry.sample(_N, generator, method)
        assert points.shape == (_N, geometry.dim)
        assert points.dtype == np.float64
        assert ((points >= geometry.lower) & (points <= geometry.upper)).all()
        assert geometry.contains(points).all()
        assert (geometry.distance(points) <= geometry.tolerance).all()
        assert len(np.unique(points, axis=0)) == _N


def interior_is_uniform(geometry):
    expected = in_box(geometry, 30_000)
    expected = grid_cells(geometry, expected[geometry.contains(expected)])
    for method in ("uniform", "sobol"):
        points = geometry.sample(10_000, np.random.default_rng(2), method)
        assert same_distribution(grid_cells(geometry, points), expected)


def distance_has_the_sign_of_contains(geometry):
    points = in_box(geometry, 5000, 0.3)
    distance = geometry.distance(points)
    assert distance.shape == (5000,)
    clear = np.abs(distance) > geometry.tolerance
    assert ((distance < 0) == geometry.contains(points))[clear].all()
    assert clear.mean() > 0.999


def distance_is_a_bound(geometry):
    boundary = geometry.sample_boundary(5000, np.random.default_rng(3)).points
    points = in_box(geometry, 500, 0.3)
    assert (
        np.abs(geometry.distance(points)) <= cKDTree(boundary).query(points)[0] + geometry.tolerance
    ).all()


def distance_is_exact(geometry):
    """Following the gradient by the distance leads to the boundary (not from ridges, which are rare)."""
    points, h = in_box(geometry, 500, 0.3), 1e-6
    distance = geometry.distance(points)
    gradient = np.stack(
        [
            (geometry.distance(points + h * e) - geometry.distance(points - h * e)) / (2 * h)
            for e in np.eye(geometry.dim)
        ],
        axis=1,
    )
    missed = np.abs(geometry.distance(points - distance[:, None] * gradient))
    assert np.quantile(missed, 0.98) < 1e-6
    np.testing.assert_allclose(np.quantile(np.linalg.norm(gradient, axis=1), [0.02, 0.98]), 1, rtol=1e-6)


def boundary_points_are_on_the_boundary(geometry):
    generator = np.random.default_rng(4)
    for method in ("uniform", "sobol"):
        found = geometry.sample_boundary(_N, generator, method=method)
        assert isinstance(found, BoundaryPoints)
        assert len(found) == _N
        assert found.points.shape == found.normals.shape == (_N, geometry.dim)
        assert found.part.shape == (_N,)
        np.testing.assert_allclose(np.linalg.norm(found.normals, axis=1), 1, rtol=1e-12)
        assert np.abs(geometry.distance(found.points)).max() <= geometry.tolerance
        step = 1e-6 * np.subtract(geometry.upper, geometry.lower).max()
        within = geometry.contains(found.points - step * found.normals)
        assert within.mean() > 0.999
        assert geometry.contains(found.points + step * found.normals).mean() < 0.001
        for number, part in enumerate(geometry.parts):
            assert (
                np.abs(part.owner.distance(found.points[found.part == number])).max(initial=0)
                < geometry.tolerance
            )


def boundary_is_uniform(geometry):
    expected = grid_cells(geometry, crossings(geometry)[0])
    for method in ("uniform", "sobol"):
        points = geometry.sample_boundary(6000, np.random.default_rng(7), method=method).points
        assert same_distribution(grid_cells(geometry, points), expected)


def volume_is_right(geometry):
    lower, upper = np.array(geometry.lower), np.array(geometry.upper)
    estimate = geometry.contains(in_box(geometry, 30_000)).mean() * (upper - lower).prod()
    assert geometry.volume() == pytest.approx(estimate, rel=0.03)


def boundary_measure_is_right(geometry):
    if geometry.dim > 3:  # too few needles cross
        return
    assert geometry.boundary_measure() == pytest.approx(crossings(geometry)[1], rel=0.08)
    if len(geometry.shapes) == 1:
        parts = [geometry.boundary_measure(part) for part in geometry.parts]
        assert sum(parts) == pytest.approx(geometry.boundary_measure(), rel=1e-12)


def parts_are_drawn_alone(geometry):
    measured = [geometry.boundary_measure(part) for part in geometry.parts]
    assert sum(measured) >= 0.999 * geometry.boundary_measure()
    for number, part in enumerate(geometry.parts):
        if measured[number]:
            found = geometry.sample_boundary(50, np.random.default_rng(8), on=part)
            assert all(i == number or geometry.parts[i] == part for i in found.part)
            assert np.abs(part.owner.distance(found.points)).max() < geometry.tolerance
    for shape in geometry.shapes:
        if any(measured[i] for i, part in enumerate(geometry.parts) if part.owner == shape):
            found = geometry.sample_boundary(50, np.random.default_rng(9), on=shape)
            assert all(geometry.parts[i].owner == shape for i in found.part)


def equal_generators_give_equal_points(geometry):
    copy = pickle.loads(pickle.dumps(geometry))
    assert repr(copy) == repr(geometry)
    assert isinstance(hash(geometry), int)
    assert copy == geometry or "Mesh" in repr(geometry)  # meshes are compared by identity
    for method in ("uniform", "sobol"):
        draw = [g.sample(100, np.random.default_rng(3), method) for g in (geometry, geometry, copy)]
        np.testing.assert_array_equal(draw[0], draw[1])
        np.testing.assert_array_equal(draw[0], draw[2])
        draw = [g.sample_boundary(100, np.random.default_rng(3), method=method) for g in (geometry, copy)]
        np.testing.assert_array_equal(draw[0].points, draw[1].points)
        np.testing.assert_array_equal(draw[0].part, draw[1].part)


def it_is_short_and_takes_no_points(geometry):
    assert len(repr(geometry)) < 120
    assert geometry.sample(0, np.random.default_rng(0)).shape == (0, geometry.dim)
    none = geometry.sample_boundary(0, np.random.default_rng(0))
    assert none.points.shape == none.normals.shape == (0, geometry.dim)
    assert geometry.distance(np.empty((0, geometry.dim))).shape == (0,)
    assert geometry.contains(np.empty((0, geometry.dim))).shape == (0,)


CHECKS = {
    check.__name__: check
    for check in (
        points_are_inside,
        interior_is_uniform,
        distance_has_the_sign_of_contains,
        distance_is_a_bound,
        boundary_points_are_on_the_boundary,
        boundary_is_uniform,
        volume_is_right,
        boundary_measure_is_right,
        parts_are_drawn_alone,
        equal_generators_give_equal_points,
        it_is_short_and_takes_no_points,
    )
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", ALL)
def test_contract(name, check):
    check(ALL[name])


@pytest.mark.parametrize("name", SHAPES)
def test_distances_of_shapes_are_exact(name):
    distance_is_exact(SHAPES[name])


@pytest.mark.parametrize(
    ("specimen", "check"), WRONG.items(), ids=lambda item: getattr(item, "__name__", item)
)
def test_a_wrong_shape_fails(specimen, check):
    with pytest.raises(AssertionError):
        {**CHECKS, "distance_is_exact": distance_is_exact}[check](specimen())
