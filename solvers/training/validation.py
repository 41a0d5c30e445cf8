"""Validation: means of per-sample errors over a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import nn

from .distributed import summed
from .feed import Feed, apply, validation_plan
from .losses import Loss, RelativeL2


@final
@dataclass(frozen=True)
class Validation:
    """Data that are not trained on, and what to measure on them.

    Args:
        data: as for training.
        metrics: by name; the first one chooses the best epoch and decides about patience. Smaller is better.
        every: validate after every so many epochs, and after the last.
        batch: samples at a time, per process.
    """

    data: Any
    metrics: Mapping[str, Loss] = field(default_factory=lambda: {"valid": RelativeL2()})
    every: int = 1
    batch: int = 64

    def __post_init__(self) -> None:
        if not self.metrics or self.every < 1 or self.batch < 1:
            raise ValueError("Validation needs a metric, every >= 1 and batch >= 1")


def evaluate(
    model: nn.Module, data: Any, metrics: Mapping[str, Loss] | None = None, *, batch: int = 64
) -> dict[str, float]:
    """Return the mean over all samples of every metric, with the model in evaluation mode.

    Args:
        model: on the device where to compute.
        data: pairs, as for `fit`; shared out over the processes of a group.
        metrics: default {"valid": RelativeL2()}.
        batch: samples at a time.

    >>> x = torch.ones(4, 1, 8)
    >>> evaluate(nn.Identity(), (x, 2 * x))
    {'valid': 0.5}
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return measure(model, Feed(data, device), metrics or {"valid": RelativeL2()}, batch)


@torch.no_grad()
def measure(model: nn.Module, feed: Feed, metrics: Mapping[str, Loss], batch: int) -> dict[str, float]:
    """Return the mean of every metric over what a feed serves."""
    training = model.training
    model.eval()
    total = torch.zeros(len(metrics), dtype=torch.float64, device=feed.device)
    try:
        for x, y, _ in feed.parts(validation_plan(feed.samples, batch)):
            prediction = apply(model, x)
            total += torch.stack([metric(prediction, y).double().sum() for metric in metrics.values()])
    finally:
        model.train(training)
    return dict(zip(metrics, (summed(total) / feed.samples).tolist(), strict=True))
