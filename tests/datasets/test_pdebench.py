"""The layouts of PDEBench, from files made here by its rules, and round trips to the bit."""

import pickle
import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest
import yaml

from solvus.datasets.formats.arrays import ArraySource, from_arrays
from solvus.datasets.formats.foreign import DoesNotFit
from solvus.datasets.formats.pdebench import (
    NotPDEBench,
    PDEBenchLayout,
    SuspectData,
    pdebench_split,
)
from solvus.datasets.formats.pdebench_read import read_pdebench
from solvus.datasets.formats.pdebench_write import pdebench_notes, write_pdebench
from solvus.datasets.layout import Role

RNG = np.random.default_rng(0)


def f4(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def centres(n):
    return ((np.arange(n) + 0.5) / n).astype(np.float32)


def put(path, datasets, **attributes):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
        file.attrs.update(attributes)
    return path


def burgers(path, **replaced):
    values = {
        "tensor": f4(5, 4, 8),
        "x-coordinate": centres(8),
        "t-coordinate": np.arange(4, dtype=np.float32),
    }
    values |= {key.replace("_", "-"): value for key, value in replaced.items()}
    return put(path, values, Nu=0.01), values


# --- the layouts, as their makers wrote them ----------------------------------------------------------------


def test_a_in_one_dimension(tmp_path):
    path, given = burgers(tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5")
    with read_pdebench(path) as source:
        layout = source.layout
        assert (source.kind, source.samples, layout.axes) == (PDEBenchLayout.A, 5, ("x",))
        assert (layout["u"].role, layout.dims("u"), layout.dtype) == (Role.STATE, ("time", "x"), "float32")
        assert dict(layout.parameters) == {"Nu": 0.01}
        assert layout.name == "1D_Burgers_Sols_Nu0.01"
        np.testing.assert_array_equal(source.read(1, 3)["u"], given["tensor"][1:3])
        np.testing.assert_array_equal(layout.coordinates[0], given["x-coordinate"])


def test_a_darcy(tmp_path):
    given = {
        "tensor": f4(3, 1, 4, 6),
        "nu": f4(3, 4, 6),
        "x-coordinate": centres(4),
        "y-coordinate": centres(6),
    }
    with read_pdebench(put(tmp_path / "2D_DarcyFlow_beta1.0_Train.hdf5", given, beta=1.0)) as source:
        assert source.layout.steady
        assert [v.role for v in source.layout.variables] == [Role.INPUT, Role.OUTPUT]
        assert source.layout.resolution == (4, 6)
        values = source.read(0, 3)
        np.testing.assert_array_equal(values["u"], given["tensor"][:, 0])
        np.testing.assert_array_equal(values["nu"], given["nu"])


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_cfd(tmp_path, dim):
    names = ("density", "pressure", "Vx", "Vy", "Vz")[: 2 + dim]
    space = (4, 5, 6)[:dim]
    given = {name: f4(2, 3, *space) for name in names}
    grid = {f"{axis}-coordinate": centres(n) for axis, n in zip("xyz", space, strict=False)}
    path = put(
        tmp_path / "cfd.hdf5", given | grid | {"t-coordinate": np.arange(3.0)}, eta=0.1, zeta=0.1, M=1.0
    )
    with read_pdebench(path) as source:
        assert tuple(v.name for v in source.layout.variables) == names
        assert source.layout.axes == ("x", "y", "z")[:dim]
        assert source.layout.parameters["M"] == 1.0
        for name, array in source.read(0, 2).items():
            np.testing.assert_array_equal(array, given[name])


def reaction_diffusion(path, samples=(0, 1, 2), shape=(4, 5, 6, 2)):
    given = {}
    with h5py.File(path, "w") as file:
        for i in samples:
            group = file.create_group(f"{i:04d}")
            given[i] = f4(*shape)
            group.create_dataset("data", data=given[i], compression="lzf")
            for axis, n in zip("xy", shape[1:-1], strict=False):
                group[f"grid/{axis}"] = centres(n)
            group["grid/t"] = np.arange(shape[0], dtype=np.float32)
            group.attrs["config"] = yaml.safe_dump(
                {"sim": {"k": 0.005, "seed": i}, "name": "x", "flag": True}
            )
    return given


def test_b(tmp_path):
    path = tmp_path / "2D_diff-react_NA_NA.h5"
    given = reaction_diffusion(path)
    with read_pdebench(path) as source:
        assert (source.kind, source.samples) == (PDEBenchLayout.B, 3)
        assert dict(source.layout.parameters) == {"sim.k": 0.005}  # the seed differs between samples
        assert source.layout.resolution == (5, 6)
        values = source.read(1, 3)
        np.testing.assert_array_equal(values["u1"], [given[1][..., 1], given[2][..., 1]])
        assert source.read(2, 2)["u0"].shape == (0, 4, 5, 6)


def test_b_with_gaps_and_odd_samples(tmp_path):
    path = tmp_path / "b.h5"
    given = reaction_diffusion(path, samples=(0, 2, 5))
    with pytest.warns(SuspectData, match="3 samples are missing, 1, 3, 4"):
        source = read_pdebench(path)
    with source:
        assert source.samples == 3
        np.testing.assert_array_equal(source.read(2, 3)["u0"][0], given[5][..., 0])
    with h5py.File(path, "a") as file:
        del file["0002/data"]
        file["0002/data"] = f4(3, 5, 6, 2)
    with pytest.warns(SuspectData):
        source = read_pdebench(path)
    with source, pytest.raises(NotPDEBench, match=r"sample 0002 has the shape \(3, 5, 6, 2\)"):
        source.read(0, 3)


def test_samples_are_ordered_by_number(tmp_path):
    path = tmp_path / "b.h5"
    with h5py.File(path, "w") as file:
        for i in (9999, 10000):
            file[f"{i}/data"] = np.full((2, 3, 1), i, dtype=np.float32)
            file[f"{i}/grid/t"], file[f"{i}/grid/x"] = np.arange(2.0), centres(3)
    with pytest.warns(SuspectData, match="9999 samples are missing"), read_pdebench(path) as source:
        assert source.read(0, 2)["u"][:, 0, 0].tolist() == [9999, 10000]


def flow(path, samples=2, frames=3):
    given = {
        "velocity": f4(samples, frames, 4, 5, 2),
        "particles": f4(samples, frames, 4, 5, 1),
        "force": f4(samples, 4, 5, 2),
        "t": np.tile(np.arange(frames, dtype=np.float32), (samples, 1)),
    }
    return put(path, given, config="NU: 0.01\nname: x", latestIndex=samples - 1), given


def test_c(tmp_path):
    path, given = flow(tmp_path / "ns_incom_inhom_2d_512-0.h5")
    with read_pdebench(path) as source:
        layout = source.layout
        assert [(v.name, v.rank, v.role, v.time_varying) for v in layout.variables] == [
            ("velocity", 1, Role.STATE, True),
            ("particles", 0, Role.STATE, True),
            ("force", 1, Role.INPUT, False),
        ]
        assert layout.coordinates[0].tolist() == [0.125, 0.375, 0.625, 0.875]  # none in the file
        assert dict(layout.parameters) == {"NU": 0.01}
        values = source.read(1, 2)
        np.testing.assert_array_equal(values["particles"], given["particles"][1:, ..., 0])
        np.testing.assert_array_equal(values["force"], given["force"][1:])


def test_c_with_different_times(tmp_path):
    path, given = flow(tmp_path / "ns.h5")
    with h5py.File(path, "a") as file:
        file["t"][1] = given["t"][1] + 0.5
    with (
        pytest.warns(SuspectData, match=r"times differ between samples by up to 0\.5"),
        read_pdebench(path) as source,
    ):
        assert source.layout.times.tolist() == [0, 1, 2]


# --- what is wrong with a file ------------------------------------------------------------------------------


def test_a_time_too_many_is_dropped_and_told(tmp_path):
    path, _ = burgers(tmp_path / "a.hdf5", t_coordinate=np.arange(5.0))
    with pytest.warns(SuspectData, match="5 entries, the data 4 times: the first 4 are taken"):
        source = read_pdebench(path)
    with source:
        assert source.layout.times.tolist() == [0, 1, 2, 3]


def test_missing_times_are_counted(tmp_path):
    path, _ = burgers(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        del file["t-coordinate"]
    with pytest.warns(SuspectData, match="no t-coordinate"), read_pdebench(path) as source:
        assert source.layout.times.tolist() == [0, 1, 2, 3]


def test_missing_samples_are_noticed_once(tmp_path):
    u = f4(6, 4, 8)
    u[2], u[4, 0, 3] = 0, np.nan
    u[1, 2] = 0  # one quiet frame is no missing sample
    path, _ = burgers(tmp_path / "a.hdf5", tensor=u)
    with read_pdebench(path) as source:
        with pytest.warns(SuspectData, match=r"all zero or not finite, so probably missing \(2\): 2, 4;"):
            source.read(0, 6)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            source.read(0, 6)
    with read_pdebench(path) as source:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            source.frames(1, slice(2, 3), ["u"])
        with pytest.warns(SuspectData, match=r"probably missing \(1\): 2;"):
            source.frames(2, slice(2, 3), ["u"])


def test_a_zero_input_is_no_missing_sample(tmp_path):
    given = {"tensor": f4(2, 1, 4, 4), "nu": np.zeros((2, 4, 4), np.float32)}
    given |= {"x-coordinate": centres(4), "y-coordinate": centres(4)}
    with read_pdebench(put(tmp_path / "d.hdf5", given)) as source:
        source.read(0, 2)


BROKEN = {
    "times": ({"t_coordinate": np.arange(3.0)}, "the t-coordinate has 3 entries, the data have 4 times"),
    "points": (
        {"x_coordinate": centres(9)},
        r"the x-coordinate has the shape \(9,\), the data have 8 points",
    ),
    "darcy without nu": ({"tensor": f4(2, 1, 4, 4)}, "no nu; Darcy flow has tensor"),
    "axes": ({"tensor": f4(2, 4)}, r"tensor has the shape \(2, 4\), needed is \(B, T, X\)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(tmp_path, case):
    replaced, text = BROKEN[case]
    path, _ = burgers(tmp_path / "a.hdf5", **replaced)
    with pytest.raises(NotPDEBench, match=text):
        read_pdebench(path)


def test_other_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file at"):
        read_pdebench(tmp_path / "none.h5")
    text = tmp_path / "text.h5"
    text.write_text("no")
    with pytest.raises(NotPDEBench, match="not a readable HDF5 file"):
        read_pdebench(text)
    with pytest.raises(NotPDEBench, match="none of the layouts of PDEBench, it holds apples"):
        read_pdebench(put(tmp_path / "apples.h5", {"apples": f4(2)}))
    with pytest.raises(NotPDEBench, match=r"pressure has the shape \(2, 3, 5\), density has \(2, 3, 4\)"):
        read_pdebench(
            put(tmp_path / "cfd.h5", {"density": f4(2, 3, 4), "pressure": f4(2, 3, 5), "Vx": f4(2, 3, 4)})
        )
    with pytest.raises(NotPDEBench, match="velocity has the shape"):
        read_pdebench(put(tmp_path / "c.h5", {"velocity": f4(2, 3, 4, 5, 3)}))
    with pytest.raises(NotPDEBench, match="force has the shape"):
        read_pdebench(put(tmp_path / "c.h5", {"velocity": f4(2, 3, 4, 5, 2), "force": f4(2, 4, 5)}))
    with pytest.raises(NotPDEBench, match=r"0000/data has the shape \(4,\)"):
        read_pdebench(put(tmp_path / "b.h5", {"0000/data": f4(4)}))


# --- splits -------------------------------------------------------------------------------------------------


def test_splits():
    for n in (1, 10, 15, 1000):
        for protocol in ("pdebench-single", "pdebench-mult"):
            train, test = pdebench_split(n, protocol)
            assert sorted([*train, *test]) == list(range(n))
    assert pdebench_split(1000, "pdebench-single")[1] == range(100)
    assert pdebench_split(1000, "pdebench-mult")[1] == range(900, 1000)
    with pytest.raises(ValueError, match="'pdebench-single' or 'pdebench-mult', got 'train'"):
        pdebench_split(10, "train")


# --- round trips --------------------------------------------------------------------------------------------


def same(one, other):
    """All that a layout of PDEBench holds, to the bit."""
    a, b = one.layout, other.layout
    assert (one.samples, a.name, a.axes, a.dtype) == (other.samples, b.name, b.axes, b.dtype)
    assert dict(a.parameters) == dict(b.parameters)
    for p, q in zip((a.times, *a.coordinates), (b.times, *b.coordinates), strict=True):
        np.testing.assert_array_equal(p, q)
    assert {(v.name, v.rank, v.role, v.time_varying) for v in a.variables} == {
        (v.name, v.rank, v.role, v.time_varying) for v in b.variables
    }
    values, back = one.read(0, one.samples), other.read(0, other.samples)
    for name, array in values.items():
        assert back[name].dtype == array.dtype
        assert back[name].tobytes() == np.ascontiguousarray(array).tobytes()


def states(dim, dtype, *names, **more):
    space = (4, 5, 6)[:dim]
    arrays = {name: RNG.standard_normal((7, 3, *space)).astype(dtype) for name in names}
    return from_arrays(
        arrays, axes=("sample", "time", *"xyz"[:dim]), name="made", parameters={"nu": 1e-5}, **more
    )


def fluid(dtype="float32"):
    arrays = {"velocity": f4(3, 2, 4, 5, 2), "particles": f4(3, 2, 4, 5), "force": f4(3, 4, 5, 2)}
    axes = {
        "velocity": ("sample", "time", "x", "y", "component"),
        "particles": ("sample", "time", "x", "y"),
        "force": ("sample", "x", "y", "component"),
    }
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    layout = from_arrays(arrays, axes=axes, name="flow").layout
    roles = {"velocity": Role.STATE, "particles": Role.STATE, "force": Role.INPUT}
    variables = tuple(replace(v, role=roles[v.name]) for v in layout.variables)
    return ArraySource(replace(layout, variables=variables), arrays)


def darcy(dtype="float32"):
    a, u = f4(3, 4, 5).astype(dtype), f4(3, 4, 5).astype(dtype)
    return from_arrays({"coefficient": a}, {"u": u}, axes=("sample", "x", "y"), parameters={"beta": 1})


TRIPS = {
    "A 1D": (lambda: states(1, "float32", "w"), "A"),
    "A 1D float64": (lambda: states(1, "float64", "w", coordinates={"x": [0.1, 0.2, 0.3, 0.4]}), "A"),
    "A Darcy": (darcy, "A"),
    "A Darcy float64": (lambda: darcy("float64"), "A"),
    "A CFD 1D": (lambda: states(1, "float32", "density", "pressure", "Vx"), "A"),
    "A CFD 2D": (lambda: states(2, "float32", "Vy", "density", "pressure", "Vx"), "A"),
    "A CFD 3D": (lambda: states(3, "float32", "density", "pressure", "Vx", "Vy", "Vz"), "A"),
    "B 1D": (lambda: states(1, "float32", "u"), "B"),
    "B 2D": (lambda: states(2, "float64", "u", "v"), "B"),
    "C": (fluid, "C"),
    "C float64": (lambda: fluid("float64"), "C"),
}


@pytest.mark.parametrize("trip", TRIPS)
def test_round_trip(tmp_path, trip):
    make, layout = TRIPS[trip]
    given, path = make(), tmp_path / ("data.hdf5" if layout == "A" else "data.h5")
    assert write_pdebench(given, path, layout) == path
    with read_pdebench(path) as back:
        assert back.kind == layout
        same(given, back)
        for v in given.layout.variables:
            (part,) = back.frames(-1, slice(1, 3), [v.name]).values()
            np.testing.assert_array_equal(
                part, given.frames(given.samples - 1, slice(1, 3), [v.name])[v.name]
            )
        same(given, pickle.loads(pickle.dumps(back)))  # as workers of a loader receive it
        again = write_pdebench(back, tmp_path / "again.h5", layout)
        with read_pdebench(again) as twice:
            same(back, twice)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({path.name, "again.h5"})


def test_the_round_trip_check_can_fail(tmp_path):
    given = states(1, "float32", "w")
    path = write_pdebench(given, tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["tensor"][6, 2, 3] = np.nextafter(file["tensor"][6, 2, 3], np.float32(9))
    with read_pdebench(path) as back, pytest.raises(AssertionError):
        same(given, back)


def test_files_are_as_their_readers_expect(tmp_path):
    with h5py.File(write_pdebench(darcy(), tmp_path / "a.hdf5"), "r") as file:
        assert file["tensor"].shape == (3, 1, 4, 5)
        assert file["nu"].shape == (3, 4, 5)
        assert file["x-coordinate"].shape == (4,)
        assert file.attrs["beta"] == 1
    with h5py.File(write_pdebench(states(2, "float32", "u", "v"), tmp_path / "b.h5", "B"), "r") as file:
        assert list(file) == [f"{i:04d}" for i in range(7)]
        group = file["0003"]
        assert group["data"].shape == (3, 4, 5, 2)
        assert group["data"].compression == "lzf"
        assert sorted(group["grid"]) == ["t", "x", "y"]
        assert yaml.safe_load(group.attrs["config"]) == {"nu": 1e-5}
    with h5py.File(write_pdebench(fluid(), tmp_path / "c.h5", "C"), "r") as file:
        assert file["velocity"].chunks == (1, 1, 4, 5, 2)
        assert file["particles"].shape == (3, 2, 4, 5, 1)
        assert file["t"].shape == (3, 2)
        assert file.attrs["latestIndex"] == 2


def test_vectors_become_channels_in_b(tmp_path):
    v = f4(2, 3, 4, 5, 2)
    source = from_arrays({"v": v}, axes=("sample", "time", "x", "y", "component"))
    notes = pdebench_notes(source.layout, PDEBenchLayout.B)
    assert notes == ("vectors and tensors become channels: v becomes v_x, v_y",)
    with read_pdebench(write_pdebench(source, tmp_path / "b.h5", "B")) as back:
        np.testing.assert_array_equal(back.read(0, 2)["v_y"], v[..., 1])


def test_what_does_not_fit_is_refused_before_a_file_appears(tmp_path):
    path = tmp_path / "x.h5"
    for source, layout, text in (
        (
            states(2, "float32", "u", "v"),
            "A",
            "made has 2 dimensions and u .scalar state., v .scalar state.; write layout B",
        ),
        (darcy(), "B", "coefficient, u is no state"),
        (states(3, "float32", "u"), "B", "it has 3 dimensions"),
        (states(2, "float32", "u"), "C", "layout C of PDEBench holds a flow in 2D"),
    ):
        with pytest.raises(DoesNotFit, match=text):
            write_pdebench(source, path, layout)
    with pytest.raises(ValueError, match="'D' is not a valid PDEBenchLayout"):
        write_pdebench(darcy(), path, "D")
    assert not list(tmp_path.iterdir())


def test_files_are_replaced_only_when_asked_and_only_by_whole_ones(tmp_path):
    path = write_pdebench(darcy(), tmp_path / "a.hdf5")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="choose another name"):
        write_pdebench(darcy(), path)
    broken = darcy()
    broken.read = lambda start, stop: 1 / 0
    with pytest.raises(ZeroDivisionError):
        write_pdebench(broken, path, overwrite=True)
    assert path.read_bytes() == before
    write_pdebench(darcy(), path, overwrite=True)
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_pdebench(darcy(), tmp_path / "no" / "a.hdf5")
    with pytest.raises(FileExistsError, match="is a folder: name a file in it"):
        write_pdebench(darcy(), tmp_path)


def test_notes_name_what_stays_behind():
    given = from_arrays(
        {"f": f4(4)},
        {"u": f4(2, 3, 4)},
        axes={"f": ("lat",), "u": ("sample", "time", "lat")},
        boundary=[("dirichlet", "neumann")],
    )
    notes = pdebench_notes(given.layout, PDEBenchLayout.A)
    assert notes == (
        "fields that all samples share have no place: f",
        "boundary conditions are not recorded: lat dirichlet/neumann",
        "the axes lat become x",
        "roles are not recorded: u is read as state, it is output",
    )
    assert pdebench_notes(states(1, "float32", "u").layout, PDEBenchLayout.A) == ()
