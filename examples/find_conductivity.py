"""An inverse problem: the diffusivity of a rod from a few noisy temperatures."""

import math

import numpy as np
import torch

from solvus.meshes.geometry import Interval
from solvus.solvers.optim import SSBroyden
from solvus.solvers.pinn import (
    MLP,
    PINN,
    BoundaryProblem,
    Data,
    Dirichlet,
    Initial,
    Phase,
    Points,
    Unknown,
    fit,
)

TRUE = 0.15
generator = np.random.default_rng(0)
where = generator.random((40, 2))  # place and time
exact = np.exp(-TRUE * np.pi**2 * where[:, 1]) * np.sin(np.pi * where[:, 0])
measured = exact + 0.01 * generator.standard_normal(40)

problem = BoundaryProblem(
    Interval(0.0, 1.0),
    lambda u, a: u.t - a * u.xx,
    [Dirichlet(0.0), Initial(lambda x: torch.sin(math.pi * x)), Data(where, measured)],
    time=(0.0, 1.0),
    unknowns={"a": Unknown(1.0)},
)


def main(steps: int = 250) -> float:
    """Return the diffusivity found."""
    pinn = PINN(MLP(width=12, depth=2), (Phase(SSBroyden(), steps),), Points(300, 60, 60))
    fitted = fit(problem, pinn)
    found = fitted.solution.unknowns["a"]
    print(f"found {found:.3f}, true {TRUE}")
    print(
        f"residual of the equation {fitted.residuals['the equation']:.1e}, of the data 0.01 is the noise: "
        f"{fitted.residuals['data of u']:.1e}"
    )
    return found


if __name__ == "__main__":
    main()
