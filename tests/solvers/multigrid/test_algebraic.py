"""The algebraic cycle: positive definite by construction, batched, on singular systems, in two types."""

import pickle

import numpy as np
import pyamg
import pytest
import scipy.sparse as sp
import torch
from pyamg.gallery import load_example

from solvus.meshes import Grid
from solvus.operators.linear import (
    SPD,
    Diagonal,
    Diffusion,
    NotSupported,
    ShapeMismatch,
    Span,
    Tag,
    ZeroDiagonal,
    dense,
    sparse,
    to_scipy,
)
from solvus.solvers import CG, LinearSystem, Status, Stop, solve
from solvus.solvers.krylov import GMRES
from solvus.solvers.multigrid import (
    AMG,
    AMGSettings,
    ChebyshevSmoother,
    DampedJacobi,
    L1Jacobi,
    RugeStuben,
    SmoothedAggregation,
    amg,
    choose_coarsening,
    rigid_body_modes,
)

SMOOTHERS = [ChebyshevSmoother(), ChebyshevSmoother(3, scaled=False), DampedJacobi(), L1Jacobi()]
COARSENINGS = [RugeStuben(), SmoothedAggregation(), SmoothedAggregation(strength="evolution")]


def jumping(n=15, contrast=1e4):
    """Diffusion with two materials, (n, n) nodes."""
    rng = np.random.default_rng(3)
    return Diffusion(Grid((n, n)), np.where(rng.random((n + 1, n + 1)) > 0.5, contrast, 1.0))


def matrix(name):
    return sparse(sp.csr_array(load_example(name)["A"]), tags=SPD)


def spectrum(M, A):
    """Check that M is symmetric and return the eigenvalues of M A, real for SPD M and A."""
    m, a = dense(M), dense(A)
    torch.testing.assert_close(m, m.mT, rtol=1e-9, atol=1e-11 * float(m.abs().max()))
    root = torch.linalg.cholesky(a)
    return torch.linalg.eigvalsh(root.mT @ ((m + m.mT) / 2) @ root)


@pytest.mark.parametrize("cycle", ["V", "W"])
@pytest.mark.parametrize("smoother", SMOOTHERS, ids=repr)
@pytest.mark.parametrize("coarsening", COARSENINGS, ids=lambda c: f"{type(c).__name__}")
def test_cycle_is_spd_and_contracts(coarsening, smoother, cycle):
    A = jumping()
    M = amg(AMGSettings(coarsening, smoother, cycle, max_coarse=10))(A)
    assert len(M.hierarchy.levels) >= 1
    eigenvalues = spectrum(M, A)
    assert M.positive_definite
    assert float(eigenvalues.min()) > 0
    assert float(eigenvalues.max()) <= 1 + 1e-10  # I - M A is a product of A-contractions and their adjoints


def test_the_spd_check_can_fail():
    """A restriction that is not the transpose of the interpolation must be noticed."""
    A = jumping()
    M = amg(AMGSettings(max_coarse=10))(A)
    level = M.hierarchy.levels[0]
    level.R = level.R * 1.0
    level.R.values()[:20] *= 2
    with pytest.raises(AssertionError):
        spectrum(M, A)


@pytest.mark.parametrize("n", [31, 63, 127])
def test_steps_do_not_grow_with_the_grid(n):
    A = Diffusion(Grid((n, n)))
    b = torch.randn(A.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    result = solve(LinearSystem(A, b), CG(amg()), stop=Stop(rtol=1e-8))
    assert result.steps <= 6


def test_batch_equals_loop_and_into_equals_matvec():
    M = amg(AMGSettings(max_coarse=10))(jumping())
    x = torch.randn(2, 3, M.shape[1], dtype=torch.float64)
    batched = M @ x
    looped = torch.stack([torch.stack([M @ v for v in row]) for row in x])
    torch.testing.assert_close(batched, looped, rtol=1e-12, atol=1e-14)
    out = torch.full_like(x, torch.nan)
    assert M.matvec_into(x, out) is out
    torch.testing.assert_close(out, batched, rtol=0, atol=0)
    torch.testing.assert_close(M @ x[0, 0].expand(4, -1), batched[0, 0].expand(4, -1))


def test_results_of_two_products_do_not_share_memory():
    M = amg(AMGSettings(max_coarse=10))(jumping())
    x, y = torch.randn(2, M.shape[1], dtype=torch.float64)
    first = M @ x
    kept = first.clone()
    _ = M @ y
    torch.testing.assert_close(first, kept, rtol=0, atol=0)


@pytest.mark.parametrize("cycle", ["V", "W"])
def test_float32_cycle_inside_a_float64_solve(cycle):
    A = jumping(63, 1e3)
    b = torch.ones(A.shape[0], dtype=torch.float64)
    steps = []
    for dtype in (None, torch.float32):
        result = solve(
            LinearSystem(A, b), CG(amg(AMGSettings(cycle=cycle, dtype=dtype))), stop=Stop(rtol=1e-10)
        )
        steps.append(result.steps)
    assert abs(steps[0] - steps[1]) <= 1
    M = amg(AMGSettings(dtype=torch.float32))(A)
    r = torch.randn(A.shape[0], dtype=torch.float64)
    torch.testing.assert_close((M @ (2.0**-300 * r)) * 2.0**300, M @ r, rtol=1e-5, atol=1e-12)
    assert (M @ torch.zeros_like(r)).abs().max() == 0


def test_float32_throughout():
    A = Diffusion(Grid((40, 40)), dtype=torch.float32)
    result = solve(LinearSystem(A, torch.ones(1600)), CG(amg()), stop=Stop(rtol=1e-4))
    assert result.value.dtype == torch.float32
    assert result.steps <= 7


NEUMANN = {
    "box, cells": Grid((24, 20), centring="cell", boundary="neumann"),
    "box, nodes": Grid((24, 20), boundary="neumann"),
    "periodic": Grid((16, 16), boundary="periodic"),
    "two rooms and a wall": Grid(
        (21, 15),
        centring="cell",
        boundary="neumann",
        mask=np.repeat(np.arange(21)[:, None] != 10, 15, axis=1),
    ),
    "3-D": Grid((8, 8, 8), centring="cell", boundary="neumann"),
}


@pytest.mark.parametrize("coarsening", COARSENINGS[:2], ids=lambda c: f"{type(c).__name__}")
@pytest.mark.parametrize("dtype", [None, torch.float32], ids=["float64", "float32 cycle"])
@pytest.mark.parametrize("name", NEUMANN)
def test_pure_neumann(name, dtype, coarsening):
    A = Diffusion(NEUMANN[name])
    assert A.nullspace is not None
    b = A.nullspace.project(
        torch.randn(A.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )
    M = amg(AMGSettings(coarsening, max_coarse=20, dtype=dtype))(A)
    kernel = A.nullspace.component(b + 1)
    assert float((M @ kernel).norm()) < 1e-9 * float(kernel.norm())
    assert float(A.nullspace.component(M @ b).norm()) < 1e-12 * float((M @ b).norm())
    result = solve(
        LinearSystem(A, b), CG(amg(AMGSettings(coarsening, max_coarse=20, dtype=dtype))), stop=Stop(rtol=1e-9)
    )
    assert result.steps <= 14
    if dtype is None:
        m = dense(M)
        torch.testing.assert_close(m, m.mT, rtol=1e-7, atol=1e-9 * float(m.abs().max()))
        assert float(torch.linalg.eigvalsh((m + m.mT) / 2)[A.nullspace.dimension]) > 0


def test_a_given_null_space_of_a_matrix():
    A = sp.csr_array(load_example("unit_square")["A"])  # pure Neumann, linear elements
    ones = Span(torch.ones(A.shape[0], dtype=torch.float64))
    op = sparse((A + A.T) / 2, tags=SPD, nullspace=ones)
    b = ones.project(torch.randn(A.shape[0], dtype=torch.float64))
    assert solve(LinearSystem(op, b), CG(amg(AMGSettings(max_coarse=20))), stop=Stop(rtol=1e-8)).steps <= 12


def test_a_hierarchy_of_one_level_is_the_inverse():
    A = jumping(9)
    M = amg()(A)
    assert len(M.hierarchy.table) == 1
    torch.testing.assert_close(dense(M) @ dense(A), torch.eye(81, dtype=torch.float64), rtol=0, atol=1e-9)


def test_nonsymmetric_matrix_has_the_transposed_cycle():
    A = sparse(sp.csr_array(load_example("recirc_flow")["A"]))
    for smoother in SMOOTHERS:
        for coarsening in (RugeStuben(), SmoothedAggregation()):
            M = amg(AMGSettings(coarsening, smoother, "W", max_coarse=20))(A)
            assert not M.tags & {Tag.SPD, Tag.SYMMETRIC}
            torch.testing.assert_close(dense(M.T), dense(M).mT, rtol=1e-9, atol=1e-9)
            assert M.T.T is M


def test_default_smoother_for_a_nonsymmetric_matrix():
    A = sparse(sp.csr_array(load_example("recirc_flow")["A"]))
    b = A @ torch.ones(A.shape[0], dtype=torch.float64)
    M = amg(AMGSettings(max_coarse=20))
    assert M(A).smoother == L1Jacobi(sweeps=4)
    assert solve(LinearSystem(A, b), GMRES(M, restart=50), stop=Stop(rtol=1e-8)).steps <= 40


def test_gradient_with_respect_to_the_vector():
    for A in (jumping(7), sparse(sp.csr_array(load_example("recirc_flow")["A"]))):
        M = amg(AMGSettings(RugeStuben(), max_coarse=10))(A)
        x = torch.randn(2, A.shape[0], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(M.matvec, x, fast_mode=True)


def test_setup_is_repeatable_and_leaves_the_global_generator_alone():
    A = matrix("bar")
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    build = amg(AMGSettings(SmoothedAggregation(load_example("bar")["B"], block_size=3), max_coarse=60))
    x = torch.randn(A.shape[0], dtype=torch.float64)
    first, second = build(A) @ x, build(A) @ x
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert (np.random.get_state()[1] == before).all()


def test_repr_is_the_level_table():
    A = pyamg.gallery.poisson((30, 30), format="csr")
    M = amg(AMGSettings(max_coarse=20))(sparse(A))
    peer = pyamg.ruge_stuben_solver(sp.csr_array(A), max_coarse=20)
    assert M.hierarchy.table == [(level.A.shape[0], level.A.nnz) for level in peer.levels]
    assert M.hierarchy.operator_complexity == pytest.approx(peer.operator_complexity())
    assert M.hierarchy.grid_complexity == pytest.approx(peer.grid_complexity())
    text = repr(M)
    assert "RugeStuben" in text
    assert "V cycle in torch.float64" in text
    assert f"{len(peer.levels)} levels, operator complexity {peer.operator_complexity():.3f}" in text
    assert "      0         900         4380" in text


def test_the_factory_can_be_pickled_and_solvers_are_values():
    build = pickle.loads(pickle.dumps(amg(AMGSettings(cycle="W"))))
    assert build(jumping()).settings == AMGSettings(cycle="W")
    assert AMG() == AMG()


def test_amg_alone_converges_as_its_cycle_does():
    A = Diffusion(Grid((63, 63)))
    b = torch.randn(A.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v = solve(LinearSystem(A, b), AMG(), stop=Stop(rtol=1e-8))
    w = solve(LinearSystem(A, b), AMG(AMGSettings(cycle="W")), stop=Stop(rtol=1e-8))
    assert v.status is Status.CONVERGED
    assert w.steps <= v.steps <= 10
    assert float((v.residuals[2] / v.residuals[1]).max()) < 0.15


def test_gradient_through_amg_alone():
    A = Diffusion(Grid((20, 20)))
    b = torch.ones(A.shape[0], dtype=torch.float64, requires_grad=True)
    value = solve(LinearSystem(A, b), AMG(), stop=Stop(rtol=1e-10)).value
    (grad,) = torch.autograd.grad(value.sum(), b)
    torch.testing.assert_close(grad, value.detach(), rtol=1e-8, atol=1e-12)  # A symmetric, b = 1


def test_choice_of_coarsening():
    assert isinstance(choose_coarsening(to_scipy(jumping())), RugeStuben)
    assert isinstance(choose_coarsening(sp.csr_array(load_example("bar")["A"])), SmoothedAggregation)
    assert isinstance(choose_coarsening(to_scipy(-1.0 * jumping())), SmoothedAggregation)
    assert isinstance(choose_coarsening(sp.csr_array(sp.eye_array(4))), RugeStuben)


class TestElasticity:
    A, B = pyamg.gallery.linear_elasticity((20, 20))

    @pytest.mark.parametrize("dim", [2, 3])
    def test_rigid_motions_strain_nothing(self, dim):
        points = np.random.default_rng(0).random((7, dim))
        modes = rigid_body_modes(points)
        assert np.linalg.matrix_rank(modes) == modes.shape[1] == (3 if dim == 2 else 6)
        for mode in modes.T:  # a rigid motion keeps distances to first order
            u = mode.reshape(-1, dim)
            stretch = ((u[:, None] - u[None]) * (points[:, None] - points[None])).sum(-1)
            assert abs(stretch).max() < 1e-12

    def test_same_span_as_pyamg(self):
        grid = np.stack(np.meshgrid(np.arange(1, 21), np.arange(1, 21), indexing="xy"), -1).reshape(-1, 2)
        ours = rigid_body_modes(grid)
        joint = np.hstack([ours, self.B])
        assert np.linalg.matrix_rank(joint, tol=1e-8 * np.linalg.norm(joint)) == 3

    def test_modes_cut_the_steps(self):
        A = sparse(sp.csr_array(self.A), tags=SPD)
        b = torch.ones(A.shape[0], dtype=torch.float64)
        steps = []
        for coarsening in (SmoothedAggregation(self.B, block_size=2), SmoothedAggregation()):
            solver = CG(amg(AMGSettings(coarsening, max_coarse=60)))
            steps.append(solve(LinearSystem(A, b), solver, stop=Stop(rtol=1e-8)).steps)
        assert steps[0] <= 16
        assert steps[0] < 0.6 * steps[1]


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: AMGSettings(cycle="F"), ValueError, "cycle is 'V' or 'W', got 'F'"),
        (lambda: AMGSettings(max_coarse=0), ValueError, "max_coarse counts unknowns, at least 1, got 0"),
        (
            lambda: AMGSettings(dtype=torch.float16),
            ValueError,
            "torch.float32 or torch.float64, got torch.float16",
        ),
        (lambda: RugeStuben(theta=1.0), ValueError, r"theta lies in \[0, 1\), got 1.0"),
        (lambda: SmoothedAggregation(theta=-0.1), ValueError, r"theta lies in \[0, 1\), got -0.1"),
        (lambda: SmoothedAggregation(block_size=0), ValueError, "block_size counts the unknowns per node"),
        (lambda: SmoothedAggregation(strength="x"), ValueError, "'symmetric' or 'evolution', got 'x'"),
        (
            lambda: DampedJacobi(2.0),
            ValueError,
            "damped Jacobi needs 0 < omega < 2 to be convergent, got 2.0",
        ),
        (lambda: L1Jacobi(0.0), ValueError, "l1-Jacobi needs 0 < omega < 2 to be convergent, got 0.0"),
        (lambda: L1Jacobi(sweeps=0), ValueError, "sweeps must be at least 1, got 0"),
        (lambda: ChebyshevSmoother(0), ValueError, "degree must be at least 1, got 0"),
        (lambda: ChebyshevSmoother(high=0.5), ValueError, "high >= 1 to cover the spectrum, got 0.2 and 0.5"),
        (
            lambda: rigid_body_modes(np.zeros((4, 1))),
            ShapeMismatch,
            r"shape \(4, 1\); needed: \(N, 2\) or \(N, 3\)",
        ),
        (lambda: amg()(sparse(np.ones((2, 3)))), ShapeMismatch, "square operator, this one is 2 x 3"),
        (
            lambda: amg()(sparse(np.eye(2) * 1j)),
            NotSupported,
            "for real matrices, this one is torch.complex128",
        ),
        (lambda: amg()(Diffusion(Grid((4, 4)), torch.ones(2, 5, 5))), NotSupported, "convert them singly"),
        (
            lambda: amg(AMGSettings(SmoothedAggregation(block_size=7)))(jumping()),
            ShapeMismatch,
            "block_size 7 does not divide the 225 unknowns",
        ),
        (
            lambda: amg(AMGSettings(SmoothedAggregation(np.ones((3, 1)))))(jumping()),
            ShapeMismatch,
            r"near-null space has shape \(3, 1\); it needs 225 rows",
        ),
        (
            lambda: amg(AMGSettings(SmoothedAggregation(theta=0.9)))(Diffusion(Grid((80, 80)))),
            NotSupported,
            "coarsening stalled at 6400 of 6400 unknowns, .* lower the strength threshold theta",
        ),
    ],
)
def test_errors(build, error, text):
    with pytest.raises(error, match=text):
        build()


def test_zero_on_the_diagonal_is_named():
    A = sp.lil_array(to_scipy(jumping(20)))
    A[3, 3] = 0.0
    op = sparse(sp.csr_array(A), tags=())
    for smoother in (DampedJacobi(), ChebyshevSmoother()):
        with pytest.raises(ZeroDiagonal, match=r"row 3 of 400 has a zero there: eliminate the unknown"):
            amg(AMGSettings(RugeStuben(), smoother))(op)
    empty = Diagonal(torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(200))
    with pytest.raises(ZeroDiagonal, match="row 1 of the matrix is zero"):
        L1Jacobi().bind(to_scipy(empty), torch.empty(0), symmetric=True)
