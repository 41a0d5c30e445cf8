"""Krylov solves by PETSc, timed inside: runs in a worker or in process, on one rank or several.

Self-contained: numpy, mpi4py and petsc4py only.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import itertools
import time

import numpy as np
from petsc4py import PETSc

_counter = itertools.count()
_UNKNOWN_TYPE = 86  # PETSC_ERR_ARG_UNKNOWN_TYPE
_TRUE_NORM = ("cg", "fcg", "pipecg", "gmres", "fgmres", "lgmres", "gcr", "bcgs")
REASONS = {v: k for k, v in vars(PETSc.KSP.ConvergedReason).items() if isinstance(v, int) and k[0] != "_"}


class Options:
    """PETSc options under a prefix of their own, taken back at the end of the `with` block."""

    def __init__(self, options):
        self.prefix = f"solvus_{next(_counter)}_"
        self.options = {str(k).lstrip("-"): v for k, v in options.items()}
        kind = str(self.options.get("ksp_type", "")).lower()
        if kind in _TRUE_NORM:
            self.options.setdefault("ksp_norm_type", "unpreconditioned")

    def __enter__(self):
        database = PETSc.Options()
        for name, value in self.options.items():
            text = str(value).lower() if isinstance(value, bool) else value
            database[self.prefix + name] = "" if text is None else text
        return self.prefix

    def __exit__(self, *_):
        database = PETSc.Options()
        for name in self.options:
            database.delValue(self.prefix + name)


def best_options(kind, definite):
    """Return the strongest options that this PETSc offers for a kind of problem, "scalar" or "elastic"."""
    if not definite:
        package = next((p for p in ("mumps", "superlu_dist") if PETSc.Sys.hasExternalPackage(p)), None)
        chosen = {} if package is None else {"pc_factor_mat_solver_type": package}
        return {"ksp_type": "preonly", "pc_type": "lu", **chosen}
    if kind == "scalar" and PETSc.Sys.hasExternalPackage("hypre"):
        return {"ksp_type": "cg", "pc_type": "hypre", "pc_hypre_type": "boomeramg"}
    return {"ksp_type": "cg", "pc_type": "gamg"}


def row_range(n, comm):
    """Return the first row of this rank and of the next one."""
    share, rest = divmod(n, comm.size)
    start = comm.rank * share + min(comm.rank, rest)
    return start, start + share + (comm.rank < rest)


def _largest(comm, seconds):
    return max(comm.allgather(seconds))


def configure(ksp, options):
    """Give a solver the options under its prefix."""
    try:
        ksp.setFromOptions()
    except PETSc.Error as error:
        if error.ierr != _UNKNOWN_TYPE:
            raise
        detail = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"PETSc {'.'.join(map(str, PETSc.Sys.getVersion()))} has no such type ({detail}); options given: "
            f"{dict(options)}: correct the spelling, or choose what this build has"
        ) from None


def timed_solve(comm, A, b, options, *, rtol, repeats=1):
    """Solve A x = b; set-up and solve are timed apart, the slowest rank counts.

    With more than one repeat, one more run goes first and is not counted. Every run builds its solver and
    preconditioner anew. Returns (x, meta).
    """
    x = A.createVecRight()
    setups, solves, entered = [], [], time.perf_counter()
    meta = {}
    with Options(options) as prefix:
        for run in range(repeats + (repeats > 1)):
            ksp = PETSc.KSP().create(comm)
            ksp.setOptionsPrefix(prefix)
            ksp.setOperators(A)
            ksp.setTolerances(rtol=rtol, atol=1e-300, max_it=10000)
            configure(ksp, options)
            comm.Barrier()
            begin = time.perf_counter()
            ksp.setUp()
            ksp.setUpOnBlocks()
            setup = _largest(comm, time.perf_counter() - begin)
            x.set(0.0)
            comm.Barrier()
            begin = time.perf_counter()
            ksp.solve(b, x)
            solve = _largest(comm, time.perf_counter() - begin)
            if repeats == 1 or run:
                setups.append(setup)
                solves.append(solve)
            meta = {
                "iterations": int(ksp.getIterationNumber()),
                "reason": REASONS.get(int(ksp.getConvergedReason()), str(ksp.getConvergedReason())),
                "converged": int(ksp.getConvergedReason()) > 0,
                "ksp": str(ksp.getType()),
                "pc": str(ksp.getPC().getType()),
            }
            ksp.destroy()
    meta["busy_s"] = time.perf_counter() - entered
    r = b.duplicate()
    A.mult(x, r)
    r.aypx(-1.0, b)
    scale = b.norm()
    meta["residual"] = float(r.norm() / scale) if scale > 0 else float(r.norm())
    size = A.norm(PETSc.NormType.NORM_INFINITY) * x.norm()
    meta["condition"] = float(size / scale) if scale > 0 else 0.0
    meta["setup_s"], meta["solve_s"] = float(np.median(setups)), float(np.median(solves))
    meta["setups"], meta["solves"] = setups, solves
    return x, meta


def real(values):
    """Return the values as float64 unless they are complex in earnest."""
    values = np.asarray(values)
    if np.iscomplexobj(values) and not np.any(values.imag):
        values = values.real
    return np.ascontiguousarray(values)


def _vectors(comm, template, rows, arrays):
    """Turn the rows of a (k, n) array into PETSc vectors of this rank's share."""
    out = []
    for row in arrays:
        v = template.duplicate()
        v.setArray(row[rows])
        out.append(v)
    return out


def petsc_solve(comm, params, arrays):
    """Solve a CSR system that lies in a file; every rank takes its rows from it."""
    indptr, n = arrays["indptr"], len(arrays["indptr"]) - 1
    limit = np.iinfo(PETSc.IntType).max
    if int(indptr[-1]) > limit:
        raise ValueError(f"{int(indptr[-1])} entries are too many for this PETSc's {PETSc.IntType} indices")
    if np.iscomplexobj(arrays["data"]) and not np.issubdtype(PETSc.ScalarType, np.complexfloating):
        raise TypeError("the matrix is complex and this PETSc is built for real numbers")
    first, last = row_range(n, comm)
    rows, part = slice(first, last), slice(int(indptr[first]), int(indptr[last]))
    csr = (
        (indptr[first : last + 1] - indptr[first]).astype(PETSc.IntType),
        arrays["indices"][part].astype(PETSc.IntType),
        arrays["data"][part].astype(PETSc.ScalarType),
    )
    local = last - first
    A = PETSc.Mat().createAIJ(size=((local, n), (local, n)), bsize=params["block"], csr=csr, comm=comm)
    A.assemble()
    b = A.createVecLeft()
    b.setArray(arrays["rhs"][rows])
    for name, attach in (("nullspace", A.setNullSpace), ("near_nullspace", A.setNearNullSpace)):
        if name in arrays:
            basis = _vectors(comm, b, rows, np.linalg.qr(arrays[name].T)[0].T)
            attach(PETSc.NullSpace().create(vectors=basis, comm=comm))
    x, meta = timed_solve(comm, A, b, params["options"], rtol=params["rtol"], repeats=params["repeats"])
    parts = comm.gather(np.array(x.getArray(readonly=True)), root=0)
    A.destroy()
    return meta, ({"value": real(np.concatenate(parts))} if comm.rank == 0 else {})
