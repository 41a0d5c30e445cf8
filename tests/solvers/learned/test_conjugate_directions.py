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
from solvus.solvers.krylov import FlexibleCG
from solvus.solvers.learned.directions import ConjugateDirections
from solvus.solvers.multigrid import multigrid
from solvus.solvers.preconditioners.inverse import Inverse

TIGHT = Stop(rtol=1e-10, max_steps=500)


def _contracts():
    file = Path(__file__).parents[2] / "contracts" / "test_solvers.py"
    spec = importlib.util.spec_from_file_location("contracts_of_directions", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


suite = _contracts()


class Map(Inverse):
    """Any function as a direction map."""

    def __init__(self, A, function):
        super().__init__(A)
        self.function = function

    def apply(self, x, out):
        out.copy_(self.function(x))


def by(function):
    return partial(Map, function=function)


def spd_system(n=60, seed=0, condition=100.0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    A = (q * np.geomspace(1, condition, n)) @ q.T
    return LinearSystem(sparse((A + A.T) / 2, tags=SPD), torch.from_numpy(rng.standard_normal(n)))


def random_map(seed):
    """A nonlinear, nonsymmetric map; a different one for every seed."""
    generator = torch.Generator().manual_seed(seed)

    def function(x):
        n = x.shape[-1]
        W = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
        return torch.tanh(x @ W) + torch.randn(x.shape, generator=generator, dtype=x.dtype)

    return function


def errors(problem, solver, steps=30):
    """A-norms of the error at every step."""
    exact = torch.linalg.solve(dense(problem.A), problem.b)
    found = []

    def look(step, x, norm):
        e = x - exact
        found.append(float((e @ (problem.A @ e)).clamp_min(0).sqrt()))

    solve(problem, solver, stop=Stop(rtol=0, max_steps=steps), callback=look, throw=False)
    return found


def iterates(problem, solver, steps=30):
    seen = []
    stop = Stop(rtol=0, max_steps=steps)
    solve(problem, solver, stop=stop, callback=lambda k, x, _: seen.append(x.clone()) and None, throw=False)
    return torch.stack(seen)


# --- the iteration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [1, 2, 4])
def test_the_identity_gives_conjugate_gradients(memory):
    problem = spd_system(condition=10)  # worse ones amplify rounding in both
    ours, plain = iterates(problem, ConjugateDirections(memory=memory)), iterates(problem, CG())
    assert float((ours - plain).norm(dim=-1).div(plain.norm(dim=-1).clamp_min(1e-300))[1:].max()) < 1e-12


def test_without_memory_the_identity_gives_steepest_descent():
    problem = spd_system(10)
    x, r = torch.zeros_like(problem.b), problem.b
    for _ in range(3):
        x = x + r * (r @ r) / (r @ (problem.A @ r))
        r = problem.b - problem.A @ x
    assert torch.allclose(iterates(problem, ConjugateDirections(memory=0), 3)[-1], x, rtol=1e-12)


def test_the_inverse_takes_one_step():
    problem = spd_system()
    inverse = torch.linalg.inv(dense(problem.A))
    result = solve(problem, ConjugateDirections(by(lambda r: r @ inverse)), stop=Stop(rtol=1e-12))
    assert result.steps == 1


@pytest.mark.parametrize("memory", [0, 1, 2, 3])
def test_against_the_published_iteration(memory):
    """Written anew in NumPy: the original q in every projection, the residual recomputed."""
    problem = spd_system(20, seed=3, condition=20)
    A, b = dense(problem.A).numpy(), problem.b.numpy()
    W = np.random.default_rng(5).standard_normal((20, 20)) / 5 + np.eye(20)
    x, history = np.zeros(20), []
    for _ in range(8):
        r = b - A @ x
        q = np.tanh(W @ r / np.linalg.norm(r))
        d = q - sum((p * (q @ Ap) / (p @ Ap) for p, Ap in history), np.zeros(20))
        x = x + d * (d @ r) / (d @ A @ d)
        history = [*history, (d, A @ d)][-memory:] if memory else []

    def f(r):
        return torch.tanh(torch.from_numpy(W) @ (r / r.norm()))

    ours = iterates(problem, ConjugateDirections(by(f), memory=memory), 8)[-1]
    assert torch.allclose(ours, torch.from_numpy(x), rtol=1e-9)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), memory=st.integers(0, 4))
def test_the_energy_of_the_error_never_grows(seed, memory):
    found = errors(spd_system(24, seed=seed), ConjugateDirections(by(random_map(seed)), memory=memory))
    assert all(b <= a * (1 + 1e-12) + 1e-13 for a, b in pairwise(found))


@dataclass(frozen=True)
class FixedStep(Solver):
    """Wrong: takes the proposed direction without a line search."""

    direction: object

    def iterate(self, problem, x):
        f = self.direction(problem.A)
        while True:
            r = problem.residual(x)
            yield x, r.norm(dim=-1)
            x = x + f.matvec(r)


def test_wrong_specimen_a_step_without_line_search():
    found = errors(spd_system(24), FixedStep(by(random_map(0))))
    assert any(b > a for a, b in pairwise(found))


def test_no_scale_of_the_directions():
    problem = spd_system()
    one = iterates(problem, ConjugateDirections(by(lambda r: torch.tanh(r) + r.flip(-1))), 10)
    many = iterates(problem, ConjugateDirections(by(lambda r: -1024 * (torch.tanh(r) + r.flip(-1)))), 10)
    assert torch.allclose(one, many, rtol=1e-10)


# --- maps that are of no use --------------------------------------------------------------------------------

BROKEN = {
    "nan": lambda r: r * float("nan"),
    "one nan": lambda r: torch.cat([r[..., :-1], r[..., -1:] * float("nan")], -1),
    "infinite": lambda r: r / 0.0,
    "zero": lambda r: 0 * r,
    "overflows": lambda r: 1e200 * r,
    "underflows": lambda r: 1e-200 * r,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_map_leaves_conjugate_gradients(kind):
    problem = spd_system()
    broken = iterates(problem, ConjugateDirections(by(BROKEN[kind])), 20)
    assert torch.allclose(broken, iterates(problem, CG(), 20), rtol=1e-10)


def orthogonal(r):
    """A direction along which nothing is to be gained, up to rounding."""
    v = torch.roll(r, 1, -1)
    return v - r * (v * r).sum(-1, keepdim=True) / (r * r).sum(-1, keepdim=True)


def test_directions_that_gain_nothing_are_replaced():
    A = Diffusion(Grid((9, 9)))
    problem = LinearSystem(A, torch.linspace(1, 2, 81, dtype=torch.float64))
    plain = solve(problem, CG(), stop=TIGHT)
    highest = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(41)[:81]
    for f in (orthogonal, lambda r: orthogonal(r) + 1e-9 * r, lambda r: highest.expand_as(r)):
        result = solve(problem, ConjugateDirections(by(f)), stop=TIGHT)
        assert result.steps <= 4 * plain.steps
        assert torch.allclose(result.value, plain.value, rtol=1e-8)


def test_a_broken_sample_does_not_disturb_the_others():
    problem = spd_system()
    many = LinearSystem(problem.A, torch.stack([problem.b, problem.b.flip(-1), problem.b.roll(3)]))

    def one_nan(r):
        return torch.cat([r[:1] * float("nan"), r[1:]])

    whole, cut = (solve(many, ConjugateDirections(by(f)), stop=TIGHT) for f in (lambda r: r, one_nan))
    assert torch.allclose(whole.value, cut.value, rtol=1e-9)
    assert cut.sample_steps.tolist() == whole.sample_steps.tolist()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from([*BROKEN, "random", "sign", "orthogonal", "indefinite"]),
)
def test_no_map_makes_an_answer_wrong(seed, kind):
    maps = {**BROKEN, "random": random_map(seed), "sign": torch.sign, "orthogonal": orthogonal}
    maps["indefinite"] = lambda r: r * torch.linspace(-1, 1, r.shape[-1], dtype=r.dtype)
    A = Diffusion(
        Grid((5, 4)), torch.rand(6, 5, generator=torch.Generator().manual_seed(seed)).double() + 0.1
    )
    b = torch.randn(20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    result = solve(LinearSystem(A, b), ConjugateDirections(by(maps[kind])), stop=Stop(1e-9, max_steps=3000))
    assert torch.allclose(result.value, torch.linalg.solve(dense(A), b), rtol=1e-6, atol=1e-9)


def test_an_operator_that_is_not_positive_definite():
    A = sparse(np.diag([1.0, -1.0, 2.0]), tags=SPD)
    result = solve(LinearSystem(A, [0.0, 1.0, 0.0]), ConjugateDirections(), throw=False)
    assert result.status is Status.BREAKDOWN
    assert "use MINRES or GMRES" in result.reason


def test_settings_and_problems_out_of_range():
    with pytest.raises(ValueError, match="no less than 0 former directions, memory is -1"):
        ConjugateDirections(memory=-1)
    suite.rejects_with_advice(ConjugateDirections(), "indefinite")
    suite.rejects_with_advice(ConjugateDirections(), "nonsymmetric")
    complex_system = LinearSystem(sparse(np.eye(3) + 0j), torch.ones(3, dtype=torch.complex128))
    with pytest.raises(NotSupported, match="ConjugateDirections is for real systems"):
        solve(complex_system, ConjugateDirections())


# --- masks and null spaces ----------------------------------------------------------------------------------


def test_cells_outside_of_the_mask_are_solved_in_the_first_step():
    mask = np.ones((8, 8), dtype=bool)
    mask[2:5, 3:7] = False
    A = Diffusion(Grid((8, 8), mask=mask))
    inside = torch.as_tensor(mask.ravel())
    b = torch.linspace(1, 2, 64, dtype=torch.float64)
    problem = LinearSystem(A, b)
    masked = ConjugateDirections(by(lambda r: r * inside))  # never moves the cells outside
    result = solve(problem, masked, stop=TIGHT)
    assert torch.allclose(A @ result.value, b, rtol=1e-8)
    first = iterates(problem, masked, 1)[1]
    assert torch.allclose((A @ first)[~inside], b[~inside])
    quiet = LinearSystem(A, b * inside)
    assert torch.allclose(iterates(quiet, ConjugateDirections()), iterates(quiet, CG()), rtol=1e-9)


def test_multigrid_as_a_direction_with_a_null_space():
    problem = suite.system("islands")
    result = solve(problem, ConjugateDirections(multigrid()), stop=TIGHT)
    flexible = solve(problem, FlexibleCG(multigrid()), stop=TIGHT)
    assert abs(result.steps - flexible.steps) <= 2
    assert float(problem.A.nullspace.component(result.value).abs().max()) < 1e-12


# --- a solver like any other --------------------------------------------------------------------------------

SOLVERS = [
    *[(ConjugateDirections(), name) for name in suite._SPD],
    (ConjugateDirections(suite.scaling), "batched"),
    (ConjugateDirections(suite.scaling, memory=1), "spd_csr"),
]
NAMES = [f"{name}-{i}" for i, (_, name) in enumerate(SOLVERS)]


@pytest.mark.parametrize(
    "contract",
    [
        "converges",
        "reports_the_true_residual",
        "batch_equals_loop",
        "starts_where_told",
        "is_deterministic",
        "stops_early",
    ],
)
@pytest.mark.parametrize(("solver", "name"), SOLVERS, ids=NAMES)
def test_contract(solver, name, contract):
    getattr(suite, contract)(solver, name)


@pytest.mark.parametrize("contract", ["has_no_scale", "has_no_memory", "is_settings_only"])
@pytest.mark.parametrize("solver", [ConjugateDirections(), ConjugateDirections(suite.scaling)])
def test_settings_contract(solver, contract):
    getattr(suite, contract)(solver, "islands" if contract == "has_no_scale" else "batched")


def test_float32():
    suite.converges(ConjugateDirections(), "neumann", torch.float32)


@pytest.mark.parametrize("name", ["batched", "neumann"])
def test_gradients(name):
    suite.gradients_are_right(ConjugateDirections(), *suite.GRADIENTS[name])
