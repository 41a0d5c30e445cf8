"""Networks that start as the initial values, at all times."""

import math

import numpy as np
import pytest
import torch

from solvus.meshes.geometry import Interval, Rectangle
from solvus.solvers.optim import LBFGS, Adam
from solvus.solvers.pinn import (
    MLP,
    PINN,
    BoundaryProblem,
    Dirichlet,
    Hard,
    Initial,
    NotFinite,
    Phase,
    PirateNet,
    Points,
    Run,
    Unknown,
    fit,
)
from solvus.solvers.pinn.solution import build

NET = PirateNet(width=32, blocks=1)
FEW = Points(domain=40, boundary=8, initial=8, least=2)
CHAIN = (Phase(Adam(), 6), Phase(LBFGS(), 6))


def heat(*initial, **more):
    more = {"time": (1.0, 3.0), **more}
    return BoundaryProblem(Interval(0.0, 1.0), lambda u: u.t - 0.1 * u.xx, [Dirichlet(0.0), *initial], **more)


def wave(x):
    return torch.sin(math.pi * x)


def pinn(network=NET, **more):
    return PINN(network, CHAIN, FEW, **more)


def everywhere(dim=1, n=500):
    """Points of the unit cube between the times 1 and 3, time last."""
    return torch.as_tensor(np.random.default_rng(7).uniform([0] * dim + [1], [1] * dim + [3], (n, dim + 1)))


def plain(problem, settings):
    """Return the parameters as the network was drawn."""
    network = build(settings.network, problem, settings.seed, torch.empty(0, dtype=settings.dtype))
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def outputs(run, points, theta=None):
    with torch.no_grad():
        return run.model.outputs(run.theta if theta is None else theta, points.to(run.theta))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-3), (torch.float32, 5e-3)])
def test_it_starts_as_the_initial_values_at_all_times(dtype, tolerance):
    run, x = Run(heat(Initial(wave)), pinn(dtype=dtype)), everywhere()
    assert run.theta.dtype == dtype
    assert float((outputs(run, x)[:, 0] - wave(x[:, 0])).abs().max()) < 10 * tolerance
    assert run.report()["u = f at the start"] < tolerance**2


@pytest.mark.parametrize("domain", [Interval(0.0, 1.0), Rectangle((0, 0), (1, 1))])
def test_a_constant_and_several_outputs_in_any_dimension(domain):
    problem = BoundaryProblem(
        domain,
        lambda u, v, w: (u.t - u.laplacian, v.t - v.laplacian, w.x),
        [Initial(2.0, of=("u", "v")), Initial(1.0, of="v", order=1)],
        outputs=("w", "u", "v"),
        time=(1.0, 3.0),
    )
    run, x = Run(problem, pinn()), everywhere(domain.dim)
    found, drawn = outputs(run, x), outputs(run, x, plain(problem, pinn()))
    torch.testing.assert_close(found[:, 1:], torch.full_like(found[:, 1:], 2.0), rtol=1e-9, atol=0)
    torch.testing.assert_close(found[:, 0], drawn[:, 0], rtol=1e-12, atol=1e-12)  # no initial values


@pytest.mark.parametrize(
    "problem",
    [
        heat(),
        heat(Initial(1.0, order=1)),
        heat(Initial(lambda x, k: k * x), unknowns={"k": Unknown(2.0)}),
        heat(Initial(wave), constraint={"u": Hard(factor=lambda t: t - 1)}),
        BoundaryProblem(Interval(0.0, 1.0), lambda u: u.xx + 1, [Dirichlet(0.0)]),
    ],
    ids=["no initial values", "of a derivative", "with an unknown", "hard", "no time"],
)
def test_without_known_values_it_starts_as_it_was_drawn(problem):
    wanted = plain(problem, pinn())
    assert torch.equal(Run(problem, pinn()).theta[: len(wanted)], wanted)


def test_other_networks_and_all_other_draws_stay_the_same(monkeypatch):
    problem, other = heat(Initial(wave)), pinn(MLP(width=8, depth=1))
    assert torch.equal(Run(problem, other).theta, plain(problem, other))
    with_start = Run(problem, pinn())
    monkeypatch.setattr("solvus.solvers.pinn.run.start_from_initial_values", lambda model, seed: None)
    without = Run(problem, pinn())
    assert with_start.generator.bit_generator.state == without.generator.bit_generator.state
    for a, b in zip(with_start.drawn, without.drawn, strict=True):
        np.testing.assert_array_equal(a.points, b.points)
    assert torch.equal(without.theta, plain(problem, pinn()))
    assert not torch.equal(with_start.theta, without.theta)


def test_the_seed_says_how_it_starts():
    first, again, other = (Run(heat(Initial(wave)), pinn(seed=s)).theta for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("cut", [4, 9])
def test_it_is_resumed_to_the_last_bit(cut, tmp_path):
    problem = heat(Initial(wave))
    whole = fit(problem, pinn())
    fit(problem, pinn(), out=tmp_path, every=1, callbacks=[lambda run, row: run.position.step >= cut])
    rest = fit(problem, pinn(), out=tmp_path, resume=True)
    assert torch.equal(rest.solution.theta, whole.solution.theta)


def test_values_that_are_not_finite_are_refused():
    problem = heat(Initial(lambda x: torch.where(x < 0.01, math.nan, x)))
    with pytest.raises(
        NotFinite, match=r"u = f at the start: the value is not finite at x = 0\.00\d+, t = 1"
    ):
        Run(problem, pinn())
