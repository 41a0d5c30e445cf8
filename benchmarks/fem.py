"""Finite elements: what accuracy does a second buy, by degree, by package, and against finite differences?

-div(kappa grad u) = f on the unit square, u = exp(x) sin(pi x) sin(pi y), which vanishes on the boundary:
"poisson2d" with kappa = 1, "diffusion2d" with kappa = 1 + x + y. `size` is the number of cells per axis, each
square cut into two triangles. The error is ||u_h - u|| / ||u|| in L2, by quadrature of degree 2 p + 4; the
values of finite differences count as the linear interpolant on the same triangles.

Mesh, numbering and compiled forms are made in the warm-up and kept, in all packages. Set-up is the evaluation
of the data, assembly, the preconditioner or factorisation, and for FEniCS in a worker the exchange with it
(alone in `overhead_s`). FEniCS solves by CG with hypre BoomerAMG, scikit-fem by SuperLU or by our AMG.

    python benchmarks/fem.py --only poisson2d:64,poisson2d:128
    python benchmarks/fem.py --quick --out fem.jsonl
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from time import perf_counter
from typing import Any

import numpy as np
import torch

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.meshes import Grid, Mesh, grid_mesh
from solvus.operators.linear import Diffusion
from solvus.solvers import CG, LinearSystem, Solver, Status, Stop, solve
from solvus.solvers.fast import FastTransform
from solvus.solvers.fem import FemBackend, FemSolution, ScikitFem, VariableDiffusion, fenics
from solvus.solvers.multigrid import amg

SIZES = (16, 32, 64, 128)
QUICK = (16, 32, 64)
LARGE = (256, 512)
RTOL = 1e-10


def exact(x: np.ndarray) -> np.ndarray:
    """Return u at points (n, 2)."""
    return np.exp(x[:, 0]) * np.sin(np.pi * x[:, 0]) * np.sin(np.pi * x[:, 1])


def gradient(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both derivatives of u."""
    e, s, c = np.exp(x[:, 0]), np.sin(np.pi * x), np.cos(np.pi * x)
    return e * (s[:, 0] + np.pi * c[:, 0]) * s[:, 1], e * s[:, 0] * np.pi * c[:, 1]


def source(varying: bool, x: np.ndarray) -> np.ndarray:
    """Return f = -kappa laplace u - grad kappa . grad u."""
    e, s, c = np.exp(x[:, 0]), np.sin(np.pi * x), np.cos(np.pi * x)
    laplace = e * s[:, 1] * ((1 - 2 * np.pi**2) * s[:, 0] + 2 * np.pi * c[:, 0])
    return -kappa(x) * laplace - sum(gradient(x)) if varying else -laplace


def kappa(x: np.ndarray) -> np.ndarray:
    """Return the varying coefficient."""
    return 1 + x[:, 0] + x[:, 1]


@dataclass(frozen=True, eq=False)
class Boundary:
    """The problem of a case: the same domain for all methods."""

    varying: bool
    n: int

    @property
    def unknowns(self) -> int:
        """Interior nodes of degree 1."""
        return (self.n - 1) ** 2

    @property
    def dtype(self) -> str:
        """Floating-point type."""
        return "float64"

    @cached_property
    def grid(self) -> Grid:
        """Unknowns of the finite differences."""
        return Grid((self.n - 1, self.n - 1))

    @cached_property
    def mesh(self) -> Mesh:
        """Triangles of the finite elements."""
        return grid_mesh(self.grid)

    def elements(self, degree: int) -> VariableDiffusion:
        """Return the finite-element problem."""
        coefficient = kappa if self.varying else 1.0
        f = partial(source, self.varying)
        return VariableDiffusion(self.mesh, f, degree=degree, coefficient=coefficient)

    def check(self, value: FemSolution) -> tuple[None, float]:
        """Recompute the relative L2 error."""
        return None, value.l2_error(exact, relative=True)


def finite_elements(make: Any, degree: int, problem: Boundary, case: Case, options: Options) -> Outcome:
    """Solve by elements of a degree; `make(rtol)` returns the backend."""
    backend: FemBackend = make(options.rtol)
    begin = perf_counter()
    solution = backend.solve(problem.elements(degree))
    wall = perf_counter() - begin
    stats = solution.stats
    return Outcome(
        solution,
        wall - stats["solve_s"],
        stats["solve_s"],
        stats["iterations"],
        residual=stats["residual"],
        extra={
            "unknowns": len(solution.value),
            "device": "cpu",
            **{k: stats[k] for k in ("assemble_s", "overhead_s", "evaluate_s")},
        },
    )


def differences(solver: Solver, problem: Boundary, case: Case, options: Options) -> Outcome:
    """Solve the 5-point scheme; the error is that of the linear interpolant."""
    begin = perf_counter()
    grid = problem.grid
    x = np.stack(np.meshgrid(*grid.cell_axes(), indexing="ij"), axis=-1)
    k = kappa(x.reshape(-1, 2)).reshape(grid.cells) if problem.varying else 1.0
    k = torch.as_tensor(k, dtype=torch.float64, device=options.device)
    b = torch.from_numpy(source(problem.varying, grid.points())).to(options.device)
    system = LinearSystem(Diffusion(grid, k), b)
    ready = perf_counter() - begin
    result = solve(system, solver, stop=Stop(rtol=options.rtol), throw=False)
    value = np.zeros(problem.mesh.n_points)
    value[problem.mesh.point_data["unknown"] >= 0] = result.value.cpu().numpy()
    return Outcome(
        FemSolution(problem.elements(1), value),
        ready + result.stats["setup_s"],
        result.stats["solve_s"],
        result.steps,
        residual=float(result.relative_residual),
        converged=result.status is Status.CONVERGED,
        extra={"unknowns": system.n},
    )


def cases() -> list[Case]:
    """Return the ladder of resolutions of both problems."""
    return [
        Case(name, n, partial(Boundary, name == "diffusion2d", n), n in QUICK, RTOL, large=n in LARGE)
        for name in ("poisson2d", "diffusion2d")
        for n in (*SIZES, *LARGE)
    ]


def methods() -> list[Method]:
    """Return three degrees of both packages, and finite differences."""
    found = []
    for p in (1, 2, 3):
        run = partial(finite_elements, lambda rtol: fenics(rtol=rtol), p)
        found.append(Method(f"FEniCS P{p}", "dolfinx", run))
    for p in (1, 2, 3):
        run = partial(finite_elements, lambda rtol: ScikitFem(rtol=rtol), p)
        found.append(Method(f"scikit-fem P{p}", "scikit-fem", run))
    for p in (1, 2, 3):
        run = partial(finite_elements, lambda rtol: ScikitFem(CG(amg()), rtol), p)
        found.append(Method(f"scikit-fem P{p}, our AMG", "solvus", run))
    fast = partial(differences, FastTransform())
    constant = lambda case: case.problem == "poisson2d"  # noqa: E731
    found.append(Method("differences, fast sine transform", "solvus", fast, applies=constant))
    found.append(Method("differences, AMG", "solvus", partial(differences, CG(amg()))))
    return found


if __name__ == "__main__":
    main("fem", __doc__, cases(), methods())
