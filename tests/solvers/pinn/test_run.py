"""A training in steps: stretches of time, weights of points, what divergence leaves, reports, defaults."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from solvus.meshes.geometry import Interval
from solvus.solvers import SolveError, Status, Stop, solve
from solvus.solvers.optim import LBFGS, SOAP, Adam, GaussNewton, MultiAdam, SSBroyden
from solvus.solvers.optim.base import Optimiser, Step
from solvus.solvers.pinn import (
    MLP,
    PINN,
    BadProblem,
    BoundaryProblem,
    Data,
    Dirichlet,
    Initial,
    NotFinite,
    Phase,
    Points,
    Run,
    fit,
)
from solvus.solvers.pinn.chains import TRAININGS
from solvus.solvers.pinn.sampling import RAD, RARD, FixedPoints, Uniform, Until
from solvus.solvers.pinn.weighting import Constant, ResidualAttention

NET = MLP(width=8, depth=1)
FEW = Points(domain=40, boundary=8, initial=8, least=2)
RBA = ResidualAttention(decay=0.9, rate=0.1)


def bump():
    return BoundaryProblem(
        Interval(0.0, 1.0),
        lambda u, x: u.xx + math.pi**2 * torch.sin(math.pi * x),
        [Dirichlet(0.0), Data([[0.5]], [1.0])],
    )


def decay(start=0.0, end=1.0):
    """u_t = -u with u(start) = 1."""
    return BoundaryProblem(Interval(0.0, 1.0), lambda u: u.t + u, [Initial(1.0)], time=(start, end))


def pinn(*phases, points=FEW):
    return PINN(NET, phases, points)


def steps(run, n):
    for _ in range(n):
        run.advance()
    return run


# --- stretches of time ------------------------------------------------------------------------------


def test_points_of_a_stretch_lie_in_the_time_of_the_problem():
    run = steps(Run(decay(1.0, 2.0), pinn(Phase(Adam(), 5, sampling=Until(Uniform(), 1.5)))), 3)
    t = run.drawn[0].points[:, 1]
    assert t.min() >= 1
    assert 1.4 < t.max() <= 1.5


def growing():
    until = Until(Uniform(every=2), 0.1, growth=1.2, tolerance=10.0)
    return pinn(
        Phase(Adam(), 7, sampling=until), Phase(SSBroyden(), 8, sampling=Until(RAD(every=3, pool=90)))
    )


def test_a_stretch_belongs_to_the_run():
    run = Run(decay(), growing())
    ends = [steps(run, 1).sampled[0]["until"] for _ in range(15)]
    assert ends[0] == 0.1
    assert ends[6] == pytest.approx(0.1 * 1.2**3)
    assert ends[7:] == [ends[6]] * 8
    assert run.drawn[0].points[:, 1].max() <= ends[-1]


@pytest.mark.parametrize("cut", [4, 7, 9])
def test_a_stretch_is_resumed_to_the_last_bit(cut, tmp_path):
    whole = fit(decay(), growing())
    fit(decay(), growing(), out=tmp_path, every=1, callbacks=[lambda run, row: run.position.step >= cut])
    rest = fit(decay(), growing(), out=tmp_path, resume=True)
    assert torch.equal(rest.solution.theta, whole.solution.theta)


def test_a_state_without_the_stretch_would_be_noticed():
    first, second = steps(Run(decay(), growing()), 5), Run(decay(), growing())
    state = first.values()
    state["sampling"] = [{**s, **({"until": 0.5} if s else {})} for s in state["sampling"]]
    second.load(state)
    assert not torch.equal(steps(first, 3).theta, steps(second, 3).theta)


# --- weights of points ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watched(Optimiser):
    """Note how far losses and gradient that a method keeps are from those of the objective before a step."""

    inner: Optimiser
    faults: list[float] = field(default_factory=list, compare=False)

    def start(self, theta):
        return self.inner.start(theta)

    def renew(self, state):
        self.inner.renew(state)

    def step(self, objective, theta, state) -> Step:
        losses, gradient = objective.gradient(theta)
        if "gradient" in state:
            self.faults.append(float((gradient - state["gradient"]).norm() / gradient.norm()))
        elif "losses" in state:
            self.faults.append(float((losses - state["losses"]).abs().max() / losses.max()))
        return self.inner.step(objective, theta, state)


@pytest.mark.parametrize("method", [LBFGS(), SSBroyden(), GaussNewton()], ids=lambda m: type(m).__name__)
def test_methods_that_keep_losses_compare_one_objective(method):
    watched = Watched(method)
    few = Points(domain=20, boundary=2, least=2)
    run = Run(bump(), pinn(Phase(watched, 110, point_weighting=RBA, sampling=FixedPoints()), points=few))
    while run.position.local < 105 and not run.done:
        run.advance()
    assert len(watched.faults) > 30
    assert max(watched.faults) < 1e-9
    changed = run.loss.clouds[0].emphasis
    assert changed.max() <= 1 + 1e-12
    assert (run.position.step < 50) == (changed.min() == 1)


def test_an_objective_that_changes_unseen_would_be_noticed():
    """The test above can fail: weights that change without a word are found by it."""
    watched = Watched(SSBroyden())
    run = steps(Run(bump(), pinn(Phase(watched, 20, point_weighting=RBA, sampling=FixedPoints()))), 5)
    run.loss.emphasise(0, 0.5 * run.loss.clouds[0].emphasis)
    run.advance()
    assert watched.faults[-1] > 1e-3


def test_many_updates_at_once_count_as_many():
    """Fifty updates with one residual: w = d^50 + (1 - d^50) rate / (1 - d) |r| / max |r|."""
    run = steps(Run(bump(), pinn(Phase(SSBroyden(), 60, point_weighting=RBA, sampling=FixedPoints()))), 49)
    assert run.loss.clouds[0].emphasis.min() == 1
    run.advance()
    (r,) = run.model.residuals(run.theta, run.problem.terms[0], run.loss.clouds[0])
    expected = 0.9**50 + (1 - 0.9**50) * (r / r.abs().max()).abs()
    torch.testing.assert_close(run.loss.clouds[0].emphasis[0], expected)


def test_points_that_stay_keep_their_weights():
    sampling = RARD(every=60, add=5, pool=50)
    run = steps(Run(bump(), pinn(Phase(Adam(), 100, point_weighting=RBA, sampling=sampling))), 60)
    before = [c.emphasis for c in run.loss.clouds]
    assert before[0].shape == (1, 45)  # five points are added at the start
    assert before[0].min() < 0.9
    run.renew()
    after = [c.emphasis for c in run.loss.clouds]
    assert torch.equal(after[0][:, :45], before[0])
    assert after[0][:, 45:].tolist() == [[1.0] * 5]
    assert before[1:] == after[1:] == [None] * len(after[1:])  # conditions


def test_new_points_start_anew():
    run = steps(Run(bump(), pinn(Phase(Adam(), 100, point_weighting=RBA, sampling=RAD(pool=99)))), 20)
    run.renew()
    assert run.loss.clouds[0].emphasis.tolist() == [[1.0] * 40]
    assert run.loss.clouds[2].emphasis is None  # Data


# --- divergence -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phase",
    [
        Phase(Adam(1e200), 9, point_weighting=RBA, sampling=FixedPoints()),
        Phase(Adam(1e200), 9, sampling=Uniform(every=1)),
        Phase(Adam(1e200), 9, sampling=RAD(every=1, pool=60)),
    ],
    ids=["weights of points", "loss", "renewal"],
)
def test_a_divergence_has_one_name_and_leaves_theta(phase):
    run, before = Run(bump(), pinn(phase)), {}
    message = r"step \d, Adam: .*(not finite|is nan|is inf).*Mean squares were"
    with pytest.raises(NotFinite, match=message):
        _note(run, before)
    assert torch.equal(run.theta, before["theta"])
    assert run.position.step == before["step"]


def _note(run, before):
    while not run.done:
        before |= {"theta": run.theta.clone(), "step": run.position.step}
        run.advance()


@dataclass(frozen=True)
class Stuck(Optimiser):
    """Go far away, and stop: the run draws new points, at which the residual is not finite."""

    def start(self, theta):
        return {}

    def step(self, objective, theta, state):
        theta.fill_(1e200)
        return Step(theta, objective.losses(theta), 1, "stuck")


def test_a_divergence_at_the_end_of_a_step_leaves_theta():
    run = Run(bump(), pinn(Phase(Stuck(), 9, sampling=RAD(every=5, pool=60))))
    before = run.theta.clone()
    with pytest.raises(NotFinite, match="step 1, Stuck: the residual is not finite at"):
        run.advance()
    assert torch.equal(run.theta, before)
    assert run.position.step == run.position.local == 0


# --- reports ----------------------------------------------------------------------------------------


def test_a_row_names_the_phase_that_took_the_step():
    chain = (Phase(Adam(), 2), Phase(SSBroyden(), 2), Phase(MultiAdam(), 1))
    rows = fit(bump(), pinn(*chain), every=1).history
    assert [(r["step"], r["phase"], r["method"]) for r in rows] == [
        (0, 1, "Adam"),
        (1, 1, "Adam"),
        (2, 1, "Adam"),
        (3, 2, "SSBroyden"),
        (4, 2, "SSBroyden"),
        (5, 3, "MultiAdam"),
    ]


def test_mean_squares_are_without_weights_of_points_and_the_loss_with_them():
    run = steps(Run(bump(), pinn(Phase(Adam(), 90, point_weighting=RBA, sampling=FixedPoints()))), 60)
    row, label = run.report(), run.problem.labels[0]
    (r,) = run.model.residuals(run.theta, run.problem.terms[0], run.loss.clouds[0])
    assert row[label] == pytest.approx(float(r.square().mean()))
    assert row["loss"] == pytest.approx(float(run.loss.value(run.theta).detach()))
    assert row["loss"] < 0.9 * sum(row[name] for name in run.problem.labels)


# --- what is refused before anything is trained -----------------------------------------------------

TWO = Phase(Adam(), 1)


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        (
            Phase(Adam(), 1, groups=[[0]]),
            "phase 2 of the chain, Adam: groups must name each of the residuals 0 to 2",
        ),
        (Phase(Adam(), 1, weighting=Constant((1.0,))), "the loss has 3 groups, there are 1 weights"),
        (
            Phase(MultiAdam(group_weights=(1.0,)), 1),
            "phase 2 .*, MultiAdam: there are 2 groups of losses and 1",
        ),
        (Phase(LBFGS(), 1, sampling=RAD(pool=30)), "phase 2 .*, LBFGS: RAD chooses 40 points from 30"),
        (
            Phase(Adam(), 1, sampling=Until(Uniform())),
            "phase 2 .*: Until takes points .* the problem has no time",
        ),
    ],
)
def test_later_phases_are_checked_at_once(phase, message):
    with pytest.raises(ValueError, match=message):
        Run(bump(), pinn(TWO, phase))


@pytest.mark.parametrize(("optimiser", "every"), [(Adam(), 1), (MultiAdam(), 1000), (SSBroyden(), 500)])
def test_the_usual_sampling(optimiser, every):
    """New points at every step keep MultiAdam on plateaus: it scales the noise of small gradients up."""
    assert Phase(optimiser, 5).sampling.every == every
    named = TRAININGS[type(optimiser).__name__.lower()]
    assert named.sampling.every == every


def test_soap_by_name_has_the_settings_for_networks_of_this_kind():
    """Those of its own default are for language models: a decay of weights, and bases that are seldom new."""
    named = TRAININGS["soap"]
    (phase,) = named.pinn(named.settings).chain
    assert phase.optimiser == SOAP(1e-3, weight_decay=0.0, frequency=2)


def test_the_usual_pool_is_large_enough():
    run = Run(bump(), pinn(Phase(LBFGS(), 1), points=Points(domain=10_001)))
    assert len(steps(run, 1).drawn[0].points) == 10_001


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Phase(Adam, 5),
            r"the optimiser of a phase is an object of type Optimiser, such as Phase\(Adam\(\)",
        ),
        (lambda: Phase(Adam, 5), "got the class Adam"),
        (lambda: Phase(Adam(), 5.0), r"a whole number, Phase\(Adam\(\), 1000\), got 5\.0"),
        (lambda: Phase(Adam(), 5, sampling=RAD), r"sampling=Uniform\(every=10\), got the class RAD"),
        (lambda: Phase(Adam(), 5, weighting="ntk"), r"type Weighting, such as weighting=NTK\(\), got 'ntk'"),
        (lambda: Phase(Adam(), 5, point_weighting=ResidualAttention), "got the class ResidualAttention"),
        (
            lambda: PINN(chain=TWO),
            r"type tuple, such as chain=\(Phase\(Adam\(\), 1000\),\), got Phase\(optimiser=Adam",
        ),
        (lambda: PINN(chain=(Adam(),)), r"part of the chain is an object of type Phase.*got Adam\("),
    ],
)
def test_other_things_are_refused_where_they_are_given(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_weights_of_points_need_points_that_stay():
    with pytest.raises(ValueError, match="points that stay for 100 steps, these are new every 60"):
        Phase(SSBroyden(), 200, point_weighting=RBA, sampling=RAD(every=60))
    Phase(Adam(), 200, point_weighting=RBA, sampling=RAD(every=60))
    assert PINN(chain=[TWO]).chain == (TWO,)


# --- through `solve` --------------------------------------------------------------------------------


def test_all_phases_are_trained_where_no_limit_is_given():
    pick = pinn(Phase(Adam(), 1000), Phase(LBFGS(), 3), points=Points(4, 2, 2))
    result = solve(bump(), pick, stop=Stop(rtol=0, check_every=100), throw=False)
    assert result.steps == 1003
    assert [s.split(":")[0] for s in result.stats["stops"]] == ["Adam", "LBFGS"]
    assert result.status is Status.BREAKDOWN
    assert solve(bump(), pinn(TWO, TWO), stop=Stop(max_steps=1), throw=False).status is Status.MAX_STEPS


def test_the_advice_is_that_of_a_training():
    with pytest.raises(
        SolveError, match=r"all phases of the chain were done.*give the phases more steps"
    ) as over:
        solve(bump(), pinn(TWO))
    with pytest.raises(SolveError, match="None for the whole chain") as cut:
        solve(bump(), pinn(TWO, TWO), stop=Stop(max_steps=1))
    with pytest.raises(SolveError, match="fewer points or a smaller network") as late:
        solve(bump(), pinn(TWO, TWO), stop=Stop(seconds=0))
    for error in (over, cut, late):
        assert "MINRES" not in str(error.value)
        assert "preconditioner" not in str(error.value)


@pytest.mark.parametrize("every", [1, 4])
def test_a_divergence_is_a_status(every):
    pick = pinn(Phase(Adam(1e200), 9, sampling=FixedPoints()))
    result = solve(bump(), pick, stop=Stop(check_every=every), throw=False)
    assert result.status is Status.NONFINITE
    assert "Adam" in result.advice
    assert "Lower the learning rate" in result.advice
    with pytest.raises(SolveError, match=r"NONFINITE.*Lower the learning rate"):
        solve(bump(), pick)
    good = solve(
        bump(), pinn(TWO, Phase(Adam(1e200), 9, point_weighting=RBA, sampling=FixedPoints())), throw=False
    )
    assert good.status is Status.NONFINITE
    assert bool(torch.isfinite(good.value).all())
    assert torch.equal(good.value, good.stats["solution"].theta)


def test_a_posed_problem_keeps_to_its_settings_and_is_solved_every_time():
    pick = pinn(Phase(Adam(), 4))
    posed = pick.pose(bump())
    with pytest.raises(BadProblem, match=r"posed with .* another PINN.*solve\(posed\.problem, pinn\)"):
        solve(posed, pinn(Phase(Adam(), 5)), throw=False)
    first, second = (solve(posed, pick, throw=False) for _ in range(2))
    assert first.steps == second.steps == 4
    assert torch.equal(first.value, second.value)
    assert torch.equal(first.value, solve(bump(), pick, throw=False).value)
    start = torch.zeros_like(first.value)
    assert not torch.equal(solve(posed, pick, x0=start, throw=False).value, first.value)
    np.testing.assert_allclose(posed.residual_norm(first.value), first.residual)
