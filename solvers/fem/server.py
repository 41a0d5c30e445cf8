"""Answer finite-element requests from another process: the script that a worker runs.

Started as `python -I server.py` by an interpreter that has petsc4py (and dolfinx), alone or under `mpiexec`.
It needs numpy, mpi4py, petsc4py, dolfinx and the standard library; the package it lies in is not imported.
Requests are JSON lines on standard input, answers JSON lines on a copy of standard output, each behind
`MARK`; standard output itself is turned to standard error, where libraries may chatter. Arrays travel as
`.npz` files without pickles.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import platform
import select
import sys
import time
import traceback
import types

PROTOCOL = 1
MARK = "@solvus "
PACKAGE = "solvus_worker"


def kernel(name):
    """Import a module that lies beside this script, without the package around it."""
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.{name}")


def handshake(comm):
    """Return what this worker is and has."""
    import numpy as np
    from petsc4py import PETSc

    try:
        import dolfinx

        version = dolfinx.__version__
    except ImportError:
        version = None
    external = [p for p in ("hypre", "mumps", "superlu_dist", "ml") if PETSc.Sys.hasExternalPackage(p)]
    return {
        "protocol": PROTOCOL,
        "pid": os.getpid(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "dolfinx": version,
        "petsc": {
            "version": ".".join(map(str, PETSc.Sys.getVersion())),
            "scalar": np.dtype(PETSc.ScalarType).name,
            "int_bits": 8 * np.dtype(PETSc.IntType).itemsize,
            "external": external,
        },
        "mpi_size": comm.size,
        "capabilities": ["info", "petsc_solve"] + (["space", "assemble", "solve"] if version else []),
    }


def next_request(comm, stream):
    """Return the next request on every rank; None at the end. Ranks that wait do not spin."""
    line = stream.readline() if comm.rank == 0 else None
    arrived = comm.Ibarrier()
    while not arrived.Test():
        time.sleep(0.0005)
    line = comm.bcast(line, root=0)
    return json.loads(line) if line and line.strip() else None


def load(path):
    """Read the arrays of a request."""
    import numpy as np

    if path is None:
        return {}
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def perform(comm, request):
    """Carry out one request on this rank; return (meta, arrays), the arrays on rank 0 only."""
    op, params = request["op"], request["params"]
    if op == "info":
        return handshake(comm), {}
    arrays = load(request["arrays"])
    if op == "petsc_solve":
        return kernel("petsc_kernel").petsc_solve(comm, params, arrays)
    return kernel("dolfinx_kernel").perform(comm, op, params, arrays)


def answer(comm, request):
    """Carry out one request on all ranks; return the answer, on rank 0 with its arrays written."""
    import numpy as np

    begin = time.perf_counter()
    meta, arrays, error = {}, {}, None
    try:
        meta, arrays = perform(comm, request)
    except Exception as caught:
        error = {"type": type(caught).__name__, "message": str(caught), "traceback": traceback.format_exc()}
    error = next((e for e in comm.allgather(error) if e is not None), None)
    if error is not None:
        return {"id": request["id"], "ok": False, "error": error}
    path = None
    if arrays and comm.rank == 0:
        path = request["reply"]
        np.savez(path, **arrays)
    wall = time.perf_counter() - begin
    return {"id": request["id"], "ok": True, "arrays": path, "meta": meta, "wall_s": wall}


@contextlib.contextmanager
def mortal(comm):
    """Let this process end at once when standard input does, for then its client is gone.

    The kernel sends SIGIO, which ends a process by default, even one that is deep inside a library. Nothing
    else arrives on standard input while a request is carried out.
    """
    if comm.rank or not hasattr(os, "O_ASYNC"):
        yield
        return
    flags = fcntl.fcntl(0, fcntl.F_GETFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        if select.select([0], [], [], 0)[0]:  # it ended before the signal was asked for
            os._exit(1)
        yield
    finally:
        fcntl.fcntl(0, fcntl.F_SETFL, flags)


def main():
    """Serve until standard input ends or a shutdown is asked for."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from mpi4py import MPI

    comm = MPI.COMM_WORLD

    def send(message):
        if comm.rank == 0:
            channel.write(MARK + json.dumps(message) + "\n")
            channel.flush()

    send(handshake(comm))
    while True:
        request = next_request(comm, sys.stdin)
        if request is None or request["op"] == "shutdown":
            return
        with mortal(comm):
            reply = answer(comm, request)
        send(reply)


if __name__ == "__main__":
    main()
