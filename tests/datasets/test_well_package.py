"""The package the_well, in an environment of its own, opens our files and returns our numbers."""

import os
import subprocess
import sys
import sysconfig
import venv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml

from solvus.datasets.formats.well import write_well
from solvus.datasets.generation.generate import Options, generate
from solvus.datasets.layout import Role
from solvus.datasets.loading.folder import FolderSource

pytestmark = pytest.mark.slow

LOADER = Path(__file__).parent / "programs" / "well_loader.py"
PACKAGES = ("the_well==1.2.0", "fsspec==2024.10.0", "einops>=0.8")
CODES = {"dirichlet": 0, "neumann": 0, "periodic": 2}


def command(*words, timeout=300):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(
        [*map(str, words)], capture_output=True, text=True, timeout=timeout, check=False, env=environment
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter with the_well; torch and h5py are those of this one."""
    root = tmp_path_factory.mktemp("the_well")
    venv.create(root, with_pip=False)
    python = root / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    place = Path(
        command(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").stdout.strip()
    )
    (place / "parent.pth").write_text(sysconfig.get_paths()["purelib"])
    done = command(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", place, *PACKAGES)
    if done.returncode:
        pytest.skip(f"pip cannot install {PACKAGES[0]}: {done.stderr.strip().splitlines()[-1]}")
    return python


def load(python, folder, split, tmp_path):
    """Return what the loader gives for one input step and one output step."""
    out = tmp_path / "loaded.npz"
    done = command(python, "-W", "ignore", LOADER, folder, split, out)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as loaded:
        return {name: loaded[name] for name in loaded.files}


def channels(layout, names, fields):
    """Lay fields out as the loader does: by channel, components named after the axes."""
    out = []
    for name in names:
        for variable in layout.variables:
            for part in product(range(layout.dim), repeat=variable.rank):
                word = "".join(layout.axes[i] for i in part)
                if name == (f"{variable.name}_{word}" if word else variable.name):
                    out.append(fields[variable.name][(..., *part)])
    assert len(out) == len(names)
    return np.stack(out, axis=-1)


def spread(layout, fields, samples):
    """Give every field all axes of space, and samples where it has none."""
    out = {}
    for v in layout.variables:
        array = fields[v.name] if v.sample_varying else np.broadcast_to(
            fields[v.name], (samples, *fields[v.name].shape)
        )  # fmt: skip
        lead = 1 + v.time_varying
        along = v.axes or layout.axes
        for k, axis in enumerate(layout.axes):
            if axis not in along:
                array = np.repeat(np.expand_dims(array, lead + k), layout.resolution[k], lead + k)
        out[v.name] = array
    return out


def compare(loaded, source, frames):
    """Compare what was loaded with a source, window by window."""
    layout, n = source.layout, source.samples
    fields = spread(layout, source.read(0, n), n)
    states = {v.name: fields[v.name] for v in layout.variables if v.time_varying}
    if layout.steady:
        states = {
            v.name: np.stack([fields[v.name]] * 2, 1) for v in layout.variables if v.role is not Role.INPUT
        }
    constant = {name: array for name, array in fields.items() if name not in states}
    everything = channels(layout, loaded["names"], states)
    windows = [(i, t) for i in range(n) for t in range(frames - 1)]
    assert len(loaded["input_fields"]) == len(windows)
    for k, (i, t) in enumerate(windows):
        assert np.array_equal(loaded["input_fields"][k][0], everything[i, t])
        assert np.array_equal(loaded["output_fields"][k][0], everything[i, t + 1])
        if constant:
            assert np.array_equal(
                loaded["constant_fields"][k], channels(layout, loaded["constant_names"], constant)[i]
            )
    grid = np.stack(np.meshgrid(*layout.coordinates, indexing="ij"), -1)
    np.testing.assert_allclose(loaded["space_grid"][0], grid, rtol=1e-6)
    if layout.boundary is not None:
        expected = [[CODES[side.value] for side in sides] for sides in layout.boundary]
        assert loaded["boundary_conditions"][0].tolist() == expected
    if layout.parameters:
        assert loaded["scalars"].tolist() == list(layout.parameters)
        np.testing.assert_allclose(loaded["constant_scalars"][0], list(layout.parameters.values()), rtol=1e-6)


@pytest.mark.parametrize("kind", ["line", "plane", "box", "double"])
def test_generated_folders(python, noise, layouts, tmp_path, kind):
    folder = tmp_path / kind
    generate(noise(layouts[kind]), 20, folder, workers=1, options=Options(shard=7))
    for split in ("train", "valid"):
        loaded = load(python, folder, split, tmp_path)
        with FolderSource(folder, split) as source:
            compare(loaded, source, len(source.layout.times))
            if split == "train":
                about = yaml.safe_load((folder / f"{kind}.yaml").read_text())
                assert [n for names in about["field_names"].values() for n in names] == loaded[
                    "names"
                ].tolist()
            changed = loaded["input_fields"].copy()
            changed.flat[-1] += 1
            with pytest.raises(AssertionError):
                compare({**loaded, "input_fields": changed}, source, len(source.layout.times))


def test_an_exported_steady_dataset(python, layouts, source_of, tmp_path):
    source = source_of(layouts["steady"], samples=4)
    (tmp_path / "steady/data/train").mkdir(parents=True)
    write_well(source, tmp_path / "steady/data/train/steady.hdf5")
    compare(load(python, tmp_path / "steady", "train", tmp_path), source, 2)


def test_a_folder_that_the_loader_refuses(python, layouts, source_of, tmp_path):
    """A steady state that stands once: too few steps. The comparison would notice that nothing was loaded."""
    (tmp_path / "steady/data/train").mkdir(parents=True)
    write_well(source_of(layouts["steady"]), tmp_path / "steady/data/train/a.hdf5", steady_as_pair=False)
    done = command(python, "-W", "ignore", LOADER, tmp_path / "steady", "train", tmp_path / "out.npz")
    assert done.returncode
    assert "is not enough steps" in done.stderr
