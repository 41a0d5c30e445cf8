"""Let a tuner find out which preconditioner a sequence of systems wants, while they are solved.

Inclusions that conduct a thousand times better move through a square; the time step grows from 1e-8 to 1e-2
and back, so that cheap preconditioners win at one time and multigrid at another. Cost: seconds with set-up.
Run: python examples/choose_while_solving.py
"""

import math

import torch

from solvus.meshes import Grid
from solvus.operators import Diffusion
from solvus.operators.pde import two_phase
from solvus.solvers import CG, LinearSystem, Stop, jacobi, ssor
from solvus.solvers.learned import ContextBins, TsallisINF, Tuner, over
from solvus.solvers.multigrid import multigrid
from solvus.solvers.preconditioners import ict


def main(n: int = 63, solves: int = 300) -> Tuner:
    """Return the tuner with what it learned; printing it shows how often each arm was played."""
    arms = {
        "Jacobi": CG(jacobi),
        **{f"SSOR {name}": solver for name, solver in over(lambda w: CG(ssor(w)), [1.0, 1.5]).items()},
        **{f"ICT {name}": solver for name, solver in over(lambda t: CG(ict(drop=t)), [1e-2, 1e-3]).items()},
        "multigrid": CG(multigrid()),
    }
    learner = ContextBins(lambda: TsallisINF(len(arms)), 4, (-8.0, -2.0))
    tuner = Tuner(arms, learner, cost="seconds")  # the backstop is Auto
    grid = Grid((n, n))
    coefficient = torch.as_tensor(two_phase(grid, 1e3, seed=0))
    u = torch.zeros(grid.size, dtype=torch.float64)
    for step in range(solves):
        exponent = -5 - 3 * math.cos(2 * math.pi * step / 60)
        dt = 10.0**exponent
        A = Diffusion(grid, dt * coefficient.roll(step, 0), reaction=1.0)  # one implicit Euler step
        result = tuner.solve(LinearSystem(A, u + dt), context=exponent, x0=u, stop=Stop(rtol=1e-8))
        u = result.value
    print(tuner)
    return tuner


if __name__ == "__main__":
    main()
