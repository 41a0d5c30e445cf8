"""Files that break one rule each: the check names the object at fault, and what is needed."""

import shutil

import h5py
import numpy as np
import pytest

from solvus.datasets.checking.check import Fault, check
from solvus.datasets.formats.well import write_well

STRING = h5py.string_dtype()
WALL = "boundary_conditions/x_wall"
DENSITY = "t0_fields/density"
EXT = "boundary_conditions_ext"
BOTH = ("dimensions", "coordinates")


def drop(name):
    def change(file):
        del file[name]

    return change


def attribute(thing, key, value, dtype=None):
    def change(file):
        del file[thing].attrs[key]
        file[thing].attrs.create(key, value, dtype=dtype)

    return change


def words(*values):
    return np.array(values, dtype=object)


def replace(name, values):
    """Put other values in the place of a dataset, with the attributes of the old one."""

    def change(file):
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = values
        file[name].attrs.update(attributes)

    return change


def poke(name, index, value):
    def change(file):
        file[name][index] = value

    return change


def move(axis, index, value):
    """Change coordinates in both places where they stand."""
    return lambda file: [poke(f"{group}/{axis}", index, value)(file) for group in BOTH]


def name_twice(file):
    file.copy("t0_fields/obstacle", "t1_fields/density")
    attribute("t1_fields", "field_names", words("velocity", "forcing", "density"), STRING)(file)


# every attribute without which an object is not understood
ATTRIBUTES = [
    *(("/", key) for key in ("dataset_name", "grid_type", "n_spatial_dims", "n_trajectories")),
    ("/", "simulation_parameters"),
    ("dimensions", "spatial_dims"),
    *((f"t{rank}_fields", "field_names") for rank in range(3)),
    ("scalars", "field_names"),
    *(
        (f"dimensions/{axis}", flag)
        for axis in ("time", "x", "y")
        for flag in ("sample_varying", "time_varying")
    ),
    *((DENSITY, key) for key in ("sample_varying", "time_varying", "dim_varying")),
    *(("t2_fields/stress", key) for key in ("symmetric", "antisymmetric")),
    *(("scalars/viscosity", key) for key in ("sample_varying", "time_varying")),
    *(
        (WALL, key)
        for key in ("bc_type", "sample_varying", "time_varying", "associated_dims", "associated_fields")
    ),
]
GROUPS = ("dimensions", "boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields")
MISSING = "is missing"

# change, where the fault is, what is said of it
SCHEMA = {
    **{f"no {where} @{key}": ((where, key), f"{where} @{key}", MISSING) for where, key in ATTRIBUTES},
    **{f"no {group}": (drop(group), group, "The Well needs it, even when it is empty") for group in GROUPS},
    "name as bytes": (
        attribute("/", "dataset_name", np.bytes_("a")), "/ @dataset_name", "needed is a string",
    ),
    "grid type": (
        attribute("/", "grid_type", "polar"), "/ @grid_type", "needed is one of cartesian, spherical",
    ),
    "number of axes": (
        attribute("/", "n_spatial_dims", 3), "dimensions @spatial_dims", "n_spatial_dims is 3",
    ),
    "number of samples": (attribute("/", "n_trajectories", 4), DENSITY, "needed is (sample 4"),
    "samples as float": (attribute("/", "n_trajectories", 3.0), "/ @n_trajectories", "needed is an integer"),
    "no samples": (attribute("/", "n_trajectories", 0), "/ @n_trajectories", "1 or more"),
    "parameters as numbers": (
        attribute("/", "simulation_parameters", np.zeros(0)), "/ @simulation_parameters",
        "an empty one must be",
    ),
    "parameter not an attribute": (("/", "viscosity"), "/ @viscosity", "add its value"),
    "parameter not a scalar": (drop("scalars/viscosity"), "scalars/viscosity", "no such dataset: add one"),
    "no axes": (
        attribute("dimensions", "spatial_dims", words(), STRING), "dimensions @spatial_dims", "no axis",
    ),
    "no time": (drop("dimensions/time"), "dimensions/time", "missing: add the coordinates"),
    "no y": (drop("dimensions/y"), "dimensions/y", "missing: add the coordinates"),
    "time that does not vary": (
        attribute("dimensions/time", "time_varying", False), "dimensions/time @time_varying",
        "needed is True",
    ),
    "axis that moves": (
        attribute("dimensions/x", "time_varying", True), "dimensions/x @time_varying", "grids that move",
    ),
    "flag as integer": (
        attribute("dimensions/x", "sample_varying", 0), "dimensions/x @sample_varying", "needed is a boolean",
    ),
    "axis of another length": (replace("dimensions/x", np.linspace(0, 1, 7)), DENSITY, "wrong along x"),
    "time of another length": (replace("dimensions/time", np.arange(5.0)), DENSITY, "wrong along time"),
    "coordinates in a plane": (
        replace("dimensions/x", np.ones((2, 6))), "dimensions/x", "needed are 1: (x 6)",
    ),
    "integer coordinates": (replace("dimensions/x", np.arange(6)), "dimensions/x", "has the type int64"),
    "field_names as numbers": (
        attribute("t1_fields", "field_names", np.zeros(0)), "t1_fields @field_names", "an empty one must be",
    ),
    "field not listed": (
        attribute("t2_fields", "field_names", words(), STRING), "t2_fields/stress", "nobody reads it",
    ),
    "field not there": (drop("t2_fields/stress"), "t2_fields/stress", "lists it, there is no such dataset"),
    "dim_varying too short": (
        attribute(DENSITY, "dim_varying", np.array([True])), f"{DENSITY} @dim_varying", "one for each axis",
    ),
    "dim_varying as integers": (
        attribute(DENSITY, "dim_varying", np.ones(2, int)), f"{DENSITY} @dim_varying",
        "needed are 2 booleans",
    ),
    "axes swapped": (replace(DENSITY, np.ones((3, 4, 5, 6), "f4")), DENSITY, "wrong along x, y"),
    "fewer samples": (replace(DENSITY, np.ones((2, 4, 6, 5), "f4")), DENSITY, "wrong along sample"),
    "tensor as D^2": (
        replace("t2_fields/stress", np.ones((3, 4, 6, 5, 4), "f4")), "t2_fields/stress",
        "component 2, component 2",
    ),
    "integer field": (replace(DENSITY, np.ones((3, 4, 6, 5), int)), DENSITY, "needed is float32 or float64"),
    "one name twice": (name_twice, "t1_fields/density", "t0_fields has a field of that name"),
    "scalar with an axis": (
        replace("scalars/viscosity", np.ones(3)), "scalars/viscosity", "has 1 axes (3,), needed are 0",
    ),
    "DIRICHLET": (
        attribute(WALL, "bc_type", "DIRICHLET"), f"{WALL} @bc_type", "needed is one of PERIODIC, WALL, OPEN",
    ),
    "condition on no axis": (
        attribute(WALL, "associated_dims", words(), STRING), f"{WALL} @associated_dims", "names no axis",
    ),
    "condition on an unknown axis": (
        attribute(WALL, "associated_dims", words("r"), STRING), f"{WALL} @associated_dims",
        "names r; the axes are",
    ),
    "condition on an unknown field": (
        attribute(WALL, "associated_fields", words("T"), STRING), f"{WALL} @associated_fields",
        "no such field",
    ),
    "condition that is no group": (
        lambda file: file.create_dataset("boundary_conditions/all", data=1.0), "boundary_conditions/all",
        "no group",
    ),
    "no mask": (drop(f"{WALL}/mask"), f"{WALL}/mask", "missing: booleans"),
    "mask of another shape": (replace(f"{WALL}/mask", np.ones(5, bool)), f"{WALL}/mask", "wrong along x"),
    "mask of numbers": (replace(f"{WALL}/mask", np.ones(6)), f"{WALL}/mask", "needed are booleans"),
}  # fmt: skip

CONTENT = {
    "NaN": (poke(DENSITY, (1, 2, 3, 4), np.nan), DENSITY, "1 sample (1): NaN"),
    "infinite": (poke("t1_fields/velocity", (2, 0, 0, 0, 1), np.inf), "t1_fields/velocity", "(2): infinite"),
    "NaN in a shared field": (
        poke("t0_fields/obstacle", (0, 0), np.nan), "t0_fields/obstacle", "NaN, though",
    ),
    "uneven": (move("x", 1, 0.21), "coordinates/x", "is not even: steps from"),
    "sorted the wrong way": (move("y", ..., np.linspace(1, 0, 5)), "coordinates/y", "sort the axis"),
    "times that stand still": (move("time", ..., 0.0), "coordinates/time", "does not increase"),
    "coordinates NaN": (move("x", 2, np.nan), "coordinates/x", "not finite"),
    "two opinions": (
        poke("coordinates/x", ..., np.linspace(0, 2, 6)), "coordinates/x", "differs from dimensions",
    ),
    "no exact coordinates": (drop("coordinates/x"), "coordinates/x", MISSING),
    "no provenance": (drop("provenance"), "provenance", "nothing tells which samples these are"),
    "no ids": (drop("provenance/sample_id"), "provenance/sample_id", "one value per sample"),
    "no status": (drop("provenance/status"), "provenance/status", "one value per sample"),
    "ids twice": (poke("provenance/sample_id", 1, 0), "provenance/sample_id", "an id stands twice"),
    "too few ids": (replace("provenance/sample_id", np.arange(2)), "provenance/sample_id", "are 3 samples"),
    "unknown status": (poke("provenance/status", 1, "fine"), "provenance/status", "'fine', needed is 'ok'"),
    "values of a failed sample": (
        poke("provenance/status", 1, "failed: no"), DENSITY, "status says that it failed",
    ),
    "unknown condition": (attribute(f"{EXT}/x", "low", "slip"), f"{EXT}/x", "needed are two of"),
    "contradiction": (attribute(f"{EXT}/y", "low", "dirichlet"), f"{EXT}/y", "contradicts"),
    "no true condition": (drop(f"{EXT}/y"), f"{EXT}/y", "one group per axis"),
    "config that is no JSON": (
        lambda file: file.attrs.create("config_json", "{"), "/ @config_json", "is not valid JSON",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """A sound file of every kind of field."""
    return tmp_path_factory.mktemp("check") / "plane.hdf5"


@pytest.fixture
def broken(plane, layouts, source_of, tmp_path):
    """Function that returns a sound file after a change: a function, or an attribute to remove."""
    if not plane.exists():
        write_well(source_of(layouts["plane"]), plane)

    def change(action):
        path = tmp_path / "plane.hdf5"
        shutil.copy(plane, path)
        with h5py.File(path, "r+") as file:
            if callable(action):
                action(file)
            else:
                del file[action[0]].attrs[action[1]]
        return path

    return change


@pytest.mark.parametrize("name", SCHEMA)
def test_a_broken_rule_is_named(broken, name):
    change, where, what = SCHEMA[name]
    for deep in (True, False):
        faults = check(broken(change), deep)
        assert [f for f in faults if f.where == f"plane.hdf5: {where}" and what in f.what], faults


@pytest.mark.parametrize("name", CONTENT)
def test_wrong_content_is_named_and_nothing_else(broken, name):
    change, where, what = CONTENT[name]
    faults = check(broken(change))
    assert [f for f in faults if f.where == f"plane.hdf5: {where}" and what in f.what], faults
    others = {f.where.split(": ")[1] for f in faults} - {where}
    assert len(others) == 0 or name == "values of a failed sample", faults


def test_all_faults_are_listed_not_the_first(broken):
    def wreck(file):
        for name in ("no t2_fields", "DIRICHLET", "grid type", "mask of numbers"):
            SCHEMA[name][0](file)
        for name in ("NaN", "two opinions", "unknown status"):
            CONTENT[name][0](file)

    found = " | ".join(map(str, check(broken(wreck))))
    for word in ("t2_fields", "'DIRICHLET'", "polar", "needed are booleans", "NaN", "'fine'"):
        assert word in found


def test_where_a_value_is_wrong_is_said(broken):
    (fault,) = check(broken(poke("t0_fields/density", (1, 2, 3, 4), np.nan)))
    assert "first at (2, 3, 4)" in fault.what
    assert check(broken(poke("t0_fields/density", (1, 2, 3, 4), np.nan)), deep=False) == ()


def test_a_steady_state_that_moves(layouts, source_of, tmp_path):
    path = write_well(source_of(layouts["steady"]), tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["t0_fields/u"][1, 1, 0, 0] += 1
    (fault,) = check(path)
    assert fault.where == "a.h5: t0_fields/u"
    assert "1 sample (1): differs between the times of a steady state" in fault.what


def test_files_of_others_get_notes_where_ours_get_faults(broken):
    def strip(file):
        for name in ("coordinates", "boundary_conditions_ext", "provenance"):
            del file[name]
        for key in ("format", "steady"):
            del file.attrs[key]
        file["dimensions/x"][1] = 0.21

    faults = check(broken(strip))
    assert all(fault.note for fault in faults)
    assert {fault.where.split(": ")[1] for fault in faults} == {"dimensions/x", "provenance"}


def test_damage_is_found(plane, broken, tmp_path):
    broken(lambda file: None)
    content = plane.read_bytes()
    with h5py.File(plane) as file:
        chunk = file["t1_fields/velocity"].id.get_chunk_info_by_coord((2, 1, 0, 0, 0)).byte_offset
        whole = file["coordinates/x"].id.get_offset()
    assert whole
    path = tmp_path / "damaged.hdf5"
    path.write_bytes(content[:chunk] + bytes([content[chunk] ^ 4]) + content[chunk + 1 :])
    (fault,) = check(path)
    assert fault.where == "damaged.hdf5: t1_fields/velocity"
    assert "1 sample (2): damaged: its checksum is wrong" in fault.what
    for cut in (0, 3, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        assert check(path), cut
    path.write_text("not HDF5")
    assert "is no HDF5 file" in check(path)[0].what


def test_no_damage_makes_the_check_itself_fail(plane, broken, tmp_path):
    broken(lambda file: None)
    content, generator = plane.read_bytes(), np.random.default_rng(0)
    path = tmp_path / "flipped.hdf5"
    for _ in range(60):
        flipped = bytearray(content)
        for where in generator.integers(0, 12_000, size=3):  # the head of the file: structure, not values
            flipped[where] ^= int(generator.integers(1, 256))
        path.write_bytes(flipped)
        assert all(isinstance(fault, Fault) for fault in check(path))
