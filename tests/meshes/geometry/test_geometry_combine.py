"""Combinations: shares of the boundary, coincident faces, selection, and what is refused."""

import numpy as np
import pytest
from geometry_specimens import STEP, square_with_holes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from solvus.meshes.geometry import (
    BadPoints,
    BadPredicate,
    Ball,
    Box,
    Disc,
    EmptyBoundary,
    EmptyGeometry,
    Interval,
    MixedDimensions,
    Rectangle,
    UnknownPart,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("scale", [1.0, 16.0, 1e-4])
def test_every_part_of_the_plate_with_holes_gets_its_share(scale):
    plate = square_with_holes(scale)
    found = plate.sample_boundary(20_000, rng())
    lengths = np.array([1.0] * 4 + [0.2 * np.pi] * 4)
    counts = np.bincount(found.part, minlength=8)
    assert chisquare(counts, 20_000 * lengths / lengths.sum()).pvalue > 1e-3
    assert counts[:4].sum() / 20_000 == pytest.approx(0.614, abs=0.01)  # nested halving would give 1/16
    assert plate.boundary_measure() == pytest.approx(scale * (4 + 0.8 * np.pi), rel=1e-12)
    assert plate.boundary_measure("circle") == pytest.approx(scale * 0.8 * np.pi, rel=1e-12)
    assert plate.volume() == pytest.approx(scale**2 * (1 - 0.04 * np.pi), rel=1e-12)


def test_points_of_a_hole_are_uniform_in_the_angle_and_point_into_it():
    plate = square_with_holes()
    hole = Disc((0.3, -0.3), 0.1)
    found = plate.sample_boundary(5000, rng(1), on=hole)
    away = found.points - hole.centre
    np.testing.assert_allclose(found.normals, -away / 0.1, atol=1e-12)
    counts = np.histogram(np.arctan2(*away.T), bins=20, range=(-np.pi, np.pi))[0]
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("method", ["uniform", "sobol"])
def test_the_back_step_has_its_six_sides(method):
    found = STEP.sample_boundary(12_000, rng(2), method=method)
    x, y = found.points.T
    sides = {  # (where, normal, length)
        "inlet": ((x == 0) & (y < 1), (-1, 0), 1),
        "floor": (y == 0, (0, -1), 4),
        "outlet": (x == 4, (1, 0), 2),
        "ceiling": ((y == 2) & (x > 2), (0, 1), 2),
        "drop": ((x == 2) & (y > 1), (-1, 0), 1),
        "shelf": ((y == 1) & (x < 2), (0, 1), 2),
    }
    assert (np.sum([where for where, _, _ in sides.values()], axis=0) == 1).all()
    counts = [where.sum() for where, _, _ in sides.values()]
    assert chisquare(counts, [1000 * length for *_, length in sides.values()]).pvalue > 1e-3
    for where, normal, _ in sides.values():
        assert (found.normals[where] == normal).all()
    assert STEP.boundary_measure() == 12.0
    assert STEP.volume() == 6.0
    assert STEP.boundary_measure(STEP.right) == 3.0
    assert STEP.boundary_measure("xmin") == 1.0
    assert STEP.boundary_measure(lambda p: p[:, 0] == 4.0) == 2.0


def test_the_back_step_in_one_and_three_dimensions():
    line = Interval(0, 4) - Interval(0, 2)
    found = line.sample_boundary(100, rng(), method="uniform")
    assert set(zip(found.points[:, 0], found.normals[:, 0], strict=True)) == {(2.0, -1.0), (4.0, 1.0)}
    assert line.boundary_measure() == 2.0
    channel = Box((0, 0, 0), (4, 2, 3)) - Box((0, 1, 0), (2, 2, 3))
    assert channel.boundary_measure() == pytest.approx(2 * 6 + 12 * 3, rel=1e-12)
    assert channel.boundary_measure("zmin") == pytest.approx(6, rel=2e-3)
    found = channel.sample_boundary(6000, rng(3))
    z = found.points[:, 2]
    flat = (z == 0) | (z == 3)
    assert (np.abs(found.normals[flat, 2]) == 1).all()
    assert flat.mean() == pytest.approx(12 / 48, abs=0.02)


def test_shared_edges_are_no_boundary_and_flush_edges_count_once():
    joined = Rectangle((0, 0), (2, 1)) | Rectangle((1, 0), (3, 1))
    found = joined.sample_boundary(8000, rng(4))
    x, y = found.points.T
    assert ((y == 0) | (y == 1) | (x == 0) | (x == 3)).all()
    assert joined.boundary_measure() == pytest.approx(8, rel=1e-3)
    assert joined.volume() == pytest.approx(3, rel=1e-3)
    counts = np.histogram(x[y == 0], bins=6, range=(0, 3))[0]
    assert chisquare(counts).pvalue > 1e-3
    right = joined.right
    assert joined.boundary_measure(right) == pytest.approx(5, rel=1e-3)  # its own share, overlap included
    assert {joined.parts[i].owner for i in joined.sample_boundary(99, rng(), on=right).part} == {right}


def test_corners_that_differ_by_rounding_coincide():
    joined = Rectangle((0, 0), (0.1 + 0.2, 1)) | Rectangle((0.3, 0), (1, 1))
    assert 0.1 + 0.2 != 0.3
    assert joined.boundary_measure() == pytest.approx(4, rel=1e-12)
    far = Rectangle((1e6, 1e6), (1e6 + 1, 1e6 + 1)) - Disc((1e6 + 0.5, 1e6 + 0.5), 0.25)
    assert far.boundary_measure() == pytest.approx(4 + 0.5 * np.pi, rel=1e-12)


def test_sobol_points_fill_more_evenly():
    plate = square_with_holes()
    x = {method: plate.sample(4096, rng(5), method) for method in ("uniform", "sobol")}
    spread = {m: np.histogram2d(*p.T, bins=4)[0][1:3, 1:3].std() for m, p in x.items()}
    assert spread["sobol"] < 0.3 * spread["uniform"]
    found = plate.sample_boundary(4096, rng(5), method="sobol")
    assert np.bincount(found.part)[:4].std() < 3


@pytest.mark.parametrize(
    ("thin", "measure"),
    [
        (Disc((0, 0), 1) - Disc((0, 0), 1 - 1e-5), 2e-5 * np.pi),
        (Ball((0, 0, 0), 1) - Ball((0, 0, 0), 0.999), 4e-3 * np.pi),
        (Rectangle((0, 0), (1, 1)) - Rectangle((-1, -1), (1.5, 1 - 1e-4)), 1e-4),
        (Disc((0, 0), 1e-3) | Disc((100, 0), 1e-3), 2e-6 * np.pi),
    ],
)
def test_thin_and_scattered_geometries_are_drawn_from(thin, measure):
    points = thin.sample(2000, rng(6))
    assert thin.contains(points).all()
    assert thin.volume() == pytest.approx(measure, rel=2e-3, abs=1e-4)
    middle = (np.array(thin.lower) + thin.upper) / 2
    if thin.shapes[0].volume() > 0.9 and "Rectangle" not in repr(thin):
        counts = np.bincount((points > middle) @ (1 << np.arange(thin.dim)))
        assert chisquare(counts).pvalue > 1e-3


def test_empty_geometries_are_named():
    gone = Disc((0, 0), 1) - Disc((0.1, 0), 2)
    assert gone.volume() == 0
    assert gone.boundary_measure() == 0
    with pytest.raises(EmptyGeometry, match=r"no interior.*0 points.*Disc\(\(0, 0\), 1\).*check sizes"):
        gone.sample(1, rng())
    with pytest.raises(EmptyBoundary, match=r"0 of \d+ points.*on=None.*select a part"):
        gone.sample_boundary(1, rng())
    with pytest.raises(EmptyGeometry, match="boxes around what may be left of it"):
        (Disc((0, 0), 1) - Disc((0, 0), 1 - 2e-7)).sample(5000, rng())
    with pytest.raises(EmptyGeometry, match="boxes do not overlap"):
        Disc((0, 0), 1) & Disc((5, 0), 1)
    with pytest.raises(EmptyGeometry, match=r"of 2\d+ points"):
        (Ball((0,) * 4, 1) - Ball((0,) * 4, 2)).sample(1, rng())


def test_what_is_selected():
    plate = square_with_holes()
    left = plate.sample_boundary(200, rng(), on=("xmin", lambda p: p[:, 0] > 0.49))
    assert set(left.part) >= {0, 1}
    assert ((left.points[:, 0] == -0.5) | (left.points[:, 0] > 0.49)).all()
    assert set(plate.sample_boundary(500, rng(), on=plate.left).part) == set(range(7))
    assert set(plate.sample_boundary(50, rng(), on=plate.parts[5]).part) == {5}
    nested = plate.boundary_measure(("xmin", ("xmax", plate.right)))
    assert nested == pytest.approx(2 + 0.2 * np.pi, rel=1e-12)
    assert plate.boundary_measure(lambda p: p[:, 1] < 0) == pytest.approx(2 + 0.4 * np.pi, rel=1e-3)
    with pytest.raises(EmptyBoundary, match="on="):
        plate.sample_boundary(5, rng(), on=lambda p: p[:, 0] > 1)
    with pytest.raises(EmptyBoundary):
        plate.sample_boundary(5, rng(), on=())


@pytest.mark.parametrize(
    ("on", "message"),
    [
        ("inlet", "no part 'inlet'.*'circle', 'xmax', 'xmin', 'ymax', 'ymin'"),
        (Disc((0, 0), 7), r"no part of Disc\(\(0, 0\), 7\), it is made of Rectangle"),
        (3, "given by a name, a Part, a shape, a predicate or a tuple.*not by 3"),
    ],
)
def test_unknown_parts_are_named(on, message):
    with pytest.raises(UnknownPart, match=message):
        square_with_holes().sample_boundary(5, rng(), on=on)
    with pytest.raises(UnknownPart, match=message):
        square_with_holes().boundary_measure(on)


@pytest.mark.parametrize(
    "predicate", [lambda p: p < 0, lambda p: p[:, 0], lambda p: True, lambda p: p[1:, 0] < 0]
)
def test_bad_predicates_are_named(predicate):
    with pytest.raises(BadPredicate, match=r"must return booleans of shape \(\d+,\), it returned"):
        STEP.sample_boundary(5, rng(), on=predicate)


@pytest.mark.parametrize("points", [[0.0, 1.0], [[0.0]], [[0.0, 1.0, 2.0]], np.zeros((2, 2, 2))])
def test_points_of_another_shape_are_named(points):
    for ask in (STEP.contains, STEP.distance):
        with pytest.raises(BadPoints, match=r"shape \(N, 2\), got"):
            ask(points)


def test_impossible_requests_are_named():
    for n in (-1, 2.5, "3"):
        with pytest.raises(BadPoints, match="whole number from 0, got"):
            STEP.sample(n, rng())
        with pytest.raises(BadPoints, match="whole number from 0, got"):
            STEP.sample_boundary(n, rng())
    with pytest.raises(ValueError, match="'uniform' or 'sobol', not 'halton'"):
        STEP.sample(1, rng(), "halton")
    for combine in (lambda a, b: a | b, lambda a, b: a & b, lambda a, b: a - b):
        with pytest.raises(MixedDimensions, match=r"in 2D and .* in 3D"):
            combine(Disc((0, 0), 1), Ball((0, 0, 0), 1))
        with pytest.raises(TypeError):
            combine(Disc((0, 0), 1), 3)


def test_representations():
    a, b = Disc((0, 0), 1), Rectangle((0, 0.5), (1, 2))
    assert repr((a | b) - a) == ("(Disc((0, 0), 1) | Rectangle((0, 0.5), (1, 2))) - Disc((0, 0), 1)")
    assert repr(a - (b - a)) == "Disc((0, 0), 1) - (Rectangle((0, 0.5), (1, 2)) - Disc((0, 0), 1))"
    assert repr(square_with_holes()) == "Difference(5 shapes in 2D)"


coordinate = st.floats(-1, 1)
rectangles = st.builds(
    lambda x, y, w, h: Rectangle((x, y), (x + w, y + h)),
    coordinate, coordinate, st.floats(0.2, 1), st.floats(0.2, 1),
)  # fmt: skip
discs = st.builds(lambda x, y, r: Disc((x, y), r), coordinate, coordinate, st.floats(0.1, 1))
shapes = rectangles | discs


@given(shapes, shapes, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_algebra_of_sets(a, b, seed):
    points = rng(seed).uniform(-3, 3, (500, 2))
    in_a, in_b = a.contains(points), b.contains(points)
    np.testing.assert_array_equal((a | b).contains(points), in_a | in_b)
    np.testing.assert_array_equal((a - b).contains(points), in_a & ~in_b)
    assert (a | b).volume() == pytest.approx(
        a.volume() + b.volume() - (a.volume() - (a - b).volume()), rel=1e-9
    )
    whole = (a | b).boundary_measure()
    assert whole <= a.boundary_measure() + b.boundary_measure() + 1e-9
    found = (a | b).sample_boundary(50, rng(seed))
    assert np.abs((a | b).distance(found.points)).max() < 1.01 * (a | b).tolerance


@given(shapes, st.floats(1e-3, 1e3), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_draws_scale_with_the_geometry(shape, factor, seed):
    hole = Disc((0.5, 0.5), 0.05)
    grow = lambda c: tuple(factor * v for v in c)  # noqa: E731
    if isinstance(shape, Disc):
        large = Disc(grow(shape.centre), factor * shape.radius)
    else:
        large = Rectangle(grow(shape.lower), grow(shape.upper))
    first = (shape | hole).sample_boundary(30, rng(seed))
    second = (large | Disc(grow(hole.centre), factor * hole.radius)).sample_boundary(30, rng(seed))
    np.testing.assert_allclose(second.points, factor * first.points, rtol=1e-9, atol=1e-9 * factor)
    np.testing.assert_allclose(second.normals, first.normals, atol=1e-6)
