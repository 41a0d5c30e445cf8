"""Random shapes: bounds that every mesh keeps, exact corners, the same shape at every resolution."""

import numpy as np
import pytest

from solvus.meshes import random_shapes
from solvus.meshes.mesh import Mesh
from solvus.meshes.outlines import NoShape, PolygonOutline, SmoothOutline
from solvus.meshes.random_shapes import OutlineKind, RandomShapes, angles, shape_mesh

CIRCLE = SmoothOutline(np.zeros(1), np.zeros(1))
WIDE = SmoothOutline(np.zeros(1), np.zeros(1), 1.2)
SQUARE = PolygonOutline(np.array([[1.0, -1], [1, 1], [-1, 1], [-1, -1]]))
KINDS = [(kind, holes) for kind in ("smooth", "polygon") for holes in (0.0, 1.0)]


def shoelace(points):
    x, y = points.T
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


def edges(mesh):
    ends = mesh.points[mesh.entities(1)]
    return np.hypot(*(ends[:, 1] - ends[:, 0]).T)


def shape_faults(mesh: Mesh, least_angle: float, least_quality: float) -> list[str]:
    """What is wrong with the mesh of a random shape."""
    faults = []
    if (mesh.volumes <= 0).any():
        faults.append("a cell is flat or inverted")
    if angles(mesh).min() < least_angle or mesh.quality.min() < least_quality:
        faults.append(f"worst cell: {angles(mesh).min()} degrees, quality {mesh.quality.min()}")
    parts = np.concatenate([numbers for _, numbers in mesh.tags.values()])
    if sorted(parts) != mesh.boundary_facets.tolist():
        faults.append("the tags do not divide the boundary")
    holes = len(mesh.tags) - 1
    if mesh.n_points - mesh.n_entities(1) + mesh.n_cells != 1 - holes:
        faults.append("the mesh has another number of holes")
    return faults


@pytest.mark.parametrize(("kind", "holes"), KINDS)
@pytest.mark.parametrize("edge", [0.2, 0.08])
def test_every_mesh_keeps_the_bounds(kind, holes, edge):
    shapes = RandomShapes(edge, kind, holes=holes)
    rng, points = np.random.default_rng(7), []
    for _ in range(40):
        mesh = shapes.draw(rng)
        assert shape_faults(mesh, 10.0, 0.15) == []
        assert np.median(edges(mesh)) == pytest.approx(edge, rel=0.4)
        points.append(mesh.n_points)
    assert np.mean(points) == pytest.approx(shapes.typical_points, rel=0.4)


def test_bad_meshes_are_found():
    good = RandomShapes(0.2).draw(np.random.default_rng(0))
    assert shape_faults(good, 10.0, 0.15) == []
    squeezed = Mesh(good.points * [1.0, 0.05], good.cells, tags=good.tags)
    assert "worst cell" in shape_faults(squeezed, 10.0, 0.15)[0]
    untagged = Mesh(good.points, good.cells, tags={"outer": (1, good.tags["outer"][1][1:])})
    assert shape_faults(untagged, 10.0, 0.15) == ["the tags do not divide the boundary"]
    holed = Mesh(good.points, good.cells, tags={**good.tags, "hole": (1, [])})
    assert shape_faults(holed, 10.0, 0.15) == ["the mesh has another number of holes"]


def test_coarse_shapes_are_drawn_again_until_they_fit():
    # with a hole, coarse polygons have angles below ten degrees now and then
    free, bound = (RandomShapes(0.3, "polygon", holes=1.0, min_angle=a) for a in (0.0, 15.0))
    rngs = np.random.default_rng(0), np.random.default_rng(0)
    worst = [
        [angles(s.draw(rng)).min() for _ in range(30)] for s, rng in zip((free, bound), rngs, strict=True)
    ]
    assert min(worst[0]) < 15 <= min(worst[1])


@pytest.mark.parametrize(("kind", "holes"), KINDS)
def test_one_generator_draws_one_shape_whatever_the_edge(kind, holes):
    areas = [
        [RandomShapes(edge, kind, holes=holes).draw(np.random.default_rng(s)).volumes.sum() for s in range(3)]
        for edge in (0.16, 0.08, 0.04)
    ]
    coarse, fine = np.abs(np.diff(areas, axis=0))
    if kind == "polygon" and not holes:
        assert np.allclose(areas[0], areas[2], rtol=1e-12)  # exact at any resolution
    else:
        assert np.all(fine < coarse / 2)
        assert fine.max() < 0.01


def test_polygons_keep_their_corners():
    outline = RandomShapes(outline="polygon")._polygon(np.random.default_rng(3))
    for hole in (None, SmoothOutline(np.zeros(1), np.zeros(1), 0.2)):
        mesh = shape_mesh(outline, 0.15, hole)
        rim = mesh.points[mesh.tagged_points("outer")]
        gaps = np.hypot(*(rim[:, None] - outline.corners).transpose(2, 0, 1)).min(axis=0)
        assert gaps.max() < 1e-14
        inside = mesh.volumes.sum() if hole is None else mesh.volumes.sum() + np.pi * 0.04
        assert inside == pytest.approx(shoelace(outline.corners), rel=1e-12 if hole is None else 2e-3)


def test_outlines_are_followed_at_equal_steps():
    outline = SmoothOutline(np.array([0.0, 0.3]), np.array([0.1, 0.0]))
    points = outline.at(np.arange(400) / 400, 400)
    steps = np.hypot(*(np.roll(points, -1, axis=0) - points).T)
    assert steps.std() < 1e-3 * steps.mean()
    assert np.allclose(np.hypot(*points.T), outline.radius(np.arctan2(points[:, 1], points[:, 0])))


def test_slope_is_the_derivative():
    outline, angle, h = (
        SmoothOutline(np.array([0.1, 0.2]), np.array([-0.1, 0.05])),
        np.linspace(0, 6, 20),
        1e-5,
    )
    change = (outline.radius(angle + h) - outline.radius(angle - h)) / (2 * h)
    assert np.allclose(outline.slope(angle), change / outline.radius(angle), atol=1e-9)


def test_interior_angles_add_up():
    outline = RandomShapes()._polygon(np.random.default_rng(0))
    assert outline.angles.sum() == pytest.approx(np.pi * (len(outline.corners) - 2))
    assert np.allclose(SQUARE.angles, np.pi / 2)


def test_circle_and_ring():
    assert shape_mesh(CIRCLE, 0.05).volumes.sum() == pytest.approx(np.pi, rel=2e-3)
    ring = shape_mesh(CIRCLE, 0.05, SmoothOutline(np.zeros(1), np.zeros(1), 0.3))
    assert ring.volumes.sum() == pytest.approx(np.pi * (1 - 0.09), rel=2e-3)
    assert angles(ring).min() > 50
    assert np.allclose(np.hypot(*ring.points[ring.tagged_points("hole")].T), 0.3)


def test_the_same_generator_gives_the_same_bits():
    draw = lambda: RandomShapes(0.15, holes=0.5).draw(np.random.default_rng(5))  # noqa: E731
    one, two = draw(), draw()
    assert (one.points == two.points).all()
    assert (one.simplices == two.simplices).all()


def test_kinds_and_holes_come_as_often_as_asked():
    rng, shapes = np.random.default_rng(0), RandomShapes(holes=0.3)
    drawn = [shapes.draw_outline(rng) for _ in range(300)]
    assert np.mean([hole is not None for _, hole in drawn]) == pytest.approx(0.3, abs=0.08)
    assert np.mean([isinstance(o, SmoothOutline) for o, _ in drawn]) == pytest.approx(0.5, abs=0.09)


def test_standard_deviation_of_the_radius():
    rng, shapes = np.random.default_rng(0), RandomShapes(outline=OutlineKind.SMOOTH, amplitude=0.08)
    r = np.array([shapes._smooth(rng).radius(np.zeros(1))[0] for _ in range(400)])
    assert r.std() == pytest.approx(0.08, rel=0.1)
    assert r.mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PolygonOutline(SQUARE.corners[::-1]), NoShape, "anticlockwise"),
        (lambda: PolygonOutline(SQUARE.corners + 3), NoShape, "go round the origin once"),
        (lambda: SmoothOutline(np.array([1.5]), np.zeros(1)), NoShape, "radius must be positive"),
        (lambda: shape_mesh(CIRCLE, 0.0), ValueError, "edge length must be positive, got 0"),
        (lambda: shape_mesh(SQUARE, 2.0, WIDE), NoShape, "smaller hole"),
        (lambda: SQUARE.at(np.zeros(1), 3), NoShape, "3 points cannot follow 4 sides"),
        (lambda: RandomShapes(amplitude=0.5), ValueError, "amplitude must lie between 0 and 0.3, got 0.5"),
        (lambda: RandomShapes(corners=2), ValueError, "corners go from 3 to 8"),
        (lambda: RandomShapes(holes=2.0), ValueError, "holes a chance from 0 to 1"),
        (lambda: RandomShapes(outline="star"), ValueError, "star"),
    ],
)  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_bounds_that_no_mesh_keeps(monkeypatch):
    monkeypatch.setattr(random_shapes, "_TRIES", 5)
    with pytest.raises(NoShape, match="5 random shapes had no mesh of edge"):
        RandomShapes(0.5, "smooth", amplitude=0.05, min_angle=59.0).draw(np.random.default_rng(0))
    with pytest.raises(NoShape, match="5 outlines bent too far: lower amplitude or modes, or raise decay"):
        RandomShapes(outline="smooth", amplitude=0.3, modes=40, decay=0.0).draw(np.random.default_rng(0))
    monkeypatch.setattr(random_shapes, "_TRIES", 0)
    with pytest.raises(NoShape, match="corners too sharp"):
        RandomShapes(outline="polygon")._polygon(np.random.default_rng(0))


def test_folded_cells_are_refused():
    needle = SmoothOutline(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.97]), np.zeros(6))
    with pytest.raises(NoShape, match="fold over"):
        shape_mesh(needle, 0.6)
