"""PETSc's Krylov methods and preconditioners on any sparse matrix: peers for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ...operators.linear.errors import NonFinite, ShapeMismatch
from .worker import FenicsWorker, Request, shared_worker

BOOMERAMG: dict[str, Any] = {"ksp_type": "cg", "pc_type": "hypre", "pc_hypre_type": "boomeramg"}
GAMG: dict[str, Any] = {"ksp_type": "cg", "pc_type": "gamg"}


@final
@dataclass(frozen=True)
class PetscRun:
    """What came of a PETSc solve; the times are measured in the worker and hold no transfer.

    Attributes:
        value: solution (n,).
        iterations: Krylov steps.
        setup_s, solve_s: KSPSetUp and KSPSolve, seconds, medians over the repeats.
        converged: PETSc's own word; `residual` is the recomputed ||b - A x|| / ||b||.
        reason: PETSc's converged reason, for example "CONVERGED_RTOL".
        ksp, pc: the types that PETSc used.
        setups, solves: the times of every repeat.
        transfer_s: what the exchange with the worker added.
    """

    value: NDArray[Any]
    iterations: int
    setup_s: float
    solve_s: float
    converged: bool
    reason: str
    residual: float
    ksp: str
    pc: str
    setups: tuple[float, ...]
    solves: tuple[float, ...]
    transfer_s: float


def petsc_solve(
    A: Any,
    b: NDArray[Any],
    options: Mapping[str, Any] | None = None,
    rtol: float = 1e-8,
    ranks: int = 1,
    *,
    repeats: int = 1,
    near_nullspace: NDArray[Any] | None = None,
    worker: FenicsWorker | None = None,
) -> PetscRun:
    """Solve A x = b by PETSc in a worker process; the rows are shared among the ranks.

    The tolerance is relative to ||b|| in the true residual norm, for the Krylov methods that offer it.

    Args:
        A: SciPy sparse matrix, (n, n).
        b: right-hand side, (n,).
        options: PETSc options without the dash, default `BOOMERAMG`; a misspelt name is ignored by PETSc,
            `ksp` and `pc` of the result tell what was used.
        rtol: relative tolerance.
        ranks: MPI processes.
        repeats: timed runs, each with a new set-up; more than one is preceded by a run that is not counted.
        near_nullspace: (k, n), near-kernel vectors for algebraic multigrid (rigid-body modes).
        worker: default the shared one of this process.

    Raises:
        ShapeMismatch, NonFinite, ValueError: bad input, or a type that PETSc does not have.
        FenicsUnavailable, WorkerDied, WorkerTimeout, WorkerFailure: no worker, or it failed.
    """
    matrix = sp.csr_array(A)
    rhs = np.asarray(b)
    n = matrix.shape[0]
    if matrix.shape != (n, n) or rhs.shape != (n,):
        raise ShapeMismatch(f"petsc_solve needs A (n, n) and b (n,), got {matrix.shape} and {rhs.shape}")
    if not (np.isfinite(matrix.data).all() and np.isfinite(rhs).all()):
        raise NonFinite("A or b holds NaN or infinite values: repair them before solving")
    if repeats < 1 or ranks < 1:
        raise ValueError(f"repeats and ranks must be at least 1, got {repeats} and {ranks}")
    arrays = {"indptr": matrix.indptr, "indices": matrix.indices, "data": matrix.data, "rhs": rhs}
    if near_nullspace is not None:
        near = np.atleast_2d(near_nullspace)
        if near.shape[1] != n:
            raise ShapeMismatch(f"near_nullspace must be (k, {n}), got {near.shape}")
        arrays["near_nullspace"] = near
    params = {"options": dict(BOOMERAMG if options is None else options), "rtol": rtol, "repeats": repeats}
    begin = perf_counter()
    reply = (worker or shared_worker(ranks)).call(Request("petsc_solve", params | {"block": 1}, arrays))
    wall = perf_counter() - begin
    meta = reply.meta
    return PetscRun(
        value=reply.arrays["value"],
        iterations=meta["iterations"],
        setup_s=meta["setup_s"],
        solve_s=meta["solve_s"],
        converged=meta["converged"],
        reason=meta["reason"],
        residual=meta["residual"],
        ksp=meta["ksp"],
        pc=meta["pc"],
        setups=tuple(meta["setups"]),
        solves=tuple(meta["solves"]),
        transfer_s=wall - meta["busy_s"],
    )
