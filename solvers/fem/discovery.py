"""Find an interpreter that can import dolfinx: this one, the one the user names, or a usual one."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

from .errors import FenicsUnavailable

VARIABLE = "SOLVUS_FENICS_PYTHON"
INSTALL = (
    "install FEniCS with `apt install python3-dolfinx-real` (Debian, Ubuntu) or "
    "`conda create -n fenics -c conda-forge fenics-dolfinx`, or set "
    f"{VARIABLE} to the interpreter that has it"
)
_DROPPED = ("PYTHON", "VIRTUAL_ENV", "CONDA", "OMPI_", "PMI", "PRTE_", "SLURM_", "HYDRA_", "MPI_LOCAL")
_PROBE = """
import json, platform
import dolfinx, numpy, petsc4py
from petsc4py import PETSc
print(json.dumps({"python": platform.python_version(), "numpy": numpy.__version__,
    "dolfinx": dolfinx.__version__, "petsc": ".".join(map(str, PETSc.Sys.getVersion()))}))
"""


@final
@dataclass(frozen=True)
class Versions:
    """What an interpreter with FEniCS has."""

    dolfinx: str
    petsc: str
    python: str
    numpy: str

    def __str__(self) -> str:
        return f"dolfinx {self.dolfinx}, PETSc {self.petsc}, Python {self.python}, numpy {self.numpy}"


@final
@dataclass(frozen=True)
class Rejected:
    """Why an interpreter cannot serve."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class Candidate(NamedTuple):
    """An interpreter that was looked at, and what came of it; unpacks as (interpreter, outcome)."""

    interpreter: str
    outcome: Versions | Rejected

    @property
    def works(self) -> bool:
        """Whether this interpreter can run FEniCS."""
        return isinstance(self.outcome, Versions)


def clean_environment(interpreter: str) -> dict[str, str]:
    """Return this process's environment without what would mislead another interpreter or MPI."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}
    env["OMP_NUM_THREADS"] = "1"
    folder = os.path.dirname(os.path.abspath(interpreter))
    env["PATH"] = os.pathsep.join([folder, env.get("PATH", os.defpath)])
    return env


def probe(interpreter: str, *, seconds: float = 60.0) -> Candidate:
    """Start an interpreter and let it import dolfinx and petsc4py."""
    try:
        run = subprocess.run(
            [interpreter, "-I", "-c", _PROBE],
            env=clean_environment(interpreter),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        return Candidate(interpreter, Rejected("there is no such file"))
    except OSError as error:
        return Candidate(interpreter, Rejected(f"cannot be started: {error.strerror}"))
    except subprocess.TimeoutExpired:
        return Candidate(interpreter, Rejected(f"importing dolfinx took more than {seconds:g} s"))
    if run.returncode:
        lines = run.stderr.strip().splitlines() or [f"ended with code {run.returncode}"]
        return Candidate(interpreter, Rejected(lines[-1]))
    try:
        return Candidate(interpreter, Versions(**json.loads(run.stdout.strip().splitlines()[-1])))
    except (IndexError, TypeError, ValueError):
        return Candidate(interpreter, Rejected("is not a Python interpreter: its answer makes no sense"))


def usual_interpreters() -> list[str]:
    """Return the interpreters where FEniCS commonly lives: system, containers, conda environments."""
    found = [p for p in ("/usr/bin/python3", "/dolfinx-env/bin/python3") if os.access(p, os.X_OK)]
    on_path = shutil.which("python3")
    found += [on_path] if on_path else []
    roots = [Path(os.environ[k]) for k in ("CONDA_PREFIX",) if os.environ.get(k)]
    names = ("miniforge3", "mambaforge", "miniconda3", "anaconda3", "micromamba")
    for base in [Path.home() / name for name in names] + [Path("/opt/conda")]:
        roots += [base, *sorted(base.glob("envs/*"))]
    for root in roots:
        if any(root.glob("lib/python3*/site-packages/dolfinx")) and (root / "bin/python").exists():
            found.append(str(root / "bin" / "python"))
    own = os.path.realpath(sys.executable), sys.prefix
    unique = dict.fromkeys(found)
    return [p for p in unique if not (os.path.realpath(p) == own[0] and str(Path(p).parent.parent) == own[1])]


@functools.cache
def in_process() -> Candidate:
    try:
        import dolfinx  # pyright: ignore[reportMissingImports]
        from petsc4py import PETSc  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        return Candidate(sys.executable, Rejected(f"{type(error).__name__}: {error}"))
    import numpy as np

    petsc = ".".join(map(str, PETSc.Sys.getVersion()))
    python = ".".join(map(str, sys.version_info[:3]))
    return Candidate(sys.executable, Versions(dolfinx.__version__, petsc, python, np.__version__))


@functools.cache
def _probed(interpreter: str) -> Candidate:
    return probe(interpreter)


def discover() -> list[Candidate]:
    """Look at every interpreter in order of preference and tell what each has.

    The order: this interpreter, the one named by SOLVUS_FENICS_PYTHON, the usual ones. Every entry unpacks
    as (interpreter, versions or the reason why it was rejected); both print well.

    >>> all(str(outcome) for interpreter, outcome in discover())
    True
    """
    named = os.environ.get(VARIABLE)
    others = list(dict.fromkeys(([named] if named else []) + usual_interpreters()))
    return [in_process(), *(_probed(p) for p in others)]


def find_interpreter() -> Candidate:
    """Return the first interpreter that can run FEniCS.

    An interpreter named by SOLVUS_FENICS_PYTHON must work: the usual ones are not tried in its place.

    Raises:
        FenicsUnavailable: none works; lists what was tried and how to install FEniCS.
    """
    named = os.environ.get(VARIABLE)
    tried = [in_process()]
    for path in [None] + ([named] if named else usual_interpreters()):
        candidate = tried[0] if path is None else _probed(path)
        if candidate.works:
            return candidate
        if path is not None:
            tried.append(candidate)
    listing = "".join(f"\n  {path}: {outcome}" for path, outcome in tried)
    source = f" ({VARIABLE} names the second)" if named else ""
    raise FenicsUnavailable(f"no interpreter with FEniCS (dolfinx) was found{source}:{listing}\n{INSTALL}")


def describe() -> str:
    """Tell in a few lines which finite-element backends work here, which do not, and how to get them.

    >>> "scikit-fem" in describe()
    True
    """
    candidates = discover()
    lines = ["FEniCS (dolfinx):"]
    lines += [f"  {'ok' if c.works else 'no'}  {c.interpreter}: {c.outcome}" for c in candidates]
    if not any(c.works for c in candidates):
        lines.append(f"  {INSTALL}")
    present = importlib.util.find_spec("skfem") is not None
    version = importlib.metadata.version("scikit-fem") if present else "`pip install solvus[fem]`"
    lines.append(f"scikit-fem: {'ok' if present else 'no'}  {version}")
    return "\n".join(lines)
