"""Files of plain arrays are read and written; what could run code, or says too little, is refused."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from solvus.datasets.formats.arrays import ArraySource, AxisMismatch, from_arrays
from solvus.datasets.formats.foreign import DoesNotFit
from solvus.datasets.formats.tensors import (
    NotTensors,
    UnsafeFile,
    pt_notes,
    read_mat,
    read_npz,
    read_pt,
    write_npz,
    write_pt,
)
from solvus.datasets.layout import Layout, Role, Variable
from solvus.meshes.grid import Boundary

RNG = np.random.default_rng(0)
ROOT = Path(__file__).resolve().parents[2]


def f4(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture
def neuraloperator():
    """Folder of the files that the package neuraloperator ships."""
    folder = Path(os.environ.get("SOLVUS_REFERENCE", ROOT.parent / "shared" / "reference")) / "neuraloperator"
    if not folder.is_dir():
        pytest.skip(f"the reference files of neuraloperator are not at {folder}: set SOLVUS_REFERENCE")
    return folder


def everything(dtype="float32"):
    """A source that uses all that a layout can say."""
    layout = Layout(
        "all",
        ("lon", "lat"),
        (np.linspace(0, 1, 4), np.array([0.0, 1, 4])),
        np.array([0.0, 0.1, 0.3]),
        (
            Variable("k", role=Role.INPUT, meaning="conductivity, W/(m K)"),
            Variable("v", rank=1, role=Role.STATE, time_varying=True),
            Variable("s", rank=2, time_varying=True),
            Variable("edge", role=Role.INPUT, axes=("lat",)),
            Variable("mask", role=Role.INPUT, sample_varying=False),
        ),
        ((Boundary.DIRICHLET, Boundary.NEUMANN), (Boundary.PERIODIC, Boundary.PERIODIC)),
        {"nu": 1e-5},
        dtype,
    )
    arrays = {
        v.name: RNG.standard_normal((5,) * v.sample_varying + layout.shape(v.name)).astype(dtype)
        for v in layout.variables
    }
    return ArraySource(layout, arrays)


def same(one, other):
    a, b = one.layout, other.layout
    assert replace(a, coordinates=b.coordinates, times=b.times).__dict__ == b.__dict__
    for p, q in zip((a.times, *a.coordinates), (b.times, *b.coordinates), strict=True):
        np.testing.assert_array_equal(p, q)
    assert one.samples == other.samples
    values, back = one.read(0, one.samples), other.read(0, other.samples)
    for name, array in values.items():
        assert back[name].dtype == array.dtype
        assert back[name].tobytes() == np.ascontiguousarray(array).tobytes()


# --- .pt ----------------------------------------------------------------------------------------------------


def test_the_files_of_neuraloperator_load(neuraloperator):
    for name, samples in (("darcy_train_16.pt", 1000), ("darcy_test_16.pt", 50)):
        source = read_pt(neuraloperator / name)
        layout = source.layout
        assert (source.samples, layout.resolution, layout.dtype) == (samples, (16, 16), "float32")
        assert [(v.name, v.role) for v in layout.variables] == [
            ("input", Role.INPUT),
            ("output", Role.OUTPUT),
        ]
        given = torch.load(neuraloperator / name, weights_only=True)
        values = source.read(0, samples)
        np.testing.assert_array_equal(values["input"], given["x"].float())
        np.testing.assert_array_equal(values["output"], given["y"])


def test_pt_round_trip(tmp_path):
    source = from_arrays(f4(4, 5, 6), f4(4, 5, 6), axes=("sample", "x", "y"), name="a")
    path = write_pt(source, tmp_path / "a.pt")
    given = torch.load(path, weights_only=True)
    assert given["x"].shape == given["y"].shape == (4, 5, 6)
    same(source, read_pt(path))
    with pytest.raises(FileExistsError):
        write_pt(source, path)
    write_pt(source, path, overwrite=True)


def test_several_fields_become_channels(tmp_path):
    source = from_arrays(
        {"a": f4(3, 4, 5), "b": f4(3, 4, 5)},
        {"v": f4(3, 4, 5, 2)},
        axes={"a": ("sample", "x", "y"), "b": ("sample", "x", "y"), "v": ("sample", "x", "y", "component")},
        parameters={"nu": 1},
    )
    assert pt_notes(source.layout)[1:] == (
        "x has channels, (B, C, ...): a, b; their names are lost",
        "y has channels, (B, C, ...): v; their names are lost",
        "parameters are not recorded: nu",
    )
    path = write_pt(source, tmp_path / "a.pt")
    back = read_pt(path, axes=("sample", "channel", "x", "y"))
    values = source.read(0, 3)
    np.testing.assert_array_equal(back.read(0, 3)["input_1"], values["b"])
    np.testing.assert_array_equal(back.read(0, 3)["output_1"], values["v"][..., 1])


def test_states_have_no_x_and_y(tmp_path):
    states = from_arrays(f4(3, 2, 4), axes=("sample", "time", "x"))
    with pytest.raises(DoesNotFit, match=r"arrays has no inputs \(u is both\): choose frames"):
        write_pt(states, tmp_path / "a.pt")
    mixed = from_arrays(
        {"a": f4(3, 4)}, {"b": f4(3, 4), "c": f4(3, 2, 4)},
        axes={"a": ("sample", "x"), "b": ("sample", "x"), "c": ("sample", "time", "x")},
    )  # fmt: skip
    with pytest.raises(DoesNotFit, match="b, c have different axes"):
        write_pt(mixed, tmp_path / "a.pt")
    assert not list(tmp_path.iterdir())


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


def test_files_that_would_run_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": torch.ones(2, 3), "y": Evil()}, "evil.pt")
    with pytest.raises(UnsafeFile, match="loading that can run any code"):
        read_pt("evil.pt")
    np.savez("evil.npz", x=np.ones((2, 3)), y=np.array([Evil()], dtype=object))
    with pytest.raises(UnsafeFile, match="it is not loaded"):
        read_npz("evil.npz")
    assert not Path("evil").exists()
    with open("evil.pt", "rb") as file:  # the specimen does run code when it is let
        torch.load(file, weights_only=False)
    assert Path("evil").is_dir()


def test_pt_files_that_say_too_little(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(FileNotFoundError, match="no file at"):
        read_pt(path)
    for content in (b"", b"nothing of torch", pickle.dumps({"x": 1}, protocol=2)):
        path.write_bytes(content)
        with pytest.raises(NotTensors):
            read_pt(path)
    torch.save(torch.ones(3), path)
    with pytest.raises(NotTensors, match="holds a Tensor, needed is"):
        read_pt(path)
    torch.save({"x": torch.ones(3, 4), "z": torch.ones(3, 4)}, path)
    with pytest.raises(NotTensors, match="holds x, z; needed are x and y"):
        read_pt(path)
    torch.save({"x": torch.ones(2, 3, 3, 3, 3), "y": torch.ones(2, 3)}, path)
    with pytest.raises(AxisMismatch, match="input has 5 axes and the file does not say which is which"):
        read_pt(path)


def test_axes_can_be_named(tmp_path):
    torch.save({"x": torch.ones(2, 3, 4, 5), "y": torch.ones(2, 4, 5)}, tmp_path / "a.pt")
    axes = {"input": ("sample", "time", "x", "y"), "output": ("sample", "x", "y")}
    layout = read_pt(tmp_path / "a.pt", axes).layout
    assert layout.shape("input") == (3, 4, 5)
    assert layout.shape("output") == (4, 5)


# --- .npz ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_npz_holds_everything(tmp_path, dtype):
    source = everything(dtype)
    path = write_npz(source, tmp_path / "a.npz")
    same(source, read_npz(path))
    with np.load(path) as file:
        assert set(file.files) >= {"k", "v", "s", "edge", "mask", "axis.lon", "axis.lat", "axis.time"}
        assert file["v"].shape == (5, 3, 4, 3, 2)
    again = write_npz(source, tmp_path / "b.npz")
    assert again.read_bytes() == path.read_bytes()


def test_npz_in_several_blocks(tmp_path, monkeypatch):
    source = everything()
    monkeypatch.setattr(type(source), "blocks", lambda self: ((i, self.read(i, i + 1)) for i in range(5)))
    same(source, read_npz(write_npz(source, tmp_path / "a.npz")))


def test_the_round_trip_check_can_fail(tmp_path):
    source, other = everything(), everything()
    with pytest.raises(AssertionError):
        same(source, other)
    with pytest.raises(AssertionError):
        same(source, read_npz(write_npz(everything("float64"), tmp_path / "a.npz")))


def test_plain_npz(tmp_path):
    path = tmp_path / "a.npz"
    a, u = f4(3, 4), f4(3, 4)
    np.savez(path, x=a, y=u)
    np.testing.assert_array_equal(read_npz(path).read(0, 3)["output"], u)
    np.savez(path, a=a, u=u)
    assert [v.name for v in read_npz(path).layout.variables] == ["a", "u"]
    np.savez(path, b=a)
    with pytest.raises(NotTensors, match="holds b; needed are x and y, or coeff and sol, or a and u"):
        read_npz(path)


def test_npz_refusals(tmp_path):
    path = write_npz(everything(), tmp_path / "a.npz")
    with pytest.raises(AxisMismatch, match="names its axes itself"):
        read_npz(path, ("sample", "x"))
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "k": arrays["k"][:, 1:]})
    with pytest.raises(NotTensors, match="contradicts its own description: k has the shape"):
        read_npz(path)
    del arrays["k"]
    np.savez(path, **arrays)
    with pytest.raises(NotTensors, match="contradicts its own description"):
        read_npz(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(NotTensors, match="damaged"):
        read_npz(path)
    np.save(tmp_path / "b.npy", f4(3))
    os.rename(tmp_path / "b.npy", path)
    with pytest.raises(NotTensors, match="holds one array"):
        read_npz(path)
    with pytest.raises(ValueError, match=r"uses the name axis\.x: rename the field"):
        write_npz(from_arrays({"axis.x": f4(2, 3)}, axes=("sample", "x")), tmp_path / "c.npz")


# --- .mat ---------------------------------------------------------------------------------------------------


def mat(path, version, **arrays):
    if version == "5":
        scipy.io.savemat(path, arrays)
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, values in arrays.items():
                file[name] = values.T
    return path


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_mat(tmp_path, version):
    coeff, sol = RNG.standard_normal((3, 4, 5)), RNG.standard_normal((3, 4, 5))
    source = read_mat(mat(tmp_path / "darcy.mat", version, coeff=coeff, sol=sol, Kcoeff=coeff))
    assert [(v.name, v.role) for v in source.layout.variables] == [
        ("coeff", Role.INPUT),
        ("sol", Role.OUTPUT),
    ]
    assert source.layout.dtype == "float64"
    np.testing.assert_array_equal(source.read(1, 3)["sol"], sol[1:])
    a, u, t = f4(3, 4, 5), f4(3, 4, 5, 6), np.linspace(1, 6, 6)
    source = read_mat(mat(tmp_path / "ns.mat", version, a=a, u=u, t=t[None]))
    assert source.layout.dims("u") == ("time", "x", "y")
    np.testing.assert_array_equal(source.layout.times, t)
    np.testing.assert_array_equal(source.read(0, 3)["u"], u.transpose(0, 3, 1, 2))


def test_mat_refusals(tmp_path):
    with pytest.raises(NotTensors, match=r"holds no array; needed are x and y"):
        read_mat(mat(tmp_path / "a.mat", "5", b=f4(3)))
    (tmp_path / "a.mat").write_bytes(b"x" * 600)
    with pytest.raises(NotTensors, match="damaged, or no MATLAB file"):
        read_mat(tmp_path / "a.mat")
