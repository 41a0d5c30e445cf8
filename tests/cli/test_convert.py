import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from solvus.commands.convert import convert
from solvus.datasets.formats.arrays import from_arrays
from solvus.datasets.formats.open import open_source
from solvus.datasets.formats.tensors import write_npz

APP = typer.Typer()
APP.command()(convert)


def run(*words):
    return CliRunner().invoke(APP, [str(word) for word in words])


@pytest.fixture
def waves(tmp_path):
    u = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    source = from_arrays({"u": u}, axes=("sample", "time", "x"), boundary=[("periodic", "periodic")])
    return write_npz(source, tmp_path / "waves.npz")


def test_convert_writes_and_notes(waves, tmp_path):
    shown = run(waves, tmp_path / "a.hdf5", "--to", "pdebench-a")
    assert shown.exit_code == 0, shown.output
    assert f"3 samples written to {tmp_path / 'a.hdf5'}, pdebench-a" in shown.stdout
    assert "note boundary conditions are not recorded: x periodic/periodic" in shown.stdout
    with open_source(tmp_path / "a.hdf5") as source:
        assert source.samples == 3


def test_convert_refuses_with_one_message(waves, tmp_path):
    assert "say which" in run(waves, tmp_path / "a.hdf5").stderr
    shown = run(waves, tmp_path / "a.pt")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "has no inputs" in shown.stderr
    (tmp_path / "a.hdf5").write_text("mine")
    shown = run(waves, tmp_path / "a.hdf5", "--to", "well")
    assert shown.exit_code == 2
    assert "exists: choose another name" in shown.stderr
    assert run(waves, tmp_path / "a.hdf5", "--to", "well", "--overwrite").exit_code == 0
    assert run(waves, tmp_path / "b.npz", "--split", "pdebench-mult-train").exit_code == 0
    assert "no split 'train'" in run(waves, tmp_path / "c.npz", "--split", "train").stderr


def test_axes_and_warnings(tmp_path):
    u = np.ones((3, 4, 5), dtype=np.float32)
    u[1] = 0
    np.savez(tmp_path / "a.npz", x=u, y=u)
    shown = run(tmp_path / "a.npz", tmp_path / "b.npz", "--axes", "sample, time, x")
    assert shown.exit_code == 0, shown.output
    with open_source(tmp_path / "b.npz") as source:
        assert source.layout.dims("output") == ("time", "x")
    write = run(tmp_path / "b.npz", tmp_path / "c.hdf5", "--to", "pdebench-a")
    assert write.exit_code == 2
    states = write_npz(from_arrays({"u": u}, axes=("sample", "time", "x")), tmp_path / "d.npz")
    assert run(states, tmp_path / "d.hdf5", "--to", "pdebench-a").exit_code == 0
    shown = run(tmp_path / "d.hdf5", tmp_path / "e.npz")
    assert shown.exit_code == 0
    assert (
        "warning d.hdf5: samples that are all zero or not finite, so probably missing (1): 1" in shown.stderr
    )
