"""Tags and null spaces of combined operators, and what cannot be combined."""

import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.linear import (
    SPD,
    Constants,
    Diagonal,
    Diffusion,
    Identity,
    LinearOperator,
    MixedDevices,
    MixedDtypes,
    NotSupported,
    ShapeMismatch,
    Span,
    Tag,
    dense,
    diagonal,
    sparse,
    to_scipy,
)

NEUMANN = Grid((4, 4), centring="cell", boundary="neumann")


def eye(n=3, dtype=torch.float64, device="cpu"):
    return Identity(n, dtype, device)


class TestTags:
    def test_sum_of_spd_is_spd(self):
        assert (Diffusion(Grid((3, 3))) + eye(9)).positive_definite

    def test_difference_is_symmetric_only(self):
        A = Diffusion(Grid((3, 3))) - eye(9)
        assert A.symmetric
        assert not A.positive_definite

    def test_scaling(self):
        A = Diffusion(NEUMANN)
        assert (2 * A).nullspace is A.nullspace
        assert (2 * A).positive_definite
        assert not (-2 * A).positive_definite
        assert (0 * A).nullspace is None
        assert not (0 * A).positive_definite

    def test_singular_plus_regular_is_regular(self):
        A = Diffusion(NEUMANN) + eye(16)
        assert A.positive_definite
        assert A.nullspace is None

    def test_two_singular_with_one_kernel_keep_it(self):
        A = Diffusion(NEUMANN) + 3.0 * Diffusion(NEUMANN)
        assert A.positive_definite
        assert isinstance(A.nullspace, Constants)

    def test_two_singular_with_kernels_not_known_equal_are_symmetric_only(self):
        ones = torch.ones(16, dtype=torch.float64)
        B = sparse(to_scipy(Diffusion(NEUMANN)), tags=SPD, nullspace=Span(ones))
        A = Diffusion(NEUMANN) + B
        assert A.symmetric
        assert not A.positive_definite
        assert A.nullspace is None

    def test_labels_decide_on_equality(self):
        labels = torch.tensor([0, 0, 1, 1])
        entries = torch.ones(4, dtype=torch.float64)

        def singular(kernel):
            A = Diagonal(entries, tags=SPD)
            A.nullspace = kernel
            return A

        assert (singular(Constants(labels)) + singular(Constants(labels.clone()))).nullspace is not None
        assert (singular(Constants(labels)) + singular(Constants(labels.flip(0)))).nullspace is None
        assert (singular(Constants(labels)) + singular(Constants())).nullspace is None

    def test_a_product_has_no_tags_unless_given(self):
        assert not (eye() @ eye()).tags


class TestNullSpaces:
    def test_span(self):
        vectors = torch.tensor([[1.0, 1, 1, 1], [1, 2, 3, 4]], dtype=torch.float64)
        Z = Span(vectors)
        assert Z.dimension == 2
        x = torch.randn(5, 4, dtype=torch.float64)
        assert float((Z.project(x) @ vectors.mT).abs().max()) < 1e-13
        torch.testing.assert_close(Z.project(vectors), torch.zeros_like(vectors))
        torch.testing.assert_close(Z.component(x) + Z.project(x), x)

    def test_complex_span(self):
        z = torch.tensor([1.0, 1j, -1.0], dtype=torch.complex128)
        assert float(Span(z).project(z).abs().max()) < 1e-14

    def test_constants_on_parts(self):
        Z = Constants(torch.tensor([0, 0, -1, 1, 1, 1]))
        x = torch.tensor([[1.0, 3, 9, 1, 2, 6]], dtype=torch.float64)
        assert Z.dimension == 2
        assert Z.component(x).tolist() == [[2, 2, 0, 3, 3, 3]]

    @pytest.mark.parametrize(
        "vectors",
        [
            torch.tensor([[1.0, 2, 3], [2, 4, 6]], dtype=torch.float64),
            torch.tensor([[1.0, 2, 3], [1.1, 2.2, 3.3]]),  # float32: dependent to rounding
            torch.zeros(3),
            torch.eye(3)[:, :2],  # three vectors of length two
            torch.tensor([float("nan"), 1.0]),
        ],
    )
    def test_dependent_vectors_are_refused(self, vectors):
        with pytest.raises(ValueError, match="linearly dependent or not finite: give an independent set"):
            Span(vectors)


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: eye(3) + eye(4), ShapeMismatch, r"cannot add operators of shapes \(3, 3\) and \(4, 4\)"),
        (
            lambda: eye(3) @ eye(4),
            ShapeMismatch,
            r"cannot multiply operators of shapes \(3, 3\) and \(4, 4\)",
        ),
        (lambda: eye() + eye(dtype=torch.float32), MixedDtypes, "cannot add .* build both in one type"),
        (lambda: eye() @ eye(dtype=torch.float32), MixedDtypes, "cannot multiply .* build both in one type"),
        (lambda: eye() + eye(device="meta"), MixedDevices, "operators on cpu and meta: move one of them"),
        (lambda: diagonal(eye() @ eye()), NotSupported, "no diagonal is known for Product"),
        (lambda: to_scipy(Diagonal(torch.ones(2, 3))), NotSupported, r"a batch of \(2,\) operators"),
        (lambda: to_scipy(MatrixFree()), NotSupported, "MatrixFree is matrix-free without a known sparsity"),
        (lambda: diagonal(MatrixFree()), NotSupported, "no diagonal is known for MatrixFree"),
        (
            lambda: Diagonal(torch.ones(2, 3)) @ torch.ones(5, 3),
            ShapeMismatch,
            r"the operator is a batch of \(2,\): give x the shape \(2, 3\)",
        ),
    ],
)
def test_errors(build, error, text):
    with pytest.raises(error, match=text):
        build()


class MatrixFree(LinearOperator):
    """An operator that nobody knows."""

    def __init__(self):
        super().__init__((2, 2), torch.float64)

    def matvec(self, x):
        return x.flip(-1)

    def transpose(self):
        return self


def test_dense_of_an_unknown_operator():
    assert dense(MatrixFree()).tolist() == [[0, 1], [1, 0]]
    assert Tag.SPD not in MatrixFree().tags
