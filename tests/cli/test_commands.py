import subprocess
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import solvus.cli
import solvus.doctor
from solvus.bench import Environment, Record
from solvus.cli import app
from solvus.doctor import Check, Finding, examine, self_test
from solvus.named import equation_named
from solvus.solvers import Status
from solvus.solvers.krylov import CG
from solvus.solvers.preconditioners import jacobi


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def flat(text):
    return " ".join(text.split())


def test_version():
    shown = run("--version")
    assert shown.exit_code == 0
    assert shown.stdout.startswith("solvus 0.")


# --- report -------------------------------------------------------------------------------------------------


def test_report_writes_the_page_and_names_it(tmp_path):
    base = {"benchmark": "b", "problem": "p", "size": 3, "method": "m", "package": "x", "threads": 1}
    record = Record(**base, solve_s=1.0, converged=True, env=Environment(cpu="c", cores=1))
    source = tmp_path / "r.jsonl"
    source.write_text(record.model_dump_json() + "\n")
    shown = run("report", "--out", tmp_path / "page", source, "--title", "My <title>")
    assert shown.exit_code == 0
    page = tmp_path / "page" / "index.html"
    assert f"1 records drawn in {page}" in shown.stdout
    assert "<h1>My &lt;title&gt;</h1>" in page.read_text()


def test_report_without_usable_records(tmp_path):
    empty = tmp_path / "r.jsonl"
    empty.write_text("")
    assert "there is no record to draw" in run("report", "--out", tmp_path, empty).stderr
    shown = run("report", "--out", tmp_path, tmp_path / "gone.jsonl")
    assert shown.exit_code == 2
    assert "no records at" in shown.stderr


# --- bench --------------------------------------------------------------------------------------------------


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A folder of benchmarks in the working directory, and the commands that are started."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name in ("masked", "poisson"):
        (folder / f"{name}.py").write_text("")
    monkeypatch.chdir(tmp_path)
    started = []

    def start(command, check):
        started.append(command[1:])
        return subprocess.CompletedProcess(command, int("masked" in command[1]))

    monkeypatch.setattr(solvus.cli.subprocess, "run", start)
    return started


def test_bench_passes_its_flags_on(scripts, tmp_path):
    words = ("--quick", "--only", "p:3", "--methods", "CG", "--repeats", "2", "--device", "cpu")
    assert run("bench", "poisson", *words, "--out", tmp_path / "records").exit_code == 0
    script, *flags = scripts[0]
    assert script == str(tmp_path / "benchmarks" / "poisson.py")
    assert flags == [*words, "--out", str(tmp_path / "records" / "poisson.jsonl")]


def test_bench_runs_all_and_tells_of_failure(scripts):
    shown = run("bench")
    assert len(scripts) == 2
    assert shown.exit_code == 1
    assert "failed masked" in shown.stderr


def test_bench_names_what_exists(scripts):
    shown = run("bench", "golf")
    assert shown.exit_code == 2
    assert "there is no benchmark golf: there are masked, poisson" in flat(shown.stderr)
    assert scripts == []


def test_bench_outside_of_a_checkout(monkeypatch):
    monkeypatch.setattr(solvus.cli, "benchmark_folder", lambda: None)
    assert "part of the repository: run this in a checkout" in flat(run("bench").stderr)


# --- doctor -------------------------------------------------------------------------------------------------


def test_the_self_test_passes_here():
    checks = self_test(size=31)
    assert len(checks) >= 8
    assert [c.solver for c in checks if not c.passed] == []
    assert all(c.residual <= 1e-8 for c in checks)


def test_what_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(solvus.doctor, "_version", lambda name: None)
    monkeypatch.setattr(solvus.doctor, "discover", list)
    missing = {f.part: f for f in examine() if not f.works}
    assert "pip install 'solvus[direct]'" in missing["pypardiso"].detail
    assert "pip install 'solvus[fem]'" in missing["scikit-fem"].detail
    assert "python3-dolfinx-real" in missing["FEniCS"].detail
    assert missing["torch"].needed
    assert not missing["FEniCS"].needed


def test_doctor_is_well(monkeypatch):
    findings = [Finding("torch", True, "2", needed=True), Finding("FEniCS", False, "get it")]
    monkeypatch.setattr(solvus.cli, "examine", lambda: findings)
    monkeypatch.setattr(solvus.cli, "self_test", lambda device: [Check("CG", True, 1e-9, 0.1, "9 steps")])
    shown = run("doctor")
    assert shown.exit_code == 0
    assert "all is well" in shown.stdout
    assert "get it" in shown.stdout


def test_doctor_fails_on_a_wrong_solver_or_a_missing_need(monkeypatch):
    monkeypatch.setattr(solvus.cli, "examine", lambda: [Finding("torch", False, "gone", needed=True)])
    monkeypatch.setattr(solvus.cli, "self_test", lambda device: [Check("CG", False, 1.0, 0.1, "wrong")])
    shown = run("doctor")
    assert shown.exit_code == 1
    assert "not well: torch, CG" in shown.stdout


def test_the_self_test_notices_a_solver_that_is_wrong_or_crashes(monkeypatch):
    monkeypatch.setattr(CG, "iterate", lambda self, problem, x: iter([(x, problem.residual_norm(x))]))
    failed = {c.solver: c for c in self_test(size=15) if not c.passed}
    assert "CG" in failed
    assert "BREAKDOWN" in failed["CG"].detail

    result = solvus.doctor.solve(equation_named("poisson2d", 15), CG(jacobi), throw=False)  # to 1e-6 only
    claimed = replace(result, status=Status.CONVERGED)
    monkeypatch.setattr(solvus.doctor, "solve", lambda *args, **kw: claimed)
    assert not any(c.passed for c in self_test(size=15))
    monkeypatch.undo()

    def crash(self, problem, x):
        raise ValueError("out of order")

    monkeypatch.setattr(CG, "iterate", crash)
    (check,) = [c for c in self_test(size=15) if c.solver == "CG"]
    assert check.detail == "ValueError: out of order"
