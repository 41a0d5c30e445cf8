"""What the training loop works with, and what it does besides taking steps."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from ...meshes.whole import write_whole
from ...operators.neural.base import parameter_count
from .checkpoint import Checkpoints, FolderInUse, State, identity
from .distributed import barrier, of_first, rank, summed, world_size
from .feed import Feed, Part, steps_in_epoch
from .logs import Callback, Moment
from .losses import Loss, describe
from .outcome import Diverged, Outcome, Trained
from .settings import Training
from .surrogate import Surrogate
from .validation import Validation, measure

GROWTH = 1e4  # a loss so many times that of the first batch means divergence


@final
class Run:
    """A training that is under way."""

    def __init__(
        self, state: State, settings: Training, feed: Feed, loss: Loss, watch: Validation | None
    ) -> None:
        self.state, self.settings, self.feed, self.loss, self.watch = state, settings, feed, loss, watch
        self.batches = steps_in_epoch(feed.samples, settings.batch)
        self.valid_feed = None if watch is None else Feed(watch.data, state.device, settings.workers)
        self.callbacks: list[Callback] = []
        self.pending: list[tuple[int, int, Tensor]] = []
        self.files: Checkpoints | None = None
        self.latest: Path | None = None
        self.start = self.written = self.begun = time.monotonic()
        self.served = 0

    def open(self, out: Path, resume: bool) -> None:
        """Make the folder of the training, or go on with the one that is there."""
        names = {} if self.watch is None else self.watch.metrics
        label = "; ".join([describe(self.loss), *(f"{n}: {describe(m)}" for n, m in names.items())])
        same = identity(self.state.model, self.settings, self.feed.samples, label)
        self.files = Checkpoints(out / "checkpoints", same, self.settings.keep)
        if resume:
            self.latest = self.files.restore(self.state)
        elif (out / "settings.json").exists():
            raise FolderInUse(
                f"{out} holds a training: pass resume=True to go on with it, or choose another folder"
            )
        barrier()  # all processes have looked before the first one writes
        if rank() == 0:
            out.mkdir(parents=True, exist_ok=True)
            record = {**self.record(), "environment": _environment(self.state.device)}
            write_whole(out / "settings.json", (json.dumps(record, indent=2) + "\n").encode())

    def record(self) -> dict[str, Any]:
        """Return how the model is trained, as plain values."""
        metrics = {} if self.watch is None else {n: describe(m) for n, m in self.watch.metrics.items()}
        return {
            "training": self.settings.values(),
            "loss": describe(self.loss),
            "metrics": metrics,
            "samples": self.feed.samples,
            "processes": world_size(),
        }

    def elapsed(self) -> float:
        """Seconds of this call."""
        return time.monotonic() - self.begun

    def autocast(self) -> torch.autocast:
        kind = torch.float16 if self.settings.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.state.device.type, kind, enabled=self.settings.precision != "float32")

    def weight(self, part: Part) -> float:
        """Return the factor on a sum of losses whose gradients, averaged over processes, give the batch's."""
        return world_size() / (part.size if self.settings.reduction == "mean" else 1)

    def set_rate(self) -> None:
        """Give the optimiser the learning rate, and the momentum, of this step."""
        step = self.state.position.step
        momentum = self.settings.momentum(step, self.batches)
        for group in self.state.optimiser.param_groups:
            group["lr"] = self.settings.rate(step, self.batches)
            if momentum is not None and "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            elif momentum is not None:
                group["momentum"] = momentum

    def look(self) -> None:
        """Fetch the losses since the last look; raise Diverged where one is not as it should be."""
        position = self.state.position
        losses = summed(torch.stack([loss.double() for _, _, loss in self.pending])).tolist()
        for (batch, size, _), loss in zip(self.pending, losses, strict=True):
            first = loss if position.first_loss is None else position.first_loss
            position.first_loss = first
            bound = GROWTH * first if first > 0 else math.inf
            if not math.isfinite(loss) or loss > bound:
                what = f"the loss is {loss:.3g}, that of the first batch was {first:.3g},"
                raise Diverged(what, position.epoch + 1, batch, self.latest)
            position.loss_sum += loss * size
            position.seen += size
            self.served += size
        self.pending.clear()

    def bad_weights(self) -> list[str]:
        """Return the names of weights that are NaN or infinite."""
        return [n for n, p in self.state.model.named_parameters() if not torch.isfinite(p).all()]

    def tired(self) -> bool:
        """Return whether validation has not improved for too long."""
        patience = self.settings.patience
        return patience is not None and self.state.position.stale >= patience

    def check_weights(self) -> None:
        """Raise Diverged where a weight is NaN or infinite; all processes have the same weights."""
        if bad := self.bad_weights():
            position = self.state.position
            epoch, batch = (
                (position.epoch + 1, position.batch) if position.batch else (position.epoch, self.batches)
            )
            raise Diverged(f"the weights {', '.join(bad[:3])} are not finite", epoch, batch, self.latest)

    def checkpoint(self, *, at_once: bool) -> None:
        """Write a checkpoint where it is time to; never of weights that are not finite."""
        if self.files is None or rank() != 0:
            return
        now = time.monotonic()
        if at_once or now - self.written >= self.settings.checkpoint_seconds:
            if self.bad_weights():  # all processes see it by the end of the epoch
                return
            self.state.position.seconds = now - self.start
            self.latest, self.written = self.files.write(self.state), now

    def averaged(self) -> Any:
        """Give the model, inside a block, the weights that count: the averaged ones, where there are any."""
        return nullcontext() if self.state.average is None else self.state.average.applied()

    def end_epoch(self) -> bool:
        """Validate, add a row to the history, tell the callbacks; return whether one asks to stop."""
        position, watch = self.state.position, self.watch
        position.epoch, position.batch = position.epoch + 1, 0
        self.check_weights()
        row: dict[str, Any] = {
            "epoch": position.epoch,
            "step": position.step,
            "train": position.loss_sum / position.seen,
        }
        position.loss_sum, position.seen = 0.0, 0
        better = False
        if watch is not None and self.valid_feed is not None:
            found: Mapping[str, float | None] = dict.fromkeys(watch.metrics)
            if position.epoch % watch.every == 0 or position.epoch == self.settings.epochs:
                with self.averaged():
                    found = measure(self.state.model, self.valid_feed, watch.metrics, watch.batch)
                    better = self.judge(next(iter(found.values())))
            row.update(found)
        row["learning_rate"] = self.state.optimiser.param_groups[0]["lr"]
        row["seconds"] = time.monotonic() - self.start
        row["best"] = better
        position.history.append(row)
        asked = [bool(callback.on_epoch(self.moment())) for callback in self.callbacks]
        return of_first(any(asked), self.state.device)

    def judge(self, value: float) -> bool:
        """Keep the weights of the best validation; NaN is never the best."""
        position = self.state.position
        if math.isnan(value) or (position.best is not None and value >= position.best):
            position.stale += 1
            return False
        position.best, position.best_epoch, position.stale = value, position.epoch, 0
        self.state.best_weights = {n: t.detach().clone() for n, t in self.state.model.state_dict().items()}
        return True

    def moment(self) -> Moment:
        """Return where the training is."""
        position, epochs = self.state.position, self.settings.epochs
        rate = self.served / max(self.elapsed(), 1e-9)
        gone = position.epoch + position.batch / self.batches
        left = (epochs - gone) * self.feed.samples / rate if rate else 0.0
        epoch = position.epoch + (position.batch > 0)
        return Moment(epoch, epochs, position.batch, self.batches, rate, left, position.history)

    def finish(self, outcome: Outcome, out: Path | None) -> Trained:
        """Give the model the weights that were asked for, save it, and return the report."""
        state, position = self.state, self.state.position
        position.seconds = time.monotonic() - self.start
        if self.settings.select == "best" and state.best_weights is not None:
            state.model.load_state_dict(state.best_weights)
        elif state.average is not None:
            state.average.put()
        result = Trained(
            outcome,
            position.epoch,
            position.history,
            position.best_epoch,
            position.best,
            position.seconds,
            parameter_count(state.model),
            self.latest,
        )
        if out is not None and isinstance(state.model, Surrogate) and rank() == 0:
            ended = {"outcome": outcome.name, "epochs": position.epoch, "seconds": position.seconds}
            chosen = position.best_epoch if self.settings.select == "best" else None
            state.model.meta.update({**self.record(), **ended, "epoch": chosen or position.epoch})
            rows = {row["epoch"]: row for row in position.history}
            metrics = rows.get(chosen or position.epoch, {})
            saved = state.model.save(out / "model", metrics=metrics, overwrite=True)
            result = replace(result, saved=saved)
        barrier()
        return result


def _environment(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
    }
