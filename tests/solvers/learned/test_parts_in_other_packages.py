"""Learned preconditioners inside SciPy, PyAMG, and PETSc on matrices that FEniCS assembled."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pyamg.krylov
import pytest
import scipy.sparse.linalg as spla
import torch
from torch import nn

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, to_scipy, to_scipy_operator
from solvus.operators.pde.fields import two_phase
from solvus.solvers import CG, FGMRES, LinearSystem, Stop, solve
from solvus.solvers.fem import ScikitFem, VariableDiffusion
from solvus.solvers.learned import shipped
from solvus.solvers.learned.directions import MultilevelConfig, MultilevelNetwork, learned_directions
from solvus.solvers.learned.safeguard_probe import probed
from solvus.solvers.learned.vcycle import VCycleConfig, VCycleNetwork, learned_cycle, learned_vcycle

RTOL = 1e-8


def _example():
    file = Path(__file__).parents[3] / "examples" / "learned_in_fenics.py"
    spec = importlib.util.spec_from_file_location("learned_in_fenics", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = _example()


def random_network(seed=0):
    torch.manual_seed(seed)
    net = VCycleNetwork(VCycleConfig(width=8, start=0))
    nn.init.normal_(net.head.weight, std=1.0)
    return net


CYCLES = {
    "shipped": lambda: learned_cycle(shipped("vcycle-2d")),
    "untrained": lambda: learned_vcycle(VCycleNetwork()),
    "random": lambda: learned_vcycle(random_network(), bottom=30),
    "probed": lambda: probed(learned_cycle(shipped("vcycle-2d"))),
}


def finite_volumes(n=40):
    """A jumping coefficient: the operator, its matrix, a right-hand side, the direct solution."""
    grid = Grid((n, n))
    A = Diffusion(grid, two_phase(grid, 1e3, seed=1, structures=6.0))
    b = np.random.default_rng(0).standard_normal(n * n)
    matrix = to_scipy(A)
    return A, matrix, b, spla.spsolve(matrix.tocsc(), b)


def finite_elements(backend, n=31):
    """The same kind of problem by linear elements, and its twin by finite volumes on the same nodes."""

    def k(x):
        return np.exp(4 * np.sin(9 * x[:, 0]) * np.sin(7 * x[:, 1]))

    grid = Grid((n, n))
    system = backend.assemble(VariableDiffusion(grid, source=lambda x: x[:, 0] - 0.3, coefficient=k)).system()
    centres = (np.indices((n + 1, n + 1)).reshape(2, -1).T + 0.5) / (n + 1)
    matrix, b = to_scipy(system.A), system.b.numpy()
    twin = Diffusion(grid, k(centres).reshape(n + 1, n + 1))
    return system, twin, matrix, b, spla.spsolve(matrix.tocsc(), b)


def same(x, direct, matrix, b):
    """Hold an answer against the direct one, and its residual against the tolerance."""
    assert np.linalg.norm(b - matrix @ x) <= 2 * RTOL * np.linalg.norm(b)
    assert np.linalg.norm(x - direct) <= 1e-5 * np.linalg.norm(direct)


def scipy_cg(matrix, b, M, **limits):
    steps = []
    x, info = spla.cg(matrix, b, rtol=RTOL, M=M, callback=lambda _: steps.append(1), **limits)
    return x, info, len(steps)


@pytest.mark.parametrize("name", CYCLES)
def test_cycles_in_the_cg_of_scipy(name):
    A, matrix, b, direct = finite_volumes()
    x, info, steps = scipy_cg(matrix, b, to_scipy_operator(CYCLES[name]()(A)))
    ours = solve(LinearSystem(A, b), CG(CYCLES[name]()), stop=Stop(rtol=RTOL))
    assert info == 0
    assert abs(steps - ours.steps) <= 1
    assert steps < scipy_cg(matrix, b, None)[2] / (2 if name != "random" else 1)
    same(x, direct, matrix, b)


@pytest.mark.parametrize("name", CYCLES)
def test_cycles_on_finite_elements(name):
    """The cycle of the finite-volume twin on the same nodes is spectrally equivalent."""
    system, twin, matrix, b, direct = finite_elements(ScikitFem())
    learned = CYCLES[name]()(twin)
    x, info, steps = scipy_cg(matrix, b, to_scipy_operator(learned))
    assert info == 0
    assert steps == pytest.approx(solve(system, CG(lambda A: learned), stop=Stop(rtol=RTOL)).steps, abs=1)
    assert steps <= (15 if name != "random" else 200)
    same(x, direct, matrix, b)


def test_wrong_specimen_a_cycle_of_another_grid():
    _, _, matrix, b, _ = finite_elements(ScikitFem())
    other = Diffusion(Grid((31, 31)), two_phase(Grid((31, 31)), 1e4, seed=0))
    _, info, steps = scipy_cg(matrix, b, to_scipy_operator(learned_vcycle(None)(other)), maxiter=16)
    assert info == steps == 16  # not converged, where the right one takes less


def test_a_broken_cycle_in_scipy():
    """SciPy has no guard: the probe at set-up is what keeps a broken network out."""
    A, matrix, b, direct = finite_volumes(20)

    class Broken(VCycleNetwork):
        def forward(self, blocks):
            return super().forward(blocks)[..., :-1]

    M = probed(learned_vcycle(Broken(VCycleConfig(start=0)), bottom=30), learned_vcycle(None))(A)
    assert M.fallback is not None
    x, info, _ = scipy_cg(matrix, b, to_scipy_operator(M))
    assert info == 0
    same(x, direct, matrix, b)
    nan = probed(lambda A: learned_vcycle(None)(A) * float("nan"))(A)
    assert scipy_cg(matrix, b, to_scipy_operator(nan))[1] == 0


@pytest.mark.parametrize("name", [None, "multilevel-32"])
def test_directions_in_the_fgmres_of_pyamg(name):
    """They are no linear map: for flexible methods only."""
    network = (
        MultilevelNetwork(MultilevelConfig(2)) if name is None else MultilevelNetwork.load(shipped(name))
    )
    A = Diffusion(Grid((12, 12, 12), centring="cell"))
    b = np.random.default_rng(0).standard_normal(12**3)
    matrix, directions = to_scipy(A), learned_directions(network)
    residuals = []
    x, info = pyamg.krylov.fgmres(
        matrix, b, tol=RTOL, M=to_scipy_operator(directions(A)), restart=60, maxiter=3, residuals=residuals
    )
    assert info == 0
    ours = solve(LinearSystem(A, b), FGMRES(directions, restart=60), stop=Stop(rtol=RTOL))
    assert abs(len(residuals) - 1 - ours.steps) <= 2
    same(x, spla.spsolve(matrix.tocsc(), b), matrix, b)


@pytest.mark.fenics
@pytest.mark.parametrize("name", ["shipped", "random"])
def test_cycles_in_petsc_on_a_matrix_of_fenics(name):
    from solvus.solvers.fem import fenics, petsc_solve

    system, twin, matrix, b, direct = finite_elements(fenics())
    learned = CYCLES[name]()(twin)
    x, steps = example.petsc_cg(matrix, b, to_scipy_operator(learned))
    same(x, direct, matrix, b)
    ours = solve(system, CG(lambda A: learned), stop=Stop(rtol=RTOL))
    assert abs(steps - ours.steps) <= 1
    same(ours.value.numpy(), direct, matrix, b)
    if name == "shipped":
        plain = petsc_solve(matrix, b, {"ksp_type": "cg", "pc_type": "jacobi"}, rtol=RTOL)
        assert steps < plain.iterations / 4
        same(plain.value, direct, matrix, b)


@pytest.mark.fenics
def test_the_example():
    steps = example.main(31)
    assert max(steps.values()) - min(steps.values()) <= 1
    assert steps["PETSc"] <= 10


@pytest.mark.fenics
def test_petsc_that_ends_early_is_noticed(monkeypatch, capfd):
    monkeypatch.setattr(example, "PETSC", "import sys; sys.stdin.buffer.read(1); sys.exit('no PETSc here')")
    A, matrix, b, _ = finite_volumes(8)
    with pytest.raises((IndexError, BrokenPipeError)):
        example.petsc_cg(matrix, b, to_scipy_operator(learned_vcycle(None)(A)))
    assert "no PETSc here" in capfd.readouterr().err
