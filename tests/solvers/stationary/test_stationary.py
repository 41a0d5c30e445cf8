import numpy as np
import pyamg
import pytest
import scipy.sparse as sp
import scipy.stats
import torch

from solvus.meshes.grid import Grid
from solvus.operators.linear import Diffusion, NotSupported, ZeroDiagonal, dense, sparse, to_scipy
from solvus.solvers import LinearSystem, Solver, Status, Stop, solve
from solvus.solvers.preconditioners import jacobi, ssor
from solvus.solvers.preconditioners.relaxation import grid_colours
from solvus.solvers.stationary import SOR, SSOR, GaussSeidel, Jacobi, Order, Richardson, Sweep, young_omega


def nonsymmetric(n: int = 40) -> sp.csr_array:
    rng = np.random.default_rng(0)
    return sp.csr_array(sp.random_array((n, n), density=0.15, rng=rng) + 6 * sp.eye_array(n))


def spd() -> sp.csr_array:
    k = 1 + torch.rand(9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return to_scipy(Diffusion(Grid((8, 7)), k))


def iterates(A: sp.csr_array, solver: Solver, steps: int, x0: np.ndarray, b: np.ndarray) -> np.ndarray:
    problem = LinearSystem(sparse(A), torch.from_numpy(b))
    iteration = solver.iterate(problem, torch.from_numpy(x0.copy()))
    for _ in range(steps):
        next(iteration)
    return next(iteration)[0].numpy()


def textbook(
    A: sp.csr_array, omega: float, kind: str, steps: int, x: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """x += P^-1 (b - A x) with P written out as a dense matrix."""
    full = A.toarray()
    D, L, U = np.diag(np.diag(full)), np.tril(full, -1), np.triu(full, 1)
    splittings = {
        "jacobi": [D / omega],
        "forward": [D / omega + L],
        "backward": [D / omega + U],
        "symmetric": [D / omega + L, D / omega + U],
    }[kind]
    for _ in range(steps):
        for P in splittings:
            x = x + np.linalg.solve(P, b - full @ x)
    return x


METHODS = [
    ("jacobi", 0.7, Jacobi(0.7)),
    ("jacobi", 0.7, Richardson(jacobi, 0.7)),
    ("forward", 1.0, GaussSeidel()),
    ("backward", 1.0, GaussSeidel(Sweep.BACKWARD)),
    ("symmetric", 1.0, GaussSeidel("symmetric")),
    ("forward", 1.6, SOR(1.6)),
    ("backward", 0.6, SOR(0.6, "backward")),
    ("symmetric", 1.4, SOR(1.4, Sweep.SYMMETRIC)),
    ("symmetric", 1.4, SSOR(1.4)),
    ("symmetric", 1.4, Richardson(ssor(1.4))),
]


@pytest.mark.parametrize("make", [spd, nonsymmetric])
@pytest.mark.parametrize(
    ("kind", "omega", "solver"), METHODS, ids=lambda v: repr(v) if isinstance(v, Solver) else v
)
def test_iterates_are_the_textbooks(make, kind: str, omega: float, solver: Solver) -> None:
    A = make()
    rng = np.random.default_rng(1)
    x0, b = rng.standard_normal((2, A.shape[0]))
    found = iterates(A, solver, 3, x0, b)
    expected = textbook(A, omega, kind, 3, x0, b)
    assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max()


def test_ssor_is_pyamgs_forward_then_backward() -> None:
    """PyAMG's sweep="symmetric" ignores omega, hence two calls."""
    A = spd()
    rng = np.random.default_rng(2)
    x0, b = rng.standard_normal((2, A.shape[0]))
    expected = x0.copy()
    for sweep in ("forward", "backward"):
        pyamg.relaxation.relaxation.sor(sp.csr_matrix(A), expected, b, omega=1.7, sweep=sweep)
    assert np.abs(iterates(A, SSOR(1.7), 1, x0, b) - expected).max() <= 1e-13 * np.abs(expected).max()
    ignoring = x0.copy()
    pyamg.relaxation.relaxation.sor(sp.csr_matrix(A), ignoring, b, omega=1.7, sweep="symmetric")
    assert np.abs(ignoring - expected).max() > 1e-3, "PyAMG heeds omega now: the note can go"


def test_multicolour_is_sor_of_the_permuted_matrix() -> None:
    A = spd()
    colours = grid_colours(Grid((8, 7)))
    order = np.argsort(colours, kind="stable")
    rng = np.random.default_rng(3)
    x0, b = rng.standard_normal((2, A.shape[0]))
    for kind in ("forward", "backward", "symmetric"):
        expected = np.empty_like(x0)
        expected[order] = textbook(A[order][:, order], 1.3, kind, 2, x0[order], b[order])
        found = iterates(A, SOR(1.3, kind, Order.MULTICOLOUR), 2, x0, b)
        assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max()


def test_grid_colours_and_matrix_colours_give_the_same_iterates() -> None:
    A = Diffusion(Grid((8, 7)), 1 + torch.rand(9, 8, dtype=torch.float64))
    b = torch.randn(A.shape[0], dtype=torch.float64)
    for solver in (SOR(1.5, order="multicolour"), SSOR(1.5, order="multicolour")):
        x = [
            solve(LinearSystem(op, b), solver, stop=Stop(max_steps=4), throw=False).value
            for op in (A, sparse(to_scipy(A)))
        ]
        torch.testing.assert_close(x[0], x[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("order", [Order.NATURAL, Order.MULTICOLOUR])
@pytest.mark.parametrize("make", [spd, nonsymmetric])
def test_every_order_has_the_same_fixed_point(make, order: Order) -> None:
    A = make()
    b = np.random.default_rng(4).standard_normal(A.shape[0])
    result = solve(LinearSystem(sparse(A), b), SOR(1.1, order=order), stop=Stop(rtol=1e-12))
    np.testing.assert_allclose(result.value.numpy(), np.linalg.solve(A.toarray(), b), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", [(5,), (6,), (5, 4), (5, 7), (3, 4, 5), (1, 5)])
@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
def test_neighbours_never_share_a_colour(shape: tuple[int, ...], boundary: str) -> None:
    grid = Grid(shape, centring="cell", boundary=boundary)
    colours = grid_colours(grid)
    coo = to_scipy(Diffusion(grid)).tocoo()
    off = coo.row != coo.col
    assert (colours[coo.row[off]] != colours[coo.col[off]]).all()
    assert colours.max() <= (2 if boundary == "periodic" else 1)


def test_batch_equals_loop() -> None:
    A = spd()
    B = torch.randn(2, 3, A.shape[0], dtype=torch.float64)
    for solver in (Jacobi(0.8), SOR(1.5), SSOR(1.2, order="multicolour")):
        stop = Stop(rtol=0, max_steps=5)
        together = solve(LinearSystem(sparse(A), B), solver, stop=stop, throw=False).value
        for i in range(2):
            for j in range(3):
                alone = solve(LinearSystem(sparse(A), B[i, j]), solver, stop=stop, throw=False).value
                torch.testing.assert_close(together[i, j], alone, rtol=1e-12, atol=1e-14)


def test_batch_of_operators() -> None:
    grid = Grid((6, 5), centring="cell")
    k = torch.rand(3, 6, 5, dtype=torch.float64) + 0.5
    b = torch.randn(3, 30, dtype=torch.float64)
    result = solve(LinearSystem(Diffusion(grid, k), b), SOR(1.4), stop=Stop(rtol=1e-10))
    for i in range(3):
        expected = torch.linalg.solve(dense(Diffusion(grid, k[i])), b[i])
        torch.testing.assert_close(result.value[i], expected, rtol=1e-8, atol=1e-10)


def test_single_precision_and_neumann() -> None:
    A = Diffusion(Grid((8, 8), centring="cell", boundary="neumann"), dtype=torch.float32)
    b = A.nullspace.project(torch.randn(64))
    for solver in (SOR(1.5), SOR(1.5, order="multicolour"), Jacobi(0.9)):
        result = solve(LinearSystem(A, b), solver, stop=Stop(rtol=1e-4, max_steps=3000))
        assert result.value.dtype == torch.float32
        assert abs(float(result.value.mean())) < 1e-5


@pytest.mark.parametrize("omega", [0.0, 2.0, -1.0, 2.5, float("nan")])
@pytest.mark.parametrize("make", [SOR, SSOR, Jacobi, ssor])
def test_omega_outside_0_2_is_refused(make, omega: float) -> None:
    with pytest.raises(ValueError, match=r"outside \(0, 2\).*take 1 \(Gauss-Seidel\).*young_omega"):
        make(omega)


def test_richardson_needs_a_positive_step() -> None:
    with pytest.raises(ValueError, match="positive step, got omega = -1"):
        Richardson(omega=-1.0)


@pytest.mark.parametrize("solver", [Jacobi(), SOR(1.2), GaussSeidel(), SSOR(1.2)], ids=repr)
def test_zero_diagonal_is_named(solver: Solver) -> None:
    A = spd().tolil()
    A[17, 17] = 0
    with pytest.raises(ZeroDiagonal, match=r"row 17 has a zero diagonal \(1 in all\).*GMRES.*direct"):
        solve(LinearSystem(sp.csr_array(A), np.ones(A.shape[0])), solver)


def test_natural_order_refuses_a_batch() -> None:
    A = Diffusion(Grid((4,)), torch.rand(2, 5, dtype=torch.float64) + 1)
    system = LinearSystem(A, torch.ones(2, 4, dtype=torch.float64))
    with pytest.raises(NotSupported, match=r"batch of \(2,\): use order='multicolour'"):
        solve(system, SOR(1.2, order="natural"))


def test_unknown_sweeps_and_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="sideways"):
        SOR(1.0, "sideways")
    with pytest.raises(ValueError, match="random"):
        GaussSeidel(order="random")


def test_divergence_is_reported() -> None:
    A = sparse(np.array([[1.0, 3.0], [3.0, 1.0]]))
    result = solve(LinearSystem(A, [1.0, 2.0]), Jacobi(), stop=Stop(max_steps=1000), throw=False)
    assert result.status in (Status.NONFINITE, Status.MAX_STEPS)


def spectral_radius(A: Diffusion, omega: float) -> float:
    full = dense(A).numpy()
    D, L = np.diag(np.diag(full)), np.tril(full, -1)
    error = np.eye(len(full)) - np.linalg.solve(D / omega + L, full)
    values = np.sort(np.abs(np.linalg.eigvals(error)))
    return float(values[-1 - (A.nullspace is not None)])


@pytest.mark.parametrize(
    "A",
    [
        Diffusion(Grid((9,))),
        Diffusion(Grid((6, 9), upper=(1.0, 2.0)), 3.0, 2.0),
        Diffusion(Grid((3, 4, 5))),
        Diffusion(Grid((12,), boundary=(("dirichlet", "neumann"),))),
        Diffusion(Grid((6, 5), boundary=(("dirichlet", "neumann"), ("dirichlet", "dirichlet")))),
        Diffusion(Grid((6, 5), boundary="neumann"), 1.0, 5.0),
        Diffusion(Grid((6, 5), boundary="neumann")),
        Diffusion(Grid((6, 8), boundary="periodic"), 1.0, 5.0),
    ],
    ids=repr,
)
def test_young_omega_is_the_best(A: Diffusion) -> None:
    best = young_omega(A)
    least = spectral_radius(A, best)
    assert least < 1
    for omega in (best - 0.002, best + 0.002):
        assert spectral_radius(A, omega) > least


def test_young_omega_needs_a_known_spectrum() -> None:
    varying = Diffusion(Grid((3,)), torch.linspace(1, 2, 4, dtype=torch.float64))
    with pytest.raises(NotSupported, match="constant coefficients on full grids"):
        young_omega(varying)
    with pytest.raises(NotSupported, match="node-centred"):
        young_omega(Diffusion(Grid((3,), centring="cell")))


@pytest.mark.parametrize(
    ("a", "b", "counts"),
    [(0.5, 1.5, {1.6: 154, 1.8: 104}), (2.0, 6.0, {1.5: 83, 1.7: 62})],
    ids=["high variance", "low variance"],
)
def test_mean_counts_over_random_shifts(a: float, b: float, counts: dict[float, int]) -> None:
    """Mean steps of SOR on the 10 x 10 Laplacian + c, c = -0.15 + 0.6 Beta(a, b) at its quantiles."""
    rng = np.random.default_rng(0)
    laplacian = to_scipy(Diffusion(Grid((10, 10)))) / 121.0
    shifts = -0.15 + 0.6 * scipy.stats.beta.ppf((np.arange(120) + 0.5) / 120, a, b)
    for omega, expected in counts.items():
        steps = []
        for c in shifts:
            A = sparse(sp.csr_array(laplacian + c * sp.eye_array(100)), tags=())
            system = LinearSystem(A, rng.standard_normal(100))
            steps.append(solve(system, SOR(omega), stop=Stop(rtol=1e-8, max_steps=10_000)).steps)
        assert np.mean(steps) == pytest.approx(expected, rel=0.03)
