import json
import subprocess
import sys

import pytest
import torch

from solvus.bench import Case, Method, Outcome, SystemCase, main, ours, read_records
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.solvers import CG, LinearSystem


def build(n, dim):
    A = Diffusion(Grid((n,) * dim))
    return SystemCase(LinearSystem(A, torch.ones(n**dim, dtype=torch.float64)))


def cases():
    flat = [Case("line", n, lambda n=n: build(n, 1), quick=n == 7) for n in (7, 15)]
    return [*flat, Case("plane", 7, lambda: build(7, 2)), Case("plane", 9, lambda: build(9, 2), large=True)]


def broken(problem, case, options):
    raise RuntimeError("out of order")


def methods():
    small = Method("small", "x", lambda p, c, o: Outcome(residual=0.0), applies=lambda c: c.size < 10)
    return [ours("CG", CG), small, Method("broken", "x", broken)]


def run(*argv):
    return main("name", "What it does.", cases(), methods(), [*argv, "--repeats", "1", "--threads", "1"])


@pytest.fixture(autouse=True)
def _threads_kept():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def names(records):
    return [f"{r.label} {r.method}" for r in records]


def test_quick_takes_the_quick_cases_and_methods_that_apply():
    assert names(run("--quick")) == ["line:7 CG", "line:7 small", "line:7 broken"]


def test_only_takes_problems_and_sizes_also_beside_quick():
    assert names(run("--only", "line:15,plane", "--methods", "CG,small")) == [
        "line:15 CG",
        "plane:7 CG",
        "plane:7 small",
    ]
    assert names(run("--only", "plane:7", "--quick", "--methods", "CG")) == ["plane:7 CG"]


def test_large_cases_are_measured_only_when_named():
    assert names(run("--only", "plane", "--methods", "CG")) == ["plane:7 CG"]
    assert names(run("--only", "plane:9", "--methods", "CG")) == ["plane:9 CG"]


def test_records_are_written_as_json_lines_failures_included(tmp_path, capsys):
    path = tmp_path / "new" / "records.jsonl"
    records = run("--quick", "--out", str(path))
    assert read_records([path]) == records
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["converged"] for line in lines] == [True, True, False]
    assert lines[2]["reason"] == "RuntimeError: out of order"
    schema = (
        "benchmark problem size method package kind dtype device threads setup_s solve_s train_s data_s steps"
    )
    schema += " residual error converged repeats spread seed commit env"
    assert set(schema.split()) <= set(lines[0])
    shown = capsys.readouterr().out
    assert "failed line:7 broken: RuntimeError: out of order" in shown
    assert "at equal error" in shown


def test_every_tolerance_of_the_ladder_is_measured():
    records = run("--quick", "--methods", "CG", "--rtol", "1e-2,1e-6")
    assert [r.rtol for r in records] == [1e-2, 1e-6]
    assert all(r.residual <= r.rtol for r in records)


def test_list_measures_nothing(capsys):
    assert run("--list") == []
    shown = capsys.readouterr().out
    assert "7*, 15" in shown
    assert "7, 9+" in shown
    assert "CG, small, broken" in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--only", "sphere"], "--only sphere names no case: there are line:7, line:15, plane:7, plane:9"),
        (["--only", "plane", "--quick"], "no case is left"),
        (["--methods", "GMRES"], "--methods GMRES is unknown: there are CG, small, broken"),
        (["--device", "abacus"], "--device abacus cannot be used here"),
        (["--rtol", "2"], "a relative tolerance lies between 0 and 1"),
        (["--repeats", "0"], "must be at least 1"),
    ],
)
def test_bad_arguments_end_with_code_2_and_say_what_exists(argv, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main("name", None, cases(), methods(), argv)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_method_over_the_wall_limit_skips_larger_sizes():
    slow = Method("slow", "x", lambda p, c, o: Outcome(residual=0.0, solve_s=5.0))
    argv = ["--only", "line", "--seconds", "1", "--repeats", "1", "--threads", "1"]
    first, second = main("name", None, cases(), [slow], argv)
    assert first.ok
    assert second.reason == "NotTried: took 5 s at size 7, over the limit of 1 s"


def test_a_problem_that_cannot_be_built_fails_every_method():
    def build():
        raise ValueError("no such mesh")

    (record,) = main("name", None, [Case("p", 1, build)], [ours("CG", CG)], ["--threads", "1"])
    assert record.reason == "NotTried: the problem could not be built (ValueError: no such mesh)"


def test_a_script_gives_every_library_the_same_threads(tmp_path):
    script = tmp_path / "pools.py"
    script.write_text(
        "import os, torch, numba\n"
        "from solvus.bench import Case, Method, Outcome, main\n"
        "def run(p, c, o):\n"
        "    found = {os.environ.get(k + '_NUM_THREADS') for k in ('OMP', 'OPENBLAS', 'MKL')}\n"
        "    found |= {str(torch.get_num_threads()), str(numba.get_num_threads()), str(o.threads)}\n"
        "    return Outcome(residual=0.0, extra={'found': sorted(found)})\n"
        "main('pools', None, [Case('p', 1, lambda: None)], [Method('m', 'x', run)])\n"
    )
    out = tmp_path / "out.jsonl"
    subprocess.run([sys.executable, script, "--threads", "1", "--out", out], check=True, capture_output=True)
    (record,) = read_records([out])
    assert record.extra["found"] == ["1"]
    assert record.threads == 1
