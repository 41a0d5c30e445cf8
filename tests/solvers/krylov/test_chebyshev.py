"""Chebyshev iteration and Ritz bounds: against their theory and dense eigenvalues."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.linear import (
    SPD,
    Diagonal,
    Diffusion,
    LinearOperator,
    NotSupported,
    Product,
    dense,
    diagonal,
)
from solvus.solvers import LinearSystem, Status, Stop, solve
from solvus.solvers.krylov import CG, Chebyshev, ritz_bounds
from solvus.solvers.preconditioners import identity

F64 = torch.float64


def scaling(A: LinearOperator) -> LinearOperator:
    return Diagonal(1 / diagonal(A), tags=SPD)


def system(n: int = 12) -> LinearSystem:
    k = torch.rand(n + 1, n + 1, dtype=F64, generator=torch.Generator().manual_seed(1)) + 0.1
    return LinearSystem(Diffusion(Grid((n, n)), k), torch.ones(n * n, dtype=F64))


def test_the_steps_that_theory_says() -> None:
    problem = system()
    values = torch.linalg.eigvalsh(dense(problem.A))
    low, high = float(values[0]), float(values[-1])
    bound = math.ceil(math.log(2 / 1e-8 * math.sqrt(high / low)) / (2 / math.sqrt(high / low)))
    steps = solve(problem, Chebyshev(bounds=(low, high)), stop=Stop(rtol=1e-8)).steps
    assert solve(problem, CG(), stop=Stop(rtol=1e-8)).steps <= steps <= bound


def test_the_residual_is_the_chebyshev_polynomial() -> None:
    values = torch.linspace(1, 9, 33, dtype=F64)
    problem = LinearSystem(Diagonal(values, tags=SPD), torch.ones(33, dtype=F64))
    k = 6
    result = solve(problem, Chebyshev(bounds=(1.0, 9.0)), stop=Stop(rtol=0, max_steps=k), throw=False)
    coefficients = [0.0] * k + [1.0]
    polynomial = np.polynomial.chebyshev.chebval((5 - values.numpy()) / 4, coefficients)
    polynomial /= np.polynomial.chebyshev.chebval(5 / 4, coefficients)
    assert np.allclose(problem.residual(result.value).numpy(), polynomial, atol=1e-12)


@pytest.mark.parametrize("solver", [Chebyshev(), Chebyshev(scaling)])
def test_estimated_bounds_do(solver: Chebyshev) -> None:
    assert solve(system(), solver, stop=Stop(rtol=1e-8)).steps < 200


def test_an_upper_bound_that_is_too_low_is_named() -> None:
    result = solve(system(), Chebyshev(bounds=(1.0, 100.0)), throw=False)
    assert result.status is Status.BREAKDOWN
    assert "fold: the spectrum of M A reaches beyond 100, give larger bounds, or use CG" in result.reason


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (1.0, 1.0)])
def test_bounds_are_checked(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="bounds must be 0 < lowest < highest, got"):
        Chebyshev(bounds=bounds)


def test_lanczos_steps_are_checked() -> None:
    with pytest.raises(ValueError, match="at least one Lanczos step, got 0"):
        Chebyshev(lanczos_steps=0)


def test_it_needs_definiteness() -> None:
    A = Diagonal(torch.linspace(-1, 1, 5, dtype=F64))
    with pytest.raises(NotSupported, match="Chebyshev needs a symmetric positive definite operator"):
        solve(LinearSystem(A, torch.ones(5, dtype=F64)), Chebyshev())
    lying = Diagonal(torch.linspace(-1, 1, 5, dtype=F64), tags=SPD)
    result = solve(LinearSystem(lying, torch.ones(5, dtype=F64)), Chebyshev(), throw=False)
    assert result.status is Status.BREAKDOWN
    assert "not positive definite: use GMRES" in result.reason


# --- Ritz values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preconditioner", [identity, scaling])
def test_ritz_values_lie_in_the_spectrum_and_meet_its_ends(preconditioner: object) -> None:
    A = system(10).A
    M = preconditioner(A)  # type: ignore[operator]
    values = np.sort(np.linalg.eigvals(dense(Product(M, A)).numpy()).real)
    low, high = (float(v) for v in ritz_bounds(A, M, 60))
    assert values[0] * (1 - 1e-9) <= low <= values[0] * 1.01
    assert values[-1] * 0.999 <= high <= values[-1] * (1 + 1e-9)
    low, high = (float(v) for v in ritz_bounds(A, M, 8))
    assert values[0] <= low
    assert values[-1] * 0.85 <= high <= values[-1] * (1 + 1e-9)


def test_ritz_values_of_a_batch_are_those_of_its_samples() -> None:
    grid = Grid((6, 6))
    k = torch.rand(3, 7, 7, dtype=F64) + 0.1
    low, high = ritz_bounds(Diffusion(grid, k), identity(Diffusion(grid, k)), 20)
    assert low.shape == high.shape == (3, 1)
    for i in range(3):
        A = Diffusion(grid, k[i])
        alone = ritz_bounds(A, identity(A), 20)
        assert torch.allclose(torch.cat([low[i], high[i]]), torch.cat(alone), rtol=1e-8)


def test_ritz_values_leave_out_the_zero_of_a_known_null_space() -> None:
    A = Diffusion(Grid((6, 6), centring="cell", boundary="neumann"))
    values = torch.linalg.eigvalsh(dense(A))
    low, _ = ritz_bounds(A, identity(A), 36)
    assert float(low) == pytest.approx(float(values[1]), rel=1e-6)


def test_ritz_values_of_very_small_operators() -> None:
    A = Diagonal(torch.tensor([3.0], dtype=F64), tags=SPD)
    assert [float(v) for v in ritz_bounds(A, identity(A), 20)] == pytest.approx([3.0, 3.0])
    A = Diffusion(Grid((1,), centring="cell", boundary="neumann"))
    assert all(float(v) > 0 for v in ritz_bounds(A, identity(A), 20))
