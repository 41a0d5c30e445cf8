"""The protocol of the finite-element backends, and dolfinx in process or in a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, final

import numpy as np
import scipy.sparse as sp

from .discovery import find_interpreter, in_process
from .discrete import Discrete, discretise
from .errors import FenicsUnavailable
from .problems import FemProblem
from .solution import Assembled, FemSolution, check_compatible, imbalance, singular
from .worker import FenicsWorker, Reply, Request, shared_worker

Options = Mapping[str, Any]


class FemBackend(Protocol):
    """What every finite-element backend offers; all of them use the same nodes in the same order."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    def version(self) -> str:
        """Tell what it runs on."""
        ...

    def assemble(self, problem: FemProblem) -> Assembled:
        """Return matrix and right-hand side."""
        ...

    def solve(self, problem: FemProblem) -> FemSolution:
        """Return the solution."""
        ...


_WORST_CONDITION = 1e13


class SolveFailed(ArithmeticError):
    """The backend's linear solver did not converge; the message tells its reason."""


_Ask = Callable[[Request, Request], Reply]


def _requests(data: Discrete, op: str, extra: Mapping[str, Any]) -> tuple[Request, Request]:
    problem = data.problem
    key = data.space_key()
    shape = {"space": key, "degree": problem.degree, "components": problem.components}
    arrays = {"points": problem.mesh.points, "cells": problem.mesh.cells, "nodes": data.nodes}
    params = {"space": key, "kind": problem.kind, "flux_key": data.flux_key(), **extra}
    return Request(op, params, data.arrays()), Request("space", shape, arrays)


def _assemble(ask: _Ask, problem: FemProblem) -> Assembled:
    data = discretise(problem)
    reply = ask(*_requests(data, "assemble", {}))
    got = reply.arrays
    n = len(got["b"])
    permutation = got["permutation"].astype(np.int64)
    rows = np.repeat(permutation, np.diff(got["indptr"]))
    matrix = sp.coo_array((got["data"], (rows, permutation[got["indices"]])), shape=(n, n)).tocsr()
    b = np.empty(n)
    b[permutation] = got["b"]
    check_compatible(problem, imbalance(b))
    return Assembled(problem, matrix, b, permutation, data.fixed_dofs, reply.meta["assemble_s"])


def _solve(ask: _Ask, problem: FemProblem, options: Options | None, rtol: float) -> FemSolution:
    begin = perf_counter()
    data = discretise(problem)
    flat = singular(problem)
    extra = {
        "options": None if options is None else dict(options),
        "rtol": rtol,
        "definite": problem.definite or flat,
        "singular": flat,
    }
    sent = perf_counter()
    reply = ask(*_requests(data, "solve", extra))
    meta = reply.meta
    check_compatible(problem, meta.get("imbalance", 0.0))
    overhead = perf_counter() - sent - reply.wall_s
    value = reply.arrays["value"]
    if not meta["converged"]:
        raise SolveFailed(
            f"PETSc ended with {meta['reason']} after {meta['iterations']} iterations of {meta['ksp']} with "
            f"{meta['pc']}, residual {meta['residual']:.1e}: pass other options, or none for the defaults"
        )
    check_condition(meta["condition"])
    names = ("assemble_s", "setup_s", "solve_s", "iterations", "residual", "reason", "ksp", "pc")
    stats = {name: meta[name] for name in names} | {"overhead_s": overhead, "evaluate_s": sent - begin}
    return finish(problem, value, stats)


def check_condition(lower_bound: float) -> None:
    """Refuse a solution of a matrix whose condition number, at least ||A|| ||x|| / ||b||, is beyond use.

    Raises:
        SolveFailed: the bound exceeds 1e13, or is not finite.
    """
    if not lower_bound < _WORST_CONDITION:
        raise SolveFailed(
            f"the matrix is singular to working precision, its condition is at least {lower_bound:.1e}: "
            "is k a resonance? Change k a little, or the mesh"
        )


def finish(problem: FemProblem, value: Any, stats: dict[str, Any]) -> FemSolution:
    """Give a solution vector its shape; without Dirichlet part, the mean over the domain becomes zero."""
    shape = (-1, problem.components) if problem.components > 1 else (-1,)
    solution = FemSolution(problem, np.asarray(value).reshape(shape), stats)
    if singular(problem):
        solution = FemSolution(problem, solution.value - solution.mean(), stats)
    return solution


@final
@dataclass(frozen=True)
class DolfinxWorker:
    """FEniCS (dolfinx) in a worker process, on one or several MPI ranks.

    Args:
        options: PETSc options for the linear solver; None: conjugate gradients with hypre BoomerAMG where
            PETSc has it, else GAMG (elasticity: GAMG with the rigid motions), and LU for Helmholtz.
        rtol: relative tolerance of the linear solver, in the true residual.
        ranks: MPI processes.
        worker: default the shared one of this process.

    Raises:
        FenicsUnavailable, WorkerDied, WorkerTimeout, WorkerFailure: no worker, or it failed.
        SolveFailed: PETSc did not converge.
    """

    options: Options | None = None
    rtol: float = 1e-10
    ranks: int = 1
    worker: FenicsWorker | None = None

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return "dolfinx" if self.ranks == 1 else f"dolfinx, {self.ranks} ranks"

    def _ask(self, request: Request, needed: Request) -> Reply:
        return (self.worker or shared_worker(self.ranks)).call(request, needed)

    def version(self) -> str:
        """Tell versions and interpreter."""
        worker = self.worker or shared_worker(self.ranks)
        info = worker.call(Request("info", {}, {})).meta
        return f"dolfinx {info['dolfinx']}, PETSc {info['petsc']['version']} in {worker.interpreter}"

    def assemble(self, problem: FemProblem) -> Assembled:
        """Return matrix and right-hand side, gathered from all ranks."""
        return _assemble(self._ask, problem)

    def solve(self, problem: FemProblem) -> FemSolution:
        """Return the solution; the matrix never leaves the worker."""
        return _solve(self._ask, problem, self.options, self.rtol)


@final
@dataclass(frozen=True)
class DolfinxInProcess:
    """FEniCS (dolfinx) in this interpreter; `options` and `rtol` as for `DolfinxWorker`.

    Raises:
        FenicsUnavailable: this interpreter cannot import dolfinx.
        SolveFailed: PETSc did not converge.
    """

    options: Options | None = None
    rtol: float = 1e-10

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return "dolfinx in process"

    def version(self) -> str:
        """Tell the versions."""
        return str(in_process().outcome)

    def assemble(self, problem: FemProblem) -> Assembled:
        """Return matrix and right-hand side."""
        return _assemble(_ask_here, problem)

    def solve(self, problem: FemProblem) -> FemSolution:
        """Return the solution."""
        return _solve(_ask_here, problem, self.options, self.rtol)


_lock = threading.Lock()


def _ask_here(request: Request, needed: Request) -> Reply:
    """Carry out a request in this process, as a worker would."""
    here = in_process()
    if not here.works:
        raise FenicsUnavailable(
            f"this interpreter ({here.interpreter}) cannot import dolfinx ({here.outcome}): "
            "use DolfinxWorker, which finds another one"
        )
    from mpi4py import MPI  # pyright: ignore[reportMissingImports]

    from . import dolfinx_kernel as kernel

    def perform(what: Request) -> tuple[Any, Any]:
        return kernel.perform(MPI.COMM_SELF, what.op, dict(what.params), dict(what.arrays))

    with _lock:
        begin = perf_counter()
        try:
            meta, arrays = perform(request)
        except kernel.Forgotten:
            perform(needed)
            meta, arrays = perform(request)
        return Reply(meta, arrays, perf_counter() - begin)


def fenics(options: Options | None = None, *, rtol: float = 1e-10, ranks: int = 1) -> FemBackend:
    """Return FEniCS in process when this interpreter has it and one rank is enough, else in a worker.

    Raises:
        FenicsUnavailable: no interpreter has it; lists what was tried.
    """
    if ranks == 1 and find_interpreter() == in_process():
        return DolfinxInProcess(options, rtol)
    find_interpreter()
    return DolfinxWorker(options, rtol, ranks)
