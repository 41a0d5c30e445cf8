"""Pairs for training: the same numbers lazily and preloaded, from any worker; windows as cut by hand."""

import copy
import importlib.util
import multiprocessing
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

from solvus.datasets.formats.arrays import from_arrays
from solvus.datasets.formats.pdebench import pdebench_split
from solvus.datasets.formats.tensors import write_npz
from solvus.datasets.layout import Layout, Role, Variable
from solvus.datasets.loading import load
from solvus.datasets.loading.channels import UnfitStride
from solvus.datasets.loading.folder import EmptySplit, FolderSource, UnknownSplit
from solvus.datasets.loading.load import FieldDataset, Loading
from solvus.datasets.loading.window import Window, WindowTooLong
from solvus.datasets.source import Source
from solvus.operators.linear.errors import NonFinite

_spec = importlib.util.spec_from_file_location("folders", Path(__file__).with_name("test_folder.py"))
folders = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(folders)

LAZY, READY = Loading(preload=False), Loading(preload=True)
rng = np.random.default_rng(0)
W = rng.standard_normal((6, 9, 8, 4)).astype("f4")  # samples, times, x, y
V = rng.standard_normal((6, 9, 8, 4, 2)).astype("f4")
K = rng.standard_normal((6, 8, 4)).astype("f4")
D = rng.standard_normal((8, 4)).astype("f4")
P = rng.standard_normal((6, 9, 8)).astype("f4")  # varies along x only


class Flow(Source):
    """Trajectories with every kind of field, in memory, as simple as can be."""

    layout = Layout(
        "flow",
        ("x", "y"),
        (np.arange(8) / 8, np.arange(4) / 4),
        np.arange(9) * 0.5,
        (
            Variable("w", role=Role.STATE, time_varying=True),
            Variable("velocity", 1, role=Role.STATE, time_varying=True),
            Variable("k", role=Role.INPUT),
            Variable("depth", role=Role.INPUT, sample_varying=False),
            Variable("force", role=Role.INPUT, time_varying=True, axes=("x",)),
        ),
    )
    samples = 6

    def read(self, start, stop):
        cut = slice(start, stop)
        return {"w": W[cut], "velocity": V[cut], "k": K[cut], "depth": D, "force": P[cut]}


def steady(n=20, **settings):
    """Twenty pairs a -> u on a line, with a shared field."""
    a, u = rng.standard_normal((n, 9)).astype("f4"), rng.standard_normal((n, 9)).astype("f4")
    shared = rng.standard_normal(9).astype("f4")
    axes = {"a": ("sample", "x"), "s": ("x",), "u": ("sample", "x")}
    return FieldDataset(from_arrays({"a": a, "s": shared}, {"u": u}, axes=axes), **settings), (a, shared, u)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.make_folder(tmp_path_factory.mktemp("load") / "flow")


def same(first, second):
    """Two datasets hold the same pairs, to the bit."""
    assert len(first) == len(second) > 0
    for i in range(len(first)):
        for a, b in zip(first[i], second[i], strict=True):
            assert a.dtype == b.dtype
            assert a.is_contiguous()
            assert torch.equal(a, b)


# --- what an item is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loading", [LAZY, READY])
def test_steady_pairs(loading):
    data, (a, s, u) = steady(loading=loading)
    assert len(data) == 20
    assert (data.inputs, data.outputs) == (("a", "s"), ("u",))
    for i in (0, 7, -1):
        x, y = data[i]
        assert x.dtype == y.dtype == torch.float32
        np.testing.assert_array_equal(x, np.stack([a[i], s]))
        np.testing.assert_array_equal(y, u[i][None])
    with pytest.raises(IndexError, match="there are 20 pairs, asked for number 20"):
        data[20]
    assert sum(1 for _ in data) == 20  # iteration ends


@pytest.mark.parametrize("loading", [LAZY, READY])
def test_fields_by_name(loading):
    data, (a, s, u) = steady(loading=loading, inputs=["u", "s"], outputs="a")
    x, y = data[3]
    np.testing.assert_array_equal(x, np.stack([u[3], s]))
    np.testing.assert_array_equal(y, a[3][None])


def windows_by_hand(window, frames=9):
    """(sample, first frames of inputs, of outputs), in the order of the dataset."""
    span = (window.inputs + window.outputs - 1) * window.every + 1
    starts = list(range(window.start, frames - span + 1, window.stride or frames))
    for i in range(6):
        for t in starts:
            used = [t + k * window.every for k in range(window.inputs + window.outputs)]
            yield i, used[: window.inputs], used[window.inputs :]


WINDOWS = [
    Window(),
    Window(2, 3),
    Window(3, 2, stride=2),
    Window(1, 2, every=2),
    Window(2, 1, every=3, stride=2),
    Window(2, 2, every=2, stride=2, start=1),
    Window(2, 1, start=3),
    Window(4, 5),
    Window(1, 1, every=8),
    Window(2, 2, stride=None),
    Window(1, 3, every=2, stride=None, start=2),
    Window(2, 2, time_axis=True),
]


@pytest.mark.parametrize("loading", [LAZY, READY], ids=["lazy", "preloaded"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows_agree_with_slicing_by_hand(window, loading):
    data = FieldDataset(
        Flow(),
        window=window,
        inputs=["w", "velocity", "k", "depth", "force"],
        outputs=["velocity", "w"],
        loading=loading,
    )
    by_hand = list(windows_by_hand(window))
    assert len(data) == len(by_hand)
    for index, (i, before, after) in enumerate(by_hand):
        assert data.where(index) == (i, before[0])
        x, y = data[index]
        force = np.broadcast_to(P[i][..., None], (9, 8, 4))
        into = [np.stack([W[i, t], V[i, t, ..., 0], V[i, t, ..., 1], force[t]]) for t in before]
        out = [np.stack([V[i, t, ..., 0], V[i, t, ..., 1], W[i, t]]) for t in after]
        constants = np.stack([K[i], D])
        if window.time_axis:
            repeated = np.repeat(constants[:, None], len(before), axis=1)
            np.testing.assert_array_equal(x, np.concatenate([np.stack(into, 1), repeated]))
            np.testing.assert_array_equal(y, np.stack(out, 1))
        else:
            np.testing.assert_array_equal(x, np.concatenate([*into, constants]))
            np.testing.assert_array_equal(y, np.concatenate(out))
        assert x.is_contiguous()
        assert y.is_contiguous()
        assert (tuple(x.shape), tuple(y.shape)) == data._pairs.shapes


def test_a_window_that_is_one_frame_off_would_be_noticed(monkeypatch):
    monkeypatch.setattr(
        Window, "times", lambda self, start: slice(start + 1, start + 1 + self.span, self.every)
    )
    with pytest.raises(AssertionError):
        test_windows_agree_with_slicing_by_hand(Window(2, 3), LAZY)


def test_channel_names():
    data = FieldDataset(Flow(), window=Window(2, 1))
    assert data.inputs == tuple(
        f"{name}@{k}" for k in (-1, 0) for name in ("w", "velocity_x", "velocity_y", "force")
    )
    assert data.outputs == ("w@1", "velocity_x@1", "velocity_y@1")
    data = FieldDataset(Flow(), window=Window(2, 1, time_axis=True), inputs=["w", "k"], outputs=["velocity"])
    assert (data.inputs, data.outputs) == (("w", "k"), ("velocity_x", "velocity_y"))


@pytest.mark.parametrize("loading", [LAZY, READY])
def test_from_a_coefficient_to_the_whole_trajectory(loading):
    data = FieldDataset(Flow(), window=Window(0, 9), inputs=["k"], outputs=["w"], loading=loading)
    assert len(data) == 6
    x, y = data[4]
    np.testing.assert_array_equal(x, K[4][None])
    np.testing.assert_array_equal(y, W[4])
    assert FieldDataset(Flow(), window=Window(0, 9), loading=loading).inputs == ("k", "depth")


@pytest.mark.parametrize("loading", [LAZY, READY])
@pytest.mark.parametrize("stride", [1, 2, (4, 1)])
def test_coordinates_follow_the_stride(stride, loading):
    data = FieldDataset(
        Flow(), window=Window(), inputs=["w", "velocity", "force", "depth"], stride=stride, loading=loading
    )
    sx, sy = (stride, stride) if isinstance(stride, int) else stride
    x, y = data[8]  # the first window of the second sample
    np.testing.assert_array_equal(x[0], W[1, 0, ::sx, ::sy])
    np.testing.assert_array_equal(x[2], V[1, 0, ::sx, ::sy, 1])
    np.testing.assert_array_equal(x[3], np.broadcast_to(P[1, 0, ::sx, None], x[3].shape))
    np.testing.assert_array_equal(x[4], D[::sx, ::sy])
    np.testing.assert_array_equal(data.coordinates[0], np.arange(8)[::sx] / 8)
    np.testing.assert_array_equal(data.coordinates[1], np.arange(4)[::sy] / 4)
    assert data.grid.shape == (2, *y.shape[1:])
    np.testing.assert_allclose(data.grid[1][0], data.coordinates[1])
    np.testing.assert_allclose(data.grid[0][:, 0], data.coordinates[0])


def test_every_frame_k_changes_the_interval():
    assert FieldDataset(Flow(), window=Window(1, 1, every=4)).interval == 2.0
    with pytest.raises(ValueError, match="steady problems have no time"):
        _ = steady()[0].interval


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_types(dtype):
    lazy, _ = steady(loading=Loading(preload=False, dtype=dtype))
    assert lazy[0][0].dtype == dtype
    a = rng.standard_normal((3, 4))
    source = from_arrays({"a": a}, {"u": a}, axes=("sample", "x"))
    x, _ = FieldDataset(source, loading=Loading(dtype=torch.float64))[1]
    np.testing.assert_array_equal(x[0], a[1])
    same(*(FieldDataset(source, loading=Loading(preload=p, dtype=dtype)) for p in (True, False)))


def test_first_samples_and_ranges():
    data, (a, _, _) = steady(samples=3)
    assert len(data) == 3
    data, (a, _, _) = steady(samples=range(4, 20, 5), loading=LAZY)
    assert [data.where(i)[0] for i in range(len(data))] == [4, 9, 14, 19]
    np.testing.assert_array_equal(data[1][0][0], a[9])


@pytest.mark.parametrize("loading", [LAZY, READY])
def test_items_are_the_callers_own(loading):
    for data, index in (
        (FieldDataset(Flow(), window=Window(2, 1), loading=loading), 5),
        (steady(loading=loading)[0], 3),
    ):
        before = [t.clone() for t in data[index]]
        x, y = data[index]
        x += 1
        assert torch.equal(y, before[1])
        y += 1
        assert all(torch.equal(a, b) for a, b in zip(data[index], before, strict=True))


def test_describes_itself():
    data = FieldDataset(Flow(), window=Window(4, 2), inputs=["velocity", "k"], loading=LAZY)
    assert repr(data) == (
        "FieldDataset(flow: 24 pairs from 6 trajectories, float32, read when asked for,\n"
        "  x (9, 8, 4): velocity_x@-3, velocity_y@-3, ..., k,\n"
        "  y (6, 8, 4): w@1, velocity_x@1, velocity_y@1, w@2, velocity_x@2, velocity_y@2)"
    )
    assert "in memory" in repr(FieldDataset(Flow(), window=Window(4, 2)))


# --- from folders, and by workers ------------------------------------------------------------------------


@pytest.mark.parametrize("window", [Window(), Window(2, 2, stride=None), Window(1, 1, every=2)], ids=str)
def test_preloaded_equals_lazy_to_the_bit(folder, window):
    lazy, ready, auto = (
        FieldDataset(folder, "train", window=window, inputs=["w", "k", "depth"], loading=loading)
        for loading in (LAZY, READY, None)
    )
    assert (lazy.in_memory, ready.in_memory, auto.in_memory) == (False, True, True)
    same(lazy, ready)
    same(lazy, auto)
    same(lazy, ready)  # again, past the checksums
    assert lazy.where(len(lazy) - 1)[0] == 5
    whole = folders.sample(folders.FLOW, 6)
    np.testing.assert_array_equal(
        lazy[len(lazy) - 1][1][0], whole["w"][lazy._starts[-1] + window.inputs * window.every]
    )


class Broken:
    """Pairs that differ from the preloaded ones in one bit."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, i):
        x, y = self.inner[i]
        if i == 2:
            x.view(torch.int32)[0, 0, 0] ^= 1
        return x, y


def test_one_wrong_bit_would_be_noticed(folder):
    ready = FieldDataset(folder, "train", window=Window(), loading=READY)
    with pytest.raises(AssertionError):
        same(Broken(ready), ready)


def batches(data, workers, method):
    """All batches in the shuffled order of one seed."""
    loader = DataLoader(
        data,
        batch_size=4,
        shuffle=True,
        generator=torch.Generator().manual_seed(3),
        num_workers=workers,
        multiprocessing_context=method if workers else None,
        timeout=60 if workers else 0,
    )
    return [tuple(t.clone() for t in batch) for batch in loader]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_give_the_same_batches_in_the_same_order(folder, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    lazy, ready = (
        FieldDataset(folder, "train", window=Window(2, 1), loading=loading) for loading in (LAZY, READY)
    )
    data = ConcatDataset([lazy, ready])  # both at once: a spawned worker takes seconds to start
    here, there = batches(data, 0, None), batches(data, 2, method)
    assert len(here) == len(there) == 6
    for a, b in zip(here, there, strict=True):
        assert all(torch.equal(first, second) for first, second in zip(a, b, strict=True))
    assert not torch.equal(here[0][0], here[1][0])


def test_a_pickle_reads_the_same_and_holds_no_data(folder):
    for loading in (LAZY, READY):
        data = FieldDataset(folder, "train", window=Window(), loading=loading)
        data[0]
        text = pickle.dumps(data)
        assert len(text) < 10_000
        same(pickle.loads(text), data)
        same(copy.deepcopy(data), data)
    given = FieldDataset(FolderSource(folder, "test"), window=Window(), loading=LAZY)
    same(pickle.loads(pickle.dumps(given)), given)


def test_what_does_not_fit_is_read_lazily(folder, monkeypatch):
    data = FieldDataset(folder, "train", window=Window(), loading=LAZY)
    assert data.nbytes == 6 * 4 * 3 * 30 * 4
    for free, ready in ((2 * data.nbytes + 2, True), (2 * data.nbytes - 2, False)):
        monkeypatch.setattr(load, "free_memory", lambda free=free: free)
        assert FieldDataset(folder, "train", window=Window()).in_memory is ready
    monkeypatch.setattr(load, "free_shared_memory", lambda: 0)
    tight = FieldDataset(folder, "train", window=Window(), loading=READY)
    assert tight.in_memory
    assert not any(t.is_shared() for t in tight._store.values())
    assert (
        all(t.is_shared() for t in FieldDataset(Flow(), window=Window(), loading=READY)._store.values())
        is False
    )


def test_only_frames_that_are_used_are_kept():
    data = FieldDataset(Flow(), window=Window(1, 1, every=8), inputs=["w"], outputs=["w"], loading=READY)
    assert data._store["w"].shape == (6, 2, 1, 8, 4)
    data = FieldDataset(
        Flow(), window=Window(1, 1, every=2, stride=2, start=1), inputs=["w"], outputs=["w"], loading=READY
    )
    assert data._store["w"].shape == (6, 4, 1, 8, 4)


def test_statistics_are_those_of_the_channels(folder):
    mean, std = "{w: 0.5, velocity: [1.0, 2.0], k: 3, depth: 4}", "{w: 5, velocity: [6, 7], k: 8, depth: 9}"
    (folder / "stats.yaml").write_text(f"mean: {mean}\nstd: {std}\n")
    data = FieldDataset(
        folder, "test", window=Window(2, 1), inputs=["w", "velocity", "k"], outputs=["velocity"]
    )
    x, y = data.statistics("mean")
    assert x.tolist() == [0.5, 1, 2, 0.5, 1, 2, 3]
    assert y.tolist() == [1, 2]
    assert data.statistics("std")[1].tolist() == [6, 7]
    with pytest.raises(ValueError, match="there is no statistic 'median': there are mean, std"):
        data.statistics("median")
    with pytest.raises(ValueError, match="only generated folders have statistics"):
        steady()[0].statistics()


def test_rules_of_pdebench(tmp_path):
    a, u = rng.standard_normal((20, 6)).astype("f4"), rng.standard_normal((20, 6)).astype("f4")
    write_npz(from_arrays(a, u, axes=("sample", "x")), tmp_path / "a.npz")
    data = FieldDataset(tmp_path / "a.npz", "pdebench-single-train")
    assert len(data) == 18
    np.testing.assert_array_equal(data[0][0][0], a[2])
    test = FieldDataset(tmp_path / "a.npz", "pdebench-mult-test", loading=LAZY)
    assert len(test) == 2
    np.testing.assert_array_equal(test[0][0][0], a[18])
    with pytest.raises(ValueError, match="it is read whole, or by pdebench-single-train"):
        FieldDataset(tmp_path / "a.npz", "train")
    train, _ = pdebench_split(20, "pdebench-single")
    same(FieldDataset(from_arrays(a, u, axes=("sample", "x")), samples=train), data)


# --- errors -------------------------------------------------------------------------------------------------


def flow(**settings):
    return lambda: FieldDataset(Flow(), **{"window": Window(), **settings})


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (flow(window=Window(5, 5)), WindowTooLong, r"5 \+ 5 frames, every 1, from frame 0 on needs 10"),
        (flow(window=Window(2, 2, every=3)), WindowTooLong, "10 frames, the trajectories have 9: lower"),
        (flow(window=Window(start=8)), WindowTooLong, "from frame 8 on needs 10 frames"),
        (flow(inputs=["p"]), KeyError, "no field 'p': the fields are w, velocity, k"),
        (flow(window=None), ValueError, r"w varies in time: say which frames make a pair, window=Window\("),
        (flow(outputs=["k"]), ValueError, "k does not vary in time, so no window cuts it"),
        (flow(inputs=["k"]), ValueError, r"use Window\(inputs=0, ...\)"),
        (flow(window=Window(0, 1), inputs=["w"]), ValueError, "inputs must name a field that does not"),
        (flow(inputs=[]), ValueError, "inputs needs the names of one or more"),
        (flow(inputs=["w", "w"]), ValueError, "different fields"),
        (flow(stride=8), UnfitStride, "a stride of 8 leaves one point of the 8 along x"),
        (flow(stride=(2, 2, 2)), UnfitStride, r"or one per axis \(x, y\), got \(2, 2, 2\)"),
        (flow(stride=0), UnfitStride, "one positive number"),
        (flow(split="train"), UnknownSplit, "flow is open already, its split 'train' cannot be chosen"),
        (flow(samples=7), ValueError, "there are 6 samples, asked for 7: lower"),
        (flow(samples=range(4, 8)), ValueError, r"asked for range\(4, 8\)"),
        (flow(samples=0), ValueError, "asked for 0"),
        (lambda: Loading(preload="yes"), ValueError, "preload is True, False or 'auto', got 'yes'"),
        (lambda: Loading(dtype=torch.int32), ValueError, "floating-point type of torch, got torch.int32"),
        (lambda: Loading(fraction=2), ValueError, "fraction lies between 0 and 1, got 2"),
    ],
)  # fmt: skip
def test_errors(build, error, text):
    with pytest.raises(error, match=text):
        build()


def test_no_field_of_a_role():
    source = from_arrays({"u": K}, axes=("sample", "x", "y"))
    with pytest.raises(ValueError, match=r"inputs needs .*: the fields are u \(output\)"):
        FieldDataset(source)


def test_errors_of_folders(folder):
    with pytest.raises(UnknownSplit, match="flow has no split 'dev': it has train, valid, test"):
        FieldDataset(folder, "dev", window=Window())
    with pytest.raises(EmptySplit, match="split valid holds no sample"):
        FieldDataset(folder, "valid", window=Window())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_named_with_sample_and_field(value):
    a, u = np.ones((5, 4)), np.ones((5, 4))
    u[3, 1:3] = value
    source = from_arrays({"a": a}, {"u": u}, axes=("sample", "x"))
    with pytest.raises(
        NonFinite, match="arrays: the field u of sample 3 has 2 values that are NaN or infinite"
    ):
        FieldDataset(source)
    assert len(FieldDataset(source, loading=LAZY)) == 5
    assert len(FieldDataset(source, samples=range(3))) == 3
    shared = from_arrays({"a": u[3]}, {"u": a}, axes={"a": ("x",), "u": ("sample", "x")})
    with pytest.raises(NonFinite, match="the field a of all samples has 2 values"):
        FieldDataset(shared)


def test_numbers_too_large_for_the_type_are_noticed():
    a = np.full((2, 4), 1e39)
    source = from_arrays({"a": a}, {"u": a}, axes=("sample", "x"))
    with pytest.raises(NonFinite, match=r"infinite in torch.float32: .*or read\s+float64"):
        FieldDataset(source)
    assert FieldDataset(source, loading=Loading(dtype=torch.float64))[0][0].max() == 1e39


def test_files_are_opened_by_open_source(tmp_path):
    a, u = rng.standard_normal((4, 6)).astype("f4"), rng.standard_normal((4, 6)).astype("f4")
    write_npz(from_arrays(a, u, axes=("sample", "x")), tmp_path / "a.npz")
    data = FieldDataset(tmp_path / "a.npz", loading=LAZY)
    np.testing.assert_array_equal(data[2][0][0], a[2])
    same(pickle.loads(pickle.dumps(data)), data)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_single_file_leaves_failed_samples_out_and_works_in_workers(folder):
    path = folder / "data" / "train" / "flow-train-00000.hdf5"
    with h5py.File(path, "r+") as file:
        group = file.require_group("provenance")
        group["status"] = np.array(["ok", "ok", "failed: too stiff"], dtype=h5py.string_dtype())
        group["sample_id"] = np.arange(3)
    data = FieldDataset(path, window=Window(), loading=LAZY)
    assert {data.where(i)[0] for i in range(len(data))} == {0, 1}
    first = next(
        iter(DataLoader(data, batch_size=6, num_workers=1, multiprocessing_context="fork", timeout=60))
    )
    np.testing.assert_array_equal(first[1][2, 0], folders.sample(folders.FLOW, 0)["w"][3])
    same(data, FieldDataset(path, window=Window(), loading=READY))
