"""The one loop: every status on purpose, limits, callbacks, starts, batches, history, messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from solvus.operators.linear import (
    SPD,
    Diagonal,
    MixedDevices,
    MixedDtypes,
    NonFinite,
    ShapeMismatch,
    sparse,
)
from solvus.solvers import Breakdown, LinearSystem, SolveError, Solver, Status, Stop, solve
from solvus.solvers.krylov import CG, GMRES

N = 30


def chain(shift: float = 0.0) -> sp.csr_array:
    return sp.csr_array(
        sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(N, N)) + shift * sp.eye_array(N)
    )


def poisson(*batch: int) -> LinearSystem:
    generator = torch.Generator().manual_seed(5)
    return LinearSystem(chain(), torch.randn(*batch, N, generator=generator, dtype=torch.float64))


@dataclass(frozen=True)
class Scripted(Solver):
    """Approaches the solution by a factor of ten a step, then does what it was told at `when`."""

    act: str = ""
    when: int = 3

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        exact = torch.linalg.solve(torch.as_tensor(chain().toarray()), problem.b)
        error = x - exact
        for k in range(1000):
            value = exact + 0.1**k * error
            norm = problem.residual_norm(value)
            if k == self.when and self.act == "nan":
                yield value * float("nan"), norm * float("nan")
            elif k == self.when and self.act == "break":
                raise Breakdown("a made-up reason")
            elif k == self.when and self.act == "end":
                return
            elif k == self.when and self.act == "fail":
                raise KeyError("a bug of the method")
            elif self.act == "lie":
                yield value, 1e-3 * norm
            elif self.act == "claim":
                yield x, norm * 0
            else:
                yield value, norm


# --- every status -------------------------------------------------------------------------------------------


def test_converged() -> None:
    result = solve(poisson(), Scripted(), stop=Stop(rtol=1.1e-5))
    assert result.status is Status.CONVERGED
    assert result.steps == 5
    assert float(result.relative_residual) <= 1.1e-5
    assert len(result.residuals) == 6
    assert repr(result).startswith("Result(CONVERGED, 5 steps, relative residual 1.0e-05")
    assert set(result.stats) == {"setup_s", "solve_s"}
    assert result.reason == ""


def test_max_steps() -> None:
    result = solve(poisson(), Scripted(), stop=Stop(max_steps=4), throw=False)
    assert (result.status, result.steps, bool(result.converged)) == (Status.MAX_STEPS, 4, False)
    assert float(result.relative_residual) == pytest.approx(1e-4, rel=1e-6)
    assert solve(poisson(), Scripted(), stop=Stop(max_steps=0), throw=False).steps == 0


@pytest.mark.parametrize("check_every", [1, 1000])
def test_timeout_does_not_wait_for_a_check(check_every: int) -> None:
    stop = Stop(rtol=0, seconds=0.0, check_every=check_every)
    result = solve(poisson(), Scripted(), stop=stop, throw=False)
    assert (result.status, result.steps) == (Status.TIMEOUT, 0)


def test_stopped_by_the_callback() -> None:
    seen: list[int] = []

    def callback(step: int, x: Tensor, residual: Tensor) -> bool:
        seen.append(step)
        return step == 2

    result = solve(poisson(), Scripted(), callback=callback, throw=False)
    assert (result.status, result.steps, seen) == (Status.STOPPED, 2, [0, 1, 2])


def test_stopped_where_the_tolerance_is_met_is_converged() -> None:
    result = solve(poisson(), Scripted(), stop=Stop(rtol=1.1e-3), callback=lambda k, x, r: k == 3)
    assert result.status is Status.CONVERGED


def test_nonfinite() -> None:
    result = solve(poisson(), Scripted("nan"), throw=False)
    assert (result.status, result.steps) == (Status.NONFINITE, 3)


def test_breakdown_keeps_the_last_iterate_and_the_reason() -> None:
    result = solve(poisson(), Scripted("break"), throw=False)
    assert (result.status, result.steps, result.reason) == (Status.BREAKDOWN, 2, "a made-up reason")
    assert float(result.relative_residual) == pytest.approx(1e-2, rel=1e-6)


def test_an_early_end_is_a_breakdown_unless_the_residual_is_met() -> None:
    result = solve(poisson(), Scripted("end"), throw=False)
    assert result.status is Status.BREAKDOWN
    assert "ended before the residual met the tolerance" in result.reason
    assert solve(poisson(), Scripted("end"), stop=Stop(rtol=0.05)).status is Status.CONVERGED
    assert solve(poisson(), Scripted("end"), stop=Stop(rtol=0.05, check_every=7)).status is Status.CONVERGED


def test_every_status_has_advice() -> None:
    for status in Status:
        assert len(status.advice) > 20
    assert "preconditioner" in Status.MAX_STEPS.advice


def test_solve_error_carries_the_result_and_the_advice() -> None:
    with pytest.raises(
        SolveError, match=r"MAX_STEPS after 2 steps, relative residual 1.00e-02: max_steps reached"
    ) as e:
        solve(poisson(), Scripted(), stop=Stop(max_steps=2))
    assert e.value.result.steps == 2
    with pytest.raises(SolveError, match=r"BREAKDOWN after 2 steps.*\(a made-up reason\)"):
        solve(poisson(), Scripted("break"))


def test_a_bug_of_a_method_is_not_swallowed() -> None:
    with pytest.raises(KeyError, match="a bug of the method"):
        solve(poisson(), Scripted("fail"), throw=False)


def test_the_generator_is_closed() -> None:
    closed: list[bool] = []

    @dataclass(frozen=True)
    class Closing(Solver):
        def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
            try:
                while True:
                    yield x, problem.residual_norm(x)
            finally:
                closed.append(True)

    def fail(step: int, x: Tensor, residual: Tensor) -> None:
        raise RuntimeError("callback")

    with pytest.raises(RuntimeError, match="callback"):
        solve(poisson(), Closing(), callback=fail)
    solve(poisson(), Closing(), stop=Stop(max_steps=3), throw=False)
    assert closed == [True, True]


# --- the true residual --------------------------------------------------------------------------------------


def test_an_optimistic_residual_is_followed_down_to_the_true_tolerance() -> None:
    result = solve(poisson(), Scripted("lie"), stop=Stop(rtol=1e-5))
    assert result.status is Status.CONVERGED
    assert float(result.relative_residual) <= 1e-5
    assert result.steps <= 7


def test_a_false_claim_ends_as_breakdown() -> None:
    result = solve(poisson(), Scripted("claim"), throw=False)
    assert result.status is Status.BREAKDOWN
    assert "stagnates at 1.0e+00, the attainable accuracy in torch.float64" in result.reason


def test_a_drifting_recurrence_is_restarted_from_the_true_residual() -> None:
    @dataclass(frozen=True)
    class Drifting(Solver):
        """Richardson on a diagonal whose residual recurrence forgets a tenth of the starting residual."""

        def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
            r = 0.9 * problem.residual(x)
            while True:
                yield x, r.norm(dim=-1)
                x = x + 0.5 * r
                r = 0.5 * r

    system = LinearSystem(Diagonal(torch.ones(4, dtype=torch.float64)), torch.ones(4, dtype=torch.float64))
    result = solve(system, Drifting(), stop=Stop(rtol=1e-8))
    assert result.status is Status.CONVERGED
    assert float(result.residual) <= 2e-8


def test_the_attainable_accuracy_of_float32_is_named() -> None:
    A = sparse(chain(), dtype=torch.float32)
    result = solve(LinearSystem(A, torch.ones(N)), CG(), stop=Stop(rtol=1e-9, max_steps=5000), throw=False)
    assert result.status in (Status.BREAKDOWN, Status.CONVERGED)
    if result.status is Status.BREAKDOWN:
        assert "float32" in result.reason or "p.Ap" in result.reason
    assert float(result.relative_residual) < 1e-4


# --- stop, history, starts ----------------------------------------------------------------------------------


def test_check_every_looks_rarely() -> None:
    result = solve(poisson(), Scripted(), stop=Stop(rtol=1e-5, check_every=4))
    assert result.steps == 8
    assert len(result.residuals) == 3
    assert (
        len(
            solve(poisson(), Scripted(), stop=Stop(rtol=0, max_steps=6, check_every=4), throw=False).residuals
        )
        == 3
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rtol": -1.0}, "rtol and atol must be finite and not negative, got -1.0"),
        ({"rtol": float("nan")}, "must be finite"),
        ({"atol": float("inf")}, "must be finite"),
        ({"max_steps": -1}, "max_steps -1 must be >= 0"),
        ({"check_every": 0}, "check_every 0 >= 1"),
        ({"seconds": -2.0}, "seconds must be >= 0, or None for no time limit, got -2.0"),
    ],
)
def test_stop_rejects(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stop(**settings)


def test_atol_counts_too() -> None:
    assert solve(poisson(), Scripted(), stop=Stop(rtol=0, atol=1e3)).steps == 0


def test_x0() -> None:
    problem = poisson(2)
    exact = solve(problem, CG(), stop=Stop(rtol=1e-13)).value
    assert solve(problem, CG(), x0=exact).steps == 0
    assert solve(problem, CG(), x0=exact[0].numpy(), throw=False).steps > 0  # one start for both
    wrong = [
        (exact.float(), MixedDtypes, "x0 is torch.float32, the problem is torch.float64: convert with"),
        (exact[..., :-1], ShapeMismatch, r"x0 has shape \(2, 29\), the solution has \(2, 30\)"),
        (exact * float("nan"), NonFinite, "x0 holds NaN or infinite values"),
        (exact.to("meta"), MixedDevices, "x0 is on meta, the problem on cpu"),
    ]
    for x0, error, message in wrong:
        with pytest.raises(error, match=message):
            solve(problem, CG(), x0=x0)


def test_a_zero_right_hand_side_has_a_known_solution() -> None:
    b = torch.zeros(2, N, dtype=torch.float64)
    b[1, 3] = 1
    result = solve(LinearSystem(chain(), b), CG(), x0=torch.ones(2, N, dtype=torch.float64))
    assert torch.equal(result.value[0], b[0])
    assert float(result.relative_residual[0]) == 0
    assert int(result.sample_steps[0]) == 0


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"solver must be a Solver instance such as CG\(\), got <class"):
        solve(poisson(), CG)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"solve takes a problem such as LinearSystem\(A, b\), got csr_array"):
        solve(chain(), CG())


# --- batches ------------------------------------------------------------------------------------------------


def test_samples_are_frozen_when_they_are_done() -> None:
    values = torch.stack(
        [torch.ones(N), torch.linspace(1, 1000, N)]
    ).double()  # done after 1 step; after many
    system = LinearSystem(Diagonal(values, tags=SPD), torch.ones(2, N, dtype=torch.float64))
    seen: list[Tensor] = []
    result = solve(system, CG(), stop=Stop(rtol=1e-12), callback=lambda k, x, r: seen.append(x[0].clone()))
    assert result.sample_steps[0] == 1
    assert result.sample_steps[1] == result.steps > 10
    assert all(torch.equal(x, seen[1]) for x in seen[1:])


def test_a_method_that_spoils_done_samples_does_not_spoil_the_result() -> None:
    @dataclass(frozen=True)
    class Spoiling(Solver):
        """Solves sample k at step k, and ruins those before."""

        def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
            for k in range(len(x) + 1):
                norm = problem.residual_norm(x)
                yield x, norm
                if k < len(x):
                    x[:k] = float("nan")
                    x[k] = torch.linalg.solve(torch.as_tensor(chain().toarray()), problem.b[k])

    problem = poisson(3)
    result = solve(problem, Spoiling())
    assert bool(result.converged.all())
    assert result.sample_steps.tolist() == [1, 2, 3]
    assert torch.allclose(problem.A @ result.value, problem.b)


def test_many_samples_may_each_miss_a_few_times() -> None:
    @dataclass(frozen=True)
    class Late(Solver):
        """Sample k claims convergence at step 2 k, and is there at step 2 k + 2."""

        def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
            exact = torch.linalg.solve(torch.as_tensor(chain().toarray()), problem.b[..., None]).squeeze(-1)
            index = torch.arange(len(x))
            for k in range(100):
                there, claims = k >= 2 * index + 2, k >= 2 * index
                value = torch.where(there[:, None], exact, x)
                yield value, torch.where(claims, 1e-9 * 0.1**k, 1.0) * problem.scale()

    result = solve(poisson(12), Late())
    assert bool(result.converged.all())


def test_batch_status_is_the_worst_and_samples_tell() -> None:
    values = torch.stack([torch.ones(N), torch.linspace(1, 1000, N)]).double()
    system = LinearSystem(Diagonal(values, tags=SPD), torch.ones(2, N, dtype=torch.float64))
    result = solve(system, CG(), stop=Stop(max_steps=3), throw=False)
    assert result.status is Status.MAX_STEPS
    assert result.converged.tolist() == [True, False]
    assert result.sample_steps.tolist() == [1, 3]
    assert result.residuals.shape == (4, 2)


# --- lazy iterates, memory ----------------------------------------------------------------------------------


def test_a_lazy_iterate_is_formed_only_when_needed() -> None:
    formed: list[int] = []

    @dataclass(frozen=True)
    class Lazy(Solver):
        def iterate(self, problem: Any, x: Tensor) -> Iterator[Any]:
            for k, (value, norm) in enumerate(Scripted().iterate(problem, x)):

                def form(value: Tensor = value, k: int = k) -> Tensor:
                    formed.append(k)
                    return value

                yield form, norm

    solve(poisson(), Lazy(), stop=Stop(rtol=1.1e-5))
    assert formed == [5]
    formed.clear()
    solve(poisson(), Lazy(), stop=Stop(max_steps=3), throw=False)
    assert formed == [3]
    formed.clear()
    solve(poisson(), Lazy(), stop=Stop(max_steps=2), callback=lambda k, x, r: None, throw=False)
    assert formed == [0, 1, 2]


def test_gmres_is_not_asked_for_its_iterate_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from solvus.solvers.krylov.arnoldi import Arnoldi

    calls: list[int] = []
    combine = Arnoldi.combine
    monkeypatch.setattr(Arnoldi, "combine", lambda self, v: (calls.append(self.columns), combine(self, v))[1])
    result = solve(poisson(), GMRES(restart=10), stop=Stop(rtol=1e-10, max_steps=35), throw=False)
    assert result.steps == 35
    assert calls == [10, 10, 10, 5]


def test_cg_needs_few_vectors() -> None:
    """Largest number of n-vectors alive in a solve: b, x, r, p, A p, and the true residual."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Meter(TorchDispatchMode):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.n, self.most = n, 0
            self.alive: dict[int, int] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            import weakref

            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and out.numel() >= self.n:
                storage = out.untyped_storage()
                key = storage._cdata
                if key not in self.alive:
                    self.alive[key] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, key, None)
                self.most = max(self.most, sum(self.alive.values()))
            return out

    n = 4096
    A = Diagonal(torch.linspace(1, 100, n, dtype=torch.float64), tags=SPD)
    b = torch.ones(n, dtype=torch.float64)
    system = LinearSystem(A, b)
    with Meter(n) as meter:
        solve(system, CG(), stop=Stop(rtol=1e-10))
    assert meter.most / (8 * n) == 6


def test_numpy_agrees() -> None:
    problem = poisson()
    value = solve(problem, stop=Stop(rtol=1e-12)).value
    assert np.allclose(value.numpy(), np.linalg.solve(chain().toarray(), problem.b.numpy()))
