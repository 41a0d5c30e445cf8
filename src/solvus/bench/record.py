"""The record of one measurement, as written to and read from JSON lines, and the machine it was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pyamg",
    "numba",
    "pypardiso",
    "nvmath-python",
    "petsc4py",
    "scikit-fem",
    "gmsh",
    "deepxde",
)


class Environment(BaseModel):
    """The machine and the versions behind a record; no host name, no user name, no path."""

    model_config = ConfigDict(frozen=True)

    cpu: str
    cores: int
    memory_gb: float | None = None
    accelerator: str | None = None
    system: str = ""
    python: str = ""
    versions: dict[str, str] = Field(default_factory=dict)


class Record(BaseModel):
    """One method on one case. Fields that do not apply are None.

    Times are seconds: medians over `repeats` runs after a warm-up. `spread` belongs to `setup_s + solve_s`:
    interquartile range from four repeats on, else maximum minus minimum (`spread_kind` says which).
    `residual` is recomputed in float64 from the problem, relative to its right-hand side; `error` is relative
    to a known solution. `converged` follows from `residual <= 1.01 rtol` wherever a residual exists. `reason`
    tells why a method failed. `size` is what the benchmark counts, `unknowns` the number of unknowns.
    `ladder` says whether errors compare across sizes.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    benchmark: str
    problem: str
    size: int
    unknowns: int | None = None
    method: str
    package: str
    kind: Literal["classical", "learned"] = "classical"
    dtype: str | None = None
    device: str = "cpu"
    threads: int
    rtol: float | None = None
    setup_s: float | None = None
    solve_s: float | None = None
    train_s: float | None = None
    data_s: float | None = None
    steps: int | None = None
    residual: float | None = None
    error: float | None = None
    converged: bool | None = None
    reason: str | None = None
    repeats: int = 0
    spread: float | None = None
    spread_kind: Literal["iqr", "range"] | None = None
    seed: int | None = None
    tags: tuple[str, ...] = ()
    ladder: bool = True
    extra: dict[str, Any] = Field(default_factory=dict)
    commit: str | None = None
    env: Environment

    @property
    def total_s(self) -> float | None:
        """Set-up plus solve, None when neither was measured."""
        if self.setup_s is None and self.solve_s is None:
            return None
        return (self.setup_s or 0.0) + (self.solve_s or 0.0)

    @property
    def ok(self) -> bool:
        """Whether the method reached what was asked, in a measured time."""
        return self.converged is not False and self.reason is None and self.total_s is not None

    @property
    def label(self) -> str:
        """Problem and size in one word, as `--only` takes it."""
        return f"{self.problem}:{self.size}"


def read_records(paths: Iterable[str | Path]) -> list[Record]:
    """Read records from JSON-lines files.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: naming file and line of what is not a record.
    """
    return [record for path in paths for record in _read(Path(path))]


def _read(path: Path) -> Iterator[Record]:
    if not path.is_file():
        raise FileNotFoundError(
            f"no records at {path}: give JSON-lines files that a benchmark wrote with --out"
        )
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield Record.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"])) or "the line"
                raise ValueError(
                    f"{path}, line {number} is not a benchmark record ({where}: {first['msg']}): "
                    "give files written by a benchmark's --out"
                ) from None


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Describe this machine: processor, cores, memory, accelerator, versions."""
    versions = {}
    for name in ("solvus", *_PACKAGES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return Environment(
        cpu=_cpu(),
        cores=available_cores(),
        memory_gb=_memory(),
        accelerator=accelerator,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions=versions,
    )


def available_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.lower().startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def git_commit(folder: str | Path) -> str | None:
    """Return the short hash of the checkout that holds `folder`, None outside of one."""
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
