"""Checkpoints: all that a training needs to go on as if it had not been interrupted.

Files in a folder: `step-0000001250.pt` (weights, optimiser, scaler, average, generators, position) and
`best-epoch-00012.pt` (weights alone). Written whole or not at all; read with `weights_only=True`, so nothing
in them is executed.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from ...meshes.whole import write_whole
from .averaging import Average
from .distributed import rank, world_size
from .generators import generator_states, set_generators
from .saving import tensor_differences
from .settings import FREE, Training

FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used."""


class BrokenCheckpoint(CheckpointError):
    """A checkpoint that was cut off or is not one."""


class OtherTraining(CheckpointError):
    """A checkpoint of another model, other settings or other data."""


class FolderInUse(CheckpointError):
    """A new training in a folder that holds another one."""


@final
@dataclass
class Position:
    """Where a training is, and what it has seen: plain values.

    Attributes:
        epoch: epochs that are complete.
        batch: steps done in the next one.
        step: optimiser steps in all.
        seconds: spent so far, over all calls.
        loss_sum, seen: of the samples of the epoch that is not complete.
        first_loss: of the very first batch.
        best, best_epoch: the best validation, and when.
        stale: validations since then.
        history: one row per epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    seen: int = 0
    first_loss: float | None = None
    best: float | None = None
    best_epoch: int | None = None
    stale: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


@final
@dataclass
class State:
    """All that changes during a training."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: Average | None
    position: Position
    device: torch.device
    best_weights: dict[str, Tensor] | None = None

    def values(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state() if self.average else None,
            "generators": generator_states(self.device),
            "position": asdict(self.position),
        }

    def load(self, values: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.model.load_state_dict(values["model"])
        self.optimiser.load_state_dict(values["optimiser"])
        if values["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(values["scaler"])
        if self.average is not None:
            self.average.load(values["average"])
        self.position = Position(**values["position"])
        if rank() == 0:
            set_generators(values["generators"])
        else:  # the others go on with draws of their own
            torch.manual_seed(self.position.step * world_size() + rank())


@final
class Checkpoints:
    """The checkpoints of one training in a folder.

    Args:
        folder: where they are.
        identity: what must not change between two parts of a training, see `identity`.
        keep: how many to keep.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], keep: int = 1) -> None:
        self.folder, self.identity, self.keep = folder, identity, keep

    def all(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    def write(self, state: State) -> Path:
        """Write a checkpoint, the best weights first, then remove what is not kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        position = state.position
        best = self._best(position.best_epoch)
        if state.best_weights is not None and best is not None and not best.exists():
            _write(best, {"format": FORMAT, "epoch": position.best_epoch, "model": state.best_weights})
        path = self.folder / f"step-{position.step:010d}.pt"
        _write(path, {"format": FORMAT, "identity": self.identity, **state.values()})
        for old in self.all()[: -self.keep]:
            old.unlink()
        for old in self.folder.glob("best-*.pt"):
            if old != best:
                old.unlink()
        return path

    def restore(self, state: State) -> Path | None:
        """Load the newest checkpoint into a state; return it, or None where there is none.

        Raises:
            BrokenCheckpoint: it cannot be read.
            OtherTraining: it belongs to another training; the message lists what differs.
        """
        paths = self.all()
        if not paths:
            return None
        values = read_checkpoint(paths[-1])
        faults = differences(values["identity"], self.identity)
        if faults:
            raise OtherTraining(
                f"{paths[-1]} belongs to another training: {'; '.join(faults)}. Set it as it was, or use "
                "another folder"
            )
        state.load(values)
        best = self._best(state.position.best_epoch)
        if best is not None:
            state.best_weights = read_checkpoint(best)["model"]
        return paths[-1]

    def _best(self, epoch: int | None) -> Path | None:
        return None if epoch is None else self.folder / f"best-epoch-{epoch:05d}.pt"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU.

    Raises:
        BrokenCheckpoint: it is missing, cut off, of a newer format, or not a checkpoint.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        version = values["format"]
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise BrokenCheckpoint(
            f"{path} cannot be read ({reason}): delete it to go on from the one before, if there is one, or "
            "from the start"
        ) from None
    if version > FORMAT:
        raise BrokenCheckpoint(
            f"{path} has format {version}, this version reads up to {FORMAT}: update solvus"
        )
    return values


def identity(model: nn.Module, settings: Training, samples: int, loss: str) -> dict[str, Any]:
    """Return what makes a training the same after an interruption."""
    free = {*FREE, *(() if settings.schedule.needs_total else ("epochs",))}
    return {
        "settings": {k: v for k, v in settings.values().items() if k not in free},
        "tensors": {name: list(t.shape) for name, t in model.state_dict().items()},
        "samples": samples,
        "loss": loss,
    }


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in what two identities differ."""
    faults = []
    for name in sorted({*saved["settings"], *now["settings"]}):
        old, new = saved["settings"].get(name), now["settings"].get(name)
        if old != new:
            faults.append(f"{name} was {old}, is {new}")
    for name in ("samples", "loss"):
        if saved[name] != now[name]:
            faults.append(f"{name} was {saved[name]}, is {now[name]}")
    return faults + [f"weights: {f}" for f in tensor_differences(saved["tensors"], now["tensors"])]


def _write(path: Path, values: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(dict(values), buffer)
    write_whole(path, buffer.getvalue())
