"""GMRES and FGMRES: against SciPy, their theory, restarts, and how they break down."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor

from solvus.operators.linear import (
    SPD,
    Diagonal,
    LinearOperator,
    Product,
    diagonal,
    sparse,
    to_scipy,
    to_scipy_operator,
)
from solvus.solvers import LinearSystem, Status, Stop, solve
from solvus.solvers.krylov import FGMRES, GMRES
from solvus.solvers.krylov.arnoldi import Arnoldi

F64 = torch.float64


def wind(n: int = 15) -> LinearSystem:
    """Convection and diffusion on a square, with a varying reaction."""
    rng = np.random.default_rng(0)
    line = sp.diags_array([-1.4, 2.0, -0.6], offsets=[-1, 0, 1], shape=(n, n))
    matrix = sp.kron(line, sp.eye_array(n)) + sp.kron(sp.eye_array(n), line)
    matrix = matrix + sp.diags_array(rng.uniform(0, 10, n * n))
    return LinearSystem(sparse(matrix), rng.standard_normal(n * n))


def scaling(A: LinearOperator) -> LinearOperator:
    return Diagonal(1 / diagonal(A), tags=SPD)


@pytest.mark.parametrize("restart", [5, 20, 225])
@pytest.mark.parametrize("method", [GMRES, FGMRES])
def test_the_residuals_of_scipy_step_by_step(method: type[GMRES], restart: int) -> None:
    system = wind()
    theirs: list[float] = []
    spla.gmres(
        to_scipy(system.A), system.b.numpy(), rtol=1e-9, atol=0.0, restart=restart, maxiter=60,
        callback=theirs.append, callback_type="pr_norm",
    )  # fmt: skip
    ours = solve(system, method(restart=restart), stop=Stop(rtol=1e-9))
    assert abs(ours.steps - len(theirs)) <= 1
    relative = ours.residuals[1:] / system.scale()
    k = min(ours.steps, len(theirs))
    assert k > 20
    assert np.allclose(relative[:k], theirs[:k], rtol=1e-5)


@pytest.mark.parametrize("method", [GMRES, FGMRES])
def test_right_preconditioning_is_gmres_on_the_product(method: type[GMRES]) -> None:
    system = wind()
    theirs: list[float] = []
    product = to_scipy_operator(Product(system.A, scaling(system.A)))
    spla.gmres(
        product,
        system.b.numpy(),
        rtol=1e-9,
        atol=0.0,
        restart=225,
        callback=theirs.append,
        callback_type="pr_norm",
    )
    ours = solve(system, method(scaling, restart=225), stop=Stop(rtol=1e-9))
    assert abs(ours.steps - len(theirs)) <= 1
    assert np.allclose((ours.residuals[1:] / system.scale())[: len(theirs) - 1], theirs[:-1], rtol=1e-5)


def test_the_residual_never_rises() -> None:
    residuals = solve(wind(), GMRES(restart=7), stop=Stop(rtol=1e-9)).residuals
    assert bool((residuals.diff() <= 1e-12 * residuals[0]).all())


def test_exact_after_n_steps_even_where_nothing_happens_before() -> None:
    """The cyclic shift: GMRES stands still until the last step."""
    n = 8
    shift = sparse(sp.csr_array(np.roll(np.eye(n), 1, axis=0)))
    b = torch.zeros(n, dtype=F64)
    b[0] = 1
    result = solve(LinearSystem(shift, b), GMRES(restart=n), stop=Stop(rtol=1e-12))
    assert result.steps == n
    assert torch.allclose(result.residuals[:-1], torch.ones(n, dtype=F64))
    stuck = solve(LinearSystem(shift, b), GMRES(restart=n - 1), stop=Stop(max_steps=50), throw=False)
    assert stuck.status is Status.MAX_STEPS
    assert float(stuck.residual) == pytest.approx(1)


def test_an_invariant_space_ends_exactly() -> None:
    values = torch.tensor([2.0, 5.0], dtype=F64).repeat(6)
    result = solve(LinearSystem(Diagonal(values), torch.ones(12, dtype=F64)), GMRES(), stop=Stop(rtol=1e-13))
    assert result.steps == 2


@pytest.mark.parametrize("method", [GMRES(), FGMRES()])
def test_singular_breaks_down_with_the_last_iterate(method: GMRES | FGMRES) -> None:
    nilpotent = sparse(np.array([[0.0, 1.0], [0.0, 0.0]]))
    result = solve(LinearSystem(nilpotent, torch.tensor([1.0, 0.0], dtype=F64)), method, throw=False)
    assert result.status is Status.BREAKDOWN
    assert "is singular on the Krylov space" in result.reason
    assert bool(torch.isfinite(result.value).all())


def test_breakdown_in_the_middle_of_a_cycle_keeps_what_was_reached() -> None:
    matrix = sp.block_diag([sp.diags_array(np.linspace(1, 5, 6)), np.zeros((1, 1))])
    system = LinearSystem(sparse(matrix, tags=()), torch.ones(7, dtype=F64))  # the last row cannot be met
    result = solve(system, GMRES(), stop=Stop(rtol=1e-10), throw=False)
    assert result.status is Status.BREAKDOWN
    assert float(result.residual) == pytest.approx(1, rel=1e-6)


def test_samples_of_different_length_in_one_batch() -> None:
    values = torch.stack(
        [torch.full((30,), 3.0), torch.linspace(2, 5, 30), torch.linspace(1, 2, 30)]
    ).double()
    system = LinearSystem(Diagonal(values), torch.ones(3, 30, dtype=F64))
    for method in (GMRES(restart=30), GMRES(restart=9), FGMRES(restart=30)):
        result = solve(system, method, stop=Stop(rtol=1e-9, max_steps=3000))
        assert torch.allclose(result.value, 1 / values, rtol=1e-6)
        assert result.sample_steps[0] == 1


class Cubic(LinearOperator):
    """A nonlinear map, passed off as a preconditioner."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A.shape, A.dtype, A.device)
        self.inverse = 1 / diagonal(A)

    def matvec(self, x: Tensor) -> Tensor:
        largest = x.abs().amax(-1, keepdim=True)
        return self.inverse * x * (1 + (x / largest) ** 2)

    def transpose(self) -> LinearOperator:
        raise AssertionError


def test_a_nonlinear_preconditioner_needs_fgmres_and_cannot_deceive() -> None:
    system = wind()
    stop = Stop(rtol=1e-9, max_steps=200)
    seen: list[tuple[float, float]] = []

    def watch(step: int, x: Tensor, residual: Tensor) -> None:
        seen.append((float(residual), float(system.residual_norm(x))))

    flexible = solve(system, FGMRES(Cubic, restart=100), stop=stop, callback=watch)
    assert flexible.status is Status.CONVERGED
    assert np.allclose(*np.array(seen).T, rtol=1e-5)
    seen.clear()
    plain = solve(system, GMRES(Cubic, restart=100), stop=stop, callback=watch, throw=False)
    assert not np.allclose(*np.array(seen).T, rtol=1e-2)  # what it reports is wrong
    assert (plain.status is Status.CONVERGED) == (float(plain.relative_residual) <= 1e-9)


def test_the_basis_is_orthonormal_for_an_ill_conditioned_matrix() -> None:
    n, k = 60, 40
    A = torch.diag(torch.logspace(0, 12, n, dtype=F64))
    r = torch.randn(2, n, dtype=F64)
    space, busy = Arnoldi(k, r), torch.ones(2, 1, dtype=torch.bool)
    space.start(r, busy)
    for _ in range(k):
        space.extend(space.last @ A, busy)
    V = space.basis
    assert float((V @ V.mT - torch.eye(k + 1, dtype=F64)).abs().max()) < 1e-13


@pytest.mark.parametrize("method", [GMRES, FGMRES])
def test_restart_must_be_positive(method: type[GMRES]) -> None:
    with pytest.raises(ValueError, match="at least one column before a restart, restart is 0"):
        method(restart=0)
