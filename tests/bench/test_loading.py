"""The loading benchmark runs, all methods give the same numbers, and one that does not is found."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from solvus.bench import Case, main

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "loading.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("loading_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(autouse=True)
def _threads_kept():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(script, methods, problem):
    steps = 1 if problem == "steady" else 4
    case = Case(
        problem, 8, lambda: script.Stored(script.Smooth(problem, 8, steps), 5), quick=True, ladder=False
    )
    return main("loading", "", [case], methods, ["--quick", "--repeats", "1", "--threads", "1"])


@pytest.mark.parametrize("problem", ["frames", "pairs", "steady"])
def test_all_methods_return_the_same_numbers(script, problem):
    records = run(script, script.methods(), problem)
    assert {r.package for r in records} == {"solvus", "h5py"}
    assert len(records) == {"frames": 8, "pairs": 8, "steady": 8}[problem]
    for record in records:
        assert record.reason is None
        assert record.converged
        assert record.error == 0.0
        assert record.extra["MB_per_s"] > 0
        assert record.extra["item_bytes"] == {"frames": 2, "pairs": 1, "steady": 1}[problem] * 2 * 8 * 8 * 4
    assert {r.method: r.extra.get("chunks") for r in records}["contiguous"] is None


def test_wrong_numbers_are_found(script):
    def prepare(problem):
        once = script.stays_open("frame")(problem)

        def start(stack):
            items, chunks = once(stack)
            return lambda: ((x * np.float32(1.001), y) for x, y in items()), chunks

        return start

    (record,) = run(script, [script.method("wrong", "h5py", prepare, lambda case: True)], "pairs")
    assert not record.converged
    assert record.error > 0


def test_cases_are_those_of_the_table(script):
    chosen = {(c.problem, c.size): c.quick for c in script.cases()}
    assert not chosen["frames", 128]
    assert all(quick == (size == 64) for (_, size), quick in chosen.items())
