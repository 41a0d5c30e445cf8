"""Computing a basis for deflation from solved members of a family, from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..meshes.grid import Grid
from ..operators.linear.diffusion import Diffusion
from ..operators.pde.fields import log_normal, source_field
from ..solvers.base import Stop, solve
from ..solvers.krylov.cg import CG
from ..solvers.learned.deflation import Basis, deflation
from ..solvers.multigrid.geometric import multigrid
from ..solvers.preconditioners.ssor import ssor
from ..solvers.system import LinearSystem
from .plan import Ended, PartPlan, Request, compared
from .rounds import Rounds

HELD_OUT = 8  # systems that validate
RTOL = 1e-8  # of the comparison


@final
@dataclass(frozen=True)
class NoSettings:
    """Settings of a part that is computed: none."""


@final
@dataclass(frozen=True)
class FamilyTraining:
    """What a basis is computed from: diffusion with log-normal coefficients and smooth sources.

    Args:
        steps: systems that are solved.
        size: unknowns per axis; a basis fits one grid, so one number.
        columns: of the basis, at most.
        dim: axes.
        sigma: deviation of the logarithm of the coefficient.
        structures: of the coefficient, along a side.

    Raises:
        ValueError: settings out of range.
    """

    steps: int = 200
    size: tuple[int, ...] = (63,)
    columns: int = 32
    dim: int = 2
    sigma: float = 1.0
    structures: float = 8.0

    def __post_init__(self) -> None:
        if len(self.size) != 1:
            sizes = ",".join(map(str, self.size)) or "none"
            raise ValueError(f"a basis fits one grid: give one --size, got {sizes}")
        if self.dim not in (1, 2, 3) or self.columns < 1 or not (self.sigma >= 0 and self.structures > 0):
            raise ValueError(
                "a basis needs dim 1 to 3, columns from 1 on, sigma from 0 on and structures above 0, got "
                f"{self.dim}, {self.columns}, {self.sigma:g} and {self.structures:g}"
            )


def member(training: FamilyTraining, seed: tuple[int, int]) -> LinearSystem:
    """Draw a member of the family."""
    rng, grid = np.random.default_rng(seed), Grid(training.size * training.dim)
    coefficient = log_normal(grid, training.sigma, rng, structures=training.structures)
    source = source_field(grid, 1, rng).reshape(-1)
    return LinearSystem(Diffusion(grid, torch.from_numpy(coefficient)), source)


@final
class Snapshots:
    """Solve members of the family, one in a step; a step returns what the basis before misses of it."""

    def __init__(self, training: FamilyTraining, seed: int) -> None:
        self.training, self.seed, self.step = training, seed, 0
        self.found: list[Tensor] = []
        self.Q = torch.zeros(training.size[0] ** training.dim, 0, dtype=torch.float64)

    def advance(self) -> float:
        """Solve one member."""
        system = member(self.training, (self.seed, self.step))
        self.found.append(solve(system, CG(multigrid()), stop=Stop(rtol=1e-10)).value)
        self.step += 1
        return missed(self.found[-1], self.Q)

    def basis(self) -> Basis:
        """Return the basis of what was solved so far, which `advance` is measured by from here on."""
        basis = Basis.from_snapshots(torch.stack(self.found), columns=self.training.columns)
        self.Q = basis.columns
        return basis

    def save_state(self, path: str | Path) -> None:
        """Write the solutions."""
        torch.save({"step": self.step, "found": torch.stack(self.found), "Q": self.Q}, path)

    def load_state(self, path: str | Path) -> None:
        """Go on from what was written."""
        state = torch.load(path, weights_only=True)
        self.step, self.found, self.Q = state["step"], list(state["found"]), state["Q"]


def missed(solution: Tensor, Q: Tensor) -> float:
    """Return the share of a solution that is not in the span, ||u - Q Q^T u|| / ||u||."""
    return float((solution - Q @ (Q.mT @ solution)).norm() / solution.norm())


def run(network: None, training: FamilyTraining, request: Request) -> Ended:
    """Solve members of the family, and compute the basis; stopped and called again it goes on."""
    snapshots = Snapshots(training, 2 * request.seed)
    systems = [member(training, (2 * request.seed + 1, k)) for k in range(HELD_OUT)]
    solutions = [solve(system, CG(multigrid()), stop=Stop(rtol=1e-10)).value for system in systems]

    def validate() -> float:
        Q = snapshots.basis().columns
        return sum(missed(u, Q) for u in solutions) / HELD_OUT

    rounds = Rounds(training.steps, 1, request.out, request.seconds, callbacks=[request.show()])
    outcome, _, seconds = rounds.train(snapshots, validate)
    basis, share = snapshots.basis(), validate()
    text = f"the basis of {basis.size} columns misses {share:.2%} of a solution"
    smoother = ssor(1.5)
    names = ("CG with it and SSOR", "CG with SSOR")
    rows, metrics = compared(systems[0], CG(deflation(basis, smoother)), CG(smoother), names, RTOL)
    rows = [("validation", text), *rows]
    more: dict[str, Any] = {"share of a solution that is missed": share, "columns": basis.size}
    return Ended(basis, outcome, snapshots.step, seconds, rows, {**more, **metrics})


DEFLATION_BASIS = PartPlan(
    says="A basis for deflation on one grid, from solutions of random diffusion problems; it is computed.",
    config=NoSettings(),
    make=None,
    training=FamilyTraining(),
    run=run,
    imports=(
        "from solvus.solvers import CG, solve, ssor",
        "from solvus.solvers.learned.deflation import deflation",
    ),
    use="result = solve(system, CG(deflation({folder!r}, ssor(1.5))))",
    valid="the share of a solution that the basis misses",
    least=3,
    cpu_only=True,
)
