"""Add a method: the algorithm alone; stopping, timing and the true residual come from `solve`.

Run: python examples/own_solver.py
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.solvers import LinearSystem, Result, Solver, Stop, solve


@dataclass(frozen=True)
class HeavyBall(Solver):
    """Polyak's gradient method with momentum, for SPD operators with eigenvalues in [low, high]."""

    low: float
    high: float

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        root_low, root_high = self.low**0.5, self.high**0.5
        step = 4 / (root_low + root_high) ** 2
        momentum = ((root_high - root_low) / (root_high + root_low)) ** 2
        previous = x
        while True:
            r = problem.residual(x)
            yield x, r.norm(dim=-1)
            x, previous = x + step * r + momentum * (x - previous), x


def main(n: int = 31) -> Result:
    """Return the result on an n x n grid."""
    grid = Grid((n, n))
    h = grid.spacing[0]
    extremes = [8 / h**2 * torch.sin(torch.tensor(k * torch.pi * h / 2)).item() ** 2 for k in (1, n)]
    system = LinearSystem(Diffusion(grid), torch.ones(grid.size, dtype=torch.float64))
    result = solve(system, HeavyBall(*extremes), stop=Stop(rtol=1e-8))
    print(result)
    return result


if __name__ == "__main__":
    main()
