"""Classical and learned solvers for PDEs and linear systems behind one call, measured side by side.

The names used most are here; the rest is in `solvus.meshes`, `solvus.operators`, `solvus.solvers`,
`solvus.datasets` and `solvus.bench`.

>>> import torch
>>> A = Diffusion(Grid((127, 127)))
>>> result = solve(LinearSystem(A, torch.ones(127 * 127, dtype=torch.float64)), stop=Stop(rtol=1e-10))
>>> result.status.name, round(float(result.value.max()), 4)  # -div grad u = 1 on the unit square
('CONVERGED', 0.0737)
"""

from importlib.metadata import version

from .meshes import Boundary, Grid, Mesh
from .operators import Diffusion, LinearOperator, Tag, sparse
from .solvers import Auto, LinearSystem, Result, SolveError, Solver, Status, Stop, solve

__version__ = version("solvus")

__all__ = [
    "Auto",
    "Boundary",
    "Diffusion",
    "Grid",
    "LinearOperator",
    "LinearSystem",
    "Mesh",
    "Result",
    "SolveError",
    "Solver",
    "Status",
    "Stop",
    "Tag",
    "__version__",
    "solve",
    "sparse",
]
