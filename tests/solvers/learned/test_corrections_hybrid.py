import importlib.util
import sys
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.meshes import Grid
from solvus.operators.linear import SPD, Diffusion, NotSupported, dense, sparse
from solvus.solvers import CG, LinearSystem, Solver, Status, Stop, solve
from solvus.solvers.learned.corrections import Hybrid
from solvus.solvers.multigrid import multigrid
from solvus.solvers.preconditioners import identity, jacobi
from solvus.solvers.preconditioners.inverse import Inverse
from solvus.solvers.stationary import SOR, SSOR, GaussSeidel, Jacobi, Richardson


def _contracts():
    file = Path(__file__).parents[2] / "contracts" / "test_solvers.py"
    spec = importlib.util.spec_from_file_location("contracts_of_hybrid", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


suite = _contracts()
RELAXATIONS = {
    "jacobi": Jacobi(0.8),
    "richardson": Richardson(jacobi, 0.7),
    "gauss-seidel": GaussSeidel(),
    "backward": GaussSeidel("backward"),
    "sor": SOR(1.4),
    "colours": SOR(1.2, order="multicolour"),
    "ssor": SSOR(1.3),
}
BROKEN = {
    "nan": lambda r: r * float("nan"),
    "one nan": lambda r: torch.cat([r[..., :-1], r[..., -1:] * float("nan")], -1),
    "infinite": lambda r: r / 0.0,
    "zero": lambda r: 0 * r,
    "overflows": lambda r: 1e200 * r,
}


class Map(Inverse):
    """Any function as a correction."""

    def __init__(self, A, function):
        super().__init__(A)
        self.function = function

    def apply(self, x, out):
        out.copy_(self.function(x))


def by(function):
    return partial(Map, function=function)


def random_map(seed):
    def function(x):
        generator = torch.Generator().manual_seed(seed)
        W = torch.randn(x.shape[-1], x.shape[-1], generator=generator, dtype=x.dtype)
        return torch.tanh(10 * x @ W) + torch.randn(x.shape[-1], generator=generator, dtype=x.dtype)

    return function


def inverse_of(A, sign=1.0):
    exact = sign * torch.linalg.inv(dense(A))
    return by(lambda r: r @ exact)


def system(seed=0, grid=None, batch=()):
    grid = grid or Grid((6, 5))
    generator = torch.Generator().manual_seed(seed)
    A = Diffusion(grid, torch.rand(grid.cells, generator=generator).double() + 0.1)
    return LinearSystem(A, torch.randn(*batch, grid.size, generator=generator, dtype=torch.float64))


def iterates(problem, solver, steps=12):
    seen = []
    stop = Stop(rtol=0, max_steps=steps)
    solve(problem, solver, stop=stop, callback=lambda k, x, _: seen.append(x.clone()) and None, throw=False)
    return torch.stack(seen)


def energies(problem, solver, steps=20):
    """A-norms of the error at every step."""
    exact = torch.linalg.solve(dense(problem.A), problem.b)
    errors = iterates(problem, solver, steps) - exact
    return (errors * problem.A.matvec(errors)).sum(-1).clamp_min(0).sqrt().tolist()


def energy_never_grows(problem, solver):
    """The contract of a safeguarded correction."""
    found = energies(problem, solver)
    assert all(b <= a * (1 + 1e-12) + 1e-13 for a, b in pairwise(found)), found


# --- the iteration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RELAXATIONS)
def test_without_corrections_it_is_the_relaxation(name):
    problem, relaxation = system(), RELAXATIONS[name]
    hybrid = iterates(problem, Hybrid(relaxation, identity, every=1000))
    assert torch.allclose(hybrid, iterates(problem, relaxation), rtol=1e-12)


@pytest.mark.parametrize("name", RELAXATIONS)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_correction_leaves_the_relaxation(name, kind):
    """It costs its evaluation, and no sweep is lost."""
    problem, refused = system(), []
    solver = Hybrid(
        RELAXATIONS[name], by(BROKEN[kind]), every=3, on_refused=lambda which: refused.append(which)
    )
    plain = iterates(problem, RELAXATIONS[name])
    assert torch.allclose(iterates(problem, solver), plain, rtol=1e-10)
    assert len(refused) == 4
    assert all(bool(which) for which in refused)
    result = solve(problem, solver, stop=Stop(max_steps=12), throw=False)
    assert result.stats["refused"] == 4


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("every", [1, 3])
def test_the_inverse_ends_it_with_the_first_correction(every, sign):
    """The one of wrong sign too: the line search turns it round."""
    problem = system()
    solver = Hybrid(Jacobi(0.8), inverse_of(problem.A, sign), every=every)
    assert solve(problem, solver, stop=Stop(1e-12)).steps == every


def test_against_the_iteration_written_anew():
    problem = system(3)
    A, b = dense(problem.A).numpy(), problem.b.numpy()
    x = np.zeros(len(b))
    for step in range(1, 10):
        r = b - A @ x
        if step % 3 == 0:
            d = np.linalg.norm(r) * np.tanh(5 * r / np.linalg.norm(r))
            x = x + d * (d @ r) / (d @ A @ d)
        else:
            x = x + 0.8 * r / np.diag(A)
    found = iterates(problem, Hybrid(Jacobi(0.8), by(lambda r: torch.tanh(5 * r)), every=3), 9)[-1]
    assert torch.allclose(found, torch.from_numpy(x), rtol=1e-11)


def test_the_correction_sees_unit_residuals():
    seen = []
    solver = Hybrid(Jacobi(0.8), by(lambda r: seen.append(float(r.norm())) or r), every=2)
    iterates(system(), solver, 6)
    assert np.allclose(seen, 1.0)
    assert len(seen) == 3


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(list(RELAXATIONS)), every=st.integers(1, 4))
def test_the_energy_of_the_error_never_grows(seed, name, every):
    """For relaxations that lower it; damped Jacobi does on an M-matrix."""
    energy_never_grows(system(seed), Hybrid(RELAXATIONS[name], by(random_map(seed)), every=every))


@dataclass(frozen=True)
class Careless(Solver):
    """Wrong: adds every correction as it is."""

    correction: object

    def iterate(self, problem, x):
        M, G, step = jacobi(problem.A), self.correction(problem.A), 0
        while True:
            r = problem.residual(x)
            yield x, r.norm(dim=-1)
            step += 1
            x = x + (0.8 * M.matvec(r) if step % 3 else r.norm() * G.matvec(r / r.norm()))


@pytest.mark.parametrize("kind", ["random", "nan", "wrong sign"])
def test_wrong_specimen_without_a_safeguard(kind):
    problem = system()
    maps = {"random": by(random_map(0)), "nan": by(BROKEN["nan"]), "wrong sign": inverse_of(problem.A, -1)}
    with pytest.raises(AssertionError):
        energy_never_grows(problem, Careless(maps[kind]))
    energy_never_grows(problem, Hybrid(Jacobi(0.8), maps[kind], every=3))


def test_without_a_line_search_the_residual_decides():
    problem = system()
    overshoots = inverse_of(problem.A, 2.5)  # r becomes -1.5 r
    useful = inverse_of(problem.A, 0.5)
    plain = iterates(problem, Jacobi(0.8))
    refused = Hybrid(Jacobi(0.8), overshoots, every=2, line_search=False)
    assert torch.allclose(iterates(problem, refused), plain, rtol=1e-12)
    found = iterates(problem, Hybrid(Jacobi(0.8), useful, every=2, line_search=False))
    norms = (problem.b - problem.A @ found).norm(dim=-1)
    assert np.allclose((norms[2::2] / norms[1:-1:2]).tolist(), 0.5)


def test_without_a_line_search_for_other_operators():
    problem = suite.system("nonsymmetric")
    solver = Hybrid(Richardson(jacobi, 0.9), inverse_of(problem.A, 0.9), every=4, line_search=False)
    assert solve(problem, solver, stop=Stop(1e-9)).status is Status.CONVERGED


def test_a_broken_sample_does_not_disturb_the_others():
    problem, refused = system(batch=(3,)), []
    healthy = random_map(1)

    def one_nan(r):
        z = healthy(r)
        return torch.cat([z[:1] * float("nan"), z[1:]])

    solvers = [Hybrid(GaussSeidel(), by(f), every=2, on_refused=refused.append) for f in (healthy, one_nan)]
    whole, cut = (iterates(problem, solver, 8) for solver in solvers)
    assert torch.allclose(whole[:, 1:], cut[:, 1:], rtol=1e-12)
    alone = LinearSystem(problem.A, problem.b[0])
    assert torch.allclose(cut[:, 0], iterates(alone, GaussSeidel(), 8), rtol=1e-12)
    assert [which.tolist() for which in refused] == [[True, False, False]] * 4


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), kind=st.sampled_from([*BROKEN, "random", "sign"]), search=st.booleans())
def test_no_correction_makes_an_answer_wrong(seed, kind, search):
    maps = {**BROKEN, "random": random_map(seed), "sign": torch.sign}
    problem = system(seed, Grid((5, 4)))
    solver = Hybrid(GaussSeidel(), by(maps[kind]), every=3, line_search=search)
    result = solve(problem, solver, stop=Stop(1e-9, max_steps=3000))
    assert torch.allclose(result.value, torch.linalg.solve(dense(problem.A), problem.b), rtol=1e-6, atol=1e-9)


def test_multigrid_as_a_correction_with_a_null_space():
    result = solve(suite.system("islands"), Hybrid(GaussSeidel(), multigrid(), every=2), stop=Stop(1e-10))
    assert result.steps < 20


# --- settings and problems out of range ---------------------------------------------------------------------


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="every so many steps, at least 1, got every = 0"):
        Hybrid(Jacobi(), identity, every=0)
    with pytest.raises(
        TypeError, match=r"Hybrid takes Jacobi, .* got CG\(.*use Richardson\(preconditioner\)"
    ):
        Hybrid(CG(), identity)


def test_problems_out_of_range():
    solver = Hybrid(GaussSeidel(), identity)
    with pytest.raises(NotSupported, match="Hybrid with line_search needs a symmetric positive definite"):
        solve(suite.system("nonsymmetric"), solver)
    complex_system = LinearSystem(sparse(np.eye(3) + 0j), torch.ones(3, dtype=torch.complex128))
    with pytest.raises(NotSupported, match="Hybrid is for real systems"):
        solve(complex_system, solver)
    batch = LinearSystem(suite.system("batched").A, suite.system("batched").b)
    with pytest.raises(NotSupported, match="order='multicolour'"):
        solve(batch, Hybrid(GaussSeidel(order="natural"), identity))


def test_an_operator_that_is_not_positive_definite():
    """Tagged wrongly: no correction lowers the energy, and the relaxation does not converge."""
    A = sparse(np.diag([1.0, -1.0, 2.0]), tags=SPD)
    solver = Hybrid(Jacobi(0.8), identity, every=1)
    result = solve(LinearSystem(A, [0.0, 1.0, 0.0]), solver, stop=Stop(max_steps=5), throw=False)
    assert torch.isfinite(result.value).all()


# --- a solver like any other --------------------------------------------------------------------------------

SOLVERS = [
    *[(Hybrid(GaussSeidel(), suite.scaling, every=2), name) for name in suite._SINGLE_SPD],
    (Hybrid(Jacobi(0.8), suite.scaling, every=2), "batched"),
    (Hybrid(SSOR(1.3), identity), "spd_csr"),
    (Hybrid(GaussSeidel(), suite.scaling, line_search=False), "diffusion"),
]
NAMES = [f"{name}-{i}" for i, (_, name) in enumerate(SOLVERS)]
CONTRACTS = ["converges", "reports_the_true_residual", "batch_equals_loop", "starts_where_told"]


@pytest.mark.parametrize("contract", [*CONTRACTS, "is_deterministic", "stops_early"])
@pytest.mark.parametrize(("solver", "name"), SOLVERS, ids=NAMES)
def test_contract(solver, name, contract):
    getattr(suite, contract)(solver, name)


@pytest.mark.parametrize("contract", ["has_no_scale", "has_no_memory", "is_settings_only"])
def test_settings_contract(contract):
    getattr(suite, contract)(Hybrid(Jacobi(0.8), suite.scaling, every=2), "diffusion")


def test_float32():
    suite.converges(Hybrid(GaussSeidel(), suite.scaling, every=2), "diffusion", torch.float32)


def test_gradients():
    suite.gradients_are_right(Hybrid(Jacobi(0.8), suite.scaling, every=2), *suite.GRADIENTS["batched"])
