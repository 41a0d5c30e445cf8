import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch
import typer
from typer.testing import CliRunner

from solvus.commands.show import show
from solvus.datasets.formats.arrays import from_arrays
from solvus.datasets.formats.pdebench_write import write_pdebench
from solvus.datasets.formats.well import write_well
from solvus.datasets.generation.generate import Options, generate
from solvus.datasets.layout import Variable
from solvus.datasets.recipes.elliptic import darcy
from solvus.datasets.systems import write_systems
from solvus.datasets.unstructured.mesh_storage import MeshLayout, MeshStorage, mesh_arrays
from solvus.meshes import box
from solvus.solvers import LinearSystem

APP = typer.Typer()
APP.command()(show)
PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def run(*words):
    return CliRunner().invoke(APP, [str(word) for word in words])


def rows(text):
    return {line.split("   ")[0].strip(): " ".join(line.split()) for line in text.splitlines()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("generated") / "darcy"
    generate(darcy(8), 4, path, seed=7, workers=1, splits=(0.5, 0.25, 0.25), options=Options(shard=2))
    return path


def test_a_folder(folder):
    shown = run(folder)
    assert shown.exit_code == 0, shown.output
    said = rows(shown.stdout)
    assert said["kind"] == "kind folder of grid data"
    assert said["seed"] == "seed 7"
    assert said["equation"] == "equation Darcy"
    assert said["splits"] == "splits train 2, valid 1, test 1"
    assert said["samples made"] == "samples made 4 of 4"
    assert said["axis x"] == "axis x 8 points, 0.0625 to 0.9375"
    assert said["boundary"] == "boundary x dirichlet/dirichlet, y dirichlet/dirichlet"
    assert "largest residual" in said
    assert said["coefficient"].startswith("coefficient input scalar sample 4, x 8, y 8 3 to 12")
    assert (folder / "preview.png").read_bytes()[:4] == PNG
    assert str(folder / "preview.png") in shown.stdout


def test_files_and_named_pictures(tmp_path):
    u = np.random.default_rng(0).standard_normal((4, 6, 8)).astype(np.float32)
    u[3] = np.nan
    waves = from_arrays({"u": u}, axes=("sample", "time", "x"), name="waves", parameters={"c": 0.5})
    shown = run(write_well(waves, tmp_path / "w.hdf5"))
    assert shown.exit_code == 0, shown.output
    assert rows(shown.stdout)["parameters"] == "parameters c = 0.5"
    assert "48 not finite" in shown.stdout
    assert "chunks 1 × 1 × 8" in shown.stdout
    assert (tmp_path / "w.png").read_bytes()[:4] == PNG
    shown = run(
        write_pdebench(waves, tmp_path / "a.hdf5"), "--out", "b.png", "--sample", "3", "--sample", "1"
    )
    assert shown.exit_code == 0, shown.output
    assert "PDEBench, layout A" in shown.stdout
    assert "probably missing (1): 3" in shown.stderr
    assert (tmp_path / "b.png").read_bytes()[:4] == PNG
    shown = run(tmp_path / "a.hdf5", "--sample", "9")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "there is no sample 9: waves has 0 to 3" in shown.stderr


def test_mesh_data(tmp_path):
    mesh = box((3, 3))
    layout = MeshLayout(
        "plate", (Variable("u", rank=1),), (Variable("k"),), {n: d for n, (d, _) in mesh.tags.items()}
    )
    storage, path = MeshStorage(layout), tmp_path / "plate.hdf5"
    with h5py.File(path, "w") as file:
        storage.allocate(file, 1)
        storage.put(file, 0, {**mesh_arrays(mesh), "u": mesh.points, "k": np.arange(18.0)})
    shown = run(path)
    assert shown.exit_code == 0, shown.output
    said = rows(shown.stdout)
    assert said["meshes"] == "meshes 16 points, 18 triangle cells"
    assert "xmin (dimension 1)" in said["tags"]
    assert said["k"].startswith("k output scalar on cells 0 to 17")
    assert (tmp_path / "plate.png").read_bytes()[:4] == PNG


def test_systems(tmp_path):
    system = LinearSystem(sp.eye_array(3).tocsr(), torch.ones(3, dtype=torch.float64))
    shown = run(write_systems(tmp_path / "s.h5", {"one": system}))
    assert shown.exit_code == 0
    assert "one" in shown.stdout
    assert "3 × 3" in shown.stdout
    assert not (tmp_path / "s.png").exists()


def test_nothing_to_show(tmp_path):
    assert "no file or folder at" in run(tmp_path / "none").stderr
    (tmp_path / "a.txt").write_text("x")
    shown = run(tmp_path / "a.txt")
    assert shown.exit_code == 2
    assert "pass them to from_arrays" in shown.stderr
