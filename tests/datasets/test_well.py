"""Grid data survive the way to a file of The Well and back, to the bit; files of others are read."""

import hashlib

import h5py
import numpy as np
import pytest

from solvus.datasets.checking.check_folder import differences
from solvus.datasets.formats.well import GridStorage, ManyGrids, NotWell, WellFile, write_well
from solvus.datasets.formats.well_rules import check_schema
from solvus.datasets.layout import Layout, Role, Variable
from solvus.datasets.source import Source

KINDS = ("line", "plane", "box", "steady", "double")


def bits(source):
    """Fields of a source as bytes, with types and shapes."""
    return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in source.read(0, source.samples).items()}


@pytest.fixture
def written(layouts, source_of, tmp_path):
    """Function that writes a layout full of random numbers: (source, path)."""

    def write(kind, **options):
        source = source_of(layouts[kind])
        return source, write_well(source, tmp_path / f"{kind}.hdf5", **options)

    return write


@pytest.mark.parametrize(
    "options", [{}, {"compression": "gzip"}, {"compression": "lzf", "steady_as_pair": False}]
)
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_to_the_bit(written, kind, options):
    source, path = written(kind, **options)
    with WellFile(path) as file:
        assert file.samples == 3
        assert file.ids.tolist() == [0, 1, 2]
        assert file.status == ("ok",) * 3
        assert not differences(file.layout, source.layout)
        assert bits(file) == bits(source)
        middle = file.read(1, 2)
        assert {n: a.shape[0] for n, a in middle.items() if source.layout[n].sample_varying} == {
            v.name: 1 for v in source.layout.variables if v.sample_varying
        }
        for name, array in middle.items():
            whole = source.read(0, 3)[name]
            assert np.array_equal(array, whole[1:2] if source.layout[name].sample_varying else whole)


def test_a_changed_value_would_be_seen(written):
    source, path = written("line")
    with h5py.File(path, "r+") as file:
        file["t0_fields/u"][1, 2, 3] += np.float32(1e-7)
    with WellFile(path) as file:
        assert bits(file) != bits(source)


@pytest.mark.parametrize("kind", KINDS)
def test_files_keep_the_rules_and_do_not_depend_on_the_day(written, source_of, layouts, tmp_path, kind):
    _, path = written(kind)
    with h5py.File(path) as file:
        assert check_schema(file) == []
    again = write_well(source_of(layouts[kind]), tmp_path / "again.h5")
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(again.read_bytes()).digest()


def test_what_lies_in_a_file(written):
    """Names, shapes, flags, chunks and checksums, as another program finds them."""
    _, path = written("plane")
    with h5py.File(path) as file:
        assert dict(file.attrs)["n_trajectories"] == 3
        assert file.attrs["simulation_parameters"].tolist() == ["viscosity", "speed"]
        assert file["scalars/viscosity"][()] == np.float32(0.1)
        assert file.attrs["viscosity"] == 0.1
        assert [list(file[f"t{rank}_fields"].attrs["field_names"]) for rank in range(3)] == [
            ["density", "conductivity", "obstacle", "profile"],
            ["velocity", "forcing"],
            ["stress"],
        ]
        shapes = {
            name: file[f"t{rank}_fields"][name].shape for rank in range(3) for name in file[f"t{rank}_fields"]
        }
        assert shapes["stress"] == (3, 4, 6, 5, 2, 2)
        assert shapes["obstacle"] == (6, 5)
        assert shapes["profile"] == (3, 5)
        assert shapes["forcing"] == (4, 6, 5, 2)
        density = file["t0_fields/density"]
        assert density.chunks == (1, 1, 6, 5)
        assert density.fletcher32
        assert density.compression is None
        assert np.isnan(density.fillvalue)
        assert file["dimensions/x"].dtype == np.float32
        assert file["coordinates/x"].dtype == np.float64
        kinds = {name: group.attrs["bc_type"] for name, group in file["boundary_conditions"].items()}
        assert kinds == {"x_wall": "WALL", "y_periodic": "PERIODIC"}
        assert dict(file["boundary_conditions_ext/x"].attrs) == {"low": "dirichlet", "high": "neumann"}
        assert file["boundary_conditions/x_wall/mask"][()].tolist() == [
            True,
            False,
            False,
            False,
            False,
            True,
        ]


def test_a_steady_state_stands_once_or_twice(written):
    source, path = written("steady")
    with h5py.File(path) as file:
        assert file.attrs["steady"]
        assert file["dimensions/time"].shape == (2,)
        assert file["t0_fields/k"].shape == (3, 5, 4)
        both = file["t0_fields/u"][()]
        assert both.shape == (3, 2, 5, 4)
        assert np.array_equal(both[:, 0], both[:, 1])
    written("steady", steady_as_pair=False, overwrite=True)
    with h5py.File(path) as file:
        assert file["t0_fields/u"].shape == (3, 1, 5, 4)
    with WellFile(path) as file:
        assert file.steady
        assert file.layout.steady
        assert bits(file) == bits(source)


def strip(path):
    """Turn a file of ours into one that any program could have written."""
    with h5py.File(path, "r+") as file:
        for name in ("coordinates", "boundary_conditions_ext", "provenance"):
            if name in file:
                del file[name]
        for key in ("steady", "format", "format_version"):
            del file.attrs[key]
        for rank in range(3):
            for field in file[f"t{rank}_fields"].values():
                for key in ("role", "meaning", "number", "axes"):
                    del field.attrs[key]


def test_roles_in_other_files_are_read_off_the_axes(written):
    source, path = written("plane")
    strip(path)
    with WellFile(path) as file:
        roles = {v.name: v.role for v in file.layout.variables}
        assert roles["velocity"] is Role.STATE
        assert roles["obstacle"] is Role.INPUT
        assert file.layout["profile"].axes == ("y",)
        assert file.layout.boundary is None
        assert file.layout.parameters == {"viscosity": 0.1, "speed": 3.0}
        assert {n: a[1:] for n, a in bits(file).items()} == {n: a[1:] for n, a in bits(source).items()}
        np.testing.assert_allclose(file.layout.coordinates[0], source.layout.coordinates[0], rtol=1e-7)


def test_periodic_boxes_are_known_in_other_files(written):
    source, path = written("line")
    strip(path)
    with WellFile(path) as file:
        assert file.layout.boundary == source.layout.boundary


def test_one_time_in_another_file_makes_it_steady(written):
    source, path = written("steady", steady_as_pair=False)
    strip(path)
    with WellFile(path) as file:
        assert file.layout.steady
        assert {v.name: v.role for v in file.layout.variables} == {
            v.name: v.role for v in source.layout.variables
        }


@pytest.mark.parametrize("name", ["time", "x"])
def test_positions_per_sample(written, name):
    source, path = written("line")
    strip(path)

    def replace(values):
        with h5py.File(path, "r+") as file:
            old = file["dimensions"][name]
            flags = dict(old.attrs) | {"sample_varying": True}
            del file["dimensions"][name]
            file["dimensions"][name] = values
            file["dimensions"][name].attrs.update(flags)

    same = np.tile(np.linspace(0, 1, 4 if name == "time" else 9), (3, 1))
    replace(same)
    with h5py.File(path) as file:
        assert check_schema(file) == []
    with WellFile(path) as file:
        assert bits(file) == bits(source)
    replace(same + np.arange(3)[:, None])
    with pytest.raises(ManyGrids, match=f"different values of '{name}'.*split the file"):
        WellFile(path)


def test_a_field_that_is_the_same_everywhere_is_spread_out(written):
    _, path = written("line")
    strip(path)
    with h5py.File(path, "r+") as file:
        group = file["t0_fields"]
        gravity = group.create_dataset("gravity", data=np.array([1.0, 2.0, 3.0], dtype="f4"))
        gravity.attrs.update(
            {"sample_varying": True, "time_varying": False, "dim_varying": np.array([False])}
        )
        group.attrs.create("field_names", np.array(["u", "gravity"], dtype=object), dtype=h5py.string_dtype())
        assert check_schema(file) == []
    with WellFile(path) as file:
        assert file.read(1, 3)["gravity"].tolist() == [[2.0] * 9, [3.0] * 9]


def test_scalars_that_vary_are_beside_the_layout(written):
    _, path = written("plane")
    with h5py.File(path, "r+") as file:
        scalars = file["scalars"]
        scalars["reynolds"] = np.array([1.0, 2.0, 3.0])
        scalars["reynolds"].attrs.update({"sample_varying": True, "time_varying": False})
        names = np.array(["viscosity", "speed", "reynolds"], dtype=object)
        scalars.attrs.create("field_names", names, dtype=h5py.string_dtype())
    with WellFile(path) as file:
        assert list(file.layout.parameters) == ["viscosity", "speed"]
        assert {n: a.tolist() for n, a in file.varying_scalars().items()} == {"reynolds": [1.0, 2.0, 3.0]}


def test_failed_samples_stay_nan_and_keep_their_status(layouts, source_of, tmp_path):
    source, path = source_of(layouts["line"]), tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        storage = GridStorage(source.layout)
        storage.allocate(file, 3)
        for i in (0, 2):
            storage.put(file, i, {"u": source.read(i, i + 1)["u"][0]})
        file["provenance/sample_id"] = np.array([7, 8, 9])
        file["provenance/status"] = ["ok", "failed: it broke", "ok"]
    with WellFile(path) as shard:
        assert shard.ids.tolist() == [7, 8, 9]
        assert shard.status == ("ok", "failed: it broke", "ok")
        assert np.isnan(shard.read(1, 2)["u"]).all()
        copy = write_well(shard, tmp_path / "b.hdf5", attributes={"license": "CC0-1.0"})
        with WellFile(copy) as second:
            assert second.status == shard.status
            assert second.ids.tolist() == [7, 8, 9]
            assert bits(second) == bits(shard)
            assert second.extras() == {"license": "CC0-1.0"}


def put(layouts, kind="plane", **changes):
    """Write one sample with some fields changed, then a second one that is right."""
    layout = layouts[kind]
    right = {v.name: np.ones(layout.shape(v.name)) for v in layout.variables}
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
        GridStorage(layout).allocate(file, 2)
        GridStorage(layout).put(file, 0, right)
        GridStorage(layout).put(file, 1, {**right, **changes})


def test_a_sample_in_another_form_is_refused_by_axis(layouts):
    with pytest.raises(ValueError, match=r"density has the shape \(time 4, x 6, y 4\).*wrong along y"):
        put(layouts, density=np.ones((4, 6, 4)))
    with pytest.raises(
        ValueError, match=r"velocity has 3 axes \(4, 6, 5\), needed are 4: \(time 4.*component 2\)"
    ):
        put(layouts, velocity=np.ones((4, 6, 5)))
    with pytest.raises(KeyError, match=r"the fields of plane are stress.*given: .*height"):
        put(layouts, height=np.ones(3))
    with pytest.raises(ValueError, match=r"obstacle is the same for all samples .* sample 1 has other"):
        put(layouts, obstacle=np.zeros((6, 5)))
    with pytest.raises(OverflowError, match="density exceeds float32: store it as float64"):
        put(layouts, density=np.full((4, 6, 5), 1e39))
    put(layouts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"steady": 1.0}}, "the format uses steady itself"),
        ({"axes": ("time",)}, "the format uses time itself"),
        ({"dtype": "float16"}, "float32 or float64, got 'float16'"),
    ],
)
def test_names_and_types_that_cannot_be_stored(change, message):
    settings = {"name": "a", "axes": ("x",), "coordinates": (np.arange(3.0),), "times": np.zeros(1)}
    layout = Layout(**{**settings, "variables": (Variable("u"),), **change})
    with pytest.raises(ValueError, match=message):
        GridStorage(layout)


def test_settings_of_the_storage(layouts):
    with pytest.raises(ValueError, match="compression is None, 'gzip' or 'lzf', got 'zip'"):
        GridStorage(layouts["line"], "zip")
    with pytest.raises(ValueError, match="stored 1 or 2 times, got 3"):
        GridStorage(layouts["line"], steady_frames=3)
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file, pytest.raises(ValueError):
        GridStorage(layouts["line"]).allocate(file, 0)
    assert GridStorage(layouts["line"]).bytes_per_sample() == 4 * 4 * 9
    assert GridStorage(layouts["steady"], steady_frames=2).bytes_per_sample() == 4 * 20 * (1 + 2 + 4)


class Breaking(Source):
    """A source that cannot be read."""

    def __init__(self, layout):
        self.layout, self.samples = layout, 3

    def read(self, start, stop):
        raise OSError("the disk is gone")


def test_a_failed_write_leaves_nothing_and_an_old_file_alone(layouts, source_of, tmp_path):
    good, path = source_of(layouts["line"]), tmp_path / "a.hdf5"
    write_well(good, path)
    content = path.read_bytes()
    with pytest.raises(FileExistsError, match="choose another name"):
        write_well(good, path)
    with pytest.raises(OSError, match="the disk is gone"):
        write_well(Breaking(good.layout), path, overwrite=True)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["a.hdf5"]


def test_what_is_no_file_of_the_well_is_told(written, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file at"):
        WellFile(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(NotWell, match="is no HDF5 file"):
        WellFile(tmp_path / "text.h5")
    _, path = written("line")
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(NotWell, match="is damaged, for example cut off"):
        WellFile(tmp_path / "cut.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.ones(3)
    with pytest.raises(NotWell, match="does not follow The Well's schema, `solvus check` says where"):
        WellFile(tmp_path / "other.h5")
    with (
        WellFile(path) as file,
        pytest.raises(IndexError, match=r"line.hdf5 holds 3 samples, asked for 2 to 4"),
    ):
        file.read(2, 4)


def test_a_damaged_chunk_is_an_error_not_a_number(written):
    _, path = written("line")
    with h5py.File(path) as file:
        where = file["t0_fields/u"].id.get_chunk_info_by_coord((1, 2, 0)).byte_offset
    content = bytearray(path.read_bytes())
    content[where + 5] ^= 1
    path.write_bytes(content)
    with WellFile(path) as file:
        file.read(0, 1)
        with pytest.raises(OSError, match="u is damaged, copy or generate the file again"):
            file.read(1, 2)
