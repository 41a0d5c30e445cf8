"""Generation: what is made, what is recorded, what is refused, what is picked up again."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from solvus.datasets.generation import generate as module
from solvus.datasets.generation import shard as shard_module
from solvus.datasets.generation.card import Preset
from solvus.datasets.generation.generate import Options, generate
from solvus.datasets.generation.manifest import read_manifest
from solvus.datasets.generation.plan import Plan
from solvus.datasets.generation.shard import generator_of, judged
from solvus.datasets.generation.tally import Standing, Tally, TooManyFailed
from solvus.datasets.recipe import Solved
from solvus.datasets.recipes.registry import recipe_named
from solvus.datasets.recipes.transport import advection

PROGRAMS = Path(__file__).parent / "programs"
sys.path.insert(0, str(PROGRAMS))

from toy_recipe import Toy, listed, some_bad, sums  # noqa: E402

HERE = {"workers": 1}


@pytest.fixture
def made(tmp_path):
    """A finished dataset with a failed sample."""
    generate(some_bad(), 20, tmp_path / "made", **HERE)
    return tmp_path / "made"


class TestWhatIsMade:
    def test_every_sample_is_there_and_says_what_became_of_it(self, made):
        manifest = read_manifest(made)
        assert manifest.complete
        assert listed(made) == sums(made)
        assert 0 < len(manifest.failed) < 5
        for shard in manifest.shards:
            with h5py.File(manifest.path(shard)) as file:
                assert tuple(file["provenance/sample_id"]) == shard.ids
                assert tuple(file["provenance/status"].asstr()) == shard.status
                np.testing.assert_array_equal(file["provenance/residual"], shard.residual)
                assert tuple(file["provenance/steps"]) == shard.steps
                for k, i in enumerate(shard.ids):
                    a = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(i,))).uniform(size=8)
                    failed = a[0] < 0.1
                    assert (i in manifest.failed) == failed
                    assert shard.status[k] == (f"failed: {a[0]:.3f} is too small" if failed else "ok")
                    expected = np.full(8, np.nan) if failed else a
                    np.testing.assert_array_equal(file["a"][k], expected.astype("f4"))

    def test_files_say_how_they_were_made_and_not_when(self, made):
        manifest = read_manifest(made)
        with h5py.File(manifest.path(manifest.shards[0])) as file:
            attributes = dict(file.attrs)
        assert attributes["format"] == "solvus shard"
        assert json.loads(attributes["config_json"])["size"] == 8
        assert json.loads(attributes["software_json"])["torch"] == torch.__version__
        assert attributes["seed_root"] == 0
        assert not any("utc" in key or "time" in key for key in attributes)

    def test_splits_are_ranges_and_no_file_crosses_them(self, tmp_path):
        manifest = generate(Toy(), 64, tmp_path / "d", **HERE)
        assert manifest.config["splits"] == {"train": [0, 51], "valid": [51, 57], "test": [57, 64]}
        assert len(manifest.shards) == 17
        for split, (start, stop) in manifest.config["splits"].items():
            ids = [i for shard in manifest.of(split) for i in shard.ids]
            assert ids == list(range(start, stop))
            assert all(s.shard.startswith(f"data/{split}/toy-{split}-") for s in manifest.of(split))

    def test_nothing_else_is_left_behind(self, made):
        names = {p.name for p in made.iterdir()}
        assert names == {"README.md", "data", "dataset.json", "manifest.jsonl"}
        assert {p.suffix for p in made.rglob("*") if p.is_file()} == {".md", ".json", ".jsonl", ".hdf5"}

    @pytest.mark.parametrize("batch", [1, 3, 64])
    def test_batches_do_not_matter(self, tmp_path, made, batch):
        generate(some_bad(), 20, tmp_path / "d", **HERE, options=Options(batch=batch, shard=2))
        generate(some_bad(), 20, tmp_path / "e", **HERE, options=Options(shard=2))
        assert sums(tmp_path / "d") == sums(tmp_path / "e")

    def test_seeds_and_settings_matter(self, tmp_path, made):
        """The wrong specimen of all comparisons by checksum."""
        generate(some_bad(), 20, tmp_path / "seed", seed=1, **HERE, options=Options(max_failed=0.5))
        generate(some_bad(size=9), 20, tmp_path / "size", **HERE)
        for other in ("seed", "size"):
            assert not set(sums(tmp_path / other).values()) & set(sums(made).values())

    def test_samples_do_not_depend_on_how_many_there_are(self):
        many = [generator_of(3, i).uniform() for i in range(5)]
        assert many[4] == generator_of(3, 4).uniform()
        assert len(set(many)) == 5

    def test_one_sample(self, tmp_path):
        assert generate(Toy(), 1, tmp_path / "d").config["splits"]["train"] == [0, 1]

    def test_a_grid_brings_statistics(self, tmp_path):
        from solvus.datasets.recipes.elliptic import poisson

        manifest = generate(poisson(8), 10, tmp_path / "d", **HERE)
        assert manifest.kind == "grid"
        assert {"stats.yaml", "poisson.yaml", "README.md"} <= {p.name for p in (tmp_path / "d").iterdir()}
        assert 0 < manifest.max_residual < 1e-8

    @pytest.mark.parametrize("name", ["poisson", "darcy-shapes"])
    def test_it_does_not_matter_when_h5py_closes_things(self, tmp_path, monkeypatch, name):
        """A profiler holds frames, and with them what they have opened."""
        recipe = recipe_named(name, 8)
        generate(recipe, 6, tmp_path / "d", **HERE)
        held = []
        begin = h5py.Dataset.__init__

        def hold(self, *arguments, **keywords):
            begin(self, *arguments, **keywords)
            held.append(self)

        monkeypatch.setattr(h5py.Dataset, "__init__", hold)
        generate(recipe, 6, tmp_path / "held", **HERE)
        assert held
        assert sums(tmp_path / "held") == sums(tmp_path / "d")

    def test_statistics_that_are_gone_are_made_again(self, tmp_path):
        generate(advection(32, time=0.1, frames=1), 4, tmp_path / "d", **HERE)
        statistics = (tmp_path / "d" / "stats.yaml").read_bytes()
        (tmp_path / "d" / "stats.yaml").unlink()
        generate(advection(32, time=0.1, frames=1), 4, tmp_path / "d", **HERE)
        assert (tmp_path / "d" / "stats.yaml").read_bytes() == statistics

    def test_without_a_sample_to_train_on_there_are_no_statistics(self, tmp_path):
        hopeless = replace(advection(32, time=0.1, frames=1), max_residual=-1.0)
        manifest = generate(hopeless, 4, tmp_path / "d", options=Options(max_failed=1.0), **HERE)
        assert len(manifest.failed) == 4
        assert not (tmp_path / "d" / "stats.yaml").exists()
        assert (tmp_path / "d" / "README.md").exists()

    def test_big_draws_of_a_device_run_across_files(self, tmp_path, made):
        """One process with large batches, as on a GPU."""
        batches = []

        class Watched(Toy):
            def solve(self, draws, device="cpu"):
                batches.append(len(draws))
                return super().solve(draws, device)

        plan = Plan(some_bad(), 20, 0, (16, 2, 2), 2)
        watched = replace(plan, recipe=Watched(**vars(some_bad())))
        (tmp_path / "d").mkdir()
        shards = list(
            shard_module.iterate_shards(shard_module.Task(watched, plan.jobs(), tmp_path / "d", "cpu", 16))
        )
        assert batches == [16, 4]
        read = {s.shard: h5py.File(tmp_path / "d" / s.shard)["a"][:].tobytes() for s in shards}
        assert read == {path: h5py.File(made / path)["a"][:].tobytes() for path in sums(made)}


class TestFailedSamples:
    def test_too_many(self, tmp_path):
        with pytest.raises(TooManyFailed, match=r"3 of \d+ samples failed, accepted are 2 of 20 .*too small"):
            generate(Toy(fail_below=0.9), 20, tmp_path / "d", **HERE)
        kept = read_manifest(tmp_path / "d")
        assert len(kept.failed) == 3
        with pytest.raises(TooManyFailed):
            generate(Toy(fail_below=0.9), 20, tmp_path / "d", **HERE)
        manifest = generate(Toy(fail_below=0.9), 20, tmp_path / "d", **HERE, options=Options(max_failed=1))
        assert manifest.complete
        assert set(kept.failed) < set(manifest.failed)

    def test_an_error_of_one_sample_does_not_take_the_batch_with_it(self, tmp_path):
        class Fragile(Toy):
            def solve(self, draws, device="cpu"):
                if any(draw["a"][0] < 0.1 for draw in draws):
                    raise FloatingPointError("overflow\nin step 3")
                return super().solve(draws, device)

        manifest = generate(Fragile(), 20, tmp_path / "d", **HERE)
        assert set(manifest.failed.values()) == {"FloatingPointError: overflow in step 3"}
        assert set(manifest.failed) == {i for i in range(20) if generator_of(0, i).uniform() < 0.1}

    def test_an_error_while_drawing(self, tmp_path):
        class Unlucky(Toy):
            def draw(self, generator):
                if generator.uniform() < 0.1:
                    raise ValueError("no such shape")
                return super().draw(generator)

        manifest = generate(Unlucky(), 20, tmp_path / "d", **HERE)
        assert set(manifest.failed.values()) == {"ValueError: no such shape"}

    def test_what_a_recipe_promises_is_checked(self):
        good = Solved({"x": np.ones(2)}, 1e-9, 3)
        assert judged(Toy(), good) is good
        cases = [
            (replace(good, residual=1e-7), "residual 1.0e-07 above 1.0e-08"),
            (replace(good, residual=math.nan), "residual nan above 1.0e-08"),
            (replace(good, arrays={"x": np.array([1.0, np.inf])}), "x not finite"),
            (replace(good, failure="diverged"), "diverged"),
        ]
        for solved, reason in cases:
            assert judged(Toy(), solved).failure == reason
            assert judged(Toy(), solved).arrays == {}

    def test_bugs_are_not_failed_samples(self, tmp_path):
        with pytest.raises(KeyError, match="toy"):
            generate(Toy(raises="bug"), 5, tmp_path / "d", **HERE)
        assert not list((tmp_path / "d").rglob("*.tmp"))

        class Short(Toy):
            def solve(self, draws, device="cpu"):
                return super().solve(draws[1:], device)

        with pytest.raises(TypeError, match=r"Short.solve returned 3 samples for 4 draws"):
            generate(Short(), 5, tmp_path / "e", **HERE, options=Options(shard=4))

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        ],
    )
    def test_memory(self, tmp_path, error):
        class Hungry(Toy):
            def solve(self, draws, device="cpu"):
                raise error

        with pytest.raises(
            MemoryError, match=r"4 samples together do not fit in the memory of cpu: give a smaller"
        ):
            generate(Hungry(), 5, tmp_path / "d", **HERE, options=Options(shard=4))


class TestProgress:
    def test_rate_and_time_left(self):
        now = Standing(100, 40, 20, 1, 10.0, 1e-9)
        assert now.rate == 2
        assert now.left == 30
        assert Standing(100, 20, 20, 0, 0.0, math.nan).left == math.inf
        assert Standing(100, 100, 100, 0, 1.0, math.nan).left == 0

    def test_counts(self, made):
        seen = []
        tally = Tally(20, 0.5, seen.append)
        tally.begin([])
        manifest = read_manifest(made)
        for shard in manifest.shards:
            tally.add(shard)
        assert [s.done for s in seen] == list(range(0, 21, 2))
        assert seen[-1].failed == len(manifest.failed)
        assert seen[-1].max_residual == manifest.max_residual


class TestCard:
    def test_it_tells_how_to_make_it_again(self, tmp_path):
        preset = Preset("darcy", 32, {"tau": "7"})
        options = Options(preset=preset, license="CC-BY-4.0")
        manifest = generate(some_bad(), 20, tmp_path / "d", seed=5, **HERE, options=options)
        text = (tmp_path / "d/README.md").read_text()
        assert manifest.config["preset"] == {"equation": "darcy", "resolution": 32, "settings": {"tau": "7"}}
        command = "$ solvus generate darcy --n 20 --seed 5 --resolution 32 --set tau=7 --shard 2 --out toy"
        assert command in text
        for words in (
            "| size | 8 |",
            "| train | 0 to 15 | 16 |",
            "CC-BY-4.0",
            "largest residual is 1.0e-12",
            "numpy",
        ):
            assert words in text

    def test_without_a_preset(self, made):
        text = (made / "README.md").read_text()
        assert "generate(recipe, 20, out, seed=0, splits=(0.8, 0.1, 0.1), options=Options(shard=2))" in text
        assert "too small" in text
        assert "Not stated." in text


def test_importing_takes_no_executor_along():
    """Dask and MPI are loaded by those who use them."""
    name = "solvus.datasets.generation.generate"
    code = f"import sys, {name}; print([m for m in ('dask', 'mpi4py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert module.__doc__
