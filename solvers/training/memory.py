"""Memory that does not suffice, as one named error on every device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_OF_THE_CPU = "can't allocate memory"  # in the message of torch's allocator, which raises RuntimeError


class OutOfMemory(MemoryError):
    """What was to be computed does not fit into the memory of the device."""


@contextmanager
def named_memory_errors(what: str, advice: str) -> Iterator[None]:
    """Turn the errors of allocators inside the block into OutOfMemory, which says what did not fit.

    Args:
        what: was computed.
        advice: what to do.

    >>> with named_memory_errors("a batch of 20", "take fewer"):
    ...     torch.empty(10**15)
    Traceback (most recent call last):
    ...
    solvus.solvers.training.memory.OutOfMemory: a batch of 20 does not fit into memory: take fewer
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError) or _OF_THE_CPU in str(error)
        if not known or isinstance(error, OutOfMemory):
            raise
        raise OutOfMemory(f"{what} does not fit into memory: {advice}") from error
