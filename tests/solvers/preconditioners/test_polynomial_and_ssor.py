"""Chebyshev, SSOR and Jacobi against their formulas."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from solvus.meshes.grid import Grid
from solvus.operators.linear import (
    SPD,
    SYMMETRIC,
    Diffusion,
    NotSupported,
    ShapeMismatch,
    dense,
    sparse,
    to_scipy,
)
from solvus.solvers.preconditioners import chebyshev, jacobi, ssor
from solvus.solvers.preconditioners.bounds import gershgorin, lanczos
from solvus.solvers.preconditioners.relaxation import grid_colours


def problem(dtype: torch.dtype = torch.float64) -> Diffusion:
    k = torch.rand(9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    return Diffusion(Grid((8, 7)), k.to(dtype))


def ssor_matrix(A: np.ndarray, omega: float, backward_first: bool) -> np.ndarray:
    """(w/(2-w) (D/w + L) D^-1 (D/w + U))^-1, L and U exchanged when backward first."""
    D, L, U = np.diag(np.diag(A)), np.tril(A, -1), np.triu(A, 1)
    if backward_first:
        L, U = U, L
    return np.linalg.inv(omega / (2 - omega) * (D / omega + L) @ np.linalg.inv(D) @ (D / omega + U))


@pytest.mark.parametrize("backward_first", [False, True])
@pytest.mark.parametrize("omega", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("symmetric", [True, False])
def test_ssor_is_its_formula(omega: float, backward_first: bool, symmetric: bool) -> None:
    rng = np.random.default_rng(0)
    skew = 0 if symmetric else sp.random_array((56, 56), density=0.05, rng=rng)
    matrix = sp.csr_array(to_scipy(problem()) + skew)
    found = dense(ssor(omega, backward_first=backward_first)(sparse(matrix))).numpy()
    expected = ssor_matrix(matrix.toarray(), omega, backward_first)
    assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max()


@pytest.mark.parametrize("backward_first", [False, True])
def test_multicolour_ssor_is_the_formula_of_the_permuted_matrix(backward_first: bool) -> None:
    A = problem()
    order = np.argsort(grid_colours(A.grid), kind="stable")
    expected = np.empty((56, 56))
    expected[np.ix_(order, order)] = ssor_matrix(dense(A).numpy()[np.ix_(order, order)], 1.6, backward_first)
    for op in (A, sparse(to_scipy(A))):
        M = ssor(1.6, backward_first=backward_first, order="multicolour")(op)
        assert np.abs(dense(M).numpy() - expected).max() <= 1e-13 * np.abs(expected).max()


def test_ssor_declares_only_what_holds() -> None:
    assert ssor(1.2)(problem()).positive_definite
    indefinite = sparse(np.array([[1.0, 3.0], [3.0, 1.0]]), tags=SYMMETRIC)
    assert ssor(1.2)(indefinite).tags == SYMMETRIC
    assert not ssor(1.2)(sparse(np.array([[2.0, 1.0], [0.0, 2.0]]))).tags
    lying = sparse(np.diag([1.0, -1.0]), tags=SPD)
    assert not ssor(1.2)(lying).positive_definite
    assert not jacobi(lying).positive_definite


@pytest.mark.parametrize("degree", [0, 1, 2, 5])
def test_chebyshev_is_its_polynomial(degree: int) -> None:
    """Eigenvalues of Id - M A are T_m((b + a - 2 t) / (b - a)) / T_m((b + a) / (b - a)), m = degree + 1."""
    A = problem()
    d = np.diag(dense(A).numpy())
    scaled = dense(A).numpy() / np.sqrt(np.outer(d, d))
    t = np.linalg.eigvalsh(scaled)
    M = chebyshev(degree, ratio=10.0)(A)
    b = float(M.upper)
    a = b / 10
    T = np.polynomial.chebyshev.Chebyshev.basis(degree + 1)
    expected = np.sort(T((b + a - 2 * t) / (b - a)) / T((b + a) / (b - a)))
    root = np.sqrt(np.outer(d, d))
    inner = np.linalg.eigvals(np.eye(56) - (dense(M).numpy() * root) @ scaled)
    np.testing.assert_allclose(np.sort(inner.real), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("degree", [1, 2, 3, 8])
def test_chebyshev_stays_positive_definite_where_the_bound_is_tight(degree: int) -> None:
    A = Diffusion(Grid((16, 16), centring="cell", boundary="periodic"))  # largest eigenvalue of D^-1 A is 2
    values = torch.linalg.eigvalsh(dense(chebyshev(degree)(A)))
    assert float(values[0].abs()) < 1e-12  # the constants
    assert float(values[1]) > 0


@pytest.mark.parametrize("bound", [gershgorin, lanczos])
def test_bounds_lie_above_the_spectrum_and_near_it(bound) -> None:
    B = sp.random_array((60, 60), density=0.05, rng=np.random.default_rng(1)) + 2 * sp.eye_array(60)
    operators = [problem(), sparse(sp.csr_array(B @ B.T), tags=SPD), Diffusion(Grid((40, 40)))]
    for A in operators:
        d = np.diag(dense(A).numpy())
        largest = np.linalg.eigvalsh(dense(A).numpy() / np.sqrt(np.outer(d, d)))[-1]
        found = float(bound(A))
        assert largest <= found * (1 + 1e-12)
        assert found <= (2.0 if bound is gershgorin else 1.3) * largest


def test_bounds_of_a_batch_are_each_alone() -> None:
    k = torch.rand(3, 6, 5, dtype=torch.float64) + 0.1
    A = Diffusion(Grid((6, 5), centring="cell"), k)
    for bound in (gershgorin, lanczos):
        alone = torch.stack([bound(Diffusion(A.grid, k[i])) for i in range(3)])
        torch.testing.assert_close(bound(A), alone, rtol=1e-8, atol=0)


def test_chebyshev_without_entries_uses_lanczos() -> None:
    A = problem()
    scaled = 2.0 * A  # a `Scaled` operator shows its diagonal, not its entries
    assert gershgorin(scaled) is None
    values = torch.linalg.eigvalsh(dense(chebyshev(4)(scaled)))
    assert float(values.min()) > 0


def test_chebyshev_refuses_what_is_not_spd() -> None:
    with pytest.raises(NotSupported, match=r"not declared so: declare tags={Tag.SPD}"):
        chebyshev()(sparse(np.array([[1.0, 2.0], [0.0, 1.0]])))
    with pytest.raises(NotSupported, match="declared SPD but has a negative diagonal entry"):
        chebyshev()(sparse(np.diag([1.0, -1.0]), tags=SPD))


def test_inverses_need_a_square_operator() -> None:
    with pytest.raises(ShapeMismatch, match="needs a square operator, this one is 1 x 2"):
        ssor()(sparse(np.array([[1.0, 2.0]])))
