"""Deflation: SPD whatever the basis is, the smoother alone where it is not usable, CG on what is left."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.meshes import Grid
from solvus.operators.linear import SPD, Diffusion, dense, sparse, to_scipy, to_scipy_operator
from solvus.operators.linear.algebra import Diagonal
from solvus.operators.pde.fields import two_phase
from solvus.solvers import (
    CG,
    LinearSystem,
    Stop,
    chebyshev,
    ic0,
    identity,
    jacobi,
    solve,
    ssor,
)
from solvus.solvers.learned.deflation import (
    Basis,
    CoarseSpace,
    DeflatedCG,
    Form,
    deflation,
)
from solvus.solvers.learned.deflation.preconditioner import damping
from solvus.solvers.preconditioners import from_factory

DISC = np.add.outer((np.arange(12) - 5.5) ** 2, (np.arange(12) - 5.5) ** 2) > 9


def jumping(shape=(12, 11), contrast=1e3, seed=0, **options):
    grid = Grid(shape, **options)
    return Diffusion(grid, two_phase(grid, contrast, seed))


def stiffness():
    """A sparse SPD matrix without a grid, three Dirichlet rows in it."""
    line = sp.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(60, 60)).tolil()
    for row in (0, 20, 59):
        line[row, :], line[:, row] = 0.0, 0.0
        line[row, row] = 1.0
    return sparse(sp.csr_array(line))


OPERATORS = {
    "nodes": jumping,
    "cells": lambda: jumping((12, 12), centring="cell"),
    "mask": lambda: jumping((12, 12), centring="cell", mask=DISC),
    "neumann": lambda: jumping((12, 12), centring="cell", boundary="neumann"),
    "three axes": lambda: jumping((5, 6, 4)),
    "reaction": lambda: Diffusion(Grid((70,)), reaction=3.0),
    "csr": stiffness,
    "sum": lambda: Diffusion(Grid((9, 9))) + Diagonal(torch.linspace(1, 9, 81, dtype=torch.float64), SPD),
}
SMOOTHERS = {"ssor": ssor(1.4), "jacobi": jacobi, "identity": identity, "chebyshev": chebyshev(2)}


def random_basis(n, k=6, seed=0):
    return Basis.of(torch.randn(n, k, generator=torch.Generator().manual_seed(seed)))


def right_side(A, seed=0):
    generator = torch.Generator().manual_seed(seed)
    b = torch.randn(*A.batch_shape, A.shape[0], dtype=torch.float64, generator=generator).to(A.dtype)
    return b if A.nullspace is None else A.nullspace.project(b)


def complement(A):
    """Orthonormal basis of the complement of the null space."""
    eye = torch.eye(A.shape[0], dtype=A.dtype)
    if A.nullspace is None:
        return eye
    values, vectors = torch.linalg.eigh(A.nullspace.project(eye))
    return vectors[:, values > 0.5]


def check_spd(M, A):
    """Symmetric to 1e-12 of the largest entry, v.M v > 0 for every v off the null space."""
    full = dense(M)
    assert float((full - full.mT).abs().max()) < 1e-12 * float(full.abs().max()), "not symmetric"
    Z = complement(A)
    inner = Z.mT @ full @ Z
    assert float(torch.linalg.eigvalsh((inner + inner.mT) / 2).min()) > 0, "not positive definite"


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("smoother", SMOOTHERS)
@pytest.mark.parametrize("name", OPERATORS)
def test_symmetric_and_positive_definite(name, smoother, form):
    A = OPERATORS[name]()
    M = deflation(random_basis(A.shape[0]), SMOOTHERS[smoother], form=form)(A)
    assert M.fallback is None
    check_spd(M, A)


class Unsmoothed:
    """Wrong: the smoother before the coarse solve only, so M is not symmetric."""

    def __init__(self, M):
        self.M = M
        self.shape, self.dtype, self.device, self.batch_shape = M.shape, M.dtype, M.device, M.batch_shape

    def matvec(self, x):
        z = self.M.smoother.matvec(x)
        return z + self.M.space.correction(x - self.M.A.matvec(z))


@pytest.mark.parametrize("wrong", ["nonsymmetric", "undamped"])
def test_the_check_can_fail(wrong):
    A = jumping()
    M = deflation(random_basis(A.shape[0]), jacobi, form="multiplicative")(A)
    check_spd(M, A)
    if wrong == "undamped":
        M.damping = 1.2  # Gershgorin: eigenvalues of D^-1 A up to 2, so 1.2 of it diverges
        with pytest.raises(AssertionError, match="not positive definite"):
            check_spd(M, A)
    else:
        with pytest.raises(AssertionError, match="not symmetric"):
            check_spd(Unsmoothed(M), A)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    columns=st.integers(0, 20),
    exponent=st.floats(0, 4),
    shape=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    form=st.sampled_from(list(Form)),
    omega=st.floats(0.2, 1.8),
)
def test_spd_for_random_operators_and_bases(seed, columns, exponent, shape, form, omega):
    A = jumping(shape, 10**exponent, seed)
    basis = random_basis(A.shape[0], min(columns, A.shape[0]), seed)
    check_spd(deflation(basis, ssor(omega), form=form)(A), A)


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 1000))
def test_the_scale_of_the_operator_divides_the_inverse(scale, seed):
    grid = Grid((7, 8))
    k, b = two_phase(grid, 100.0, seed), torch.ones(56, dtype=torch.float64)
    make = deflation(random_basis(56, seed=seed), form="multiplicative")
    one, other = make(Diffusion(grid, k)) @ b, make(Diffusion(grid, scale * k)) @ b
    torch.testing.assert_close(other * scale, one, rtol=1e-9, atol=0)


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("smoother", SMOOTHERS)
def test_without_columns_it_is_the_smoother(form, smoother):
    A = jumping()
    b = right_side(A)
    M = deflation(random_basis(A.shape[0], 0), SMOOTHERS[smoother], form=form)(A)
    assert torch.equal(M @ b, SMOOTHERS[smoother](A) @ b)
    assert M.fallback is None


def test_the_additive_form_is_the_sum():
    A = jumping()
    basis, b = random_basis(A.shape[0]), right_side(A)
    Q, dense_A = basis.columns, dense(A)
    C = Q @ torch.linalg.inv(Q.mT @ dense_A @ Q) @ Q.mT
    torch.testing.assert_close(deflation(basis, ssor(1.2))(A) @ b, ssor(1.2)(A) @ b + C @ b)


def test_the_multiplicative_form_is_its_error_propagation():
    A = jumping()
    basis = random_basis(A.shape[0])
    M = deflation(basis, jacobi, form="multiplicative")(A)
    Q, full, eye = basis.columns, dense(A), torch.eye(A.shape[0], dtype=A.dtype)
    S = dense(jacobi(A)) * M.damping
    C = Q @ torch.linalg.inv(Q.mT @ full @ Q) @ Q.mT
    E = (eye - S @ full) @ (eye - C @ full) @ (eye - S @ full)
    torch.testing.assert_close(eye - dense(M) @ full, E, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("smoother", [*SMOOTHERS, "ic0"])
def test_damping_makes_the_smoother_converge(smoother):
    A = jumping((20, 20), 1e4)
    S = {**SMOOTHERS, "ic0": ic0()}[smoother](A)
    eigenvalues = torch.linalg.eigvals(dense(S) @ dense(A)).real
    w = float(torch.as_tensor(damping(A, S)))
    assert 0 < w <= 1
    assert w * float(eigenvalues.max()) < 1.5


def test_a_batch_is_a_loop():
    grid = Grid((12, 11))
    k = np.stack([two_phase(grid, c, s) for s, c in enumerate((10.0, 1e3, 1e4))])
    A, basis = Diffusion(grid, k), random_basis(132)
    for make in (deflation(basis), deflation(basis, jacobi, form="multiplicative")):
        M, b = make(A), right_side(A)
        other = ssor(order="multicolour")
        for i in range(3):
            alone = Diffusion(grid, k[i])
            smooth = deflation(basis, other) if make.keywords["form"] is Form.ADDITIVE else make
            torch.testing.assert_close((M @ b)[i], smooth(alone) @ b[i], rtol=1e-9, atol=1e-12)


def test_a_batch_in_deflated_cg_is_a_loop():
    grid = Grid((12, 11))
    k = np.stack([two_phase(grid, c, s) for s, c in enumerate((10.0, 1e3, 1e4))])
    A, method = Diffusion(grid, k), DeflatedCG(random_basis(132), jacobi)
    b, stop = right_side(A), Stop(rtol=1e-8)
    together = solve(LinearSystem(A, b), method, stop=stop)
    for i in range(3):
        alone = solve(LinearSystem(Diffusion(grid, k[i]), b[i]), method, stop=stop)
        assert int(together.sample_steps[i]) == alone.steps
        torch.testing.assert_close(together.value[i], alone.value, rtol=1e-6, atol=1e-9)


def test_float32():
    grid = Grid((15, 15))
    A = Diffusion(grid, two_phase(grid, 100.0, 0), dtype=torch.float32)
    M = deflation(random_basis(225), form="multiplicative")(A)
    assert M.dtype is torch.float32
    b = right_side(A)
    for method in (CG(deflation(random_basis(225))), DeflatedCG(random_basis(225), ssor())):
        assert solve(LinearSystem(A, b), method, stop=Stop(rtol=1e-5)).value.dtype is torch.float32


def test_several_right_sides_of_one_operator():
    A = jumping()
    M, x = deflation(random_basis(A.shape[0]))(A), torch.randn(2, 3, A.shape[0], dtype=torch.float64)
    torch.testing.assert_close(M.matvec(x)[1, 2], M.matvec(x[1, 2]))
    method = DeflatedCG(random_basis(A.shape[0]), ssor(1.5))
    assert solve(LinearSystem(A, x), method).converged.all()


def test_scipy_takes_it():
    A = jumping((24, 24))
    matrix, b = to_scipy(A), right_side(A).numpy()
    M = to_scipy_operator(deflation(low_modes(A, 10), ssor(1.5))(A))
    counts = {}
    for name, preconditioner in (("none", None), ("deflation", M)):
        steps = []
        x, info = spla.cg(
            matrix, b, rtol=1e-8, atol=0.0, M=preconditioner, callback=lambda _, s=steps: s.append(1)
        )
        assert info == 0
        assert np.linalg.norm(b - matrix @ x) < 1e-7 * np.linalg.norm(b)
        counts[name] = len(steps)
    assert counts["deflation"] < counts["none"] / 4


def test_the_build_for_petsc_takes_it():
    A = jumping()
    make, b = deflation(random_basis(A.shape[0])), right_side(A)
    apply = from_factory(make)(sp.csr_matrix(to_scipy(A)))
    np.testing.assert_allclose(apply(b.numpy()), (make(A) @ b).numpy(), rtol=1e-10, atol=1e-14)


def test_gradients_flow_through_both():
    grid = Grid((3, 4))
    b = torch.ones(12, dtype=torch.float64)
    for method in (CG(deflation(random_basis(12, 3))), DeflatedCG(random_basis(12, 3), ssor())):

        def value(k, method=method):
            return solve(LinearSystem(Diffusion(grid, k), b), method, stop=Stop(rtol=1e-12)).value.sum()

        k = torch.as_tensor(two_phase(grid, 10.0, 0)).requires_grad_()
        assert torch.autograd.gradcheck(value, (k,), eps=1e-5, atol=1e-5)


def low_modes(A, k):
    return Basis.of(torch.linalg.eigh(dense(A))[1][:, :k])


@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_deflated_cg_is_cg_on_the_rest_of_the_spectrum(k):
    """With exact eigenvectors, the steps are those of CG on a diagonal matrix of what is left."""
    A = jumping((12, 12), 10.0)
    values, vectors = torch.linalg.eigh(dense(A))
    b = right_side(A)
    rest = LinearSystem(Diagonal(values[k:].contiguous(), SPD), (vectors.mT @ b)[k:].contiguous())
    stop = Stop(rtol=0.0, atol=1e-8 * float(b.norm()))
    steps = solve(LinearSystem(A, b), DeflatedCG(Basis.of(vectors[:, :k])), stop=stop).steps
    assert abs(steps - solve(rest, CG(), stop=stop).steps) <= 1
    # the bound of the A-norm, ||r|| <= sqrt(lambda_n) ||e||_A, ||e_0||_A <= ||r_0|| / sqrt(lambda_k+1)
    kappa = float(values[-1] / values[k])
    rate = (kappa**0.5 - 1) / (kappa**0.5 + 1)
    assert steps <= np.ceil(np.log(1e-8 / (2 * kappa**0.5)) / np.log(rate))


@pytest.mark.parametrize("form", Form)
def test_more_low_modes_take_fewer_steps(form):
    A = Diffusion(Grid((24, 24)))
    system, stop = LinearSystem(A, right_side(A)), Stop(rtol=1e-8)
    steps = [solve(system, CG(deflation(low_modes(A, k), form=form)), stop=stop).steps for k in (0, 5, 40)]
    assert steps[0] > 1.3 * steps[1] > 1.3 * 1.3 * steps[2]


def test_deflated_cg_without_columns_is_cg():
    A = jumping()
    system = LinearSystem(A, right_side(A))
    for preconditioner in (identity, ssor(1.5)):
        one, other = (
            solve(system, method(preconditioner), stop=Stop(rtol=1e-10))
            for method in (CG, lambda p: DeflatedCG(random_basis(A.shape[0], 0), p))
        )
        assert one.steps == other.steps
        assert torch.equal(one.value, other.value)


def test_directions_stay_conjugate_to_the_basis():
    A = jumping((16, 16), 1e4)
    basis, seen = random_basis(A.shape[0]), []
    system = LinearSystem(A, right_side(A))
    largest = lambda x: float((basis.columns.mT @ system.residual(x)).abs().max())  # noqa: E731
    solve(
        system,
        DeflatedCG(basis, ssor(1.5)),
        callback=lambda _step, x, _norm: seen.append(largest(x)),  # returns None
    )
    assert len(seen) > 10
    assert max(seen) < 1e-9 * float(system.b.norm())


def test_rounding_errors_do_not_stay_in_the_space():
    """Smooth columns at high contrast raise the residual tenfold before it falls; it falls all the same."""
    A, x = jumping((24, 24), 1e5), torch.arange(1, 25, dtype=torch.float64) / 25
    lines = [torch.sin(j * torch.pi * x) for j in range(1, 5)]
    smooth = Basis.of(torch.stack([torch.outer(u, v).flatten() for u in lines for v in lines], 1))
    system, stop = LinearSystem(A, torch.ones(576, dtype=torch.float64)), Stop(rtol=1e-9)
    plain = solve(system, CG(ssor(1.5)), stop=stop, throw=False)
    norms = []
    result = solve(
        system,
        DeflatedCG(smooth, ssor(1.5)),
        stop=stop,
        callback=lambda _step, _x, norm: norms.append(float(norm)),
    )
    assert max(norms) > 10 * float(system.b.norm())
    assert result.steps < plain.steps


def test_a_basis_that_holds_the_solution_needs_no_step():
    A = jumping()
    x = right_side(A, 5)
    result = solve(LinearSystem(A, A @ x), DeflatedCG(Basis.of(x[:, None])))
    assert result.steps == 0
    torch.testing.assert_close(result.value, x)


def test_null_space_and_dirichlet_rows_leave_the_basis():
    A = OPERATORS["neumann"]()
    ones = torch.ones(A.shape[0], 1, dtype=torch.float64)
    space = CoarseSpace(A, Basis.of(torch.cat([ones, random_basis(A.shape[0], 3).columns], 1)))
    assert space.size == 3
    assert float((ones.mT @ space.Q).abs().max()) < 1e-12
    A = stiffness()
    space = CoarseSpace(A, random_basis(60))
    assert space.Q[[0, 20, 59]].abs().max() == 0
    assert space.size == 6
    masked = OPERATORS["mask"]()
    space = CoarseSpace(masked, random_basis(144))
    assert space.Q[torch.as_tensor(~DISC).flatten()].abs().max() == 0
    identity_k = torch.eye(space.size, dtype=torch.float64)
    torch.testing.assert_close(space.Q.mT @ space.Q, identity_k)
