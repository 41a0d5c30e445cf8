"""Training of the network that sets a V-cycle, from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from ..solvers.learned.vcycle import (
    Group,
    Trainer,
    Training,
    VCycleConfig,
    VCycleNetwork,
    iterations,
    validation,
)
from .plan import Ended, PartPlan, Request
from .rounds import Rounds

SIZES = {1: (63, 95, 127), 2: (63, 95, 127), 3: (15, 23, 31)}  # by the number of axes


@final
@dataclass(frozen=True)
class VCycleTraining:
    """How the network of a V-cycle is trained: on random coefficients that are drawn on the way.

    Args:
        steps: of the optimiser.
        size: unknowns per axis of the systems, drawn anew for every group; the largest validates.
        batch: systems of a step.
        learning_rate: of Adam, falling to zero along a cosine.
        groups, visits, vectors, burn_in, cg_steps: see `solvus.solvers.learned.vcycle.Training`.
    """

    steps: int = 2000
    size: tuple[int, ...] = SIZES[2]
    batch: int = 8
    learning_rate: float = 3e-3
    groups: int = 8
    visits: int = 30
    vectors: int = 6
    burn_in: int = 8
    cg_steps: int = 0


def follow(config: VCycleConfig) -> Mapping[str, Any]:
    """Return the sizes for grids of so many axes."""
    return {"size": SIZES[config.dim]}


def train(network: VCycleNetwork, training: VCycleTraining, request: Request) -> Ended:
    """Train on random coefficients; stopped and called again it goes on."""
    settings = Training(
        steps=training.steps,
        sizes=training.size,
        batch=training.batch,
        rate=training.learning_rate,
        groups=training.groups,
        visits=training.visits,
        vectors=training.vectors,
        burn_in=training.burn_in,
        cg_steps=training.cg_steps,
        dim=network.config.dim,
        seed=request.seed,
    )
    systems = validation(max(training.size), network.config.dim)
    classical = sum(iterations(None, systems))
    rounds = Rounds(training.steps, training.batch, request.out, request.seconds, callbacks=[request.show()])
    trainer = Trainer(network, settings)
    outcome, _, seconds = rounds.train(trainer, lambda: sum(iterations(network, systems)) / classical)
    learned = sum(iterations(network, systems))
    text = f"{learned} steps of CG in all on {len(systems)} systems, {classical} with the classical cycle"
    metrics = {"steps with it": learned, "steps with the classical cycle": classical}
    return Ended(network, outcome, trainer.step, seconds, [("validation", text)], metrics)


def check(network: VCycleNetwork, training: VCycleTraining) -> None:
    """Refuse systems so small that the network has no level to set.

    Raises:
        ValueError: which size.
    """
    start, few = network.config.start, Training(batch=1, vectors=1, dim=network.config.dim)
    for n in training.size:
        rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        if len(Group.draw(n, few, start, rng, generator).levels(None)) < 2:
            raise ValueError(
                f"the network sets levels from {start} on, and systems of size {n} have none there: give a "
                "larger --size, or --set start=0"
            )


LEARNED_VCYCLE = PartPlan(
    says="The transfers and smoothers of a multigrid cycle for diffusion with jumping coefficients.",
    config=VCycleConfig(),
    make=VCycleNetwork,
    training=VCycleTraining(),
    run=train,
    imports=(
        "from solvus.solvers import CG, solve",
        "from solvus.solvers.learned.vcycle import learned_vcycle",
    ),
    use="result = solve(system, CG(learned_vcycle({folder!r})))",
    valid="steps of CG over those with the classical cycle",
    least=7,
    follow=follow,
    check=check,
    cpu_only=True,
)
