"""Files of every kind and folders that are broken in one way each: the check says where and what."""

import json
import shutil

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from solvus.datasets import write_systems
from solvus.datasets.checking.check import check, examine
from solvus.datasets.formats.well import WellFile, write_well
from solvus.datasets.generation.generate import Options, generate
from solvus.datasets.generation.manifest import NoDataset
from solvus.datasets.recipes.shapes import darcy_shapes
from solvus.solvers import LinearSystem


def test_sound_files_have_no_faults(layouts, source_of, tmp_path):
    for kind, layout in layouts.items():
        for pair in (True, False):
            path = write_well(source_of(layout), tmp_path / f"{kind}.h5", steady_as_pair=pair, overwrite=True)
            assert check(path) == ()
    assert examine(path).samples == 3
    assert examine(path).bytes == path.stat().st_size


def test_linear_systems(tmp_path):
    A = sp.csr_array(sp.eye_array(4))
    path = tmp_path / "systems.h5"
    write_systems(path, {"a": LinearSystem(A, torch.ones(4, dtype=torch.float64))})
    assert check(path) == ()
    assert examine(path).samples == 1
    with h5py.File(path, "r+") as file:
        file["systems/a/b"][2] = np.nan
    (fault,) = check(path)
    assert fault.where == "systems.h5: systems/a"
    with h5py.File(path, "r+") as file:
        del file["systems/a/b"]
    assert "no b; the file was not written completely" in check(path)[0].what


def test_files_of_other_programs(tmp_path):
    x, y = np.random.default_rng(0).random((2, 6, 8, 8))
    np.savez(tmp_path / "a.npz", x=x, y=y)
    assert check(tmp_path / "a.npz") == ()
    y[4, 1, 1] = np.nan
    np.savez(tmp_path / "a.npz", x=x, y=y)
    (fault,) = check(tmp_path / "a.npz")
    assert fault.what == "1 sample (4): NaN or infinite values"
    with h5py.File(tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5", "w") as file:
        file["tensor"] = x[:, :, :].astype("f4")
        file["x-coordinate"], file["t-coordinate"] = np.linspace(0, 1, 8), np.arange(9.0)
        file.attrs["Nu"] = 0.01
    (note,) = check(tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5")
    assert note.note
    assert "the t-coordinate has 9 entries, the data 8 times" in note.what


def test_mesh_data(tmp_path):
    pytest.importorskip("skfem")
    generate(darcy_shapes(6), 3, tmp_path / "shapes", workers=1)
    found = examine(tmp_path / "shapes")
    assert [fault for fault in found.faults if not fault.note] == []
    assert found.samples == 3
    (path, *_) = sorted((tmp_path / "shapes/data/train").iterdir())
    with h5py.File(path, "r+") as file:
        file["mesh/points"][0] = np.nan
    places = {fault.where.split(":")[0] for fault in check(tmp_path / "shapes")}
    assert places == {f"data/train/{path.name}"}


def test_what_cannot_be_looked_at(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder at"):
        check(tmp_path / "none.h5")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"a.txt: data are read from"):
        check(tmp_path / "a.txt")
    with pytest.raises(NoDataset, match=r"holds no data: there is no dataset.json"):
        check(tmp_path)


# --- folders ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("folders")


@pytest.fixture
def folder(made, layouts, noise, tmp_path):
    """A copy of a complete dataset in which some samples failed."""
    if not (made / "line").exists():
        generate(
            noise(layouts["line"], 0.1),
            20,
            made / "line",
            workers=1,
            options=Options(shard=4, max_failed=0.5),
        )
    return shutil.copytree(made / "line", tmp_path / "line")


def lines(folder, change):
    path = folder / "manifest.jsonl"
    values = [json.loads(line) for line in path.read_text().splitlines()]
    change(values)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def settings(folder, **changes):
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def faults_of(folder, deep=True):
    return [fault for fault in check(folder, deep) if not fault.note]


TRAIN = "data/train/line-train-00001.hdf5"


def swap(folder):
    """Two files under each other's names."""
    other = folder / "data/train/line-train-00002.hdf5"
    (folder / TRAIN).rename(folder / "x")
    other.rename(folder / TRAIN)
    (folder / "x").rename(other)


def cut(folder):
    (folder / TRAIN).write_bytes((folder / TRAIN).read_bytes()[:-9])


def flip(folder):
    content = bytearray((folder / TRAIN).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / TRAIN).write_bytes(content)


def other_grid(folder):
    with h5py.File(folder / TRAIN, "r+") as file:
        for group in ("dimensions", "coordinates"):
            file[group]["x"][...] = file[group]["x"][()] + 0.5


FOLDERS = {
    "a file is gone": (lambda f: (f / TRAIN).unlink(), TRAIN, "the file is missing: repeat"),
    "a file is cut": (cut, TRAIN, "bytes, the manifest says"),
    "a byte changed": (flip, TRAIN, "its SHA-256 is not that of the manifest"),
    "files swapped": (swap, TRAIN, "its samples are not those that the manifest lists"),
    "another grid": (other_grid, TRAIN, "differs from data/train/line-train-00000.hdf5 in its coordinates"),
    "a line is gone": (
        lambda f: lines(f, lambda v: v.pop(1)), "manifest.jsonl", "4 of 20 samples are missing (4,",
    ),
    "a file is not listed": (lambda f: lines(f, lambda v: v.pop(1)), TRAIN, "is not in manifest.jsonl"),
    "ids twice": (
        lambda f: lines(f, lambda v: v[1].update(ids=[3, 5, 6, 7])), TRAIN, "the samples 3, which",
    ),
    "ids of another split": (
        lambda f: lines(f, lambda v: v[1].update(ids=[4, 5, 6, 19])), TRAIN, "not in split train",
    ),
    "another status": (
        lambda f: lines(f, lambda v: v[1].update(status=["failed: x"] * 4)), TRAIN, "the status of",
    ),
    "other settings": (
        lambda f: lines(f, lambda v: v[1].update(config_sha256="0")), TRAIN, "made with other settings",
    ),
    "an edited seed": (lambda f: settings(f, seed=5), "dataset.json", "it was edited"),
    "splits that overlap": (
        lambda f: settings(f, splits={"train": [0, 17], "valid": [16, 18], "test": [18, 20]}),
        "dataset.json: splits", "belongs to two splits: test data leak into training",
    ),
    "splits with a gap": (
        lambda f: settings(f, splits={"train": [0, 15], "valid": [16, 18], "test": [18, 20]}),
        "dataset.json: splits", "do not make up the ids 0 to 19",
    ),
    "no statistics": (lambda f: (f / "stats.yaml").unlink(), "stats.yaml", "remove README.md"),
    "other statistics": (
        lambda f: (f / "stats.yaml").write_text((f / "stats.yaml").read_text().replace("0.", "1.")),
        "stats.yaml", "is not what the train split gives",
    ),
    "no description": (lambda f: (f / "line.yaml").unlink(), "line.yaml", "is missing"),
    "a damaged manifest": (
        lambda f: (f / "manifest.jsonl").write_text("{}\n"), "line", "line 1 of",
    ),
}  # fmt: skip


def test_a_sound_folder(folder):
    found = examine(folder)
    assert [f for f in found.faults if not f.note] == []
    (note,) = found.faults
    assert "samples failed" in note.what
    assert (found.files, found.samples) == (6, 20)
    assert check(folder, deep=False) == found.faults


@pytest.mark.parametrize("name", FOLDERS)
def test_a_broken_folder(folder, name):
    change, where, what = FOLDERS[name]
    change(folder)
    found = faults_of(folder)
    assert [f for f in found if f.where == where and what in f.what], found


def test_leftovers_are_noted(folder):
    (folder / "data/train/line-train-00001.hdf5.host.1-0123abcd.tmp").write_text("x")
    assert faults_of(folder) == []
    assert any("an unfinished file" in fault.what for fault in check(folder))


def test_faults_in_a_file_carry_its_place(folder):
    with h5py.File(folder / TRAIN, "r+") as file:
        file["t0_fields/u"][1, 0, 0] = np.inf
        status = file["provenance/status"].asstr()[1]
    assert status == "ok"
    assert [fault for fault in faults_of(folder) if fault.where == f"{TRAIN}: t0_fields/u"]


def test_files_without_books_are_looked_at_one_by_one(layouts, source_of, tmp_path):
    for k in range(2):
        write_well(source_of(layouts["line"], seed=k), tmp_path / f"{k}.h5")
    found = examine(tmp_path)
    assert (found.files, found.samples) == (2, 6)
    assert [fault.note for fault in found.faults] == [True]
    with h5py.File(tmp_path / "1.h5", "r+") as file:
        del file["t2_fields"]
    assert [fault.where for fault in faults_of(tmp_path)] == ["1.h5: t2_fields"]


def test_the_copy_of_a_shard_is_a_sound_file(folder, tmp_path):
    with WellFile(folder / TRAIN) as shard:
        assert "config_json" in shard.extras()
        path = write_well(shard, tmp_path / "copy.h5")
    assert check(path) == ()
