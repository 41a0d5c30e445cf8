"""A generated folder reads as one source: in order, without failed samples, from any process."""

import json
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor

import h5py
import numpy as np
import pytest

from solvus.datasets.formats.well_storage import GridStorage
from solvus.datasets.generation.manifest import ForeignFolder, NoDataset, Shard
from solvus.datasets.layout import Layout, Role, Variable
from solvus.datasets.loading.fields import Field, OpenFiles
from solvus.datasets.loading.folder import (
    EmptySplit,
    FolderSource,
    IncompleteFolder,
    UnknownSplit,
    statistics,
)

X, Y = np.linspace(0, 1, 5), np.linspace(0, 2, 6)
FLOW = Layout(
    "flow",
    ("x", "y"),
    (X, Y),
    np.arange(4) * 0.5,
    (
        Variable("w", role=Role.STATE, time_varying=True),
        Variable("velocity", 1, role=Role.STATE, time_varying=True),
        Variable("k", role=Role.INPUT),
        Variable("depth", role=Role.INPUT, sample_varying=False),
    ),
)
MAP = Layout(
    "map", ("x", "y"), (X, Y), np.zeros(1), (Variable("a", role=Role.INPUT), Variable("u", role=Role.OUTPUT))
)
SPLITS = {"train": [0, 7], "valid": [7, 8], "test": [8, 10]}


def sample(layout, i):
    """The arrays of a sample, float32 numbers that no two samples share."""
    rng = np.random.default_rng([7, i])
    fixed = np.random.default_rng(99)
    return {
        v.name: (rng if v.sample_varying else fixed).standard_normal(layout.shape(v.name)).astype(np.float32)
        for v in layout.variables
    }


def make_folder(folder, layout=FLOW, failed=(2, 7), missing=(), kind="grid", compression=None):
    """Write the folder of a dataset of ten samples, three to a file."""
    config = {"format": "solvus dataset", "format_version": 1, "name": layout.name, "kind": kind}
    config |= {"config": {}, "config_sha256": "0", "seed": 0, "n": 10, "splits": SPLITS, "shard": 3}
    (folder / "data").mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(config))
    lines = []
    for split, (start, stop) in SPLITS.items():
        (folder / "data" / split).mkdir()
        for number, first in enumerate(range(start, stop, 3)):
            ids = tuple(range(first, min(first + 3, stop)))
            name = f"data/{split}/{layout.name}-{split}-{number:05}.hdf5"
            if name in missing or split in missing:
                continue
            with h5py.File(folder / name, "w") as file:
                storage = GridStorage(layout, compression)
                storage.allocate(file, len(ids))
                for row, i in enumerate(ids):
                    if i not in failed:
                        storage.put(file, row, sample(layout, i))
            status = tuple("failed: too stiff" if i in failed else "ok" for i in ids)
            rows = (0.0,) * len(ids), (1,) * len(ids)
            lines.append(Shard(name, split, ids, status, *rows, "0", 1, 0.0, "0", {}).line())
    (folder / "manifest.jsonl").write_text("".join(reversed(lines)))
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "flow")


def expect(source, ids, layout=FLOW):
    """The source holds these samples, in this order, to the bit."""
    assert source.samples == len(ids)
    assert source.ids.tolist() == list(ids)
    values = source.read(0, source.samples)
    for v in layout.variables:
        for row, i in enumerate(ids):
            found = values[v.name][row] if v.sample_varying else values[v.name]
            np.testing.assert_array_equal(found, sample(layout, i)[v.name])
            assert found.dtype == np.float32


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("layout", [FLOW, MAP], ids=lambda layout: layout.name)
def test_reads_the_samples_of_a_split_in_order_without_failed_ones(tmp_path, layout, compression):
    folder = make_folder(tmp_path / "f", layout, compression=compression)
    with FolderSource(folder, "train") as train:
        expect(train, [0, 1, 3, 4, 5, 6], layout)
        expect(train, [0, 1, 3, 4, 5, 6], layout)  # a second time: other code reads what is verified
        assert train.failed == {2: "too stiff"}
        assert repr(train) == f"FolderSource({layout.name}, split train: 6 samples, 1 failed ones left out)"
        assert train.layout.resolution == (5, 6)
    with FolderSource(folder) as everything:
        expect(everything, [0, 1, 3, 4, 5, 6, 8, 9], layout)
        assert sorted(everything.failed) == [2, 7]


def test_a_shifted_sample_would_be_noticed(folder):
    with FolderSource(folder, "train") as train:
        train._row[:] = 0
        with pytest.raises(AssertionError):
            expect(train, [0, 1, 3, 4, 5, 6])


def test_reads_frames_of_single_samples(folder):
    with FolderSource(folder, "train") as train:
        for _ in range(3):
            for times in (slice(None), slice(1, 3), slice(0, 4, 2), slice(3, 4)):
                cut = train.frames(3, times, ("w", "velocity", "k", "depth"))
                whole = sample(FLOW, 4)
                for name in ("w", "velocity"):
                    np.testing.assert_array_equal(cut[name], whole[name][times])
                for name in ("k", "depth"):
                    np.testing.assert_array_equal(cut[name], whole[name])
                cut["w"][:] = 0  # the caller's own
        with pytest.raises(IndexError):
            train.frames(6, slice(None), ("w",))
        with pytest.raises(KeyError, match="there is no field 'p': the fields are w, velocity, k, depth"):
            train.frames(0, slice(None), ("p",))


def test_blocks_join_files(folder):
    with FolderSource(folder) as source:
        parts = [values["w"] for _, values in source.blocks(nbytes=3 * FLOW.bytes_per_sample())]
        assert [len(part) for part in parts] == [3, 3, 2]
        np.testing.assert_array_equal(np.concatenate(parts), source.read(0, 8)["w"])


def test_few_files_stay_open_and_nothing_is_open_at_first(folder):
    source = FolderSource(folder)
    assert len(source._files) == 0
    source._files.keep = 2
    source.read(0, 8)
    assert len(source._files) == 2
    source.close()
    source.close()
    assert len(source._files) == 0
    expect(source, [0, 1, 3, 4, 5, 6, 8, 9])  # opens them again


def test_a_pickle_holds_no_open_file(folder):
    source = FolderSource(folder, "test")
    source.read(0, 2)
    twin = pickle.loads(pickle.dumps(source))
    assert len(twin._files) == 0
    expect(twin, [8, 9])
    assert len(source._files) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_opens_its_own_files(folder):
    source = FolderSource(folder, "test")
    here = source.read(0, 2)["w"]
    pipe, end = os.pipe()
    child = os.fork()
    if child == 0:
        before, there = len(source._files), source.read(0, 2)["w"]
        good = np.array_equal(there, here) and (before, len(source._files)) == (0, 1)
        os.write(end, b"good" if good and len(source._files._inherited) == 1 else b"bad")
        os._exit(0)
    os.close(end)
    with os.fdopen(pipe, "rb") as answer:
        assert answer.read() == b"good"
    os.waitpid(child, 0)
    np.testing.assert_array_equal(source.read(0, 2)["w"], here)


def test_a_spawned_process_reads_the_same(folder):
    source = FolderSource(folder, "test")
    here = source.read(0, 2)["w"]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(FolderSource.read, source, 0, 2).result(timeout=60)["w"]
    np.testing.assert_array_equal(here, there)


def test_a_damaged_chunk_is_noticed(folder):
    """The first read of a chunk verifies its checksum, also where later ones do not."""
    with FolderSource(folder, "test") as source:
        path = source._paths[0]
        with h5py.File(path) as file:
            offset = file["t0_fields/w"].id.get_chunk_info(1).byte_offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff\xff")
    with FolderSource(folder, "test") as source:
        source.frames(0, slice(0, 1), ("w",))
        with pytest.raises(OSError, match=r"flow-test-00000.hdf5: the field w is damaged .*: remove the"):
            source.frames(0, slice(0, 2), ("w",))


@pytest.mark.parametrize("chunks", [None, (2, 1, 5), (1, 2, 5), (1, 1, 5), (1, 1, 3)])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4"])
def test_a_field_is_the_same_whatever_its_chunks(tmp_path, chunks, dtype):
    values = np.random.default_rng(0).standard_normal((4, 6, 5)).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        field = Field(file.create_dataset("u", data=values, chunks=chunks), several=True, timed=True)
        assert field._plain == (chunks == (1, 1, 5) and dtype != ">f4")
        for _ in range(2):
            for times in (slice(None), slice(2, 5), slice(1, 6, 2), slice(3, 3)):
                np.testing.assert_array_equal(field.one(2, times), values[2, times])


def test_errors(tmp_path, folder):
    with pytest.raises(NoDataset, match="does not exist: give the folder that `generate` wrote"):
        FolderSource(tmp_path / "none")
    with pytest.raises(UnknownSplit, match="flow has no split 'validation': it has train, valid, test"):
        FolderSource(folder, "validation")
    with pytest.raises(EmptySplit, match=r"flow, split valid holds no sample \(1 failed\)"):
        FolderSource(folder, "valid")
    with pytest.raises(ValueError, match="flow holds data on a mesh: grid data are read here"):
        FolderSource(make_folder(tmp_path / "mesh", kind="mesh"))
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(ForeignFolder, match="was not written by solvus"):
        FolderSource(folder)


def test_a_file_that_was_deleted(folder):
    source = FolderSource(folder, "train")
    source._paths[-1].unlink()
    with pytest.raises(FileNotFoundError, match=r"flow-train-0000\d.hdf5 is in the manifest but not in the"):
        source.read(0, 6)


def test_an_incomplete_folder_warns_with_the_count(tmp_path):
    folder = make_folder(tmp_path / "f", missing=("data/train/flow-train-00001.hdf5", "test"))
    with pytest.warns(IncompleteFolder, match=r"flow, split train is incomplete: 4 of 7 samples are there"):
        assert FolderSource(folder, "train").ids.tolist() == [0, 1, 6]
    with pytest.warns(
        IncompleteFolder, match=r"flow is incomplete: 5 of 10 samples are there; run `generate`"
    ):
        FolderSource(folder)
    with pytest.warns(IncompleteFolder), pytest.raises(EmptySplit, match="split test holds no sample"):
        FolderSource(folder, "test")


def test_statistics(folder):
    with pytest.raises(FileNotFoundError, match="they are written when a dataset is complete"):
        statistics(folder)
    (folder / "stats.yaml").write_text(
        "mean: {w: 0.5, velocity: [1.0, 2.0]}\nstd: {w: 2, velocity: [3, 4]}\n"
    )
    found = FolderSource(folder, "test").statistics()
    assert found["mean"]["w"].shape == ()
    assert found["std"]["velocity"].tolist() == [3, 4]
    for wrong in ("- 1\n", "mean: 3\n", "mean: {w: much}\n", "mean: {w: [\n"):
        (folder / "stats.yaml").write_text(wrong)
        with pytest.raises(ValueError, match=r"stats.yaml holds no statistics"):
            statistics(folder)


def test_open_files_without_files():
    files = OpenFiles(keep=3)
    assert len(files) == 0
    assert pickle.loads(pickle.dumps(files)).keep == 3
