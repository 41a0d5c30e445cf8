"""What every linear operator keeps: one line in SPECIMENS gives a new one the whole suite."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import solvus.operators.linear as linear
from solvus.meshes import Grid
from solvus.operators.linear import (
    CSR,
    SPD,
    SYMMETRIC,
    Constants,
    Diagonal,
    Diffusion,
    Identity,
    LinearOperator,
    NotSupported,
    Product,
    Tag,
    dense,
    diagonal,
    sparse,
    to_scipy,
    to_scipy_operator,
)


def entries(m: int, n: int, seed: int = 0) -> np.ndarray:
    """A matrix with about half of its entries zero, and one empty row."""
    rng = np.random.default_rng(seed)
    out = rng.standard_normal((m, n)) * (rng.random((m, n)) < 0.5)
    out[m // 2] = 0
    return out


def spd_matrix(n: int) -> sp.csr_array:
    return sp.csr_array(sp.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(n, n)))


def field(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.exp(np.random.default_rng(1).standard_normal(shape)))


MASK = np.ones((5, 6), dtype=bool)
MASK[1:3, 2:4] = False

SPECIMENS: dict[str, Callable[[], LinearOperator]] = {
    "identity": lambda: Identity(7, torch.float64),
    "diagonal": lambda: Diagonal(field(6), tags=SPD),
    "diagonal, batch": lambda: Diagonal(field(3, 6)),
    "csr, square": lambda: sparse(entries(6, 6)),
    "csr, wide": lambda: sparse(entries(4, 7)),
    "csr, tall": lambda: sparse(entries(7, 4)),
    "csr, spd": lambda: sparse(spd_matrix(8)),
    "csr, int64": lambda: with_long_indices(sparse(entries(5, 6))),
    "csr, transposed": lambda: sparse(entries(4, 7)).T,
    "csr, no entries": lambda: sparse(sp.csr_array((4, 3))),
    "csr, pure neumann": lambda: sparse(
        to_scipy(Diffusion(Grid((4, 4), boundary="neumann"))), tags=SPD, nullspace=Constants()
    ),
    "scaled": lambda: 3 * sparse(entries(5, 6)),
    "scaled, spd": lambda: 0.5 * sparse(spd_matrix(5)),
    "negative": lambda: -sparse(spd_matrix(5)),
    "sum": lambda: sparse(entries(5, 6)) + sparse(entries(5, 6, seed=1)),
    "sum, spd": lambda: Diffusion(Grid((3, 3))) + Identity(9, torch.float64),
    "sum, shifted batch": lambda: Diffusion(Grid((3, 3)), field(2, 4, 4)) + Identity(9, torch.float64),
    "sum, common null space": lambda: (
        2 * Diffusion(Grid((4,), boundary="neumann")) + Diffusion(Grid((4,), boundary="neumann"))
    ),
    "difference": lambda: sparse(entries(5, 6)) - sparse(entries(5, 6, seed=1)),
    "product": lambda: sparse(entries(4, 7)) @ sparse(entries(7, 5, seed=1)),
    "product, batch": lambda: Diagonal(field(2, 6)) @ sparse(entries(6, 6)),
    "diffusion, 1-D": lambda: Diffusion(Grid((6,))),
    "diffusion, 2-D": lambda: Diffusion(Grid((4, 5)), field(5, 6), reaction=field(4, 5)),
    "diffusion, 3-D": lambda: Diffusion(Grid((3, 2, 3), boundary="periodic"), field(3, 2, 3)),
    "diffusion, cells": lambda: Diffusion(Grid((4, 5), centring="cell"), field(4, 5)),
    "diffusion, batch": lambda: Diffusion(Grid((3, 4)), field(2, 4, 5)),
    "diffusion, masked": lambda: Diffusion(Grid((5, 6), centring="cell", mask=MASK), field(5, 6)),
    "diffusion, neumann": lambda: Diffusion(Grid((4, 5), centring="cell", boundary="neumann"), field(4, 5)),
}


def with_long_indices(A: CSR) -> CSR:
    return CSR(A.crow.long(), A.col.long(), A.values, A.shape, tags=A.tags)


def vectors(A: LinearOperator, count: int, *, rows: bool = False, seed: int = 0) -> torch.Tensor:
    """`count` random vectors that A takes (or that its transpose takes), (count, *batch, n)."""
    n = A.shape[0] if rows else A.shape[1]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *A.batch_shape, n, dtype=torch.float64, generator=generator).to(A.dtype)


def dot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x * y).sum(-1)


# Each contract takes an operator and raises AssertionError when it is broken.


def is_linear(A: LinearOperator) -> None:
    x, y = vectors(A, 2)
    torch.testing.assert_close(A @ (2 * x - 3 * y), 2 * (A @ x) - 3 * (A @ y), rtol=1e-10, atol=1e-9)


def has_adjoint_transpose(A: LinearOperator) -> None:
    x, y = vectors(A, 1)[0], vectors(A, 1, rows=True, seed=1)[0]
    assert A.T.shape == (A.shape[1], A.shape[0])
    torch.testing.assert_close(dot(A @ x, y), dot(x, A.T @ y), rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(A.T.T @ x, A @ x, rtol=1e-12, atol=1e-12)


def matches_scipy(A: LinearOperator) -> None:
    if A.batch_shape:
        with pytest.raises(NotSupported):
            to_scipy(A)
        return
    matrix = to_scipy(A)
    assert matrix.shape == A.shape
    assert matrix.dtype == to_scipy_operator(A).dtype
    torch.testing.assert_close(torch.from_numpy(matrix.toarray()), dense(A), rtol=1e-12, atol=1e-12)


def matches_its_diagonal(A: LinearOperator) -> None:
    if A.shape[0] != A.shape[1] or isinstance(A, Product):
        return
    torch.testing.assert_close(
        diagonal(A), torch.diagonal(dense(A), dim1=-2, dim2=-1), rtol=1e-12, atol=1e-12
    )


def writes_into(A: LinearOperator) -> None:
    x = vectors(A, 1)[0]
    expected = A @ x
    out = torch.full_like(expected, torch.nan)
    assert A.matvec_into(x, out) is out
    torch.testing.assert_close(out, expected, rtol=1e-14, atol=1e-14)


def leaves_its_argument_alone(A: LinearOperator) -> None:
    x = vectors(A, 1)[0]
    kept = x.clone()
    A.matvec_into(x, torch.empty_like(A @ x))
    assert torch.equal(x, kept)


def batches_as_a_loop(A: LinearOperator) -> None:
    if A.batch_shape:
        x = vectors(A, 1)[0]
        whole = dense(A)
        for i in range(A.batch_shape[0]):
            torch.testing.assert_close((A @ x)[i], whole[i] @ x[i], rtol=1e-10, atol=1e-9)
        return
    x = vectors(A, 6).reshape(2, 3, -1)
    loop = torch.stack([torch.stack([A @ v for v in row]) for row in x])
    torch.testing.assert_close(A @ x, loop, rtol=1e-12, atol=1e-12)
    slow = torch.stack([x, -x], dim=-1)[..., 0]  # not contiguous
    torch.testing.assert_close(A @ slow, loop, rtol=1e-12, atol=1e-12)
    assert (A @ x[:0]).shape == (0, 3, A.shape[0])


def has_true_tags(A: LinearOperator) -> None:
    matrix = dense(A)
    if A.symmetric:
        torch.testing.assert_close(matrix, matrix.mT, rtol=1e-12, atol=1e-12)
    if A.nullspace is not None:
        basis = A.nullspace.component(torch.eye(A.shape[1], dtype=A.dtype))
        assert torch.linalg.matrix_rank(basis) == A.nullspace.dimension
        assert float((matrix @ basis).abs().max()) < 1e-9 * float(matrix.abs().max())
    if A.positive_definite:
        kernel = 0 if A.nullspace is None else A.nullspace.dimension
        eigenvalues = torch.linalg.eigvalsh(matrix)
        assert bool((eigenvalues[..., kernel:] > 1e-9 * eigenvalues[..., -1:]).all())
    if Tag.DIAGONAL in A.tags:
        off = matrix - torch.diag_embed(torch.diagonal(matrix, dim1=-2, dim2=-1))
        assert float(off.abs().max()) == 0


def has_right_gradients(A: LinearOperator) -> None:
    """The gradient of <A x, g> in x is A^T g; parameters are below."""
    x = vectors(A, 1)[0].requires_grad_()
    g = vectors(A, 1, rows=True, seed=2)[0]
    (found,) = torch.autograd.grad(dot(A @ x, g).sum(), x)
    torch.testing.assert_close(found, A.T @ g, rtol=1e-10, atol=1e-9)


CONTRACTS = [
    is_linear,
    has_adjoint_transpose,
    matches_scipy,
    matches_its_diagonal,
    writes_into,
    leaves_its_argument_alone,
    batches_as_a_loop,
    has_true_tags,
    has_right_gradients,
]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", SPECIMENS)
def test_contract(name, contract):
    contract(SPECIMENS[name]())


def test_every_operator_class_is_a_specimen():
    classes = {
        c
        for c in vars(linear).values()
        if inspect.isclass(c) and issubclass(c, LinearOperator) and c is not LinearOperator
    }
    assert {type(build()) for build in SPECIMENS.values()} == classes


@pytest.mark.parametrize("name", SPECIMENS)
def test_repr_says_what_it_is(name):
    A = SPECIMENS[name]()
    text = repr(A)
    assert type(A).__name__ in text
    assert f"{A.shape[0]} x {A.shape[1]}" in text
    assert "torch.float64" in text
    assert "cpu" in text
    assert ("SPD" in text) == A.positive_definite
    if A.batch_shape:
        assert f"({A.batch_shape[0]},) of" in text


# The suite must notice a wrong operator.


class _Wrong(LinearOperator):
    """A 4 x 4 operator with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__(
            (4, 4),
            torch.float64,
            tags=SPD if fault in ("tag", "kernel") else frozenset(),
            nullspace=Constants() if fault == "kernel" else None,
        )
        self.fault = fault
        self.matrix = torch.from_numpy(entries(4, 4)) + torch.eye(4, dtype=torch.float64)

    def matvec(self, x):
        y = x @ self.matrix.mT
        if self.fault == "affine":
            return y + 1
        if self.fault == "batch":
            return y.flip(0) if x.ndim > 1 else y
        return y

    def matvec_into(self, x, out):
        out.copy_(self.matvec(x))
        if self.fault == "into":
            out.mul_(2)
        if self.fault == "argument":
            x.zero_()
        return out

    def transpose(self):
        if self.fault == "transpose":
            return self
        other = _Wrong("none")
        other.matrix = self.matrix.mT
        return other


@to_scipy.register
def _(A: _Wrong) -> sp.csr_array:
    return sp.csr_array(A.matrix.numpy() * (2 if A.fault == "scipy" else 1))


@diagonal.register
def _(A: _Wrong) -> torch.Tensor:
    return A.matrix.diagonal() + (A.fault == "diagonal")


@pytest.mark.parametrize(
    ("fault", "contract"),
    [
        ("affine", is_linear),
        ("transpose", has_adjoint_transpose),
        ("scipy", matches_scipy),
        ("diagonal", matches_its_diagonal),
        ("into", writes_into),
        ("argument", leaves_its_argument_alone),
        ("batch", batches_as_a_loop),
        ("tag", has_true_tags),
        ("kernel", has_true_tags),
        ("transpose", has_right_gradients),
    ],
)
def test_a_wrong_operator_fails_its_contract(fault, contract):
    with pytest.raises(AssertionError):
        contract(_Wrong(fault))
    contract(_Wrong("none"))  # and only because of the fault


def test_false_tags_of_a_true_class_are_noticed():
    indefinite = sp.csr_array(sp.diags_array([2.0, 1.0, 2.0], offsets=[-1, 0, 1], shape=(5, 5)))
    with pytest.raises(AssertionError):
        has_true_tags(sparse(indefinite, tags=SPD))
    with pytest.raises(AssertionError):
        has_true_tags(sparse(entries(5, 5), tags=SYMMETRIC))
    singular = to_scipy(Diffusion(Grid((4,), boundary="neumann")))
    with pytest.raises(AssertionError):
        has_true_tags(sparse(singular, tags=SPD))


# Gradients in the parameters, by central differences.


def _pattern() -> tuple[torch.Tensor, torch.Tensor]:
    crow = torch.tensor([0, 4, 4, 8, 13], dtype=torch.int32)
    col = torch.tensor([0, 2, 3, 6, 1, 2, 4, 5, 0, 1, 3, 5, 6], dtype=torch.int32)
    return crow, col


GRADIENTS: dict[str, tuple[Callable[..., LinearOperator], tuple[torch.Tensor, ...]]] = {
    "csr": (lambda v: CSR(*_pattern(), v, (4, 7)), (field(13),)),
    "csr, transposed": (lambda v: CSR(*_pattern(), v, (4, 7)).T, (field(13),)),
    "diagonal": (Diagonal, (field(5),)),
    "diagonal, batch": (Diagonal, (field(2, 5),)),
    "scaled": (lambda d: 3 * Diagonal(d), (field(5),)),
    "sum": (lambda d, e: Diagonal(d) + Diagonal(e), (field(5), 2 * field(5))),
    "product": (lambda d, e: Diagonal(d) @ Diagonal(e), (field(5), 2 * field(5))),
    "diffusion": (lambda k, c: Diffusion(Grid((3, 4)), k, c), (field(4, 5), field(3, 4))),
    "diffusion, batch": (lambda k: Diffusion(Grid((3,)), k), (field(2, 4),)),
    "diffusion, periodic": (lambda k: Diffusion(Grid((4,), boundary="periodic"), k), (field(4),)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradcheck_of_parameters_and_vector(name):
    build, parameters = GRADIENTS[name]
    A = build(*parameters)
    x = vectors(A, 1)[0] if A.batch_shape else vectors(A, 2)
    given = [p.clone().requires_grad_() for p in parameters]
    assert torch.autograd.gradcheck(lambda x, *p: build(*p) @ x, (x.requires_grad_(), *given))


@pytest.mark.parametrize("name", GRADIENTS)
def test_parameters_are_the_differentiable_tensors(name):
    build, parameters = GRADIENTS[name]
    A = build(*(p.clone().requires_grad_() for p in parameters))
    assert A.parameters()
    assert all(p.requires_grad for p in A.parameters() if p.numel())
    y = A.matvec(vectors(A, 1)[0]).sum()
    grads = torch.autograd.grad(y, [p for p in A.parameters() if p.requires_grad], allow_unused=True)
    assert all(g is not None and g.abs().max() > 0 for g in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "build",
    [
        lambda t: Identity(5, t),
        lambda t: Diagonal(field(5).to(t)),
        lambda t: sparse(entries(5, 4), dtype=t),
        lambda t: 2 * sparse(entries(5, 4), dtype=t) + sparse(entries(5, 4, 1), dtype=t),
        lambda t: Identity(5, t) @ sparse(entries(5, 4), dtype=t),
        lambda t: Diffusion(Grid((5,)), dtype=t),
    ],
)
def test_types_are_kept(build, dtype):
    A = build(dtype)
    y = A @ vectors(A, 2)
    assert A.dtype is y.dtype is dense(A).dtype is dtype
    assert A.device == y.device
    assert torch.from_numpy(to_scipy(A).data).dtype is dtype


# Algebra, for matrices of any size and content.

numbers = st.floats(-10, 10, allow_nan=False, width=32)


@st.composite
def pairs(draw: Any, chained: bool) -> tuple[CSR, CSR]:
    """Two random sparse matrices that can be multiplied (chained) or added."""
    m, k, n = (draw(st.integers(1, 6)) for _ in range(3))
    seed = draw(st.integers(0, 2**31))
    density = draw(st.floats(0, 1))
    rng = np.random.default_rng(seed)
    shapes = [(m, k), (k, n)] if chained else [(m, n), (m, n)]
    made = [rng.standard_normal(s) * (rng.random(s) < density) for s in shapes]
    return sparse(made[0]), sparse(made[1])


@given(pairs(chained=False), numbers, numbers)
@settings(max_examples=40, deadline=None)
def test_algebra_of_sums(AB, a, b):
    A, B = AB
    C = a * A + B * b - A
    expected = (a - 1) * dense(A) + b * dense(B)
    torch.testing.assert_close(dense(C), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dense(C.T), expected.mT, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(to_scipy(C).toarray(), expected, rtol=1e-12, atol=1e-12)


@given(pairs(chained=True))
@settings(max_examples=40, deadline=None)
def test_algebra_of_products(AB):
    A, B = AB
    expected = dense(A) @ dense(B)
    torch.testing.assert_close(dense(A @ B), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dense((A @ B).T), dense(B.T @ A.T), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(to_scipy(A @ B).toarray(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [n for n, build in SPECIMENS.items() if not build().batch_shape])
def test_as_a_scipy_operator(name):
    A = SPECIMENS[name]()
    op, matrix = to_scipy_operator(A), dense(A).numpy()
    rng = np.random.default_rng(0)
    x, X = rng.standard_normal(A.shape[1]), rng.standard_normal((A.shape[1], 3))
    y, Y = rng.standard_normal(A.shape[0]), rng.standard_normal((A.shape[0], 3))
    np.testing.assert_allclose(op @ x, matrix @ x, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(op @ X, matrix @ X, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(op.rmatvec(y), matrix.T @ y, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(op.H @ Y, matrix.T @ Y, rtol=1e-10, atol=1e-9)
