"""Solve for the pressure around a sphere in a closed box: transforms make an ideal preconditioner.

Run: python examples/masked_box.py
"""

import numpy as np
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.fast import fast_transform


def main(n: int = 64) -> int:
    """Return the steps to 1e-8 on n^3 cells."""
    x = (np.arange(n) + 0.5) / n
    X, Y, Z = np.meshgrid(x, x, x, indexing="ij")
    fluid = (X - 0.5) ** 2 + (Y - 0.5) ** 2 + (Z - 0.5) ** 2 > 0.2**2
    A = Diffusion(Grid((n, n, n), centring="cell", boundary="neumann", mask=fluid))
    b = torch.randn(n**3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    b *= torch.as_tensor(fluid.ravel())
    assert A.nullspace is not None  # the pressure is known up to a constant
    result = solve(LinearSystem(A, A.nullspace.project(b)), CG(fast_transform()), stop=Stop(rtol=1e-8))
    print(f"{fluid.sum()} fluid cells: {result}")
    return result.steps


if __name__ == "__main__":
    main()
