"""Batches: which samples make each step, on which process, and how they get to the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, default_collate

from .distributed import rank, world_size
from .settings import Training

SHARE_OF_GPU = 0.25  # of the free memory, that data may take to stay there


@final
@dataclass(frozen=True)
class Part:
    """What one process computes at a time: a part of the batch of a step.

    Attributes:
        indices: of the samples.
        counts: False where the samples only keep this process in step with the others.
        size: samples of the whole batch, over all parts and processes.
        last: whether the optimiser steps after it.
    """

    indices: list[int]
    counts: bool
    size: int
    last: bool


class Feed:
    """Serve the parts of every step of an epoch.

    Data in memory are gathered by index, without a `DataLoader`: a pair of tensors, a `TensorDataset`, a
    dataset with `tensors()` that gives (x, y) or None, or one whose `in_memory` is true. They stay on the
    device where there is room. Other datasets go through a `DataLoader`. The order depends on the seed and
    the epoch alone.
    """

    def __init__(self, data: Any, device: torch.device, workers: int = 0) -> None:
        self.device, self.workers = device, workers
        self.tensors = _in_memory(data)
        self.data = data
        self.samples = len(_first(self.tensors[0])) if self.tensors else len(data)
        if self.samples == 0:
            raise ValueError("there are no data: the dataset is empty")
        if self.tensors and device.type == "cuda" and _room(self.tensors, device):
            self.tensors = (_to(self.tensors[0], device), _to(self.tensors[1], device))

    def parts(self, plan: Sequence[Part], seed: int = 0) -> Iterator[tuple[Any, Tensor, Part]]:
        """Yield x, y on the device, and the part that they are."""
        if self.tensors:
            for part in plan:
                x, y = (_take(t, part.indices) for t in self.tensors)
                yield _to(x, self.device), _to(y, self.device), part
            return
        loader = DataLoader(
            self.data,
            batch_sampler=[part.indices for part in plan],  # pyright: ignore[reportArgumentType]
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator().manual_seed(seed),  # keeps the loader away from the global generator
        )
        for (x, y), part in zip(loader, plan, strict=True):
            yield _to(x, self.device), _to(y, self.device), part


def steps_in_epoch(samples: int, batch: int) -> int:
    """Return the number of optimiser steps of an epoch; the last may have fewer samples.

    >>> steps_in_epoch(1000, 16)
    63
    """
    return -(-samples // batch)


def training_plan(samples: int, settings: Training, epoch: int, start: int = 0) -> list[Part]:
    """Return the parts of this process from step `start` of an epoch on, in a shuffled order."""
    generator = torch.Generator().manual_seed(epoch_seed(settings.seed, epoch))
    order = torch.randperm(samples, generator=generator).tolist()
    plan: list[Part] = []
    for first in range(start * settings.batch, samples, settings.batch):
        batch = order[first : first + settings.batch]
        size = -(-len(batch) // min(settings.accumulate, len(batch)))
        pieces = [batch[i : i + size] for i in range(0, len(batch), size)]
        for number, piece in enumerate(pieces):
            own = piece[rank() :: world_size()]
            plan.append(Part(own or piece[:1], bool(own), len(batch), number == len(pieces) - 1))
    return plan


def validation_plan(samples: int, batch: int) -> list[Part]:
    """Return the parts of this process of a pass over data; others may have one more or less."""
    own = list(range(rank(), samples, world_size()))
    return [Part(own[i : i + batch], True, samples, True) for i in range(0, len(own), batch)]


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of the order of an epoch."""
    return (seed * 1_000_003 + epoch) % 2**63


def _in_memory(data: Any) -> tuple[Any, Tensor] | None:
    """Return all inputs and outputs as tensors, None where they are to be read item by item."""
    if isinstance(data, TensorDataset):
        data = data.tensors
    elif callable(getattr(data, "tensors", None)):
        data = data.tensors()
    elif getattr(data, "in_memory", False):
        data = default_collate([data[i] for i in range(len(data))])
    elif not isinstance(data, tuple | list):
        return None
    if data is None:
        return None
    if len(data) != 2 or not isinstance(data[1], Tensor):
        raise ValueError("data in memory are a pair (x, y) of tensors, samples first")
    x, y = data
    counts = {len(t) for t in (*(x if isinstance(x, tuple | list) else (x,)), y)}
    if len(counts) > 1:
        raise ValueError(f"x and y must have equally many samples, got {sorted(counts)}")
    return x, y


def _first(x: Any) -> Tensor:
    return x[0] if isinstance(x, tuple | list) else x


def _take(x: Any, indices: list[int]) -> Any:
    if isinstance(x, tuple | list):
        return tuple(_take(t, indices) for t in x)
    return x[torch.tensor(indices, device=x.device)]


def _to(x: Any, device: torch.device) -> Any:
    if isinstance(x, tuple | list):
        return tuple(_to(t, device) for t in x)
    return x.to(device, non_blocking=True)


def _room(tensors: tuple[Any, Tensor], device: torch.device) -> bool:
    x, y = tensors
    every = [*(x if isinstance(x, tuple | list) else (x,)), y]
    needed = sum(t.numel() * t.element_size() for t in every)
    return needed < SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]


def apply(model: Any, x: Any) -> Tensor:
    """Return the model's output; a tuple of inputs becomes its arguments."""
    return model(*x) if isinstance(x, tuple | list) else model(x)
