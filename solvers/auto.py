"""Choose a solver from what is known of the problem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from .base import Solver
from .krylov.cg import CG


@final
@dataclass(frozen=True)
class Auto(Solver):
    """Choose CG."""

    def choose(self, problem: Any) -> Solver:
        """Return the solver that will be used."""
        return CG()

    def check(self, problem: Any) -> None:
        """Pass on to the chosen solver."""
        self.choose(problem).check(problem)

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate the chosen solver."""
        return self.choose(problem).iterate(problem, x)
