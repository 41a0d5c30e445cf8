"""Training of the network that writes sparse inverses, from the command line."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import final

from ..solvers.learned.sparse_inverse import (
    RandomMeshes,
    SparseInverseConfig,
    SparseInverseNetwork,
    Trainer,
    Training,
    iterations,
    ratio,
    sparse_inverse,
)
from ..solvers.preconditioners.jacobi import jacobi
from .plan import Ended, PartPlan, Request
from .rounds import Rounds

HELD_OUT = 6  # matrices that validate


@final
@dataclass(frozen=True)
class MatrixTraining:
    """How the network is trained: on stiffness matrices of random meshes that are drawn on the way.

    Args:
        steps: of the optimiser, one matrix each.
        size: unknowns of the matrices, from the smallest to the largest.
        learning_rate: of AdamW, falling to zero along a cosine.
        solid: chance of a mesh of tetrahedra rather than triangles.
        pool, visits, vectors, objective, cg_steps: see `solvus.solvers.learned.sparse_inverse.Training`.
    """

    steps: int = 5000
    size: tuple[int, ...] = (300, 2500)
    learning_rate: float = 3e-3
    solid: float = 0.4
    pool: int = 24
    visits: int = 20
    vectors: int = 4
    objective: str = "reduction"
    cg_steps: int = 10


def train(network: SparseInverseNetwork, training: MatrixTraining, request: Request) -> Ended:
    """Train on random matrices; stopped and called again it goes on."""
    settings = Training(
        steps=training.steps,
        pool=training.pool,
        visits=training.visits,
        vectors=training.vectors,
        objective=training.objective,
        cg_steps=training.cg_steps,
        rate=training.learning_rate,
        seed=request.seed,
    )
    unknowns = (min(training.size), max(training.size))
    stream, other = (RandomMeshes(unknowns, training.solid, 2 * request.seed + k) for k in range(2))
    systems = [other.draw(k) for k in range(HELD_OUT)]
    plain = iterations(jacobi, systems)
    trainer = Trainer(network, settings, draw=stream.draw)

    def counts() -> list[int]:
        return iterations(sparse_inverse(copy.deepcopy(network).cpu()), systems)

    rounds = Rounds(training.steps, 1, request.out, request.seconds, callbacks=[request.show()])
    outcome, _, seconds = rounds.train(trainer, lambda: ratio(counts(), plain))
    learned = counts()
    text = f"{sum(learned)} steps of CG in all on {HELD_OUT} matrices, {sum(plain)} with Jacobi's method"
    metrics = {"steps with it": sum(learned), "steps with Jacobi's method": sum(plain)}
    return Ended(network, outcome, trainer.step, seconds, [("validation", text)], metrics)


def check(network: SparseInverseNetwork, training: MatrixTraining) -> None:
    """Refuse settings that do not go together, as the trainer does."""
    Trainer(network, Training(objective=training.objective))


SPARSE_INVERSE = PartPlan(
    says="A sparse approximate inverse for matrices of finite elements, by a graph network.",
    config=SparseInverseConfig(),
    make=SparseInverseNetwork,
    training=MatrixTraining(),
    run=train,
    imports=(
        "from solvus.solvers import CG, solve",
        "from solvus.solvers.learned.sparse_inverse import sparse_inverse",
    ),
    use="result = solve(system, CG(sparse_inverse({folder!r})))",
    valid="steps of CG over those with Jacobi's method",
    least=30,
    check=check,
)
