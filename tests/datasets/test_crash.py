"""Kill -9 at any moment: what is listed is whole, and the same command ends with the same files."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from solvus.datasets.generation.generate import generate
from solvus.datasets.generation.manifest import read_manifest, sha256

PROGRAMS = Path(__file__).parent / "programs"
sys.path.insert(0, str(PROGRAMS))

from toy_recipe import Toy, sums  # noqa: E402

TOY = {"n": 48, "shard": 2, "workers": 1, "batch": 1, "toy": {"fail_below": 0.05, "pause": 0.02}}
POOL = {**TOY, "workers": 2, "toy": {"fail_below": 0.05, "pause": 0.02}}
DARCY = {"n": 64, "workers": 1, "equation": "darcy", "resolution": 64}


class Run:
    """A run that can be killed, in a process group of its own."""

    def __init__(self, folder, values):
        folder.mkdir(exist_ok=True)
        self.out, self.notes, job = folder / "d", folder / "notes", folder / "job.json"
        job.write_text(json.dumps({**values, "out": str(self.out), "notes": str(self.notes)}))
        self.command = [sys.executable, str(PROGRAMS / "make_toy.py"), str(job)]

    def __enter__(self):
        self.notes.unlink(missing_ok=True)
        self.process = subprocess.Popen(self.command, start_new_session=True, stderr=subprocess.PIPE)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()

    def begun(self):
        """Wait until the samples begin."""
        deadline = time.monotonic() + 120
        while not self.notes.exists() and self.process.poll() is None:
            assert time.monotonic() < deadline, "the run does not begin"
            time.sleep(0.01)

    def kill(self, after):
        """Kill the coordinator, seconds after it has begun, unless it has finished; tell whether it was."""
        self.begun()
        try:
            self.process.wait(after)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return self.process.returncode == -signal.SIGKILL

    def finish(self):
        with self:
            _, errors = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, errors.decode()


def assert_what_is_listed_is_whole(folder):
    """Every line of the manifest speaks of a file that is there, whole, and can be read."""
    if not (folder / "dataset.json").exists():
        return 0
    manifest = read_manifest(folder)
    for shard in manifest.shards:
        path = manifest.path(shard)
        assert path.stat().st_size == shard.bytes
        assert sha256(path) == shard.sha256
        with h5py.File(path) as file:
            assert tuple(file["provenance/sample_id"]) == shard.ids
    return len(manifest.shards)


def kill_and_go_on(tmp_path, values, kills, seconds):
    """Kill a run so many times, go on every time, and compare with one that nobody disturbed."""
    calm = Run(tmp_path / "calm", values)
    calm.finish()
    expected, random_ = sums(calm.out), random.Random(0)
    moments = []
    while len(moments) < kills:
        run = Run(tmp_path / f"run{len(moments)}", values)
        for _ in range(5):
            with run:
                killed = run.kill(random_.uniform(0, seconds))
            moments.append(assert_what_is_listed_is_whole(run.out))
            if not killed or len(moments) >= kills:
                break
        run.finish()
        assert sums(run.out) == expected
        assert {s.shard: s.sha256 for s in read_manifest(run.out).shards} == expected
        assert_what_is_listed_is_whole(run.out)
        assert not list(run.out.rglob("*.tmp"))
        assert (run.out / "README.md").read_bytes().replace(b"run", b"") == (
            calm.out / "README.md"
        ).read_bytes()
        shutil.rmtree(run.out.parent)
    assert len(set(moments)) > 1, f"always killed at the same place: {moments}"


def test_kills_of_one_process(tmp_path):
    kill_and_go_on(tmp_path, TOY, 4, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "seconds"), [(TOY, 1.5), (POOL, 8.0), (DARCY, 2.5)], ids=["toy", "pool", "darcy"]
)
def test_many_kills(tmp_path, values, seconds):
    kill_and_go_on(tmp_path, values, 30, seconds)


def test_workers_do_not_outlive_their_coordinator(tmp_path):
    """Also when it is killed and cannot tell them; and what they left is swept by the next run."""
    values = {**POOL, "n": 8, "shard": 4, "toy": {"pause": 30.0}}
    with Run(tmp_path / "a", values) as run:
        run.begun()
        children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
        if not children.exists():
            pytest.skip("needs Linux: /proc/PID/task/PID/children")
        deadline = time.monotonic() + 60
        while len(workers := children.read_text().split()) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)  # two workers and the tracker of multiprocessing
        assert len(workers) == 3
        assert run.kill(0)
        while any(alive(int(pid)) for pid in workers):
            assert time.monotonic() < deadline, "a worker lives on"
            time.sleep(0.02)


def alive(pid):
    """Whether a process runs, not counting one whose end nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_ctrl_c_ends_all_processes(tmp_path):
    values = {**POOL, "toy": {"pause": 0.5}}
    with Run(tmp_path / "a", values) as run:
        run.begun()
        deadline = time.monotonic() + 60
        while len(run.notes.read_text().split()) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, errors = run.process.communicate(timeout=60)
        assert run.process.returncode == -signal.SIGINT
        assert errors.decode().count("Traceback") == 1, errors.decode()
    assert 0 < assert_what_is_listed_is_whole(run.out) < 24
    assert not list(run.out.rglob("*.tmp"))


def test_a_torn_file_would_be_noticed(tmp_path):
    """The wrong specimen of these tests: a listed file that is not whole."""
    generate(Toy(), 4, tmp_path / "d", workers=1)
    assert assert_what_is_listed_is_whole(tmp_path / "d") == 4
    victim = next((tmp_path / "d").rglob("*.hdf5"))
    victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.raises(AssertionError):
        assert_what_is_listed_is_whole(tmp_path / "d")
