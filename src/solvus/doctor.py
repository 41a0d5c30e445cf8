"""What works on this machine: versions, devices, optional parts, and a self-test."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numba
import torch

from .bench.record import available_cores, environment
from .named import equation_named
from .solvers import LinearSystem, Solver, Status, Stop, solve
from .solvers.direct import SuperLU
from .solvers.fast import FastTransform
from .solvers.fem import discover
from .solvers.krylov import CG, GMRES, MINRES
from .solvers.multigrid import amg, multigrid
from .solvers.preconditioners import ic0, ilu, jacobi

_REQUIRED = ("torch", "numpy", "scipy", "h5py", "meshio", "pyamg", "numba", "safetensors", "typer", "rich")
_REQUIRED += ("matplotlib", "plotly", "pydantic", "pyyaml", "threadpoolctl")
_OPTIONAL = (
    ("pypardiso", "Pardiso, a fast direct solver on x86", "pip install 'solvus[direct]'"),
    (
        "nvmath-python",
        "cuDSS, a direct solver on NVIDIA GPUs",
        "pip install 'solvus[cuda]' nvidia-cudss-cu12",
    ),
    ("scikit-fem", "finite elements in this interpreter", "pip install 'solvus[fem]'"),
    ("distributed", "Dask, generation of datasets on a cluster", "pip install 'solvus[dask]'"),
    ("mpi4py", "generation of datasets by MPI", "pip install 'solvus[mpi]'"),
)
_FENICS = "apt install python3-dolfinx-real, or conda install -c conda-forge fenics-dolfinx"
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Finding:
    """One line of the report: a part, whether it is there, what is known of it or how to get it.

    `needed` parts that are absent make the check fail; the others only limit what can be done.
    """

    part: str
    works: bool
    detail: str
    needed: bool = False


def examine() -> list[Finding]:
    """Look at versions, devices and optional parts."""
    return [*_versions(), *_devices(), *_optional(), *_fenics()]


def _versions() -> list[Finding]:
    found = [Finding("Python", True, platform.python_version(), needed=True)]
    for name in ("solvus", *_REQUIRED):
        version = _version(name)
        detail = version or "missing: install solvus again, `pip install solvus`"
        found.append(Finding(name, version is not None, detail, needed=True))
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> list[Finding]:
    env = environment()
    memory = "" if env.memory_gb is None else f", {env.memory_gb:g} GB"
    threads = f"{torch.get_num_threads()} threads in torch, {numba.get_num_threads()} in numba"
    if os.environ.get("OMP_NUM_THREADS"):
        threads += f" (OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']})"
    found = [Finding("CPU", True, f"{env.cpu}, {available_cores()} cores{memory}; {threads}")]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            found.append(Finding(f"cuda:{index}", True, f"{card.name}, {card.total_memory / 1e9:.0f} GB"))
    else:
        why = "no NVIDIA GPU is visible" if torch.version.cuda else "this torch is built for the CPU alone"
        found.append(Finding("CUDA", False, f"{why}: everything runs on the CPU"))
    return found


def _optional() -> list[Finding]:
    found = []
    for name, what, how in _OPTIONAL:
        version = _version(name)
        detail = f"{version}: {what}" if version else f"{what}: {how}"
        found.append(Finding(name, version is not None, detail))
    mpi = shutil.which("mpiexec")
    detail = (
        "several processes for FEniCS and PETSc"
        if mpi
        else "needed only for parallel FEniCS and mpi4py: apt install mpich"
    )
    return [*found, Finding("mpiexec", mpi is not None, detail)]


def _fenics() -> list[Finding]:
    candidates = discover()
    working = [c for c in candidates if c.works]
    if not working:
        tried = "; ".join(f"{c.interpreter}: {c.outcome}" for c in candidates)
        return [Finding("FEniCS", False, f"{_FENICS}. Tried {tried}")]
    return [Finding("FEniCS", True, f"{c.outcome} in {c.interpreter}") for c in working[:1]]


@dataclass(frozen=True)
class Check:
    """What a solver made of the self-test's system; `passed` rests on the recomputed residual."""

    solver: str
    passed: bool
    residual: float
    seconds: float
    detail: str


def self_test(device: str = "cpu", size: int = 63) -> list[Check]:
    """Solve Poisson's equation by several solvers; all must reach 1e-8 and agree with each other.

    Args:
        device: torch device.
        size: interior nodes per axis of a square.
    """
    system = equation_named("poisson2d", size, device=device)
    solvers: dict[str, Callable[[], Solver]] = {
        "fast transform": FastTransform,
        "CG": CG,
        "Jacobi-CG": lambda: CG(jacobi),
        "multigrid-CG": lambda: CG(multigrid()),
        "AMG-CG": lambda: CG(amg()),
        "MINRES": MINRES,
        "SuperLU": SuperLU,
    }
    if device == "cpu":
        solvers |= {"IC(0)-CG": lambda: CG(ic0()), "ILU-GMRES": lambda: GMRES(ilu())}
    reference = solve(system, FastTransform(), stop=Stop(rtol=1e-10), throw=False).value
    return [_check(name, make, system, reference) for name, make in solvers.items()]


def _check(name: str, make: Callable[[], Solver], system: LinearSystem, reference: torch.Tensor) -> Check:
    try:
        result = solve(system, make(), stop=Stop(rtol=_TOLERANCE, max_steps=5000), throw=False)
    except (ArithmeticError, OSError, RuntimeError, TypeError, ValueError) as error:
        return Check(name, False, float("nan"), 0.0, f"{type(error).__name__}: {error}")
    residual = float(system.residual_norm(result.value) / system.scale())
    apart = float((result.value - reference).norm() / reference.norm())
    passed = result.status is Status.CONVERGED and residual <= _TOLERANCE and apart <= 1e-5
    seconds = result.stats["setup_s"] + result.stats["solve_s"]
    detail = (
        f"{result.steps} step{'s' * (result.steps != 1)}"
        if passed
        else f"{result.status.name}, {apart:.0e} from the others"
    )
    return Check(name, passed, residual, seconds, detail)


def benchmark_folder() -> Path | None:
    """Return the folder of benchmark scripts: of the working directory, else of the checkout that runs."""
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (root / "benchmarks" / "poisson.py").is_file():
            return root / "benchmarks"
    return None
