"""Incomplete factorisations: against the definition, against complete factors, against PETSc."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch

from solvus.meshes.grid import Grid
from solvus.operators.linear import (
    SPD,
    Diffusion,
    Identity,
    NotSupported,
    Tag,
    ZeroDiagonal,
    dense,
    sparse,
    to_scipy,
)
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.preconditioners import chebyshev, ic0, ict, ilu, jacobi
from solvus.solvers.preconditioners.matrix import cpu_csr, grounded, pins

# Kershaw's matrix (1978): symmetric positive definite, yet IC(0) meets a negative pivot.
KERSHAW = np.array([[3.0, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3]])


def problem(n: int = 12) -> Diffusion:
    k = torch.rand(n + 1, n + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    return Diffusion(Grid((n, n)), k)


def finite_elements(n: int = 80):
    """A denser SPD pattern with entries of both signs."""
    B = sp.random_array((n, n), density=0.06, rng=np.random.default_rng(0)) + 2 * sp.eye_array(n)
    return sparse(sp.csr_array(B @ B.T), tags=SPD)


@pytest.mark.parametrize("make", [problem, finite_elements])
def test_ic0_reproduces_a_on_its_pattern(make) -> None:
    A = make()
    M = ic0()(A)
    matrix = to_scipy(A)
    product = (M.L @ M.L.T).toarray()
    pattern = matrix.toarray() != 0
    assert M.shift == 0
    np.testing.assert_allclose(product[pattern], matrix.toarray()[pattern], rtol=1e-12, atol=1e-12)
    assert (M.L.toarray() != 0).sum() == np.tril(pattern).sum()


def test_ic0_in_one_dimension_is_the_complete_factor() -> None:
    A = Diffusion(Grid((20,)), torch.rand(21, dtype=torch.float64) + 0.1)
    np.testing.assert_allclose(
        ic0()(A).L.toarray(), np.linalg.cholesky(dense(A).numpy()), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("make", [problem, finite_elements])
def test_ict_without_dropping_is_the_complete_factor(make) -> None:
    A = make()
    L = ict(0.0, fill=10_000)(A).L
    np.testing.assert_allclose(L.toarray(), np.linalg.cholesky(dense(A).numpy()), rtol=1e-10, atol=1e-12)


def test_ict_keeps_what_drop_and_fill_say() -> None:
    A = finite_elements()
    matrix = to_scipy(A).toarray()
    root = np.sqrt(np.diag(matrix))
    for drop, fill in ((1e-2, 3), (0.1, 100)):
        L = ict(drop, fill=fill)(A).L.toarray()
        below = np.abs(np.tril(L, -1) * np.diag(L)) / np.outer(root, root)
        assert below[below > 0].min() > drop
        assert ((np.tril(L, -1) != 0).sum(0) <= (np.tril(matrix, -1) != 0).sum(0) + fill).all()
    assert ict(1e-4, fill=0)(A).L.nnz <= np.tril(matrix != 0).sum()


def test_ict_does_not_depend_on_diagonal_scaling() -> None:
    A = to_scipy(finite_elements())
    D = sp.diags_array(np.logspace(-2, 3, A.shape[0]))
    L = ict(1e-2)(sparse(A, tags=SPD)).L
    scaled = ict(1e-2)(sparse(sp.csr_array(D @ A @ D), tags=SPD)).L
    np.testing.assert_allclose(scaled.toarray(), (D @ L).toarray(), rtol=1e-9, atol=1e-12)


def test_steps_fall_with_the_threshold() -> None:
    A = problem(40)
    b = torch.randn(A.shape[0], dtype=torch.float64)
    makes = (jacobi, ic0(), ict(1e-2), ict(1e-3), ict(1e-5, fill=50))
    steps = [solve(LinearSystem(A, b), CG(m), stop=Stop(rtol=1e-8)).steps for m in makes]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > 3 * steps[2] > 6 * steps[4]


@pytest.mark.parametrize("make", [ic0(), ict(0.3, fill=0)], ids=["ic0", "ict"])
def test_breakdown_is_repaired_by_a_shift(make) -> None:
    A = sparse(KERSHAW, tags=SPD)
    M = make(A)
    assert 0 < M.shift < 1
    assert float(torch.linalg.eigvalsh(dense(M)).min()) > 0
    lower = np.tril(KERSHAW != 0)
    if make.keywords.get("drop") is None:
        product = (M.L @ M.L.T).toarray()
        expected = KERSHAW + M.shift * np.diag(np.diag(KERSHAW))
        np.testing.assert_allclose(product[lower], expected[lower], rtol=1e-12)


def test_pure_neumann_is_factored_and_projected() -> None:
    """In one dimension IC(0) is complete, and its last pivot is zero: the shift steps in."""
    A = Diffusion(Grid((30,), centring="cell", boundary="neumann"))
    M = ic0()(A)
    assert M.shift > 0
    b = A.nullspace.project(torch.randn(30, dtype=torch.float64))
    assert solve(LinearSystem(A, b), CG(ic0()), stop=Stop(rtol=1e-10)).steps <= 15


def test_a_hopeless_matrix_is_named() -> None:
    huge = sparse(np.array([[1.0, 1e9], [1e9, 1.0]]), tags={Tag.SYMMETRIC})
    with pytest.raises(NotSupported, match=r"broke down at every shift.*ilu\(\) with GMRES"):
        ic0()(huge)


def test_what_incomplete_cholesky_refuses() -> None:
    with pytest.raises(NotSupported, match=r"not declared symmetric.*use ilu\(\)"):
        ic0()(sparse(np.array([[1.0, 2.0], [0.0, 1.0]])))
    with pytest.raises(NotSupported, match=r"negative entry.*MINRES"):
        ict()(sparse(np.diag([1.0, -1.0]), tags={Tag.SYMMETRIC}))
    with pytest.raises(ZeroDiagonal, match="row 1 has a zero diagonal"):
        ic0()(sparse(np.array([[1.0, 2.0], [2.0, 0.0]])))
    batch = Diffusion(Grid((4,)), torch.rand(2, 5, dtype=torch.float64) + 1)
    with pytest.raises(
        NotSupported, match=r"works on one matrix, this operator is a batch of \(2,\): use cheb"
    ):
        ic0()(batch)
    with pytest.raises(NotSupported, match="one matrix, this operator is a batch"):
        ilu()(batch)
    with pytest.raises(NotSupported, match=r"this operator is on meta.*sequential; use chebyshev"):
        cpu_csr(Identity(3, torch.float64, "meta"), "incomplete Cholesky", "chebyshev()")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ict(-1.0), "drop >= 0 and fill >= 0, got -1.0"),
        (lambda: ict(fill=-2), "got 0.001 and -2"),
        (lambda: ilu(2.0), r"drop in \[0, 1\] and fill >= 1, got 2.0"),
        (lambda: ilu(fill=0.5), "fill >= 1, got 0.0001 and 0.5"),
        (lambda: chebyshev(-1), "degree >= 0, ratio > 1"),
        (lambda: chebyshev(ratio=1.0), "ratio > 1 and upper > 0, got 3, 1.0"),
        (lambda: chebyshev(upper=0.0), "got 3, 30.0 and 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(call, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_ilu_serves_nonsymmetric_systems() -> None:
    n = 400
    A = sp.csr_array(sp.diags_array([-1.4, 2.0, -0.6], offsets=[-1, 0, 1], shape=(n, n)))
    M = ilu(1e-6, fill=20)(sparse(A))
    assert not M.tags
    x = torch.randn(n, dtype=torch.float64)
    torch.testing.assert_close(M @ torch.from_numpy(A @ x.numpy()), x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(M.T @ torch.from_numpy(A.T @ x.numpy()), x, rtol=1e-4, atol=1e-4)


def test_ilu_of_a_singular_matrix_is_named() -> None:
    with pytest.raises(NotSupported, match=r"ilu found the matrix singular .*declare its null space"):
        ilu()(sparse(np.array([[1.0, 1.0], [1.0, 1.0]]), tags=()))


def test_grounding_solves_the_singular_system_exactly() -> None:
    mask = np.ones((8, 7), dtype=bool)
    mask[:, 3] = False
    A = Diffusion(Grid((8, 7), centring="cell", boundary="neumann", mask=mask))
    assert A.nullspace.dimension == 2
    rows = pins(A.nullspace, 56)
    assert sorted(A.nullspace.labels[rows].tolist()) == [0, 1]
    b = A.nullspace.project(torch.randn(56, dtype=torch.float64)).numpy()
    x = spla.spsolve(sp.csc_array(grounded(to_scipy(A), A.nullspace)), b)
    assert np.abs(to_scipy(A) @ x - b).max() <= 1e-10 * np.abs(b).max()
    assert np.abs(x[rows]).max() <= 1e-10 * np.abs(x).max()
