"""Watch what a coefficient that jumps by 1e4 does to preconditioners.

Run: python examples/jumping_coefficient.py
"""

import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.pde import two_phase
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.multigrid import amg
from solvus.solvers.preconditioners import ic0, jacobi


def main(n: int = 127, contrast: float = 1e4) -> dict[str, int]:
    """Return the CG steps to 1e-8 by preconditioner."""
    grid = Grid((n, n))
    A = Diffusion(grid, two_phase(grid, contrast, seed=0))
    b = torch.randn(grid.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    steps = {}
    for name, preconditioner in {"jacobi": jacobi, "ic0": ic0(), "amg": amg()}.items():
        stop = Stop(rtol=1e-8, max_steps=10_000)
        steps[name] = solve(LinearSystem(A, b), CG(preconditioner), stop=stop).steps
        print(f"{name:>8}: {steps[name]} steps")
    return steps


if __name__ == "__main__":
    main()
