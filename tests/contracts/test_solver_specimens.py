"""Deliberately wrong solvers: each must fail a contract of test_solvers.py, or it checks nothing.

The suite is loaded from its file, since tests are no package.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from solvus.operators.linear import SYMMETRIC, dense
from solvus.solvers import Breakdown, Solver, Status, solve
from solvus.solvers.krylov import CG, GMRES


def _load() -> ModuleType:
    """Return the suite next to this file."""
    spec = spec_from_file_location("solver_contracts", Path(__file__).with_name("test_solvers.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)  # pickle and dataclasses look it up
    spec.loader.exec_module(module)
    return module


suite = _load()


def _steps(problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return CG().iterate(problem, x)  # type: ignore[return-value]


@dataclass(frozen=True)
class Liar(Solver):
    """Reports a hundredth of its residual."""

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return ((x, norm / 100) for x, norm in _steps(problem, x))


@dataclass(frozen=True)
class Deserter(Solver):
    """Claims convergence at once."""

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield x, problem.residual_norm(x) * 0


@dataclass(frozen=True)
class DropsTheLast(Solver):
    """Leaves the last sample of a batch where it was."""

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        start = x.clone()
        for step, norm in _steps(problem, x):
            value = torch.cat([step[:-1], start[-1:]])
            yield value, torch.cat([norm[:-1], norm[-1:] * 0])


@dataclass(frozen=True)
class MixesTheBatch(Solver):
    """Takes one step length for the whole batch: steepest descent on the stacked system."""

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        r = problem.residual(x)
        p, rr = r.clone(), (r * r).sum()
        while True:
            yield x, r.norm(dim=-1)
            q = problem.A @ p
            step = rr / (p * q).sum()
            x, r = x + step * p, r - step * q
            rr, old = (r * r).sum(), rr
            p = r + rr / old * p


@dataclass(frozen=True)
class FromZero(Solver):
    """Forgets where it was told to start."""

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return _steps(problem, torch.zeros_like(x))


@dataclass(frozen=True)
class Dice(Solver):
    """Starts from noise of the global generator."""

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return _steps(problem, x + 1e-3 * torch.randn_like(x))


@dataclass(frozen=True)
class Threshold(Solver):
    """Breaks down below an absolute threshold."""

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for step, norm in _steps(problem, x):
            yield step, norm
            if float(norm.max()) < 1e-15:
                raise Breakdown("too small")


@dataclass(frozen=True)
class Hoarder(Solver):
    """Keeps the inverse of the first matrix that it met."""

    kept: dict[str, Tensor]

    def __hash__(self) -> int:
        return 0

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield x, problem.residual_norm(x)
        fresh = torch.linalg.inv(dense(problem.A))
        inverse = self.kept.setdefault("inverse", fresh)
        self.kept["inverse"] = fresh
        while True:
            x = x + (inverse @ problem.residual(x)[..., None]).squeeze(-1)
            yield x, problem.residual_norm(x)


class Melted(Solver):
    """Not a frozen dataclass."""

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return _steps(problem, x)


@dataclass(frozen=True)
class Boaster(Solver):
    """Ends with a claim, where it was told to stop after a step."""

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield x, problem.residual_norm(x)
        x.fill_(float("nan"))
        yield x, torch.zeros(())


WRONG = [
    (Liar(), suite.reports_the_true_residual, "spd_csr"),
    (Deserter(), suite.converges, "spd_csr"),
    (DropsTheLast(), suite.converges, "batched"),
    (DropsTheLast(), suite.reports_the_true_residual, "batched"),
    (MixesTheBatch(), suite.batch_equals_loop, "batched"),
    (FromZero(), suite.starts_where_told, "spd_csr"),
    (Dice(), suite.is_deterministic, "spd_csr"),
    (Threshold(), suite.has_no_scale, "spd_csr"),
    (Hoarder({}), suite.has_no_memory, "spd_csr"),
    (Melted(), suite.is_settings_only, "spd_csr"),
    (CG(lambda A: suite.scaling(A)), suite.is_settings_only, "spd_csr"),
    (Boaster(), suite.stops_early, "spd_csr"),
    (FromZero(), suite.rejects_with_advice, "indefinite"),
]


@pytest.mark.parametrize(
    ("specimen", "contract", "name"),
    [pytest.param(*w, id=f"{type(w[0]).__name__}-{w[1].__name__}") for w in WRONG],
)
def test_a_wrong_specimen_fails(specimen: Solver, contract: Callable[[Solver, str], None], name: str) -> None:
    with pytest.raises(
        (AssertionError, RuntimeError, AttributeError, pickle.PicklingError, pytest.fail.Exception)
    ):
        contract(specimen, name)


def test_a_wrong_transpose_fails_the_gradient_contract() -> None:
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        suite.gradients_are_right(GMRES(), lambda c: suite._skewed(c, SYMMETRIC), suite._SKEW)


@pytest.mark.parametrize("specimen", [Liar(), Deserter(), DropsTheLast()], ids=lambda s: type(s).__name__)
def test_no_lie_becomes_a_converged_result(specimen: Solver) -> None:
    problem = suite.system("batched")
    result = solve(problem, specimen, stop=suite.TIGHT, throw=False)
    true = problem.residual_norm(result.value)
    assert torch.equal(result.residual, true)
    assert (result.status is Status.CONVERGED) == bool((true <= suite.TIGHT.rtol * problem.scale()).all())
