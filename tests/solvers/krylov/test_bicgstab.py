"""BiCGStab: against SciPy, and how it breaks down."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch

from solvus.operators.linear import (
    SPD,
    Diagonal,
    LinearOperator,
    diagonal,
    sparse,
    to_scipy,
    to_scipy_operator,
)
from solvus.solvers import LinearSystem, Status, Stop, solve
from solvus.solvers.krylov import GMRES, BiCGStab

F64 = torch.float64


def wind(n: int = 20) -> LinearSystem:
    rng = np.random.default_rng(1)
    line = sp.diags_array([-1.4, 2.0, -0.6], offsets=[-1, 0, 1], shape=(n, n))
    matrix = sp.kron(line, sp.eye_array(n)) + sp.kron(sp.eye_array(n), line)
    matrix = matrix + sp.diags_array(rng.uniform(0, 5, n * n))
    return LinearSystem(sparse(matrix), rng.standard_normal(n * n))


def scaling(A: LinearOperator) -> LinearOperator:
    return Diagonal(1 / diagonal(A), tags=SPD)


@pytest.mark.parametrize("solver", [BiCGStab(), BiCGStab(scaling)], ids=["plain", "scaled"])
def test_as_many_steps_as_scipy(solver: BiCGStab) -> None:
    system = wind()
    M = to_scipy_operator(solver.preconditioner(system.A))
    count: list[int] = []
    spla.bicgstab(
        to_scipy(system.A), system.b.numpy(), rtol=1e-9, atol=0.0, M=M, callback=lambda x: count.append(1)
    )
    ours = solve(system, solver, stop=Stop(rtol=1e-9))
    assert len(count) > 10
    assert abs(ours.steps - len(count)) <= max(2, len(count) // 10)


def test_a_skew_matrix_breaks_down_and_gmres_solves_it() -> None:
    skew = sparse(np.array([[0.0, 1.0], [-1.0, 0.0]]))
    system = LinearSystem(skew, torch.tensor([1.0, 0.0], dtype=F64))
    result = solve(system, BiCGStab(), throw=False)
    assert result.status is Status.BREAKDOWN
    assert "vanished before the residual did: use GMRES" in result.reason
    assert torch.equal(result.value, torch.zeros(2, dtype=F64))
    assert solve(system, GMRES()).status is Status.CONVERGED


def test_a_solution_at_half_step() -> None:
    """A multiple of the identity: the residual vanishes before the stabilising half."""
    result = solve(LinearSystem(3.0 * sp.eye_array(5), torch.ones(5, dtype=F64)), BiCGStab())
    assert result.steps == 1
    assert torch.allclose(result.value, torch.full((5,), 1 / 3, dtype=F64))


def test_done_samples_do_not_break_the_others() -> None:
    values = torch.stack([torch.full((60,), 2.0), torch.linspace(1, 30, 60)]).double()
    result = solve(
        LinearSystem(Diagonal(values), torch.ones(2, 60, dtype=F64)), BiCGStab(), stop=Stop(rtol=1e-10)
    )
    assert result.sample_steps.tolist()[0] == 1
    assert result.steps > 10


def test_accuracy_beyond_the_drift_of_the_recurrence() -> None:
    """The updated residual drifts from the true one; restarts make up for it."""
    rng = np.random.default_rng(4)
    matrix = rng.standard_normal((40, 40)) + 9 * np.eye(40)
    system = LinearSystem(sparse(matrix), rng.standard_normal(40))
    result = solve(system, BiCGStab(), stop=Stop(rtol=5e-15, max_steps=2000), throw=False)
    assert float(result.relative_residual) < 1e-13
