"""Statistics of the train split: right, the same to the bit however files are cut, free of failed samples."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.datasets.formats.arrays import ArraySource
from solvus.datasets.generation.generate import Options, generate
from solvus.datasets.generation.statistics import moments, statistics_of, write_statistics
from solvus.datasets.layout import Layout, Variable
from solvus.datasets.loading.folder import FolderSource


@pytest.mark.parametrize("kind", ["line", "plane", "box", "steady", "double"])
def test_numbers_are_those_of_numpy(layouts, source_of, kind):
    source = source_of(layouts[kind], samples=5)
    found = statistics_of(source)
    for variable in source.layout.variables:
        values = source.read(0, 5)[variable.name].astype(np.float64)
        axes = tuple(range(values.ndim - variable.rank))
        expected = {
            "mean": values.mean(axes),
            "std": values.std(axes),
            "rms": np.sqrt((values**2).mean(axes)),
        }
        if variable.time_varying:
            steps = np.diff(values, axis=int(variable.sample_varying))
            expected |= {"mean_delta": steps.mean(axes), "std_delta": steps.std(axes)}
            expected |= {"rms_delta": np.sqrt((steps**2).mean(axes))}
        got = {key: found[key][variable.name] for key in found if variable.name in found[key]}
        assert set(got) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(
                got[key], value, rtol=1e-12, atol=1e-14, err_msg=f"{variable.name} {key}"
            )
            assert np.shape(got[key]) == (source.layout.dim,) * variable.rank


def test_a_large_mean_does_not_eat_the_deviation():
    layout = Layout("a", ("x",), (np.arange(4.0),), np.zeros(1), (Variable("u"),), dtype="float64")
    values = 1e9 + np.array([[0.0, 1, 2, 3], [4, 5, 6, 7]])
    found = statistics_of(ArraySource(layout, {"u": values}))
    assert found["std"]["u"] == pytest.approx(np.std(np.arange(8)), rel=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12), st.integers(1, 11))
@settings(max_examples=50, deadline=None)
def test_parts_add_up(values, cut):
    array = np.array(values)
    cut = min(cut, len(values) - 1)
    both, whole = moments(array[:cut], 0) + moments(array[cut:], 0), moments(array, 0)
    assert both.count == whole.count
    np.testing.assert_allclose(both.mean, whole.mean, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(both.squares, whole.squares, rtol=1e-9, atol=1e-6)


def test_values_that_are_not_finite_are_refused(layouts, source_of):
    source = source_of(layouts["line"])
    array = source.read(0, 3)["u"].copy()
    array[1, 1, 1] = np.nan
    with pytest.raises(ValueError, match="u has values that are not finite: `solvus check` says where"):
        statistics_of(ArraySource(source.layout, {"u": array}))


def made(noise, layout, out, shard, fail_below=0.0):
    options = Options(shard=shard, max_failed=0.9)
    generate(noise(layout, fail_below), 20, out, seed=3, workers=1, options=options)
    return out


@pytest.mark.parametrize("kind", ["line", "plane"])
def test_the_files_do_not_change_the_statistics(noise, layouts, tmp_path, kind):
    contents = [
        (made(noise, layouts[kind], tmp_path / str(shard), shard, 0.1) / "stats.yaml").read_bytes()
        for shard in (1, 3, 20)
    ]
    assert len(set(contents)) == 1


def test_only_sound_samples_of_the_train_split_count(noise, layouts, tmp_path):
    folder = made(noise, layouts["line"], tmp_path / "a", 4, fail_below=0.3)
    with FolderSource(folder, "train") as source:
        train = source.read(0, source.samples)["u"].astype(np.float64)
        assert len(source.failed) > 0
    with FolderSource(folder) as source:
        everything = source.read(0, source.samples)["u"].astype(np.float64)
    mean = yaml.safe_load((folder / "stats.yaml").read_text())["mean"]["u"]
    assert mean == pytest.approx(train.mean(), rel=1e-13)
    assert abs(mean - everything.mean()) > 1e-6


def test_what_the_files_say(noise, layouts, tmp_path):
    folder = made(noise, layouts["plane"], tmp_path / "a", 8)
    stats = yaml.safe_load((folder / "stats.yaml").read_text())
    assert list(stats) == ["mean", "std", "rms", "mean_delta", "std_delta", "rms_delta"]
    assert np.shape(stats["mean"]["stress"]) == (2, 2)
    assert "conductivity" not in stats["mean_delta"]
    about = yaml.safe_load((folder / "plane.yaml").read_text())
    assert about == {
        "dataset_name": "plane",
        "n_spatial_dims": 2,
        "grid_type": "cartesian",
        "spatial_resolution": [6, 5],
        "scalar_names": [],
        "constant_scalar_names": ["viscosity", "speed"],
        "field_names": {
            0: ["density"],
            1: ["velocity_x", "velocity_y", "forcing_x", "forcing_y"],
            2: ["stress_xx", "stress_xy", "stress_yx", "stress_yy"],
        },
        "constant_field_names": {0: ["conductivity", "obstacle", "profile"], 1: [], 2: []},
        "boundary_condition_types": ["PERIODIC", "WALL"],
        "n_files": 2,
        "n_trajectories_per_file": [8, 8],
        "n_steps_per_trajectory": [4, 4],
    }
    (folder / "stats.yaml").unlink()
    assert write_statistics(folder).read_text().startswith("# statistics of the train split")


def test_nearly_constant_fields_are_named(noise, tmp_path):
    layout = Layout(
        "flat",
        ("x",),
        (np.arange(5.0),),
        np.arange(3.0),
        (Variable("u", time_varying=True), Variable("still")),
    )

    class Flat(noise):
        def draw(self, generator):
            return {**super().draw(generator), "still": np.full(5, 2.0)}

    generate(Flat(layout), 10, tmp_path / "a", workers=1)
    comments = [line for line in (tmp_path / "a/stats.yaml").read_text().splitlines() if line.startswith("#")]
    assert comments[1] == "# std at most 0.0001, by which The Well's loader divides then: still"
    assert len(comments) == 2
