"""Training: what is found, files, resume to the last bit, limits, and the same through `solve`."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from matplotlib.axes import Axes

from solvus.meshes.geometry import Box, Disc, Interval, Rectangle
from solvus.solvers import LinearSystem, SolveError, Status, Stop, solve
from solvus.solvers.optim import LBFGS, Adam, MultiAdam, SSBroyden
from solvus.solvers.pinn import (
    MLP,
    PINN,
    BadProblem,
    BoundaryProblem,
    Data,
    Dirichlet,
    Hard,
    Initial,
    NotFinite,
    Phase,
    Points,
    Run,
    Solution,
    Unknown,
    fit,
)
from solvus.solvers.pinn.model import Model
from solvus.solvers.pinn.pictures import draw
from solvus.solvers.pinn.sampling import RAD, RARD, FixedPoints, Uniform
from solvus.solvers.pinn.solution import build
from solvus.solvers.pinn.weighting import GradNorm, ResidualAttention
from solvus.solvers.training.checkpoint import FolderInUse, OtherTraining
from solvus.solvers.training.outcome import Outcome
from solvus.solvers.training.schedules import Cosine

NET = MLP(width=10, depth=2)
FEW = Points(domain=60, boundary=12, initial=12, least=2)


def bump(**options):
    """-u'' = pi^2 sin(pi x), u = sin(pi x)."""
    conditions = [] if options else [Dirichlet(0.0)]
    return BoundaryProblem(
        Interval(0.0, 1.0), lambda u, x: u.xx + math.pi**2 * torch.sin(math.pi * x), conditions, **options
    )


class Known:
    points = np.linspace(0, 1, 101)[:, None]
    values = np.sin(np.pi * points)
    outputs = ("u",)


def heat():
    return BoundaryProblem(
        Interval(0.0, 1.0),
        lambda u, a: u.t - a * u.xx,
        [
            Dirichlet(0.0),
            Initial(lambda x: torch.sin(math.pi * x)),
            Data([[0.5, 0.5], [0.25, 0.7]], [math.exp(-0.5), math.exp(-0.7) * math.sin(math.pi / 4)]),
        ],
        time=(0.0, 1.0),
        unknowns={"a": Unknown(0.3)},
    )


CHAIN = (
    Phase(
        MultiAdam(schedule=Cosine()),
        12,
        weighting=GradNorm(every=5),
        point_weighting=ResidualAttention(),
        sampling=FixedPoints(),
        groups="terms",
    ),
    Phase(Adam(), 10, sampling=RARD(every=4, add=5, pool=50)),
    Phase(SSBroyden(), 15, sampling=RAD(every=6, pool=200)),
    Phase(LBFGS(), 8, sampling=Uniform(every=5)),
)


def same(a, b):
    return torch.equal(a.solution.theta, b.solution.theta)


# --- what is found --------------------------------------------------------------------------------


def test_a_solution_is_found():
    chain = (Phase(Adam(), 50), Phase(SSBroyden(), 250, sampling=RAD(every=100, pool=500)))
    fitted = fit(bump(), PINN(NET, chain, FEW), reference=Known())
    assert fitted.outcome is Outcome.FINISHED
    assert fitted.error < 1e-4
    assert fitted.error == pytest.approx(fitted.solution.error(Known.points, Known.values))
    assert fitted.steps == 300
    assert fitted.evaluations >= 300
    assert len(fitted.stops) == 2
    assert max(fitted.residuals.values()) < 1e-2
    u = fitted.solution
    slopes = u.derivatives([[0.0], [0.5]], ["u.x", "u.xx"])
    torch.testing.assert_close(
        slopes["u.x"], torch.tensor([math.pi, 0.0], dtype=torch.float64), rtol=0, atol=5e-3
    )
    torch.testing.assert_close(
        slopes["u.xx"], torch.tensor([0.0, -(math.pi**2)], dtype=torch.float64), rtol=0, atol=5e-2
    )


def test_a_hard_constraint_is_trained_without_conditions():
    problem = bump(constraint={"u": Hard(factor=lambda x: x * (1 - x))})
    fitted = fit(
        problem, PINN(NET, (Phase(SSBroyden(), 120, sampling=FixedPoints()),), FEW), reference=Known()
    )
    assert fitted.error < 1e-4
    assert fitted.solution([[0.0], [1.0]]).tolist() == [[0.0], [0.0]]


def test_an_unknown_coefficient_is_found():
    """u = exp(-t) sin(pi x) solves u_t = a u_xx for a = 1 / pi^2."""
    fitted = fit(heat(), PINN(NET, (Phase(SSBroyden(), 250),), Points(200, 40, 40)))
    assert fitted.solution.unknowns["a"] == pytest.approx(1 / math.pi**2, rel=2e-2)
    assert fitted.history[-1]["a"] == fitted.solution.unknowns["a"]


# --- files, resume, limits ------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits():
    pinn = PINN(NET, CHAIN, FEW)
    assert same(fit(heat(), pinn), fit(heat(), pinn))
    assert not same(fit(heat(), pinn), fit(heat(), PINN(NET, CHAIN, FEW, seed=1)))


@pytest.mark.parametrize("cut", [1, 7, 12, 19, 22, 29, 41, 44])
def test_a_training_goes_on_as_if_uninterrupted(cut, tmp_path):
    pinn = PINN(NET, CHAIN, FEW)
    whole = fit(heat(), pinn)
    stop = lambda run, row: run.position.step >= cut  # noqa: E731
    first = fit(heat(), pinn, out=tmp_path, every=1, callbacks=[stop])
    assert first.outcome is Outcome.STOPPED
    assert first.steps == cut
    rest = fit(heat(), pinn, out=tmp_path, resume=True, every=1)
    assert rest.steps == whole.steps == 45
    assert same(rest, whole)
    assert rest.evaluations == whole.evaluations
    assert [row["step"] for row in rest.history] == list(range(46))


def test_an_interruption_after_the_first_report_loses_nothing_but_the_steps_since(tmp_path):
    pinn = PINN(NET, CHAIN, FEW)

    def interrupt(run, row):
        if run.position.step == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(heat(), pinn, out=tmp_path, every=8, callbacks=[interrupt])
    kept = fit(heat(), pinn, out=tmp_path, resume=True, every=8, seconds=0.0)
    assert kept.steps == 9  # of step 8, and one more
    assert same(fit(heat(), pinn, out=tmp_path, resume=True), fit(heat(), pinn))


def test_a_run_that_forgets_its_generator_would_be_noticed():
    """The test above can fail: a state without the generator draws other points."""
    pinn = PINN(NET, CHAIN, FEW)
    first, second = Run(heat(), pinn), Run(heat(), pinn)
    for _ in range(14):
        first.advance()
    state = first.values()
    state["generator"] = json.dumps(np.random.default_rng(9).bit_generator.state)
    second.load(state)
    for _ in range(5):
        first.advance()
        second.advance()
    assert not torch.equal(first.theta, second.theta)


def test_files(tmp_path):
    pinn = PINN(NET, (Phase(Adam(), 6),), FEW)
    fitted = fit(heat(), pinn, out=tmp_path, every=2)
    with open(tmp_path / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["step"]) for r in rows] == [0, 2, 4, 6]
    assert "u = 0 on the boundary" in rows[0]
    loaded = Solution.load(tmp_path, heat())
    points = np.random.default_rng(0).random((9, 2))
    assert torch.equal(loaded(points), fitted.solution(points))
    assert loaded.unknowns == fitted.solution.unknowns
    with pytest.raises(FolderInUse, match="resume=True"):
        fit(heat(), pinn, out=tmp_path)
    with pytest.raises(OtherTraining, match="settings was"):
        fit(heat(), PINN(NET, (Phase(Adam(), 6),), FEW, seed=4), out=tmp_path, resume=True)
    with pytest.raises(BadProblem, match="load it with its own problem"):
        Solution.load(tmp_path, bump())


def test_a_reference_may_come_and_go(tmp_path):
    for cut, known in ((2, Known()), (4, None), (6, Known())):
        fitted = fit(
            bump(),
            PINN(NET, (Phase(Adam(), 6),), FEW),
            out=tmp_path,
            resume=cut > 2,
            every=1,
            reference=known,
            callbacks=[lambda run, row, cut=cut: run.position.step >= cut],
        )
    with open(tmp_path / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["step"]) for r in rows] == list(range(7))
    assert [r["error"] != "" for r in rows] == [True, True, True, False, False, True, True]
    assert draw(fitted.solution, tmp_path / "p.png", None, fitted.history).stat().st_size > 10_000
    assert draw(fitted.solution, tmp_path / "p.png", None, fitted.history[:4]).stat().st_size > 10_000


def posed(domain=None, *, weight=1.0, start=0.3, value=0.5, hard=False, part="xmin"):
    """A problem of which all kinds of changes leave the repr, and the box, as they are."""
    domain = domain or Rectangle((0, 0), (1, 1))
    return BoundaryProblem(
        domain,
        lambda u, a: u.laplacian - a,
        [
            Dirichlet(0.0, on=(lambda x: x[:, 0] < 0.5, part), weight=weight),
            Data([[0.2, 0.1]], [value]),
        ],
        unknowns={"a": Unknown(start)},
        constraint={"u": Hard()} if hard else {},
    )


def test_another_training_is_told_by_all_that_makes_it(tmp_path):
    pinn = PINN(MLP(5, 1), (Phase(Adam(), 6),), FEW)
    stop = [lambda run, row: run.position.step >= 2]
    fit(posed(), pinn, out=tmp_path, every=1, callbacks=stop)
    square = Rectangle((0, 0), (1, 1))
    for other, named in (
        (posed(square - Disc((0.5, 0.5), 0.2)), "domain was"),
        (posed(weight=1000.0), r"weights was \[1.0, 1.0, 1.0\], is \[1.0, 1000.0, 1.0\]"),
        (posed(start=0.4), "unknowns was {'a': 0.3}, is {'a': 0.4}"),
        (posed(value=0.6), "data was"),
        (posed(hard=True), r"constrained was \[\], is \['u'\]"),
    ):
        with pytest.raises(OtherTraining, match=named):
            fit(other, pinn, out=tmp_path, resume=True)
    assert "0x" not in (tmp_path / "training.json").read_text(encoding="utf-8")
    rest = fit(
        posed(), replace(pinn, device="cpu"), out=tmp_path, resume=True
    )  # the lambda is another object
    assert rest.steps == 6


@pytest.mark.parametrize(
    ("equation", "end", "named"),
    [
        (lambda u: 1.1 * u.xx + 1, 0.0, "the mean square of the equation was"),
        (lambda u: u.xx + 1, 0.3, "the mean square of u = f on the boundary was"),
    ],
)
def test_other_functions_of_the_same_name_are_another_training(equation, end, named, tmp_path):
    def line(equation, end):
        return BoundaryProblem(Interval(0.0, 1.0), equation, [Dirichlet(lambda x: end * x)])

    pinn, first = PINN(MLP(5, 1), (Phase(Adam(), 6),), FEW), lambda u: u.xx + 1
    fit(line(first, 0.0), pinn, out=tmp_path, every=1, callbacks=[lambda run, row: row["step"] >= 2])
    with pytest.raises(OtherTraining, match=named):
        fit(line(equation, end), pinn, out=tmp_path, resume=True)
    assert fit(line(lambda u: u.xx + 1, 0.0), pinn, out=tmp_path, resume=True).steps == 6


def test_shapes_of_a_large_union_are_told_apart(tmp_path):
    def holes(radius):
        domain = Rectangle((0, 0), (1, 1))
        for k in range(5):
            domain = domain - Disc((0.1 + 0.2 * k, 0.5), radius)
        return posed(domain)

    pinn = PINN(MLP(5, 1), (Phase(Adam(), 1),), FEW)
    fit(holes(0.05), pinn, out=tmp_path)
    with pytest.raises(OtherTraining, match="domain was"):
        fit(holes(0.06), pinn, out=tmp_path, resume=True)


def test_a_time_limit():
    fitted = fit(bump(), PINN(NET, (Phase(Adam(), 10_000_000),), FEW), seconds=0.2)
    assert fitted.outcome is Outcome.TIMEOUT
    assert 0 < fitted.steps < 10_000_000
    assert fitted.history[-1]["step"] == fitted.steps


@pytest.mark.parametrize(
    ("optimiser", "dtype", "remedy"),
    [
        (
            Adam(),
            torch.float32,
            "Lower the learning rate, look at the scaling of the equations, or use float64",
        ),
        (Adam(), torch.float64, "Lower the learning rate, look .*, or begin with more steps of Adam"),
        (
            SSBroyden(),
            torch.float64,
            "Look at the scaling of the equations, or begin with more steps of Adam",
        ),
    ],
)
def test_nan_is_named(optimiser, dtype, remedy):
    problem = BoundaryProblem(Interval(0, 1), lambda u: u.xx + torch.log(u), [Dirichlet(1.0)])
    message = rf"step 1, {type(optimiser).__name__}: .*Mean squares were the equation nan.*\. {remedy}$"
    with pytest.raises(NotFinite, match=message):
        fit(problem, PINN(NET, (Phase(optimiser, 5),), FEW, dtype=dtype, seed=2))


def test_a_stuck_method_gets_new_points_and_then_ends():
    """A loss that is exactly zero: the gradient is, too."""
    problem = BoundaryProblem(Interval(0, 1), lambda u: 0 * u.x, [])
    fitted = fit(problem, PINN(NET, (Phase(LBFGS(), 50, sampling=Uniform(every=10)),), FEW))
    assert fitted.steps < 10
    assert "gradient" in fitted.stops[0]


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="at least one phase"):
        PINN(chain=())
    with pytest.raises(ValueError, match="at least 1 step"):
        Phase(Adam(), 0)
    with pytest.raises(ValueError, match="number of boundary points"):
        Points(boundary=0)
    with pytest.raises(ValueError, match="float64"):
        Run(bump(), PINN(NET, (Phase(SSBroyden(), 5),), dtype=torch.float32))
    with pytest.raises(ValueError, match="weights of points need points that stay for 50 steps"):
        Phase(Adam(), 100, point_weighting=ResidualAttention())
    with pytest.raises(ValueError, match="every counts steps"):
        fit(bump(), every=0)


def test_points_are_shared_out_by_length():
    problem = BoundaryProblem(
        Rectangle((0, 0), (3, 1)),
        lambda u: u.laplacian,
        [Dirichlet(0.0, on="ymin"), Dirichlet(0.0, on="xmin"), Data(np.zeros((7, 2)), np.zeros(7))],
    )
    run = Run(problem, PINN(NET, (Phase(Adam(), 1),), Points(50, 100, 1, least=2)))
    assert run.counts == [50, 75, 25, 7]
    assert [len(c.points) for c in run.loss.clouds] == run.counts


# --- through `solve` ------------------------------------------------------------------------------


def test_solve_reports_the_residual_on_other_points():
    pinn = PINN(NET, (Phase(SSBroyden(), 300, sampling=RAD(every=100, pool=500)),), FEW)
    result = solve(bump(), pinn, stop=Stop(rtol=1e-3, max_steps=300))
    assert result.status is Status.CONVERGED
    assert float(result.relative_residual) <= 1e-3
    u = result.stats["solution"]
    assert u.error(Known.points, Known.values) < 5e-3
    assert torch.equal(u.theta, result.value)
    posed = pinn.pose(bump())
    torch.testing.assert_close(posed.residual_norm(result.value), result.residual)


def test_solve_never_calls_converged_what_is_not():
    """Three points are fitted at once; elsewhere the residual is large."""
    pinn = PINN(
        MLP(width=30, depth=2), (Phase(LBFGS(), 2000, sampling=FixedPoints()),), Points(3, 2, 1, least=2)
    )
    with pytest.raises(SolveError) as caught:
        solve(bump(), pinn, stop=Stop(rtol=0.1))
    result = caught.value.result
    assert result.status is Status.BREAKDOWN
    assert "the points of the training meets the tolerance: the network fits its points" in result.reason
    assert "draw new ones more often" in result.advice
    assert float(result.relative_residual) > 0.1


def test_the_end_of_the_chain_is_a_reason():
    result = solve(bump(), PINN(NET, (Phase(Adam(), 3),), FEW), throw=False)
    assert result.status is Status.BREAKDOWN
    assert result.reason == "all phases of the chain were done"
    assert result.steps == 3


def test_pinn_refuses_linear_systems():
    system = LinearSystem(sp.eye_array(3, format="csr"), torch.ones(3, dtype=torch.float64))
    with pytest.raises(BadProblem, match="PINN solves a BoundaryProblem, got LinearSystem"):
        solve(system, PINN())


def test_pictures(tmp_path):
    fitted = fit(heat(), PINN(NET, (Phase(Adam(), 4),), FEW), every=2)
    path = draw(fitted.solution, tmp_path / "a" / "picture.png", None, fitted.history)
    assert path.stat().st_size > 10_000
    line = fit(bump(), PINN(NET, (Phase(Adam(), 4),), FEW), every=2, reference=Known())
    assert draw(line.solution, tmp_path / "line.png", Known(), line.history).stat().st_size > 10_000


class Cloudy:
    """Random points of the unit cube, (M, 3)."""

    outputs = ("u",)

    def __init__(self, count):
        self.points = np.random.default_rng(0).random((count, 3))
        self.values = np.zeros((count, 1))


@pytest.mark.parametrize(("count", "far"), [(5000, False), (100, True)])
def test_pictures_of_a_volume_show_errors_near_the_middle(count, far, tmp_path, monkeypatch):
    shown, titles = [], []
    monkeypatch.setattr(Axes, "scatter", watched(Axes.scatter, lambda x, y, **_: shown.append(len(x))))
    monkeypatch.setattr(Axes, "set_title", watched(Axes.set_title, lambda text, **_: titles.append(text)))
    problem = BoundaryProblem(Box((0, 0, 0), (1, 1, 1)), lambda u: u.laplacian, [Dirichlet(0.0)])
    model = Model(problem, build(MLP(4, 1), problem, 0, torch.empty(0, dtype=torch.float64)))
    known = Cloudy(count)
    draw(Solution(model, model.start(), MLP(4, 1)), tmp_path / "p.png", known)
    away = np.abs(known.points[:, 2] - 0.5)
    assert shown == [20 if far else np.sum(away <= 0.02)]
    assert sum("points up to" in t for t in titles) == far
    if far:
        assert f"at points up to {np.sort(away)[19]:.0%} of the box from there" in titles[-1]


def watched(method, note):
    def call(self, *args, **options):
        note(*args, **options)
        return method(self, *args, **options)

    return call
