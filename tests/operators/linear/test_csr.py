"""CSR operators from everything that holds a matrix, and what they refuse."""

import subprocess

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import torch

from solvus.operators.linear import (
    CSR,
    SPD,
    SYMMETRIC,
    MixedDevices,
    MixedDtypes,
    NonFinite,
    NotSupported,
    ShapeMismatch,
    Tag,
    dense,
    infer_tags,
    sparse,
    to_petsc,
    to_scipy,
    to_scipy_operator,
)

M = np.array([[2.0, 0, -1, 0], [0, 3, 0, 0], [-1, 0, 2, 4]])


class PetscMat:
    """The part of petsc4py's Mat that `sparse` uses."""

    def __init__(self, matrix):
        self.matrix = sp.csr_array(matrix)

    def getSize(self):
        return self.matrix.shape

    def getValuesCSR(self):
        return self.matrix.indptr, self.matrix.indices, self.matrix.data


def torch_sparse(layout):
    t = torch.from_numpy(M)
    return {
        "coo": t.to_sparse_coo(),
        "csr": sparse(M)._matrix,
        "strided": t,
        "strided, transposed": t.mT.contiguous().mT,
        "csc": sparse(M.T)._matrix.transpose(0, 1),
        "coo, duplicates": torch.sparse_coo_tensor(
            [[0, 0, 0, 1, 2, 2, 2], [0, 0, 2, 1, 0, 2, 3]],
            [1.0, 1, -1, 3, -1, 2, 4],
            (3, 4),
            dtype=torch.float64,
            check_invariants=True,
        ),
    }[layout]


@pytest.mark.parametrize("layout", ["coo", "csr", "csc", "strided", "strided, transposed", "coo, duplicates"])
def test_from_torch(layout):
    A = sparse(torch_sparse(layout))
    np.testing.assert_array_equal(dense(A).numpy(), M)
    assert A.nnz == 6


@pytest.mark.parametrize(
    "kind",
    [
        sp.csr_array,
        sp.csr_matrix,
        sp.csc_array,
        sp.coo_array,
        sp.lil_array,
        sp.dok_array,
        np.asarray,
        PetscMat,
    ],
)
def test_from_scipy_numpy_petsc(kind):
    A = sparse(kind(M))
    np.testing.assert_array_equal(dense(A).numpy(), M)
    np.testing.assert_array_equal(to_scipy(A).toarray(), M)
    assert A.crow.dtype is A.col.dtype is torch.int32


@pytest.mark.parametrize("name", ["a.mtx", "a.mtx.gz", "a.npz", "dense.mtx", "symmetric.mtx", "pattern.mtx"])
def test_from_file(tmp_path, name):
    path, expected = tmp_path / name, M
    if name == "a.npz":
        sp.save_npz(path, sp.csc_array(M))
    elif name == "dense.mtx":
        scipy.io.mmwrite(path, M)
    elif name == "symmetric.mtx":
        expected = M @ M.T
        scipy.io.mmwrite(path, sp.coo_array(expected), symmetry="symmetric")
    elif name == "pattern.mtx":
        expected = (M != 0).astype(float)
        path.write_text(
            "%%MatrixMarket matrix coordinate pattern general\n3 4 6\n1 1\n1 3\n2 2\n3 1\n3 3\n3 4\n"
        )
    elif name.endswith(".gz"):
        scipy.io.mmwrite(tmp_path / "a.mtx", sp.coo_array(M))
        import gzip

        path.write_bytes(gzip.compress((tmp_path / "a.mtx").read_bytes()))
    else:
        scipy.io.mmwrite(path, sp.coo_array(M))
    for given in (path, str(path)):
        np.testing.assert_allclose(dense(sparse(given)).numpy(), expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.int64, torch.float64),
        (np.bool_, torch.float64),
        (np.float16, torch.float64),
        (np.float32, torch.float32),
        (np.longdouble, torch.float64),
        (np.complex64, torch.complex64),
        (np.complex128, torch.complex128),
        (">f8", torch.float64),
        (">i4", torch.float64),
        (">c16", torch.complex128),
    ],
)
def test_number_types(given, expected):
    A = sparse(sp.coo_array(M != 0).astype(given) if given is np.bool_ else M.astype(given))
    assert A.dtype is expected
    np.testing.assert_array_equal(dense(A).numpy(), (M != 0) if given is np.bool_ else M)
    assert sparse(M, dtype=torch.float32).dtype is torch.float32


def test_the_callers_matrix_stays_as_it_is():
    given = sp.csr_array(
        (np.array([1.0, 2, 3, 4]), np.array([2, 0, 0, 1]), np.array([0, 3, 4])), shape=(2, 3)
    )
    kept = given.copy()
    A = sparse(given)
    np.testing.assert_array_equal(dense(A).numpy(), [[5, 0, 1], [0, 4, 0]])
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(given, part), getattr(kept, part))
    given.data[:] = 0
    assert float(dense(A).sum()) == 10


def test_to_another_type_and_device():
    A = sparse(M).to(dtype=torch.float32)
    assert A.dtype is torch.float32
    assert A.to("cpu").device == torch.device("cpu")
    meta = sparse(sp.eye_array(3), nullspace=None, tags=SPD).to(dtype=torch.float32)
    assert meta.positive_definite


class TestTags:
    def test_a_laplacian_is_spd(self):
        A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(5, 5))
        assert infer_tags(sp.csr_array(A)) == SPD

    def test_a_graph_laplacian_is_not(self):
        A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(5, 5)).tolil()
        A[0, 0] = A[4, 4] = 1
        assert infer_tags(sp.csr_array(A)) == SYMMETRIC

    def test_one_floating_part_beside_a_grounded_one_is_not(self):
        floating = np.array([[1.0, -1], [-1, 1]])
        A = sp.csr_array(sp.block_diag([floating, np.array([[2.0, -1], [-1, 2]])]))
        assert infer_tags(A) == SYMMETRIC
        assert float(torch.linalg.eigvalsh(dense(sparse(A)))[0]) == pytest.approx(0, abs=1e-14)

    def test_others(self):
        assert infer_tags(sp.csr_array(M)) == frozenset()
        assert infer_tags(sp.csr_array(np.array([[1.0, 2], [3, 4]]))) == frozenset()
        assert infer_tags(sp.csr_array(np.array([[-2.0, 1], [1, -2]]))) == SYMMETRIC
        assert infer_tags(sp.csr_array((3, 3))) == frozenset()
        assert infer_tags(sp.csr_array(np.array([[2.0, 1j], [-1j, 2]]))) == frozenset()
        assert infer_tags(sp.csr_array(np.array([[2.0, 1j], [1j, 2]]))) == frozenset()
        assert sparse(np.eye(3), tags=[Tag.SPD]).positive_definite


class TestComplex:
    A = sparse(M[:, :3] + 1j * np.arange(9).reshape(3, 3))

    def test_products_and_the_adjoint_for_scipy(self):
        matrix = dense(self.A).numpy()
        op = to_scipy_operator(self.A)
        y = np.arange(3) - 1j
        np.testing.assert_allclose(op.rmatvec(y), matrix.conj().T @ y)
        np.testing.assert_allclose(op.H @ np.outer(y, y), matrix.conj().T @ np.outer(y, y))

    def test_gradients(self):
        A = self.A
        x = torch.randn(2, 3, dtype=torch.complex128, requires_grad=True)
        values = A.values.clone().requires_grad_()
        apply = lambda v, x: CSR(A.crow, A.col, v, A.shape) @ x  # noqa: E731
        assert torch.autograd.gradcheck(apply, (values, x))


class TestTranspose:
    def test_it_is_made_once(self):
        A = sparse(M)
        assert A.T is A.T

    def test_every_use_with_gradients_has_its_own_graph(self):
        A = sparse(M)
        values = A.values.clone().requires_grad_()
        B = CSR(A.crow, A.col, values, A.shape)
        x = torch.ones(3, dtype=torch.float64)
        for _ in range(2):
            (grad,) = torch.autograd.grad((B.T @ x).sum(), values)
            assert float(grad.sum()) == 6

    def test_one_made_without_gradients_does_not_lose_them_later(self):
        A = sparse(M)
        values = A.values.clone().requires_grad_()
        B = CSR(A.crow, A.col, values, A.shape)
        with torch.no_grad():
            _ = B.T
        assert (B.T @ torch.ones(3, dtype=torch.float64)).requires_grad

    def test_a_second_derivative_is_refused_not_wrong(self):
        values = sparse(M).values.clone().requires_grad_()
        A = CSR(sparse(M).crow, sparse(M).col, values, (3, 4))
        x = torch.ones(4, dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad((A @ x).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()


def csr(crow=(0, 1, 2), col=(0, 1), values=(1.0, 1.0), shape=(2, 2), index=torch.int32):
    return CSR(torch.tensor(crow, dtype=index), torch.tensor(col, dtype=index), torch.tensor(values), shape)


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (
            lambda: csr(crow=(0, 1)),
            ShapeMismatch,
            "2 row pointers for 2 rows, 2 column indices for 2 entries",
        ),
        (lambda: csr(col=(0,)), ShapeMismatch, "1 column indices for 2 entries"),
        (lambda: csr(crow=(0, 1, 1)), ShapeMismatch, "CSR arrays do not fit"),
        (lambda: csr(col=(0, 2)), ShapeMismatch, r"column indices run from 0 to 2, shape is \(2, 2\)"),
        (lambda: csr(col=(-1, 0)), ShapeMismatch, "column indices run from -1 to 0"),
        (lambda: csr(crow=(0, 3, 2)), ShapeMismatch, "must start at 0 and never decrease"),
        (lambda: csr(crow=(1, 1, 2)), ShapeMismatch, "must start at 0 and never decrease"),
        (lambda: csr(values=(1.0, float("nan"))), NonFinite, "NaN or infinite entries: repair it"),
        (lambda: csr(values=(1, 1)), MixedDtypes, "needs a floating-point type, got torch.int64"),
        (
            lambda: csr(index=torch.int16),
            MixedDtypes,
            "row pointers are torch.int16, column indices torch.int16",
        ),
        (lambda: sparse(np.array([[np.inf]])), NonFinite, "NaN or infinite entries"),
        (lambda: sparse(np.ones(3)), ShapeMismatch, r"a matrix has two axes, this array has shape \(3,\)"),
        (lambda: sparse(torch.ones(2, 2, 2)), ShapeMismatch, r"this array has shape \(2, 2, 2\)"),
        (lambda: sparse("nowhere.mtx"), FileNotFoundError, "no matrix file at nowhere.mtx"),
        (lambda: sparse({}), NotSupported, "cannot read a matrix from dict: give a SciPy sparse array"),
        (lambda: sparse(M, tags=SPD), ShapeMismatch, "a symmetric operator is square, this one is 3 x 4"),
        (lambda: sparse(M) @ np.ones(4), NotSupported, "got ndarray: convert it with torch.as_tensor"),
        (
            lambda: sparse(M) @ torch.ones(3).double(),
            ShapeMismatch,
            r"x has shape \(3,\), the operator takes",
        ),
        (lambda: sparse(M) @ torch.tensor(1.0).double(), ShapeMismatch, "the last axis counts the unknowns"),
        (lambda: sparse(M) @ torch.ones(4), MixedDtypes, "x is torch.float32, the operator is torch.float64"),
        (
            lambda: sparse(M) @ torch.ones(4, device="meta").double(),
            MixedDevices,
            "x is on meta, the operator on cpu",
        ),
    ],
)
def test_errors(build, error, text):
    with pytest.raises(error, match=text):
        build()


def test_an_unknown_kind_of_file_is_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,2")
    with pytest.raises(
        NotSupported, match=r"a.csv: a matrix is read from MatrixMarket \(.mtx, .mtx.gz\) or SciPy"
    ):
        sparse(path)


def test_petsc_is_missed_by_name():
    try:
        import petsc4py  # noqa: F401
    except ImportError:
        with pytest.raises(NotSupported, match="petsc4py is not importable in this interpreter"):
            to_petsc(sparse(M))
    else:
        back = sparse(to_petsc(sparse(M)))
        np.testing.assert_array_equal(dense(back).numpy(), M)


@pytest.mark.fenics
def test_a_true_petsc_matrix_gives_what_the_stand_in_gives(tmp_path):
    """`getSize` and `getValuesCSR` of petsc4py in the interpreter that has it."""
    from solvus.solvers.fem import find_interpreter

    script = (
        "import sys, numpy as np\nfrom petsc4py import PETSc\n"
        "A = PETSc.Mat().createAIJ((3, 4), csr=(np.array([0, 2, 3, 6], dtype=PETSc.IntType),"
        " np.array([0, 2, 1, 0, 2, 3], dtype=PETSc.IntType), np.array([2.0, -1, 3, -1, 2, 4])))\n"
        "A.assemble()\nindptr, indices, data = A.getValuesCSR()\n"
        "np.savez(sys.argv[1], indptr=indptr, indices=indices, data=data, shape=A.getSize())\n"
    )
    path = tmp_path / "mat.npz"
    subprocess.run([str(find_interpreter().interpreter), "-c", script, str(path)], check=True, timeout=120)
    with np.load(path) as found:
        stand_in = PetscMat(
            sp.csr_array((found["data"], found["indices"], found["indptr"]), shape=tuple(found["shape"]))
        )
    np.testing.assert_array_equal(dense(sparse(stand_in)).numpy(), M)
