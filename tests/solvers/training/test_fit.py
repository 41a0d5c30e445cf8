"""The loop: what it computes, how it ends, what it leaves behind."""

import csv
import itertools
import json
import math

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from solvus.operators.linear.errors import ShapeMismatch
from solvus.solvers.training.fit import fit
from solvus.solvers.training.logs import Callback
from solvus.solvers.training.losses import RelativeL2
from solvus.solvers.training.outcome import Diverged, Outcome
from solvus.solvers.training.schedules import Constant, OneCycle, StepDecay
from solvus.solvers.training.settings import Training
from solvus.solvers.training.surrogate import Surrogate
from solvus.solvers.training.validation import Validation, evaluate

QUICK = Training(epochs=3, batch=8, learning_rate=1e-2, schedule=Constant())


def quick(**changes):
    return Training(**{"epochs": 3, "batch": 8, "learning_rate": 1e-2, "schedule": Constant(), **changes})


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


class Items(Dataset):
    """Data that are not in memory as far as the loop knows."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


def test_it_learns(tiny):
    net = tiny.make()
    result = fit(
        net, tiny.pairs(200), RelativeL2(), quick(epochs=30, schedule=OneCycle()), valid=tiny.pairs(20, 2)
    )
    assert result.outcome is Outcome.FINISHED
    assert result.outcome.advice
    assert result.best < 0.3 * result.history[0]["valid"]
    assert result.parameters == 4 * 3 + 4 + 4 + 1
    assert evaluate(net, tiny.pairs(20, 2))["valid"] == pytest.approx(result.best)
    assert "FINISHED, 30 epochs" in repr(result)
    assert [row["epoch"] for row in result.history] == list(range(1, 31))


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_the_steps_are_those_of_a_plain_loop(tiny, optimiser):
    x, y = tiny.pairs()
    settings = quick(optimiser=optimiser, clip=0.5, weight_decay=0.1, schedule=StepDecay(2, 0.5))
    net, plain = tiny.make(), tiny.make()
    result = fit(net, (x, y), RelativeL2(), settings)
    make = {
        "adam": lambda p: torch.optim.Adam(p, 1e-2, weight_decay=0.1),
        "adamw": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
        "sgd": lambda p: torch.optim.SGD(p, 1e-2, 0.9, weight_decay=0.1),
    }
    step = make[optimiser](plain.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(step, 2, 0.5)
    for epoch in range(3):
        order = torch.randperm(24, generator=torch.Generator().manual_seed(epoch))
        losses = []
        for rows in order.split(8):
            step.zero_grad()
            e = (plain(x[rows]) - y[rows]).flatten(1).norm(dim=1) / y[rows].flatten(1).norm(dim=1)
            e.mean().backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            step.step()
            losses.append(e.mean().item())
        assert result.history[epoch]["train"] == pytest.approx(sum(losses) / 3, rel=1e-6)
        schedule.step()
    assert torch.allclose(weights(net), weights(plain), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("accumulate", [2, 3, 5])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_parts_of_a_batch_give_the_gradient_of_the_batch(tiny, accumulate, reduction):
    nets = [tiny.make().double() for _ in range(3)]
    data = tuple(t.double() for t in tiny.pairs(23))  # the last batch is smaller
    settings = {"optimiser": "sgd", "reduction": reduction, "learning_rate": 1e-3}
    fit(nets[0], data, RelativeL2(), quick(**settings))
    found = fit(nets[1], data, RelativeL2(), quick(**settings, accumulate=accumulate))
    fit(nets[2], data, RelativeL2(), quick(**{**settings, "batch": 2}))
    assert torch.allclose(weights(nets[0]), weights(nets[1]), rtol=1e-12)
    assert not torch.allclose(
        weights(nets[0]), weights(nets[2]), rtol=1e-12
    )  # other steps: the check can fail
    assert found.history[-1]["step"] == 9


def test_sum_and_mean_differ_by_the_batch_for_sgd(tiny):
    nets = [tiny.make().double() for _ in range(2)]
    data = tuple(t.double() for t in tiny.pairs())
    plain = {"optimiser": "sgd", "weight_decay": 0.0}
    fit(nets[0], data, RelativeL2(), quick(**plain, reduction="sum", learning_rate=1e-3 / 8))
    fit(nets[1], data, RelativeL2(), quick(**plain, learning_rate=1e-3))
    assert torch.allclose(weights(nets[0]), weights(nets[1]), rtol=1e-12)


def sources(x, y):
    class WithTensors(Items):
        def tensors(self):
            return self.x, self.y

    class InMemory(Items):
        in_memory = True

    class NotNow(Items):
        def tensors(self):
            return None

    return {
        "tensor dataset": (TensorDataset(x, y), 0),
        "tensors()": (WithTensors(x, y), 0),
        "in_memory": (InMemory(x, y), 0),
        "loader": (Items(x, y), 0),
        "tensors() is None": (NotNow(x, y), 0),
        "workers": (Items(x, y), 2),
    }


SOURCES = ("tensor dataset", "tensors()", "in_memory", "loader", "tensors() is None", "workers")


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_weights(tiny, kind):
    x, y = tiny.pairs()
    reference, net = tiny.make(dropout=0.5), tiny.make(dropout=0.5)
    fit(reference, (x, y), RelativeL2(), QUICK)
    data, workers = sources(x, y)[kind]
    fit(net, data, RelativeL2(), quick(workers=workers))
    assert torch.equal(weights(reference), weights(net))


def test_seed_and_generators(tiny):
    nets = [tiny.make(dropout=0.5) for _ in range(3)]
    before = torch.get_rng_state()
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        fit(net, tiny.pairs(), RelativeL2(), quick(seed=seed))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(weights(nets[0]), weights(nets[1]))
    assert not torch.equal(weights(nets[0]), weights(nets[2]))


def test_several_inputs_become_arguments():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.tensor(0.5))

        def forward(self, u, v):
            return self.a * (u + v)

    u, v = torch.ones(8, 1, 4), 2 * torch.ones(8, 1, 4)
    net = Sum()
    fit(net, ((u, v), 6 * u), RelativeL2(), quick(epochs=100, learning_rate=0.1, schedule=StepDecay(30)))
    assert net.a.item() == pytest.approx(2, abs=0.1)


def test_bf16(tiny):
    seen = []

    class Watch(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            y = self.net(x)
            seen.append((self.training, y.dtype))
            return y

    nets = [Watch(tiny.make()) for _ in range(2)]
    half = fit(nets[0], tiny.pairs(), RelativeL2(), quick(precision="bf16"), valid=tiny.pairs(9, 2))
    assert {dtype for training, dtype in seen if training} == {torch.bfloat16}
    assert {dtype for training, dtype in seen if not training} == {torch.float32}
    full = fit(nets[1], tiny.pairs(), RelativeL2(), QUICK, valid=tiny.pairs(9, 2))
    assert half.best == pytest.approx(full.best, rel=0.02)
    assert half.best != full.best
    with pytest.raises(ValueError, match="fp16 needs CUDA"):
        fit(tiny.make(), tiny.pairs(), RelativeL2(), quick(precision="fp16"))


def test_average_of_weights(tiny):
    nets = [tiny.make() for _ in range(2)]
    path = []

    class Keep(Callback):
        def on_batch(self, moment):
            path.append(weights(nets[0]).clone())

    first = weights(nets[0]).clone()
    fit(nets[0], tiny.pairs(), RelativeL2(), QUICK, callbacks=[Keep()])
    result = fit(nets[1], tiny.pairs(), RelativeL2(), quick(ema=0.9), valid=tiny.pairs(9, 2))
    average = first
    for t, w in enumerate(path):
        d = min(0.9, (1 + t) / (10 + t))
        average = d * average + (1 - d) * w
    assert torch.allclose(weights(nets[1]), average, rtol=1e-5)
    assert evaluate(nets[1], tiny.pairs(9, 2))["valid"] == pytest.approx(result.history[-1]["valid"])
    again = tiny.make()
    fit(again, tiny.pairs(), RelativeL2(), quick(ema=0.9, select="last"))
    assert torch.allclose(weights(again), average, rtol=1e-5)


def worse_and_worse():
    counter = itertools.count(1)
    return lambda p, y: torch.full((len(y),), float(next(counter)))


def test_patience(tiny, tmp_path):
    net, watch = tiny.make(), Validation(tiny.pairs(9, 2), {"error": worse_and_worse()})
    settings = quick(epochs=50, patience=4)
    result = fit(net, tiny.pairs(), RelativeL2(), settings, valid=watch, out=tmp_path / "a")
    assert (result.outcome, result.epochs, result.best_epoch, result.best) == (Outcome.PATIENCE, 5, 1, 1.0)
    one = tiny.make()
    fit(one, tiny.pairs(), RelativeL2(), quick(epochs=1))
    assert torch.equal(weights(net), weights(one))  # the best ones
    last = tiny.make()
    watch = Validation(tiny.pairs(9, 2), {"error": worse_and_worse()})
    fit(last, tiny.pairs(), RelativeL2(), quick(epochs=50, patience=4, select="last"), valid=watch)
    assert not torch.equal(weights(last), weights(one))


def test_nan_is_never_the_best(tiny):
    watch = Validation(tiny.pairs(9, 2), {"error": lambda p, y: torch.full((len(y),), math.nan)})
    result = fit(tiny.make(), tiny.pairs(), RelativeL2(), QUICK, valid=watch)
    assert result.best is None
    assert math.isnan(result.history[-1]["error"])


def test_validation_every_so_many_epochs(tiny):
    watch = Validation(tiny.pairs(9, 2), every=2)
    result = fit(tiny.make(), tiny.pairs(), RelativeL2(), QUICK, valid=watch)
    assert [row["valid"] is None for row in result.history] == [True, False, False]


def test_a_callback_stops(tiny):
    result = fit(tiny.make(), tiny.pairs(), RelativeL2(), QUICK, callbacks=[lambda m: m.epoch == 2])
    assert (result.outcome, result.epochs) == (Outcome.STOPPED, 2)


def test_no_time(tiny, tmp_path):
    settings = quick(seconds=0.0)
    counts = []
    for _ in range(20):
        result = fit(tiny.make(), tiny.pairs(), RelativeL2(), settings, out=tmp_path / "a", resume=True)
        counts.append((result.epochs, result.outcome))
        if result.outcome is Outcome.FINISHED:
            break
    assert counts[0] == (0, Outcome.TIMEOUT)  # one step a call
    assert len(counts) == 9
    whole = tiny.make()
    fit(whole, tiny.pairs(), RelativeL2(), QUICK)
    last = tiny.make()
    fit(last, tiny.pairs(), RelativeL2(), settings, out=tmp_path / "a", resume=True)
    assert torch.equal(weights(last), weights(whole))


class Breaks(nn.Module):
    """Gives `bad` from step `after` on."""

    def __init__(self, net, after, bad):
        super().__init__()
        self.net, self.after, self.bad, self.count = net, after, bad, 0

    def forward(self, x):
        self.count += self.training
        return self.net(x) * (self.bad if self.count >= self.after else 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e7])
def test_divergence_says_where(tiny, tmp_path, bad):
    net = Breaks(tiny.make(), 5, bad)
    out = tmp_path / "a"
    with pytest.raises(
        Diverged, match=r"epoch 2, batch 2; the last good checkpoint is .*step-0000000004.pt"
    ) as info:
        fit(net, tiny.pairs(), RelativeL2(), quick(checkpoint_seconds=0), out=out)
    assert info.value.checkpoint.exists()
    assert "Lower the learning rate" in str(info.value)
    assert len((out / "history.jsonl").read_text().splitlines()) == 1
    net = Breaks(tiny.make(), math.inf, bad)
    result = fit(net, tiny.pairs(), RelativeL2(), quick(checkpoint_seconds=0), out=out, resume=True)
    assert result.epochs == 3


def test_weights_that_are_not_finite_are_not_kept(tiny, tmp_path):
    class Wild(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * math.inf

    loss = lambda p, y: RelativeL2()(Wild.apply(p), y)  # noqa: E731
    with pytest.raises(Diverged, match=r"weights .* not finite in epoch 1, batch 1; there is no checkpoint"):
        fit(tiny.make(), tiny.pairs(8), loss, quick(), out=tmp_path)
    assert not list(tmp_path.glob("checkpoints/*"))


def test_folder(tiny, tmp_path):
    model = Surrogate(tiny.make())
    out = tmp_path / "run"
    result = fit(model, tiny.pairs(), RelativeL2(), QUICK, valid=tiny.pairs(9, 2), out=out)
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert lines == result.history
    with open(out / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["valid"]) for row in rows] == [row["valid"] for row in result.history]
    told = json.loads((out / "settings.json").read_text())
    assert Training.from_values(told["training"]) == QUICK
    assert told["loss"].startswith("RelativeL2")
    assert "torch" in told["environment"]
    assert result.saved == out / "model"
    loaded = Surrogate.load(out / "model", architectures={"Tiny": tiny.Tiny})
    x, _ = tiny.pairs(9, 2)
    assert torch.equal(loaded.predict(x), model.predict(x))
    assert loaded.meta["epoch"] == result.best_epoch
    assert json.loads((out / "model" / "metrics.json").read_text())["valid"] == result.best


def test_bad_calls(tiny):
    with pytest.raises(ShapeMismatch, match="one value per sample"):
        fit(tiny.make(), tiny.pairs(), lambda p, y: (p - y).square().mean(), QUICK)
    with pytest.raises(ValueError, match="empty"):
        fit(tiny.make(), (torch.ones(0, 1, 4), torch.ones(0, 1, 4)), RelativeL2(), QUICK)
    with pytest.raises(ValueError, match="equally many samples"):
        fit(tiny.make(), (torch.ones(3, 1, 4), torch.ones(2, 1, 4)), RelativeL2(), QUICK)
    with pytest.raises(ValueError, match="pair"):
        fit(tiny.make(), (torch.ones(3, 1, 4),), RelativeL2(), QUICK)
    with pytest.raises(ValueError, match="no parameter"):
        fit(nn.Identity(), tiny.pairs(), RelativeL2(), QUICK)
    with pytest.raises(ValueError, match="needs a metric"):
        Validation(tiny.pairs(), {})
