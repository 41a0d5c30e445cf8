"""`solvus train pinn PROBLEM`: files, errors beside the classical method, going on, and what is refused."""

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

from solvus.commands.train import train
from solvus.solvers.optim import MultiAdam
from solvus.solvers.pinn import Solution
from solvus.solvers.pinn.problems import PROBLEMS, problem_named

APP = typer.Typer()
APP.command("train")(train)
APP.command("other")(lambda: None)
SMALL = "--set width=8 --set depth=1 --set domain=60 --set boundary=30"


def run(*words):
    given = [word for text in words for word in (text.split() if isinstance(text, str) else [str(text)])]
    return CliRunner().invoke(APP, ["train", "pinn", *given])


def good(*words):
    shown = run(*words)
    assert shown.exit_code == 0, shown.output + shown.stderr
    return shown.output


def test_a_training(tmp_path):
    out = tmp_path / "run"
    said = good("helmholtz2d --optimiser multiadam --steps 8", SMALL, "--out", out)
    assert "FINISHED after 8 steps" in said
    assert "relative L2 error" in said
    assert "classical method" in said
    assert "(none is published)" in said
    assert (out / "pictures.png").stat().st_size > 10_000
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["steps"] == 8
    assert metrics["classical_error"] < 1e-2 < metrics["error"]
    problem = problem_named("helmholtz2d").make(hard=False)
    u = Solution.load(out / "model", problem)
    known = problem_named("helmholtz2d").reference()
    assert u.error(known.points, known.values) == pytest.approx(metrics["error"])
    line = next(row for row in said.splitlines() if "Solution.load" in row)
    assert "hard=False" in line


@pytest.mark.parametrize(("at", "then"), [(2, "begins anew, as there is no checkpoint yet"), (5, "goes on")])
def test_interrupted_it_says_what_comes_next(at, then, tmp_path, monkeypatch):
    step, calls = MultiAdam.step, []

    def interrupted(self, *more):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return step(self, *more)

    words = ("helmholtz2d --optimiser multiadam --steps 60", SMALL, "--out", tmp_path / "run")
    monkeypatch.setattr(MultiAdam, "step", interrupted)
    shown = run(*words)
    assert shown.exit_code == 130
    assert f"stopped: the same command {then}" in shown.output
    monkeypatch.setattr(MultiAdam, "step", step)
    assert "FINISHED after 60 steps" in good(*words)


def test_the_same_command_goes_on(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    words = ("hnd --optimiser adam --set d=2 --steps 30", SMALL)
    good(*words, "--out", whole)
    assert "TIMEOUT" in good(*words, "--seconds 0", "--out", cut)
    assert "FINISHED" in good(*words, "--out", cut)
    problem = problem_named("hnd").make(d=2)
    thetas = [Solution.load(folder / "model", problem).theta for folder in (whole, cut)]
    assert torch.equal(*thetas)
    other = run("hnd --optimiser adam --set d=3 --steps 30", SMALL, "--out", cut)
    assert other.exit_code == 2
    assert "holds another run, other in parameters" in other.stderr


def test_the_lists():
    said = good("--list")
    assert all(name in said for name in PROBLEMS)
    assert "MultiAdam, equations and conditions as groups" in " ".join(said.split())
    assert "of hnd" not in said
    assert "d 5 of hnd" in " ".join(good("hnd --list").split())


def test_every_problem_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("hnd", "helmholtz2d"):
        good(f"{name} --optimiser adam --steps 1", SMALL)
        assert (tmp_path / f"pinn-{name}" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("", "name the problem: `solvus train pinn PROBLEM`"),
        ("poisson", "there is no problem 'poisson': there are burgers1d-c"),
        ("hnd --optimiser sgd", "--optimiser is one of recipe, adam"),
        ("hnd --steps 5", "the recipe of hnd has steps and rates of its own: leave out --steps"),
        ("hnd --set width=3", "hnd has no setting width: with this optimiser it has d"),
        ("hnd --optimiser adam --set d=five", "d is a whole number such as 5, got 'five'"),
        ("helmholtz2d --set hard=no", "hard is True or False, got 'no'"),
        ("hnd --optimiser adam --set width=-3", "width is positive, got -3"),
        ("hnd --epochs 3", "pinn takes no --epochs: it takes --out, --set, --steps, --learning-rate"),
        ("hnd --size 3", "pinn takes no --size"),
    ],
)
def test_what_is_refused(words, error, tmp_path):
    shown = run(words, "--out", tmp_path / "run")
    assert shown.exit_code == 2
    assert error in " ".join(shown.stderr.split())
    assert not (tmp_path / "run").exists()


def test_a_classical_method_that_cannot_follow_is_said(tmp_path):
    said = " ".join(
        good("hnd --optimiser adam --set d=9 --steps 2", SMALL, "--out", tmp_path / "run").split()
    )
    assert "not run: degree 6 in 9 dimensions" in said
    assert "none is published for these parameters" in said
    assert "classical_error" not in json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (tmp_path / "run" / "pictures.png").exists()


def test_without_the_files_of_a_reference_it_is_trained_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("SOLVUS_REFERENCE", str(tmp_path))
    said = good("poisson2d-c --optimiser adam --steps 3", SMALL, "--out", tmp_path / "run")
    assert "no reference" in said
    assert "SOLVUS_REFERENCE" in " ".join(said.split())
    assert "relative L2 error" not in said
