"""Learned parts of linear solvers are trained by name: used, resumed and refused as networks are."""

import json
import re

import pytest
import torch
import typer
from typer.testing import CliRunner

from solvus.commands.train import train
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.parts.listing import PARTS, part_named
from solvus.parts.plan import Ended, PartPlan
from solvus.solvers import LinearSystem
from solvus.solvers.learned.directions import DCDMConfig, DCDMNetwork, random_obstacles
from solvus.solvers.learned.sparse_inverse import RandomMeshes
from solvus.solvers.training.outcome import Outcome
from solvus.solvers.training.saving import read_weights

APP = typer.Typer()
APP.command("train")(train)
APP.command("other")(lambda: None)

TINY = {
    "dcdm": "--steps 6 --size 4,6 --batch 2 --set channels=2 --set pairs=1 --set coarse=1",
    "multilevel-directions": "--steps 6 --size 6 --batch 2 --set levels=1 --set obstacles=1 --set boxes=2",
    "symmetric-directions": "--steps 6 --size 6 --batch 2 --set levels=1 --set obstacles=1 --set boxes=2",
    "cycle-chooser": "--steps 10 --size 23 --set width=3 --set fit-epochs=20",
    "learned-vcycle": "--steps 4 --size 31 --batch 1 --set width=4 --set start=0 --set groups=1 "
    "--set burn-in=1 --set vectors=2",
    "sparse-inverse": "--steps 4 --size 40,60 --set width=4 --set layers=1 --set pool=2 --set cg-steps=2",
    "correction": "--steps 8 --size 8,12 --batch 4 --set smoothing=10,20 --set channels=2 --set layers=1 "
    "--set systems=2",
    "deflation-basis": "--steps 6 --size 15 --set columns=4",
}
SIZES = {"cycle-chooser": 23, "learned-vcycle": 31, "correction": 12, "deflation-basis": 15}
BOXES = ("dcdm", "multilevel-directions", "symmetric-directions")
INEXACT = ("learned-vcycle", "sparse-inverse")  # go on with systems that are drawn anew
SLOW = ("cycle-chooser", "correction")  # a second and more
OFTEN = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in TINY]


def run(*words):
    given = [word for text in words for word in (text.split() if isinstance(text, str) else [str(text)])]
    return CliRunner().invoke(APP, ["train", *given])


def good(*words):
    shown = run(*words)
    assert shown.exit_code == 0, shown.output + shown.stderr
    return shown


def weights(run_folder):
    folder = run_folder / "model"
    return read_weights(folder, json.loads((folder / "config.json").read_text())["sha256"])


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train every part once: folder and what was shown, by name."""
    made = {}

    def of(name):
        if name not in made:
            out = tmp_path_factory.mktemp("runs") / name
            made[name] = out, good(name, "--out", out, TINY[name])
        return made[name]

    return of


def system_for(name):
    """Return a system of the kind that a part is made for."""
    if name == "sparse-inverse":
        A = RandomMeshes((60, 80), seed=7).draw(0)
    elif name in BOXES:
        obstacles = name != "dcdm"
        box = Grid((6, 6, 6), centring="cell", boundary="neumann")
        A = Diffusion(random_obstacles(6, 1, torch.Generator().manual_seed(5)) if obstacles else box)
    else:
        A = Diffusion(Grid((SIZES[name],) * 2))
    return LinearSystem(A, A @ torch.linspace(0, 1, A.shape[0], dtype=torch.float64))


def test_every_part_has_tiny_settings():
    assert list(TINY) == list(PARTS)


@pytest.mark.parametrize("name", TINY)
def test_a_part_is_trained_and_the_line_that_is_shown_uses_it(trained, name):
    out, shown = trained(name)
    steps = int(re.search(r"--steps (\d+)", TINY[name])[1])
    taken = int(re.search(r"FINISHED after (\d+) steps", shown.stdout)[1])
    assert taken == steps or (name == "correction" and steps < taken <= 1.5 * steps)  # whole epochs
    assert "validation" in shown.stdout
    assert f"model {out / 'model'}" in shown.stdout
    code = [
        line.strip() for line in shown.stdout.split("in Python, for a LinearSystem `system`:")[1].splitlines()
    ]
    names = {"system": system_for(name)}
    exec("\n".join(code), names)
    assert names["result"].status.name == "CONVERGED"
    assert float(names["result"].relative_residual) <= 1e-6
    card = (out / "model" / "README.md").read_text()
    assert f"| steps taken | {taken} |" in card
    assert "| seed | 0 |" in card
    assert "| device | cpu |" in card


@pytest.mark.parametrize("name", [n for n in TINY if n != "deflation-basis"])
def test_training_changes_the_weights(trained, name):
    plan, after = part_named(name), weights(trained(name)[0])
    config = json.loads((trained(name)[0] / "plan.json").read_text())["settings"]
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = plan.make(type(plan.config)(**config)).state_dict()
    assert before.keys() == after.keys()
    assert not same(before, after)


def reproduces(name, words, whole, out):
    """Whether a run gives the bits of another one whatever the global generator, and leaves that alone."""
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    good(name, "--out", out, words)
    return same(whole, weights(out)) and torch.equal(state, torch.random.get_rng_state())


def goes_on(name, words, whole, out):
    """Whether a training that is stopped after every few steps ends with the bits of one that is not."""
    stopped = [good(name, "--out", out, words, "--seconds 0").stdout for _ in range(2)]
    assert all("TIMEOUT after" in text and "the same command goes on" in text for text in stopped)
    good(name, "--out", out, words, "--resume")
    return same(whole, weights(out))


@pytest.mark.parametrize("name", OFTEN)
def test_the_seed_decides(trained, name, tmp_path):
    whole = weights(trained(name)[0])
    assert reproduces(name, TINY[name], whole, tmp_path / "again")
    good(name, "--out", tmp_path / "other", TINY[name], "--seed 1")
    assert not same(whole, weights(tmp_path / "other"))


@pytest.mark.parametrize("name", [n for n in OFTEN if getattr(n, "values", [n])[0] not in INEXACT])
def test_stopped_and_called_again_it_ends_with_the_same_bits(trained, name, tmp_path):
    assert goes_on(name, TINY[name], weights(trained(name)[0]), tmp_path / "run")


@pytest.mark.parametrize("name", INEXACT)
def test_stopped_and_called_again_it_goes_on(name, tmp_path):
    out = tmp_path / "run"
    assert "TIMEOUT after 1 steps" in good(name, "--out", out, TINY[name], "--seconds 0").stdout
    assert "FINISHED after 4 steps" in good(name, "--out", out, TINY[name], "--resume").stdout
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert (out / "history.csv").read_text().count("\n") == 5


def test_checks_find_a_part_that_forgets(tmp_path, monkeypatch):
    def forgetful(network, training, request):
        """Draw without the seed, and begin anew whenever it is called."""
        with torch.no_grad():
            for p in network.parameters():
                p.copy_(torch.rand(p.shape))
        outcome = Outcome.FINISHED if request.seconds is None else Outcome.TIMEOUT
        return Ended(network, outcome, 1, 0.0, [("validation", "1")])

    plan = PartPlan(
        "", DCDMConfig(), DCDMNetwork, part_named("dcdm").training, forgetful, ("",), "{folder}", ""
    )
    monkeypatch.setattr("solvus.parts.directions.FORGETFUL", plan, raising=False)
    monkeypatch.setitem(PARTS, "forgetful", "directions:FORGETFUL")
    good("forgetful", "--out", tmp_path / "whole", "--set channels=2")
    whole = weights(tmp_path / "whole")
    assert not reproduces("forgetful", "--set channels=2", whole, tmp_path / "a")
    assert not goes_on("forgetful", "--set channels=2", whole, tmp_path / "b")


@pytest.mark.parametrize("name", ["dcdm", "learned-vcycle"])
def test_interrupted_it_says_so_and_goes_on(name, tmp_path, monkeypatch):
    out, step, calls = tmp_path / "run", torch.optim.Adam.step, []

    def interrupted(self, *more):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return step(self, *more)

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    shown = run(name, "--out", out, TINY[name])
    assert shown.exit_code == 130
    assert "stopped: the same command goes on from the last checkpoint in" in shown.stdout
    assert not (out / "model").exists()
    monkeypatch.setattr(torch.optim.Adam, "step", step)
    assert "FINISHED" in good(name, "--out", out, TINY[name], "--resume").stdout


def test_the_same_command_after_the_end_changes_nothing(trained):
    out, _ = trained("dcdm")
    before = weights(out)
    shown = good("dcdm", "--out", out, TINY["dcdm"])
    assert "1 of 1 epochs are done: going on" in shown.stdout
    assert same(before, weights(out))


def test_other_settings_and_other_files_are_refused(trained, tmp_path):
    out, _ = trained("dcdm")
    for more, what in (
        ("--set channels=3", "another run, other in settings"),
        ("--steps 7", "another run, other in training"),
        ("--seed 3", "another run, other in seed"),
    ):
        shown = run("dcdm", "--out", out, TINY["dcdm"], more)
        assert shown.exit_code == 2
        assert what in shown.stderr.replace("\n", " ")
    shown = run("multilevel-directions", "--out", out, TINY["multilevel-directions"])
    assert "other in part" in shown.stderr.replace("\n", " ")
    (tmp_path / "thesis.txt").write_text("all of it")
    assert "holds other files: choose another --out" in run("dcdm", "--out", tmp_path).stderr
    assert "holds other files" in run("dcdm", "--out", tmp_path / "thesis.txt").stderr


def test_bad_words_end_with_2_and_leave_nothing(tmp_path):
    out = tmp_path / "run"
    for words, message in (
        ("dcmd", "no network 'dcmd', and no part of a solver: networks are fno"),
        ("dcmd", "parts are dcdm, multilevel-directions, symmetric-directions"),
        ("dcdm some-data", "dcdm draws its training data itself: leave out some-data"),
        ("fno dcdm", "dcdm is a part of a solver and no data: `solvus train dcdm` trains it"),
        ("fno", "name the data"),
        ("fno data --steps 3", "give --epochs in place of --steps"),
        ("fno data --size 3", "leave out --size; --stride keeps fewer points"),
        ("dcdm --epochs 100 --stride 1", "takes no --epochs, --stride: it takes --steps, --size, --batch"),
        ("dcdm --loss relative-l2", "takes no --loss"),
        (
            "sparse-inverse --batch 3",
            "sparse-inverse has no --batch: it has --steps, --size, --learning-rate",
        ),
        ("dcdm --set chanels=3", "dcdm has no setting chanels: it has boxes, channels, coarse"),
        ("dcdm --set channels=few", "the setting channels takes a whole number, got 'few'"),
        ("dcdm --set channels", "--set takes KEY=VALUE, got 'channels'"),
        ("dcdm --set channels=0", "channels, pairs, coarse and fine are at least 1"),
        ("dcdm --set steps=3", "steps of dcdm is an option: give --steps in place of --set"),
        ("dcdm --set obstacles=-1", "obstacles are 0 or more, boxes 1 or more, got -1"),
        ("dcdm --size 2", "dcdm is trained on sizes from 4 on, got --size 2"),
        ("dcdm --size ,", "dcdm is trained on sizes from 4 on, got --size none"),
        ("dcdm --size 16x32", "--size takes whole numbers, separated by commas, got '16x32'"),
        ("dcdm --learning-rate 0", "--learning-rate is positive, got 0"),
        ("dcdm --device abacus", "device 'abacus' cannot be used here"),
        ("dcdm --resume", "holds no run to go on with: leave out --resume, or name it with --out"),
        ("multilevel-directions --set start=middle", "start is 'additive' or 'random', got 'middle'"),
        ("learned-vcycle --device meta", "learned-vcycle is trained on the CPU: leave out --device meta"),
        ("learned-vcycle --size 31", "systems of size 31 have none there: give a larger --size"),
        ("learned-vcycle --set dim=4", "a learned cycle needs dim 1 to 3"),
        ("sparse-inverse --set pattern=full --set objective=kaporin", "'kaporin' needs the determinant"),
        ("correction --size 8", "5 levels need at least 32 points on every axis, got (8, 8)"),
        ("correction --set systems=0", "a round takes at least 1 system, got 0"),
        ("deflation-basis --size 15,31", "a basis fits one grid: give one --size, got 15,31"),
        ("deflation-basis --set columns=0", "columns from 1 on"),
        ("cycle-chooser --steps 9", "a chooser is trained on 10 systems at least, got 9 steps"),
        ("cycle-chooser --set dim=1", "a chooser needs dim 2 or 3"),
    ):
        shown = run(words, "--out", out)
        assert shown.exit_code == 2, (words, shown.output)
        assert message in shown.stderr.replace("\n", " "), (words, shown.stderr)
        assert not out.exists(), words


def test_an_error_before_the_first_step_leaves_nothing(tmp_path, monkeypatch):
    def closed(*more):
        raise ValueError("100 draws left no connected fluid: ask for fewer")

    monkeypatch.setattr("solvus.parts.directions.random_obstacles", closed)
    shown = run("multilevel-directions", TINY["multilevel-directions"], "--out", tmp_path / "run")
    assert shown.exit_code == 2
    assert "left no connected fluid" in shown.stderr
    assert not (tmp_path / "run").exists()


def test_a_network_can_be_told_to_resume(tmp_path):
    torch.save({"x": torch.rand(20, 16, 16), "y": torch.rand(20, 16, 16)}, tmp_path / "a.pt")
    words = ("fno", tmp_path / "a.pt", "--out", tmp_path / "run", "--set width=4 --set layers=1 --epochs 1")
    shown = run(*words, "--resume")
    assert shown.exit_code == 2
    assert "holds no run to go on with" in shown.stderr.replace("\n", " ")
    good(*words)
    assert "1 of 1 epochs are done: going on" in good(*words, "--resume").stdout


def test_lists_and_help():
    shown = good("--list").stdout
    assert "fno" in shown
    for name in PARTS:
        assert name in shown
        settings = good(name, "--list").stdout
        assert "--steps" in settings
        assert "training" in settings
    text = re.sub(r"[\s│]+", " ", good("--help").stdout)
    assert "part of a linear solver, one of dcdm, multilevel-directions" in text
    assert "--resume" in text
