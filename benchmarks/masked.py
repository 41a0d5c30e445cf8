"""Poisson's equation in boxes with obstacles: how much is a fast transform worth as a preconditioner?

A closed box (no flux through the walls) of N^d cells on the unit cube, with no-flux obstacles:

  box      3-D, no obstacle: the transform is exact, every other method shows its price
  sphere   3-D, a solid sphere of radius 0.2 at the centre
  discs    2-D, seven discs of different sizes

The right-hand side is a smooth bump near a wall plus noise, of zero mean over the fluid; the start is zero,
the residual relative to the right-hand side. Every record holds, beside the seconds to the case's tolerance,
the iterations to 1e-4, 1e-6 and 1e-8 (`iterations`), from the method's residual history. PyAMG and SciPy
solve the matrix of the fluid cells alone (their graph Laplacian); PyAMG's hierarchies are built on
A + 1e-10 Id, and the mean is removed where they are applied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from scipy import ndimage

from solvus.bench import Case, Method, Options, Outcome, SystemCase, main
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, to_scipy
from solvus.solvers import CG, LinearSystem, Solver, Status, Stop, solve
from solvus.solvers.fast import FastTransform, fast_transform
from solvus.solvers.multigrid import multigrid
from solvus.solvers.preconditioners import jacobi

TOLERANCES = (1e-4, 1e-6, 1e-8)
FLUID_CELLS = {("sphere", 64): 253_400, ("sphere", 128): 2_026_832}
DISCS = (  # centre, radius
    ((0.20, 0.25), 0.09), ((0.55, 0.18), 0.06), ((0.80, 0.38), 0.10), ((0.42, 0.48), 0.12),
    ((0.15, 0.66), 0.07), ((0.66, 0.72), 0.11), ((0.34, 0.84), 0.05),
)  # fmt: skip


class MaskedCase(SystemCase):
    """A masked system that also knows its fluid cells."""

    @cached_property
    def fluid(self) -> np.ndarray:
        """Indices of the unknowns that exist."""
        assert isinstance(self.system.A, Diffusion)
        mask = self.system.A.grid.mask
        return np.arange(self.system.n) if mask is None else np.flatnonzero(mask)

    @property
    def h(self) -> float:
        """Cell width."""
        assert isinstance(self.system.A, Diffusion)
        return self.system.A.grid.spacing[0]

    @property
    def unknowns(self) -> int:
        """Number of fluid cells."""
        return len(self.fluid)

    @cached_property
    def fluid_matrix(self) -> sp.csr_array:
        """The matrix of the fluid cells alone, times h^2: their graph Laplacian."""
        return sp.csr_array(self.h**2 * to_scipy(self.system.A)[self.fluid][:, self.fluid])

    @cached_property
    def fluid_rhs(self) -> np.ndarray:
        """The right-hand side on the fluid cells, times h^2."""
        return np.asarray(self.h**2 * self.system.b.numpy()[self.fluid])

    def on_box(self, x: np.ndarray) -> torch.Tensor:
        """Return a fluid vector on the full box, zero elsewhere."""
        full = np.zeros(self.system.n)
        full[self.fluid] = x
        return torch.from_numpy(full)


def build(problem: str, n: int) -> MaskedCase:
    """Build the box with N cells per axis; 3-D, or 2-D for the discs."""
    dim = 2 if problem == "discs" else 3
    c = (np.arange(n) + 0.5) / n
    points = np.meshgrid(*[c] * dim, indexing="ij")
    mask = np.ones((n,) * dim, dtype=bool)
    if problem == "sphere":
        mask &= sum((x - 0.5) ** 2 for x in points) > 0.2**2
    if problem == "discs":
        for centre, radius in DISCS:
            mask &= sum((x - m) ** 2 for x, m in zip(points, centre, strict=True)) > radius**2
    assert ndimage.label(mask)[1] == 1  # the mean is removed over one part
    assert mask.sum() == FLUID_CELLS.get((problem, n), mask.sum())
    y = points[1]
    across = sum((x - 0.5) ** 2 for axis, x in enumerate(points) if axis != 1)
    b = np.exp(-across / 0.005 - (y - 0.15) ** 2 / 0.01) * (y - 0.15)
    b += 1e-3 * np.random.default_rng(0).standard_normal(b.shape)
    grid = Grid(mask.shape, centring="cell", boundary="neumann", mask=None if mask.all() else mask)
    b = np.where(mask, b - b[mask].mean(), 0.0)
    return MaskedCase(LinearSystem(Diffusion(grid), b.ravel()))


def cases() -> list[Case]:
    """Return the cases, quick ones first."""
    wanted = [("discs", 256, True), ("sphere", 64, True), ("box", 64, False)]
    wanted += [("sphere", 128, False), ("box", 128, False)]
    return [Case(p, n, lambda p=p, n=n: build(p, n), quick=quick) for p, n, quick in wanted]


def counts(residuals: list[float], scale: float) -> dict[str, int | None]:
    """Iterations after which each tolerance was met first; None where it was not."""
    met = {tol: [i for i, r in enumerate(residuals) if r <= tol * scale] for tol in TOLERANCES}
    return {f"{tol:.0e}": steps[0] if steps else None for tol, steps in met.items()}


def here(name: str, solver: Callable[[], Solver], applies: Callable[[Case], bool] | None = None) -> Method:
    """Return the method that runs a solver of this package and counts its iterations."""

    def run(problem: MaskedCase, case: Case, options: Options) -> Outcome:
        system = problem.on(options.device)
        stop = Stop(rtol=options.rtol, max_steps=20_000, seconds=options.seconds)
        result = solve(system, solver(), stop=stop, throw=False)
        done = result.status is Status.CONVERGED
        return Outcome(
            value=result.value,
            setup_s=result.stats["setup_s"],
            solve_s=result.stats["solve_s"],
            steps=result.steps,
            converged=done,
            extra={
                "iterations": counts(result.residuals.tolist(), float(system.scale())),
                "reason": None if done else f"{result.status.name}: {result.status.advice}",
            },
        )

    return Method(name, "solvus", run, applies=applies or (lambda case: True))


def foreign(name: str, package: str, setup: Callable[[sp.csr_array], Any]) -> Method:
    """Return the method that runs SciPy's CG on the fluid cells with a foreign preconditioner."""

    def run(problem: MaskedCase, case: Case, options: Options) -> Outcome:
        A, b = problem.fluid_matrix, problem.fluid_rhs
        residuals = [float(np.linalg.norm(b))]
        begin = perf_counter()
        M = setup(A)
        ready = perf_counter()
        looking = 0.0  # seconds spent on the history, not on the method

        def look(x: np.ndarray) -> None:
            nonlocal looking
            start = perf_counter()
            residuals.append(float(np.linalg.norm(b - A @ x)))
            looking += perf_counter() - start

        x, info = spla.cg(A, b, rtol=options.rtol, maxiter=20_000, M=M, callback=look)
        return Outcome(
            problem.on_box(x),
            setup_s=ready - begin,
            solve_s=perf_counter() - ready - looking,
            steps=len(residuals) - 1,
            converged=info == 0,
            extra={"iterations": counts(residuals, residuals[0])},
        )

    return Method(name, package, run)


def amg(build_hierarchy: Callable[..., Any]) -> Callable[[sp.csr_array], spla.LinearOperator]:
    """Return the set-up of a PyAMG V-cycle for a singular matrix whose kernel is the constants."""

    def setup(A: sp.csr_array) -> spla.LinearOperator:
        shifted = sp.csr_matrix(A + 1e-10 * sp.eye_array(A.shape[0]))
        cycle = build_hierarchy(shifted, max_coarse=200).aspreconditioner()

        def apply(r: np.ndarray) -> np.ndarray:
            z = cycle.matvec(r)
            return z - z.mean()

        return spla.LinearOperator(A.shape, matvec=apply, dtype=A.dtype)

    return setup


def methods() -> list[Method]:
    """Return the methods, ours first."""
    return [
        here("transform", FastTransform, applies=lambda case: case.problem == "box"),
        here("transform-cg", lambda: CG(fast_transform())),
        here("multigrid-cg", lambda: CG(multigrid())),
        here("cg", CG),
        here("jacobi-cg", lambda: CG(jacobi)),
        foreign("scipy-cg", "scipy", lambda A: None),
        foreign("pyamg-rs-cg", "pyamg", amg(pyamg.ruge_stuben_solver)),
        foreign("pyamg-sa-cg", "pyamg", amg(pyamg.smoothed_aggregation_solver)),
    ]


if __name__ == "__main__":
    main("masked", __doc__, cases(), methods())
