"""Training of the network that chooses the settings of a multigrid cycle, from the command line."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from ..solvers.learned.vcycle import (
    ChooserConfig,
    CycleChooser,
    Systems,
    chosen_cost,
    costs,
    fit,
)
from .plan import Ended, PartPlan, Request
from .rounds import Rounds

HELD_OUT = 5  # one of so many systems validates


@final
@dataclass(frozen=True)
class ChoiceTraining:
    """How a chooser is trained: on the steps that every setting takes on random systems.

    Args:
        steps: systems, each solved with every setting; a fifth of them validates.
        size: unknowns per axis of the systems.
        learning_rate: of the fit to what was counted.
        dim: axes.
        fit_epochs: of the fit.

    Raises:
        ValueError: settings out of range.
    """

    steps: int = 600
    size: tuple[int, ...] = (95, 127, 191, 255, 383)
    learning_rate: float = 5e-3
    dim: int = 2
    fit_epochs: int = 1500

    def __post_init__(self) -> None:
        if self.steps < 2 * HELD_OUT:
            raise ValueError(
                f"a chooser is trained on {2 * HELD_OUT} systems at least, got {self.steps} steps"
            )
        if self.dim not in (2, 3) or self.fit_epochs < 1:
            raise ValueError(
                f"a chooser needs dim 2 or 3 and fit_epochs from 1 on, got {self.dim}, {self.fit_epochs}"
            )


@final
class Counts:
    """Count the steps of every setting, on one system in a step; a step returns the cost of what is chosen.

    Costs are relative to that of the classical cycle; what chooses is the chooser of the last round.
    """

    def __init__(self, network: CycleChooser, training: ChoiceTraining, seed: int) -> None:
        self.network, self.training, self.step = network, training, 0
        self.untrained = copy.deepcopy(network)
        self.systems = Systems(sizes=training.size, dim=training.dim, seed=seed)
        self.seen: list[Tensor] = []
        self.table: list[Tensor] = []

    def advance(self) -> float:
        """Count on one system."""
        seen, table, *_ = costs(self.systems.draw(self.step))
        self.seen.append(seen)
        self.table.append(table)
        self.step += 1
        return chosen_cost(self.network, seen[None], table[None])

    def refit(self) -> float:
        """Fit the chooser to what was counted so far; return its cost on the systems that are held out."""
        seen, table = torch.stack(self.seen), torch.stack(self.table)
        held = torch.arange(len(seen)) % HELD_OUT == HELD_OUT - 1
        if int((~held).sum()) < 2:
            return 1.0
        self.network.load_state_dict(self.untrained.state_dict())
        fit(
            self.network,
            seen[~held],
            table[~held],
            epochs=self.training.fit_epochs,
            rate=self.training.learning_rate,
        )
        return chosen_cost(self.network, seen[held], table[held]) if bool(held.any()) else 1.0

    def save_state(self, path: str | Path) -> None:
        """Write what was counted and the chooser."""
        tables = {"seen": torch.stack(self.seen), "table": torch.stack(self.table)}
        torch.save({"step": self.step, "network": self.network.state_dict(), **tables}, path)

    def load_state(self, path: str | Path) -> None:
        """Go on from what was written."""
        state = torch.load(path, weights_only=True)
        self.step, self.seen, self.table = state["step"], list(state["seen"]), list(state["table"])
        self.network.load_state_dict(state["network"])


def run(network: CycleChooser, training: ChoiceTraining, request: Request) -> Ended:
    """Count and fit; stopped and called again it goes on."""
    counts = Counts(network, training, 7_000_000 + request.seed)
    rounds = Rounds(training.steps, 1, request.out, request.seconds, callbacks=[request.show()])
    outcome, _, seconds = rounds.train(counts, counts.refit)
    cost = counts.refit()
    table = torch.stack(counts.table)[HELD_OUT - 1 :: HELD_OUT]
    best = float((table.min(1).values - table[:, 0]).mean().exp()) if len(table) else 1.0
    text = f"{cost:.3f} of the classical cycle's cost on {len(table)} systems held out, {best:.3f} at best"
    metrics = {"cost, held out": cost, "cost, best choice": best}
    return Ended(network, outcome, counts.step, seconds, [("validation", text)], metrics)


CYCLE_CHOOSER = PartPlan(
    says="The visits of a multigrid cycle, chosen by a network for each diffusion problem.",
    config=ChooserConfig(),
    make=CycleChooser,
    training=ChoiceTraining(),
    run=run,
    imports=(
        "from solvus.solvers import CG, solve",
        "from solvus.solvers.learned.vcycle import learned_cycle",
    ),
    use="result = solve(system, CG(learned_cycle({folder!r})))",
    valid="cost of CG over that with the classical cycle",
    least=15,
    cpu_only=True,
)
