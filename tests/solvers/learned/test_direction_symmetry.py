"""The symmetric multilevel network: SPD for all weights, and what plain CG makes of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, dense
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.krylov import FlexibleCG
from solvus.solvers.learned.directions import (
    ConjugateDirections,
    MultilevelConfig,
    MultilevelNetwork,
    SymmetricConfig,
    SymmetricMultilevelNetwork,
    cell_image,
    learned_directions,
    random_obstacles,
)
from solvus.solvers.learned.directions.kernel_fields import kernel_fields
from solvus.solvers.learned.directions.stencils import smooth, smooth_transposed

TWO = SymmetricConfig(levels=2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def obstacles(n=8, seed=1):
    return random_obstacles(n, 3, generator(seed))


def mixed_grid(n=6):
    """All kinds of cells: walls and open faces, an open obstacle."""
    mask = np.ones((n, n, n), dtype=bool)
    mask[2:4, 1:3, 3] = False
    faces = (("neumann", "dirichlet"), ("neumann", "neumann"), ("dirichlet", "neumann"))
    return Grid((n, n, n), upper=(n, n, n), centring="cell", boundary=faces, mask=mask, obstacle="dirichlet")


GRIDS = {
    "box": Grid((6, 5, 7), centring="cell", boundary="neumann"),
    "obstacles": obstacles(6),
    "mixed": mixed_grid(),
}


def wild(seed=0, scale=1.0, config=TWO):
    """A network whose weights are normal, with this deviation."""
    net = SymmetricMultilevelNetwork(config)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=scale, generator=generator(seed))
    return net


def matrix(net, grid):
    """The map of a network on vectors, column by column, in the network's type."""
    A = Diffusion(grid)
    f = learned_directions(net)(A)
    return (f @ torch.eye(A.shape[0], dtype=A.dtype)).mT, A


def is_symmetric(M):
    return bool((M - M.mT).abs().max() < 1e-12 * M.abs().max())


# --- stencils -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.tuples(*[st.integers(1, 4)] * 3), st.integers(0, 1000), st.sampled_from([1, 2]))
def test_transposed_stencils(shape, seed, batch):
    """(K x).y = x.(K^T y), for stencils with and without a batch."""
    x, y = torch.randn(2, 2, 1, *shape, generator=generator(seed), dtype=torch.float64)
    K = torch.randn(batch, 27, *shape, generator=generator(seed + 1), dtype=torch.float64)
    assert torch.allclose((smooth(K, x) * y).sum(), (x * smooth_transposed(K, y)).sum())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("function", [smooth, smooth_transposed])
def test_gradients_of_stencils(function, batch):
    x = torch.randn(2, 1, 3, 2, 3, generator=generator(), dtype=torch.float64, requires_grad=True)
    K = torch.randn(batch, 27, 3, 2, 3, generator=generator(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (K, x), fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: function(K.detach(), x), (x,), fast_mode=True)
    assert torch.autograd.gradcheck(lambda K: function(K, x.detach()), (K,), fast_mode=True)


@pytest.mark.parametrize("grid", [*GRIDS.values(), obstacles(16)], ids=[*GRIDS, "larger"])
def test_fields_of_like_cells_are_those_of_the_convolutions(grid):
    convs = [torch.nn.Conv3d(3, n, 3) for n in (27, 1, 4)]
    image = cell_image(grid)
    for scale in (1.0, 0.3):  # also where nothing is pure fluid
        with torch.no_grad():
            found, expected = kernel_fields(convs, scale * image), [conv(scale * image) for conv in convs]
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True))
        again = kernel_fields(convs, scale * image)  # with gradients
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(again, expected, strict=True))
        assert all(a.requires_grad for a in again)


# --- symmetric, positive definite ---------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_symmetric_to_rounding(grid):
    net = wild().double()
    M, A = matrix(net, grid)
    f = learned_directions(net)(A)
    assert f.positive_definite
    assert f.transpose() is f
    assert is_symmetric(M)
    other = MultilevelNetwork(MultilevelConfig(2, start="random")).double()
    assert not is_symmetric(matrix(other, grid)[0])  # the check can fail
    single, _ = matrix(net.float(), grid)
    assert float((single - single.mT).abs().max()) < 1e-5 * float(single.abs().max())


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_positive_definite_for_any_weights(grid, scale):
    """The lowest eigenvalue off the null space, in float32: its vector is the worst residual."""
    for seed in range(3):
        M, A = matrix(wild(seed, scale), grid)
        values, vectors = torch.linalg.eigh((M + M.mT) / 2)
        zeros = 0 if A.nullspace is None else A.nullspace.dimension
        assert float(values[zeros]) > 0, (seed, values[:4])
        worst = vectors[:, zeros:].mT
        f = learned_directions(wild(seed, scale))(A)
        assert bool(((f @ worst) * worst).sum(-1).min() > 0)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), exponent=st.floats(-4, 2), offset=st.floats(-200, 200))
def test_energy_is_positive(seed, exponent, offset):
    net = wild(seed, 10**exponent)
    for conv in [*net.outer, *net.inner]:
        conv.bias.data += offset  # softplus gives 0 in float32 below -104
    A = Diffusion(GRIDS["obstacles"])
    r = torch.randn(4, A.shape[0], generator=generator(seed), dtype=torch.float64)
    r = A.nullspace.project(r)
    assert bool(((learned_directions(net)(A) @ r) * r).sum(-1).min() > 0)


def test_without_the_least_part_it_may_be_indefinite(monkeypatch):
    """What the positive diagonal is for: a stencil of zeros and no diagonal leave nothing."""
    module = "solvus.solvers.learned.directions.symmetric_network._RATIO"
    net = wild(scale=0.0)
    for conv in net.outer:
        conv.bias.data.fill_(-200)
    A = Diffusion(GRIDS["box"])
    r = A.nullspace.project(torch.randn(A.shape[0], generator=generator(), dtype=torch.float64))
    assert float(r @ (learned_directions(net)(A) @ r)) > 0
    monkeypatch.setattr(module, 0.0)
    assert float(r @ (learned_directions(net)(A) @ r)) == 0


# --- in solvers ---------------------------------------------------------------------------------------------


def system(grid, seed=0, batch=(), mask=False):
    A = Diffusion(grid)
    b = torch.randn(*batch, A.shape[0], generator=generator(seed), dtype=torch.float64)
    b = b * torch.as_tensor(grid.mask.ravel()) if mask else b
    return LinearSystem(A, b if A.nullspace is None else A.nullspace.project(b))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_cg_converges_for_any_weights_and_outside_of_the_mask(grid, scale):
    """b is not zero in solid cells, where A is diagonal."""
    net = SymmetricMultilevelNetwork(TWO) if scale is None else wild(scale=scale)
    problem = system(grid, batch=(2,))
    expected = solve(problem, CG(), stop=Stop(1e-11, max_steps=2000)).value
    result = solve(problem, CG(learned_directions(net)), stop=Stop(1e-9, max_steps=2000))
    assert torch.allclose(result.value, expected, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("n", [16, 24])
def test_cg_flexible_cg_and_conjugate_directions_agree(n):
    """The same Krylov space for a symmetric preconditioner: equal counts; far fewer than those of CG."""
    grid, f = obstacles(n), learned_directions(SymmetricMultilevelNetwork(SymmetricConfig(3)))
    problem = system(grid, mask=True)
    solvers = (CG(f), FlexibleCG(f), FlexibleCG(f, memory=1), ConjugateDirections(f))
    steps = [solve(problem, solver, stop=Stop(1e-6)).steps for solver in solvers]
    assert max(steps) - min(steps) <= 1, steps
    assert 3 * steps[0] < solve(problem, CG(), stop=Stop(1e-6)).steps
    outside = solve(system(grid), CG(f), stop=Stop(1e-6))
    assert outside.steps <= steps[0] + 3  # b is not zero in solid cells: one more eigenvalue


def test_the_start_is_multilevel():
    """G keeps in each cell what would go into a wall: its rows and columns sum to one. Dense, on a box."""
    net = SymmetricMultilevelNetwork(SymmetricConfig(1)).double()
    r = torch.randn(1, 1, 4, 4, 4, generator=generator(), dtype=torch.float64)
    image = cell_image(Grid((4, 4, 4), centring="cell", boundary="neumann")).double()
    found = net.propose(r, net.prepare(image))
    band = torch.tensor([[2.0, 1, 0, 0], [1, 2, 1, 0], [0, 1, 2, 1], [0, 0, 1, 2]], dtype=torch.float64) / 4
    small = torch.tensor([[2.0, 1], [1, 2]], dtype=torch.float64) / 4
    copy = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]], dtype=torch.float64)

    def cube(a):
        return torch.kron(torch.kron(a, a), a)

    def kept(a):
        return a + torch.diag(1 - a.sum(1))

    G, H, Q = kept(cube(band)), kept(cube(small)), cube(copy)
    below = (torch.eye(8).double() + H @ H) / 8
    M = torch.eye(64).double() / 8 + G @ (torch.eye(64).double() / 8 + 4 * Q @ below @ Q.T / 8) @ G
    assert torch.allclose(found.reshape(-1), M @ r.reshape(-1), rtol=1e-4)  # up to the least part, 1e-6


def test_gradients_of_the_map():
    A = Diffusion(obstacles(6))
    f = learned_directions(wild().double())(A)
    x = torch.randn(A.shape[0], generator=generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: f @ x, (x,), fast_mode=True, atol=1e-4)
    assert dense(A).shape == f.shape


def test_levels_out_of_range():
    with pytest.raises(ValueError, match="levels is at least 1, got 0"):
        SymmetricConfig(0)
