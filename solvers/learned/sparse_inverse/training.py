"""Training of sparse inverses without solutions, on matrices that are drawn as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ....operators.linear.csr import CSR
from ...base import Stop, solve
from ...krylov.cg import CG
from ...preconditioners.base import Preconditioner
from ...preconditioners.jacobi import jacobi
from ...system import LinearSystem
from ..trainer import SystemTrainer
from .factored import Pattern
from .losses import TrainingSystem, hutchinson, kaporin, reduction
from .network import SparseInverseNetwork
from .preconditioner import sparse_inverse
from .systems import RandomMeshes


class Objective(StrEnum):
    """What is minimised, see `losses`."""

    REDUCTION = "reduction"  # residual of CG after some steps
    HUTCHINSON = "hutchinson"  # ||s M A z - z||, z random, s optimal
    KAPORIN = "kaporin"  # condition number of Kaporin; triangular patterns only


@final
@dataclass(frozen=True)
class Training:
    """Settings of the training.

    Args:
        steps: of the optimiser; seconds: stop after that long (None: never).
        pool: matrices that are kept; visits: a matrix is replaced by a fresh one after so many steps.
        vectors: random vectors per step.
        objective: see `Objective`; cg_steps: of `reduction`.
        rate: of AdamW, falling to zero along a cosine (in steps, or in seconds where they are given).
        seed: of the vectors and of the order of the matrices.
        evaluate_every: steps between evaluations; a checkpoint is written at each.

    Raises:
        ValueError: a count below 1.
    """

    steps: int = 5000
    seconds: float | None = None
    pool: int = 24
    visits: int = 20
    vectors: int = 4
    objective: str = "reduction"
    cg_steps: int = 10
    rate: float = 3e-3
    seed: int = 0
    evaluate_every: int = 500

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", str(Objective(self.objective)))
        counts = (self.pool, self.visits, self.vectors, self.cg_steps, self.evaluate_every)
        if min(counts) < 1:
            raise ValueError(
                f"pool, visits, vectors, cg_steps and evaluate_every must be at least 1, got {counts}"
            )


def iterations(
    build: Preconditioner, operators: Sequence[CSR], rtol: float = 1e-8, *, max_steps: int = 5000
) -> list[int]:
    """Return the CG steps to rtol with a preconditioner, for one random right-hand side each (seed 0)."""
    counts = []
    for A in operators:
        b = torch.randn(A.shape[0], dtype=A.dtype, generator=torch.Generator().manual_seed(0))
        stop = Stop(rtol=rtol, max_steps=max_steps)
        counts.append(solve(LinearSystem(A, b), CG(build), stop=stop, throw=False).steps)
    return counts


def ratio(counts: Sequence[int], others: Sequence[int]) -> float:
    """Return the geometric mean of counts over others; 1 for none.

    >>> ratio([2, 8], [4, 4])
    1.0
    """
    pairs = list(zip(counts, others, strict=True))
    return float(np.exp(np.mean([np.log(max(a, 1) / max(b, 1)) for a, b in pairs]))) if pairs else 1.0


@final
class Trainer(SystemTrainer[SparseInverseNetwork, CSR]):
    """Train a network; the state can be written and taken up again.

    Args:
        network: changed in place.
        settings: what to do.
        draw: returns the k-th matrix; default `RandomMeshes().draw`.
        folder: for `log.jsonl` and `state.pt`; None: neither is written.
        report: called with every row of the log.

    >>> tiny = Training(steps=2, pool=1, cg_steps=2)
    >>> Trainer(SparseInverseNetwork(), tiny, draw=RandomMeshes((50, 100)).draw).run(validation=[]) < 0
    True
    """

    settings: Training

    def __init__(
        self,
        network: SparseInverseNetwork,
        settings: Training,
        *,
        draw: Callable[[int], CSR] | None = None,
        folder: str | Path | None = None,
        report: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        if settings.objective == Objective.KAPORIN and network.config.pattern == Pattern.FULL:
            raise ValueError(
                "the objective 'kaporin' needs the determinant of L, which is not triangular here: use the "
                "pattern 'lower', or the objective 'reduction'"
            )
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate)
        super().__init__(network, settings, optimiser, folder, report)
        self.draw, self.place = draw or RandomMeshes().draw, 0
        self.pool: list[TrainingSystem] = []
        self.visits: list[int] = []

    def _loss(self) -> Tensor:
        self.place = self._choose()
        return self.loss(self.pool[self.place])

    def _visited(self, sound: bool) -> None:
        self.visits[self.place] += 1 if sound else self.settings.visits

    def loss(self, system: TrainingSystem) -> Tensor:
        """Return the loss on one matrix, with fresh random vectors."""
        settings = self.settings
        L = self.network(system.graph).to(system.entries.dtype)
        z = system.random(settings.vectors, self.generator)
        if settings.objective == Objective.HUTCHINSON:
            return hutchinson(system, L, z)
        if settings.objective == Objective.KAPORIN:
            return kaporin(system, L, z)
        return reduction(system, L, z, settings.cg_steps)

    def _choose(self) -> int:
        """Return the place of a matrix in the pool; it is drawn where it is missing or worn."""
        config = self.network.config
        place = min(int(self.rng.integers(self.settings.pool)), len(self.pool))
        fresh = place == len(self.pool)
        if fresh or self.visits[place] >= self.settings.visits:
            A = self.draw(self.drawn).to(next(self.network.parameters()).device)
            self.drawn += 1
            system = TrainingSystem(A, config.pattern, config.eps, start=config.start)
            self.pool[place : place + 1] = [system]
            self.visits[place : place + 1] = [0]
        return place

    def _classical(self, validation: Sequence[CSR]) -> list[int]:
        return iterations(jacobi, validation)

    def _compare(self, validation: Sequence[CSR], classical: list[int]) -> dict[str, Any]:
        learned = iterations(sparse_inverse(self.network), validation)
        return {
            "matrices": self.drawn,
            "iterations": learned,
            "jacobi": classical,
            "ratio": round(ratio(learned, classical), 4),
        }
