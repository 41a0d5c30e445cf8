"""Shapes against outside oracles, and what they refuse."""

import numpy as np
import pytest
from geometry_specimens import ELL, ring_mesh, surface_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.spatial import ConvexHull
from scipy.stats import kstest

from solvus.meshes import Mesh, NonManifold, box, disc, l_shape, read_mesh, write_mesh
from solvus.meshes.geometry import (
    Ball,
    Box,
    Disc,
    Ellipse,
    Interval,
    InvalidGeometry,
    MeshGeometry,
    Polygon,
    Rectangle,
    SurfaceGeometry,
    UnknownPart,
)
from solvus.meshes.geometry.crossings import RayCounter
from solvus.meshes.geometry.ears import ears
from solvus.meshes.geometry.facets import FacetTree, facet_distances

NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Disc((0, 0), 0), "radius of Disc must be positive and finite, got 0"),
        (lambda: Disc((0, 0), -1), "got -1"),
        (lambda: Ball((0, 0, 0), NAN), "radius of Ball must be positive and finite, got nan"),
        (lambda: Disc((0, NAN), 1), "centre of Disc must be finite"),
        (lambda: Disc((0, 0, 0), 1), "centre of Disc needs 2 coordinates"),
        (lambda: Ball((0,), 1), "use Interval"),
        (lambda: Interval(1, 1), "below its upper one"),
        (lambda: Interval(0, float("inf")), "must be finite"),
        (lambda: Rectangle((0, 0), (1, 0)), "below its upper one"),
        (lambda: Rectangle((0, 0, 0), (1, 1, 1)), "needs 2 coordinates"),
        (lambda: Rectangle(0, 1), "needs 2 coordinates"),
        (lambda: Box((0, 0), (1, 1, 1)), "below its upper one"),
        (lambda: Box((), ()), "one or more coordinates"),
        (lambda: Ellipse((0, 0), (1, 0)), "half axis of Ellipse must be positive"),
        (lambda: Ellipse((0, 0), (1, 1), NAN), "angle of Ellipse must be finite"),
        (lambda: Polygon([(0, 0), (1, 0)]), "three or more corners, got 2"),
        (lambda: Polygon([(0, 0), (1, 0), (NAN, 1)]), "must be finite"),
        (lambda: Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), "sides 0 and 2 of the polygon cross"),
        (lambda: Polygon([(0, 0), (2, 0), (2, 2), (1, 0), (0, 2)]), "sides 0 and 2 .* touch"),
        (lambda: Polygon([(0, 0), (1, 0), (1, 1), (0, 0)]), "corners 3 and 0 of the polygon coincide"),
        (lambda: Polygon([(0, 0), (1, 0), (0.5, 0)]), "turns back on itself at corner 1"),
        (lambda: MeshGeometry(box((2,))), "use Interval in 1D"),
        (lambda: MeshGeometry(surface_of(box((1, 1, 1)))), "triangles in 2D or tetrahedra in 3D"),
        (lambda: SurfaceGeometry(box((2, 2))), "use MeshGeometry"),
        (lambda: SurfaceGeometry(Mesh(np.eye(3, 2), {"line": [[0, 1], [1, 2]]})), "open: 2 points"),
    ],
)  # fmt: skip
def test_bad_shapes_are_named(make, message):
    with pytest.raises(InvalidGeometry, match=message):
        make()


def test_open_and_branched_surfaces_are_named():
    closed = surface_of(box((1, 1, 1)))
    holed = Mesh(closed.points, {"triangle": closed.simplices[1:]})
    with pytest.raises(InvalidGeometry, match=r"open: 3 edges belong to one cell only, the first at .*close"):
        SurfaceGeometry(holed)
    fin = [*closed.simplices.tolist(), [0, 1, 8]]
    with pytest.raises(NonManifold):
        SurfaceGeometry(Mesh([*closed.points.tolist(), [9.0, 9.0, 9.0]], {"triangle": fin}))


def joined(*meshes: Mesh) -> Mesh:
    """All cells of meshes of one kind, with points of their own."""
    (kind,) = meshes[0].cells
    starts = np.cumsum([0, *(len(mesh.points) for mesh in meshes)])
    rows = [mesh.cells[kind] + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([mesh.points for mesh in meshes]), {kind: np.concatenate(rows)})


def moved(mesh: Mesh, *by: float) -> Mesh:
    return Mesh(mesh.points + np.array(by), mesh.cells)


def test_pieces_that_lie_on_each_other_are_refused():
    cube, square = surface_of(box((2, 2, 2))), surface_of(box((2, 2)))
    upper = surface_of(box((3, 3, 3), (0.25, 0.25, 1), (0.75, 0.75, 2)))  # other facets on the common face
    for pieces in (
        (cube, moved(cube, 0, 0, 1)),
        (cube, upper),
        (upper, cube),
        (square, moved(square, 1, 0)),
    ):
        with pytest.raises(
            InvalidGeometry, match=r"pieces 0 and 1 .* lie on each other at \[.*join them by \|"
        ):
            SurfaceGeometry(joined(*pieces))
    apart = SurfaceGeometry(joined(cube, moved(cube, 0, 0, 1.01)))
    assert (apart.volume(), apart.boundary_measure()) == (pytest.approx(2), pytest.approx(12))
    corner = SurfaceGeometry(joined(square, moved(square, 1, 1)))  # nothing in common
    assert corner.boundary_measure() == pytest.approx(8)
    one, other = SurfaceGeometry(cube), SurfaceGeometry(moved(cube, 0, 0, 1))
    assert not (one | other).sample_boundary(200, np.random.default_rng(0)).points[:, 2].tolist().count(1.0)


def test_boxes_of_any_dimension_name_their_faces():
    assert [part.name for part in Box((0,) * 3, (1,) * 3).parts] == [
        "xmin",
        "xmax",
        "ymin",
        "ymax",
        "zmin",
        "zmax",
    ]
    assert [part.name for part in Box((0,) * 4, (1,) * 4).parts][-2:] == ["x4min", "x4max"]
    assert Box((0,) * 6, (2,) * 6).boundary_measure("x1min") == 32


@pytest.mark.parametrize("dim", [2, 3, 4, 7, 10])
def test_balls_have_the_radius_and_direction_of_uniform_points(dim):
    ball = Ball((1.0,) * dim, 2.0)
    points = ball.sample(4000, np.random.default_rng(0)) - 1.0
    radius = np.linalg.norm(points, axis=1)
    assert kstest((radius / 2) ** dim, "uniform").pvalue > 1e-3
    np.testing.assert_allclose((points / radius[:, None]).mean(axis=0), 0, atol=4 / np.sqrt(4000 * dim))
    assert ball.boundary_measure() == pytest.approx(dim * ball.volume() / 2)


@pytest.mark.parametrize("axes", [(2.0, 1.0), (1.0, 30.0), (1.0, 1.0), (1000.0, 1.0)])
def test_points_of_an_ellipse_are_uniform_in_arc_length(axes):
    a, b = axes
    ellipse = Ellipse((0, 0), axes)
    speed = lambda t: np.hypot(a * np.sin(t), b * np.cos(t))  # noqa: E731
    quarter = quad(speed, 0, np.pi / 2, epsrel=1e-10, limit=200)[0]
    assert ellipse.boundary_measure() == pytest.approx(4 * quarter, rel=1e-8)
    found = ellipse.sample_boundary(400, np.random.default_rng(1))
    t = np.arctan2(np.abs(found.points[:, 1]) / b, np.abs(found.points[:, 0]) / a)
    arcs = np.array([quad(speed, 0, v, epsrel=1e-8, limit=200)[0] for v in t])
    assert kstest(arcs / quarter, "uniform").pvalue > 1e-3
    assert np.abs(ellipse.distance(found.points)).max() < 1e-12 * max(axes)


@given(st.floats(0.05, 20), st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 6))
@settings(max_examples=60, deadline=None)
def test_distances_from_an_ellipse_are_minima(b, x, y, angle):
    ellipse = Ellipse((0.2, 0.1), (1, b), angle)
    c, s = np.cos(angle), np.sin(angle)
    frame = np.array([[c, s], [-s, c]])
    gap = lambda t: np.hypot(*(np.array([np.cos(t), b * np.sin(t)]) @ frame + (0.2 - x, 0.1 - y)))  # noqa: E731
    t = np.linspace(0, 2 * np.pi, 400)
    start = t[np.argmin([gap(v) for v in t])]
    least = minimize_scalar(
        gap, bounds=(start - 0.02, start + 0.02), method="bounded", options={"xatol": 1e-12}
    )
    assert abs(ellipse.distance([[x, y]])[0]) == pytest.approx(least.fun, abs=1e-7)


@pytest.mark.parametrize("height", [1e-3, 1e-7, 2e-11, 1.1e-12])
def test_distances_near_the_long_axis_keep_their_digits(height):
    """Beside the axis the foot moves with the point: the distance is that on the axis, less a share of y."""
    x = np.array([0.0, 0.1, 0.7, 1.4])
    foot = x / 0.75  # of a point of the axis: a^2 / (a^2 - b^2) x
    up = np.sqrt(1 - (foot / 2) ** 2)
    on_axis, slope = np.hypot(foot - x, up), up / np.hypot(foot - x, up)
    found = Ellipse((0, 0), (2, 1)).distance(np.column_stack([x, np.full(4, height)]))
    np.testing.assert_allclose(-found, on_axis - height * slope, rtol=0, atol=3e-15 + 3 * height**2)


CONCAVE = {
    "T": ((0, 0), (3, 0), (3, 1), (2, 1), (2, 2), (1, 2), (1, 1), (0, 1)),
    "H": ((0, 0), (1, 0), (1, 1), (2, 1), (2, 0), (3, 0), (3, 3), (2, 3), (2, 2), (1, 2), (1, 3), (0, 3)),
    "hat": ((0, 0), (4, 0), (4, 1), (3, 1), (3, 2), (1, 2), (1, 1), (0, 1)),
    "comb": ((0, 0), (5, 0), (5, 2), (4, 2), (4, 1), (3, 1), (3, 2), (2, 2), (2, 1), (1, 1), (1, 2), (0, 2)),
}


@pytest.mark.parametrize("name", CONCAVE)
def test_turned_polygons_are_cut_into_triangles_of_their_area(name):
    """Corners in one line are so up to rounding only once the polygon is turned."""
    corners = np.array(CONCAVE[name], dtype=float)
    x, y = corners.T
    area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    for degrees in range(0, 360, 2):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turned = corners @ np.array([[c, s], [-s, c]])
        a, b, d = np.moveaxis(turned[ears(turned)], 1, 0)
        sizes = ((b - a) * (d - a)[:, ::-1] * (1, -1)).sum(axis=1) / 2
        assert sizes.min() > 0
        assert sizes.sum() == pytest.approx(area, rel=1e-12)
    polygon = Polygon(
        corners @ np.array([[np.cos(0.6632), np.sin(0.6632)], [-np.sin(0.6632), np.cos(0.6632)]])
    )
    assert polygon.contains(polygon.sample(300, np.random.default_rng(0))).all()


def test_triangles_that_do_not_fill_the_polygon_are_noticed():
    crossed = np.array([(0, 0), (4, 0), (4, 3), (0, 3), (0, 2), (1, -1)], dtype=float)
    with pytest.raises(InvalidGeometry, match="cannot be cut into triangles: corners are too near to sides"):
        ears(crossed)  # Polygon would have named the crossing


@given(st.integers(3, 40), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_polygons_are_cut_into_triangles_of_their_area(n, seed):
    generator = np.random.default_rng(seed)
    angle = np.sort(generator.uniform(0, 6.2, n)) + np.arange(n) * 1e-3
    corners = generator.uniform(0.2, 1, n)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x, y = corners.T
    area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    try:
        polygon = Polygon(corners)
    except InvalidGeometry:  # a gap of more than half a turn lets sides cross
        assert np.diff(np.concatenate([angle, angle[:1] + 2 * np.pi])).max() > np.pi - 0.1
        return
    assert polygon.volume() == pytest.approx(area, rel=1e-9)
    assert polygon.contains(polygon.sample(200, generator)).all()


def test_convex_polygons_agree_with_their_hull():
    hull = ConvexHull(np.random.default_rng(2).standard_normal((30, 2)))
    polygon = Polygon(hull.points[hull.vertices])
    assert polygon.volume() == pytest.approx(hull.volume)
    assert polygon.boundary_measure() == pytest.approx(hull.area)
    points = np.random.default_rng(3).uniform(-3, 3, (1000, 2))
    inside = (points @ hull.equations[:, :2].T + hull.equations[:, 2] <= 0).all(axis=1)
    np.testing.assert_array_equal(polygon.contains(points), inside)


def test_sides_of_a_polygon_keep_the_order_of_its_corners():
    for corners in (ELL, ELL[::-1]):
        polygon = Polygon(corners)
        for i, corner in enumerate(corners):
            points = polygon.sample_boundary(20, np.random.default_rng(0), on=f"side{i}").points
            following = corners[(i + 1) % len(corners)]
            assert FacetTree(np.array([[corner, following]], dtype=float)).nearest(points)[0].max() < 1e-12


def solid_angles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Winding numbers of outward triangles (M, 3, 3), by solid angles (van Oosterom and Strackee 1983)."""
    a, b, c = (corners[None, :, i] - points[:, None] for i in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    dot = lambda u, v: (u * v).sum(axis=-1)  # noqa: E731
    below = la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb
    return 2 * np.arctan2(dot(a, np.cross(b, c)), below).sum(axis=1) / (4 * np.pi)


def bumpy_sphere() -> Mesh:
    """A closed surface that is not convex."""
    ball = surface_of(box((4, 4, 4), (-1,) * 3, (1,) * 3), shuffle=False)
    way = ball.points / np.linalg.norm(ball.points, axis=1, keepdims=True)
    return Mesh(way * (1 + 0.4 * np.sin(5 * way[:, :1]) * np.cos(4 * way[:, 1:2])), ball.cells)


def test_inside_of_a_surface_agrees_with_solid_angles():
    geometry = SurfaceGeometry(bumpy_sphere())
    points = np.random.default_rng(4).uniform(-1.5, 1.5, (3000, 3))
    winding = solid_angles(points, geometry._corners)
    np.testing.assert_allclose(winding, np.rint(winding), atol=1e-9)
    np.testing.assert_array_equal(geometry.contains(points), np.rint(winding) == 1)


def test_rays_through_edges_and_corners_are_counted_once():
    cube = SurfaceGeometry(surface_of(box((4, 4, 4))))
    lattice = np.stack(np.meshgrid(*[np.arange(1, 8) / 8] * 3), axis=-1).reshape(-1, 3)
    assert cube.contains(lattice).all()
    assert not cube.contains(lattice - (0, 0, 1)).any()
    assert not cube.contains(lattice - (0, 0, -1)).any()
    square = RayCounter(
        np.array([[[0, 0], [1, -1]], [[1, -1], [2, 0]], [[2, 0], [1, 1]], [[1, 1], [0, 0.0]]])
    )
    assert square.inside(np.array([[1.0, 0.0], [1.0, -2.0], [1.0, 2.0], [0.5, 0.0]])).tolist() == [
        True,
        False,
        False,
        True,
    ]


def test_the_tree_finds_the_nearest_facet_of_uneven_meshes():
    generator = np.random.default_rng(5)
    corners = generator.standard_normal((300, 1, 3)) + generator.standard_normal((300, 3, 3)) * (
        10.0 ** generator.uniform(-3, 0.5, (300, 1, 1))
    )
    points = 2 * generator.standard_normal((200, 3))
    found, number = FacetTree(corners).nearest(points)
    every = facet_distances(points[:, None], corners)
    np.testing.assert_allclose(found, every.min(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(number, every.argmin(axis=1))
    weights = generator.dirichlet(np.ones(3), 4000)
    sampled = np.linalg.norm(points[:20, None, None] - weights @ corners[:30], axis=-1).min(axis=2)
    assert (every[:20, :30] <= sampled + 1e-12).all()


def test_mesh_geometry_is_uniform_over_cells_of_any_size_and_keeps_tags():
    mesh = l_shape(3)
    graded = Mesh(np.sign(mesh.points) * np.abs(mesh.points) ** 3, mesh.cells)
    middle = graded.points[graded.simplices].mean(axis=1)
    points = MeshGeometry(graded).sample(4000, np.random.default_rng(6))
    quadrant = (middle[:, 0] < 0) & (middle[:, 1] < 0)
    share = graded.volumes[quadrant].sum() / graded.volumes.sum()
    assert ((points < 0).all(axis=1)).mean() == pytest.approx(share, abs=0.03)
    geometry = MeshGeometry(mesh)
    found = geometry.sample_boundary(400, np.random.default_rng(7), on="reentrant")
    assert (np.abs(found.points).min(axis=1) < 1e-12).all()
    with pytest.raises(UnknownPart, match="'reentrant', 'xmax'"):
        geometry.boundary_measure("inlet")


def test_overlapping_and_missing_tags_of_a_mesh():
    mesh = box((2, 2)).with_tags({"wall": box((2, 2)).boundary_where(lambda x: x[:, 0] < 0.9)})
    bare = Mesh(mesh.points, mesh.cells)
    assert [part.name for part in MeshGeometry(bare).parts] == ["boundary"]
    geometry = MeshGeometry(mesh)
    assert geometry.boundary_measure("wall") == pytest.approx(3)
    assert geometry.boundary_measure(("wall", "xmin")) == pytest.approx(3)
    assert geometry.boundary_measure("ymin") == pytest.approx(1)
    assert "wall & ymin" in " ".join(" & ".join(sorted(p.also)) for p in geometry.parts)
    some = MeshGeometry(bare.with_tags({"lid": bare.boundary_where(lambda x: x[:, 1] > 0.99)}))
    assert {part.name: some.boundary_measure(part) for part in some.parts} == {"lid": 1.0, "untagged": 3.0}


@pytest.mark.parametrize("name", ["cube.vtu", "cube.off", "cube.msh"])
def test_closed_surfaces_are_read_from_files(tmp_path, name):
    write_mesh(tmp_path / name, surface_of(box((2, 2, 2), upper=(1, 2, 3))))
    geometry = SurfaceGeometry(read_mesh(tmp_path / name))
    assert geometry.volume() == pytest.approx(6)
    assert geometry.boundary_measure() == pytest.approx(22)


def test_pieces_inside_pieces_are_holes_with_tags():
    mesh = ring_mesh(40).with_tags({"inner": (1, np.arange(40, 80))})
    ring = SurfaceGeometry(mesh)
    outer = Polygon(mesh.points[:40])
    assert ring.volume() == pytest.approx(outer.volume() * (1 - 0.16))
    found = ring.sample_boundary(500, np.random.default_rng(8), on="inner")
    assert ((found.points * found.normals).sum(axis=1) < 0).all()
    assert ring.boundary_measure("untagged") == pytest.approx(outer.boundary_measure())


def test_the_disc_of_triangles_tends_to_the_disc():
    points = np.random.default_rng(9).uniform(-1.2, 1.2, (500, 2))
    gaps = [
        np.abs(MeshGeometry(disc(n)).distance(points) - Disc((0, 0), 1).distance(points)).max()
        for n in (8, 16)
    ]
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.2)
