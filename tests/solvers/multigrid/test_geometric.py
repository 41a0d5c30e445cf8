"""Geometric multigrid: symmetric, positive, equivalent to A, at every size, boundary, mask and batch."""

import numpy as np
import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, NotSupported, dense, sparse, to_scipy
from solvus.operators.pde.fields import log_normal, two_phase
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.krylov import FlexibleCG
from solvus.solvers.multigrid import Smoothing, multigrid
from solvus.solvers.multigrid.galerkin import galerkin
from solvus.solvers.multigrid.hierarchy import build_levels, from_diffusion
from solvus.solvers.multigrid.layout import Layout
from solvus.solvers.multigrid.stencil import ArrayStencil, UniformStencil
from solvus.solvers.multigrid.transfer import LinearTransfer, OperatorTransfer

MIXED = [("dirichlet", "neumann"), ("periodic", "periodic")]
GRIDS = {
    "line": Grid((40,)),
    "square 15": Grid((15, 15)),
    "odd sizes": Grid((17, 22)),
    "neumann nodes": Grid((13, 18), boundary="neumann"),
    "neumann cells": Grid((16, 12), centring="cell", boundary="neumann"),
    "dirichlet cells": Grid((16, 11), centring="cell"),
    "periodic": Grid((16, 18), boundary="periodic"),
    "mixed": Grid((15, 20), boundary=MIXED),
    "box": Grid((9, 7, 8)),
    "box neumann cells": Grid((8, 7, 9), centring="cell", boundary="neumann"),
    "stretched": Grid((15, 15), upper=(1.0, 0.6)),
}


def hole(grid: Grid, obstacle: str) -> Grid:
    mask = np.ones(grid.shape, dtype=bool)
    mask[tuple(slice(n // 3, n // 2) for n in grid.shape)] = False
    return Grid(
        grid.shape, grid.lower, grid.upper, grid.centring, grid.boundary, mask=mask, obstacle=obstacle
    )


def spectrum(A: Diffusion, M: torch.Tensor, sample: int | None = None) -> tuple[float, float]:
    """Extreme eigenvalues of M A on the complement of the null space."""
    D = dense(A) if sample is None else dense(A)[sample]
    values = torch.linalg.eigvals(M @ D).real.sort().values
    skip = 0 if A.nullspace is None else A.nullspace.dimension
    return float(values[skip]), float(values[-1])


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("masked", [None, "neumann", "dirichlet"])
def test_symmetric_positive_and_equivalent(name, masked):
    grid = GRIDS[name] if masked is None else hole(GRIDS[name], masked)
    for coefficient in (1.0, np.random.default_rng(0).uniform(0.2, 2.0, grid.cells)):
        A = Diffusion(grid, coefficient)
        M = dense(multigrid(dtype=torch.float64, bottom=20)(A))
        assert (M - M.mT).abs().max() <= 1e-12 * M.abs().max()
        low, high = spectrum(A, M)
        assert low > 0.25, (low, high)
        assert high < 1.6, (low, high)


def test_batch_equals_loop():
    grid = Grid((17, 14))
    k = np.stack([two_phase(grid, 1e3, seed) for seed in range(3)])
    batch = multigrid(dtype=torch.float64, bottom=20)(Diffusion(grid, k))
    x = torch.randn(3, grid.size, dtype=torch.float64)
    together = batch.matvec(x)
    for i in range(3):
        single = multigrid(dtype=torch.float64, bottom=20)(Diffusion(grid, k[i]))
        torch.testing.assert_close(together[i], single.matvec(x[i]), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("coefficient", ["constant", "jumps"])
def test_several_right_hand_sides(coefficient):
    grid = Grid((15, 15))
    A = Diffusion(grid, 1.0 if coefficient == "constant" else two_phase(grid, 1e4, 0))
    M = multigrid(bottom=20, dtype=torch.float64)(A)
    x = torch.randn(4, grid.size, dtype=torch.float64)
    together = M.matvec(x)
    for i in range(4):
        torch.testing.assert_close(together[i], M.matvec(x[i]), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    ("shape", "most"),
    [((63, 63), 7), ((64, 64), 8), ((100, 100), 8), ((127, 127), 7), ((31, 31, 31), 8), ((20, 25, 30), 8)],
)
def test_iterations_do_not_grow(shape, most):
    A = Diffusion(Grid(shape))
    b = torch.randn(A.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert solve(LinearSystem(A, b), CG(multigrid()), stop=Stop(rtol=1e-8)).steps <= most


@pytest.mark.parametrize("cycle", ["V", "W"])
def test_mixed_precision_keeps_the_count(cycle):
    A = Diffusion(Grid((95, 80)), log_normal(Grid((95, 80)), 1.0, 0))
    b = torch.randn(A.shape[0], dtype=torch.float64)
    counts = [
        solve(LinearSystem(A, b), CG(multigrid(cycle=cycle, dtype=t)), stop=Stop(rtol=1e-10)).steps
        for t in (torch.float32, torch.float64)
    ]
    assert abs(counts[0] - counts[1]) <= 1


def test_islands_repair_jumping_coefficients():
    grid = Grid((127, 127))
    A = Diffusion(grid, two_phase(grid, 1e6, 0, structures=10))
    b = torch.randn(A.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stop = Stop(rtol=1e-8, max_steps=60)
    plain = solve(LinearSystem(A, b), CG(multigrid(cycle="W", islands=None)), stop=stop, throw=False)
    repaired = solve(LinearSystem(A, b), CG(multigrid(cycle="W")), stop=stop)
    assert repaired.steps <= 22
    assert plain.steps > 1.5 * repaired.steps


def test_deflated_cycle_is_symmetric():
    grid = Grid((31, 27))
    M = dense(
        multigrid(dtype=torch.float64, bottom=20)(Diffusion(grid, two_phase(grid, 1e4, 1, structures=6)))
    )
    assert (M - M.mT).abs().max() <= 1e-10 * M.abs().max()
    assert float(torch.linalg.eigvalsh((M + M.mT) / 2)[0]) > 0


def test_islands_across_a_periodic_face():
    """A jump that an island spans across the periodic face gives the same spectrum as one shifted inside."""
    grid = Grid((24, 24), boundary="periodic", centring="cell")
    k = np.ones((24, 24))
    k[4:9, 4:9] = k[14:19, 10:16] = k[4:8, 16:20] = 1e5
    spectra = []
    for shift in (0, 18):
        A = Diffusion(grid, np.roll(k, shift, (0, 1)))
        spectra.append(spectrum(A, dense(multigrid(dtype=torch.float64, bottom=20)(A))))
    assert min(low for low, _ in spectra) > 0.25


def test_f_cycle_goes_to_flexible_methods():
    A = Diffusion(Grid((63, 63)))
    b = torch.ones(A.shape[0], dtype=torch.float64)
    M = multigrid(cycle="F")(A)
    assert not M.positive_definite
    assert solve(LinearSystem(A, b), FlexibleCG(multigrid(cycle="F")), stop=Stop(rtol=1e-8)).steps <= 8
    with pytest.raises(NotSupported, match="use cycle='V' or 'W'"):
        M.transpose()


def test_matrices_are_refused():
    with pytest.raises(NotSupported, match="use amg"):
        multigrid()(sparse(np.eye(4)))


def test_galerkin_is_the_triple_product():
    grid = Grid((9, 12), boundary=MIXED)
    A = Diffusion(grid, np.random.default_rng(1).uniform(0.5, 2.0, grid.cells))
    stencil = from_diffusion(A)
    transfer = OperatorTransfer(stencil, (1, 0))
    P = torch.stack(
        [_prolong(transfer, e) for e in torch.eye(_size(transfer.coarse), dtype=torch.float64)], 1
    )
    R = torch.stack([_restrict(transfer, e) for e in torch.eye(grid.size, dtype=torch.float64)], 1)
    torch.testing.assert_close(R, P.mT)
    coarse = _matrix(galerkin(stencil, transfer))
    torch.testing.assert_close(coarse, P.mT @ torch.as_tensor(to_scipy(A).toarray()) @ P)


def test_operator_transfer_keeps_constants_inside():
    grid = Grid((16, 16), centring="cell", boundary="neumann")
    A = Diffusion(grid, np.random.default_rng(1).uniform(0.01, 100, grid.cells))
    transfer = OperatorTransfer(from_diffusion(A), (0, 0))
    ones = _prolong(transfer, torch.ones(_size(transfer.coarse), dtype=torch.float64))
    torch.testing.assert_close(ones, torch.ones_like(ones))


@pytest.mark.parametrize("shape", [(60,), (14, 11), (130,)])
def test_constants_are_taken_out_of_the_bottom_though_float32_rounds_the_coefficients(shape):
    grid = Grid(shape, centring="cell", boundary="neumann")
    rng = np.random.default_rng(3)
    A = Diffusion(grid, (30.0 ** rng.random(grid.shape)).astype(np.float32))
    assert A.nullspace is not None
    b = A.nullspace.project(torch.as_tensor(rng.standard_normal(grid.size), dtype=A.dtype))
    result = solve(LinearSystem(A, b), CG(multigrid()), stop=Stop(rtol=2e-4, max_steps=20), throw=False)
    assert result.status.name == "CONVERGED"


def test_linear_transfer_is_linear_interpolation():
    layout = Layout((7,), (False,))
    transfer = LinearTransfer(layout)
    fine = _prolong(transfer, torch.tensor([2.0, 4.0, 6.0]))
    assert fine.tolist() == [1, 2, 3, 4, 5, 6, 3]


@pytest.mark.parametrize("uniform", [True, False])
def test_stencil_products(uniform, monkeypatch):
    """apply, residual and smooth agree with the matrix, also when the work is cut into chunks."""
    monkeypatch.setattr("solvus.solvers.multigrid.layout.CHUNK", 50)
    grid = Grid((6, 7, 5))
    A = Diffusion(grid, 1.0 if uniform else np.random.default_rng(0).uniform(0.5, 2, grid.cells))
    stencil, matrix = from_diffusion(A), torch.as_tensor(to_scipy(A).toarray())
    assert isinstance(stencil, UniformStencil) is uniform
    layout = stencil.layout
    b, x, y = (layout.zeros((), torch.float64, torch.device("cpu")) for _ in range(3))
    vb, vx = torch.randn(2, grid.size, dtype=torch.float64)
    layout.inside(b).copy_(vb.reshape(grid.shape))
    layout.inside(x).copy_(vx.reshape(grid.shape))
    read = lambda v: layout.inside(v).reshape(-1)  # noqa: E731
    if isinstance(stencil, ArrayStencil):
        torch.testing.assert_close(read(stencil.apply(x, y)), matrix @ vx)
    torch.testing.assert_close(read(stencil.residual(b, x, y)), vb - matrix @ vx)
    jacobi = vx + 0.7 * (vb - matrix @ vx) / matrix.diagonal()
    torch.testing.assert_close(read(stencil.smooth(b, x, y, 0.7)), jacobi)


def test_uniform_levels_are_the_rediscretised_operator():
    A = Diffusion(Grid((15, 31)), 2.0, reaction=300.0)
    levels, _ = build_levels(A, 20, torch.float64, None)
    assert len(levels) >= 3
    for level, shape in zip(levels, [(15, 31), (7, 15), (3, 7)], strict=False):
        expected = from_diffusion(Diffusion(Grid(shape), 2.0, reaction=300.0))
        assert isinstance(level.stencil, UniformStencil)
        assert level.stencil.centre == pytest.approx(expected.centre)
        assert level.stencil.sides == pytest.approx(expected.sides)


def test_smoothing_weights_are_chebyshev_roots():
    a, b = 0.5, 2.0
    weights = Smoothing(2, 0.25).weights()
    t = torch.linspace(a, b, 1001, dtype=torch.float64)
    error = torch.ones_like(t)
    for w in weights:
        error = error * (1 - w * t)
    mid, half = (a + b) / 2, (b - a) / 2
    best = 1 / np.cosh(2 * np.arccosh(mid / half))
    assert float(error.abs().max()) == pytest.approx(best)


def _size(layout: Layout) -> int:
    return int(np.prod(layout.shape))


def _prolong(transfer, v):
    coarse = transfer.coarse.zeros((), v.dtype, v.device)
    fine, work = (transfer.fine.zeros((), v.dtype, v.device) for _ in range(2))
    transfer.coarse.inside(coarse).copy_(v.reshape(transfer.coarse.shape))
    transfer.add_prolonged(coarse, fine, work)
    return transfer.fine.inside(fine).reshape(-1).clone()


def _restrict(transfer, v):
    coarse, fine = transfer.coarse.zeros((), v.dtype, v.device), transfer.fine.zeros((), v.dtype, v.device)
    transfer.fine.inside(fine).copy_(v.reshape(transfer.fine.shape))
    transfer.restrict(fine, coarse)
    return transfer.coarse.inside(coarse).reshape(-1).clone()


def _matrix(stencil: ArrayStencil) -> torch.Tensor:
    layout, n = stencil.layout, _size(stencil.layout)
    columns = []
    for e in torch.eye(n, dtype=torch.float64):
        x, y = (layout.zeros((), torch.float64, torch.device("cpu")) for _ in range(2))
        layout.inside(x).copy_(e.reshape(layout.shape))
        columns.append(layout.inside(stencil.apply(x, y)).reshape(-1).clone())
    return torch.stack(columns, 1)
