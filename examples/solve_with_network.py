"""Burgers' equation by a network: written as mathematics, solved by `solve`, with its true residual."""

import math

import torch

from solvus.meshes.geometry import Interval
from solvus.solvers import Stop, solve
from solvus.solvers.optim import Adam, SSBroyden
from solvus.solvers.pinn import MLP, PINN, BoundaryProblem, Dirichlet, Initial, Phase, Points
from solvus.solvers.pinn.sampling import RAD

NU = 0.05


def burgers(u):
    """Return the residual u_t + u u_x - nu u_xx."""
    return u.t + u * u.x - NU * u.xx


problem = BoundaryProblem(
    Interval(-1.0, 1.0),
    burgers,
    [Dirichlet(0.0), Initial(lambda x: -torch.sin(math.pi * x))],
    time=(0.0, 1.0),
)


def main(steps: int = 700, rtol: float = 2e-2) -> float:
    """Solve to a relative residual, and return u(-0.5, 0.5)."""
    pinn = PINN(
        MLP(width=16, depth=2),
        chain=(Phase(Adam(), 100), Phase(SSBroyden(), steps, sampling=RAD(every=100, pool=2000))),
        points=Points(domain=400, boundary=60, initial=60),
    )
    result = solve(problem, pinn, stop=Stop(rtol=rtol))
    u = result.stats["solution"]
    print(f"{result.status.name} after {result.steps} steps, residual {float(result.relative_residual):.1e}")
    print(f"u is odd: {u([[-0.5, 0.5]]).item():.3f} and {u([[0.5, 0.5]]).item():.3f}")
    return u([[-0.5, 0.5]]).item()


if __name__ == "__main__":
    main()
