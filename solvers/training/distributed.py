"""Training on several processes with `torchrun`: who I am, and the few things that need all of us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
import torch.distributed as dist
from torch import Tensor


@final
class BadLaunch(RuntimeError):
    """Environment variables that do not describe a group of processes."""


@contextmanager
def processes(device: str | None = None) -> Iterator[torch.device]:
    """Join the group of processes that `torchrun` started, and leave it in the end.

    Without `torchrun` there is one process and nothing is joined, so that one script serves both. NCCL is
    used on CUDA, gloo on CPU.

    Args:
        device: "cuda" or "cpu"; None takes CUDA where there is any.

    Yields:
        The device of this process.

    Raises:
        BadLaunch: some of the variables RANK, WORLD_SIZE, LOCAL_RANK are missing.

    >>> with processes("cpu") as device:
    ...     rank(), world_size(), device
    (0, 1, device(type='cpu'))
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    needed = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    given = [name for name in needed if name in os.environ]
    if given and len(given) < len(needed):
        raise BadLaunch(
            f"{', '.join(set(needed) - set(given))} is not set, {', '.join(given)} is: start with "
            "`torchrun --standalone --nproc-per-node 2 script.py`"
        )
    local = int(os.environ.get("LOCAL_RANK", "0"))
    where = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(where)
    joined = bool(given) and int(os.environ["WORLD_SIZE"]) > 1 and not dist.is_initialized()
    if joined:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield where
    finally:
        if joined:
            dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, 0 where there is one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def summed(values: Tensor) -> Tensor:
    """Return the sum over all processes."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def of_first(flag: bool, device: torch.device) -> bool:
    """Return what the first process says."""
    if world_size() == 1:
        return flag
    told = torch.tensor(int(flag), device=device)
    dist.broadcast(told, 0)
    return bool(told.item())


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()
