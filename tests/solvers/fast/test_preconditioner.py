"""The fast-transform preconditioner: positive definite over its full spectrum, few steps, usable by SciPy."""

import pickle

import numpy as np
import pytest
import scipy.sparse.linalg as spla
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, LinearOperator, NotSupported, dense, sparse, to_scipy_operator
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.fast import fast_transform

F64 = torch.float64


def ball(shape: tuple[int, ...], radius: float = 0.25) -> np.ndarray:
    axes = np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in shape], indexing="ij")
    return sum(a**2 for a in axes) > radius**2


def two_rooms() -> np.ndarray:
    """Two parts that a wall divides, and an unknown shut in alone."""
    mask = np.ones((9, 8), dtype=bool)
    mask[4] = False
    mask[0, 1] = mask[1, 0] = mask[1, 1] = False
    return mask


def rough(shape: tuple[int, ...], contrast: float = 50.0) -> torch.Tensor:
    high = torch.rand(shape, generator=torch.Generator().manual_seed(3)) > 0.5
    return torch.where(high, contrast, 1.0).double()


def gentle(cells: tuple[int, ...]) -> torch.Tensor:
    x = [torch.linspace(0, 1, n, dtype=F64) for n in cells]
    grid = torch.meshgrid(*x, indexing="ij")
    return torch.exp(2 * torch.sin(6 * grid[0]) * torch.cos(3 * grid[-1]))


OPERATORS = {
    "box": lambda: Diffusion(Grid((6, 7)), 2.0, 3.0),
    "neumann nodes": lambda: Diffusion(Grid((6, 7), boundary="neumann")),
    "neumann cells": lambda: Diffusion(Grid((6, 7), centring="cell", boundary="neumann")),
    "periodic": lambda: Diffusion(Grid((6, 7), boundary="periodic")),
    "mixed faces": lambda: Diffusion(
        Grid((5, 4, 3), boundary=[("dirichlet", "neumann"), "periodic", "neumann"])
    ),
    "rough": lambda: Diffusion(Grid((6, 7), centring="cell"), rough((6, 7))),
    "rough neumann nodes": lambda: Diffusion(Grid((6, 7), boundary="neumann"), rough((5, 6))),
    "gentle neumann": lambda: Diffusion(Grid((8, 8), centring="cell", boundary="neumann"), gentle((8, 8))),
    "reaction field": lambda: Diffusion(
        Grid((6, 7), boundary="neumann"), 1.0, torch.arange(42, dtype=F64).reshape(6, 7)
    ),
    "both fields": lambda: Diffusion(Grid((6, 7), centring="cell"), rough((6, 7)), rough((6, 7))),
    "no-flux ball": lambda: Diffusion(
        Grid((9, 8), centring="cell", boundary="neumann", mask=ball((9, 8)))
    ),
    "no-flux ball, nodes": lambda: Diffusion(Grid((9, 8), boundary="neumann", mask=ball((9, 8)))),
    "no-flux ball, open box": lambda: Diffusion(Grid((5, 5, 5), mask=ball((5, 5, 5)))),
    "fixed ball in closed box": lambda: Diffusion(
        Grid((9, 8), centring="cell", boundary="neumann", mask=ball((9, 8)), obstacle="dirichlet")
    ),
    "fixed ball, nodes": lambda: Diffusion(Grid((9, 8), mask=ball((9, 8)), obstacle="dirichlet")),
    "two rooms": lambda: Diffusion(Grid((9, 8), centring="cell", boundary="neumann", mask=two_rooms())),
    "two rooms, fixed walls": lambda: Diffusion(
        Grid((9, 8), centring="cell", boundary="neumann", mask=two_rooms(), obstacle="dirichlet")
    ),
    "two rough rooms": lambda: Diffusion(
        Grid((9, 8), centring="cell", boundary="neumann", mask=two_rooms()), rough((9, 8))
    ),
    "one unknown": lambda: Diffusion(Grid((1,)), torch.tensor([1.0, 3.0], dtype=F64)),
}  # fmt: skip


def fault(A: LinearOperator, M: LinearOperator) -> str:
    """What is wrong with M as a preconditioner of A, over the full spectrum; "" when nothing is."""
    matrix = dense(M)
    size = matrix.abs().max()
    if (matrix - matrix.T).abs().max() > 1e-12 * size:
        return "not symmetric"
    values, vectors = torch.linalg.eigh(matrix)
    null = 0 if A.nullspace is None else A.nullspace.dimension
    if (values[:null].abs() > 1e-12 * size).any() or values[null] <= 1e-9 * size:
        return "not positive definite on the complement of the null space"
    if null and (vectors[:, :null].T - A.nullspace.component(vectors[:, :null].T)).abs().max() > 1e-8:
        return "its kernel is not that of A"
    return ""


@pytest.mark.parametrize("scaling", [None, True, False])
@pytest.mark.parametrize("name", OPERATORS)
def test_symmetric_positive_definite(name, scaling):
    A = OPERATORS[name]()
    assert fault(A, fast_transform(scaling=scaling)(A)) == ""


def test_wrong_preconditioners_are_found():
    A = OPERATORS["no-flux ball"]()
    M = fast_transform()(A)
    assert fault(OPERATORS["box"](), sparse(np.diag(np.r_[-1.0, np.ones(41)]))).startswith("not positive")
    assert fault(A, sparse(np.triu(dense(M).numpy()) + np.eye(72))) == "not symmetric"
    M.nullspace = None  # no projection
    assert fault(A, M) != ""


@pytest.mark.parametrize(
    "name", ["box", "neumann nodes", "neumann cells", "periodic", "mixed faces", "one unknown"]
)
def test_exact_where_nothing_varies(name):
    A = OPERATORS[name]()
    b = torch.randn(A.shape[0], dtype=F64)
    b = b if A.nullspace is None else A.nullspace.project(b)
    assert solve(LinearSystem(A, b), CG(fast_transform()), stop=Stop(1e-10)).steps == 1


def condition(A: LinearOperator, M: LinearOperator) -> float:
    """Condition number of M A on the complement of the null space."""
    root = torch.linalg.cholesky(dense(A) + (0 if A.nullspace is None else 1e-10) * torch.eye(A.shape[0]))
    values = torch.linalg.eigvalsh(root.T @ dense(M) @ root)
    return float(values[-1] / values[0 if A.nullspace is None else A.nullspace.dimension])


@pytest.mark.parametrize("contrast", [2.0, 50.0])
def test_condition_is_at_most_the_contrast(contrast):
    A = Diffusion(Grid((10, 10), centring="cell"), rough((10, 10), contrast))
    assert condition(A, fast_transform(scaling=False)(A)) <= contrast * (1 + 1e-9)


def test_the_better_scaling_is_chosen():
    smooth = Diffusion(Grid((24, 24), centring="cell"), gentle((24, 24)))
    jumping = Diffusion(Grid((24, 24), centring="cell"), rough((24, 24), 10.0))
    for A, better in ((smooth, True), (jumping, False)):
        found = [condition(A, fast_transform(scaling=s)(A)) for s in (better, not better, None)]
        assert found[0] < 0.75 * found[1]
        assert found[2] == pytest.approx(found[0])


def sphere(n: int, obstacle: str = "neumann") -> LinearSystem:
    """A closed box of n^3 cells with a solid sphere of radius 0.2, pushed near one wall."""
    mask = ball((n, n, n), 0.2)
    A = Diffusion(Grid((n, n, n), centring="cell", boundary="neumann", mask=mask, obstacle=obstacle))
    c = (np.arange(n) + 0.5) / n
    X, Y, Z = np.meshgrid(c, c, c, indexing="ij")
    b = np.exp(-((X - 0.5) ** 2 + (Z - 0.5) ** 2) / 0.005 - (Y - 0.15) ** 2 / 0.01) * (Y - 0.15)
    b = b + 1e-3 * np.random.default_rng(0).standard_normal(b.shape)
    return LinearSystem(A, np.where(mask, b - b[mask].mean(), 0).ravel())


def steps_to(system: LinearSystem, *tolerances: float) -> list[int]:
    result = solve(system, CG(fast_transform()), stop=Stop(min(tolerances)))
    relative = (result.residuals / system.scale()).tolist()
    return [next(i for i, r in enumerate(relative) if r <= tol) for tol in tolerances]


@pytest.mark.parametrize(("n", "most"), [(16, (6, 9, 12)), (32, (6, 9, 12)), (64, (6, 9, 12))])
def test_steps_do_not_grow_with_the_grid(n, most):
    found = steps_to(sphere(n), 1e-4, 1e-6, 1e-8)
    assert all(f <= m for f, m in zip(found, most, strict=True)), found


def test_fixed_obstacles_are_solved_too():
    assert steps_to(sphere(16, "dirichlet"), 1e-8)[0] <= 20


def test_several_parts_and_an_isolated_unknown():
    A = OPERATORS["two rooms"]()
    b = A.nullspace.project(torch.randn(72, dtype=F64))
    result = solve(LinearSystem(A, b), CG(fast_transform()), stop=Stop(1e-10))
    want = torch.linalg.pinv(dense(A), hermitian=True) @ b
    torch.testing.assert_close(result.value, want, rtol=0, atol=1e-8)
    assert result.steps <= 20


def test_batch_of_operators_equals_loop():
    k = torch.stack([gentle((6, 7)), rough((6, 7)), torch.ones(6, 7, dtype=F64)])
    mask = np.ones((6, 7), dtype=bool)
    mask[2:4, 3:5] = False
    for grid in (Grid((6, 7), centring="cell"), Grid((6, 7), centring="cell", boundary="neumann", mask=mask)):
        x = torch.randn(3, 42, dtype=F64)
        many = fast_transform()(Diffusion(grid, k, k)) @ x
        for sample, vector, found in zip(k, x, many, strict=True):
            one = fast_transform()(Diffusion(grid, sample, sample)) @ vector
            torch.testing.assert_close(found, one, rtol=1e-10, atol=1e-14)


def test_batch_of_vectors_and_both_backends():
    A = OPERATORS["two rough rooms"]()
    x = torch.randn(2, 3, 72, dtype=F64)
    fast = fast_transform(backend="scipy")(A) @ x
    torch.testing.assert_close(fast, fast_transform(backend="torch")(A) @ x, rtol=0, atol=1e-12)
    one = fast_transform()(A) @ x[1, 2]
    torch.testing.assert_close(fast[1, 2], one, rtol=0, atol=1e-12)


def test_single_precision():
    grid = Grid((16, 16), centring="cell", boundary="neumann", mask=ball((16, 16)))
    A = Diffusion(grid, dtype=torch.float32)
    b = A.nullspace.project(torch.randn(256))
    result = solve(LinearSystem(A, b), CG(fast_transform()), stop=Stop(1e-4))
    assert result.value.dtype == torch.float32
    assert result.steps <= 10


def test_as_scipy_preconditioner():
    system = sphere(16)
    counted = []
    x, info = spla.cg(
        to_scipy_operator(system.A),
        system.b.numpy(),
        rtol=1e-8,
        M=to_scipy_operator(fast_transform()(system.A)),
        callback=counted.append,
    )
    assert info == 0
    assert len(counted) <= 12
    assert float(system.residual_norm(torch.from_numpy(x)) / system.scale()) < 2e-8


def test_settings_can_be_pickled():
    A = OPERATORS["rough"]()
    x = torch.randn(42, dtype=F64)
    again = pickle.loads(pickle.dumps(fast_transform(scaling=False, workers=1)))
    assert torch.equal(again(A) @ x, fast_transform(scaling=False)(A) @ x)


def test_what_it_rejects():
    with pytest.raises(NotSupported, match=r"fast_transform works on a Diffusion operator on a Grid, .* CSR"):
        fast_transform()(sparse(np.eye(3)))
    with pytest.raises(ValueError, match="numpy"):
        fast_transform(backend="numpy")
    with pytest.raises(ValueError, match="workers must be at least 1, or None"):
        fast_transform(workers=0)
