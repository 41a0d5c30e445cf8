"""What every preconditioner must do. A new one is one row in ROWS; the specimens at the end must fail."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor

from solvus.meshes.grid import Grid
from solvus.operators.linear import (
    SPD,
    Diagonal,
    Diffusion,
    LinearOperator,
    Tag,
    dense,
    diagonal,
    sparse,
    to_scipy,
    to_scipy_operator,
)
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.fast import fast_transform
from solvus.solvers.learned import factored_sparse_inverse, learned_cycle, shipped
from solvus.solvers.learned.sparse_inverse import SparseInverseNetwork, sparse_inverse
from solvus.solvers.multigrid import amg, multigrid
from solvus.solvers.preconditioners import (
    Inverse,
    Preconditioner,
    chebyshev,
    ic0,
    ict,
    identity,
    ilu,
    jacobi,
    ssor,
)


def constant(n: int, dtype: torch.dtype) -> LinearOperator:
    return Diffusion(Grid((n, n - 1)), dtype=dtype)


def contrast(n: int, dtype: torch.dtype) -> LinearOperator:
    high = torch.rand(n, n, generator=torch.Generator().manual_seed(1)) > 0.5
    return Diffusion(Grid((n, n), centring="cell"), torch.where(high, 1e3, 1.0).to(dtype))


def neumann(n: int, dtype: torch.dtype) -> LinearOperator:
    return Diffusion(Grid((n, n - 2), centring="cell", boundary="neumann"), dtype=dtype)


def masked(n: int, dtype: torch.dtype) -> LinearOperator:
    mask = np.ones((n, n), dtype=bool)
    mask[n // 3 : n // 2, n // 3 : n // 2] = False
    return Diffusion(Grid((n, n), centring="cell", boundary="neumann", mask=mask), dtype=dtype)


def matrix(n: int, dtype: torch.dtype) -> LinearOperator:
    """A sparse SPD matrix with positive and negative couplings and no grid behind it."""
    rng = np.random.default_rng(2)
    B = sp.random_array((n * n, n * n), density=2 / n**2, rng=rng) - sp.eye_array(n * n)
    return sparse(sp.csr_array(B @ B.T + 0.05 * sp.eye_array(n * n)), tags=SPD, dtype=dtype)


PROBLEMS: dict[str, Callable[[int, torch.dtype], LinearOperator]] = {
    f.__name__: f for f in (constant, contrast, neumann, masked, matrix)
}
GRIDS = ("constant", "contrast", "neumann", "masked")


@dataclass(frozen=True)
class Row:
    """A preconditioner under contract, and the problems that it is made for."""

    name: str
    make: Preconditioner
    problems: tuple[str, ...] = tuple(PROBLEMS)
    batched: bool = False  # takes a batch of Diffusion operators


ROWS = [
    Row("identity", identity, batched=True),
    Row("jacobi", jacobi, batched=True),
    Row("ssor", ssor(1.4)),
    Row("ssor backward first", ssor(1.4, backward_first=True)),
    Row("ssor multicolour", ssor(1.2, order="multicolour"), batched=True),
    Row("ic0", ic0()),
    Row("ict", ict(1e-2, fill=4)),
    Row("chebyshev", chebyshev(3), batched=True),
    Row("chebyshev 0", chebyshev(0), batched=True),
    Row("ilu", ilu(1e-3)),
    Row("fast_transform", fast_transform(), GRIDS, batched=True),
    Row("multigrid V", multigrid(bottom=20, dtype=torch.float64), GRIDS, batched=True),
    Row("multigrid W", multigrid(cycle="W", bottom=20, dtype=torch.float64), GRIDS, batched=True),
    Row("amg", amg()),
    Row("factored sparse inverse", factored_sparse_inverse()),
    Row("sparse inverse untrained", sparse_inverse(SparseInverseNetwork())),
    Row(
        "learned cycle",
        learned_cycle(shipped("vcycle-2d"), bottom=20, dtype=torch.float64),
        GRIDS,
        batched=True,
    ),
]
PAIRS = [pytest.param(row, problem, id=f"{row.name}-{problem}") for row in ROWS for problem in row.problems]


def vectors(A: LinearOperator, count: int) -> Tensor:
    x = torch.randn(count, A.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x = x.to(A.dtype)
    return x if A.nullspace is None else A.nullspace.project(x)


def complement(A: LinearOperator) -> Tensor:
    """An orthonormal basis of the complement of A's null space, (n, n - k)."""
    eye = torch.eye(A.shape[0], dtype=A.dtype)
    if A.nullspace is None:
        return eye
    values, basis = torch.linalg.eigh(A.nullspace.project(eye))
    return basis[:, values > 0.5]


def check_spectrum(make: Preconditioner, A: LinearOperator) -> None:
    """Symmetric, positive definite on the complement where tagged so: all eigenvalues, random products."""
    M = make(A)
    assert M.shape == A.shape
    assert M.dtype == A.dtype
    if not M.symmetric:
        return
    x, y = vectors(A, 20), vectors(A, 20).flip(0)
    Mx, My = M.matvec(x), M.matvec(y)
    full = dense(M)
    size = float(torch.linalg.matrix_norm(full, 2))
    skew = ((Mx * y).sum(-1) - (x * My).sum(-1)).abs()
    assert bool((skew <= 1e-10 * x.norm(dim=-1) * y.norm(dim=-1) * size).all()), "not symmetric"
    if M.positive_definite:
        Q = complement(A)
        inner = Q.mT @ full @ Q
        assert float((inner - inner.mT).abs().max()) <= 1e-10 * size, "not symmetric"
        assert float(torch.linalg.eigvalsh(inner).min()) > 0, "not positive definite"
        assert bool(((Mx * x).sum(-1) > 0).all()), "not positive definite"


def check_null_space(make: Preconditioner, A: LinearOperator) -> None:
    """Results stay in the complement of A's null space."""
    if A.nullspace is None:
        return
    y = make(A).matvec(vectors(A, 3))
    assert float(A.nullspace.component(y).norm()) <= 1e-12 * float(y.norm()), "leaves the complement"


def check_steps(make: Preconditioner, A: LinearOperator) -> None:
    """CG needs no more steps with it than without."""
    b = vectors(A, 1)[0]
    M = make(A)
    if not M.positive_definite:
        return
    steps = [solve(LinearSystem(A, b), CG(p), stop=Stop(rtol=1e-8)).steps for p in (identity, make)]
    assert steps[1] <= steps[0], f"{steps[1]} steps with, {steps[0]} without"


def check_batch(make: Preconditioner, A: LinearOperator) -> None:
    """A batch of vectors gives what each gives alone."""
    M, x = make(A), vectors(A, 6).view(2, 3, -1)
    y = M.matvec(x)
    alone = torch.stack([torch.stack([M.matvec(v) for v in block]) for block in x])
    torch.testing.assert_close(y, alone, rtol=1e-12, atol=1e-12 * float(y.abs().max()))


def check_into(make: Preconditioner, A: LinearOperator) -> None:
    """matvec_into writes what matvec returns, leaves x alone, and returns its target."""
    M, x = make(A), vectors(A, 2)
    before, out = x.clone(), torch.full_like(x, torch.nan)
    y = M.matvec(x)
    assert M.matvec_into(x, out) is out
    torch.testing.assert_close(out, y, rtol=1e-14, atol=0)
    assert torch.equal(x, before)
    strided = torch.full((x.shape[1], 2), torch.nan, dtype=x.dtype).mT  # columns, as SciPy's matmat has them
    torch.testing.assert_close(M.matvec_into(x, strided), y, rtol=1e-14, atol=0)


def check_repeatable(make: Preconditioner, A: LinearOperator) -> None:
    """The factory can be pickled; built again, or from its pickle, it gives the same to the last bit."""
    x = vectors(A, 1)[0]
    y = make(A).matvec(x)
    assert torch.equal(make(A).matvec(x), y)
    assert torch.equal(pickle.loads(pickle.dumps(make))(A).matvec(x), y)


def check_linear(make: Preconditioner, A: LinearOperator) -> None:
    """M (2 x - 3 y) = 2 M x - 3 M y."""
    M, (x, y) = make(A), vectors(A, 2)
    left, right = M.matvec(2 * x - 3 * y), 2 * M.matvec(x) - 3 * M.matvec(y)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-11 * float(right.abs().max()))


def check_transpose(make: Preconditioner, A: LinearOperator) -> None:
    """(M^T x).y = x.(M y), and autograd gives M^T times the gradient."""
    M, (x, y) = make(A), vectors(A, 2)
    left, right = float(M.T.matvec(x) @ y), float(x @ M.matvec(y))
    scale = float(x.norm() * M.matvec(y).norm())
    assert abs(left - right) <= 1e-10 * scale
    y.requires_grad_()
    (grad,) = torch.autograd.grad(M.matvec(y), y, x)
    torch.testing.assert_close(grad, M.T.matvec(x), rtol=1e-9, atol=1e-12 * scale)


CHECKS = (
    check_spectrum,
    check_null_space,
    check_steps,
    check_batch,
    check_into,
    check_repeatable,
    check_linear,
    check_transpose,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda f: f.__name__.removeprefix("check_"))
@pytest.mark.parametrize(("row", "problem"), PAIRS)
def test_contract(row: Row, problem: str, check: Callable[[Preconditioner, LinearOperator], None]) -> None:
    check(row.make, PROBLEMS[problem](16 if check is check_steps else 11, torch.float64))


@pytest.mark.parametrize(("row", "problem"), PAIRS)
def test_single_precision(row: Row, problem: str) -> None:
    A32, A64 = (PROBLEMS[problem](11, dtype) for dtype in (torch.float32, torch.float64))
    x = vectors(A64, 2)
    y = row.make(A32).matvec(x.float())
    expected = row.make(A64).matvec(x)
    assert y.dtype == torch.float32
    # ILU drops other entries in float32: it only has to remain about as good
    tolerance = 1e-2 if row.name == "ilu" else 1e-4
    assert float((y.double() - expected).norm()) <= tolerance * float(expected.norm())


@pytest.mark.parametrize(("row", "problem"), PAIRS)
def test_scipy_takes_it_as_m(row: Row, problem: str) -> None:
    A = PROBLEMS[problem](11, torch.float64)
    M = row.make(A)
    op = to_scipy_operator(M)
    X = vectors(A, 3).mT.numpy()
    columns = np.stack([op.matvec(X[:, j]) for j in range(3)], axis=1)
    np.testing.assert_allclose(op.matmat(X), columns, rtol=1e-10, atol=1e-12 * abs(columns).max())
    if M.positive_definite:
        b = X[:, 0]
        x, info = spla.cg(to_scipy(A), b, M=op, rtol=1e-8, atol=0.0)
        assert info == 0
        assert np.linalg.norm(b - to_scipy(A) @ x) <= 2e-8 * np.linalg.norm(b)


@pytest.mark.parametrize("row", [r for r in ROWS if r.batched], ids=lambda r: r.name)
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann"])
def test_batch_of_operators_is_each_alone(row: Row, boundary: str) -> None:
    grid = Grid((6, 7), centring="cell", boundary=boundary)
    k = torch.rand(3, 6, 7, dtype=torch.float64) + 0.1
    A = Diffusion(grid, k)
    x = torch.randn(3, A.shape[0], dtype=torch.float64)
    y = row.make(A).matvec(x)
    alone = torch.stack([row.make(Diffusion(grid, k[i])).matvec(x[i]) for i in range(3)])
    torch.testing.assert_close(y, alone, rtol=1e-10, atol=1e-12 * float(y.abs().max()))
    assert row.make(A).batch_shape in ((3,), ())


class Skewed(Inverse):
    """Says SPD, is not symmetric."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A, SPD)
        self.d = diagonal(A)

    def apply(self, x: Tensor, out: Tensor) -> None:
        out.copy_((x + 0.1 * x.roll(1, -1)) / self.d)


class Coupled(Inverse):
    """Mixes the samples of a batch."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A, SPD)

    def apply(self, x: Tensor, out: Tensor) -> None:
        out.copy_(x + 1e-3 * x.reshape(-1, x.shape[-1]).sum(0))


class Dirty(Inverse):
    """Writes something else into a given target, and changes x."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A, SPD)

    def apply(self, x: Tensor, out: Tensor) -> None:
        out.copy_(x)

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        out.copy_(x)
        if not bool(torch.isnan(out).any()):
            x.mul_(2)
        return out


class Signed(Inverse):
    """Symmetric, linear only by accident: |x| instead of x; not linear."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A)

    def apply(self, x: Tensor, out: Tensor) -> None:
        out.copy_(x.abs())

    def transpose(self) -> LinearOperator:
        return self


class Drifting(LinearOperator):
    """Leaves the complement of the null space."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A.shape, A.dtype, tags=SPD, nullspace=A.nullspace)

    def matvec(self, x: Tensor) -> Tensor:
        return x + 0.1

    def transpose(self) -> LinearOperator:
        return self


def indefinite(A: LinearOperator) -> LinearOperator:
    entries = 1 / diagonal(A).clone()
    entries[3] *= -1
    return Diagonal(entries, SPD)


def noisy(A: LinearOperator) -> LinearOperator:
    return Diagonal(torch.rand(A.shape[0], dtype=A.dtype) + 0.5, SPD)


def harmful(A: LinearOperator) -> LinearOperator:
    return Diagonal(torch.logspace(0, 4, A.shape[0], dtype=A.dtype), frozenset({Tag.SPD}))


def untransposed(A: LinearOperator) -> LinearOperator:
    return Skewed(A)


WRONG = [
    (check_spectrum, Skewed, "constant"),
    (check_spectrum, indefinite, "constant"),
    (check_null_space, Drifting, "neumann"),
    (check_steps, harmful, "constant"),
    (check_batch, Coupled, "constant"),
    (check_into, Dirty, "constant"),
    (check_repeatable, noisy, "constant"),
    (check_linear, Signed, "constant"),
    (check_transpose, untransposed, "constant"),
]


@pytest.mark.parametrize(("check", "make", "problem"), WRONG, ids=lambda v: getattr(v, "__name__", v))
def test_wrong_specimens_fail(
    check: Callable[[Preconditioner, LinearOperator], None], make: Preconditioner, problem: str
) -> None:
    with pytest.raises(AssertionError):
        check(make, PROBLEMS[problem](8, torch.float64))


def test_a_closure_fails_to_be_repeatable() -> None:
    with pytest.raises((AttributeError, pickle.PicklingError)):
        check_repeatable(lambda A: jacobi(A), constant(5, torch.float64))


def test_every_check_has_a_wrong_specimen() -> None:
    assert {check for check, _, _ in WRONG} == set(CHECKS)
