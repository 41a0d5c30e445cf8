"""Rounds of steps: a row per round, a state that goes on, a limit of time."""

import json

import pytest
import torch

from solvus.parts.rounds import Rounds
from solvus.solvers.training.checkpoint import BrokenCheckpoint
from solvus.solvers.training.logs import Callback
from solvus.solvers.training.outcome import Outcome


class Walk:
    """A random walk: what is left after so many steps depends on all of them."""

    def __init__(self, *, complete=True):
        self.step, self.place, self.complete = 0, 0.0, complete
        self.generator = torch.Generator().manual_seed(0)

    def advance(self):
        self.step += 1
        self.place += float(torch.randn((), generator=self.generator))
        return self.place

    def save_state(self, path):
        state = {"step": self.step, "place": self.place}
        torch.save(state | ({"generator": self.generator.get_state()} if self.complete else {}), path)

    def load_state(self, path):
        state = torch.load(path, weights_only=True)
        self.step, self.place = state["step"], state["place"]
        if self.complete:
            self.generator.set_state(state["generator"])


class Seen(Callback):
    def __init__(self):
        self.moments, self.ended = [], 0

    def on_start(self, moment):
        self.moments.append(("start", moment.epoch, moment.batch))

    def on_batch(self, moment):
        self.moments.append(("batch", moment.epoch, moment.batch))

    def on_epoch(self, moment):
        self.moments.append(("epoch", moment.epoch, moment.batch))

    def on_end(self):
        self.ended += 1


def walked(folder, kind, *limits, steps=50):
    for seconds in (*limits, None):
        walk = kind()
        outcome, history, _ = Rounds(steps, 1, folder, seconds).train(walk, lambda w=walk: w.place)
    return outcome, [{k: v for k, v in row.items() if k != "seconds"} for row in history], walk.place


def test_a_row_per_round(tmp_path):
    outcome, history, place = walked(tmp_path, Walk)
    assert outcome is Outcome.FINISHED
    assert [row["step"] for row in history] == [*range(3, 50, 3), 50]  # 17 rounds of 3, the last one of 2
    assert [row["epoch"] for row in history] == list(range(1, 18))
    assert history[-1]["valid"] == place
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["train"] for row in rows] == [row["train"] for row in history]
    walk, losses = Walk(), []
    losses = [walk.advance() for _ in range(3)]
    assert history[0]["train"] == pytest.approx(sum(losses) / 3)


@pytest.mark.parametrize("steps", [1, 19, 50])
def test_stopped_and_called_again_it_is_the_same(tmp_path, steps):
    whole = walked(tmp_path / "whole", Walk, steps=steps)
    assert walked(tmp_path / "parts", Walk, 0, 0, 0, 0, steps=steps) == whole


def test_the_check_finds_a_state_that_is_not_complete(tmp_path):
    def forgetful():
        return Walk(complete=False)

    whole = walked(tmp_path / "whole", Walk)
    assert walked(tmp_path / "parts", forgetful, 0) != whole


def test_a_limit_of_time_takes_one_step_at_least(tmp_path):
    walk = Walk()
    outcome, history, seconds = Rounds(50, 1, tmp_path, 0.0).train(walk, lambda: 0.0)
    assert (outcome, history, walk.step) == (Outcome.TIMEOUT, [], 1)
    assert seconds >= 0


def test_callbacks_see_every_step_and_every_round(tmp_path):
    seen = Seen()
    Rounds(4, 1, tmp_path / "a", callbacks=[seen]).train(Walk(), lambda: 0.0)
    each = [(kind, n, 0) for n in range(1, 5) for kind in ("batch", "epoch")]
    assert seen.moments == [("start", 0, 0), *each]
    seen = Seen()
    Rounds(30, 1, tmp_path / "b", callbacks=[seen]).train(Walk(), lambda: 0.0)
    assert seen.moments[:4] == [("start", 0, 0), ("batch", 1, 1), ("batch", 1, 0), ("epoch", 1, 0)]
    assert seen.moments[-1] == ("epoch", 15, 0)
    assert seen.ended == 1


def test_an_error_ends_the_callbacks(tmp_path):
    class Broken(Walk):
        def advance(self):
            raise ArithmeticError("no step")

    seen = Seen()
    with pytest.raises(ArithmeticError, match="no step"):
        Rounds(4, 1, tmp_path, callbacks=[seen]).train(Broken(), lambda: 0.0)
    assert seen.ended == 1
    assert not (tmp_path / "state.pt").exists()


def test_a_state_that_was_cut_off_is_named(tmp_path):
    walked(tmp_path, Walk)
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:100])
    with pytest.raises(BrokenCheckpoint, match=r"state.pt cannot be read .*: choose another folder"):
        walked(tmp_path, Walk)


def test_rows_beyond_the_state_are_dropped(tmp_path):
    whole = walked(tmp_path / "whole", Walk)
    Rounds(50, 1, tmp_path / "parts", 0.0).train(Walk(), lambda: 0.0)
    file = tmp_path / "parts" / "rounds.json"
    file.write_text(json.dumps({"step": 3, "history": [{"step": 3}], "losses": [], "seconds": 1.0}))
    _, history, place = walked(tmp_path / "parts", Walk)
    assert [row["step"] for row in history] == [row["step"] for row in whole[1]]
    assert place == whole[2]
