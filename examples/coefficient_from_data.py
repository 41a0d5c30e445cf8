"""Recover two unknown conductivities from observed temperatures by gradients through the solver.

The gradient comes from one adjoint solve per step; no iteration is kept in memory.
Run: python examples/coefficient_from_data.py
"""

import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.preconditioners import jacobi


def main(n: int = 31, steps: int = 40) -> tuple[float, float]:
    """Return the two conductivities that were found; the true ones are 1 and 5."""
    grid = Grid((n, n))
    b = torch.ones(grid.size, dtype=torch.float64)
    stop = Stop(rtol=1e-10, max_steps=2000)
    left = torch.zeros(grid.cells, dtype=torch.float64)
    left[: n // 2] = 1

    def temperature(log_k: torch.Tensor) -> torch.Tensor:
        k = torch.exp(log_k[0]) * left + torch.exp(log_k[1]) * (1 - left)
        return solve(LinearSystem(Diffusion(grid, k), b), CG(jacobi), stop=stop).value

    observed = temperature(torch.log(torch.tensor([1.0, 5.0], dtype=torch.float64)))
    log_k = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_k], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = ((temperature(log_k) - observed) / observed).square().mean()
        loss.backward()
        return loss

    optimiser.step(closure)  # pyright: ignore[reportArgumentType]
    found = torch.exp(log_k.detach()).tolist()
    print(f"found {found[0]:.4f} and {found[1]:.4f}, true 1 and 5")
    return found[0], found[1]


if __name__ == "__main__":
    main()
