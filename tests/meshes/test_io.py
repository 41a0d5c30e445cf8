"""Every offered format brings every promised mesh back to the last bit; the others are refused."""

import contextlib
import io
import json
import warnings
from dataclasses import replace

import h5py
import meshio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mesh_specimens import ALL, MIXED, QUAD, TETRA, TRIANGLE, assert_same, in_space, tagged, with_data

from solvus.meshes import (
    FORMATS,
    Mesh,
    MeshReadError,
    UnsupportedMeshFormat,
    box,
    read_mesh,
    write_mesh,
)
from solvus.meshes.formats import REFUSED
from solvus.meshes.hdf5 import read_mesh_group, write_mesh_group
from solvus.meshes.sidecar import sidecar_path


def promised(item, mesh):
    return set(mesh.cells) <= set(item.cells) and (item.mixed or len(mesh.cells) == 1)


CONTENTS = {
    "plain": lambda mesh, item: Mesh(mesh.points, mesh.cells),
    "tags": lambda mesh, item: tagged(mesh),
    "tags that overlap": lambda mesh, item: tagged(mesh, overlap=True),
    "data": lambda mesh, item: with_data(tagged(mesh), item.data, item.data if item.cell_data else ""),
}
CASES = [
    pytest.param(item, mesh, content, id=f"{item.name}-{name}-{what}")
    for item in FORMATS.values()
    for name, mesh in ALL.items()
    for what, content in CONTENTS.items()
    if promised(item, mesh) and (what != "data" or item.data)
]


@pytest.mark.parametrize(("item", "mesh", "content"), CASES)
def test_round_trip(item, mesh, content, tmp_path, capfd):
    written = content(mesh, item)
    for extension in item.extensions:
        path = tmp_path / f"mesh{extension}"
        write_mesh(path, written)
        assert_same(read_mesh(path), written)
    assert capfd.readouterr() == ("", "")


REFUSALS = [
    pytest.param(item, mesh, id=f"{item.name}-{name}")
    for item in FORMATS.values()
    for name, mesh in ALL.items()
    if not promised(item, mesh)
]


@pytest.mark.parametrize(("item", "mesh"), REFUSALS)
def test_cells_that_a_format_loses_are_refused(item, mesh, tmp_path):
    path = tmp_path / f"mesh{item.extensions[0]}"
    with pytest.raises(UnsupportedMeshFormat, match=rf"{item.name} does not keep .* use .h5"):
        write_mesh(path, mesh)
    assert not path.exists()


@pytest.mark.parametrize(
    ("extension", "mesh", "message"),
    [
        ("inp", with_data(TRIANGLE, "f", ""), "abaqus keeps no point data, but 's' is float64"),
        ("msh", with_data(TRIANGLE, "", "f"), "gmsh keeps no cell data"),
        ("med", with_data(TRIANGLE, "i", ""), "keeps point data that are float64 of shape"),
        ("vtu", replace(TRIANGLE, point_data={"u": np.ones((20, 2))}), r"of shape \(20, 2\): use .h5"),
        ("vtu", replace(TRIANGLE, point_data={"a b": np.ones(20)}), "under a plain name"),
        ("xdmf", replace(TRIANGLE, cell_data={"u": np.ones(24, np.float32)}), "'u' is float32"),
    ],
)
def test_data_that_a_format_loses_are_refused(extension, mesh, message, tmp_path):
    with pytest.raises(UnsupportedMeshFormat, match=message):
        write_mesh(tmp_path / f"mesh.{extension}", mesh)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_formats_say_why(name, tmp_path):
    message = rf"{name!r} because it .*: use \.h5"
    with pytest.raises(UnsupportedMeshFormat, match=message):
        write_mesh(tmp_path / "m.x", TETRA, file_format=name)
    with pytest.raises(UnsupportedMeshFormat, match=message):
        read_mesh("m.x", file_format=name)


@pytest.mark.parametrize("file", ["m.ugrid", "m.cgns", "m.su2", "m.STL", "m.bdf", "m.xml", "m.e"])
def test_refused_extensions_say_why(file, tmp_path):
    with pytest.raises(UnsupportedMeshFormat, match="because it"):
        write_mesh(tmp_path / file, TETRA)


def test_unknown_formats():
    with pytest.raises(UnsupportedMeshFormat, match=r"extension '.docx' is unknown, formats are"):
        read_mesh("m.docx")
    with pytest.raises(UnsupportedMeshFormat, match="format 'word' is unknown"):
        read_mesh("m.vtu", file_format="word")


# What meshio itself does to a mesh that we refuse to hand it: each of these must fail the round trip, else
# the refusal has outlived its reason.
DAMAGE = {
    "ugrid": ("m.ugrid", "ugrid", TETRA, {}),
    "cgns": ("m.cgns", "cgns", in_space(TRIANGLE), {}),
    "su2": ("m.su2", "su2", in_space(TRIANGLE), {}),
    "dolfin-xml": ("m.xml", "dolfin-xml", with_data(TETRA, "", "f"), {}),
    "stl": ("m.stl", "stl", in_space(TRIANGLE), {}),
    "nastran": ("m.bdf", "nastran", TETRA, {}),
    "gmsh-ascii": ("m.msh", "gmsh22", with_data(TRIANGLE, "f", ""), {"binary": False}),
    "gmsh cell data": ("m.msh", "gmsh22", with_data(MIXED, "", "f"), {"binary": True}),
    "tecplot mixed": ("m.dat", "tecplot", MIXED, {}),
}


@pytest.mark.parametrize(("file", "name", "mesh", "options"), DAMAGE.values(), ids=DAMAGE)
def test_meshio_still_damages_what_we_refuse(file, name, mesh, options, tmp_path):
    starts = np.cumsum([len(rows) for rows in mesh.cells.values()])[:-1]
    cell_data = {key: np.split(values, starts) for key, values in mesh.cell_data.items()}
    points = np.pad(mesh.points, ((0, 0), (0, 3 - mesh.space_dim)))
    foreign = meshio.Mesh(points, list(mesh.cells.items()), mesh.point_data, cell_data)
    quiet = contextlib.redirect_stdout(io.StringIO())
    with pytest.raises((Exception, SystemExit)), quiet, warnings.catch_warnings():  # noqa: PT012
        warnings.simplefilter("ignore")
        meshio.write(tmp_path / file, foreign, file_format=name, **options)
        back = meshio.read(tmp_path / file, file_format=name.replace("22", ""))
        cells = {block.type: block.data for block in back.cells}
        data = {key: np.concatenate(values) for key, values in back.cell_data.items() if "gmsh" not in key}
        assert_same(
            Mesh(back.points[:, : mesh.space_dim], cells, back.point_data, data),
            Mesh(mesh.points, mesh.cells, mesh.point_data, mesh.cell_data),
        )


@given(nx=st.integers(1, 3), ny=st.integers(1, 3), data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("file", ["m.h5", "m.vtu", "m.msh", "m.med", "m.mesh"])
def test_any_tags_and_coordinates_survive(file, nx, ny, data, tmp_path):
    mesh = box((nx, ny))
    scale = data.draw(st.floats(1e-12, 1e12))
    tags = {}
    for name in data.draw(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=4)):
        dim = data.draw(st.integers(0, 2))
        ids = st.integers(0, mesh.n_entities(dim) - 1)
        tags[name.encode("utf-8", "ignore").decode() or "x"] = (dim, data.draw(st.lists(ids, max_size=5)))
    shift = data.draw(st.floats(-1, 1))
    mesh = Mesh(
        (mesh.points + shift) * scale, mesh.cells, tags={k: v for k, v in tags.items() if "\0" not in k}
    )
    write_mesh(tmp_path / file, mesh)
    assert_same(read_mesh(tmp_path / file), mesh)


def test_gmsh_sees_the_names_as_physical_groups(tmp_path):
    write_mesh(tmp_path / "m.msh", tagged(TETRA))
    assert not sidecar_path(tmp_path / "m.msh").exists()
    foreign = meshio.gmsh.read(tmp_path / "m.msh")
    assert {name: int(dim) for name, (_, dim) in foreign.field_data.items()} == {
        "part": 3, "wall": 2, "inner": 2, "edge": 1, "corner": 0,
    }  # fmt: skip


GMSH_41 = """$MeshFormat
4.1 0 8
$EndMeshFormat
$PhysicalNames
2
1 1 "inlet"
2 2 "fluid"
$EndPhysicalNames
$Entities
0 1 1 0
1 0 0 0 0 1 0 1 1 0
1 0 0 0 1 1 0 1 2 0
$EndEntities
$Nodes
1 5 1 5
2 1 0 5
1
2
3
4
5
0 0 0
1 0 0
1 1 0
0 1 0
7 7 0
$EndNodes
$Elements
2 3 1 3
1 1 1 1
1 4 1
2 1 2 2
2 1 2 3
3 1 4 3
$EndElements
"""


def test_a_file_by_gmsh_itself_is_read(tmp_path):
    path = tmp_path / "m.msh"
    path.write_text(GMSH_41)
    mesh = read_mesh(path)
    assert repr(mesh) == "Mesh(4 points in 2D, 2 triangles, tags: inlet, fluid)"
    assert mesh.tagged("inlet").tolist() == [[0, 3]]
    assert mesh.tags["fluid"][1].tolist() == [0, 1]
    np.testing.assert_allclose(mesh.volumes, 0.5)  # the second triangle runs the wrong way round in the file


def test_sets_and_labels_of_other_programs_become_tags(tmp_path):
    sets = meshio.Mesh(
        np.pad(QUAD.points, ((0, 0), (0, 1))),
        [("quad", QUAD.cells["quad"])],
        cell_sets={"steel": [np.array([1])]},
        point_sets={"fixed": np.array([0, 3])},
    )
    meshio.abaqus.write(tmp_path / "m.inp", sets)
    mesh = read_mesh(tmp_path / "m.inp")
    assert {name: (dim, ids.tolist()) for name, (dim, ids) in mesh.tags.items()} == {
        "steel": (2, [1]), "fixed": (0, [0, 3]),
    }  # fmt: skip
    labels = meshio.Mesh(
        TRIANGLE.points,
        [("triangle", TRIANGLE.simplices), ("line", TRIANGLE.facets[TRIANGLE.boundary_facets])],
        cell_data={"medit:ref": [np.repeat([1, 2], 12), np.full(14, 5)]},
    )
    meshio.medit.write(tmp_path / "m.mesh", labels)
    mesh = read_mesh(tmp_path / "m.mesh")
    assert sorted(mesh.tags) == ["ref_1_5", "ref_2_1", "ref_2_2"]
    np.testing.assert_array_equal(mesh.tags["ref_1_5"][1], TRIANGLE.boundary_facets)


def test_the_side_car_is_tied_to_its_mesh(tmp_path):
    path, side = tmp_path / "m.vtu", tmp_path / "m.vtu.tags.json"
    write_mesh(path, TRIANGLE)
    assert json.loads(side.read_text())["tags"]["xmin"]["dim"] == 1
    write_mesh(tmp_path / "other.vtu", Mesh(TETRA.points, TETRA.cells))
    (tmp_path / "other.vtu").replace(path)
    with pytest.raises(
        MeshReadError, match=r"m.vtu.tags.json belongs to another mesh .* delete the side-car"
    ):
        read_mesh(path)
    side.write_text('{"format": "solvus-mesh-tags", "version": 1')
    with pytest.raises(MeshReadError, match=r"which holds the tags of m.vtu, is damaged"):
        read_mesh(path)
    side.write_text('{"format": "something else", "version": 1}')
    with pytest.raises(MeshReadError, match="format 'something else'"):
        read_mesh(path)
    write_mesh(path, Mesh(TRIANGLE.points, TRIANGLE.cells))
    assert not side.exists()
    assert not read_mesh(path).tags


@pytest.mark.parametrize("item", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("damage", ["empty", "noise", "cut"])
def test_damaged_files_are_named_errors(item, damage, tmp_path, capfd):
    name = next(name for name in ("tetra", "surface", "triangle") if promised(item, ALL[name]))
    path = tmp_path / f"m{item.extensions[0]}"
    write_mesh(path, Mesh(ALL[name].points, ALL[name].cells))
    sidecar_path(path).unlink(missing_ok=True)
    content = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, 400, dtype=np.uint8).tobytes()
    path.write_bytes({"empty": b"", "noise": noise, "cut": content[: len(content) // 2]}[damage])
    with pytest.raises(
        MeshReadError, match=rf"m\{item.extensions[0]} could not be read as .* export it anew"
    ):
        read_mesh(path)


def test_files_without_a_mesh(tmp_path):
    with pytest.raises(MeshReadError, match=r"there is no file .*nowhere.vtu: check the name"):
        read_mesh(tmp_path / "nowhere.vtu")
    with pytest.raises(MeshReadError, match="there is no file"):
        read_mesh(tmp_path, file_format="vtu")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(MeshReadError, match="has no group /mesh"):
        read_mesh(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file.create_group("mesh")
    with pytest.raises(MeshReadError, match="is no mesh: its attribute 'format'"):
        read_mesh(tmp_path / "m.h5")
    write_mesh(tmp_path / "m.h5", TETRA)
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file["mesh"].attrs["format_version"] = 99
    with pytest.raises(MeshReadError, match="has version 99"):
        read_mesh(tmp_path / "m.h5")
    bad = meshio.Mesh(np.array([[0, 0, 0], [1, 0, 0], [np.nan, 1, 0]]), [("triangle", np.array([[0, 1, 2]]))])
    meshio.vtu.write(tmp_path / "nan.vtu", bad)
    with pytest.raises(
        MeshReadError, match=r"nan.vtu could not be read as vtu .NonFinitePoints: 1 of 3 points"
    ):
        read_mesh(tmp_path / "nan.vtu")
    curved = meshio.Mesh(np.eye(6, 3), [("triangle6", np.arange(6)[None])])
    meshio.vtu.write(tmp_path / "curved.vtu", curved)
    with pytest.raises(MeshReadError, match="export linear cells"):
        read_mesh(tmp_path / "curved.vtu")
    cloud = meshio.Mesh(np.eye(3), [("vertex", np.arange(3)[:, None])])
    meshio.vtu.write(tmp_path / "cloud.vtu", cloud)
    with pytest.raises(MeshReadError, match="the file has no cells"):
        read_mesh(tmp_path / "cloud.vtu")
    loose = meshio.Mesh(
        np.pad(QUAD.points, ((0, 0), (0, 1))),
        [("quad", QUAD.cells["quad"]), ("line", np.array([[0, 5]]))],
        cell_data={"gmsh:physical": [np.array([1, 1]), np.array([2])]},
    )
    meshio.vtu.write(tmp_path / "loose.vtu", loose)
    with pytest.raises(
        MeshReadError, match="tag 'physical_1_2' holds 1 parts of dimension 1 that belong to no"
    ):
        read_mesh(tmp_path / "loose.vtu")


def test_xdmf_does_not_overwrite_a_mesh_of_ours(tmp_path):
    write_mesh(tmp_path / "m.h5", TETRA)
    with pytest.raises(UnsupportedMeshFormat, match=r"m.h5, which holds another mesh: choose another name"):
        write_mesh(tmp_path / "m.xdmf", TETRA)
    assert_same(read_mesh(tmp_path / "m.h5"), TETRA)


def test_format_can_be_named(tmp_path):
    write_mesh(tmp_path / "plain", TETRA, file_format="vtk")
    assert_same(read_mesh(tmp_path / "plain", file_format="vtk"), TETRA)


def test_a_mesh_lives_in_a_group_of_a_larger_file(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        write_mesh_group(file.create_group("sample/mesh"), MIXED)
    with h5py.File(tmp_path / "data.h5") as file:
        assert_same(read_mesh_group(file["sample/mesh"]), MIXED)


def test_a_damaged_round_trip_fails_the_comparison():
    moved = replace(TETRA, points=np.nextafter(TETRA.points, 9))
    renamed = Mesh(TETRA.points, TETRA.cells, tags={"a": TETRA.tags["xmin"]})
    shifted = TETRA.with_tags({"xmin": (2, TETRA.tags["xmin"][1][1:])})
    for wrong in (moved, renamed, shifted, with_data(TETRA, "f", "")):
        with pytest.raises(AssertionError):
            assert_same(wrong, TETRA)
