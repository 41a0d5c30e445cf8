"""The command `check`: its table, its last line, its exit code."""

import re

import h5py
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from solvus.commands.check import check
from solvus.datasets.formats.arrays import ArraySource
from solvus.datasets.formats.well import write_well
from solvus.datasets.layout import Layout, Variable

app = typer.Typer()
app.command()(check)


@pytest.fixture
def path(tmp_path):
    layout = Layout("a", ("x",), (np.linspace(0, 1, 5),), np.arange(3.0), (Variable("u", time_varying=True),))
    return write_well(ArraySource(layout, {"u": np.ones((4, 3, 5))}), tmp_path / "a.hdf5")


def run(*words):
    return CliRunner().invoke(app, [*map(str, words)], env={"COLUMNS": "200"})


def test_a_sound_file(path):
    shown = run(path)
    assert shown.exit_code == 0
    assert re.search(r"no faults in 1 file, 4 samples, [\d.]+ MB, [\d.]+ s", shown.stdout)


def test_faults_are_listed_and_counted(path):
    with h5py.File(path, "r+") as file:
        del file["t2_fields"]
        file["t0_fields/u"][2, 1, 1] = np.nan
    shown = run(path)
    assert shown.exit_code == 1
    assert "a.hdf5: t2_fields" in shown.stdout
    assert "The Well needs it" in shown.stdout
    assert "1 sample (2): NaN" in shown.stdout
    assert "2 faults in 1 file" in shown.stdout
    shallow = run(path, "--shallow")
    assert "1 fault in 1 file" in shallow.stdout
    assert "structure only" in shallow.stdout


def test_notes_are_no_faults(path):
    with h5py.File(path, "r+") as file:
        for name in ("coordinates", "provenance"):
            del file[name]
        del file.attrs["format"]
    shown = run(path)
    assert shown.exit_code == 0
    assert "note" in shown.stdout
    assert "no faults" in shown.stdout


def test_what_cannot_be_looked_at(tmp_path):
    shown = run(tmp_path / "none.h5")
    assert shown.exit_code == 2
    assert "there is no file or folder at" in " ".join(shown.stderr.split())
    assert run(tmp_path).exit_code == 2
    (tmp_path / "a.txt").write_text("hello")
    assert run(tmp_path / "a.txt").exit_code == 2
