"""What watches a training."""

import importlib.util
import io
import json
import sys

import pytest
from rich.console import Console

from solvus.solvers.training.fit import fit
from solvus.solvers.training.logs import Callback, CSVLog, JSONLog, Moment, Progress, TensorBoard
from solvus.solvers.training.losses import RelativeL2
from solvus.solvers.training.settings import Training


def moment(*rows):
    return Moment(len(rows), 5, 0, 4, 10.0, 61.0, rows)


def test_logs_follow_the_history_after_a_resume(tmp_path):
    rows = [{"epoch": n, "train": 1.0 / n, "valid": None} for n in (1, 2, 3)]
    for log in (CSVLog(tmp_path / "a.csv"), JSONLog(tmp_path / "a.jsonl")):
        log.on_start(moment())
        for n in (1, 2, 3):
            log.on_epoch(moment(*rows[:n]))
        log.on_start(moment(rows[0]))  # the checkpoint was older than the log
        log.on_epoch(moment(*rows[:2]))
    assert (tmp_path / "a.csv").read_text().split() == ["epoch,train,valid", "1,1.0,", "2,0.5,"]
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == rows[:2]


def test_callbacks_see_every_moment(tiny):
    class Watch(Callback):
        def __init__(self):
            self.seen = []

        def on_start(self, moment):
            self.seen.append("start")

        def on_batch(self, moment):
            self.seen.append((moment.epoch, moment.batch, moment.batches))

        def on_epoch(self, moment):
            self.seen.append(moment.history[-1]["epoch"])
            self.rate, self.left = moment.rate, moment.left

        def on_end(self):
            self.seen.append("end")

    watch = Watch()
    fit(tiny.make(), tiny.pairs(), RelativeL2(), Training(2, 16), callbacks=[watch])
    assert watch.seen == ["start", (1, 1, 2), (1, 2, 2), 1, (2, 1, 2), (2, 2, 2), 2, "end"]
    assert watch.rate > 0
    assert watch.left == 0


def test_callbacks_end_after_an_error(tiny):
    ended = []

    class Fails(Callback):
        def on_epoch(self, moment):
            raise RuntimeError("no")

        def on_end(self):
            ended.append(True)

    with pytest.raises(RuntimeError, match="no"):
        fit(tiny.make(), tiny.pairs(), RelativeL2(), Training(2, 16), callbacks=[Fails()])
    assert ended == [True]


def test_progress(tiny):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    fit(
        tiny.make(),
        tiny.pairs(),
        RelativeL2(),
        Training(2, 16),
        valid=tiny.pairs(4),
        callbacks=[Progress(console)],
    )
    assert "epoch 2/2" in text.getvalue()
    assert "valid" in text.getvalue()
    assert "left" in text.getvalue()


def test_tensorboard(tiny, tmp_path, monkeypatch):
    if importlib.util.find_spec("tensorboard"):
        fit(tiny.make(), tiny.pairs(), RelativeL2(), Training(2, 16), callbacks=[TensorBoard(tmp_path)])
        assert list(tmp_path.glob("events*"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        TensorBoard(tmp_path)
