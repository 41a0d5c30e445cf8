"""Training of networks that propose search directions, from the command line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from ..meshes.grid import Boundary, Centring, Grid
from ..operators.linear.diffusion import Diffusion
from ..solvers.krylov.cg import CG
from ..solvers.learned.directions import (
    BoxModes,
    ConjugateDirections,
    DCDMConfig,
    DCDMNetwork,
    DirectionNetwork,
    KnownErrors,
    MultilevelConfig,
    MultilevelNetwork,
    Residuals,
    SymmetricConfig,
    SymmetricMultilevelNetwork,
    learned_directions,
    random_obstacles,
    train_directions,
)
from ..solvers.system import LinearSystem
from ..solvers.training.logs import Callback, Moment
from ..solvers.training.outcome import Outcome
from ..solvers.training.schedules import Cosine
from ..solvers.training.settings import Training
from .plan import Ended, PartPlan, Request, compared

ROUNDS = 20  # validations per size, at most
SHORTEST = 100  # steps between two validations, at least
LATER = 0.3  # of the learning rate, on all but the first size
RTOL = 1e-4  # of the comparison


@final
@dataclass(frozen=True)
class BoxTraining:
    """How direction networks are trained: on closed boxes, one size after the other.

    Args:
        steps: of the optimiser, over all sizes; each takes about the same time.
        size: cells per axis of the boxes.
        batch: right-hand sides of a step.
        learning_rate: the highest one on the first size, 0.3 of it on the others.
        obstacles: solid balls and boxes in a box, at most; 0 for none.
        boxes: that are drawn per size, where there are obstacles.
    """

    steps: int = 1700
    size: tuple[int, ...] = (16, 32)
    batch: int = 10
    learning_rate: float = 1e-3
    obstacles: int = 0
    boxes: int = 16

    def __post_init__(self) -> None:
        if self.obstacles < 0 or self.boxes < 1:
            raise ValueError(f"obstacles are 0 or more, boxes 1 or more, got {self.obstacles}, {self.boxes}")


def shares(steps: int, sizes: Sequence[int], dim: int = 3) -> dict[int, int]:
    """Return the steps for every size, smallest first, so that each takes about the same time.

    >>> shares(1700, (32, 16))
    {16: 1511, 32: 189}
    """
    weights = {n: 1 / n**dim for n in sorted(set(sizes))}
    return {n: max(1, round(steps * w / sum(weights.values()))) for n, w in weights.items()}


def boxes(n: int, training: BoxTraining, seed: int) -> list[Grid]:
    """Return boxes of n^3 cells with 1 to so many obstacles, or one without."""
    if training.obstacles == 0:
        return [Grid((n, n, n), centring=Centring.CELL, boundary=((Boundary.NEUMANN, Boundary.NEUMANN),) * 3)]
    generator = torch.Generator().manual_seed(seed)
    return [random_obstacles(n, 1 + i % training.obstacles, generator) for i in range(training.boxes)]


def train(network: DirectionNetwork, training: BoxTraining, request: Request) -> Ended:
    """Train on boxes of every size, smallest first; stopped and called again it goes on."""
    begin, spent, drawn = time.monotonic(), 0.0, 2 * request.seed  # 2 seed + 1 validates
    kind = KnownErrors if network.symmetric else Residuals
    outcome, loss, largest, counters = Outcome.FINISHED, None, 0, []
    for largest, share in shares(training.steps, training.size).items():
        rounds = max(1, min(ROUNDS, share // SHORTEST))
        length = -(-share // rounds)
        left = None if request.seconds is None else max(0.0, request.seconds - (time.monotonic() - begin))
        settings = Training(
            rounds,
            training.batch,
            training.learning_rate * (LATER if counters else 1.0),
            "adam",
            0.0,
            schedule=Cosine(),
            clip=1.0,
            seconds=left,
            seed=request.seed,
        )
        counters.append(Counter())
        trained = train_directions(
            network,
            kind(boxes(largest, training, drawn), length * training.batch, seed=drawn),
            settings,
            valid=kind(boxes(largest, training, drawn + 1), 4 * training.batch, seed=drawn + 1),
            out=request.out / f"size-{largest}",
            resume=True,
            callbacks=[request.show(), counters[-1]],
        )
        outcome, loss, spent = trained.outcome, trained.best, spent + trained.seconds
        if outcome is not Outcome.FINISHED:
            break
    rows, metrics = compare(network, boxes(largest, training, drawn + 1)[-1], request.device)
    if loss is not None:
        rows = [("validation", f"{loss:.4f} on {largest}^3 cells"), *rows]
    steps = sum(counter.steps for counter in counters)
    return Ended(network, outcome, steps, spent, rows, {"validation loss": loss, **metrics})


@final
class Counter(Callback):
    """Count the steps of a training, those before a resume too."""

    steps = 0

    def on_start(self, moment: Moment) -> None:
        self.on_batch(moment)

    def on_batch(self, moment: Moment) -> None:
        self.steps = (moment.epoch - (moment.batch > 0)) * moment.batches + moment.batch


def compare(
    network: DirectionNetwork, grid: Grid, device: torch.device
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Solve a system whose right-hand side was not trained on, with the network and without it."""
    A = Diffusion(grid, device=device)
    b = BoxModes(grid).draw(1, torch.Generator().manual_seed(2**31)).reshape(-1)
    if grid.mask is not None:
        b = b * torch.as_tensor(grid.mask.reshape(-1))
    b = b.to(device)
    system = LinearSystem(A, b if A.nullspace is None else A.nullspace.project(b))
    directions = learned_directions(network)
    names = ("CG with it" if network.symmetric else "ConjugateDirections with it", "CG without it")
    solver = CG(directions) if network.symmetric else ConjugateDirections(directions)
    return compared(system, solver, CG(), names, RTOL)


def _imports(kind: str) -> tuple[str, ...]:
    names = f"ConjugateDirections, {kind}, learned_directions"
    return "from solvus.solvers import solve", f"from solvus.solvers.learned.directions import {names}"


def _use(kind: str) -> str:
    return f"result = solve(system, ConjugateDirections(learned_directions({kind}.load({{folder!r}}))))"


DCDM = PartPlan(
    says="Search directions for pressure problems on closed boxes, by a convolutional network.",
    config=DCDMConfig(),
    make=DCDMNetwork,
    training=BoxTraining(),
    run=train,
    imports=_imports("DCDMNetwork"),
    use=_use("DCDMNetwork"),
    valid="the squared residual that a line search leaves, of 1",
    least=4,
)
MULTILEVEL_DIRECTIONS = PartPlan(
    says="Search directions on boxes with obstacles, by a linear multilevel network.",
    config=MultilevelConfig(),
    make=MultilevelNetwork,
    training=BoxTraining(obstacles=4),
    run=train,
    imports=_imports("MultilevelNetwork"),
    use=_use("MultilevelNetwork"),
    valid="the residual that the direction leaves, of 1",
    least=4,
)
SYMMETRIC_DIRECTIONS = PartPlan(
    says="A symmetric positive definite multilevel network for the same problems, for plain CG.",
    config=SymmetricConfig(),
    make=SymmetricMultilevelNetwork,
    training=BoxTraining(obstacles=4),
    run=train,
    imports=(
        "from solvus.solvers import CG, solve",
        "from solvus.solvers.learned.directions import SymmetricMultilevelNetwork, learned_directions",
    ),
    use="result = solve(system, CG(learned_directions(SymmetricMultilevelNetwork.load({folder!r}))))",
    valid="the energy of the error that a step leaves, of 1",
    least=4,
)
