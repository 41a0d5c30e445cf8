"""Exponential average of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn


@final
class Average:
    """Keep a <- d_t a + (1 - d_t) w of the parameters w, d_t = min(decay, (1 + t) / (10 + t)).

    The smaller decay of the first steps lets the average forget where it started. Buffers are not averaged.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(net.weight, 0.0)
    >>> average = Average(net, 0.5)
    >>> _ = nn.init.constant_(net.weight, 1.0)
    >>> average.update()                        # t = 0: d = 1/10
    >>> with average.applied():
    ...     round(net.weight.item(), 6)
    0.9
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._own = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.values: dict[str, Tensor] = {name: p.detach().clone() for name, p in self._own.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step into the average."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, p in self._own.items():
            self.values[name].lerp_(p, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights inside the block."""
        kept = {name: p.detach().clone() for name, p in self._own.items()}
        self.put()
        try:
            yield
        finally:
            self._put(kept)

    def put(self) -> None:
        """Give the model the averaged weights."""
        self._put(self.values)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, p in self._own.items():
            p.copy_(values[name])

    def state(self) -> dict[str, object]:
        """Return what `load` takes."""
        return {"steps": self.steps, "values": self.values}

    def load(self, state: dict[str, object]) -> None:
        """Go on from a saved average."""
        self.steps = int(state["steps"])  # pyright: ignore[reportArgumentType]
        values: dict[str, Tensor] = state["values"]  # pyright: ignore[reportAssignmentType]
        with torch.no_grad():
            for name, value in self.values.items():
                value.copy_(values[name])
