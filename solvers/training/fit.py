"""Training: one visible loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...operators.linear.errors import ShapeMismatch
from .averaging import Average
from .checkpoint import Position, State
from .distributed import of_first, rank, world_size
from .feed import Feed, apply, epoch_seed, training_plan
from .generators import own_generators
from .logs import Call, Callback, CSVLog, JSONLog, Moment
from .losses import Loss
from .memory import named_memory_errors
from .outcome import Outcome, Trained
from .run import Run
from .settings import Training
from .surrogate import Surrogate
from .validation import Validation

LOOK_EVERY = 16  # steps between two looks at the losses on an accelerator, where a look waits for it


def fit(
    model: nn.Module,
    data: Any,
    loss: Loss,
    settings: Training | None = None,
    *,
    valid: Any = None,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback | Callable[[Moment], object]] = (),
) -> Trained:
    """Train a model in place, on the device where its parameters are, and report what came of it.

    Under `torchrun`, inside `with processes() as device:`, every process calls it with the same arguments;
    batches are shared out so that the loss curve is that of one process.

    Args:
        model: network or `Surrogate`: loss and metrics then compare physical fields.
        data: pairs (x, y): a pair of tensors, or any map-style dataset. A tuple x becomes arguments.
        loss: (prediction, target) -> values (B,), see `losses`.
        settings: default `Training()`.
        valid: data, or a `Validation`; chooses the best epoch. Never the test data.
        out: folder for history.csv, history.jsonl, settings.json, checkpoints, and a `Surrogate` itself.
        resume: go on from the newest checkpoint in `out`; from the start where there is none.
        callbacks: see `logs`; functions are called with a `Moment` after every epoch, a true value stops.

    Raises:
        Diverged: the loss became NaN, infinite or huge.
        OutOfMemory: a step does not fit; checkpoints stay.
        FolderInUse: `out` holds a training, and `resume` is not set.
        OtherTraining, BrokenCheckpoint: when resuming.
        ValueError: no data, or settings that do not fit the device.

    >>> from solvus.solvers.training.losses import RelativeL2
    >>> x = torch.rand(8, 1, 16)
    >>> net = nn.Conv1d(1, 1, 3, padding=1)
    >>> fit(net, (x, 2 * x), RelativeL2(), Training(epochs=2, batch=4)).outcome.name
    'FINISHED'
    """
    settings = settings or Training()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if settings.precision == "fp16" and device.type != "cuda":
        raise ValueError(f"fp16 needs CUDA, the model is on {device}: use 'bf16' or 'float32'")
    if out is not None and isinstance(model, Surrogate):
        model.check_savable()
    feed = Feed(data, device, settings.workers)
    watch = valid if valid is None or isinstance(valid, Validation) else Validation(valid)
    with own_generators(settings.seed * world_size() + rank(), device):
        optimiser = settings.make_optimiser(model.parameters())
        scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
        forward = DistributedDataParallel(model) if world_size() > 1 else model  # gives all the same weights
        average = Average(model, settings.ema) if settings.ema else None
        state = State(model, optimiser, scaler, average, Position(), device)
        run = Run(state, settings, feed, loss, watch)
        if out is not None:
            run.open(Path(out), resume)
        run.callbacks = [c if isinstance(c, Callback) else Call(c) for c in callbacks] if rank() == 0 else []
        if out is not None and rank() == 0:
            run.callbacks += [CSVLog(Path(out) / "history.csv"), JSONLog(Path(out) / "history.jsonl")]
        run.start = time.monotonic() - state.position.seconds
        for callback in run.callbacks:
            callback.on_start(run.moment())
        try:
            with named_memory_errors(
                f"a step with a batch of {settings.batch} in {settings.accumulate} parts on {device}",
                f"pass Training(accumulate={2 * settings.accumulate}) or more, the gradient stays the same; "
                "or use a smaller network or precision='bf16'",
            ):
                outcome = _loop(run, forward)
        finally:
            for callback in run.callbacks:
                callback.on_end()
        return run.finish(outcome, None if out is None else Path(out))


def _loop(run: Run, forward: Any) -> Outcome:
    """Train until an outcome is reached: the loop."""
    settings, state, feed, batches = run.settings, run.state, run.feed, run.batches
    model, optimiser, scaler, position = state.model, state.optimiser, state.scaler, state.position
    look_every = 1 if state.device.type == "cpu" else LOOK_EVERY

    while position.epoch < settings.epochs:
        if run.tired():
            return Outcome.PATIENCE
        model.train()
        optimiser.zero_grad(set_to_none=True)
        batch_loss = torch.zeros((), device=state.device)
        plan = training_plan(feed.samples, settings, position.epoch, position.batch)
        for x, y, part in feed.parts(plan, epoch_seed(settings.seed, position.epoch)):
            with nullcontext() if part.last or world_size() == 1 else forward.no_sync():
                with run.autocast():
                    prediction = apply(forward, x)
                values = _per_sample(run.loss(prediction, y), y).sum() * part.counts
                scaler.scale(values * run.weight(part)).backward()
            batch_loss = batch_loss + values.detach() / part.size
            if not part.last:
                continue

            run.set_rate()
            if settings.clip is not None:
                scaler.unscale_(optimiser)
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad(set_to_none=True)
            if state.average is not None:
                state.average.update()
            position.step += 1
            position.batch += 1
            run.pending.append((position.batch, part.size, batch_loss))
            batch_loss = torch.zeros((), device=state.device)

            late = settings.seconds is not None and of_first(run.elapsed() >= settings.seconds, state.device)
            if late or position.step % look_every == 0 or position.batch == batches:
                run.look()
                if late:
                    run.check_weights()
                if position.batch < batches:
                    run.checkpoint(at_once=late)
            for callback in run.callbacks:
                callback.on_batch(run.moment())
            if late and position.batch < batches:
                return Outcome.TIMEOUT

        stop = run.end_epoch()
        late = settings.seconds is not None and of_first(run.elapsed() >= settings.seconds, state.device)
        done = position.epoch == settings.epochs or run.tired()
        run.checkpoint(at_once=late or stop or done)
        if stop:
            return Outcome.STOPPED
        if late and not done:
            return Outcome.TIMEOUT
    return Outcome.FINISHED


def _per_sample(values: Tensor, y: Tensor) -> Tensor:
    if values.shape != y.shape[:1]:
        raise ShapeMismatch(
            f"a loss returns one value per sample, ({len(y)},), this one returned {tuple(values.shape)}: "
            "average over channels and points, not over the batch"
        )
    return values
