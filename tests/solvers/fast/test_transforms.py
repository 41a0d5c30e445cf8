"""Sine and cosine transforms: both paths against each other and against the definition."""

import numpy as np
import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, dense
from solvus.solvers.fast.separable import axis_transform
from solvus.solvers.fast.transforms import Kind, transform_scipy, transform_torch

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}


def definition(kind: Kind, n: int) -> torch.Tensor:
    """The matrix of a transform, row k, column j, as SciPy's documentation defines it."""
    k, j = torch.meshgrid(torch.arange(n).double(), torch.arange(n).double(), indexing="ij")
    wave = torch.sin if kind.sine else torch.cos
    shift = 1.0 if kind.sine else 0.0
    match kind.type:
        case 1:
            angle = (k + shift) * (j + shift) / (n + 1 if kind.sine else n - 1)
        case 2:
            angle = (k + shift) * (j + 0.5) / n
        case 3:
            angle = (k + 0.5) * (j + shift) / n
        case _:
            angle = (k + 0.5) * (j + 0.5) / n
    matrix = 2 * wave(torch.pi * angle)
    if kind is Kind.DCT1:
        matrix[:, [0, -1]] /= 2
    if kind.type == 3:
        matrix[:, -1 if kind.sine else 0] /= 2
    return matrix


def sizes(kind: Kind) -> list[int]:
    return [2, 3, 8, 9] if kind is Kind.DCT1 else [1, 2, 3, 8, 9]


def difference(transform, kind: Kind, n: int, dtype: torch.dtype) -> float:
    """Largest deviation of a transform along the middle axis from the definition."""
    x = torch.randn(2, n, 3, dtype=dtype)
    want = torch.einsum("kj,bjc->bkc", definition(kind, n).to(dtype), x)
    return float((transform(x, kind) - want).abs().max()) / n


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", Kind)
def test_both_paths_follow_the_definition(kind, dtype):
    for n in sizes(kind):
        fft = difference(lambda x, k: transform_torch(x, k, 1), kind, n, dtype)
        scipy = difference(lambda x, k: transform_scipy(x.clone(), k, [1], 1), kind, n, dtype)
        assert max(fft, scipy) < TOLERANCE[dtype]


def test_a_wrong_transform_is_found():
    assert difference(lambda x, k: transform_torch(x, Kind.DST3, 1), Kind.DST2, 8, torch.float64) > 1e-3


@pytest.mark.parametrize("kind", Kind)
def test_inverse_undoes(kind):
    for n in sizes(kind):
        x = torch.randn(n, 2, dtype=torch.float64)
        back = transform_torch(transform_torch(x, kind, 0), kind.inverse, 0) / kind.period(n)
        torch.testing.assert_close(back, x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_scipy_works_in_place(dtype):
    for kind in Kind:
        x = torch.randn(4, 6, 5, dtype=dtype)
        place = x.data_ptr()
        y = transform_scipy(x, kind, [-2, -1], 2)
        assert y is x
        assert x.data_ptr() == place
        assert x.dtype == dtype


@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize(
    "pair",
    [
        ("dirichlet", "dirichlet"),
        ("neumann", "neumann"),
        ("dirichlet", "neumann"),
        ("neumann", "dirichlet"),
        ("periodic", "periodic"),
    ],
)
def test_eigenvalues_are_those_of_the_matrix(centring, pair):
    grid = Grid((9,), upper=(2.0,), centring=centring, boundary=[pair])
    A = Diffusion(grid)
    root = A.weights().rsqrt()
    want = np.linalg.eigvalsh((root[:, None] * dense(A) * root).numpy())
    found = np.sort(axis_transform(grid, 0).eigenvalues) / grid.spacing[0] ** 2
    np.testing.assert_allclose(found, want, atol=1e-10)
