"""Random generators that a training uses: set at its start, saved with it, given back after it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def own_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of torch, NumPy and Python inside the block, and put them back as they were.

    >>> before = torch.get_rng_state()
    >>> with own_generators(3, torch.device("cpu")):
    ...     first = torch.rand(1)
    >>> with own_generators(3, torch.device("cpu")):
    ...     torch.equal(first, torch.rand(1)), torch.equal(before, torch.get_rng_state())
    (True, False)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    before = generator_states(device)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        set_generators(before)


def generator_states(device: torch.device) -> dict[str, Any]:
    """Return the states of all generators as tensors and plain values."""
    name, keys, *rest = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [str(name), torch.tensor(np.asarray(keys).astype(np.int64)), *rest],
        "python": random.getstate(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generators(states: dict[str, Any]) -> None:
    """Put the generators into saved states; that of CUDA where there is one."""
    torch.set_rng_state(states["torch"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
