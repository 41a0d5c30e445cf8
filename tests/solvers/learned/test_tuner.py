"""The tuner: no answer is missed whatever the arms do, what is charged, saving and restoring, its page."""

import json
import re
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from solvus.operators.linear import to_scipy
from solvus.solvers import CG, SOR, LinearSystem, SolveError, Solver, Status, Stop, SuperLU, ssor
from solvus.solvers.learned.arms import Budget, Counted, over
from solvus.solvers.learned.bandits import ChebCB, TsallisINF
from solvus.solvers.learned.tuner import Tuner

TIGHT = Stop(rtol=1e-8)


def laplacian(n=60, shift=0.0, dtype=torch.float64):
    A = sp.diags_array([-1.0, 2.0 + shift, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    b = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    return LinearSystem(sp.csr_array(A).astype(str(dtype)[6:]), b.to(dtype))


@dataclass(frozen=True)
class Raising(Solver):
    """Fails after some steps with an error that is none of ours."""

    after: int = 3

    def iterate(self, problem, x):
        for step, item in enumerate(CG().iterate(problem, x)):
            if step == self.after:
                raise KeyError("weights")
            yield item


@dataclass(frozen=True)
class Refusing(Solver):
    def check(self, problem):
        raise TypeError("not for me")

    def iterate(self, problem, x):
        raise AssertionError


@dataclass(frozen=True)
class Poisoned(Solver):
    def iterate(self, problem, x):
        yield x, problem.residual_norm(x)
        x.fill_(torch.nan)
        yield x, problem.residual_norm(x)


@dataclass(frozen=True)
class Lying(Solver):
    """Says that it is done, and has made things worse."""

    def iterate(self, problem, x):
        yield x, problem.residual_norm(x)
        while True:
            x.add_(100.0)
            yield x, torch.zeros(x.shape[:-1], dtype=x.dtype)


@dataclass(frozen=True)
class Diverging(Solver):
    def iterate(self, problem, x):
        while True:
            yield x, problem.residual_norm(x)
            x.mul_(-2.0).add_(1.0)


@dataclass(frozen=True)
class NoGenerator(Solver):
    """Iterates by a plain iterator, which cannot be told what is done."""

    def iterate(self, problem, x):
        return _Plain(problem, x)


class _Plain:
    def __init__(self, problem, x):
        self.inner = CG().iterate(problem, x)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.inner)


BAD = {
    "raises at once": Raising(0),
    "raises late": Raising(),
    "refuses": Refusing(),
    "NaN": Poisoned(),
    "lies": Lying(),
    "diverges": Diverging(),
    "slow": SOR(1.0),
}


def alone(arm, **settings):
    return Tuner({"it": arm}, TsallisINF(1), backstop=CG(), **settings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_arm_costs_time_and_never_the_answer(name, dtype):
    system, rtol = laplacian(dtype=dtype), 1e-8 if dtype is torch.float64 else 1e-4
    tuner = alone(BAD[name], budget=Budget(steps=10))
    for _ in range(3):
        result = tuner.solve(system, stop=Stop(rtol=rtol))
        assert result.status is Status.CONVERGED
        assert result.stats["backstop"]
        assert result.stats["arm"] == "it"
        assert float(system.residual_norm(result.value)) <= rtol * float(system.scale())
        assert result.stats["cost"] == result.steps > result.stats["arm_steps"]
        assert len(result.residuals) >= 2


def test_a_good_arm_needs_no_backstop():
    result = alone(CG()).solve(laplacian(), stop=TIGHT)
    assert not result.stats["backstop"]
    assert result.stats["arm_status"] == "CONVERGED"
    assert result.stats["learner_s"] > 0


def test_reasons_are_kept():
    stats = alone(Raising()).solve(laplacian(), stop=TIGHT).stats
    assert stats["arm_status"] == "BREAKDOWN"
    assert stats["arm_reason"] == "KeyError: 'weights'"
    assert stats["arm_steps"] == 2
    assert alone(Refusing()).solve(laplacian()).stats["arm_reason"] == "TypeError: not for me"
    assert alone(Poisoned()).solve(laplacian()).stats["arm_status"] == "NONFINITE"


def test_the_backstop_goes_on_from_the_value_of_the_arm():
    @dataclass(frozen=True)
    class Near(Solver):
        """Comes within 1e-6 of the solution and stays there."""

        def iterate(self, problem, x):
            iteration = SuperLU().iterate(problem, x)
            yield next(iteration)
            value, _ = next(iteration)
            value *= 1 + 1e-6
            while True:
                yield value, problem.residual_norm(value)

    system = laplacian()
    result = alone(Near(), budget=Budget(steps=2)).solve(system, stop=TIGHT)
    assert result.stats["backstop"]
    assert float(result.residuals[3]) == pytest.approx(1e-6 * float(system.scale()), rel=1e-3)
    poor = alone(Diverging(), budget=Budget(steps=2)).solve(system, stop=TIGHT)
    assert float(poor.residuals[3]) == float(system.scale())  # what is worse than the start is not used


def test_an_iterator_that_is_no_generator():
    assert not alone(NoGenerator()).solve(laplacian(), stop=TIGHT).stats["backstop"]


def test_a_batch():
    system = laplacian()
    batch = LinearSystem(system.A, torch.stack([system.b, 2 * system.b.flip(0), torch.zeros_like(system.b)]))
    for arm in (CG(), Raising(), Poisoned()):
        result = alone(arm).solve(batch, stop=TIGHT)
        assert bool(result.converged.all())
        assert result.sample_steps.shape == (3,)


def test_budgets_are_scaled_by_the_weight_of_a_step():
    budget = Budget(steps=100, seconds=2.0, weights={"dear": 4.0})
    assert budget.stop("dear", Stop()).max_steps == 25
    assert budget.stop("other", Stop(max_steps=30)).max_steps == 30
    assert budget.stop("other", Stop(seconds=1.0)).seconds == 0.5
    assert budget.stop("other", Stop()).seconds == 2.0
    tuner = alone(CG(), budget=Budget(weights={"it": 4.0}))
    result = tuner.solve(laplacian(), stop=TIGHT)
    assert result.stats["cost"] == 4 * result.steps


def test_costs():
    system = laplacian()
    by_seconds = alone(CG(), cost="seconds").solve(system, stop=TIGHT)
    assert by_seconds.stats["cost"] == by_seconds.stats["setup_s"] + by_seconds.stats["solve_s"]
    products = alone(CG(), cost="matvecs").solve(system, stop=TIGHT)
    assert products.stats["cost"] == products.steps + 2  # the first residual, and the one that is checked
    swept = alone(SOR(1.9), cost="matvecs").solve(system, stop=Stop(rtol=1e-6))
    assert swept.stats["cost"] >= swept.steps
    assert (
        alone(CG(), cost=lambda r: 7.0 + r.steps).solve(system).stats["cost"]
        == 7 + alone(CG()).solve(system).steps
    )


def test_counting_leaves_the_problem_alone():
    system = laplacian()
    counted = Counted(system)
    x = torch.ones(60, dtype=torch.float64)
    assert torch.equal(counted.problem.A @ x, system.A @ x)
    assert counted.count == 1
    assert type(counted.problem.A) is type(system.A)
    assert "matvec" not in vars(system.A)


def test_the_best_omega_is_found_by_context():
    """SOR on shifted Laplacians: where the shift is large, 1 is best, else a larger omega."""
    omegas = [1.0, 1.5, 1.9]
    arms = over(SOR, omegas)
    tuner = Tuner(arms, ChebCB(3, (0.0, 3.0), terms=3, floor=1.0), backstop=CG(), budget=Budget(steps=400))
    generator, total, table = np.random.default_rng(0), 0.0, []
    for _ in range(160):
        shift = float(generator.choice([0.02, 3.0]))
        system = laplacian(20, shift)
        result = tuner.solve(system, context=shift, stop=Stop(rtol=1e-6))
        total += result.stats["cost"]
        table.append((shift, result.stats["arm"]))
    late = table[100:]
    assert np.mean([arm == "1" for shift, arm in late if shift == 3.0]) > 0.6
    assert np.mean([arm != "1" for shift, arm in late if shift != 3.0]) > 0.8
    assert sum(tuner.plays.values()) == 160
    assert sum(tuner.costs.values()) == total
    assert "mean cost" in repr(tuner)


def make(seed=5):
    arms = over(lambda omega: CG(ssor(omega)), [1.0, 1.4, 1.8])
    return Tuner(arms, TsallisINF(3, floor=1.0), seed=seed)


def test_a_restored_tuner_continues_bit_for_bit(tmp_path):
    systems = [laplacian(20 + k % 7, 0.1) for k in range(40)]
    whole = make()
    for system in systems[:20]:
        whole.solve(system)
    whole.save(tmp_path / "tuner.json")
    whole.save(tmp_path / "tuner.json")  # replaces
    rest = [whole.solve(system).stats["arm"] for system in systems[20:]]
    half = make(seed=11)
    half.restore(tmp_path / "tuner.json")
    assert [half.solve(system).stats["arm"] for system in systems[20:]] == rest
    half.save(tmp_path / "again.json")
    whole.save(tmp_path / "tuner.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tuner.json").read_bytes()
    assert [make(seed=11).solve(s).stats["arm"] for s in systems[20:]] != rest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "tuner.json"]


def test_gradients_pass():
    b = laplacian().b.clone().requires_grad_()
    A = laplacian().A
    alone(CG()).solve(LinearSystem(A, b), stop=Stop(rtol=1e-12)).value.sum().backward()
    expected = np.linalg.solve(to_scipy(A).toarray(), np.ones(60))
    np.testing.assert_allclose(b.grad.numpy(), expected, rtol=1e-5)


def test_errors(tmp_path):
    with pytest.raises(ValueError, match=r"among 2 arms, there are 1: make it with len\(arms\)"):
        Tuner({"cg": CG()}, TsallisINF(2))
    with pytest.raises(TypeError, match=r"'cg' must be a Solver instance such as CG\(\)"):
        Tuner({"cg": CG}, TsallisINF(1))
    with pytest.raises(ValueError, match="weighs mg, which no arm is called"):
        alone(CG(), budget=Budget(weights={"mg": 2.0}))
    with pytest.raises(ValueError, match="must be positive"):
        Budget(steps=0)
    with pytest.raises(ValueError, match="cost of arm it is nan"):
        alone(CG(), cost=lambda result: float("nan")).solve(laplacian())
    contextual = Tuner({"cg": CG()}, ChebCB(1, (0, 1)))
    for context in (None, float("nan")):
        with pytest.raises(ValueError, match="ChebCB learns by context and was given"):
            contextual.solve(laplacian(), context=context)
    with pytest.raises(SolveError) as caught:
        alone(SOR(1.0)).solve(laplacian(), stop=Stop(rtol=1e-12, max_steps=3))
    assert caught.value.result.steps == 6
    assert alone(SOR(1.0)).solve(laplacian(), stop=Stop(max_steps=1), throw=False).status is Status.MAX_STEPS
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match=r"no file that Tuner\.save wrote"):
        make().restore(tmp_path / "x.json")
    alone(CG()).save(tmp_path / "it.json")
    with pytest.raises(ValueError, match=r"has the arms it \(format 1\), this tuner has 1, 1\.4, 1\.8"):
        make().restore(tmp_path / "it.json")
    with pytest.raises(FileNotFoundError):
        make().restore(tmp_path / "none.json")
    with pytest.raises(ValueError, match="'hours' is not a valid Cost"):
        alone(CG(), cost="hours")


def test_a_file_is_plain_json(tmp_path):
    make().save(tmp_path / "t.json")
    assert set(json.loads((tmp_path / "t.json").read_text())) == {
        "format", "arms", "plays", "costs", "learner", "generator",
    }  # fmt: skip


def test_examples_of_the_page_run(root):
    text = (root / "docs" / "tuner.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.S))
    assert code.count("assert") >= 3
    exec(compile(code, "docs/tuner.md", "exec"), {})
