"""Generation: what is made, what is recorded, what is refused, what is picked up again."""

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from solvus.datasets import books as books_module
from solvus.datasets import generate as module
from solvus.datasets import shard as shard_module
from solvus.datasets.books import FolderInUse, OtherSettings, OtherVersions
from solvus.datasets.card import Preset
from solvus.datasets.generate import Options, generate
from solvus.datasets.manifest import ForeignFolder, read_manifest, sha256
from solvus.datasets.plan import Plan, differences, shard_size, split_counts
from solvus.datasets.recipe import Solved
from solvus.datasets.shard import DiskFull, generator_of, judged
from solvus.datasets.tally import Standing, Tally, TooManyFailed

PROGRAMS = Path(__file__).parent / "programs"
sys.path.insert(0, str(PROGRAMS))

from toy_recipe import Toy  # noqa: E402

HERE = {"workers": 1}


def sums(folder):
    """Checksum of every file, computed anew, by path."""
    return {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*.hdf5"))}


def listed(folder):
    """Checksum of every file as the manifest has it."""
    return {s.shard: s.sha256 for s in read_manifest(folder).shards}


def some_bad(**changes):
    return Toy(fail_below=0.1, **changes)


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


class TestPlan:
    @given(st.integers(1, 5000), st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(any))
    def test_counts_add_up_and_are_near(self, n, weights):
        shares = [w / sum(weights) for w in weights]
        counts = split_counts(n, shares)
        assert sum(counts) == n
        assert all(c >= 0 for c in counts)
        if shares[0] > 0:
            assert counts[0] >= 1
            assert all(abs(c - s * n) <= 1 + (n * shares[0] < 1) for c, s in zip(counts, shares, strict=True))

    @pytest.mark.parametrize(
        ("n", "expected"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (5, (4, 0, 1)), (10, (8, 1, 1)), (64, (51, 6, 7))]
    )
    def test_examples(self, n, expected):
        assert split_counts(n, (0.8, 0.1, 0.1)) == expected

    def test_a_train_split_nobody_wants(self):
        assert split_counts(3, (0, 0, 1)) == (0, 0, 3)
        assert split_counts(3, (0.01, 0, 0.99)) == (1, 0, 2)

    @pytest.mark.parametrize("wrong", [(0.8, 0.1), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (math.nan, 0, 1)])
    def test_wrong_splits(self, wrong):
        with pytest.raises(ValueError, match=r"splits are three numbers >= 0 with the sum 1"):
            split_counts(10, wrong)

    def test_wrong_numbers(self, tmp_path):
        cases = [
            (lambda: generate(Toy(), 0, tmp_path / "d"), "at least one sample, got n = 0"),
            (lambda: generate(Toy(), 5, tmp_path / "d", seed=-1), "the seed is a number >= 0, got -1"),
            (lambda: generate(Toy(), 5, tmp_path / "d", workers=0), "workers is at least 1, got 0"),
            (lambda: Options(batch=0), "batch counts samples and is at least 1, got 0"),
            (lambda: Options(shard=-1), "shard counts samples and is at least 1"),
            (lambda: Options(max_failed=2), "max_failed is a part of the samples, 0 to 1, got 2"),
            (lambda: generate(Toy(name="a/b"), 5, tmp_path / "d"), "'a/b' cannot name files"),
            (
                lambda: generate(Toy(), 5, tmp_path / "d", options=Options(device="nonsense")),
                "device 'nonsense' cannot be used here",
            ),
            (lambda: Plan(Toy(), 5, 0, (1, 1, 1), 1), "do not add up to 5"),
            (lambda: Plan(Toy(), 3, 0, (1, 1, 1), 0), "a file holds at least one sample"),
        ]
        for call, message in cases:
            with pytest.raises(ValueError, match=message):
                call()
        with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="has its own workers"):
            generate(Toy(), 5, tmp_path / "d", workers=2, executor=executor)
        with pytest.raises(ValueError, match="device 'meta' is used by one process: leave out workers = 2"):
            generate(Toy(), 5, tmp_path / "d", workers=2, options=Options(device="meta"))
        assert not (tmp_path / "d").exists()

    def test_files_are_sized_by_bytes_and_number_alone(self):
        assert shard_size(64, 10) == 4
        assert shard_size(10_000, 10) == 79
        assert shard_size(10_000, 1 << 24) == 4
        assert shard_size(10_000, 1 << 40) == 1

    def test_differences_name_settings(self):
        old = Plan(Toy(), 5, 0, (4, 0, 1), 2).config
        new = Plan(Toy(size=9), 5, 1, (5, 0, 0), 2).config
        assert differences(new, old) == [
            "size: 8 in the folder, 9 asked for",
            "seed: 0 in the folder, 1 asked for",
            "splits.train: [0, 4] in the folder, [0, 5] asked for",
            "splits.valid: [4, 4] in the folder, [5, 5] asked for",
            "splits.test: [4, 5] in the folder, [5, 5] asked for",
        ]
        assert differences(old, old) == []


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


class TestGoingOn:
    def lose(self, folder, number):
        """Let a run have stopped before the last files."""
        lines = (folder / "manifest.jsonl").read_text().splitlines(keepends=True)
        for line in lines[-number:]:
            (folder / json.loads(line)["shard"]).unlink()
        (folder / "manifest.jsonl").write_text("".join(lines[:-number]))
        (folder / "README.md").unlink()

    def test_missing_files_are_made_again(self, made):
        before = sums(made)
        self.lose(made, 5)
        seen = []
        generate(some_bad(), 20, made, **HERE, options=Options(progress=seen.append))
        assert sums(made) == before == listed(made)
        assert (made / "README.md").exists()
        assert (seen[0].done, seen[0].resumed, seen[-1].done) == (seen[0].resumed, seen[0].done, 20)
        assert 0 < seen[0].resumed < 20

    def test_nothing_to_do(self, made):
        times = {p: p.stat().st_mtime_ns for p in made.rglob("*") if p.is_file()}
        seen = []
        generate(some_bad(), 20, made, **HERE, options=Options(progress=seen.append))
        assert times == {p: p.stat().st_mtime_ns for p in made.rglob("*") if p.is_file()}
        assert [(s.done, s.resumed) for s in seen] == [(20, 20)]

    @pytest.mark.parametrize("tail", ["{", '{"shard": "data/tr', "last"])
    def test_a_torn_line_is_repaired(self, made, tail):
        before = sums(made)
        path = made / "manifest.jsonl"
        text = path.read_text()
        path.write_text(text[:-40] if tail == "last" else text + tail)
        generate(some_bad(), 20, made, **HERE)
        assert path.read_text().endswith("}\n")
        assert listed(made) == before == sums(made)
        assert len(path.read_text().splitlines()) == len(before)

    def test_a_damaged_line_is_made_good(self, made):
        before = sums(made)
        path = made / "manifest.jsonl"
        path.write_text("nonsense\n" + path.read_text())
        generate(some_bad(), 20, made, **HERE)
        assert listed(made) == before

    def test_a_file_without_a_line_is_read_through_and_adopted(self, made):
        before, path = read_manifest(made), made / "manifest.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:-3]))
        times = {p: p.stat().st_mtime_ns for p in made.rglob("*.hdf5")}
        generate(some_bad(), 20, made, **HERE)
        after = read_manifest(made)
        assert times == {p: p.stat().st_mtime_ns for p in made.rglob("*.hdf5")}
        assert [replace(s, wall_s=0.0) for s in after.shards] == [
            replace(s, wall_s=0.0) for s in before.shards
        ]

    @pytest.mark.parametrize("is_listed", [True, False])
    @pytest.mark.parametrize("harm", ["truncate", "flip", "swap", "empty", "text"])
    def test_damaged_files_are_made_again(self, made, harm, is_listed):
        before, manifest = sums(made), read_manifest(made)
        victim, other = manifest.path(manifest.shards[1]), manifest.path(manifest.shards[2])
        if not is_listed:
            (made / "manifest.jsonl").write_text("")
        content = bytearray(victim.read_bytes())
        if harm == "truncate":
            content = content[: len(content) // 2]
        elif harm == "flip":
            with h5py.File(victim) as file:
                offset = file["a"].id.get_chunk_info(0).byte_offset
            content[offset + 2] ^= 16
        elif harm == "swap":
            content = bytearray(other.read_bytes())
        else:
            content = bytearray(b"" if harm == "empty" else b"text")
        victim.write_bytes(content)
        assert sums(made) != before
        generate(some_bad(), 20, made, **HERE)
        assert sums(made) == before == listed(made)

    def test_other_settings_are_refused_and_nothing_is_touched(self, made):
        before = {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
        cases = [
            (lambda: generate(some_bad(), 21, made), "n: 20 in the folder, 21 asked for"),
            (lambda: generate(some_bad(), 20, made, seed=1), "seed: 0 in the folder, 1 asked for"),
            (lambda: generate(some_bad(size=9), 20, made), "size: 8 in the folder, 9 asked for"),
            (
                lambda: generate(some_bad(), 20, made, options=Options(shard=3)),
                "shard: 2 in the folder, 3 as",
            ),
            (lambda: generate(some_bad(), 20, made, splits=(1, 0, 0)), r"splits.train: \[0, 16\] in the"),
        ]
        for call, message in cases:
            with pytest.raises(OtherSettings, match=message):
                call()
        assert before == {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}

    def test_other_versions_are_told(self, made):
        path = made / "dataset.json"
        path.write_text(path.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
        with pytest.warns(
            OtherVersions, match=r"other versions \(torch: 1.0 in the folder, .* last bits may"
        ):
            generate(some_bad(), 20, made, **HERE)

    def test_unfinished_files(self, made):
        data = made / "data/train"
        dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
        here, stamp = shard_module.socket.gethostname(), "01234567.tmp"
        gone = data / f"toy-train-00009.hdf5~{here}~{int(dead.stdout)}-{stamp}"
        alive = data / f"toy-train-00009.hdf5~{here}~{os.getppid()}-{stamp}"
        elsewhere = data / f"toy-train-00009.hdf5~not{here}~1-{stamp}"
        old = data / f"toy-train-00008.hdf5~not{here}~1-{stamp}"
        foreign = data / "notes.tmp"
        for path in (gone, alive, elsewhere, old, foreign):
            path.touch()
        os.utime(old, (0, 0))
        generate(some_bad(), 20, made, **HERE)
        assert [p.exists() for p in (gone, alive, elsewhere, old, foreign)] == [0, 1, 1, 0, 1]

    def test_two_runs_at_once(self, made):
        self.lose(made, 2)
        plan = Plan(some_bad(), 20, 0, split_counts(20, (0.8, 0.1, 0.1)), 2)
        with books_module.Books(made, plan), pytest.raises(FolderInUse, match="another run is writing to"):
            generate(some_bad(), 20, made, **HERE)
        assert generate(some_bad(), 20, made, **HERE).complete

    def test_file_systems_without_locks(self, tmp_path, monkeypatch):
        def refuse(file):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(books_module, "_lock_file", refuse)
        assert generate(Toy(), 3, tmp_path / "d", **HERE).complete

    def test_ctrl_c(self, tmp_path):
        def stop(now):
            if now.done >= 8:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            generate(some_bad(), 20, tmp_path / "d", **HERE, options=Options(progress=stop))
        assert listed(tmp_path / "d") == sums(tmp_path / "d")
        assert not list((tmp_path / "d").rglob("*.tmp"))
        assert generate(some_bad(), 20, tmp_path / "d", **HERE).complete


class TestFoldersThatCannotBeUsed:
    def test_a_file(self, tmp_path):
        (tmp_path / "d").write_text("mine")
        with pytest.raises(NotADirectoryError, match="d is a file: a dataset is a folder, give another name"):
            generate(Toy(), 3, tmp_path / "d")
        with pytest.raises(NotADirectoryError, match="lies under a file"):
            generate(Toy(), 3, tmp_path / "d" / "e")
        assert (tmp_path / "d").read_text() == "mine"

    def test_something_else_is_in_it(self, tmp_path):
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(
            ForeignFolder, match=r"is not empty \(thesis.tex\) and holds no dataset of solvus"
        ):
            generate(Toy(), 3, tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]

    def test_an_empty_folder_is_fine(self, tmp_path):
        assert generate(Toy(), 3, tmp_path, **HERE).complete

    @pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
    def test_read_only(self, tmp_path, monkeypatch, number):
        (tmp_path / "d").mkdir()

        def refuse(*args, **kwargs):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(books_module, "open", refuse, raising=False)
            with pytest.raises(PermissionError, match=r"nothing can be written to .*d \(.*\): give a folder"):
                generate(Toy(), 3, tmp_path / "d", **HERE)
            patch.setattr(Path, "mkdir", refuse)
            with pytest.raises(PermissionError, match=r"nothing can be written to .*e"):
                generate(Toy(), 3, tmp_path / "e", **HERE)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system")
    def test_a_read_only_file_system(self, tmp_path):
        folder = mounted(tmp_path / "disk", "size=64k,ro")
        try:
            with pytest.raises(PermissionError, match="Read-only file system"):
                generate(Toy(), 3, folder, **HERE)
            with pytest.raises(PermissionError, match="Read-only file system"):
                generate(Toy(), 3, folder / "d", **HERE)
        finally:
            subprocess.run(["umount", folder], check=True)


def mounted(folder, options):
    """Mount a small file system in memory, or skip."""
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("no mount command")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount a file system here: {done.stderr.decode().strip()}")
    return folder


class TestFullDisk:
    MESSAGE = (
        r"is full: \d+ of 10 files are finished and kept, about .* more are needed. Make room and repeat"
    )

    @pytest.mark.parametrize("where", ["put", "fsync", "replace", "manifest"])
    def test_at_any_moment(self, tmp_path, monkeypatch, where, made):
        full, calls = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), []

        def after(number, function):
            def called(*args, **kwargs):
                calls.append(function)
                if len(calls) > number:
                    raise full
                return function(*args, **kwargs)

            return called

        with monkeypatch.context() as patch:
            if where == "put":
                storage = type(Toy().storage)
                patch.setattr(storage, "put", after(5, storage.put))
            elif where == "fsync":
                patch.setattr(os, "fsync", after(9, os.fsync))
            elif where == "replace":
                patch.setattr(os, "replace", after(4, os.replace))
            else:
                patch.setattr(books_module.Books, "append", after(3, books_module.Books.append))
            with pytest.raises(DiskFull, match=self.MESSAGE):
                generate(some_bad(), 20, tmp_path / "d", **HERE)
        assert not list((tmp_path / "d").rglob("*.tmp"))
        kept = listed(tmp_path / "d")
        assert 0 < len(kept) < 10
        assert kept.items() <= sums(tmp_path / "d").items()
        generate(some_bad(), 20, tmp_path / "d", **HERE)
        assert sums(tmp_path / "d") == sums(made)

    def test_half_a_line(self, tmp_path, monkeypatch, made):
        """What could be written of a line is taken back."""
        plan = Plan(some_bad(), 20, 0, (16, 2, 2), 2)
        whole = (made / "manifest.jsonl").read_bytes()
        shard = read_manifest(made).shards[0]
        with books_module.Books(made, plan) as books, monkeypatch.context() as patch:

            def no_room(handle):
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(os, "fsync", no_room)
            with pytest.raises(OSError, match="No space"):
                books.append(shard)
        assert (made / "manifest.jsonl").read_bytes() == whole

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system")
    @pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
    def test_a_real_disk(self, tmp_path, workers):
        program = tmp_path / "job.json"
        folder = mounted(tmp_path / "disk", "size=600k")
        values = {"out": str(folder / "d"), "n": 20, "shard": 2, "workers": workers, "toy": {"size": 10_000}}
        program.write_text(json.dumps(values))
        try:
            command = [sys.executable, str(PROGRAMS / "make_toy.py"), str(program)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 1
            assert "DiskFull" in done.stderr
            assert "files are finished and kept" in done.stderr
            assert not list(folder.rglob("*.tmp"))
            kept = listed(folder / "d")
            assert 0 < len(kept) < 10
            assert kept == sums(folder / "d")
            subprocess.run(["mount", "-o", "remount,size=20m", folder], check=True)
            subprocess.run(command, check=True, timeout=120)
            assert len(listed(folder / "d")) == 10
            assert kept.items() <= sums(folder / "d").items()
        finally:
            subprocess.run(["umount", folder], check=True)


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
    code = "import sys, solvus.datasets.generate; print([m for m in ('dask', 'mpi4py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert module.__doc__
