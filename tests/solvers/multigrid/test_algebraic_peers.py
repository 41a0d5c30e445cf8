"""The same hierarchy and smoother in PyAMG and here: the same cycle to rounding, the same steps of CG."""

import numpy as np
import pyamg
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from pyamg.gallery import diffusion_stencil_2d, load_example, poisson, stencil_grid
from pyamg.relaxation.smoothing import change_smoothers

from solvus.operators.linear import SPD, sparse
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.multigrid import (
    AMG,
    AMGSettings,
    ChebyshevSmoother,
    DampedJacobi,
    RugeStuben,
    SmoothedAggregation,
    amg,
)
from solvus.solvers.multigrid.coarsening import quiet_and_repeatable
from solvus.solvers.multigrid.smoothers import spectral_radius

MATRICES = {
    "poisson 2-D": lambda: poisson((63, 63), format="csr"),
    "poisson 3-D": lambda: poisson((16, 16, 16), format="csr"),
    "anisotropic": lambda: stencil_grid(
        diffusion_stencil_2d(0.01, np.pi / 6, type="FE"), (40, 40), format="csr"
    ),
    **{
        name: lambda name=name: load_example(name)["A"]
        for name in ("airfoil", "bar", "knot", "local_disc_galerkin_diffusion", "unit_cube")
    },
}
SMOOTHERS = {
    "jacobi": (DampedJacobi(4 / 3, sweeps=2), ("jacobi", {"omega": 4 / 3, "iterations": 2})),
    "chebyshev": (ChebyshevSmoother(3, low=1 / 30, scaled=False), ("chebyshev", {"degree": 3})),
}


def pair(name, kind):
    """One PyAMG hierarchy and our settings for the same one."""
    A = sp.csr_array(MATRICES[name]())
    with quiet_and_repeatable():
        if kind == "ruge-stuben":
            return A, pyamg.ruge_stuben_solver(A, max_coarse=30), RugeStuben()
        if name == "bar":
            B, block = load_example("bar")["B"], 3
        else:
            B, block = None, 1
        peer = pyamg.smoothed_aggregation_solver(
            A if block == 1 else A.tobsr((block, block)),
            B=B,
            strength=("symmetric", {"theta": 0.02}),
            max_coarse=30,
            max_levels=30,
        )
    for level in peer.levels:  # so that both sides relax point by point
        level.A = sp.csr_array(level.A)
    return A, peer, SmoothedAggregation(B, block_size=block)


def coarsest(coarsening):
    """The same bound on the coarsest level: PyAMG counts nodes, we count unknowns."""
    candidates = getattr(coarsening, "candidates", None)
    return 30 if candidates is None else 30 * candidates.shape[1]


@pytest.mark.parametrize("cycle", ["V", "W"])
@pytest.mark.parametrize("smoother", SMOOTHERS)
@pytest.mark.parametrize("kind", ["ruge-stuben", "aggregation"])
@pytest.mark.parametrize("name", MATRICES)
def test_same_steps_as_pyamg(name, kind, smoother, cycle):
    A, peer, coarsening = pair(name, kind)
    ours, theirs = SMOOTHERS[smoother]
    with quiet_and_repeatable():
        change_smoothers(peer, theirs, theirs)
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    counted = []
    M = peer.aspreconditioner(cycle=cycle)
    x, info = spla.cg(A, b, rtol=1e-8, maxiter=200, M=M, callback=lambda _: counted.append(1))
    assert info == 0
    settings = AMGSettings(coarsening, ours, cycle, max_coarse=coarsest(coarsening))
    result = solve(LinearSystem(sparse(A, tags=SPD), b), CG(amg(settings)), stop=Stop(rtol=1e-8))
    assert abs(result.steps - len(counted)) <= 1
    condition = 1e-4 * np.linalg.norm(x)
    np.testing.assert_allclose(result.value.numpy(), x, rtol=0, atol=condition)


@pytest.mark.parametrize("cycle", ["V", "W"])
@pytest.mark.parametrize("kind", ["ruge-stuben", "aggregation"])
@pytest.mark.parametrize("name", ["poisson 2-D", "anisotropic", "bar"])
def test_same_cycle_as_pyamg_to_rounding(name, kind, cycle):
    """With the relaxation weights made equal, one cycle gives one and the same vector."""
    A, peer, coarsening = pair(name, kind)
    weights = []
    for level in peer.levels[:-1]:
        radius = spectral_radius(level.A, scaled=True, symmetric=True)
        weights.append(("jacobi", {"omega": 1.2 / radius, "withrho": False, "iterations": 2}))
    change_smoothers(peer, weights, weights)
    M = amg(AMGSettings(coarsening, DampedJacobi(1.2, sweeps=2), cycle, max_coarse=coarsest(coarsening)))(
        sparse(A, tags=SPD)
    )
    b = np.random.default_rng(1).standard_normal(A.shape[0])
    theirs = peer.aspreconditioner(cycle=cycle) @ b
    np.testing.assert_allclose(
        (M @ torch.from_numpy(b)).numpy(), theirs, rtol=0, atol=1e-9 * abs(theirs).max()
    )


def test_same_cycles_alone_as_pyamg():
    A, peer, coarsening = pair("poisson 2-D", "ruge-stuben")
    ours, theirs = SMOOTHERS["jacobi"]
    with quiet_and_repeatable():
        change_smoothers(peer, theirs, theirs)
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    norms = []
    peer.solve(b, tol=1e-8, residuals=norms)
    settings = AMGSettings(coarsening, ours, max_coarse=30)
    result = solve(LinearSystem(sparse(A, tags=SPD), b), AMG(settings), stop=Stop(rtol=1e-8))
    assert abs(result.steps - (len(norms) - 1)) <= 1
    np.testing.assert_allclose(result.residuals[:3].numpy(), norms[:3], rtol=0.1)


def test_defaults_need_no_more_steps_than_pyamg_defaults():
    """Products alone against PyAMG's symmetric Gauss-Seidel sweeps."""
    for name in ("poisson 2-D", "poisson 3-D", "anisotropic", "airfoil", "knot"):
        A = sp.csr_array(MATRICES[name]())
        b = np.random.default_rng(0).standard_normal(A.shape[0])
        norms: list[float] = []
        pyamg.ruge_stuben_solver(A).solve(b, tol=1e-8, accel="cg", residuals=norms)
        system = LinearSystem(sparse(A, tags=SPD), b)
        result = solve(system, CG(amg(AMGSettings(RugeStuben()))), stop=Stop(rtol=1e-8))
        assert result.steps <= len(norms), name


@pytest.mark.parametrize("shape", [(40, 40), (12, 12, 12)])
@pytest.mark.parametrize("scaled", [True, False])
def test_spectral_radius_against_arpack(shape, scaled):
    A = sp.csr_array(poisson(shape, format="csr"))
    A = sp.csr_array(A + sp.diags_array(np.random.default_rng(0).random(A.shape[0]) * 3))
    root = sp.diags_array(1 / np.sqrt(A.diagonal()) if scaled else np.ones(A.shape[0]))
    largest = spla.eigsh(root @ A @ root, k=1, return_eigenvectors=False)[0]
    found = spectral_radius(A, scaled=scaled, symmetric=True)
    assert 0.96 * largest < found <= largest * (1 + 1e-12)
    with quiet_and_repeatable():
        assert spectral_radius(A, scaled=scaled, symmetric=False) == pytest.approx(largest, rel=0.02)
