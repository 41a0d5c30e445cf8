import builtins
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pypardiso
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch

from solvus.meshes.grid import Grid
from solvus.operators.linear import (
    SPD,
    Constants,
    Diffusion,
    NotSupported,
    Span,
    Tag,
    dense,
    sparse,
    to_scipy,
)
from solvus.solvers import CG, LinearSystem, Status, Stop, solve
from solvus.solvers.direct import CuDSS, Dense, Direct, Pardiso, SingularMatrix, SuperLU, cudss

METHODS = [SuperLU(), Pardiso(), Dense()]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)


def grid(dtype: torch.dtype = torch.float64) -> Diffusion:
    k = torch.rand(13, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    return Diffusion(Grid((12, 11)), k.to(dtype))


def nonsymmetric():
    rng = np.random.default_rng(0)
    return sparse(sp.random_array((60, 60), density=0.1, rng=rng) + 3 * sp.eye_array(60))


def indefinite():
    """Symmetric, zeros on the diagonal: needs pivoting."""
    B = np.random.default_rng(1).standard_normal((20, 6))
    return sparse(sp.csr_array(sp.block_array([[sp.eye_array(20), B], [B.T, None]])), tags={Tag.SYMMETRIC})


def elastic_floating():
    """A chain with a null space that is not the constants."""
    z = 1 + 0.5 * np.random.default_rng(2).random(30)
    T = np.diff(np.eye(30), axis=0) @ np.diag(1 / z)
    return sparse(sp.csr_array(T.T @ T), tags=SPD, nullspace=Span(torch.from_numpy(z)))


def neumann():
    mask = np.ones((10, 9), dtype=bool)
    mask[:, 4] = False  # two rooms
    return Diffusion(Grid((10, 9), centring="cell", boundary="neumann", mask=mask))


OPERATORS = [grid, nonsymmetric, indefinite, elastic_floating, neumann]


@every_method
@pytest.mark.parametrize("make", OPERATORS)
def test_one_step_to_rounding(method: Direct, make) -> None:
    A = make()
    b = torch.randn(2, 3, A.shape[0], dtype=torch.float64)
    if A.nullspace is not None:
        b = A.nullspace.project(b)
    result = solve(LinearSystem(A, b), method, stop=Stop(rtol=1e-12))
    assert result.steps == 1
    expected = b @ torch.linalg.pinv(dense(A)).mT
    torch.testing.assert_close(result.value, expected, rtol=1e-9, atol=1e-10 * float(expected.abs().max()))


@every_method
@pytest.mark.parametrize("make", OPERATORS)
def test_the_factor_is_an_operator(method: Direct, make) -> None:
    A = make()
    M = method.factorize(A)
    b = torch.randn(4, A.shape[0], dtype=torch.float64)
    if A.nullspace is not None:
        b = A.nullspace.project(b)
    size = 1e-10 * float(b.norm())
    assert float((A @ (M @ b) - b).norm()) <= size
    assert float((A.T @ (M.T @ b) - b).norm()) <= size
    assert M.tags == A.tags & SPD


@every_method
def test_an_exact_preconditioner_takes_one_step(method: Direct) -> None:
    A = grid()
    b = torch.randn(A.shape[0], dtype=torch.float64)
    assert solve(LinearSystem(A, b), CG(method.factorize), stop=Stop(rtol=1e-10)).steps == 1


@every_method
def test_float32_is_refined(method: Direct) -> None:
    A = grid(torch.float32)
    b = torch.randn(A.shape[0])
    result = solve(LinearSystem(A, b), method, stop=Stop(rtol=1e-6))
    assert result.value.dtype == torch.float32
    assert result.steps <= 3


def test_refinement_recovers_from_an_inexact_factor() -> None:
    """Without pivoting the factor of this matrix is good to a few digits only; further steps repair it."""
    A = np.array([[1e-9, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 3.0]])
    system = LinearSystem(sparse(A, tags=SPD), [1.0, 2.0, 3.0])  # a wrong tag: no pivoting
    result = solve(system, SuperLU(), stop=Stop(rtol=1e-15))
    assert result.status is Status.CONVERGED


@every_method
def test_start_at_the_solution_needs_no_step(method: Direct) -> None:
    A = grid()
    x = torch.randn(A.shape[0], dtype=torch.float64)
    assert solve(LinearSystem(A, A @ x), method, x0=x).steps == 0


def singular():
    return sparse(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), tags=())


@every_method
def test_singular_matrix_breaks_down_with_advice(method: Direct) -> None:
    result = solve(LinearSystem(singular(), [1.0, 2.0, 3.0]), method, throw=False)
    assert result.status is Status.BREAKDOWN
    assert "null space" in result.reason
    assert "SPD tag" in result.reason


@pytest.mark.parametrize(
    ("method", "text"),
    [(SuperLU(), "SuperLU: the matrix is singular"), (Dense(), r"Dense: the matrix is singular \(pivot 1\)")],
    ids=["SuperLU", "Dense"],
)
def test_factorize_raises_the_named_error(method: Direct, text: str) -> None:
    with pytest.raises(SingularMatrix, match=text):
        method.factorize(singular())


@pytest.mark.parametrize("method", [Pardiso(), Dense()], ids=["Pardiso", "Dense"])
def test_a_false_spd_tag_is_noticed(method: Direct) -> None:
    A = sparse(np.array([[1.0, 3.0], [3.0, 1.0]]), tags=SPD)
    with pytest.raises(SingularMatrix, match=r"not positive definite.*drop the SPD tag"):
        method.factorize(A)


def test_an_undeclared_null_space_breaks_down() -> None:
    A = sparse(to_scipy(neumann()), tags=SPD)
    result = solve(LinearSystem(A, torch.ones(90, dtype=torch.float64)), SuperLU(), throw=False)
    assert result.status is Status.BREAKDOWN
    assert "declare" in result.reason


def test_empty_row_is_singular_for_pardiso() -> None:
    A = sparse(sp.csr_array(([1.0, 1.0], ([0, 1], [0, 2])), shape=(3, 3)), tags=())
    with pytest.raises(SingularMatrix, match="empty row"):
        Pardiso().factorize(A)


def test_constants_without_labels() -> None:
    n = 12
    D = np.diff(np.eye(n), axis=0)
    A = sparse(sp.csr_array(D.T @ D), tags=SPD, nullspace=Constants())
    b = A.nullspace.project(torch.randn(n, dtype=torch.float64))
    for method in METHODS:
        x = solve(LinearSystem(A, b), method, stop=Stop(rtol=1e-12)).value
        assert abs(float(x.mean())) < 1e-12


def test_dense_takes_batches_of_operators() -> None:
    k = torch.rand(3, 6, 5, dtype=torch.float64) + 0.1
    for boundary in ("dirichlet", "neumann"):
        A = Diffusion(Grid((6, 5), centring="cell", boundary=boundary), k)
        b = torch.randn(3, 30, dtype=torch.float64)
        if A.nullspace is not None:
            b = A.nullspace.project(b)
        result = solve(LinearSystem(A, b), Dense(), stop=Stop(rtol=1e-12))
        assert result.steps == 1
        for i in range(3):
            alone = Diffusion(A.grid, k[i])
            expected = torch.linalg.pinv(dense(alone)) @ b[i]
            torch.testing.assert_close(result.value[i], expected, rtol=1e-9, atol=1e-12)


def test_dense_names_the_singular_sample() -> None:
    k = torch.rand(3, 4, 4, dtype=torch.float64) + 0.1
    A = Diffusion(Grid((4, 4), centring="cell", boundary="neumann"), k)
    A.nullspace = None
    A.tags = A.tags - {Tag.SPD}
    A.diag[1, 0, 0] = 0
    A.couplings[0][1, 0, 0] = 0
    A.couplings[1][1, 0, 0] = 0
    with pytest.raises(SingularMatrix, match="batch entry 1"):
        Dense().factorize(A)


@pytest.mark.parametrize("method", [SuperLU(), Pardiso()], ids=["SuperLU", "Pardiso"])
def test_sparse_methods_refuse_batches(method: Direct) -> None:
    A = Diffusion(Grid((4,)), torch.rand(2, 5, dtype=torch.float64) + 1)
    with pytest.raises(
        NotSupported, match=r"factors one matrix, this operator is a batch of \(2,\): use Dense"
    ):
        solve(LinearSystem(A, torch.ones(2, 4, dtype=torch.float64)), method)


def test_sparse_methods_refuse_complex_and_matrix_free() -> None:
    A = sparse(np.array([[1.0 + 1j]]), tags=())
    with pytest.raises(NotSupported, match=r"takes float32 and float64, this operator is torch.complex128"):
        SuperLU().factorize(A)
    with pytest.raises(NotSupported, match="matrix-free"):
        SuperLU().factorize(SuperLU().factorize(grid()))


def test_dense_has_a_limit() -> None:
    system = LinearSystem(grid(), torch.ones(132, dtype=torch.float64))
    with pytest.raises(NotSupported, match=r"n <= 100, this operator has 132 unknowns.*SuperLU"):
        solve(system, Dense(limit=100))


@every_method
@pytest.mark.parametrize("symmetric", [True, False])
def test_gradients_reuse_the_factor(method: Direct, symmetric: bool, monkeypatch) -> None:
    counts = []
    factorize = type(method).factorize

    def counting(self, A):
        counts.append(A)
        return factorize(self, A)

    monkeypatch.setattr(type(method), "factorize", counting)
    A = sparse(to_scipy(grid())) if symmetric else nonsymmetric()
    A.values.requires_grad_()
    b = torch.randn(A.shape[0], dtype=torch.float64, requires_grad=True)
    solve(LinearSystem(A, b), method, stop=Stop(rtol=1e-12)).value.square().sum().backward()
    assert len(counts) == 1, "the adjoint factored again"
    full = dense(A).detach().requires_grad_()
    c = b.detach().requires_grad_()
    torch.linalg.solve(full, c).square().sum().backward()
    torch.testing.assert_close(b.grad, c.grad, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(A.values.grad, full.grad[A.rows(), A.col.long()], rtol=1e-8, atol=1e-10)


def test_symmetric_mode_has_less_fill_than_the_default(monkeypatch) -> None:
    factors = []
    splu = spla.splu

    def keeping(*args, **kwargs):
        factors.append(splu(*args, **kwargs))
        return factors[-1]

    monkeypatch.setattr(spla, "splu", keeping)
    A = Diffusion(Grid((80, 80)))
    SuperLU().factorize(A)
    default = splu(sp.csc_matrix(to_scipy(A)))
    assert factors[0].L.nnz < 0.8 * default.L.nnz


def test_pardiso_uses_cholesky_for_spd_and_frees_its_memory(monkeypatch) -> None:
    kinds, freed = [], []
    monkeypatch.setattr(
        pypardiso.PyPardisoSolver,
        "set_matrix_type",
        lambda self, kind: kinds.append(kind) or vars(self).update(mtype=kind),
    )
    free = pypardiso.PyPardisoSolver.free_memory
    monkeypatch.setattr(
        pypardiso.PyPardisoSolver,
        "free_memory",
        lambda self, everything: freed.append(1) or free(self, everything),
    )
    inverses = [Pardiso().factorize(A) for A in (grid(), indefinite(), nonsymmetric())]
    assert kinds == [2, -2, 11]
    alive = weakref.ref(inverses[0])
    inverses.clear()
    gc.collect()
    assert alive() is None
    assert len(freed) == 3


def without(monkeypatch, package: str) -> None:
    """Make imports of a package fail."""
    genuine = builtins.__import__

    def refusing(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return genuine(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refusing)


def test_pardiso_missing_is_named(monkeypatch) -> None:
    without(monkeypatch, "pypardiso")
    with pytest.raises(NotSupported, match=r"needs the package pypardiso.*solvus\[direct\].*SuperLU"):
        solve(LinearSystem(grid(), torch.ones(132, dtype=torch.float64)), Pardiso())


def test_cudss_without_gpu_is_named(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NotSupported, match=r"needs a CUDA device and none is visible: use Pardiso"):
        solve(LinearSystem(grid(), torch.ones(132, dtype=torch.float64)), CuDSS())


def test_cudss_off_the_gpu_and_without_nvmath_is_named(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(NotSupported, match="this operator is on cpu: move it"):
        CuDSS().factorize(grid())
    without(monkeypatch, "nvmath")
    with pytest.raises(NotSupported, match=r"nvmath-python and nvidia-cudss.*solvus\[cuda\]"):
        cudss._package()


class PretendedCuDSS:
    """The documented interface of nvmath.sparse.advanced, on the CPU: rules checked, results exact."""

    def __init__(self, calls: list[str], info: int = 0) -> None:
        self.DirectSolverMatrixType = SimpleNamespace(SPD="spd", SYMMETRIC="symmetric", GENERAL="general")
        self.DirectSolverOptions = lambda **options: options
        self.HybridMemoryModeOptions = lambda **options: options
        self.ExecutionCUDA = lambda **options: options

        class DirectSolver:
            def __init__(self, a, b, *, options, execution) -> None:
                assert a.crow_indices().dtype == a.col_indices().dtype == torch.int32
                assert b.stride(0) == 1, "right-hand sides must be column-major"
                assert b.stride(1) >= b.shape[0]
                assert not execution["hybrid_memory_mode_options"]["hybrid_memory_mode"]
                self.a, self.b = a, b
                calls.append(f"{options['sparse_system_type']} {b.shape[1]}")

            def plan(self) -> None:
                calls.append("plan")

            def factorize(self) -> SimpleNamespace:
                assert calls[-1] == "plan"
                calls.append("factorize")
                return SimpleNamespace(info=info)

            def solve(self) -> torch.Tensor:
                calls.append("solve")
                return torch.linalg.solve(self.a.to_dense(), self.b)

            def free(self) -> None:
                calls.append("free")

        self.DirectSolver = DirectSolver


@pytest.mark.parametrize(
    ("make", "kind"), [(grid, "spd"), (indefinite, "symmetric"), (nonsymmetric, "general"), (neumann, "spd")]
)
def test_cudss_follows_the_documented_interface(make, kind: str, monkeypatch) -> None:
    """Not run on a GPU here: the calls, their order and their layouts are checked against a stand-in."""
    calls: list[str] = []
    monkeypatch.setattr(cudss, "_package", lambda: PretendedCuDSS(calls))
    monkeypatch.setattr(cudss, "_ready", lambda A: None)
    A = make()
    b = torch.randn(3, A.shape[0], dtype=torch.float64)
    if A.nullspace is not None:
        b = A.nullspace.project(b)
    M = CuDSS().factorize(A)
    assert calls == [f"{kind} 1", "plan", "factorize"]
    assert float((A @ (M @ b[0]) - b[0]).norm()) <= 1e-10
    assert float((A @ (M @ b) - b).norm()) <= 1e-10
    assert calls[3:] == ["solve", "free", f"{kind} 3", "plan", "factorize", "solve"]
    assert float((A.T @ (M.T @ b) - b).norm()) <= 1e-10
    monkeypatch.setattr(cudss, "_package", lambda: PretendedCuDSS(calls, info=7))
    with pytest.raises(SingularMatrix, match=r"not positive definite \(info 7\)"):
        CuDSS().factorize(A)
    del M
    gc.collect()
    assert calls.count("free") >= 3
