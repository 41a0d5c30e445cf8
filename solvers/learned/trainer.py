"""Training of learned parts on systems that are drawn on the way: one loop, its log and its state."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar, final

import numpy as np
import torch
from torch import Tensor

from .part import LearnedPart

Network = TypeVar("Network", bound=LearnedPart)
System = TypeVar("System")


class SystemTrainer(ABC, Generic[Network, System]):
    """Minimise losses of systems that a subclass draws; the state can be written and taken up again.

    The rate falls along a cosine, over the steps or the seconds, whichever are used up first. Gradients are
    clipped at 1; a step whose gradient is not finite is left out.

    Args:
        network: changed in place.
        settings: a dataclass with steps, seconds, rate, seed and evaluate_every.
        optimiser: of the network's parameters.
        folder: for `log.jsonl` and `state.pt`; None: neither is written.
        report: called with every row of the log.
    """

    network: Network
    settings: Any

    def __init__(
        self,
        network: Network,
        settings: Any,
        optimiser: torch.optim.Optimizer,
        folder: str | Path | None,
        report: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self.network, self.settings, self.report = network, settings, report
        self.optimiser = optimiser
        self.folder = None if folder is None else Path(folder)
        self.rng = np.random.default_rng(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.step, self.drawn, self.spent = 0, 0, 0.0

    @abstractmethod
    def _loss(self) -> Tensor:
        """Choose a system and return its loss."""

    @abstractmethod
    def _visited(self, sound: bool) -> None:
        """Take note of a step with the system that was chosen; `sound`: its gradient was finite."""

    @abstractmethod
    def _classical(self, validation: Sequence[System]) -> list[int]:
        """Return the iterations of the classical method on each system."""

    @abstractmethod
    def _compare(self, validation: Sequence[System], classical: list[int]) -> dict[str, Any]:
        """Return what the log says of the network on these systems."""

    @final
    def run(self, validation: Sequence[System]) -> float:
        """Train and return the mean loss of the last steps; the log compares on `validation`."""
        begin, before, settings = time.perf_counter(), self.spent, self.settings
        classical = self._classical(validation)
        losses: list[float] = []
        while self.step < settings.steps:
            self.spent = before + time.perf_counter() - begin
            if settings.seconds is not None and self.spent > settings.seconds:
                break
            losses.append(self.advance())
            if self.step % settings.evaluate_every == 0:
                self._log(losses[-settings.evaluate_every :], self._compare(validation, classical))
        recent = losses[-50:]
        return sum(recent) / max(1, len(recent))

    @final
    def advance(self) -> float:
        """Take one step and return its loss."""
        settings = self.settings
        share = self.step / settings.steps
        if settings.seconds is not None:
            share = max(share, self.spent / settings.seconds)
        for entry in self.optimiser.param_groups:
            entry["lr"] = settings.rate * 0.5 * (1 + float(np.cos(np.pi * min(share, 1.0))))
        loss = self._loss()
        self.optimiser.zero_grad()
        loss.backward()
        size = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        sound = bool(torch.isfinite(size))
        if sound:
            self.optimiser.step()
        self.optimiser.zero_grad()
        self._visited(sound)
        self.step += 1
        return float(loss.detach())

    def _log(self, losses: list[float], compared: dict[str, Any]) -> None:
        mean = sum(losses) / max(1, len(losses))
        row = {"step": self.step, "seconds": round(self.spent, 1), "loss": round(mean, 4), **compared}
        if self.report is not None:
            self.report(row)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self.save_state(self.folder / "state.pt")

    @final
    def save_state(self, path: str | Path) -> None:
        """Write weights, optimiser, generators and counters; systems are drawn anew after `load_state`."""
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "generator": self.generator.get_state(),
                "rng": json.dumps(self.rng.bit_generator.state),
                "counters": (self.step, self.drawn, self.spent),
                "settings": json.dumps(asdict(self.settings)),
            },
            path,
        )

    @final
    def load_state(self, path: str | Path) -> None:
        """Take up a training that was saved."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.step, self.drawn, self.spent = state["counters"]
