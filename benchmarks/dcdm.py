"""Deep conjugate directions: iterations and seconds to 1e-4, beside what classical methods need.

The pressure problem of incompressible flow in a closed box (no flux through walls) of N^3 cells on the unit
cube, 7-point stencil, with no-flux obstacles; `size` is N:

  box              no obstacle; right-hand side a smooth bump near a wall plus noise
  sphere           a solid sphere of radius 0.2 at the centre, the same right-hand side
  plume-obstacles  six random balls and boxes, drawn by a seed that no training used; right-hand side the
                   divergence of a rising plume that the obstacles cut, plus noise

Right-hand sides have zero mean over the fluid, the start is zero, the residual is relative to b.
Learned methods use the weights that come with the package, trained on 16^3 and 32^3 boxes; the record holds
their seconds of training (`train_s`), so that break-even counts are printed where there is one. Networks work
in float32, all else in float64. PyAMG gets the matrix of the fluid cells alone, its hierarchy is built on
A + 1e-10 Id, and the mean is removed where it is applied. Sizes 128 and the learned methods on them take
minutes: name them with --only.

    python benchmarks/dcdm.py --quick
    python benchmarks/dcdm.py --only sphere:64,plume-obstacles:64 --out dcdm.jsonl
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyamg
import torch
from masked import MaskedCase, amg, foreign, here
from masked import build as masked_build

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.operators.linear import Diffusion
from solvus.solvers import CG, LinearSystem
from solvus.solvers.fast import fast_transform
from solvus.solvers.krylov import FlexibleCG
from solvus.solvers.learned.directions import (
    ConjugateDirections,
    DCDMNetwork,
    MultilevelConfig,
    MultilevelNetwork,
    learned_directions,
    random_obstacles,
    shipped,
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


def learned(
    name: str, weights: str, kind: type[DCDMNetwork] | type[MultilevelNetwork], flexible: bool = False
) -> Method:
    """Return the method that takes directions from a shipped network."""
    folder = shipped(weights)
    network = kind.load(folder)
    train_s = read_config(folder)["meta"]["seconds in all"]
    iterate = FlexibleCG if flexible else ConjugateDirections

    def run(problem: MaskedCase, case: Case, options: Options) -> Outcome:
        network.to(options.device)
        outcome = here(name, lambda: iterate(learned_directions(network))).run(problem, case, options)
        return replace(outcome, extra={**outcome.extra, "train_s": train_s})

    return Method(name, "solvus", run, kind="learned")


def untrained() -> Method:
    """Return the multilevel network before training: an additive multilevel preconditioner."""
    directions = learned_directions(MultilevelNetwork(MultilevelConfig()))
    return here("multilevel untrained", lambda: ConjugateDirections(directions))


def methods() -> list[Method]:
    """Return the learned methods, then ours that are classical, then PyAMG."""
    return [
        learned("dcdm", "dcdm-32", DCDMNetwork),
        learned("multilevel", "multilevel-32", MultilevelNetwork),
        untrained(),
        here("cg", CG),
        here("ic0-cg", lambda: CG(ic0())),
        here("transform-cg", lambda: CG(fast_transform())),
        here("multigrid-cg", lambda: CG(multigrid())),
        here("amg-cg", lambda: CG(our_amg())),
        foreign("pyamg-rs-cg", "pyamg", amg(pyamg.ruge_stuben_solver)),
    ]


if __name__ == "__main__":
    main("dcdm", __doc__, cases(), methods())
