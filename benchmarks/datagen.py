"""How fast are datasets made? Seconds per sample, with the residual of every sample.

  darcy            -div(a grad u) = 1, a = 12 or 3 from a thresholded Gaussian field, n x n cells
  helmholtz        waves in a random medium, omega = 1000, n x n nodes
  navier-stokes    vorticity on the periodic square, viscosity 1e-3, n x n points, to T = 50

`solve_s` is per sample. `generate` is all of it, as `solvus generate` does it: draws, solves, files,
checksums, one worker per thread, started anew, `extra.samples` samples. `one process` solves on one thread,
as each of those workers does. `one by one` and `in batches of 16` roll out trajectories on all threads;
`with error estimate` does as `generate` does, in batches of 16 (half as many steps more). `spsolve` and
`spsolve on all cores` are SciPy's sparse direct solve of the same matrices, in one process and in one per
thread; they are assembled before the clock starts, ours within. `splu symmetric` is SciPy's with the
ordering for symmetric matrices, `RS-CG` PyAMG's classical multigrid in CG. Residuals are recomputed in
float64 by the harness, but for `generate`, which reports the largest that it recorded. The error of
Navier-Stokes is relative to a run on twice the points with half the step, at the end.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.datasets import generate
from solvus.datasets.generation.executors import one_thread
from solvus.datasets.recipe import Draw, Recipe
from solvus.datasets.recipes.elliptic import darcy, helmholtz
from solvus.datasets.recipes.patterns import navier_stokes
from solvus.datasets.recipes.steady import Steady
from solvus.datasets.recipes.trajectories import Trajectories
from solvus.operators.linear import to_scipy
from solvus.solvers.time import rollout

SEED = 0


class Samples:
    """Drawn inputs of one recipe, and how to judge what a method makes of them.

    Args:
        recipe: of the samples.
        drawn: samples that every method in this process solves.
        generated: samples of a whole generation.
    """

    dtype = "float64"

    def __init__(self, recipe: Recipe, drawn: int, generated: int) -> None:
        self.recipe, self.generated = recipe, generated
        roots = [np.random.SeedSequence(SEED, spawn_key=(i,)) for i in range(drawn)]
        self.draws: list[Draw] = [recipe.draw(np.random.default_rng(root)) for root in roots]


class Systems(Samples):
    """Samples that are one linear system each."""

    recipe: Steady

    @property
    def unknowns(self) -> int:
        """Unknowns of one system."""
        return self.recipe.grid.size

    @cached_property
    def systems(self) -> list[tuple[sp.csc_array, np.ndarray]]:
        """Matrices and right-hand sides, for peers."""
        out = []
        for draw in self.draws:
            fields = {name: torch.as_tensor(value) for name, value in draw.items()}
            A, b = self.recipe.equation.problem(self.recipe.grid, fields)
            out.append((sp.csc_array(to_scipy(A)), b.numpy()))
        return out

    def check(self, value: Sequence[np.ndarray]) -> tuple[float, None]:
        """Recompute the largest relative residual."""
        assert len(value) == len(self.draws)
        pairs = zip(self.systems, value, strict=True)
        return max(float(np.linalg.norm(b - A @ x.ravel()) / np.linalg.norm(b)) for (A, b), x in pairs), None


class Flows(Samples):
    """Trajectories."""

    recipe: Trajectories

    @property
    def unknowns(self) -> int:
        """Points of one state."""
        return self.recipe.grid.size

    @cached_property
    def refined(self) -> np.ndarray:
        """Final state of the first samples, from twice the points and half the step."""
        few = self.draws[:4]
        fine = self.recipe.grid.refine()
        factor = fine.shape[0] // self.recipe.grid.shape[0]
        states = torch.stack([torch.as_tensor(w) for draw in few for w in draw.values()])[:, None]
        modes = torch.fft.fftn(states, dim=(-2, -1))
        n, m = self.recipe.grid.shape[0], fine.shape[0]
        keep = torch.fft.fftfreq(n, 1.0 / n).long()
        padded = torch.zeros(len(few), 1, m, m, dtype=modes.dtype)
        padded[:, :, keep[:, None] % m, keep % m] = modes * factor**2
        w0 = torch.fft.ifftn(padded, dim=(-2, -1)).real
        last = self._last(w0, fine, self.recipe.dt / 2)
        return last[..., ::factor, ::factor].numpy()

    def _last(self, w0: torch.Tensor, grid: Any, dt: float) -> torch.Tensor:
        assert not hasattr(self.recipe.equation, "operator")
        system = self.recipe.equation.semilinear(grid)  # type: ignore[union-attr]
        steps = round(self.recipe.frames * self.recipe.interval / dt)
        v = rollout(self.recipe.stepper(system, dt), system.to_modes(w0), 1, every=steps)[:, -1]
        return system.to_grid(v)

    def check(self, value: Sequence[np.ndarray]) -> tuple[None, float]:
        """Compare the final states with the refined run; the largest relative error of the first samples."""
        pairs = list(zip(value, self.refined, strict=False))
        return None, max(float(np.linalg.norm(w - r) / np.linalg.norm(r)) for w, r in pairs)


def in_process(name: str, batch: int | None, applies: Callable[[Case], bool]) -> Method:
    """Return the method that solves the drawn samples in this process, so many at once."""

    def run(problem: Samples, case: Case, options: Options) -> Outcome:
        size = batch or len(problem.draws)
        solved = []
        with one_thread() if isinstance(problem, Systems) else nullcontext():
            begin = perf_counter()
            for first in range(0, len(problem.draws), size):
                solved += problem.recipe.solve(problem.draws[first : first + size], options.device)
            took = perf_counter() - begin
        (failure, *_) = [*(s.failure for s in solved if s.failure), ""]
        if failure:
            raise ArithmeticError(failure)
        name = list(solved[0].arrays)[-1]
        values = [np.asarray(s.arrays[name]) for s in solved]
        if isinstance(problem, Flows):
            values = [w[-1] for w in values]
        extra = {"samples": len(solved), "batch": size, "recorded": max(s.residual for s in solved)}
        steps = max(s.steps for s in solved)
        return Outcome(values, solve_s=took / len(solved), steps=steps, extra=extra)

    return Method(name, "solvus", run, applies=applies)


def rolled(name: str, batch: int) -> Method:
    """Return the method that rolls out so many samples at once, and estimates no error."""

    def run(problem: Flows, case: Case, options: Options) -> Outcome:
        recipe, few = problem.recipe, problem.draws[: max(4, batch)]
        system = recipe.equation.semilinear(recipe.grid, device=options.device)  # type: ignore[union-attr]
        states = [torch.stack([torch.as_tensor(w) for w in draw.values()]) for draw in few]
        begin = perf_counter()
        stepper, values = recipe.stepper(system, recipe.dt), []
        for first in range(0, len(few), batch):
            v0 = system.to_modes(torch.stack(states[first : first + batch]).to(options.device))
            frames = rollout(stepper, v0, recipe.frames, every=recipe.every, observe=system.to_grid)
            values += list(frames[:, -1, 0].cpu().numpy())
        took = perf_counter() - begin
        extra = {"samples": len(few), "batch": batch}
        return Outcome(values, solve_s=took / len(few), steps=recipe.every * recipe.frames, extra=extra)

    return Method(name, "solvus", run, applies=flowing)


def whole(problem: Samples, case: Case, options: Options) -> Outcome:
    """Generate a dataset into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        begin = perf_counter()
        manifest = generate(
            problem.recipe, problem.generated, Path(folder) / "data", seed=SEED, workers=options.threads
        )
        took = perf_counter() - begin
        shards = manifest.shards
        residual = max(r for shard in shards for r in shard.residual)
        failed = sum(status != "ok" for shard in shards for status in shard.status)
        megabytes = sum(shard.bytes for shard in shards) / 1e6
    extra = {"samples": problem.generated, "failed": failed, "MB": round(megabytes, 1), "total_s": took}
    shown = residual if isinstance(problem, Systems) else None  # of trajectories it is an estimated error
    each = took / problem.generated
    return Outcome(
        None, solve_s=each, residual=shown, converged=not failed, extra={**extra, "recorded": residual}
    )


def spsolve(system: tuple[sp.csc_array, np.ndarray]) -> np.ndarray:
    """Solve as SciPy does when asked for nothing special."""
    return np.asarray(spla.spsolve(*system))


def splu(system: tuple[sp.csc_array, np.ndarray]) -> np.ndarray:
    """Solve with SuperLU in its mode for symmetric matrices."""
    A, b = system
    options = {"SymmetricMode": True}
    return np.asarray(
        spla.splu(A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options).solve(b)
    )


def rs_cg(system: tuple[sp.csc_array, np.ndarray]) -> np.ndarray:
    """Solve with PyAMG's classical multigrid in CG."""
    A, b = system
    hierarchy = pyamg.ruge_stuben_solver(sp.csr_matrix(A))
    return np.asarray(hierarchy.solve(b, tol=1e-9, accel="cg", maxiter=200))


def peer(name: str, package: str, solve: Callable[..., np.ndarray], *, cores: bool = False) -> Method:
    """Return the method that gives systems to a function, in one process or in one per thread."""

    def run(problem: Systems, case: Case, options: Options) -> Outcome:
        systems = problem.systems
        if not cores:
            begin = perf_counter()
            values = [solve(system) for system in systems]
            took = perf_counter() - begin
        else:
            with ProcessPoolExecutor(options.threads, mp_context=get_context("spawn")) as pool:
                list(
                    pool.map(np.sqrt, range(2 * options.threads))
                )  # the workers are up before the clock starts
                begin = perf_counter()
                values = list(pool.map(solve, systems))
                took = perf_counter() - begin
        return Outcome(values, solve_s=took / len(systems), extra={"samples": len(systems), "device": "cpu"})

    return Method(name, package, run, applies=steady)


def steady(case: Case) -> bool:
    """Tell the cases of linear systems."""
    return case.problem != "navier-stokes"


def flowing(case: Case) -> bool:
    """Tell the cases of trajectories."""
    return not steady(case)


def build(problem: str, n: int, drawn: int, generated: int) -> Samples:
    """Draw the samples of a case."""
    if problem == "navier-stokes":
        return Flows(navier_stokes(n), drawn, generated)
    recipe = darcy(n) if problem == "darcy" else helmholtz(n)
    return Systems(recipe, drawn, generated)


def cases(few: bool) -> list[Case]:
    """Return the cases, with fewer samples in quick runs."""
    wanted = [  # problem, n, quick, (drawn, generated), the same in quick runs
        ("darcy", 64, True, (32, 512), (16, 64)),
        ("darcy", 421, False, (16, 1000), (4, 64)),
        ("helmholtz", 100, False, (8, 64), (2, 8)),
        ("navier-stokes", 64, False, (16, 128), (16, 8)),
    ]
    chosen = [(p, n, quick, small if few else full) for p, n, quick, full, small in wanted]
    return [
        Case(p, n, lambda p=p, n=n, counts=counts: build(p, n, *counts), quick=quick, ladder=False)
        for p, n, quick, counts in chosen
    ]


if __name__ == "__main__":
    main(
        "datagen",
        __doc__,
        cases("--quick" in sys.argv),
        [
            Method("generate", "solvus", whole),
            in_process("with error estimate", 16, flowing),
            rolled("in batches of 16", 16),
            rolled("one by one", 1),
            in_process("one process", None, steady),
            peer("spsolve", "scipy", spsolve),
            peer("spsolve on all cores", "scipy", spsolve, cores=True),
            peer("splu symmetric", "scipy", splu),
            peer("RS-CG", "pyamg", rs_cg),
        ],
    )
