"""Use a preconditioner of solvus in SciPy's conjugate gradients.

Run: python examples/with_scipy.py
"""

import numpy as np
import scipy.sparse.linalg as spla

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, sparse, to_scipy, to_scipy_operator
from solvus.solvers.multigrid import amg


def main(n: int = 127) -> int:
    """Return the number of SciPy's iterations."""
    matrix = to_scipy(Diffusion(Grid((n, n))))  # any SciPy matrix does
    M = to_scipy_operator(amg()(sparse(matrix)))
    count = 0

    def step(_: np.ndarray) -> None:
        nonlocal count
        count += 1

    _, info = spla.cg(matrix, np.ones(n * n), rtol=1e-8, M=M, callback=step)
    print(f"SciPy's cg ended with {info} after {count} iterations")
    return count


if __name__ == "__main__":
    main()
