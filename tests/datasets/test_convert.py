"""Whatever is opened can be written elsewhere, nothing is lost without a word."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from solvus.datasets.formats.arrays import ArraySource, AxisMismatch, from_arrays
from solvus.datasets.formats.convert import FailedSamples, Target, convert, target_of
from solvus.datasets.formats.foreign import DoesNotFit
from solvus.datasets.formats.open import Kind, NoGridData, Part, UnknownKind, kind_of, open_source
from solvus.datasets.formats.pdebench_write import write_pdebench
from solvus.datasets.formats.tensors import write_npz, write_pt
from solvus.datasets.formats.well import WellFile, write_well
from solvus.datasets.generation.generate import Options, generate
from solvus.datasets.loading.folder import FolderSource
from solvus.datasets.recipes.elliptic import darcy
from solvus.datasets.systems import write_systems
from solvus.solvers import LinearSystem

RNG = np.random.default_rng(0)
ROOT = Path(__file__).resolve().parents[2]


def f4(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def states(n=12):
    return from_arrays({"u": f4(n, 3, 8)}, axes=("sample", "time", "x"), name="waves", parameters={"c": 0.5})


def pairs(n=12):
    return from_arrays({"a": f4(n, 4, 6)}, {"u": f4(n, 4, 6)}, axes=("sample", "x", "y"), name="pairs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A generated dataset."""
    path = tmp_path_factory.mktemp("generated") / "darcy"
    generate(darcy(8), 10, path, seed=1, workers=1, options=Options(shard=3))
    return path


def values(source):
    return source.read(0, source.samples)


def same_values(one, other):
    a, b = values(one), values(other)
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


# --- what is it ---------------------------------------------------------------------------------------------


def test_kinds(tmp_path, folder):
    made = {
        folder: Kind.FOLDER,
        write_well(states(), tmp_path / "w.hdf5"): Kind.WELL,
        write_pdebench(states(), tmp_path / "a.hdf5"): Kind.PDEBENCH_A,
        write_pdebench(states(), tmp_path / "b.h5", "B"): Kind.PDEBENCH_B,
        write_npz(states(), tmp_path / "n.npz"): Kind.NPZ,
        write_pt(pairs(), tmp_path / "p.pt"): Kind.PT,
    }
    for path, kind in made.items():
        assert kind_of(path) is kind
        with open_source(path) as source:
            assert source.samples in (10, 12)
    odd = (tmp_path / "a.hdf5").rename(tmp_path / "a.data")  # the content counts
    assert kind_of(odd) is Kind.PDEBENCH_A


def test_what_is_no_grid_data_is_named(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="no file or folder at"):
        kind_of(tmp_path / "nothing")
    with pytest.raises(
        UnknownKind, match=r"is a folder without dataset.json.*there is no HDF5 file in it either"
    ):
        kind_of(tmp_path)
    with pytest.raises(UnknownKind, match=r"name one of its files, for example .*darcy-test-00000.hdf5"):
        kind_of(folder / "data")
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(UnknownKind, match=r"a\.csv: data are read from folders .* pass them to from_arrays"):
        open_source(tmp_path / "a.csv")
    (tmp_path / "a.h5").write_text("1,2")
    with pytest.raises(UnknownKind, match="is no HDF5 file, or is damaged"):
        open_source(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["apples"] = 1
    with pytest.raises(UnknownKind, match="it holds apples"):
        open_source(tmp_path / "a.h5")
    write_systems(
        tmp_path / "s.h5", {"one": LinearSystem(sp.eye_array(2).tocsr(), torch.ones(2, dtype=torch.float64))}
    )
    with pytest.raises(NoGridData, match="holds linear systems: read them with read_system"):
        open_source(tmp_path / "s.h5")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["kind"] = "mesh"
    with pytest.raises(NoGridData, match="on meshes: read them with MeshFile"):
        open_source(tmp_path / "m.h5")


def test_splits(tmp_path, folder):
    given = states(20)
    path = write_npz(given, tmp_path / "a.npz")
    for split, expected in {
        "pdebench-single-test": slice(0, 2),
        "pdebench-single-train": slice(2, 20),
        "pdebench-mult-train": slice(0, 18),
        "pdebench-mult-test": slice(18, 20),
    }.items():
        with open_source(path, split=split) as part:
            np.testing.assert_array_equal(values(part)["u"], values(given)["u"][expected])
            assert len(part.read(part.samples - 1, part.samples + 5)["u"]) == 1
    with pytest.raises(
        ValueError, match="a file has no split 'train': it is read whole, or by pdebench-single-train"
    ):
        open_source(path, split="train")
    with pytest.raises(ValueError, match=r"range\(0, 0\) is no part of the 5 samples"):
        open_source(write_npz(states(5), tmp_path / "b.npz"), split="pdebench-single-test")
    with pytest.raises(ValueError, match="one after another"):
        Part(given, range(0, 10, 2))
    with open_source(folder, split="valid") as valid:
        assert valid.samples == 1
    with pytest.raises(ValueError, match="names its axes itself"):
        open_source(folder, axes=("sample", "x", "y"))


# --- conversions --------------------------------------------------------------------------------------------

CASES = {
    "well": (states, "w.hdf5"),
    "npz": (states, "w.npz"),
    "pdebench-a": (states, "w.hdf5"),
    "pdebench-b": (states, "w.h5"),
    "pt": (pairs, "w.pt"),
}


@pytest.mark.parametrize("to", CASES)
def test_there_and_back_through_npz(tmp_path, to):
    make, name = CASES[to]
    given = make()
    start = write_npz(given, tmp_path / "start.npz")
    done = convert(start, tmp_path / name, to=to)
    assert (done.path, done.target, done.samples) == (tmp_path / name, Target(to), 12)
    back = convert(done.path, tmp_path / "back.npz")
    with open_source(back.path) as again:
        if to == "pt":  # its names are fixed
            a, b = list(values(given).values()), list(values(again).values())
            assert [x.tobytes() for x in a] == [x.tobytes() for x in b]
        else:
            same_values(given, again)
            assert dict(again.layout.parameters) == {"c": 0.5}
    assert (done.notes == ()) == (to != "pt")


def test_a_generated_folder(tmp_path, folder):
    done = convert(folder, tmp_path / "train.hdf5", to="pdebench-a", split="train")
    with FolderSource(folder, "train") as train, open_source(done.path) as written:
        assert done.samples == train.samples == 8
        same_values(train, written)
    notes = "; ".join(done.notes)
    assert "recipe and seed are not recorded" in notes
    assert "boundary conditions are not recorded: x dirichlet/dirichlet, y" in notes
    assert "joined" not in notes
    whole = convert(folder, tmp_path / "all.npz")
    assert whole.samples == 10
    assert "the splits train, valid, test are joined, in this order" in "; ".join(whole.notes)


def test_failed_samples_do_not_pass_for_data(tmp_path, folder):
    shard = next(folder.glob("data/train/*.hdf5"))
    copy = tmp_path / shard.name
    copy.write_bytes(shard.read_bytes())
    with h5py.File(copy, "a") as file:
        file["provenance/status"][1] = "failed: on purpose"
    with pytest.raises(
        FailedSamples, match=r"samples that failed and are NaN \(1 of 3\): convert the folder"
    ):
        convert(copy, tmp_path / "a.npz")
    with pytest.raises(FailedSamples), open_source(copy) as source:
        convert(Part(source, range(0, 1)), tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def test_failed_samples_of_a_folder_are_noted(tmp_path, folder):
    copy = shutil.copytree(folder, tmp_path / "copy")
    lines = (copy / "manifest.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first["status"][1] = "failed: on purpose"
    (copy / "manifest.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    done = convert(copy, tmp_path / "a.npz")
    assert done.samples == 9
    assert f"failed samples are left out (1): {first['ids'][1]}" in done.notes


def test_a_well_file_of_ours_keeps_its_recipe_in_the_well_only(tmp_path, folder):
    shard = next(folder.glob("data/train/*.hdf5"))
    assert convert(shard, tmp_path / "a.hdf5", to="well").notes == ()
    with WellFile(tmp_path / "a.hdf5") as written, WellFile(shard) as given:
        assert written.extras() == given.extras() != {}
    assert convert(shard, tmp_path / "a.npz").notes == (
        "recipe and seed are not recorded: keep them with the new file",
    )


def test_axes_can_be_named(tmp_path):
    torch.save({"x": torch.ones(2, 5, 3, 4, 4), "y": torch.ones(2, 5, 3, 4, 4)}, tmp_path / "a.pt")
    with pytest.raises(AxisMismatch, match="name them"):
        convert(tmp_path / "a.pt", tmp_path / "a.npz")
    convert(tmp_path / "a.pt", tmp_path / "a.npz", axes=("sample", "time", "channel", "x", "y"))
    with open_source(tmp_path / "a.npz") as source:
        assert source.layout.shape("output_2") == (5, 4, 4)


def test_refusals(tmp_path):
    given = states()
    with pytest.raises(DoesNotFit):
        convert(given, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="may become a file of The Well or of PDEBench: say which"):
        convert(given, tmp_path / "a.h5")
    with pytest.raises(ValueError, match=r"the suffix '\.csv' tells no format"):
        target_of(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="there is no format 'csv' to convert to: choose one of well"):
        convert(given, tmp_path / "a.csv", to="csv")
    with pytest.raises(ValueError, match="split and axes belong to paths"):
        convert(given, tmp_path / "a.npz", split="train")
    assert not list(tmp_path.iterdir())
    path = convert(given, tmp_path / "a.npz").path
    with pytest.raises(FileExistsError):
        convert(given, path)
    with pytest.raises(ValueError, match="would be written onto itself"):
        convert(path, path, overwrite=True)
    well = convert(given, tmp_path / "a.hdf5", to="well").path
    with pytest.raises(FileExistsError):
        convert(given, well, to="well")
    convert(given, well, to="well", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.hdf5", "a.npz"]


def test_a_field_that_would_get_lost_is_refused(tmp_path):
    """The specimen: a sample-varying input beside a state fits no layout of PDEBench."""
    source = from_arrays(
        {"force": f4(2, 8)},
        {"u": f4(2, 3, 8)},
        axes={"force": ("sample", "x"), "u": ("sample", "time", "x")},
    )
    for to in ("pdebench-a", "pdebench-b", "pdebench-c"):
        with pytest.raises(DoesNotFit):
            convert(source, tmp_path / "a.h5", to=to)
    shared = replace(
        source.layout, variables=(replace(source.layout["force"], sample_varying=False), source.layout["u"])
    )
    kept = ArraySource(shared, {"force": f4(8), "u": f4(2, 3, 8)})
    assert (
        "fields that all samples share have no place: force"
        in convert(kept, tmp_path / "a.h5", to="pdebench-a").notes
    )


def test_the_examples_of_the_guide_run():
    text = (ROOT / "docs" / "converting.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.S))
    assert code.count("assert") >= 10
    exec(compile(code, "docs/converting.md", "exec"), {})
    written = set(re.findall(r"^\|.*?\|.*?\| yes \| `([\w-]+)` \|", text, flags=re.M)) - {"generate"}
    assert written == {str(target) for target in Target}
