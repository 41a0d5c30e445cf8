"""The fast solver: exact on every boundary, centring and dimension."""

import itertools

import numpy as np
import pytest
import scipy.sparse.linalg as spla
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, NotSupported, dense, sparse, to_scipy
from solvus.solvers import LinearSystem, Status, Stop, solve
from solvus.solvers.fast import Backend, FastTransform
from solvus.solvers.fast.separable import SeparableInverse

PAIRS = [
    ("dirichlet", "dirichlet"),
    ("neumann", "neumann"),
    ("dirichlet", "neumann"),
    ("neumann", "dirichlet"),
    ("periodic", "periodic"),
]
SHAPES = [(7,), (4, 5), (2, 3, 4)]


def grids(shape: tuple[int, ...], centring: str) -> list[Grid]:
    upper = (1.0, 0.8, 1.3)[: len(shape)]
    choices = itertools.product(PAIRS, repeat=len(shape))
    return [Grid(shape, upper=upper, centring=centring, boundary=list(b)) for b in choices]


def worst_error(grid: Grid, reaction: float, backend: Backend, told: float | None = None) -> float:
    """Error against the dense solution (of least norm), with a wrong reaction where one is `told`."""
    A = Diffusion(grid, 2.5, reaction)
    b = torch.randn(2, grid.size, dtype=torch.float64)
    b = b if A.nullspace is None else A.nullspace.project(b)
    want = b @ torch.linalg.pinv(dense(A), hermitian=True, rtol=1e-12)
    box = SeparableInverse(
        grid, 2.5, reaction if told is None else told, dtype=A.dtype, device=A.device, backend=backend
    )
    x = box.apply_(b.clone().view(2, *grid.shape)).view(2, -1)
    x = x if A.nullspace is None else A.nullspace.project(x)
    return float((x - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("backend", [Backend.SCIPY, Backend.TORCH])
@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_boundary_against_a_dense_solve(shape, centring, backend):
    for grid in grids(shape, centring):
        for reaction in (0.0, 0.7):
            assert worst_error(grid, reaction, backend) < 1e-11, grid.boundary


def test_a_wrong_eigenvalue_is_found():
    assert worst_error(Grid((4, 5)), 0.0, Backend.SCIPY, told=1e-4) > 1e-7


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("centring", ["node", "cell"])
def test_smallest_axes(size, centring):
    for pair in PAIRS:
        if centring == "node" and size == 1 and pair == ("neumann", "neumann"):
            continue  # no cell
        grid = Grid((size, 3), centring=centring, boundary=[pair, PAIRS[0]])
        for backend in (Backend.SCIPY, Backend.TORCH):
            assert worst_error(grid, 0.3, backend) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("backend", list(Backend))
def test_one_step(dtype, backend):
    A = Diffusion(Grid((15, 16, 8), boundary=["dirichlet", "periodic", "neumann"]), 0.3, dtype=dtype)
    b = torch.randn(A.shape[0], dtype=dtype)
    kept = b.clone()
    result = solve(LinearSystem(A, b), FastTransform(backend), stop=Stop(1e-4))
    assert result.steps == 1
    assert result.value.dtype == dtype
    assert result.relative_residual < (1e-11 if dtype is torch.float64 else 1e-4)
    assert torch.equal(b, kept)
    if dtype is torch.float64:
        want = spla.spsolve(to_scipy(A).tocsc(), b.numpy())
        np.testing.assert_allclose(result.value.numpy(), want, atol=1e-10)


def test_singular_gives_the_solution_of_zero_mean():
    A = Diffusion(Grid((9, 8), boundary=["neumann", "periodic"]))
    b = A.nullspace.project(torch.randn(72, dtype=torch.float64))
    result = solve(LinearSystem(A, b), FastTransform(), stop=Stop(1e-10))
    assert result.steps == 1
    assert abs(float(result.value.mean())) < 1e-12


def test_a_tiny_reaction_is_not_taken_for_a_singular_operator():
    A = Diffusion(Grid((4001,), boundary="neumann"), 1.0, 1e-9)
    box = SeparableInverse(A.grid, 1.0, 1e-9, dtype=A.dtype, device=A.device)
    torch.testing.assert_close(box.apply_(A.weights()), torch.full((4001,), 1e9, dtype=A.dtype))


def test_batch_equals_loop():
    A = Diffusion(Grid((6, 7), centring="cell", boundary=["neumann", "periodic"]), reaction=2.0)
    b = torch.randn(3, 42, dtype=torch.float64)
    many = solve(LinearSystem(A, b), FastTransform(), stop=Stop(1e-10)).value
    for one, value in zip(b, many, strict=True):
        assert torch.allclose(solve(LinearSystem(A, one), FastTransform()).value, value, rtol=0, atol=1e-13)


def test_warm_start_and_refinement():
    A = Diffusion(Grid((63, 63)), dtype=torch.float32)
    b = torch.randn(63 * 63)
    x0 = torch.randn(63 * 63)
    steps = FastTransform().iterate(LinearSystem(A, b), x0.clone())
    norms = [float(next(steps)[1] / b.norm()) for _ in range(4)]
    assert norms[0] > 1
    assert norms[1] < 1e-1  # the start's error, 1e7 times b here, is gone to single precision
    assert norms[3] < 1e-4 < norms[0]


def test_gradient_by_the_adjoint():
    A = Diffusion(Grid((3, 4)))
    b = torch.randn(12, dtype=torch.float64, requires_grad=True)

    def value(b: torch.Tensor) -> torch.Tensor:
        return solve(LinearSystem(A, b), FastTransform(), stop=Stop(1e-12)).value

    assert torch.autograd.gradcheck(value, b, atol=1e-7)


def disc(n: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n), indexing="ij")
    return x**2 + y**2 > 0.3


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (
            sparse(np.eye(3)),
            r"works on a Diffusion operator on a Grid, this one is CSR: .* multigrid or a direct",
        ),
        (
            Diffusion(Grid((3, 3)), torch.rand(4, 4) + 1),
            r"the coefficient of this Diffusion is given as a field.*CG\(",
        ),
        (
            Diffusion(Grid((3,)), torch.rand(4) + 1, torch.rand(3) + 1),
            "the coefficient and the reaction of this Diffusion",
        ),
        (
            Diffusion(Grid((9, 9), mask=disc(9))),
            r"needs a full box, this grid is masked: use CG\(fast_transform",
        ),
        (Diffusion(Grid((3,)), dtype=torch.float16), "float32 or float64, this operator is torch.float16"),
    ],
)
def test_what_it_rejects(A, message):
    b = torch.zeros(A.shape[0], dtype=A.dtype)
    with pytest.raises(NotSupported, match=message):
        solve(LinearSystem(A, b), FastTransform())


def test_bad_settings():
    with pytest.raises(ValueError, match="workers must be at least 1, or None"):
        FastTransform(workers=0)
    with pytest.raises(ValueError, match="numpy"):
        FastTransform(backend="numpy")  # type: ignore[arg-type]
    A = Diffusion(Grid((3,)))
    A.device = torch.device("cuda")
    with pytest.raises(NotSupported, match="SciPy transforms work on the CPU only, the operator is on cuda"):
        FastTransform("scipy").check(type("P", (), {"A": A}))


def test_full_mask_is_a_full_box():
    A = Diffusion(Grid((5, 5), mask=np.ones((5, 5), dtype=bool)))
    result = solve(LinearSystem(A, torch.ones(25, dtype=torch.float64)), FastTransform())
    assert (result.status, result.steps) == (Status.CONVERGED, 1)


def test_floor_gives_the_zero_mode_the_lowest_other_eigenvalue():
    grid = Grid((6, 5), upper=(2.0, 1.0), centring="cell", boundary="neumann")
    one = torch.ones(2, 6, 5, dtype=torch.float64)
    k = torch.tensor([3.0, 5.0], dtype=torch.float64)
    lowest = k * (2 - 2 * np.cos(np.pi / 6)) * 9  # h = 1/3
    for floor, want in ((0.0, 0 * k), (2.0, 1 / (2 * lowest))):
        box = SeparableInverse(grid, k, 0.0, dtype=one.dtype, device=one.device, floor=floor)
        torch.testing.assert_close(box.apply_(one.clone()), want[:, None, None] * one)
