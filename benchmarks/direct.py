"""Sparse direct methods: what does it cost to factor and solve, and how does SciPy's default compare?

-div grad u = f with zero Dirichlet values on n^d interior nodes, and the same with an advection term that
makes the matrix nonsymmetric ("advection2d"); f random (seed 0). `size` is n, the unknowns per axis. Set-up
is the assembly of the matrix (ours only: the peers are given it), the ordering and the factorisation.
`spsolve` cannot be split: all of it counts as solve.

    python benchmarks/direct.py --only poisson2d:511
    python benchmarks/direct.py --quick --out direct.jsonl
"""

from __future__ import annotations

from functools import partial

import scipy.sparse as sp
import torch

from solvus.bench import Case, Method, SystemCase, main, ours
from solvus.bench.peers import scipy_spsolve
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, sparse, to_scipy
from solvus.solvers import LinearSystem
from solvus.solvers.direct import CuDSS, Pardiso, SuperLU

SIZES = {"poisson2d": (127, 255, 511), "poisson3d": (15, 23, 31), "advection2d": (127, 255)}
QUICK = {("poisson2d", 255), ("poisson3d", 15), ("advection2d", 127)}
LARGE = {("poisson2d", 1023), ("poisson3d", 47)}


def build(problem: str, n: int) -> SystemCase:
    """Return the system with n interior nodes per axis and a random right-hand side."""
    dim = 3 if problem == "poisson3d" else 2
    A = Diffusion(Grid((n,) * dim))
    b = torch.randn(n**dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if problem != "advection2d":
        return SystemCase(LinearSystem(A, b))
    slope = sp.kron(sp.diags_array([-1.0, 1.0], offsets=[-1, 1], shape=(n, n)), sp.eye_array(n))
    return SystemCase(LinearSystem(sparse(sp.csr_array(to_scipy(A) + 0.5 * n * slope), tags=()), b))


def cases() -> list[Case]:
    """Return the ladder of sizes of every problem."""
    pairs = [(p, n) for p, sizes in SIZES.items() for n in sizes]
    return [
        Case(p, n, partial(build, p, n), quick=(p, n) in QUICK, large=(p, n) in LARGE)
        for p, n in (*pairs, *sorted(LARGE))
    ]


def methods() -> list[Method]:
    """Return our methods, cuDSS where a GPU is, and SciPy's."""
    found = [ours("SuperLU", SuperLU), ours("Pardiso", Pardiso)]
    if torch.cuda.is_available():
        found.append(ours("CuDSS", CuDSS))
    return [
        *found,
        scipy_spsolve(),
        scipy_spsolve("spsolve MMD", ordering="MMD_AT_PLUS_A"),
    ]


if __name__ == "__main__":
    main("direct", __doc__, cases(), methods())
