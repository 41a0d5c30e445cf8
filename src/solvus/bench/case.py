"""What is measured: cases (a problem at a size) and methods (a way to solve it)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..operators.linear import LinearOperator, to_scipy
from ..solvers import LinearSystem, Solver, Status, Stop, solve


@dataclass(frozen=True)
class Case:
    """A problem at one size.

    Args:
        problem: its name, the same for all sizes.
        size: what the benchmark counts: unknowns per axis, unknowns, a contrast.
        build: makes the problem: an object with `check(value) -> (relative residual or None, error or None)`,
            and where it makes sense `unknowns` and `dtype`. Linear systems: a `SystemCase`.
        quick: part of the quick selection.
        rtol: relative residual that every method must reach.
        tags: words that go into the record.
        ladder: sizes are resolutions of one problem, so that errors (against its solution) compare across
            sizes; False when every size is a problem of its own. Without errors it does not matter.
        large: measured only where `--only` names its size.
    """

    problem: str
    size: int
    build: Callable[[], Any]
    quick: bool = False
    rtol: float = 1e-8
    tags: tuple[str, ...] = ()
    ladder: bool = True
    large: bool = False


@dataclass(frozen=True)
class Options:
    """What a run may use: the same for all methods.

    Args:
        device: torch device of methods that run on torch.
        threads: threads that every library may use.
        rtol: relative residual to reach.
        seconds: wall limit, None for none.
        seed: of everything random.
    """

    device: str = "cpu"
    threads: int = 1
    rtol: float = 1e-8
    seconds: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What one run of a method gives back.

    Args:
        value: the solution, a tensor or array; its residual and error are recomputed by the harness.
        setup_s, solve_s: seconds, device synchronised before the clock is read.
        steps: iterations.
        residual, error: only for methods without a `value`; else recomputed.
        converged: the method's own word; the recomputed residual overrules it.
        extra: anything else for the record (`train_s`, `data_s`, `reason`, `dtype` and `device` go into
            its fields: a peer that runs on the CPU alone says device "cpu").
    """

    value: Any = None
    setup_s: float = 0.0
    solve_s: float = 0.0
    steps: int | None = None
    residual: float | None = None
    error: float | None = None
    converged: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def always(case: Case) -> bool:
    """Say that a method applies to every case."""
    return True


@dataclass(frozen=True)
class Method:
    """A way to solve cases.

    Args:
        name: as shown in tables and taken by `--methods`.
        package: who wrote it: "solvus", "scipy", "pyamg", "petsc", ...
        run: solve the problem of a case once; an exception is recorded as a failure with its text.
        kind: "classical" or "learned".
        applies: False for cases on which it is not tried at all.
    """

    name: str
    package: str
    run: Callable[[Any, Case, Options], Outcome]
    kind: Literal["classical", "learned"] = "classical"
    applies: Callable[[Case], bool] = always


class SystemCase:
    """A linear system as the problem of a case.

    Args:
        system: A x = b, in float64 on the CPU.
        exact: known solution, (n,), for the relative error in the 2-norm.
    """

    def __init__(self, system: LinearSystem, exact: Tensor | np.ndarray | None = None) -> None:
        self.system = system
        self.exact = None if exact is None else torch.as_tensor(exact)
        self._moved: dict[str, LinearSystem] = {}

    @property
    def unknowns(self) -> int:
        """Number of unknowns."""
        return self.system.n

    @property
    def dtype(self) -> str:
        """Floating-point type of the system."""
        return str(self.system.A.dtype).removeprefix("torch.")

    @cached_property
    def matrix(self) -> sp.csr_array:
        """The matrix as a SciPy CSR array, made once."""
        return to_scipy(self.system.A)

    @cached_property
    def rhs(self) -> np.ndarray:
        """The right-hand side as a NumPy array."""
        return self.system.b.cpu().numpy()

    def on(self, device: str) -> LinearSystem:
        """Return the system on a device, moved once."""
        if torch.device(device) == self.system.A.device:
            return self.system
        if device not in self._moved:
            A = to_device(self.system.A, torch.device(device))
            self._moved[device] = LinearSystem(A, self.system.b.to(A.device))
        return self._moved[device]

    def check(self, value: Tensor | np.ndarray) -> tuple[float, float | None]:
        """Recompute ||b - A x|| / ||b|| and ||x - exact|| / ||exact|| in float64."""
        x = torch.as_tensor(value).to(torch.float64)
        if self.system.A.dtype is torch.float64:
            system = self.on(str(x.device))
            x = x.reshape(system.b.shape)
            residual = float(system.residual_norm(x).max() / system.scale().max())
        else:
            b = self.rhs.astype(np.float64)
            r = b - self.matrix.astype(np.float64) @ x.cpu().numpy().reshape(b.shape)
            residual = float(np.linalg.norm(r) / np.linalg.norm(b))
        if self.exact is None:
            return residual, None
        exact = self.exact.to(x)
        return residual, float((x.reshape(exact.shape) - exact).norm() / exact.norm())


def to_device(A: LinearOperator, device: torch.device) -> LinearOperator:
    """Return a copy of an operator with all its tensors on a device."""

    def move(item: Any) -> Any:
        if isinstance(item, Tensor):
            return item.to(device)
        if isinstance(item, torch.device):
            return device
        if isinstance(item, list | tuple) and not isinstance(item, torch.Size):
            return type(item)(move(part) for part in item)
        if hasattr(item, "__dict__") and any(isinstance(v, Tensor) for v in vars(item).values()):
            return moved(item)
        return item

    def moved(item: Any) -> Any:
        twin = copy.copy(item)
        for name, part in vars(item).items():
            object.__setattr__(twin, name, move(part))
        return twin

    return moved(A)


def ours(
    name: str,
    solver: Callable[[], Solver],
    *,
    max_steps: int = 100_000,
    check_every: int = 1,
    kind: Literal["classical", "learned"] = "classical",
    applies: Callable[[Case], bool] = always,
) -> Method:
    """Return the method that runs `solve` on a `SystemCase` with a solver made afresh for every run."""

    def run(problem: SystemCase, case: Case, options: Options) -> Outcome:
        stop = Stop(rtol=options.rtol, max_steps=max_steps, check_every=check_every, seconds=options.seconds)
        result = solve(problem.on(options.device), solver(), stop=stop, throw=False)
        converged = result.status is Status.CONVERGED
        reason = None if converged else f"{result.status.name}: {result.reason or result.status.advice}"
        stats = {k: v for k, v in result.stats.items() if k not in ("setup_s", "solve_s")}
        return Outcome(
            value=result.value,
            setup_s=result.stats["setup_s"],
            solve_s=result.stats["solve_s"],
            steps=result.steps,
            converged=converged,
            extra={**stats, "reason": reason},
        )

    return Method(name, "solvus", run, kind, applies)
