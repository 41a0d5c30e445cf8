"""Deflation where it cannot work: the smoother alone, or an error that says why; and what is kept."""

import pickle

import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.linear import CSR, SPD, SYMMETRIC, Diffusion, sparse
from solvus.operators.linear.algebra import Diagonal
from solvus.operators.linear.errors import NotSupported, ShapeMismatch
from solvus.operators.pde.fields import two_phase
from solvus.solvers import CG, LinearSystem, SolveError, Status, identity, ilu, jacobi, solve, ssor
from solvus.solvers.learned.deflation import (
    Basis,
    BasisConfig,
    CoarseSpace,
    DeflatedCG,
    DeflatedInverse,
    TrunkBasis,
    TrunkConfig,
    deflation,
)


def jumping():
    grid = Grid((12, 11))
    return Diffusion(grid, two_phase(grid, 1e3, 0))


def stiffness():
    return sparse(
        2.5 * torch.eye(60, dtype=torch.float64)
        - torch.diag(torch.ones(59, dtype=torch.float64), 1)
        - torch.diag(torch.ones(59, dtype=torch.float64), -1)
    )


def random_basis(n, k=6, seed=0):
    return Basis.of(torch.randn(n, k, generator=torch.Generator().manual_seed(seed)))


def right_side(A):
    return torch.randn(A.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def broken(n, value=float("nan")):
    basis = random_basis(n)
    basis.columns[3, 1] = value
    return basis


def indefinite():
    """Declared SPD, and is not: the first ten entries are negative."""
    entries = torch.linspace(1, 9, 81, dtype=torch.float64)
    entries[:10] *= -1
    return Diagonal(entries, SPD)


def test_a_basis_that_is_not_finite_leaves_the_smoother():
    A = jumping()
    b = right_side(A)
    for value in (float("nan"), float("inf")):
        M = deflation(broken(A.shape[0], value), ssor(1.5), form="multiplicative")(A)
        assert M.fallback == "the basis is not finite"
        assert torch.equal(M @ b, ssor(1.5)(A) @ b)
        assert "basis not used: the basis is not finite" in repr(M)
    plain = solve(LinearSystem(A, b), CG(ssor(1.5)))
    deflated = solve(LinearSystem(A, b), DeflatedCG(broken(A.shape[0]), ssor(1.5)))
    assert torch.equal(plain.value, deflated.value)


def test_a_trunk_that_is_not_finite_leaves_the_smoother():
    A = jumping()
    trunk = TrunkBasis(TrunkConfig(2, (8,), 4))
    with torch.no_grad():
        next(trunk.parameters()).fill_(float("nan"))
    assert deflation(trunk)(A).fallback == "the basis is not finite"


def test_a_coarse_matrix_that_is_not_positive_definite_leaves_the_smoother():
    A = indefinite()
    basis = Basis.of(torch.eye(81)[:, 8:12])
    M = deflation(basis, identity)(A)
    assert M.fallback == "Q^T A Q is not positive definite"
    b = right_side(A)
    assert torch.equal(M @ b, b)


def test_an_inverse_that_is_not_positive_leaves_the_smoother(monkeypatch):
    monkeypatch.setattr(CoarseSpace, "correction", lambda self, r: -1e6 * r)
    A = jumping()
    M = deflation(random_basis(A.shape[0]))(A)
    assert M.fallback == "r.Mr > 0 failed for a random r"
    b = right_side(A)
    assert torch.equal(M @ b, ssor()(A) @ b)


def symmetric_only():
    A = stiffness()
    return CSR(A.crow, A.col, A.values, A.shape, tags=SYMMETRIC)


REFUSED = {
    "an operator that is not SPD": (
        lambda: deflation(random_basis(60))(symmetric_only()),
        NotSupported,
        "deflation needs a symmetric positive definite operator, this one is tagged SYMMETRIC: .*MINRES",
    ),
    "a complex operator": (
        lambda: deflation(random_basis(3))(Diagonal(torch.ones(3, dtype=torch.complex128), SPD)),
        NotSupported,
        "deflation is for real operators, this one is torch.complex128: use a direct method",
    ),
    "in the solver": (
        lambda: solve(
            LinearSystem(symmetric_only(), torch.ones(60, dtype=torch.float64)), DeflatedCG(random_basis(60))
        ),
        NotSupported,
        "DeflatedCG needs a symmetric positive definite operator",
    ),
    "another problem": (lambda: DeflatedCG(random_basis(60)).check(3), NotSupported, "solves a LinearSystem"),
    "a smoother that is not SPD": (
        lambda: deflation(random_basis(60), ilu(1e-3))(stiffness()),
        NotSupported,
        "needs a symmetric positive definite smoother, IncompleteLU is not declared so: use ssor",
    ),
    "a smoother of another operator": (
        lambda: deflation(random_basis(60), lambda A: jacobi(jumping()))(stiffness()),
        ShapeMismatch,
        r"the smoother is \(132, 132\), the operator \(60, 60\): build it from the same A",
    ),
    "a basis of another grid": (
        lambda: deflation(random_basis(64))(stiffness()),
        ShapeMismatch,
        "the basis has 64 unknowns, the operator 60: .* only a TrunkBasis serves every grid",
    ),
    "a trunk without a grid": (
        lambda: deflation(TrunkBasis(TrunkConfig(1, (8,), 4)))(stiffness()),
        NotSupported,
        r"a trunk is evaluated at the points of a grid, which CSR does not know: pass trunk.on\(grid\)",
    ),
    "another form": (
        lambda: deflation(random_basis(60), form="sum"),
        ValueError,
        "'sum' is not a valid Form",
    ),
    "more columns than unknowns": (
        lambda: BasisConfig(3, 4),
        ValueError,
        "0 to n columns on n >= 1 unknowns, got 4",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_say_why(what):
    call, kind, words = REFUSED[what]
    with pytest.raises(kind, match=words):
        call()


def test_breakdowns_of_deflated_cg():
    b = torch.ones(81, dtype=torch.float64)
    with pytest.raises(SolveError, match=r"p\.Ap = .* A is not positive definite") as caught:
        solve(LinearSystem(indefinite(), b), DeflatedCG(Basis.of(torch.eye(81)[:, 20:22])))
    assert caught.value.result.status is Status.BREAKDOWN
    A = Diffusion(Grid((9, 9)))

    def negative(A):
        return Diagonal(torch.linspace(-1, 1, 81, dtype=torch.float64) ** 3 + 0.3, SPD)

    with pytest.raises(SolveError, match=r"r\.Mr = .* the preconditioner is not positive definite"):
        solve(LinearSystem(A, right_side(A)), DeflatedCG(random_basis(81), negative))


def test_settings_can_be_pickled_and_the_set_up_is_kept():
    A = jumping()
    b = right_side(A)
    for method in (CG(deflation(random_basis(A.shape[0]))), DeflatedCG(random_basis(A.shape[0]), ssor())):
        again = pickle.loads(pickle.dumps(method))
        assert torch.equal(solve(LinearSystem(A, b), again).value, solve(LinearSystem(A, b), method).value)
    kept = DeflatedCG(random_basis(A.shape[0])).keeping()
    assert kept.basis.on(A) is kept.basis.on(A)
    assert kept.keeping().basis is kept.basis


def test_repr_names_form_columns_and_smoother():
    A = jumping()
    assert repr(deflation(random_basis(A.shape[0]))(A)) == "DeflatedInverse(additive, 6 columns, SSORInverse)"
    assert isinstance(deflation(random_basis(A.shape[0]))(A), DeflatedInverse)
