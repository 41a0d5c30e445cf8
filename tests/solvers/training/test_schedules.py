"""Schedules against those of torch, settings against their JSON values."""

import json

import pytest
import torch
from torch.optim import lr_scheduler

from solvus.solvers.training.schedules import Constant, Cosine, OneCycle, StepDecay, schedule_from
from solvus.solvers.training.settings import Training

SCHEDULES = [
    Constant(),
    StepDecay(7, 0.3),
    Cosine(0.1, 0.01),
    OneCycle(0.2, 2, 100, (0.85, 0.95), per="epoch"),
]


def rates(make, steps):
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = make(optimiser)
    found = []
    for _ in range(steps):
        group = optimiser.param_groups[0]
        found.append((group["lr"], group["betas"][0]))
        optimiser.step()
        schedule.step()
    return found


@pytest.mark.parametrize("total", [7, 40, 501])
@pytest.mark.parametrize("start", [0.2, 0.3])
def test_one_cycle_is_that_of_torch(total, start):
    ours = OneCycle(start, 2, 100, (0.85, 0.95))
    theirs = rates(
        lambda o: lr_scheduler.OneCycleLR(
            o, 1.0, total_steps=total + 1, pct_start=start, div_factor=2, final_div_factor=100
        ),
        total,
    )
    # total_steps = total + 1 lets torch's last step() pass; ours is asked with the same length
    found = [(ours.at(t, total + 1), ours.momentum(t, total + 1)) for t in range(total)]
    assert torch.allclose(torch.tensor(found), torch.tensor(theirs))
    other = [(Cosine().at(t, total + 1), 0.9) for t in range(total)]
    assert not torch.allclose(torch.tensor(other), torch.tensor(theirs))


def test_cosine_and_steps_are_those_of_torch():
    found = rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 50), 50)
    assert torch.allclose(
        torch.tensor([r for r, _ in found]), torch.tensor([Cosine().at(t, 50) for t in range(50)])
    )
    found = rates(lambda o: lr_scheduler.StepLR(o, 10, 0.5), 50)
    ours = [StepDecay(10, 0.5).at(t, 50) for t in range(50)]
    assert torch.allclose(torch.tensor([r for r, _ in found]), torch.tensor(ours))


def test_mgno_and_warm_up():
    settings = Training(500, 8, 5e-4, schedule=OneCycle(0.2, 2, 100, per="epoch"))
    path = [settings.rate(epoch * 125 + 60, 125) for epoch in (0, 99, 499)]
    assert path == pytest.approx([2.5e-4, 5e-4, 2.5e-6])
    warm = [Cosine(warmup=0.5).at(t, 8) for t in range(8)]
    assert warm[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert OneCycle(0.1).at(0, 1) > 0
    assert OneCycle(0.5).at(0, 2) == 1.0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_values_make_the_same_settings(schedule):
    settings = Training(7, 3, betas=(0.8, 0.9), clip=0.1, ema=0.99, schedule=schedule)
    assert Training.from_values(json.loads(json.dumps(settings.values()))) == settings


def test_unknown_names():
    with pytest.raises(ValueError, match="Training has no batches"):
        Training.from_values({"batches": 3})
    with pytest.raises(ValueError, match="no schedule 'Linear'"):
        schedule_from({"kind": "Linear"})
    with pytest.raises(ValueError, match="Cosine has no div"):
        schedule_from({"kind": "Cosine", "div": 2})


WRONG = [
    ({"epochs": 0}, "at least 1"),
    ({"learning_rate": float("inf")}, "positive and finite"),
    ({"clip": 0.0}, "positive"),
    ({"seconds": -1.0}, "not negative"),
    ({"ema": 1.0}, "between 0 and 1"),
    ({"batch": 2, "accumulate": 3}, "cannot be computed in 3 parts"),
    ({"precision": "fp8"}, "precision is one of float32"),
    ({"optimiser": "lion"}, "optimiser is one of"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_settings_out_of_range(given, message):
    with pytest.raises(ValueError, match=message):
        Training(**given)


@pytest.mark.parametrize(
    "make", [lambda: StepDecay(0), lambda: Cosine(1.0), lambda: OneCycle(div=0.5), lambda: OneCycle(1.5)]
)
def test_schedules_out_of_range(make):
    with pytest.raises(ValueError, match="got"):
        make()
