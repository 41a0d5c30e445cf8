"""A learned method under watch: every way to fail, the change-over, gradients."""

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, NotSupported, dense
from solvus.solvers import CG, GMRES, Dense, FlexibleCG, Jacobi, LinearSystem, Solver, Status, Stop, solve
from solvus.solvers.base import Breakdown
from solvus.solvers.learned.arms import Budget
from solvus.solvers.learned.bandits import TsallisINF
from solvus.solvers.learned.chain import Chain
from solvus.solvers.learned.safeguard import Safeguarded
from solvus.solvers.learned.tuner import Tuner
from solvus.solvers.preconditioners import jacobi, ssor

TIGHT = Stop(rtol=1e-9, max_steps=600)


def _contracts():
    file = Path(__file__).parents[2] / "contracts" / "test_solvers.py"
    spec = importlib.util.spec_from_file_location("contracts_of_safeguard", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


suite = _contracts()


def system(batch=(), dtype=torch.float64):
    b = torch.randn(*batch, 144, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return LinearSystem(Diffusion(Grid((12, 12)), dtype=dtype), b.to(dtype))


def right(problem, result, rtol=1e-9):
    """Hold a result against NumPy's direct solution."""
    assert result.status is Status.CONVERGED
    exact = torch.linalg.solve(dense(problem.A).double(), problem.b.double()[..., None])[..., 0]
    assert torch.allclose(result.value.double(), exact, rtol=0, atol=1e3 * rtol * float(exact.abs().max()))


@dataclass(frozen=True)
class Steps(Solver):
    """CG that does something else after some steps."""

    after: int
    act: object

    def iterate(self, problem, x):
        for step, (value, norm) in enumerate(CG().iterate(problem, x)):
            yield self.act(value, norm) if step >= self.after else (value, norm)


def _raise(value, norm):
    raise KeyError("weights")


def _break_down(value, norm):
    raise Breakdown("cannot go on")


def _poison(value, norm):
    value.fill_(torch.nan)
    return value, norm * float("nan")


def _hidden(value, norm):
    value[..., 0] = torch.nan
    return value, norm


def _diverge(value, norm):
    value.mul_(1e8)
    return value, norm * 1e8


def _lie(value, norm):
    value.zero_()
    return value, norm * 0


def _whisper(value, norm):
    value.zero_()
    return value, norm * 1e-3


FAILURES = {
    "raises": (_raise, "KeyError: 'weights'"),
    "breaks down": (_break_down, "cannot go on"),
    "NaN": (_poison, "NaN or infinity appeared in its residual"),
    "hidden NaN": (_hidden, "NaN or infinity appeared in its value"),
    "diverges": (_diverge, "its residual grew by more than 1e"),
    "lies": (_lie, "its true residual is inf times the one that it reports"),
    "whispers": (_whisper, r"its true residual is \S+ times the one that it reports"),
    "stagnates": (lambda value, norm: (value.zero_(), norm.fill_(50.0)), "4 steps ago, 0.5 was asked for"),
    "wrong shape": (lambda value, norm: (value[..., :-1], norm), r"its value is \S+143,\) in torch.float64"),
    "wrong type": (lambda value, norm: (value.float(), norm), "in torch.float32 on cpu, needed is"),
    "wrong norm": (lambda value, norm: (value, value), "its norm has shape"),
    "no pair": (lambda value, norm: value, "it yields no pair of a value and a norm: Tensor"),
    "no norm": (lambda value, norm: (value, 3.0), "it yields no pair of a value and a norm: tuple"),
    "no value": (lambda value, norm: ("x", norm), "its value is a str, needed is a tensor"),
    "cannot be formed": (lambda value, norm: (_raise_later, norm * 1e-9), "its true residual is"),
}


def _raise_later():
    raise KeyError("late")


def hold(name, after, batch, backstop=None):
    act, reason = FAILURES[name]
    problem = system(batch)
    result = solve(problem, Safeguarded(Steps(after, act), backstop, patience=4), stop=TIGHT)
    right(problem, result)
    wanted = reason if "143" not in reason or not batch else r"its value is \(3, 143\)"
    assert re.search(wanted, result.stats["fallback"]), result.stats["fallback"]
    assert result.stats["learned_steps"] <= after + 6
    assert bool(torch.isfinite(result.residuals).all())


@pytest.mark.parametrize("after", [1, 6])
@pytest.mark.parametrize("name", FAILURES)
def test_every_failure_leads_to_the_backstop(name, after):
    hold(name, after, (3,) if after == 6 else ())


@pytest.mark.parametrize("name", ["raises", "NaN", "lies", "wrong shape", "no pair", "cannot be formed"])
def test_failures_at_once_and_another_backstop(name):
    hold(name, 0, (), CG())
    hold(name, 6, (3,), CG())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", [CG(), CG(jacobi), FlexibleCG(ssor()), GMRES()], ids=range(4))
def test_a_good_method_is_left_alone(method, dtype):
    problem, stop = system((3,), dtype), Stop(rtol=1e-4 if dtype is torch.float32 else 1e-9, max_steps=600)
    plain, watched = solve(problem, method, stop=stop), solve(problem, Safeguarded(method), stop=stop)
    assert watched.stats["fallback"] is None
    assert watched.stats["learned_steps"] == watched.steps == plain.steps
    assert torch.equal(plain.value, watched.value)
    assert plain.stats.get("fallback", 0) == 0


def test_the_attainable_accuracy_is_no_failure():
    """Residuals that CG updates fall below what float32 can show; `solve` is content with the true one."""
    small = LinearSystem(torch.diag(torch.arange(1.0, 9.0)), torch.ones(8))
    assert solve(small, Safeguarded(CG())).stats["fallback"] is None


def test_the_watch_costs_few_products():
    problem = system()
    calls = 0

    class Counted(LinearSystem):
        def residual_norm(self, x):
            nonlocal calls
            calls += 1
            return super().residual_norm(x)

    result = solve(Counted(problem.A, problem.b), Safeguarded(CG()), stop=TIGHT)
    assert result.steps > 25
    assert calls <= 1 + 9 + result.steps // 30 + 2  # the start, decades, patience, and those of `solve`


def test_the_backstop_goes_on_from_the_best_value():
    problem = system()
    plain = solve(problem, CG(), stop=TIGHT)
    result = solve(problem, Safeguarded(Steps(20, _break_down), Dense()), stop=TIGHT)
    assert result.stats["learned_steps"] == 19
    change = result.residuals[20]  # the start of the backstop
    assert float(change) <= float(plain.residuals[:20].min()) * (1 + 1e-9)
    assert result.steps == 21


def test_a_value_that_got_worse_is_not_taken_over():
    problem = system()
    result = solve(problem, Safeguarded(Steps(1, _diverge), Dense()), stop=TIGHT)
    assert float(result.residuals[-2]) <= float(problem.scale())


def test_samples_are_taken_over_one_by_one():
    problem = system((3,))
    exact = solve(problem, Dense(), stop=Stop(rtol=1e-12)).value

    class Mixed(Solver):
        def iterate(self, p, x):
            yield x, p.residual_norm(x)
            x[0], x[1], x[2] = exact[0] * (1 + 1e-5), exact[1] * 1e9, torch.nan
            yield x, torch.ones(3, dtype=x.dtype)
            raise ValueError("enough")

    result = solve(problem, Safeguarded(Mixed(), CG()), stop=TIGHT)
    right(problem, result)
    assert float(result.residuals[-1][0]) <= 1e-9 * float(problem.scale()[0])
    change = result.residuals[1]
    assert float(change[0]) < 1e-4 * float(problem.scale()[0])
    assert torch.equal(change[1:], problem.scale()[1:])


def test_what_refuses_the_problem_has_failed():
    nonsymmetric = suite.system("nonsymmetric")
    result = solve(nonsymmetric, Safeguarded(CG()), stop=TIGHT)
    assert result.status is Status.CONVERGED
    assert result.stats["fallback"].startswith(
        "NotSupported: CG needs a symmetric positive definite operator"
    )
    with pytest.raises(NotSupported, match="CG needs"):  # but not when the backstop does
        solve(nonsymmetric, Safeguarded(GMRES(), CG()))


def test_a_method_that_ends_by_itself():
    class Once(Solver):
        def iterate(self, problem, x):
            yield x, problem.residual_norm(x)

    result = solve(system(), Safeguarded(Once()), stop=TIGHT)
    assert result.stats["fallback"] == "it ended by itself"


def test_budgets():
    problem = system()
    result = solve(problem, Safeguarded(CG(), Dense(), budget=Budget(steps=7)), stop=TIGHT)
    assert (result.stats["learned_steps"], result.steps) == (7, 9)
    assert result.stats["fallback"] == "its budget of 7 steps is used up"
    result = solve(problem, Safeguarded(CG(), Dense(), budget=Budget(seconds=1e-9)), stop=TIGHT)
    assert result.stats["fallback"] == "its budget of 1e-09 s is used up"
    right(problem, result)


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="patience is at least 1 step"):
        Safeguarded(CG(), patience=0)
    with pytest.raises(ValueError, match="reduction between 0 and 1, got 30 and 1"):
        Safeguarded(CG(), reduction=1)
    with pytest.raises(ValueError, match="give steps and seconds alone"):
        Safeguarded(CG(), budget=Budget(weights={"it": 2.0}))


def test_a_failed_backstop_is_a_named_error():
    result = solve(system(), Safeguarded(Steps(2, _raise), Steps(3, _break_down)), stop=TIGHT, throw=False)
    assert result.status is Status.BREAKDOWN
    assert result.reason == "cannot go on"
    assert result.stats["fallback"] == "KeyError: 'weights'"
    assert bool(torch.isfinite(result.value).all())


def test_what_failed_is_not_tried_again_in_the_same_solve():
    tried = []

    @dataclass(frozen=True)
    class Known(Solver):
        def iterate(self, problem, x):
            tried.append(1)
            yield from Steps(3, _raise).iterate(problem, x)

    @dataclass(frozen=True)
    class Drifting(Solver):
        """Reports a residual that is too small at first, so that `solve` starts anew."""

        def iterate(self, problem, x):
            for value, norm in CG().iterate(problem, x):
                yield value, norm * 1e-3

    problem = system()
    result = solve(problem, Safeguarded(Known(), Drifting()), stop=TIGHT)
    right(problem, result)
    assert sum(tried) == 1


def test_notes_pass_through_other_solvers():
    safe, problem = Safeguarded(Steps(2, _raise), CG()), system()
    for outer in (Chain(Jacobi(0.5), safe), Chain(safe, CG())):
        stats = solve(problem, outer, stop=TIGHT).stats
        assert (stats["fallback"], stats["learned_steps"]) == (
            "KeyError: 'weights'",
            1,
        ) or outer.first is safe
    stats = Tuner({"safe": safe}, TsallisINF(1)).solve(problem, stop=TIGHT).stats
    assert stats["fallback"] == "KeyError: 'weights'"
    assert not stats["backstop"]


@pytest.mark.parametrize("name", ["raises", "NaN", "lies", "stagnates"])
def test_gradients_pass_through_a_failure(name):
    grads = []
    for solver in (CG(), Safeguarded(Steps(3, FAILURES[name][0]), patience=4)):
        c = (1 + torch.rand(13, 13, generator=torch.Generator().manual_seed(1)).double()).requires_grad_()
        problem = LinearSystem(Diffusion(Grid((12, 12)), c), system().b)
        solve(problem, solver, stop=Stop(rtol=1e-12)).value.square().sum().backward()
        grads.append(c.grad)
    assert torch.allclose(grads[0], grads[1], rtol=1e-7, atol=1e-14)


def test_set_up_is_kept_for_the_gradient():
    built = []

    def counted(A):
        built.append(A)
        return jacobi(A)

    problem = LinearSystem(Diffusion(Grid((12, 12))), system().b.requires_grad_())
    solve(problem, Safeguarded(CG(counted)), stop=TIGHT).value.sum().backward()
    assert len(built) == 1


# --- a solver like any other --------------------------------------------------------------------------------

SOLVERS = [
    (Safeguarded(CG()), "spd_csr"),
    (Safeguarded(CG()), "batched"),
    (Safeguarded(Jacobi(0.5), CG(), patience=3), "diffusion"),
    (Safeguarded(GMRES(), GMRES()), "neumann"),
    (Safeguarded(CG(), budget=Budget(steps=3)), "islands"),
    (Safeguarded(CG()), "nonsymmetric"),
]


@pytest.mark.parametrize(
    "contract",
    ["converges", "reports_the_true_residual", "batch_equals_loop", "starts_where_told", "is_deterministic"],
)
@pytest.mark.parametrize(("solver", "name"), SOLVERS, ids=[name for _, name in SOLVERS])
def test_contracts(solver, name, contract):
    if contract == "batch_equals_loop" and solver.patience == 3:
        return  # the change-over is that of the whole batch: steps differ from those of solves one by one
    getattr(suite, contract)(solver, name)


@pytest.mark.parametrize("contract", ["has_no_scale", "has_no_memory", "stops_early"])
@pytest.mark.parametrize(("solver", "name"), SOLVERS[:5], ids=[name for _, name in SOLVERS[:5]])
def test_more_contracts(solver, name, contract):
    getattr(suite, contract)(solver, name)


def test_it_is_settings_only():
    suite.is_settings_only(Safeguarded(CG(), GMRES(), patience=9), "spd_csr")


@dataclass(frozen=True)
class Unwatched(Solver):
    """Wrong: hands over only when the method says that it failed."""

    solver: Solver

    def iterate(self, problem, x):
        try:
            yield from self.solver.iterate(problem, x)
        except Breakdown:
            yield from CG().iterate(problem, x)


def test_wrong_specimen_a_safeguard_that_believes_what_it_is_told():
    assert solve(system(), Unwatched(Steps(3, _break_down)), stop=TIGHT).status is Status.CONVERGED
    for name in ("NaN", "hidden NaN", "lies", "stagnates"):
        result = solve(system(), Unwatched(Steps(3, FAILURES[name][0])), stop=TIGHT, throw=False)
        assert result.status is not Status.CONVERGED
