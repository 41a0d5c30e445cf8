"""Sparse inverses, learned and factored: SPD whatever the network says, free of scale, never wrong."""

import re

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.meshes import Grid
from solvus.operators.linear import CSR, SPD, Constants, Diffusion, dense, sparse, to_scipy, to_scipy_operator
from solvus.operators.linear.algebra import Identity
from solvus.operators.linear.errors import NotSupported, ZeroDiagonal
from solvus.operators.linear.queries import diagonal
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.learned import shipped
from solvus.solvers.learned.sparse_inverse import (
    FactoredSparseInverse,
    Pattern,
    SparseInverse,
    SparseInverseConfig,
    SparseInverseNetwork,
    factored_sparse_inverse,
    matrix_graph,
    sparse_inverse,
)
from solvus.solvers.learned.sparse_inverse.factored import as_csr
from solvus.solvers.learned.sparse_inverse.systems import renumbered
from solvus.solvers.preconditioners import ic0, jacobi

WIDE = torch.float64
PATTERNS = list(Pattern)


def network(pattern="full", seed=0, size=0.5, **options):
    """A network with random weights, head included."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = SparseInverseNetwork(
            SparseInverseConfig(pattern=pattern, **{"width": 6, "layers": 2, **options})
        )
        torch.nn.init.normal_(net.head.weight, std=size)
        torch.nn.init.normal_(net.head.bias, std=size)
    return net


def spread(n=60, seed=0, contrast=2.0, dtype=None):
    """A weighted graph Laplacian on random points plus a small diagonal, rows of different size."""
    rng = np.random.default_rng(seed)
    points = rng.random((n, 2))
    distance = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    near = np.argsort(distance, axis=1)[:, 1:5]
    W = np.zeros((n, n))
    W[np.repeat(np.arange(n), 4), near.ravel()] = np.exp(contrast * rng.standard_normal(4 * n))
    W = W + W.T
    A = np.diag(W.sum(axis=1) + 0.01 * rng.random(n)) - W
    return sparse(sp.csr_array((A + A.T) / 2), tags=SPD, dtype=dtype)


def positive(n=60, seed=0):
    """A matrix B B^T + shift, with couplings of both signs."""
    B = sp.random_array((n, n), density=3 / n, rng=np.random.default_rng(seed)) - sp.eye_array(n)
    return sparse(sp.csr_array(B @ B.T + 0.05 * sp.eye_array(n)), tags=SPD)


MATRICES = {
    "spread": spread,
    "both signs": positive,
    "grid": lambda: sparse(to_scipy(Diffusion(Grid((8, 7))))),
    "diagonal": lambda: sparse(sp.csr_array(sp.diags_array([1.0, 2.0, 3.0])), tags=SPD),
}


@pytest.fixture(params=MATRICES)
def A(request):
    return MATRICES[request.param]()


def right_side(A, seed=0):
    return torch.randn(A.shape[0], dtype=WIDE, generator=torch.Generator().manual_seed(seed)).to(A.dtype)


def check_spd(M):
    """Symmetric to 1e-12 of the largest entry, and positive definite beyond rounding, scaled."""
    values = dense(M)
    assert (values - values.T).abs().max() <= 1e-12 * values.abs().max()
    assert bool((values.diagonal() > 0).all())
    s = values.diagonal().rsqrt()
    scaled = s[:, None] * values * s
    assert float(torch.linalg.eigvalsh((scaled + scaled.T) / 2).min()) > 1e-9


@pytest.mark.parametrize("pattern", PATTERNS)
def test_spd_whatever_the_network_says(A, pattern):
    check_spd(SparseInverse(A, network(pattern, size=3.0)))


@pytest.mark.parametrize("pattern", ["lower", "lower-squared"])
def test_the_factored_inverse_is_spd(A, pattern):
    check_spd(FactoredSparseInverse(A, pattern))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([0.1, 1.0, 10.0, 1e4]),
    pattern=st.sampled_from(PATTERNS),
    contrast=st.floats(0, 6),
)
def test_spd_for_random_matrices_and_random_networks(seed, size, pattern, contrast):
    M = SparseInverse(spread(25, seed, contrast), network(pattern, seed, size))
    assert M.fallback is None
    check_spd(M)


def singular_factor(M):
    """L = D^-1/2 (S - t Id), S the scaled matrix, t its largest eigenvalue: what eps is for."""
    graph = matrix_graph(spread(), "full")
    S = torch.zeros(M.shape, dtype=WIDE)
    S[graph.rows, graph.cols] = graph.entries
    S -= torch.linalg.eigvalsh(S).max() * torch.eye(M.shape[0])
    M.L.values.copy_(S[graph.rows, graph.cols] * graph.scale[graph.rows])
    M.L._transposed = None
    M._LT = M.L.transpose()


def without_eps(M):
    singular_factor(M)
    M.weight = 0 * M.weight


def indefinite(M):
    singular_factor(M)
    M.weight = -M.weight


def nonsymmetric(M):
    M._LT = sparse(to_scipy(M._LT) @ sp.diags_array(np.linspace(1.0, 2.0, M.shape[0])))


@pytest.mark.parametrize("spoil", [without_eps, indefinite, nonsymmetric])
def test_the_check_of_spd_can_fail(spoil):
    M = SparseInverse(spread(), network())
    check_spd(M)
    spoil(M)
    with pytest.raises(AssertionError):
        check_spd(M)


def test_a_singular_factor_is_made_definite_by_eps():
    M = SparseInverse(spread(), network())
    singular_factor(M)
    check_spd(M)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_untrained_network_is_jacobi(A, pattern):
    M = SparseInverse(A, SparseInverseNetwork(SparseInverseConfig(pattern=pattern)))
    torch.testing.assert_close(M @ right_side(A), (1 + 3e-3) * (jacobi(A) @ right_side(A)))
    torch.testing.assert_close(dense(M), (1 + 3e-3) * torch.diag(1 / diagonal(A)))


@pytest.mark.parametrize("pattern", ["lower", "lower-squared"])
def test_a_network_may_start_from_the_factored_inverse(A, pattern):
    """In reversed order, and without eps, an untrained network gives the classical inverse."""
    order = np.arange(A.shape[0])[::-1].copy()
    classical = dense(FactoredSparseInverse(renumbered(A, order), pattern))[order][:, order]
    net = SparseInverseNetwork(SparseInverseConfig(pattern=pattern, start="factored")).double()
    eps = net.config.eps * torch.diag(1 / diagonal(A))
    torch.testing.assert_close(dense(SparseInverse(A, net)), classical + eps)
    check_spd(SparseInverse(A, network(pattern, start="factored")))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_operator_is_the_formula(pattern):
    A, net = spread(), network(pattern)
    graph = matrix_graph(A, pattern)
    L = torch.zeros(A.shape, dtype=WIDE)
    L[graph.rows[graph.kept], graph.cols[graph.kept]] = net(graph).detach().double()
    s = diagonal(A).rsqrt()
    whole = s[:, None] * (L @ L.T + net.config.eps * torch.eye(A.shape[0])) * s
    M = SparseInverse(A, net)
    torch.testing.assert_close(dense(M), whole)
    allowed = dense(A) != 0 if pattern != "lower-squared" else dense(A).abs() @ dense(A).abs() != 0
    assert torch.equal(L != 0, allowed if pattern == "full" else allowed.tril())
    assert M.T is M


def test_renumbering_the_unknowns_renumbers_the_inverse():
    A = spread()
    order = np.random.default_rng(1).permutation(A.shape[0])
    net = network().double()
    M, N = SparseInverse(A, net), SparseInverse(renumbered(A, order), net)
    torch.testing.assert_close(dense(N), dense(M)[order][:, order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("pattern", ["lower", "lower-squared"])
def test_triangular_patterns_see_the_order(pattern):
    """A renumbering that turns a lower pattern into an upper one changes M: this is not hidden."""
    A, net = spread(), network(pattern).double()
    order = np.arange(A.shape[0])[::-1].copy()
    M, N = SparseInverse(A, net), SparseInverse(renumbered(A, order), net)
    assert not torch.allclose(dense(N), dense(M)[order][:, order], rtol=1e-2)


@settings(max_examples=25, deadline=None)
@given(exponent=st.floats(-8, 8), pattern=st.sampled_from(PATTERNS), seed=st.integers(0, 1000))
def test_the_scale_of_the_matrix_goes_through(exponent, pattern, seed):
    A, net, s = spread(20, seed), network(pattern, seed).double(), 10.0**exponent
    big = sparse(s * to_scipy(A), tags=SPD)
    for build in (sparse_inverse(net), factored_sparse_inverse()):
        torch.testing.assert_close(s * dense(build(big)), dense(build(A)), rtol=1e-7, atol=1e-12)


def test_rows_may_be_scaled():
    """M(S A S) = S^-1 M(A) S^-1."""
    A, net = spread(), network().double()
    s = 10 ** np.random.default_rng(0).uniform(-3, 3, A.shape[0])
    scaled = sp.csr_array(sp.diags_array(s) @ to_scipy(A) @ sp.diags_array(s))
    B = sparse((scaled + scaled.T) / 2, tags=SPD)
    S = torch.as_tensor(s)
    torch.testing.assert_close(S[:, None] * dense(SparseInverse(B, net)) * S, dense(SparseInverse(A, net)))


@pytest.mark.parametrize("build", [sparse_inverse(network()), factored_sparse_inverse()])
def test_cg_finds_the_solution_of_scipy(A, build):
    b = right_side(A)
    result = solve(LinearSystem(A, b), CG(build), stop=Stop(rtol=1e-11))
    exact = spla.spsolve(sp.csc_array(to_scipy(A)), b.numpy())
    np.testing.assert_allclose(result.value, exact, rtol=1e-6, atol=1e-9 * np.abs(exact).max())


@pytest.mark.parametrize("build", [sparse_inverse(network(size=0.05)), factored_sparse_inverse()])
def test_as_the_preconditioner_of_scipy(build):
    A = spread(200)
    b = right_side(A).numpy()
    x, info = spla.cg(to_scipy(A), b, M=to_scipy_operator(build(A)), rtol=1e-10, atol=0.0)
    assert info == 0
    assert np.linalg.norm(b - to_scipy(A) @ x) <= 1e-9 * np.linalg.norm(b)


@pytest.mark.parametrize("build", [sparse_inverse(network()), factored_sparse_inverse()])
def test_several_vectors_at_once_and_single_precision(build):
    A = spread(dtype=torch.float32)
    M = build(A)
    x = torch.randn(2, 3, A.shape[0], generator=torch.Generator().manual_seed(0))
    y = M @ x
    assert y.dtype is torch.float32
    torch.testing.assert_close(y[1, 2], M @ x[1, 2])
    wide = build(A.to(dtype=WIDE)) @ x.double()
    torch.testing.assert_close(y.double(), wide, rtol=1e-4, atol=1e-4 * float(wide.abs().max()))


def test_any_operator_with_a_matrix_and_a_null_space():
    A = Diffusion(Grid((12, 12), centring="cell", boundary="neumann"))
    b = A.nullspace.project(right_side(A))
    for build in (sparse_inverse(network()), factored_sparse_inverse()):
        result = solve(LinearSystem(A, b), CG(build), stop=Stop(rtol=1e-9))
        assert float((b - A @ result.value).norm()) <= 1.01e-9 * float(b.norm())
    assert isinstance(A.nullspace, Constants)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_entries_that_are_not_finite_leave_jacobi(value):
    A, net = spread(), network()
    with torch.no_grad():
        net.lift_edge.weight[0, 0] = value
    M = SparseInverse(A, net)
    assert M.fallback == "the network wrote entries that are not finite"
    assert repr(M) == f"SparseInverse(n 60, network not used: {M.fallback})"
    assert torch.equal(M @ right_side(A), diagonal(A).rsqrt().square() * right_side(A))
    result = solve(LinearSystem(A, right_side(A)), CG(sparse_inverse(net)), stop=Stop(rtol=1e-8))
    assert result.status.name == "CONVERGED"


def test_an_inverse_that_fails_the_probe_is_not_used(monkeypatch):
    monkeypatch.setattr(SparseInverse, "_positive", lambda self: False)
    A = spread()
    M = SparseInverse(A, network())
    assert M.fallback == "r.Mr > 0 failed for a random r"
    torch.testing.assert_close(M @ right_side(A), jacobi(A) @ right_side(A))


def test_the_probe_sees_an_indefinite_inverse():
    M = SparseInverse(spread(), network())
    assert M._positive()
    M.weight = -1e6 * M.weight
    assert not M._positive()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.3, 3.0, 1e4, float("inf"), float("nan")]))
def test_broken_networks_never_give_a_wrong_answer(seed, size):
    A, net = spread(25, seed), network(seed=seed)
    with torch.no_grad():
        net.head.weight.mul_(size)
    b = right_side(A, seed)
    result = solve(LinearSystem(A, b), CG(sparse_inverse(net)), stop=Stop(rtol=1e-9), throw=False)
    if result.status.name == "CONVERGED":
        assert float((b - A @ result.value).norm()) <= 1.01e-9 * float(b.norm())
    else:
        assert float(result.relative_residual) > 1e-9


def test_the_factored_inverse_is_that_of_the_definition():
    A = spread(30)
    C, pattern = torch.linalg.cholesky(dense(A)), dense(A).tril() != 0
    best = torch.zeros_like(C)
    for i in range(A.shape[0]):  # row i minimises ||e_i - g C|| over the pattern
        J = pattern[i].nonzero().squeeze(1)
        best[i, J] = torch.linalg.lstsq(C[J].T, torch.eye(A.shape[0], dtype=WIDE)[i]).solution
    G = dense(FactoredSparseInverse(A).G)
    best = best / (best @ dense(A) @ best.T).diagonal().sqrt()[:, None]
    torch.testing.assert_close(G, best)
    torch.testing.assert_close((G @ dense(A) @ G.T).diagonal(), torch.ones(30, dtype=WIDE))


def test_the_factored_inverse_of_a_full_pattern_is_exact():
    A = sparse(dense(positive(12)).numpy() + 0.1, tags=SPD)
    torch.testing.assert_close(dense(FactoredSparseInverse(A)), torch.linalg.inv(dense(A)))


def test_steps_of_classical_methods_lie_in_order():
    A = sparse(to_scipy(Diffusion(Grid((31, 31)))))
    system = LinearSystem(A, right_side(A))
    builds = (jacobi, factored_sparse_inverse(), factored_sparse_inverse("lower-squared"), ic0())
    counts = [solve(system, CG(build), stop=Stop(rtol=1e-8)).steps for build in builds]
    assert counts[0] > counts[1] > counts[2]
    assert counts[1] > counts[3]


def test_messages():
    batch = Diffusion(Grid((5, 5)), torch.ones(2, 6, 6, dtype=WIDE))
    for build in (sparse_inverse(network()), factored_sparse_inverse()):
        with pytest.raises(NotSupported, match=r"one matrix, this operator is a batch of \(2,\): loop over"):
            build(batch)
        with pytest.raises(NotSupported, match="not declared symmetric: declare"):
            build(sparse(np.array([[2.0, 1.0], [0.0, 2.0]])))
        with pytest.raises(NotSupported, match="positive diagonal, this operator has a negative entry"):
            build(sparse(np.diag([1.0, -1.0])))
        with pytest.raises(ZeroDiagonal, match="row 1 has a zero diagonal"):
            build(sparse(np.array([[1.0, 1.0], [1.0, 0.0]])))
    with pytest.raises(NotSupported, match="not positive definite at row 1: the matrix is indefinite"):
        factored_sparse_inverse()(sparse(np.array([[1.0, 2.0], [2.0, 1.0]])))
    with pytest.raises(ValueError, match="G is triangular: choose the pattern 'lower'"):
        factored_sparse_inverse("full")
    with pytest.raises(ValueError, match="width >= 1 and layers >= 0, got 0 and 4"):
        SparseInverseConfig(width=0)
    with pytest.raises(ValueError, match="0 < eps < 1, which makes M positive definite"):
        SparseInverseConfig(eps=0.0)
    with pytest.raises(ValueError, match="triangular: start from 'identity', or choose 'lower'"):
        SparseInverseConfig(pattern="full", start="factored")
    with pytest.raises(ValueError, match="upper"):
        SparseInverseConfig(pattern="upper")


def test_operators_without_entries_are_refused():
    hidden = SparseInverse(spread(), network())
    with pytest.raises(NotSupported, match="SparseInverse is matrix-free without a known sparsity"):
        as_csr(hidden)
    assert as_csr(Identity(4, WIDE)).nnz == 4


def test_save_and_load(tmp_path):
    A, net = spread(), network("lower", eps=1e-2)
    net.save(tmp_path / "part")
    again = sparse_inverse(tmp_path / "part")(A)
    assert torch.equal(again @ right_side(A), SparseInverse(A, net) @ right_side(A))


def test_shipped_weights_halve_the_steps_of_jacobi():
    A = spread(400, contrast=1.0)
    assert isinstance(A, CSR)
    system = LinearSystem(A, right_side(A))
    counts = [
        solve(system, CG(M), stop=Stop(rtol=1e-8)).steps
        for M in (jacobi, sparse_inverse(shipped("sparse-inverse")))
    ]
    assert counts[1] < 0.6 * counts[0]


def test_examples_of_the_page_run(root):
    text = (root / "docs" / "sparse-inverse.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    shown = [line.split("  # ")[1] for b in blocks for line in b.splitlines() if line.startswith("print(")]
    said = []
    namespace = {"print": lambda *words: said.append(" ".join(map(str, words)))}
    for block in blocks:
        exec(block, namespace)
    assert said == shown
