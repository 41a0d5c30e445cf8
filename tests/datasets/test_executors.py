"""Wherever files are made, they are the same, to the byte; what goes wrong with workers is said."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numba
import pytest
import threadpoolctl
import torch

from solvus.datasets.generation.executors import Processes, WorkerDied, one_thread, run
from solvus.datasets.generation.generate import Options, generate
from solvus.datasets.generation.manifest import read_manifest
from solvus.datasets.recipes.registry import recipe_named

PROGRAMS = Path(__file__).parent / "programs"
sys.path.insert(0, str(PROGRAMS))

from toy_recipe import Summing, Toy, sums  # noqa: E402

RECIPE, N = Toy(fail_below=0.05), 20


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What one process makes."""
    folder = tmp_path_factory.mktemp("expected")
    generate(RECIPE, N, folder, workers=1)
    return sums(folder)


class InOrder:
    """An executor as submitit has them: its futures are none of the standard library."""

    class Job:
        def __init__(self, call):
            self.call = call

        def result(self):
            return self.call()

    def submit(self, function, *arguments):
        return self.Job(lambda: function(*arguments))


class Lossy(InOrder):
    """The wrong specimen: it forgets what the tasks returned."""

    def submit(self, function, task):
        return super().submit(lambda t: function(t)[:0], task)


class TestSameFilesEverywhere:
    @pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
    def test_processes(self, tmp_path, expected, workers):
        generate(RECIPE, N, tmp_path, workers=workers)
        assert sums(tmp_path) == expected

    @pytest.mark.parametrize("threads", [1, 4])
    def test_threads(self, tmp_path, expected, threads):
        with ThreadPoolExecutor(threads) as executor:
            generate(RECIPE, N, tmp_path, executor=executor)
        assert sums(tmp_path) == expected

    def test_futures_of_another_kind(self, tmp_path, expected):
        generate(RECIPE, N, tmp_path, executor=InOrder())
        assert sums(tmp_path) == expected

    def test_an_executor_that_loses_files_is_noticed(self, tmp_path, expected):
        with pytest.raises(
            WorkerDied, match=r"the executor returned without 10 files: repeat the same command"
        ):
            generate(RECIPE, N, tmp_path, executor=Lossy())
        assert sums(tmp_path) == expected

    @pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_dask(self, tmp_path, expected, processes):
        distributed = pytest.importorskip("distributed", reason="Dask is not installed")
        with (
            distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=processes,
                dashboard_address=None,
                local_directory=str(tmp_path / "dask"),
                silence_logs=50,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            generate(RECIPE, N, tmp_path / "d", executor=client.get_executor())
        assert sums(tmp_path / "d") == expected

    @pytest.mark.slow
    def test_mpi(self, tmp_path, expected):
        if shutil.which("mpiexec") is None:
            pytest.skip("no mpiexec: install an MPI, for example openmpi-bin")
        pytest.importorskip("mpi4py", reason="mpi4py is not installed")
        job = tmp_path / "job.json"
        toy = {"fail_below": RECIPE.fail_below}
        job.write_text(json.dumps({"out": str(tmp_path / "d"), "n": N, "executor": "mpi", "toy": toy}))
        command = ["mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", "3", sys.executable]
        program = [*command, "-m", "mpi4py.futures", str(PROGRAMS / "make_toy.py"), str(job)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert sums(tmp_path / "d") == expected

    @pytest.mark.parametrize("name", ["darcy", "burgers"])
    def test_real_recipes_by_threads_and_batches(self, tmp_path, name):
        recipe, options = recipe_named(name, 32), Options(shard=4)
        generate(recipe, 8, tmp_path / "one", workers=1, options=options)
        with ThreadPoolExecutor(3) as executor:
            generate(recipe, 8, tmp_path / "threads", executor=executor, options=options)
        assert sums(tmp_path / "one") == sums(tmp_path / "threads")
        for batch in (1, 3, 64):
            generate(recipe, 8, tmp_path / str(batch), workers=1, options=replace(options, batch=batch))
            assert sums(tmp_path / "one") == sums(tmp_path / str(batch))


class TestOneThread:
    def test_inside_and_after(self):
        before = torch.get_num_threads(), numba.get_num_threads()
        torch.set_num_threads(2)
        with one_thread():
            assert torch.get_num_threads() == 1
            assert numba.get_num_threads() == 1
            assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} <= {1}
            with one_thread():
                pass
            assert torch.get_num_threads() == 1
            assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} <= {1}
        assert torch.get_num_threads() == 2
        torch.set_num_threads(before[0])
        assert numba.get_num_threads() == before[1]

    def test_limits_are_restored_when_the_last_one_leaves(self):
        def blas():
            return {
                p["filepath"]: p["num_threads"]
                for p in threadpoolctl.threadpool_info()
                if p["user_api"] == "blas"
            }

        with threadpoolctl.threadpool_limits(2, user_api="blas"):
            before, first, second = blas(), one_thread(), one_thread()
            first.__enter__()
            second.__enter__()
            first.__exit__(None, None, None)
            assert set(blas().values()) <= {1}
            second.__exit__(None, None, None)
            assert blas() == before

    def test_results_do_not_depend_on_the_threads_of_the_caller(self, tmp_path):
        before = torch.get_num_threads()
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                generate(Summing(), 4, tmp_path / str(threads), workers=1)
        finally:
            torch.set_num_threads(before)
        assert sums(tmp_path / "1") == sums(tmp_path / "2")
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(2,)) as executor:
            generate(Summing(), 4, tmp_path / "3", executor=executor)
        assert sums(tmp_path / "1") == sums(tmp_path / "3")

    def test_the_recipe_would_notice(self):
        """What `Summing` stores without limits differs: the check above can fail."""
        draws, before = (
            [{"a": Toy().draw(__import__("numpy").random.default_rng(0))["a"]}],
            torch.get_num_threads(),
        )
        try:
            torch.set_num_threads(2)
            two = Summing().solve(draws)[0].arrays["x"]
        finally:
            torch.set_num_threads(before)
        with one_thread():
            assert (Summing().solve(draws)[0].arrays["x"] != two).any()


class TestErrors:
    def test_the_first_error_is_raised_and_what_runs_is_kept(self):
        done, ready = [], threading.Barrier(3)

        def call(task):
            if task < 3:
                ready.wait(60)  # three run at once
            if task == 1:
                raise ZeroDivisionError("one")
            if task >= 3:
                time.sleep(0.05)
            return task

        def collect(executor):
            for result in run(executor, call, range(50)):
                done.append(result)

        with ThreadPoolExecutor(3) as executor, pytest.raises(ZeroDivisionError, match="one"):
            collect(executor)
        assert {0, 2} <= set(done) < set(range(50)) - {1}

    def test_waiting_tasks_are_cancelled(self):
        waiting = [Future() for _ in range(3)]

        class Slow:
            def submit(self, function, task):
                return waiting[task]

        waiting[0].set_exception(ZeroDivisionError("zero"))
        with pytest.raises(ZeroDivisionError):
            list(run(Slow(), abs, range(3)))
        assert waiting[1].cancelled()
        assert waiting[2].cancelled()

    @pytest.mark.slow
    def test_an_error_comes_back_from_a_process(self, tmp_path):
        with pytest.raises(MemoryError, match="toy"):
            generate(Toy(raises="memory"), 5, tmp_path / "d", workers=2)


def script(folder, text):
    """Run a script as people write them."""
    path = folder / "script.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(PROGRAMS)!r})\n{text}")
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=120, cwd=folder
    )


PLAIN = """
from toy_recipe import Toy
from solvus.datasets.generation.generate import generate
print(generate(Toy(), 8, "d", workers=2).complete)
"""
OWN_CLASS = """
from dataclasses import dataclass
from toy_recipe import Toy
from solvus.datasets.generation.generate import generate

@dataclass(frozen=True)
class Mine(Toy):
    pass

{guard}print(generate(Mine(), 8, "d", workers=2).complete)
"""


class TestScripts:
    def test_no_main_guard_is_needed(self, tmp_path):
        done = script(tmp_path, PLAIN)
        assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr

    @pytest.mark.slow
    def test_a_recipe_of_the_script_needs_it(self, tmp_path):
        done = script(tmp_path, OWN_CLASS.format(guard=""))
        assert done.returncode == 1
        assert "MainUnprotected" in done.stderr
        assert "Put the call under `if __name__ == '__main__':`" in done.stderr
        assert "WorkerDied" in done.stderr

    @pytest.mark.slow
    def test_with_the_guard_it_works(self, tmp_path):
        done = script(tmp_path, OWN_CLASS.format(guard='if __name__ == "__main__":\n    '))
        assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr

    @pytest.mark.slow
    def test_from_standard_input(self, tmp_path):
        text = f"import sys\nsys.path.insert(0, {str(PROGRAMS)!r})\n{PLAIN}"
        done = subprocess.run(
            [sys.executable, "-"], input=text, capture_output=True, text=True, timeout=120, cwd=tmp_path
        )
        assert done.stdout.strip() == "True", done.stderr


DIE = """
import os
from dataclasses import dataclass
from toy_recipe import Toy

@dataclass(frozen=True)
class Deadly(Toy):
    at: float = 0.9

    def solve(self, draws, device="cpu"):
        if draws[0]["a"][0] > self.at:
            os.kill(os.getpid(), 9)
        return super().solve(draws, device)
"""


def test_a_worker_that_is_killed(tmp_path):
    """As the system does when memory runs out."""
    (tmp_path / "deadly.py").write_text(DIE)
    done = script(
        tmp_path,
        "from deadly import Deadly\nfrom solvus.datasets.generation.generate import generate\n"
        "generate(Deadly(), 20, 'd', workers=2)",
    )
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert "WorkerDied: a worker process ended abruptly" in message
    assert "most often memory ran out and the system killed it" in message
    assert "files are finished and kept in" in message
    assert "repeat the same command to go on, with fewer workers or a smaller batch" in message
    manifest = read_manifest(tmp_path / "d")
    assert {s.shard: s.sha256 for s in manifest.shards}.items() <= sums(tmp_path / "d").items()
    assert not list((tmp_path / "d").rglob("*.tmp"))


MEMORY = """
import resource, sys
from toy_recipe import Toy
from solvus.datasets.generation.generate import Options, generate
generate(Toy(size=50_000), int(sys.argv[1]), sys.argv[2], workers=1, options=Options(shard=8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    (tmp_path / "memory.py").write_text(f"import sys\nsys.path.insert(0, {str(PROGRAMS)!r})\n{MEMORY}")
    peaks = []
    for n in (16, 400):
        command = [sys.executable, str(tmp_path / "memory.py"), str(n), str(tmp_path / str(n))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        peaks.append(int(done.stdout))
        shutil.rmtree(tmp_path / str(n))
    assert peaks[1] - peaks[0] < 40_000, peaks  # kB; the larger dataset has 160 MB, the smaller 6 MB


def test_workers_end_with_their_coordinator():
    with Processes(1, None) as processes:
        pid = processes.submit(os.getpid).result()
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
