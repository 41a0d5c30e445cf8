"""COMSOL's text files: stationary and in time, and every way in which one can be damaged."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvus.solvers.pinn.problems import NoReference, base, reference_file
from solvus.solvers.pinn.problems.files import BadFile, read_comsol


def written(path, columns, rows, *, dim=2, nodes=None, head=("Model:              test.mph",)):
    lines = [f"% {line}" for line in head]
    lines += [
        f"% Dimension:          {dim}",
        f"% Nodes:              {len(rows) if nodes is None else nodes}",
    ]
    lines += ["% Description:        因变量 u", "% Length unit:        m", "% " + "    ".join(columns)]
    lines += ["    ".join(format(v, ".17g") for v in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_stationary(tmp_path):
    rows = [(0.0, 0.5, 1.0, -2.0), (1.0, 0.25, 3.0, 4.0)]
    table = read_comsol(written(tmp_path / "a.dat", ["x", "y", "u (m/s) @ Re=100", "p (Pa)"], rows))
    assert table.names == ("u", "p")
    assert table.times == ()
    np.testing.assert_array_equal(table.points, [[0, 0.5], [1, 0.25]])
    np.testing.assert_array_equal(table.values, [[1, -2], [3, 4]])


def test_times_become_a_coordinate(tmp_path):
    columns = ["X", "u (K) @ t=0", "v (K) @ t=0", "u (K) @ t=2.5E-1", "v (K) @ t=2.5E-1"]
    rows = [(0.0, 1, 2, 3, 4), (1.0, 5, 6, 7, 8)]
    table = read_comsol(written(tmp_path / "a.dat", columns, rows, dim=1))
    assert table.times == (0.0, 0.25)
    assert table.names == ("u", "v")
    np.testing.assert_array_equal(table.points, [[0, 0], [0, 0.25], [1, 0], [1, 0.25]])
    np.testing.assert_array_equal(table.values, [[1, 2], [3, 4], [5, 6], [7, 8]])


def test_rows_with_nan_are_dropped(tmp_path):
    rows = [(0.0, 0.0, 1.0), (0.5, 0.5, float("nan")), (1.0, 1.0, 2.0)]
    table = read_comsol(written(tmp_path / "a.dat", ["x", "y", "u"], rows))
    np.testing.assert_array_equal(table.values, [[1], [2]])


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.floats(0, 10, width=32), min_size=1, max_size=4, unique=True),
)
def test_round_trip(tmp_path_factory, dim, outputs, times):
    times = sorted(times)
    names = ["u", "v", "w"][:outputs]
    columns = ["x", "y", "z"][:dim] + [f"{n} (1) @ t={t!r}" for t in times for n in names]
    rows = np.random.default_rng(0).normal(size=(5, len(columns)))
    path = written(tmp_path_factory.mktemp("f") / "a.dat", columns, rows, dim=dim)
    table = read_comsol(path)
    assert table.times == tuple(times)
    assert table.points.shape == (5 * len(times), dim + 1)
    for i, row in enumerate(rows):
        part = slice(i * len(times), (i + 1) * len(times))
        np.testing.assert_array_equal(table.points[part, -1], times)
        np.testing.assert_array_equal(table.points[part, :-1], np.tile(row[:dim], (len(times), 1)))
        np.testing.assert_array_equal(table.values[part].ravel(), row[dim:])


@pytest.mark.parametrize(
    ("columns", "rows", "nodes", "says"),
    [
        (["x", "y", "u", "v"], [(0, 0, 1)], None, "names 4 columns and holds 3"),
        (["x", "y", "u"], [(0, 0, 1)], 2, "announces 2 nodes and holds 1"),
        (
            ["x", "y", "u @ t=0", "v @ t=0", "u @ t=1"],
            [(0, 0, 1, 1, 1)],
            None,
            "same expressions at one time",
        ),
        (["x", "y", "u @ t=0", "v"], [(0, 0, 1, 1)], None, "same expressions at one time"),
        (["x", "y", "u @ t=0", "v @ t=1"], [(0, 0, 1, 1)], None, "same expressions at one time"),
    ],
)
def test_damaged(tmp_path, columns, rows, nodes, says):
    with pytest.raises(BadFile, match=says):
        read_comsol(written(tmp_path / "a.dat", columns, rows, nodes=nodes))


def test_no_header(tmp_path):
    path = tmp_path / "plain.dat"
    path.write_text("0 0 1\n")
    with pytest.raises(BadFile, match="no line `% Dimension"):
        read_comsol(path)


def test_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("SOLVUS_REFERENCE", str(tmp_path))
    with pytest.raises(NoReference, match=r"where SOLVUS_REFERENCE=.* says to look: put the file") as error:
        reference_file("nothing.dat")
    assert f"not found in {tmp_path / 'pinnacle'}, " in str(error.value)
    monkeypatch.delenv("SOLVUS_REFERENCE")
    with pytest.raises(NoReference, match=r"SOLVUS_REFERENCE is not set, .*: set SOLVUS_REFERENCE") as error:
        reference_file("nothing.dat")
    for folder in Path(base.__file__).parents:  # all that were searched
        assert f"{folder}," in str(error.value) or f"{folder}:" in str(error.value)


@pytest.mark.parametrize(
    ("name", "points", "values", "times"),
    [
        ("poisson1_cg_data.dat", (1246, 2), (1246, 1), 0),
        ("poisson_boltzmann2d.dat", (3236, 2), (3236, 1), 0),
        ("lid_driven_a4.dat", (10201, 2), (10201, 3), 0),
        ("ns_0_obstacle.dat", (12910, 2), (12910, 3), 0),
        ("heat_longtime.dat", (192 * 501, 3), (192 * 501, 1), 501),
    ],
)
def test_the_files_of_pinnacle(reference, name, points, values, times):
    path = reference / "pinnacle" / name
    if not path.is_file():
        pytest.skip(f"{name} is not among the reference data")
    table = read_comsol(path)
    assert table.points.shape == points
    assert table.values.shape == values
    assert len(table.times) == times
    assert np.isfinite(table.values).all()
