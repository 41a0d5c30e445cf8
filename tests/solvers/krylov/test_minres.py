"""MINRES: against SciPy step by step, its optimality, and how it breaks down."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor

from solvus.operators.linear import (
    SPD,
    SYMMETRIC,
    Diagonal,
    LinearOperator,
    NotSupported,
    Span,
    diagonal,
    sparse,
    to_scipy,
    to_scipy_operator,
)
from solvus.solvers import LinearSystem, Status, Stop, solve
from solvus.solvers.krylov import GMRES, MINRES

F64 = torch.float64


def saddle(n: int = 12) -> LinearSystem:
    """A Laplacian bordered by constraints: indefinite, eigenvalues of both signs."""
    rng = np.random.default_rng(0)
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    K = (
        sp.kron(line, sp.eye_array(n))
        + sp.kron(sp.eye_array(n), line)
        + sp.diags_array(rng.uniform(0, 3, n * n))
    )
    B = sp.random_array((n, n * n), density=0.1, rng=rng)
    matrix = sp.block_array([[K, B.T], [B, -0.5 * sp.eye_array(n)]])
    return LinearSystem(sparse(matrix), rng.standard_normal(n * n + n))


def scaling(A: LinearOperator) -> LinearOperator:
    return Diagonal(1 / diagonal(A).abs(), tags=SPD)


@pytest.mark.parametrize("solver", [MINRES(), MINRES(scaling)], ids=["plain", "scaled"])
def test_the_residuals_of_scipy_step_by_step(solver: MINRES) -> None:
    system = saddle()
    A, b = to_scipy(system.A), system.b.numpy()
    M = to_scipy_operator(solver.preconditioner(system.A))
    theirs: list[float] = []
    spla.minres(A, b, M=M, rtol=1e-12, callback=lambda x: theirs.append(float(np.linalg.norm(b - A @ x))))
    ours = solve(system, solver, stop=Stop(rtol=1e-8))
    k = min(ours.steps, len(theirs))
    assert k > 25
    assert np.allclose(ours.residuals[1 : k + 1], theirs[:k], rtol=1e-4)
    first = next(i for i, r in enumerate(theirs, 1) if r <= 1e-8 * np.linalg.norm(b))
    assert abs(ours.steps - first) <= 1


def test_it_minimises_the_residual_as_gmres_does() -> None:
    system = saddle(6)
    stop = Stop(rtol=0, max_steps=25)
    short = solve(system, MINRES(), stop=stop, throw=False).residuals
    full = solve(system, GMRES(restart=48), stop=stop, throw=False).residuals
    assert torch.allclose(short, full, rtol=1e-6)


def test_the_preconditioned_norm_falls_at_every_step() -> None:
    system = saddle(6)
    weight = 1 / diagonal(system.A).abs()
    norms: list[float] = []

    def watch(step: int, x: Tensor, residual: Tensor) -> None:
        r = system.residual(x)
        norms.append(float((r * weight) @ r))

    solve(system, MINRES(scaling), stop=Stop(rtol=1e-9), callback=watch)
    assert np.all(np.diff(norms) <= 0)


def test_singular_but_compatible_with_and_without_knowing_it() -> None:
    values = torch.cat([torch.zeros(1, dtype=F64), torch.linspace(-2, 3, 10, dtype=F64)])
    b = torch.ones(11, dtype=F64)
    b[0] = 0
    result = solve(LinearSystem(Diagonal(values), b), MINRES(), stop=Stop(rtol=1e-10))
    assert torch.allclose(result.value[1:], 1 / values[1:])
    unit = torch.zeros(1, 11, dtype=F64)
    unit[0, 0] = 1
    known = sparse(sp.diags_array(values.numpy()), tags=SYMMETRIC, nullspace=Span(unit))
    result = solve(
        LinearSystem(known, b), MINRES(), x0=torch.full((11,), 7.0, dtype=F64), stop=Stop(rtol=1e-10)
    )
    assert abs(float(result.value[0])) < 1e-12


def test_incompatible_is_never_called_converged() -> None:
    A = Diagonal(torch.tensor([0.0, 0.0, 0.0], dtype=F64))
    result = solve(LinearSystem(A, torch.ones(3, dtype=F64)), MINRES(), throw=False)
    assert result.status is Status.BREAKDOWN
    assert "A is singular on the Krylov space: b is not in its range" in result.reason
    assert float(result.relative_residual) == 1
    A = Diagonal(torch.cat([torch.zeros(1, dtype=F64), torch.linspace(1, 2, 5, dtype=F64)]))
    result = solve(LinearSystem(A, torch.ones(6, dtype=F64)), MINRES(), throw=False)
    assert result.status is not Status.CONVERGED


def test_the_preconditioner_must_be_positive_definite() -> None:
    system = saddle(4)
    with pytest.raises(NotSupported, match="MINRES needs a symmetric positive definite preconditioner"):
        solve(system, MINRES(lambda A: Diagonal(diagonal(A))))
    result = solve(system, MINRES(lambda A: Diagonal(diagonal(A), tags=SPD)), throw=False)
    assert result.status is Status.BREAKDOWN
    assert "the preconditioner is not positive definite, use FGMRES" in result.reason


def test_one_sample_at_its_solution_rests() -> None:
    values = torch.stack([torch.full((40,), -3.0), torch.linspace(-4, 5, 40)]).double()
    result = solve(
        LinearSystem(Diagonal(values), torch.ones(2, 40, dtype=F64)), MINRES(), stop=Stop(rtol=1e-10)
    )
    assert result.sample_steps[0] == 1
    assert torch.allclose(result.value, 1 / values)
