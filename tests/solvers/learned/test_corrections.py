"""Networks as preconditioners of flexible methods: what they compute, and that none can do harm."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.meshes import Grid
from solvus.operators.linear import SPD, Diffusion, NotSupported, dense, sparse
from solvus.operators.neural import WrongResolution, WrongSettings
from solvus.solvers import CG, MINRES, LinearSystem, SolveError, Status, Stop, jacobi, solve
from solvus.solvers.krylov import FGMRES, FlexibleCG
from solvus.solvers.learned.corrections import (
    CorrectionConfig,
    CorrectionData,
    CorrectionNetwork,
    Hybrid,
    NotayLoss,
    apply_stencil,
    learned_correction,
    stencil_channels,
)
from solvus.solvers.learned.directions import ConjugateDirections
from solvus.solvers.preconditioners.inverse import Inverse
from solvus.solvers.stationary import GaussSeidel, Jacobi

SMALL = ("10", "20")


def config(**more):
    return CorrectionConfig(**{"channels": 4, "layers": 1, "smoothing": SMALL, **more})


def network(seed=0, std=0.01, **more):
    """A network that says something: its head does not start at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = CorrectionNetwork(config(**more))
        torch.nn.init.normal_(net.operator.head.weight, std=std)
    return net


def masked(n=9):
    mask = np.ones((n, n + 1), dtype=bool)
    mask[2:5, 3:7] = False
    return mask


GRIDS = {
    "nodes": Grid((9, 7)),
    "cells": Grid((9, 7), centring="cell"),
    "neumann": Grid((8, 6), centring="cell", boundary="neumann"),
    "mixed nodes": Grid((8, 6), boundary=(("neumann", "dirichlet"), ("dirichlet", "neumann"))),
    "mask": Grid((9, 10), centring="cell", boundary="neumann", mask=masked()),
    "line": Grid((11,)),
    "box": Grid((5, 4, 6)),
}


def operator(grid, seed=0, batch=()):
    generator = torch.Generator().manual_seed(seed)
    k = torch.rand(*batch, *grid.cells, generator=generator).double() + 0.1
    return Diffusion(grid, k, torch.rand(grid.shape, generator=generator).double())


alone = partial(learned_correction, sweeps=0)


def system(grid=None, seed=0, batch=()):
    grid = grid or Grid((12, 11))
    A = operator(grid, seed, batch)
    generator = torch.Generator().manual_seed(seed + 1)
    return LinearSystem(A, torch.randn(*batch, grid.size, generator=generator, dtype=torch.float64))


class Map(Inverse):
    """Any function as a network."""

    def __init__(self, A, function, tags=frozenset()):
        super().__init__(A, tags)
        self.function = function

    def apply(self, x, out):
        out.copy_(self.function(x))


def by(function, tags=frozenset()):
    return partial(Map, function=function, tags=tags)


def iterates(problem, solver, steps):
    seen = []
    stop = Stop(rtol=0, max_steps=steps)
    solve(problem, solver, stop=stop, callback=lambda k, x, _: seen.append(x.clone()) and None, throw=False)
    return torch.stack(seen)


# --- stencils -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("name", GRIDS)
def test_the_stencil_is_the_operator(name, batch):
    grid = GRIDS[name]
    A = operator(grid, batch=batch)
    u = torch.randn(2, grid.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = apply_stencil(stencil_channels(A), u.reshape(2, 1, *grid.shape))
    assert torch.allclose(found.reshape(2, -1), A @ u, rtol=1e-12, atol=1e-9)


def test_the_stencil_of_a_constant_coefficient():
    A = Diffusion(Grid((4, 3)))
    u = torch.randn(1, 12, dtype=torch.float64)
    assert torch.allclose(apply_stencil(stencil_channels(A), u.reshape(1, 1, 4, 3)).reshape(1, -1), A @ u)


# --- the map ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_in_every_dimension(name, linear):
    problem = system(GRIDS[name])
    net = network(dim=problem.A.grid.dim, linear=linear)
    result = solve(problem, FlexibleCG(learned_correction(net)), stop=Stop(1e-9))
    assert torch.allclose(result.value, torch.linalg.solve(dense(problem.A), problem.b), rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), power=st.integers(-60, 60), factor=st.integers(-40, 40))
def test_no_scale_of_the_residual_and_of_the_operator(seed, power, factor):
    """Powers of two, so that nothing is rounded."""
    problem = system(seed=seed)
    net, r = network(seed), problem.b
    plain = alone(net)(problem.A) @ r
    scaled = Diffusion(problem.A.grid, operator_field(problem.A.grid, seed) * 2.0**factor)
    reference = Diffusion(problem.A.grid, operator_field(problem.A.grid, seed))
    assert torch.equal(alone(net)(problem.A) @ (2.0**power * r), 2.0**power * plain)
    one, other = (alone(net)(A) @ r for A in (reference, scaled))
    assert torch.allclose(one, 2.0**factor * other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def operator_field(grid, seed):
    return torch.rand(grid.cells, generator=torch.Generator().manual_seed(seed)).double() + 0.1


def test_a_zero_residual_gives_zero():
    A = operator(Grid((9, 9)))
    z = learned_correction(network())(A) @ torch.stack([torch.zeros(81), torch.ones(81)]).double()
    assert not bool(z[0].any())
    assert bool(z[1].any())


def test_untrained_it_is_jacobi():
    problem = system()
    net = CorrectionNetwork(config())
    assert torch.allclose(alone(net)(problem.A) @ problem.b, jacobi(problem.A) @ problem.b)
    steps = solve(problem, FlexibleCG(alone(net), memory=1), stop=Stop(1e-5)).steps
    assert abs(steps - solve(problem, CG(jacobi), stop=Stop(1e-5)).steps) <= 2


def test_unknowns_outside_of_the_mask_are_solved_for():
    grid = Grid((9, 10), mask=masked())
    A, outside = Diffusion(grid), torch.as_tensor(~masked().ravel())
    r = torch.randn(90, dtype=torch.float64)
    z = alone(network())(A) @ r
    assert torch.allclose((A @ z)[outside], r[outside], rtol=1e-5)
    quiet = alone(network())(A) @ (r * ~outside)
    assert torch.allclose(quiet[~outside], z[~outside] * 1.0, rtol=1e-5)
    assert not bool(quiet[outside].any())


def test_the_linear_variant_is_linear_and_the_other_is_not():
    A = operator(Grid((9, 8)))
    u, v = torch.randn(2, 72, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for linear in (True, False):
        M = alone(network(linear=linear))(A)
        gap = float((M @ (u + 2 * v) - M @ u - 2 * (M @ v)).norm() / (M @ u).norm())
        assert (gap < 1e-5) == linear


def test_a_batch_is_a_loop():
    grid, generator = Grid((12, 11)), torch.Generator().manual_seed(0)
    k = torch.rand(3, *grid.cells, generator=generator).double() + 0.1
    b = torch.randn(3, grid.size, generator=generator, dtype=torch.float64)
    make = learned_correction(network())
    together = make(Diffusion(grid, k)) @ b
    single = make(Diffusion(grid, k[1])) @ b  # many residuals of one operator
    assert torch.allclose(single[1], together[1], rtol=1e-3, atol=1e-5 * float(single[1].abs().max()))
    for i in range(3):
        one = make(Diffusion(grid, k[i])) @ b[i]
        assert torch.allclose(together[i], one, rtol=1e-3, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize("linear", [False, True])
def test_every_parameter_gets_a_gradient(linear):
    net = network(linear=linear, layers=2)
    (r, stencil), target = CorrectionData(Grid((9, 8)), 2).tensors()
    NotayLoss()(net(r, stencil), target).sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert bool(p.grad.any()), name


def test_saved_and_loaded(tmp_path):
    net, problem = network(), system()
    net.save(tmp_path / "part")
    same = learned_correction(tmp_path / "part")(problem.A) @ problem.b
    assert torch.equal(same, learned_correction(net)(problem.A) @ problem.b)
    assert CorrectionNetwork.load(tmp_path / "part").config == net.config


# --- what it refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("solver", [CG, MINRES])
def test_methods_that_need_a_symmetric_preconditioner_refuse(solver, linear):
    with pytest.raises(NotSupported, match="NetworkCorrection is tagged nothing: use"):
        solve(system(), solver(learned_correction(network(linear=linear))))


def test_operators_out_of_range():
    with pytest.raises(ValueError, match="sweeps after the network are not negative, got -1"):
        learned_correction(network(), sweeps=-1)
    make = learned_correction(network())
    with pytest.raises(NotSupported, match=r"works on the grid of a Diffusion, this is CSR: use"):
        make(sparse(np.eye(3), tags=SPD))
    with pytest.raises(NotSupported, match="this grid has a periodic axis: use"):
        make(Diffusion(Grid((8, 8), boundary=(("periodic", "periodic"), ("dirichlet", "dirichlet")))))
    with pytest.raises(NotSupported, match="the network is for 2 axes, the grid has 3: train one for it"):
        make(Diffusion(Grid((8, 8, 8))))
    with pytest.raises(WrongResolution, match="2 levels need at least 4 points on every axis"):
        make(Diffusion(Grid((8, 3))))
    with pytest.raises(NotSupported, match="have no transpose and no gradient"):
        make(Diffusion(Grid((8, 8)))).transpose()
    with pytest.raises(WrongSettings, match="channels is at least 1, got 0"):
        CorrectionConfig(channels=0)


def test_a_network_on_another_device():
    elsewhere = network().to("meta")
    with pytest.raises(ValueError, match=r"the network is on meta, the operator on cpu: move it with"):
        learned_correction(elsewhere)(operator(Grid((8, 8))))


# --- flexible conjugate gradients ---------------------------------------------------------------------------


def spd_system(n=40, seed=0, condition=20.0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    A = (q * np.geomspace(1, condition, n)) @ q.T
    return LinearSystem(sparse((A + A.T) / 2, tags=SPD), torch.from_numpy(rng.standard_normal(n)))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_inverse_takes_one_step(sign):
    problem = spd_system()
    inverse = sign * torch.linalg.inv(dense(problem.A))
    assert solve(problem, FlexibleCG(by(lambda r: r @ inverse)), stop=Stop(1e-11)).steps == 1


@pytest.mark.parametrize("memory", [1, 5])
def test_the_identity_gives_conjugate_gradients(memory):
    problem = spd_system()
    ours, plain = (iterates(problem, s, 25) for s in (FlexibleCG(memory=memory), CG()))
    assert torch.allclose(ours, plain, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("memory", [1, 2, 3])
def test_truncation_and_restarts_are_as_published(memory):
    """m_j = min(j, max(1, j mod (m_max + 1))), written anew in NumPy."""
    problem = spd_system(20, seed=3)
    A, b = dense(problem.A).numpy(), problem.b.numpy()
    W = np.random.default_rng(5).standard_normal((20, 20)) / 5 + np.eye(20)
    x, r, old = np.zeros(20), b.copy(), []
    for j in range(9):
        z = np.tanh(W @ r / np.linalg.norm(r))
        m = min(j, max(1, j % (memory + 1)))
        p = z - sum((q * (z @ A @ q) / (q @ A @ q) for q in old[len(old) - m :]), np.zeros(20))
        a = (p @ r) / (p @ A @ p)
        x, r, old = x + a * p, r - a * A @ p, [*old, p]

    def f(r):
        return torch.tanh(torch.from_numpy(W) @ (r / r.norm()))

    assert torch.allclose(iterates(problem, FlexibleCG(by(f), memory), 9)[-1], torch.from_numpy(x), rtol=1e-8)


def test_wrong_specimen_plain_cg_stalls_with_a_network_that_is_tagged_as_symmetric():
    problem, f = system(Grid((16, 16))), alone(network(3, std=0.03))
    M = f(problem.A)
    flexible = solve(problem, FlexibleCG(f), stop=Stop(1e-9))
    stop = Stop(1e-9, max_steps=2 * flexible.steps)
    assert solve(problem, CG(by(M.matvec, SPD)), stop=stop, throw=False).status is not Status.CONVERGED


BROKEN = {
    "nan": lambda w: w.fill_(float("nan")),
    "infinite": lambda w: w.fill_(float("inf")),
    "overflows": lambda w: w.fill_(1e38),
    "huge": lambda w: w.fill_(1e3),
    "negative": lambda w: w.fill_(-0.1),
    "random": lambda w: w.normal_(std=0.1, generator=torch.Generator().manual_seed(1)),
}
SOLVERS = {
    "flexible CG": FlexibleCG,
    "FGMRES": FGMRES,
    "conjugate directions": ConjugateDirections,
    "hybrid": lambda f: Hybrid(GaussSeidel(), f, every=3),
    "hybrid without line search": lambda f: Hybrid(Jacobi(0.8), f, every=3, line_search=False),
}

LIMIT = {name: 100 if name in ("flexible CG", "FGMRES") else 2000 for name in SOLVERS}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_network_gives_the_right_answer_or_a_named_error(kind, name):
    problem, net = system(), network()
    with torch.no_grad():
        BROKEN[kind](net.operator.head.weight)
    solver = SOLVERS[name](learned_correction(net))
    result = solve(problem, solver, stop=Stop(1e-9, max_steps=LIMIT[name]), throw=False)
    if result.status is Status.CONVERGED:
        exact = torch.linalg.solve(dense(problem.A), problem.b)
        assert torch.allclose(result.value, exact, rtol=1e-5, atol=1e-8 * float(exact.abs().max()))
        return
    assert name in ("flexible CG", "FGMRES")  # the others have a safeguard
    assert result.status in (Status.MAX_STEPS, Status.BREAKDOWN)
    assert torch.isfinite(result.value).all()
    with pytest.raises(SolveError, match=r"allow more|see the reason"):
        solve(problem, solver, stop=Stop(1e-9, max_steps=20))


@pytest.mark.parametrize("kind", ["nan", "infinite"])
def test_flexible_cg_goes_on_with_jacobi_where_the_network_is_not_finite(kind):
    problem, net = system(), network()
    with torch.no_grad():
        BROKEN[kind](net.operator.head.weight)
    M = alone(net)(problem.A)
    assert torch.allclose(M @ problem.b, jacobi(problem.A) @ problem.b)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), std=st.sampled_from([0.01, 0.1, 10.0]), sweeps=st.integers(1, 3))
def test_sweeps_after_the_network_lower_the_energy_further(seed, std, sweeps):
    """As a step from zero, after the line search."""
    problem = system(seed=seed)
    exact = torch.linalg.solve(dense(problem.A), problem.b)

    def energy(e):
        return float(e @ (problem.A @ e))

    z = learned_correction(network(seed, std), sweeps=sweeps)(problem.A) @ problem.b
    by_network = alone(network(seed, std))(problem.A) @ problem.b
    step = (by_network @ problem.b) / (by_network @ (problem.A @ by_network))
    after = step * by_network
    for _ in range(sweeps):
        after = after + 0.8 * (jacobi(problem.A) @ (problem.b - problem.A @ after))
    assert torch.allclose(z, after, rtol=1e-6, atol=1e-9 * float(after.abs().max()))
    assert energy(z - exact) <= energy(step * by_network - exact) <= energy(exact) * (1 + 1e-9)


def test_gradients_through_a_solve():
    A = Diffusion(Grid((4, 4)))
    b = torch.linspace(1, 2, 16, dtype=torch.float64, requires_grad=True)
    x = solve(LinearSystem(A, b), FlexibleCG(learned_correction(network())), stop=Stop(1e-12)).value
    x.sum().backward()
    assert b.grad is not None
    assert torch.allclose(b.grad, torch.linalg.solve(dense(A), torch.ones(16, dtype=torch.float64)))


def test_the_notay_loss_is_what_a_step_of_flexible_cg_leaves():
    A = operator(Grid((12, 11)))
    r = torch.randn(132, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    e = torch.linalg.solve(dense(A), r)
    step = iterates(LinearSystem(A, r), FlexibleCG(by(torch.tanh)), 1)[-1]
    left = torch.sqrt(((e - step) @ (A @ (e - step))) / (e @ r))
    target = torch.cat([r.reshape(1, 1, 12, 11), e.reshape(1, 1, 12, 11), stencil_channels(A)], 1)
    f = torch.tanh(r).reshape(1, 1, 12, 11)
    assert torch.allclose(NotayLoss()(f, target), left, rtol=1e-10)
    direct = torch.sqrt(((torch.tanh(r) - e) @ (A @ (torch.tanh(r) - e))) / (e @ r))
    assert torch.allclose(NotayLoss(line_search=False)(f, target), direct, rtol=1e-10)
