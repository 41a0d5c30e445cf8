"""The folder of a dataset: picked up where a run stopped, guarded, refused, full."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
import torch

from solvus.datasets.generation import books as books_module
from solvus.datasets.generation.books import FolderInUse, OtherSettings, OtherVersions
from solvus.datasets.generation.generate import Options, generate
from solvus.datasets.generation.manifest import ForeignFolder, read_manifest
from solvus.datasets.generation.plan import Plan, split_counts
from solvus.datasets.generation.shard import DiskFull

PROGRAMS = Path(__file__).parent / "programs"
sys.path.insert(0, str(PROGRAMS))

from toy_recipe import Toy, listed, some_bad, sums  # noqa: E402

HERE = {"workers": 1}


@pytest.fixture
def made(tmp_path):
    """A finished dataset with a failed sample."""
    generate(some_bad(), 20, tmp_path / "made", **HERE)
    return tmp_path / "made"


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
        here, stamp = socket.gethostname(), "01234567.tmp"
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
