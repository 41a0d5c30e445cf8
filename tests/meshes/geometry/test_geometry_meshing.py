"""Meshes of geometries: areas, tags, sizes, repeatability."""

import sys

import numpy as np
import pytest
from geometry_specimens import STEP, square_with_holes

from solvus.meshes import box
from solvus.meshes.geometry import (
    Ball,
    Box,
    Disc,
    Ellipse,
    EmptyGeometry,
    Interval,
    InvalidGeometry,
    MeshGeometry,
    Polygon,
    Rectangle,
    mesh_of,
)

try:
    import gmsh
except (ImportError, OSError) as error:
    gmsh = None
    reason = f"gmsh cannot be imported: {error}"
else:
    reason = ""
needs_gmsh = pytest.mark.skipif(gmsh is None, reason=reason)


def length(mesh, name):
    ends = mesh.points[mesh.tagged(name)]
    return np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum()


@needs_gmsh
def test_the_area_tends_to_the_exact_one_by_order_two():
    plate = square_with_holes()
    errors = [abs(mesh_of(plate, 0.1, around=n).volumes.sum() - plate.volume()) for n in (16, 32, 64)]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 2, atol=0.2)
    assert errors[-1] < 3e-4


@needs_gmsh
def test_the_plate_with_holes_is_tagged_and_refined():
    mesh = mesh_of(square_with_holes(), 0.1)
    assert sorted(mesh.tags) == ["circle", "xmax", "xmin", "ymax", "ymin"]
    tagged = np.concatenate([ids for _, ids in mesh.tags.values()])
    np.testing.assert_array_equal(np.sort(tagged), mesh.boundary_facets)
    assert length(mesh, "xmin") == pytest.approx(1)
    assert length(mesh, "circle") == pytest.approx(0.8 * np.pi, rel=0.01)
    assert len(mesh.tagged("circle")) >= 4 * 24
    assert mesh.quality.min() > 0.4
    assert mesh.diameters.max() < 0.17
    rim = mesh.points[mesh.tagged_points("circle")]
    np.testing.assert_allclose(np.hypot(*(np.abs(rim) - 0.3).T), 0.1, rtol=1e-9)


@needs_gmsh
def test_the_back_step_is_exact():
    mesh = mesh_of(STEP, 0.25)
    assert mesh.volumes.sum() == pytest.approx(6, rel=1e-12)
    assert {name: round(length(mesh, name), 9) for name in mesh.tags} == {
        "xmax": 3.0,  # outlet and drop
        "xmin": 1.0,
        "ymax": 2.0,
        "ymin": 6.0,  # floor and shelf
    }


@needs_gmsh
@pytest.mark.parametrize(
    ("geometry", "tags"),
    [
        (Rectangle((0, 0), (2, 1)) | Rectangle((0, 1), (2, 2)), {"xmin": 2, "xmax": 2, "ymin": 2, "ymax": 2}),
        (Rectangle((0, 0), (2, 1)) | Rectangle((1, 0), (3, 1)), {"xmin": 1, "xmax": 1, "ymin": 3, "ymax": 3}),
        (Rectangle((0, 0), (2, 2)) - Box((0, 0), (1, 1)), {"xmin": 1, "xmax": 3, "ymin": 1, "ymax": 3}),
        (Polygon([(0, 0), (2, 0), (0, 1)]), {"side0": 2, "side1": np.sqrt(5), "side2": 1}),
        (Disc((0, 0), 1) & Rectangle((0, -2), (2, 2)), {"circle": np.pi, "xmin": 2}),
        (Ellipse((1, 2), (0.5, 1), 0.3), {"ellipse": 4.844224}),
        (Ball((0, 0), 1, "rim") - Disc((0, 0), 0.1, "hole"), {"rim": 2 * np.pi, "hole": 0.2 * np.pi}),
    ],
)  # fmt: skip
def test_lengths_of_tags(geometry, tags):
    mesh = mesh_of(geometry, 0.2, around=48)
    assert {name: length(mesh, name) for name in mesh.tags} == pytest.approx(tags, rel=3e-3)
    assert mesh.volumes.sum() == pytest.approx(geometry.volume(), rel=5e-3)
    assert mesh.quality.min() > 0.3


@needs_gmsh
def test_a_small_hole_is_approached_gradually():
    mesh = mesh_of(Rectangle((-1, -1), (1, 1)) - Disc((0, 0), 0.01), 0.3)
    assert len(mesh.tagged("circle")) >= 24
    assert mesh.quality.min() > 0.5


@needs_gmsh
def test_boxes_and_balls_in_space():
    cube = Box((0, 0, 0), (1, 1, 1)) - Ball((0.4, 0.3, 0.6), 0.2)
    mesh = mesh_of(cube, 0.2)
    assert mesh.volumes.sum() == pytest.approx(cube.volume(), rel=0.01)
    assert sorted(mesh.tags) == ["sphere", "xmax", "xmin", "ymax", "ymin", "zmax", "zmin"]
    tagged = np.concatenate([ids for _, ids in mesh.tags.values()])
    np.testing.assert_array_equal(np.sort(tagged), mesh.boundary_facets)


@needs_gmsh
def test_meshes_are_repeatable_and_silent(capfd):
    first, second = (mesh_of(square_with_holes(), 0.1) for _ in range(2))
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.simplices, second.simplices)
    assert list(first.tags) == list(second.tags)
    assert capfd.readouterr() == ("", "")
    assert not gmsh.isInitialized()


@needs_gmsh
def test_a_running_gmsh_is_left_as_it_was():
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setNumber("Mesh.MeshSizeMax", 7.0)
        gmsh.model.add("theirs")
        mesh_of(Disc((0, 0), 1), 0.3)
        assert gmsh.model.getCurrent() == "theirs"
        assert gmsh.option.getNumber("Mesh.MeshSizeMax") == 7.0
    finally:
        gmsh.finalize()


@needs_gmsh
def test_an_error_in_gmsh_ends_its_session():
    with pytest.raises(EmptyGeometry, match="nothing is left of Disc"):
        mesh_of(Disc((0, 0), 1) - Disc((0, 0), 2), 0.1)
    assert not gmsh.isInitialized()


@pytest.mark.parametrize(
    ("geometry", "size", "message"),
    [
        (Interval(0, 1), 0.1, "has 1: use meshes.box in 1D"),
        (Ball((0,) * 4, 1), 0.1, "two or three dimensions"),
        (Disc((0, 0), 1), 0, "size must be positive"),
        (Disc((0, 0), 1), float("nan"), "size must be positive"),
        (Disc((0, 0), 1) - MeshGeometry(box((2, 2))), 0.1, "is a MeshGeometry, which mesh_of does not treat"),
    ],
)
def test_what_cannot_be_meshed_is_named(geometry, size, message):
    with pytest.raises(InvalidGeometry, match=message):
        mesh_of(geometry, size)


@pytest.mark.parametrize(
    "failure", [ImportError("No module named 'gmsh'"), OSError("libGLU.so.1: cannot open")]
)
def test_without_gmsh_the_extra_is_named(monkeypatch, failure):
    class Refusing:
        def find_spec(self, name, path=None, target=None):
            if name == "gmsh":
                raise failure

    monkeypatch.delitem(sys.modules, "gmsh", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    with pytest.raises(ImportError, match=r"cannot be imported \(.*gmsh|libGLU.*pip install solvus\[fem\]"):
        mesh_of(Disc((0, 0), 1), 0.1)
