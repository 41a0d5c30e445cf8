"""Checkpoints: resuming to the bit after a kill, refusing what does not belong."""

import json
import signal

import pytest
import torch

from solvus.solvers.training.checkpoint import (
    BrokenCheckpoint,
    FolderInUse,
    OtherTraining,
    read_checkpoint,
)
from solvus.solvers.training.fit import fit
from solvus.solvers.training.losses import BandLimitedH1, RelativeL2
from solvus.solvers.training.schedules import Constant, OneCycle
from solvus.solvers.training.settings import Training


def told(folder):
    return json.loads((folder / "told.json").read_text())


@pytest.mark.parametrize(
    "step", [6, pytest.param(8, marks=pytest.mark.slow)]
)  # 4 steps an epoch: in the middle and at the end of the second
def test_a_killed_training_goes_on_to_the_same_bits(start, tmp_path, step):
    noise = {"DROPOUT": "0.3"}
    code, words = start("train.py", tmp_path / "whole", **noise)
    assert code == 0, words
    code, _ = start("train.py", tmp_path / "cut", "die", step, **noise)
    assert code == -signal.SIGKILL
    assert not (tmp_path / "cut" / "told.json").exists()
    code, words = start("train.py", tmp_path / "cut", **noise)
    assert code == 0, words
    assert told(tmp_path / "cut") == told(tmp_path / "whole")
    histories = [(tmp_path / n / "history.csv").read_text().splitlines() for n in ("cut", "whole")]
    without_time = [[",".join(line.split(",")[:4]) for line in lines] for lines in histories]
    assert without_time[0] == without_time[1]


BASE = {"epochs": 4, "batch": 8, "checkpoint_seconds": 0.0}


@pytest.fixture
def begun(tiny, tmp_path):
    """A training stopped after one epoch of four."""
    settings = Training(**BASE)
    fit(tiny.make(), tiny.pairs(), RelativeL2(), settings, out=tmp_path, callbacks=[lambda m: True])
    return tmp_path


def test_generators_matter_for_the_same_bits(tiny, tmp_path, monkeypatch):
    results = []
    for broken in (False, True):
        if broken:
            monkeypatch.setattr("solvus.solvers.training.checkpoint.set_generators", lambda states: None)
        out, settings = tmp_path / str(broken), Training(**BASE)
        fit(tiny.make(0.5), tiny.pairs(), RelativeL2(), settings, out=out, callbacks=[lambda m: True])
        net = tiny.make(0.5)
        fit(net, tiny.pairs(), RelativeL2(), settings, out=out, resume=True)
        results.append(net.lift.weight)
    whole = tiny.make(0.5)
    fit(whole, tiny.pairs(), RelativeL2(), Training(**BASE))
    assert torch.equal(results[0], whole.lift.weight)
    assert not torch.equal(results[1], whole.lift.weight)


OTHERS = {
    "rate": (Training(**BASE, learning_rate=0.5), RelativeL2(), "learning_rate was 0.001, is 0.5"),
    "length": (Training(**{**BASE, "epochs": 9}), RelativeL2(), "epochs was 4, is 9"),
    "schedule": (Training(**BASE, schedule=OneCycle(0.1)), RelativeL2(), "schedule was .*0.3.* is .*0.1"),
    "loss": (Training(**BASE), BandLimitedH1(), "loss was RelativeL2.* is BandLimitedH1"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_settings_are_refused(tiny, begun, kind):
    settings, loss, message = OTHERS[kind]
    with pytest.raises(OtherTraining, match=message):
        fit(tiny.make(), tiny.pairs(), loss, settings, out=begun, resume=True)


def test_other_models_and_data_are_refused(tiny, begun):
    wide = tiny.Tiny(tiny.TinyConfig(width=5))
    with pytest.raises(
        OtherTraining, match=r"weights: 3 of another shape: lift.weight is \[4, 1, 3\], needed \[5"
    ):
        fit(wide, tiny.pairs(), RelativeL2(), Training(**BASE), out=begun, resume=True)
    with pytest.raises(OtherTraining, match="samples was 24, is 25"):
        fit(tiny.make(), tiny.pairs(25), RelativeL2(), Training(**BASE), out=begun, resume=True)


def test_what_may_change(tiny, begun):
    settings = Training(**BASE, seconds=1e6, patience=100, keep=3)
    assert fit(tiny.make(), tiny.pairs(), RelativeL2(), settings, out=begun, resume=True).epochs == 4
    result = fit(tiny.make(), tiny.pairs(), RelativeL2(), settings, out=begun, resume=True)
    assert result.epochs == 4  # a finished one has nothing to do
    assert len(list((begun / "checkpoints").glob("step-*.pt"))) == 3


def test_a_training_without_a_set_length_can_be_longer(tiny, tmp_path):
    first, more = (Training(epochs=n, batch=8, schedule=Constant()) for n in (2, 4))
    fit(tiny.make(), tiny.pairs(), RelativeL2(), first, out=tmp_path)
    longer, whole = tiny.make(), tiny.make()
    fit(longer, tiny.pairs(), RelativeL2(), more, out=tmp_path, resume=True)
    fit(whole, tiny.pairs(), RelativeL2(), more)
    assert torch.equal(longer.lift.weight, whole.lift.weight)


def test_a_folder_in_use(tiny, begun):
    with pytest.raises(FolderInUse, match="resume=True"):
        fit(tiny.make(), tiny.pairs(), RelativeL2(), Training(**BASE), out=begun)


def test_broken_checkpoints(tiny, begun, tmp_path):
    (path,) = (begun / "checkpoints").glob("step-*.pt")
    content = path.read_bytes()
    for wrong in (content[: len(content) // 2], b"", b"no checkpoint"):
        path.write_bytes(wrong)
        with pytest.raises(BrokenCheckpoint, match="delete it"):
            fit(tiny.make(), tiny.pairs(), RelativeL2(), Training(**BASE), out=begun, resume=True)
    torch.save({"format": 2}, path)
    with pytest.raises(BrokenCheckpoint, match="format 2"):
        read_checkpoint(path)
    path.unlink()
    assert fit(tiny.make(), tiny.pairs(), RelativeL2(), Training(**BASE), out=begun, resume=True).epochs == 4


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


def test_checkpoints_execute_nothing(tmp_path):
    torch.save({"format": 1, "model": Evil()}, tmp_path / "step-0000000001.pt")
    with pytest.raises(BrokenCheckpoint, match="cannot be read"):
        read_checkpoint(tmp_path / "step-0000000001.pt")


def test_best_weights_are_kept_apart(tiny, tmp_path):
    result = fit(
        tiny.make(), tiny.pairs(), RelativeL2(), Training(**BASE), valid=tiny.pairs(9, 2), out=tmp_path
    )
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == [f"best-epoch-{result.best_epoch:05d}.pt", "step-0000000012.pt"]
    values = read_checkpoint(tmp_path / "checkpoints" / names[1])
    assert values["position"]["best"] == result.best
