"""Deep conjugate directions: iterations and seconds to 1e-4, beside what classical methods need.

The pressure problem of incompressible flow in a closed box (no flux through walls) of N^3 cells on the unit
cube, 7-point stencil, with no-flux obstacles; `size` is N:

  box              no obstacle; right-hand side a smooth bump near a wall plus noise
  sphere           a solid sphere of radius 0.2 at the centre, the same right-hand side
  plume-obstacles  six random balls and boxes, drawn by a seed that no training used; right-hand side the
                   divergence of a rising plume that the obstacles cut, plus noise

Right-hand sides have zero mean over the fluid, the start is zero, the residual is relative to b.
Learned methods use the weights that come with the package, trained on boxes of 16^3 to 64^3 cells with other
obstacles: `dcdm` and `multilevel` in deep conjugate directions, `multilevel-spd`, which is symmetric, in
plain CG. The same networks before training are methods of their own: what training gains is the difference.
Networks work in float32, all else in float64. PyAMG gets the matrix of the fluid cells alone, its hierarchy
is built on A + 1e-10 Id, and the mean is removed where it is applied.

Records of learned methods hold the seconds of training (`train_s`) and `break_even`: after how many solves
training has paid, N* = T_train / (t_classical - t_learned), set-up in both, against CG and against the
fastest classical method of the same call; "never" where the learned solve is not faster. The classical
methods are measured first for that. Sizes 128 take minutes: name them with --only.

    python benchmarks/dcdm.py --quick
    python benchmarks/dcdm.py --only sphere:64,plume-obstacles:64 --out dcdm.jsonl
    python benchmarks/dcdm.py --only box:128,plume-obstacles:128 --repeats 1 --out dcdm-128.jsonl
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from statistics import median
from typing import final

import numpy as np
import pyamg
import torch
from masked import MaskedCase, amg, foreign, here
from masked import build as masked_build

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.operators.linear import Diffusion
from solvus.solvers import CG, LinearSystem, Preconditioner, Solver
from solvus.solvers.fast import fast_transform
from solvus.solvers.learned import shipped
from solvus.solvers.learned.directions import (
    ConjugateDirections,
    DCDMNetwork,
    DirectionNetwork,
    MultilevelNetwork,
    SymmetricMultilevelNetwork,
    learned_directions,
    random_obstacles,
)
from solvus.solvers.multigrid import amg as our_amg
from solvus.solvers.multigrid import multigrid
from solvus.solvers.preconditioners import ic0
from solvus.solvers.training.saving import read_config

OBSTACLES, SEED = 6, 20_000
SIZES = (32, 64, 128)
PROBLEMS = ("box", "sphere", "plume-obstacles")


def build(problem: str, n: int) -> MaskedCase:
    """Build a closed box of n^3 cells."""
    return plume(n) if problem == "plume-obstacles" else masked_build(problem, n)


def plume(n: int) -> MaskedCase:
    """Build a box with random obstacles; b is the divergence of a plume that they cut."""
    grid = random_obstacles(n, OBSTACLES, torch.Generator().manual_seed(SEED))
    assert grid.mask is not None
    c = (np.arange(n) + 0.5) / n
    x, y, z = np.meshgrid(c, c, c, indexing="ij")
    noise = np.random.default_rng(SEED)
    b = np.zeros(grid.shape)
    for axis in range(3):
        speed = 1e-2 * noise.standard_normal(grid.shape)
        if axis == 1:
            speed += np.exp(-((x - 0.5) ** 2 + (z - 0.5) ** 2) / 0.02 - (y - 0.3) ** 2 / 0.05)
        n_faces = [slice(None)] * 3
        low, high = n_faces.copy(), n_faces.copy()
        low[axis], high[axis] = slice(0, n - 1), slice(1, n)
        through = speed[tuple(low)] * (grid.mask[tuple(low)] & grid.mask[tuple(high)]) * n
        b[tuple(low)] += through
        b[tuple(high)] -= through
    A = Diffusion(grid)
    assert A.nullspace is not None
    return MaskedCase(LinearSystem(A, A.nullspace.project(torch.from_numpy(b.ravel()))))


def cases() -> list[Case]:
    """Return every problem at every size; 32 is quick, 128 is large."""
    return [
        Case(p, n, lambda p=p, n=n: build(p, n), quick=n == 32, rtol=1e-4, ladder=False, large=n == 128)
        for n in SIZES
        for p in PROBLEMS
    ]


@final
class Totals:
    """Seconds of the classical methods of a call, set-up and solve, for break-even counts."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, int, float], dict[str, list[float]]] = {}

    def watched(self, method: Method) -> Method:
        """Return a method whose runs are noted."""

        def run(problem: MaskedCase, case: Case, options: Options) -> Outcome:
            outcome = method.run(problem, case, options)
            if outcome.converged is not False:
                mine = self.seconds.setdefault(_key(case, options), {}).setdefault(method.name, [])
                mine.append(outcome.setup_s + outcome.solve_s)
            return outcome

        return replace(method, run=run)

    def break_even(self, case: Case, options: Options, train_s: float, own: float) -> dict[str, int | str]:
        """Return N* against CG and against the fastest classical method; the first run is a warm-up."""
        found = {
            name: median(runs[1:] or runs) for name, runs in self.seconds.get(_key(case, options), {}).items()
        }
        if not found:
            return {}
        best = min(found, key=lambda name: found[name])
        out: dict[str, int | str] = {"fastest": best, best: solves(train_s, found[best], own)}
        return {**out, "cg": solves(train_s, found["cg"], own)} if "cg" in found else out


def _key(case: Case, options: Options) -> tuple[str, int, float]:
    return case.problem, case.size, options.rtol


def solves(train_s: float, classical: float, learned: float) -> int | str:
    """Return T_train / (t_classical - t_learned), rounded up, or "never".

    >>> solves(100.0, 3.0, 1.0), solves(100.0, 1.0, 3.0)
    (50, 'never')
    """
    return ceil(train_s / (classical - learned)) if learned < classical else "never"


def learned(
    name: str,
    weights: str,
    kind: type[DirectionNetwork],
    totals: Totals,
    solver: Callable[[Preconditioner], Solver] = ConjugateDirections,
) -> Method:
    """Return the method that takes directions from a shipped network."""
    folder = shipped(weights)
    network = kind.load(folder)
    train_s = float(read_config(folder)["meta"]["seconds in all"])

    def run(problem: MaskedCase, case: Case, options: Options) -> Outcome:
        network.to(options.device)
        outcome = here(name, lambda: solver(learned_directions(network))).run(problem, case, options)
        own = outcome.setup_s + outcome.solve_s
        break_even = totals.break_even(case, options, train_s, own)
        return replace(outcome, extra={**outcome.extra, "train_s": train_s, "break_even": break_even or None})

    return Method(name, "solvus", run, kind="learned")


def untrained(name: str, network: DirectionNetwork, solver: Callable[[Preconditioner], Solver]) -> Method:
    """Return a network before training: an additive multilevel preconditioner."""
    return here(f"{name} untrained", lambda: solver(learned_directions(network)))


def methods() -> list[Method]:
    """Return our classical methods and PyAMG, then the learned ones."""
    totals = Totals()
    classical = [
        here("cg", CG),
        here("ic0-cg", lambda: CG(ic0())),
        here("transform-cg", lambda: CG(fast_transform())),
        here("multigrid-cg", lambda: CG(multigrid())),
        here("amg-cg", lambda: CG(our_amg())),
        foreign("pyamg-rs-cg", "pyamg", amg(pyamg.ruge_stuben_solver)),
    ]
    return [
        *map(totals.watched, classical),
        untrained("multilevel-spd", SymmetricMultilevelNetwork(), CG),
        untrained("multilevel", MultilevelNetwork(), ConjugateDirections),
        learned("multilevel-spd", "multilevel-spd", SymmetricMultilevelNetwork, totals, CG),
        learned("multilevel", "multilevel-32", MultilevelNetwork, totals),
        learned("dcdm", "dcdm-32", DCDMNetwork, totals),
    ]


if __name__ == "__main__":
    main("dcdm", __doc__, cases(), methods())
