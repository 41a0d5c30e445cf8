"""Mesh data in files: round trips, the same bytes, every fault by name, graphs, side-cars, folders."""

import hashlib
import json
import pickle
import re
from dataclasses import replace
from xml.etree import ElementTree

import h5py
import meshio
import numpy as np
import pytest
import torch

from solvus.datasets.layout import Role, Variable
from solvus.datasets.unstructured.mesh_data import (
    MeshFile,
    MeshFolder,
    MeshLayout,
    MeshStorage,
    NoMeshData,
    check_mesh,
    mesh_arrays,
    mesh_from_arrays,
)
from solvus.datasets.unstructured.mesh_graphs import MeshGraphs, join
from solvus.datasets.unstructured.mesh_xdmf import write_xdmf
from solvus.meshes import Mesh, box, disc, read_mesh, write_mesh
from solvus.meshes.random_shapes import RandomShapes

LAYOUT = MeshLayout(
    "test",
    (Variable("u", meaning="heat"), Variable("force", 1, Role.INPUT)),
    (Variable("k", role=Role.INPUT), Variable("stress", 2)),
    {"outer": 1, "hot": 0, "left": 2},
    parameters={"source": 2.0},
    dtype="float64",
)
SHAPES = RandomShapes(0.25, holes=0.0)


def sample(seed):
    mesh = SHAPES.draw(np.random.default_rng(seed))
    left = np.flatnonzero(mesh.points[mesh.simplices].mean(axis=1)[:, 0] < 0)
    return mesh.with_tags({"hot": (0, [1, 5]), "left": (2, left)})


def arrays_of(mesh):
    rng = np.random.default_rng(mesh.n_points)
    fields = {
        "u": rng.random(mesh.n_points),
        "force": mesh.points**2,
        "k": mesh.volumes,
        "stress": rng.random((mesh.n_cells, 2, 2)),
    }
    return {**mesh_arrays(mesh), **fields}


def write(path, layout=LAYOUT, places=(0, 1, 3), samples=5, **settings):
    storage = MeshStorage(layout, 60, **settings)
    with h5py.File(path, "w") as file:
        storage.allocate(file, samples)
        for i in places:
            storage.put(file, i, arrays_of(sample(i)))
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "data.hdf5")


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_round_trip(tmp_path, compression):
    path = write(tmp_path / "data.hdf5", compression=compression)
    with MeshFile(path) as source:
        assert source.layout == replace(LAYOUT, tags=dict(sorted(LAYOUT.tags.items())))
        assert source.ids.tolist() == [0, 1, 3]
        for got, i in zip(source, (0, 1, 3), strict=True):
            mesh, arrays = sample(i), arrays_of(sample(i))
            assert got.id == i
            assert (got.mesh.points == mesh.points).all()
            assert (got.mesh.simplices == mesh.simplices).all()
            for name, (dim, numbers) in mesh.tags.items():
                assert got.mesh.tags[name][0] == dim
                assert got.mesh.tags[name][1].tolist() == numbers.tolist()
            for name in ("u", "force", "k", "stress"):
                assert (got[name] == arrays[name]).all()
        assert source[-1].id == 3
        with h5py.File(path) as file:
            assert check_mesh(file) == []


def test_meshes_in_space():
    layout = MeshLayout("solid", (Variable("u"),), tags={"xmin": 2, "edge": 1}, dim=3)
    mesh = box((2, 2, 2))
    mesh = Mesh(mesh.points, mesh.cells, tags={"xmin": mesh.tags["xmin"], "edge": (1, [3, 8])})
    with h5py.File("solid.hdf5", "w", driver="core", backing_store=False) as file:
        storage = MeshStorage(layout)
        storage.allocate(file, 1)
        storage.put(file, 0, {**mesh_arrays(mesh), "u": mesh.points[:, 0]})
        assert file["mesh/cells/tetra"].shape == (48, 4)
        assert check_mesh(file) == []
    again = mesh_from_arrays(mesh_arrays(mesh), layout.tags)
    assert all(again.tags[name][1].tolist() == mesh.tags[name][1].tolist() for name in mesh.tags)


def test_files_are_the_same_to_the_byte(tmp_path):
    digests = {hashlib.sha256(write(tmp_path / f"{i}.hdf5").read_bytes()).hexdigest() for i in range(3)}
    assert len(digests) == 1
    other = write(tmp_path / "other.hdf5", places=(0, 1, 4)).read_bytes()
    assert hashlib.sha256(other).hexdigest() not in digests


def test_size_is_estimated(path):
    with h5py.File(path) as file:
        points = len(file["mesh/points"]) / 3
        stored = (
            sum(
                file[name].nbytes
                for name in ("mesh/points", "mesh/cells/triangle", "point_fields/u", "point_fields/force")
            )
            + file["cell_fields/k"].nbytes * 5
        )
    assert MeshStorage(LAYOUT, round(points)).bytes_per_sample() == pytest.approx(stored / 3, rel=0.2)


def test_stored_precision(tmp_path):
    path = write(tmp_path / "data.hdf5", replace(LAYOUT, dtype="float32"))
    got = MeshFile(path)[0]
    assert got["u"].dtype == np.float32
    assert got.mesh.points.dtype == np.float64
    assert np.allclose(got["u"], arrays_of(sample(0))["u"], rtol=1e-6)


def test_reading_is_lazy_and_safe_across_processes(path):
    source = MeshFile(path)
    copy = pickle.loads(pickle.dumps(source))
    assert copy._handle is None
    assert (copy[1]["u"] == source[1]["u"]).all()
    source.close()
    source.close()
    assert (copy[1]["u"] == source[1]["u"]).all()
    loader = torch.utils.data.DataLoader(
        MeshGraphs(source), batch_size=3, collate_fn=join, num_workers=1, multiprocessing_context="fork"
    )
    (graph,) = loader
    assert graph.samples == 3


def test_samples_without_good_status_are_left_out(path):
    with h5py.File(path, "r+") as file:
        status = ["ok", "ok", "failed: a", "failed: b", "failed: c"]
        file.create_dataset("provenance/status", data=status, dtype=h5py.string_dtype())
        file["provenance/sample_id"] = np.arange(10, 15)
        assert check_mesh(file) == [
            ("sample 3", "has the status 'failed: b' and yet cells: generate its shard again")
        ]
    assert MeshFile(path).ids.tolist() == [10, 11]


def _set(name, index, value):
    def damage(file):
        data = file[name]
        data[index] = value

    return damage


def _shorten(name):
    return lambda file: file[name].resize(len(file[name]) - 1, axis=0)


def _replace(name, values):
    def damage(file):
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = values
        file[name].attrs.update(attributes)

    return damage


def _flip(file):
    rows = file["mesh/cells/triangle"]
    rows[4] = rows[4][::-1]


FAULTS = [
    (_flip, "sample 0", "1 triangle cells run the wrong way round|1 of .* wrong way round"),
    (_set("mesh/cells/triangle", (0, 0), 10_000), "sample 0", "names the points .*10000"),
    (_set("mesh/cells/triangle", (0, 0), -1), "sample 0", "names the points .*-1"),
    (_set("mesh/cells/triangle", (0, slice(None)), 3), "sample 0", "flat or repeat a vertex"),
    (_set("mesh/points", (2, 0), np.nan), "sample 0", "1 of .* points are NaN or infinite"),
    (_set("mesh/point_offsets", 1, 1000), "offsets of mesh/points", "decrease after sample 1"),
    (_set("mesh/point_offsets", 1, 60), "sample 0", "names the points|belong to no cell"),
    (_set("mesh/cell_offsets", 5, 9), "offsets of mesh/cells", r"go from 0 to 9, needed is 0 to \d+"),
    (_set("mesh/tag_offsets/outer", 0, 2), "offsets of mesh/tags/outer", "go from 2"),
    (_set("mesh/tags/outer", (0, slice(None)), (0, 9)), "sample 0, tag outer", "1 of its parts are not"),
    (_set("mesh/tags/hot", 2, -1), "sample 1, tag hot", "1 of its parts are not in the mesh"),
    (_replace("mesh/tag_offsets/hot", np.zeros(3, "i8")), "offsets of mesh/tags/hot", r"shape \(3,\)"),
    (_set("point_fields/u", 3, np.inf), "sample 0, u", "1 values are NaN or infinite"),
    (_set("cell_fields/stress", (-1, 0, 1), np.nan), "sample 3, stress", "1 values are NaN"),
    (_shorten("point_fields/force"), "point_fields/force", r"has the shape .*, the points need"),
    (_shorten("cell_fields/k"), "cell_fields/k", r"has the shape .*, the cells need"),
    (_replace("mesh/tags/outer", np.zeros((50, 3), "i8")), "mesh/tags/outer", r"rows have the shape \(3,\)"),
    (lambda f: f["cell_fields/k"].attrs.update(location="point"), "cell_fields/k", "must be 'cell'"),
    (lambda f: f.pop("mesh/points"), "/", "a part of mesh data is missing or malformed"),
    (lambda f: f.attrs.update(kind="grid"), "/", "'kind' is 'grid', mesh data have 'mesh'"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "where", "what"), FAULTS)
def test_every_fault_is_named(path, damage, where, what):
    with h5py.File(path, "r+") as file:
        assert check_mesh(file) == []
        damage(file)
        found = check_mesh(file)
    assert where in [place for place, _ in found], found
    assert any(place == where and re.search(what, text) for place, text in found), found


def test_samples_that_own_too_little(path):
    with h5py.File(path, "r+") as file:
        for name in ("mesh/cell_offsets", "mesh/tag_offsets/outer"):
            file[name][1] = 0
        found = dict(check_mesh(file))
        assert found["sample 0"] == "has points or tags and no cells"
        file.create_dataset("provenance/status", data=["ok"] * 5, dtype=h5py.string_dtype())
        texts = [text for where, text in check_mesh(file) if where == "sample 0"]
        assert "has the status 'ok' and no cells: generate its shard again" in texts
        del file["provenance/status"]
        file.create_dataset("provenance/status", data=["ok"], dtype=h5py.string_dtype())
        assert ("provenance/status", "has 1 entries, there are 5 samples") in check_mesh(file)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: a.pop("u"), KeyError, r"missing or unknown: \['u'\]"),
        (lambda a: a.update(v=1), KeyError, r"missing or unknown: \['v'\]"),
        (lambda a: a.update(u=np.zeros(3)), ValueError, r"u has the shape \(3,\), needed is \(\d+,\)"),
        (lambda a: a.update(k=np.zeros((4, 2))), ValueError, r"k has the shape \(4, 2\)"),
        (lambda a: a.update(points=np.zeros((4, 3))), ValueError, r"points has the shape \(4, 3\)"),
        (lambda a: a.update({"tag:outer": np.zeros((4, 3))}), ValueError, r"tag:outer has the shape"),
    ],
)
def test_what_cannot_be_put(change, error, message):
    arrays = arrays_of(sample(0))
    change(arrays)
    with h5py.File("x.hdf5", "w", driver="core", backing_store=False) as file:
        MeshStorage(LAYOUT).allocate(file, 2)
        with pytest.raises(error, match=message):
            MeshStorage(LAYOUT).put(file, 0, arrays)
        assert len(file["mesh/points"]) == 0  # nothing is left half written


def test_order_of_samples():
    storage = MeshStorage(replace(LAYOUT, dtype="float32"))
    with h5py.File("x.hdf5", "w", driver="core", backing_store=False) as file:
        storage.allocate(file, 3)
        storage.put(file, 1, arrays_of(sample(1)))
        for i in (0, 1):
            with pytest.raises(ValueError, match=f"sample {i} comes too late"):
                storage.put(file, i, arrays_of(sample(0)))
        with pytest.raises(IndexError, match="room for samples 0 to 2, sample 3 was given"):
            storage.put(file, 3, arrays_of(sample(0)))
        large = arrays_of(sample(2))
        with pytest.raises(OverflowError, match="u exceeds the range of float32"):
            storage.put(file, 2, {**large, "u": large["u"] * 1e300})
    with (
        h5py.File("y.hdf5", "w", driver="core", backing_store=False) as file,
        pytest.raises(ValueError, match="at least one sample, got 0"),
    ):
        storage.allocate(file, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MeshLayout("x"), "at least one field"),
        (lambda: MeshLayout("x", (Variable("u"), Variable("u"))), "different names"),
        (lambda: MeshLayout("x", (Variable("u"),), dim=1), "dimension 2 or 3, got 1"),
        (lambda: MeshLayout("x", (Variable("u"),), dtype="float16"), "float32 or float64, got 'float16'"),
        (lambda: MeshLayout("x", (Variable("u", time_varying=True),)), "per sample and not in time"),
        (lambda: MeshLayout("x", (Variable("u", role=Role.STATE),)), "inputs or outputs"),
        (lambda: MeshLayout("x", (Variable("u"),), tags={"a/b": 1}), "tag 'a/b' of dimension 1"),
        (lambda: MeshStorage(LAYOUT, compression="lzf"), "None or 'gzip', got 'lzf'"),
    ],
)
def test_bad_layouts(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(KeyError, match="no field 'w': the fields are u, force, k, stress"):
        LAYOUT["w"]


def test_files_that_cannot_be_read(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        MeshFile(tmp_path / "none.hdf5")
    with h5py.File(tmp_path / "grid.hdf5", "w") as file:
        file.attrs["kind"] = "grid"
    with pytest.raises(NoMeshData, match="holds no samples on meshes"):
        MeshFile(tmp_path / "grid.hdf5")
    with pytest.raises(IndexError, match="holds samples 0 to 2, asked for is 3"):
        MeshFile(path)[3]
    with pytest.raises(KeyError, match="no field 'w'"):
        MeshFile(path)[0]["w"]
    with h5py.File(path, "r+") as file:
        del file["mesh/tag_offsets/hot"]
    with pytest.raises(NoMeshData, match="is damaged, `solvus check` says where"):
        MeshFile(path)


def test_export_of_a_sample(path, tmp_path):
    one = MeshFile(path)[0]
    mesh = replace(one, cell_fields={"k": one["k"]}).to_mesh()
    write_mesh(tmp_path / "one.vtu", mesh)
    again = read_mesh(tmp_path / "one.vtu")
    assert again.point_data["force"].shape == (mesh.n_points, 3)
    assert (again.point_data["force"][:, :2] == one["force"]).all()
    assert sorted(again.tags) == ["hot", "left", "outer"]


def test_graphs(path):
    source = MeshFile(path)
    data = MeshGraphs(source, torch.float64)
    assert data.point_inputs == ("force x", "force y", "tag hot", "tag left", "tag outer")
    assert data.cell_inputs == ("k",)
    assert data.point_outputs == ("u",)
    assert data.cell_outputs == ("stress x x", "stress x y", "stress y x", "stress y y")
    one, mesh = data[0], source[0].mesh
    assert (one.points.numpy() == mesh.points).all()
    assert one.edges.shape == (2, 2 * mesh.n_entities(1))
    pairs = set(map(tuple, one.edges.T.tolist()))
    a, b, c = mesh.simplices[7].tolist()
    assert {(a, b), (b, a), (c, a)} <= pairs
    assert (one.point_outputs[:, 0].numpy() == source[0]["u"]).all()
    outer = one.point_inputs[:, data.point_inputs.index("tag outer")]
    assert torch.nonzero(outer).ravel().tolist() == mesh.tagged_points("outer").tolist()
    assert one.cell_outputs[3].tolist() == source[0]["stress"][3].ravel().tolist()
    both = join([join([data[0], data[1]]), data[2]])
    assert both.samples == 3
    assert torch.bincount(both.batch).tolist() == [source[i].mesh.n_points for i in range(3)]
    assert (both.batch[both.edges[0]] == both.batch[both.edges[1]]).all()
    corners = both.points[both.cells]
    sides = corners[:, 1:] - corners[:, :1]
    assert torch.linalg.det(sides).min() > 0
    assert both.to("cpu").samples == 3


def resolve(item, folder):
    """What an XDMF data item stands for, after the rules of xdmf.org, with plain h5py."""
    if item.get("ItemType") == "HyperSlab":
        selection, whole = list(item)
        start, stride, count = np.array(selection.text.split(), dtype=int).reshape(3, -1)
        parts = tuple(slice(a, a + s * n, s) for a, s, n in zip(start, stride, count, strict=True))
        out = resolve(whole, folder)[parts]
    else:
        name, inside = item.text.split(":")
        with h5py.File(folder / name) as file:
            out = file[inside][()]
        kind = {"Float": "f", "Int": "i"}[item.get("NumberType")]
        assert out.dtype == np.dtype(f"{kind}{item.get('Precision')}")
    assert out.shape == tuple(int(n) for n in item.get("Dimensions").split())
    return out


def test_xdmf_of_several_samples(path):
    grids = ElementTree.parse(write_xdmf(path)).getroot().findall("Domain/Grid/Grid")
    source = MeshFile(path)
    assert [grid.get("Name") for grid in grids] == ["sample 0", "sample 1", "sample 3"]
    assert [grid.find("Time").get("Value") for grid in grids] == ["0", "1", "2"]
    for grid, one in zip(grids, source, strict=True):
        folder = path.parent
        assert (resolve(grid.find("Geometry")[0], folder) == one.mesh.points).all()
        assert (resolve(grid.find("Topology")[0], folder) == one.mesh.simplices).all()
        fields = {a.get("Name"): (a.get("Center"), resolve(a[0], folder)) for a in grid.findall("Attribute")}
        assert {name: center for name, (center, _) in fields.items()} == {
            "u": "Node", "force": "Node", "k": "Cell",
        }  # fmt: skip
        assert all((values == one[name]).all() for name, (_, values) in fields.items())


def test_meshio_reads_the_xdmf_of_one_sample(tmp_path):
    path = write(tmp_path / "one.hdf5", places=(0,), samples=1)
    theirs, ours = meshio.read(write_xdmf(path)), MeshFile(path)[0]
    assert (theirs.points == ours.mesh.points).all()
    assert (theirs.cells_dict["triangle"] == ours.mesh.simplices).all()
    assert (theirs.point_data["force"] == ours["force"]).all()
    assert (theirs.cell_data["k"][0] == ours["k"]).all()


def test_xdmf_of_chosen_samples(path):
    target = write_xdmf(path, [2], target=path.with_name("third.xdmf"))
    (grid,) = ElementTree.parse(target).getroot().findall("Domain/Grid")
    assert (resolve(grid.find("Geometry")[0], path.parent) == MeshFile(path)[2].mesh.points).all()
    with pytest.raises(ValueError, match="must lie in the folder of data"):
        write_xdmf(path, target=path.parent.parent / "x.xdmf")
    with pytest.raises(IndexError, match="asked for is 7"):
        write_xdmf(path, [7])


def folder_of(tmp_path, kind="mesh"):
    """A folder of two shards, the last sample of the first one failed."""
    config = {"format": "solvus dataset", "format_version": 1, "name": "test", "kind": kind, "config": {}}
    config |= {
        "config_sha256": "0",
        "seed": 0,
        "n": 5,
        "shard": 3,
        "splits": {"train": [0, 3], "valid": [3, 5]},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(config))
    lines = []
    for name, split, ids, places in (("a", "train", [0, 1, 2], (0, 1)), ("b", "valid", [3, 4], (0, 1))):
        file = write(tmp_path / f"{name}.hdf5", places=places, samples=len(ids))
        status = ["ok" if place in places else "failed: no" for place in range(len(ids))]
        with h5py.File(file, "r+") as handle:
            handle.create_dataset("provenance/status", data=status, dtype=h5py.string_dtype())
            handle["provenance/sample_id"] = ids
        zeros = [0] * len(ids)
        line = {
            "shard": file.name,
            "split": split,
            "ids": ids,
            "status": status,
            "residual": zeros,
            "steps": zeros,
        }
        lines.append(line | {"sha256": "", "bytes": 1, "wall_s": 0, "config_sha256": "0", "software": {}})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_folders(tmp_path):
    folder = folder_of(tmp_path)
    with MeshFolder(folder) as source:
        assert source.ids.tolist() == [one.id for one in source] == [0, 1, 3, 4]
        assert len(pickle.loads(pickle.dumps(source))) == 4
        assert source[-1].id == 4
        assert join([MeshGraphs(source)[i] for i in (0, 3)]).samples == 2
        with pytest.raises(IndexError, match="samples 0 to 3, asked for is 4"):
            source[4]
    assert [one.id for one in MeshFolder(folder, "valid")] == [3, 4]
    assert len(MeshFolder(folder, "train")) == 2
    with pytest.raises(NoMeshData, match="no samples in the split 'test'"):
        MeshFolder(folder, "test")
    with pytest.raises(NoMeshData, match="holds data on a grid"):
        MeshFolder(folder_of(tmp_path, "grid"))


def test_few_files_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr("solvus.datasets.unstructured.mesh_data._OPEN_FILES", 1)
    source = MeshFolder(folder_of(tmp_path))
    assert [source[i].id for i in (0, 2, 1, 3)] == [0, 3, 1, 4]
    assert len(source._files) == 1
    source.close()


def test_disc_without_tags_is_refused_where_tags_are_needed():
    with pytest.raises(KeyError, match="tag:outer"):
        mesh_from_arrays(mesh_arrays(disc(2)), {"outer": 1})
