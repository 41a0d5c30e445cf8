"""Learn a basis from solved members of a family, and solve its other members with it.

Twelve discs at fixed places, each with a conductivity that is new in every member, and a new source. Their
few slow modes are what conjugate gradients spend their steps on, and what the solutions of other members
show, if the sources differ: with the same source in all members there is little to learn from.

Run: python examples/deflate_family.py               (48 x 48 cells)
     python examples/deflate_family.py 128 out/basis  (cells per side, where to save the basis)
"""

import sys
from time import perf_counter

import numpy as np
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.pde.fields import gaussian
from solvus.solvers import CG, LinearSystem, Stop, solve, ssor
from solvus.solvers.learned.deflation import Basis, DeflatedCG, deflation
from solvus.solvers.multigrid import multigrid


def member(grid: Grid, seed: int) -> LinearSystem:
    """Draw the conductivity of every disc, and a source."""
    rng = np.random.default_rng(seed)
    X, Y = np.meshgrid(*grid.axes(), indexing="ij")
    k = np.ones(grid.shape)
    for i in range(3):
        for j in range(4):
            k[(X - (i + 0.5) / 3) ** 2 + (Y - (j + 0.5) / 4) ** 2 < 0.01] = 10 ** rng.uniform(2, 5)
    source = 1 + gaussian(grid, rng, structures=4.0)
    return LinearSystem(Diffusion(grid, k), source.ravel())


def main(n: int = 48, folder: str | None = None, samples: int = 48, columns: int = 16) -> dict[str, int]:
    """Return the steps of every method on a member that was not in the training."""
    grid, stop = Grid((n, n), centring="cell"), Stop(rtol=1e-8)
    begin = perf_counter()
    solutions = [
        solve(member(grid, seed), CG(multigrid()), stop=stop).value for seed in range(1, samples + 1)
    ]
    basis = Basis.from_snapshots(torch.stack(solutions), columns=columns)
    seconds = perf_counter() - begin
    print(f"{basis.size} columns from {samples} solutions, {seconds:.1f} s")
    if folder is not None:
        basis.save(folder, meta={"samples": samples, "seconds": round(seconds, 1)}, overwrite=True)

    smoother = ssor(1.5)
    methods = {
        "SSOR-CG": CG(smoother),
        "additive": CG(deflation(basis, smoother)),
        "multiplicative": CG(deflation(basis, smoother, form="multiplicative")),
        "deflated CG": DeflatedCG(basis, smoother),
        "multigrid-CG": CG(multigrid()),
    }
    steps = {}
    for name, method in methods.items():
        steps[name] = solve(member(grid, seed=0), method, stop=stop).steps
        print(f"{name:>14}: {steps[name]} steps")
    return steps


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 48, sys.argv[2] if len(sys.argv) > 2 else None)
