"""Several processes: the loss curve, the weights and the files of one."""

import json

import pytest

from solvus.solvers.training.distributed import BadLaunch, processes


def told(folder):
    return json.loads((folder / "told.json").read_text())


def flat(values):
    return [v for part in values for v in (flat(part) if isinstance(part, list) else [part])]


@pytest.fixture(scope="module")
def one(start, tmp_path_factory):
    """What one process tells."""
    out = tmp_path_factory.mktemp("one")
    code, words = start("train.py", out)
    assert code == 0, words
    return told(out)


@pytest.mark.parametrize("accumulate", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_two_processes_give_the_curve_of_one(start, one, tmp_path, accumulate):
    code, words = start("train.py", tmp_path, processes=2, ACCUMULATE=accumulate)
    assert code == 0, words
    two = told(tmp_path)
    assert flat(two["curve"]) == pytest.approx(flat(one["curve"]), rel=1e-6)
    assert flat(two["weights"]) == pytest.approx(flat(one["weights"]), rel=1e-4, abs=1e-6)
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 4


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_goes_on_with_one(start, one, tmp_path):
    code, _ = start("train.py", tmp_path, "die", 6, processes=2)
    assert code != 0
    code, words = start("train.py", tmp_path)
    assert code == 0, words
    assert flat(told(tmp_path)["curve"]) == pytest.approx(flat(one["curve"]), rel=1e-6)


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(BadLaunch, match=r"WORLD_SIZE.*RANK is: start with `torchrun"), processes("cpu"):
        pass
