"""Training of networks that correct residuals, from the command line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from ..meshes.grid import Grid
from ..operators.linear.diffusion import Diffusion
from ..solvers.krylov.cg import CG
from ..solvers.krylov.flexible_cg import FlexibleCG
from ..solvers.learned.corrections import (
    CorrectionConfig,
    CorrectionData,
    CorrectionNetwork,
    learned_correction,
    poisson_or_log_normal,
    train_correction,
)
from ..solvers.preconditioners.base import identity
from ..solvers.preconditioners.jacobi import jacobi
from ..solvers.system import LinearSystem
from ..solvers.training.outcome import Outcome
from ..solvers.training.schedules import Cosine
from ..solvers.training.settings import Training
from .directions import Counter, shares
from .plan import Ended, PartPlan, Request, compared

SIZES = {1: (63, 127), 2: (47, 63, 95), 3: (35, 47)}  # by the number of axes
LENGTH = 500  # steps of a round, about
AFTER = (0, 1, 3, 6, 12, 25, 50)  # steps of flexible CG
RTOL = 1e-6  # of the comparison


@final
@dataclass(frozen=True)
class ResidualTraining:
    """How correction networks are trained: on residuals of flexible CG, in rounds with fresh coefficients.

    Args:
        steps: of the optimiser, over all rounds, about; every size takes about the same time.
        size: unknowns per axis, one after the other, smallest first.
        batch: residuals of a step.
        learning_rate: the highest one; half of it in the second half of the rounds, whose residuals are those
            that the network itself leaves.
        systems: coefficients of a round, at most; each gives seven residuals.
    """

    steps: int = 3000
    size: tuple[int, ...] = SIZES[2]
    batch: int = 8
    learning_rate: float = 2e-3
    systems: int = 96

    def __post_init__(self) -> None:
        if self.systems < 1:
            raise ValueError(f"a round takes at least 1 system, got {self.systems}")


def follow(config: CorrectionConfig) -> Mapping[str, Any]:
    """Return the sizes for grids of so many axes."""
    return {"size": SIZES[config.dim]}


def check(network: CorrectionNetwork, training: ResidualTraining) -> None:
    """Refuse grids that are too coarse for the network.

    Raises:
        WrongResolution: which one.
    """
    network.operator.check_resolution((min(training.size),) * network.config.dim)


def rounds_of(training: ResidualTraining, dim: int) -> list[tuple[int, int]]:
    """Return size and steps of every round.

    >>> rounds_of(ResidualTraining(steps=1500, size=(47, 63)), dim=2)
    [(47, 482), (47, 482), (63, 536)]
    """
    found = []
    for n, steps in shares(training.steps, training.size, dim).items():
        count = max(1, round(steps / LENGTH))
        found += [(n, -(-steps // count))] * count
    return found


def train(network: CorrectionNetwork, training: ResidualTraining, request: Request) -> Ended:
    """Train in rounds; stopped and called again it goes on."""
    begin, spent, dim = time.monotonic(), 0.0, network.config.dim
    outcome, best, counters = Outcome.FINISHED, None, []
    rounds = rounds_of(training, dim)
    size = rounds[0][0]
    for number, (size, steps) in enumerate(rounds):
        late = 2 * number >= len(rounds) and number > 0
        systems = min(training.systems, max(1, steps * training.batch // len(AFTER)))
        epochs = max(1, round(steps / -(-systems * len(AFTER) // training.batch)))
        left = None if request.seconds is None else max(0.0, request.seconds - (time.monotonic() - begin))
        grid, seed = Grid((size,) * dim), 1_000_000 * request.seed + number
        data = CorrectionData(
            grid, systems, seed, steps=AFTER, preconditioner=learned_correction(network) if late else identity
        )
        settings = Training(
            epochs,
            training.batch,
            training.learning_rate * (0.5 if late else 1.0),
            "adam",
            0.0,
            schedule=Cosine(),
            clip=1.0,
            seconds=left,
            seed=request.seed,
        )
        counters.append(Counter())
        trained = train_correction(
            network,
            data,
            settings,
            valid=CorrectionData(grid, min(8, systems), 1_000_000 * request.seed + 999_999, steps=AFTER),
            out=request.out / f"round-{number}",
            resume=True,
            callbacks=[request.show(), counters[-1]],
        )
        outcome, best, spent = trained.outcome, trained.best, spent + trained.seconds
        if outcome is not Outcome.FINISHED:
            break
    rows, metrics = compare(network, Grid((size,) * dim), request)
    if best is not None:
        rows = [("validation", f"{best:.4f} on {' x '.join([str(size)] * dim)} unknowns"), *rows]
    steps = sum(counter.steps for counter in counters)
    return Ended(network, outcome, steps, spent, rows, {"validation loss": best, **metrics})


def compare(
    network: CorrectionNetwork, grid: Grid, request: Request
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Solve a system whose coefficient was not trained on, with the network and with Jacobi's."""
    rng = np.random.default_rng((request.seed, 2**31))
    A = Diffusion(grid, torch.from_numpy(poisson_or_log_normal(grid, rng)), device=request.device)
    system = LinearSystem(A, torch.ones(grid.size, dtype=torch.float64, device=request.device))
    solver = FlexibleCG(learned_correction(network))
    return compared(system, solver, CG(jacobi), ("FlexibleCG with it", "CG with Jacobi's method"), RTOL)


CORRECTION = PartPlan(
    says="Corrections of residuals for diffusion with varying coefficients, by a neural operator.",
    config=CorrectionConfig(),
    make=CorrectionNetwork,
    training=ResidualTraining(),
    run=train,
    imports=(
        "from solvus.solvers import solve",
        "from solvus.solvers.krylov import FlexibleCG",
        "from solvus.solvers.learned.corrections import learned_correction",
    ),
    use="result = solve(system, FlexibleCG(learned_correction({folder!r})))",
    valid="the error that a correction leaves in the energy norm, of 1",
    least=4,
    follow=follow,
    check=check,
)
