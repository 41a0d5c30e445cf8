"""Burgers1d-C, Wave1d-C, Heat2d-MS and Heat2d-LT: references, classical methods, problems."""

import math

import numpy as np
import pytest
import torch

from solvus.meshes.grid import Grid
from solvus.operators.pde.burgers import Burgers
from solvus.solvers.optim.adam import Adam
from solvus.solvers.pinn import fit
from solvus.solvers.pinn.networks import MLP, Features, WrongSettings
from solvus.solvers.pinn.problems import burgers1d_c, heat2d_lt, heat2d_ms, problem_named, wave1d_c
from solvus.solvers.pinn.sampling import Uniform
from solvus.solvers.pinn.solver import PINN, Phase, Points

NAMES = ("burgers1d-c", "wave1d-c", "heat2d-ms", "heat2d-lt")


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def differences(f, points, axis, h):
    """First and second derivative by central differences of order 4."""
    step = np.zeros(points.shape[1])
    step[axis] = h
    at = {k: f(points + k * step) for k in (-2, -1, 0, 1, 2)}
    first = (at[-2] - 8 * at[-1] + 8 * at[1] - at[2]) / (12 * h)
    second = (-at[-2] + 16 * at[-1] - 30 * at[0] + 16 * at[1] - at[2]) / (12 * h * h)
    return first, second


def inside(n, lower, upper, seed=0):
    return np.random.default_rng(seed).uniform(lower, upper, size=(n, len(lower)))


class TestBurgers:
    def residual(self, u, nu=burgers1d_c.VISCOSITY):
        points = inside(200, (-0.9, 0.05), (0.9, 0.95))
        u_t, _ = differences(u, points, 1, 1e-3)
        u_x, u_xx = differences(u, points, 0, 1e-3)
        return np.abs(u_t + u(points) * u_x - nu * u_xx).max() / np.abs(u_t).max()

    def test_exact_satisfies_the_equation(self):
        assert self.residual(lambda p: burgers1d_c.exact(p, 0.1), 0.1) < 1e-8
        assert self.residual(lambda p: 1.01 * burgers1d_c.exact(p, 0.1), 0.1) > 1e-3

    def test_start_and_ends(self):
        x = np.linspace(-1, 1, 41)
        start = burgers1d_c.exact(np.column_stack([x, 0 * x]))
        np.testing.assert_allclose(start, -np.sin(math.pi * x), atol=1e-14)
        ends = burgers1d_c.exact(np.array([[-1.0, 0.4], [1.0, 0.4], [0.0, 0.4]]))
        np.testing.assert_allclose(ends, 0, atol=1e-13)

    def test_steepest_slope_is_the_published_one(self):
        h, t = 1e-5, 1.6037 / math.pi
        low, high = burgers1d_c.exact(np.array([[-h, t], [h, t]]))
        assert (high - low) / (2 * h) == pytest.approx(-152.005, abs=1e-3)

    def test_agrees_with_the_rule_of_trapezoids_on_a_period(self):
        grid = Grid((64,), lower=(-1.0,), upper=(1.0,), boundary="periodic")
        x = grid.axes()[0]
        times = [0.1, 0.5, 1.0]
        start = -torch.sin(math.pi * torch.from_numpy(x))
        other = Burgers(viscosity=burgers1d_c.VISCOSITY).solution(grid, start, times).numpy()
        for t, row in zip(times, other, strict=True):
            ours = burgers1d_c.exact(np.column_stack([x, np.full_like(x, t)]))
            np.testing.assert_allclose(ours, row, atol=1e-12)

    @pytest.mark.parametrize("viscosity", [10.0, 1.0, 0.1, 0.01 / math.pi, 1e-3, 1e-3 / math.pi, 1e-4, 1e-6])
    def test_agrees_with_a_dense_rule_at_any_viscosity(self, viscosity):
        """Trapezoids in y, forty to the width of the narrowest peak, over all y that matter."""
        x = np.array([-0.97, -0.31, -0.01, -1e-4, 0.0, 1e-7, 0.02, 0.4, 0.8, 1.0])
        for t in (0.01, 1 / math.pi, 0.5, 1.0):
            reach = np.sqrt(4 * t / math.pi + 200 * viscosity * t)
            width = np.sqrt(viscosity / (1 / (2 * t) + math.pi / 2))
            y = x[:, None] + np.linspace(-reach, reach, 2 * int(20 * reach / min(width, 0.1)) + 1)
            exponent = -np.cos(math.pi * y) / (2 * math.pi * viscosity) - (x[:, None] - y) ** 2 / (
                4 * viscosity * t
            )
            F = np.exp(exponent - exponent.max(axis=1, keepdims=True))
            wanted = -(np.sin(math.pi * y) * F).sum(axis=1) / F.sum(axis=1)
            found = burgers1d_c.exact(np.column_stack([x, np.full_like(x, t)]), viscosity)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13 + 1e-15 / viscosity)

    def test_the_usual_viscosity_agrees_with_the_rule_of_gauss_and_hermite(self):
        """A hundred nodes suffice there; at a tenth of it they do not."""
        z, weights = np.polynomial.hermite.hermgauss(100)
        points = inside(300, (-1, 0), (1, 1))
        x, t = points[:, :1], points[:, 1:]
        gaps = []
        for nu in (burgers1d_c.VISCOSITY, burgers1d_c.VISCOSITY / 10):
            y = math.pi * (x - 2 * np.sqrt(nu * t) * z)
            exponent = -np.cos(y) / (2 * math.pi * nu)
            F = weights * np.exp(exponent - exponent.max(axis=1, keepdims=True))
            wanted = -(np.sin(y) * F).sum(axis=1) / F.sum(axis=1)
            gaps.append(np.abs(burgers1d_c.exact(points, nu) - wanted).max())
        assert gaps[0] < 2e-14
        assert gaps[1] > 1e-2

    @pytest.mark.parametrize("viscosity", [0.0, -0.01, float("nan"), float("inf")])
    def test_a_viscosity_that_is_none_is_refused(self, viscosity):
        for ask in (burgers1d_c.make, burgers1d_c.reference, burgers1d_c.fem):
            with pytest.raises(ValueError, match=f"viscosity={viscosity:g}: it must be positive and finite"):
                ask(viscosity=viscosity)

    @pytest.mark.parametrize("viscosity", [1e-8, 1e4])
    def test_a_viscosity_beyond_the_reference_is_refused(self, viscosity):
        burgers1d_c.make(viscosity=viscosity)  # may be trained
        with pytest.raises(
            ValueError, match=f"viscosity={viscosity:g}: the exact .* from 1e-06 to 1000: give"
        ):
            burgers1d_c.reference(viscosity=viscosity)

    def test_collocation_converges_spectrally(self):
        wanted = burgers1d_c.reference()
        errors = [relative(burgers1d_c.fem(n).at(wanted.points), wanted.values) for n in (32, 64, 96)]
        assert errors[1] < errors[0] / 50
        assert errors[2] < errors[1] / 50
        assert errors[2] < 1e-6


class TestWave:
    @pytest.mark.parametrize("a", [2, 4, 7])
    def test_exact_satisfies_the_equation(self, a):
        points = inside(200, (0.1, 0.1), (0.9, 0.9))
        _, u_tt = differences(lambda p: wave1d_c.exact(p, a), points, 1, 1e-3)
        _, u_xx = differences(lambda p: wave1d_c.exact(p, a), points, 0, 1e-3)
        assert np.abs(u_tt - 4 * u_xx).max() < 1e-5 * np.abs(u_tt).max()
        assert np.abs(u_tt - 3.99 * u_xx).max() > 1e-3 * np.abs(u_tt).max()

    def test_start_is_at_rest(self):
        x = np.linspace(0, 1, 11)
        at = lambda t: wave1d_c.exact(np.column_stack([x, np.full_like(x, t)]))  # noqa: E731
        np.testing.assert_allclose(at(0.0), wave1d_c.start(torch.from_numpy(x)).numpy(), atol=1e-14)
        np.testing.assert_allclose(at(1e-4), at(-1e-4), atol=1e-12)

    def test_sines_are_exact_once_they_resolve_the_start(self):
        wanted = wave1d_c.reference(a=6)
        assert relative(wave1d_c.fem(8, a=6).at(wanted.points), wanted.values) < 1e-13
        assert relative(wave1d_c.fem(5, a=5).at(wanted.points), wanted.values) > 0.1

    @pytest.mark.parametrize(("n", "a"), [(32, 33), (5, 6), (32, 31), (32, 100)])
    def test_there_are_as_many_sines_as_the_faster_tone_needs(self, n, a):
        wanted, answer = wave1d_c.reference(a=a), wave1d_c.fem(n, a=a)
        assert relative(answer.at(wanted.points), wanted.values) < 1e-12
        assert answer.unknowns == max(n, 2 * a)
        assert f"{max(n, 2 * a)} sine modes" in answer.method


class TestHeatScales:
    def test_exact_satisfies_the_equation(self):
        points = inside(200, (0.1, 0.1, 0.1), (0.9, 0.9, 4.9))
        u_t, _ = differences(heat2d_ms.exact, points, 2, 1e-3)
        _, u_xx = differences(heat2d_ms.exact, points, 0, 1e-3)
        _, u_yy = differences(heat2d_ms.exact, points, 1, 1e-3)
        residual = u_t - u_xx / (500 * math.pi) ** 2 - u_yy / math.pi**2
        assert np.abs(residual).max() < 1e-8
        assert np.abs(residual + u_xx / (500 * math.pi) ** 2).max() > 1e-4  # without the small term

    def test_sines_are_exact_once_they_resolve_the_start(self):
        wanted = heat2d_ms.reference()
        assert relative(heat2d_ms.fem(24).at(wanted.points), wanted.values) < 1e-12
        assert relative(heat2d_ms.fem(16).at(wanted.points), wanted.values) > 0.1


class TestHeatLongTime:
    def test_the_evolution_is_of_order_four_in_time(self):
        model = heat2d_lt._SineModes(24)
        ends = [model.advance(model.first, 0.0, 0.8, steps) for steps in (10, 20, 40, 320)]
        errors = [relative(e, ends[-1]) for e in ends[:-1]]
        orders = np.log2(np.divide(errors[:-1], errors[1:]))
        assert orders[-1] == pytest.approx(4, abs=0.3)

    def test_the_evolution_satisfies_the_equation(self):
        model = heat2d_lt._SineModes(96)
        points, t, h = inside(100, (0.05, 0.05), (0.95, 0.95)), 4.0, 1e-3
        modes = {-2: model.advance(model.first, 0.0, t - 2 * h, 400)}
        for k in (-1, 0, 1, 2):
            modes[k] = model.advance(modes[k - 1], t + (k - 1) * h, h, 1)
        at = {k: model.values(m, points) for k, m in modes.items()}
        u_t = (at[-2] - 8 * at[-1] + 8 * at[1] - at[2]) / (12 * h)
        u = at[0]
        second = sum(differences(lambda p: model.values(modes[0], p), points, i, 2e-4)[1] for i in (0, 1))
        place = np.sin(4 * math.pi * points[:, 0]) * np.sin(2 * math.pi * points[:, 1])
        source = 5 * np.sin(u * u) * (1 + 2 * math.sin(math.pi * t / 4)) * place
        assert np.abs(u_t - 0.001 * second - source).max() < 2e-3 * np.abs(source).max()
        assert np.abs(u_t - second - source).max() > np.abs(source).max()

    def test_symmetries_and_boundary(self):
        model = heat2d_lt._SineModes(24)
        modes = model.advance(model.first, 0.0, 1.0, 50)
        p = inside(20, (0, 0), (0.5, 1))
        shifted, mirrored = p + np.array([0.5, 0]), np.array([0.5, 0]) + p * [-1, 1]
        np.testing.assert_allclose(model.values(modes, shifted), model.values(modes, p), atol=1e-12)
        np.testing.assert_allclose(model.values(modes, mirrored), -model.values(modes, p), atol=1e-12)
        walls = np.array([[0, 0.3], [1, 0.3], [0.3, 0], [0.3, 1]])
        np.testing.assert_allclose(model.values(modes, walls), 0, atol=1e-12)

    def test_file_and_computation_differ_by_the_floor(self):
        wanted = heat2d_lt.reference()
        answer = heat2d_lt.fem(48)
        assert wanted.points.shape == (192 * 501, 3)
        assert relative(answer.at(wanted.points), wanted.values) == pytest.approx(wanted.floor, rel=0.03)

    def test_times_between_those_that_are_kept(self, monkeypatch):
        monkeypatch.setattr(heat2d_lt, "END", 1.0)
        answer = heat2d_lt.fem(24)
        model = heat2d_lt._SineModes(24)
        modes = model.advance(model.first, 0.0, 0.53, 400)
        points = inside(20, (0, 0), (1, 1))
        ours = answer.at(np.column_stack([points, np.full(20, 0.53)]))[:, 0]
        np.testing.assert_allclose(ours, model.values(modes, points), atol=5e-4)

    @pytest.mark.slow
    def test_own_reference_has_converged(self):
        wanted = heat2d_lt.reference(own=True)
        finer = heat2d_lt.fem(256).at(wanted.points)
        assert relative(wanted.values, finer) < wanted.floor


class TestParts:
    def test_features_have_their_values_and_derivatives(self):
        features = Features(
            cosines=((2.0, 0.0, 0.5),), steps=((0.0, 3.0, 0.0),), straight=((1.0, -1.0, 2.0),)
        )
        box = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
        network = MLP(width=4, depth=1, embedding=features, normalise=False).build(
            2, 1, box, torch.Generator().manual_seed(0)
        )
        x = torch.rand(5, 2, dtype=torch.float64, requires_grad=True)
        seen = torch.stack(
            [torch.cos(2 * x[:, 0] + 0.5), torch.tanh(3 * x[:, 1]), x[:, 0] - x[:, 1] + 2], dim=1
        )
        weights = dict(network.named_parameters())
        first, last = [(w, weights[n.replace("weight", "bias")]) for n, w in weights.items() if "weight" in n]
        by_hand = torch.tanh(seen @ first[0].T + first[1]) @ last[0].T + last[1]
        torch.testing.assert_close(network(x), by_hand)
        (slope,) = torch.autograd.grad(by_hand.sum(), x)
        from solvus.solvers.pinn.jets import Plan

        jet = network(x.detach(), Plan([(0,), (1,)]))
        torch.testing.assert_close(jet.of((1,))[:, 0], slope[:, 1])

    def test_features_of_another_dimension_are_refused(self):
        box = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
        with pytest.raises(WrongSettings, match="rows of 2 coefficients and a shift"):
            MLP(embedding=Features(cosines=((1.0, 0.0),))).build(2, 1, box, torch.Generator())
        with pytest.raises(WrongSettings, match="got rows"):
            MLP(embedding=Features()).build(2, 1, box, torch.Generator())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hard", [True, False])
class TestProblems:
    def test_the_residual_of_the_reference_vanishes_in_the_limit(self, name, hard):
        """A network that is trained a little lowers the residual, and the errors are finite."""
        problem = problem_named(name)
        posed = problem.make(**{**problem.parameters, "hard": hard})
        network = problem.recipe().network
        small = PINN(network, (Phase(Adam(), 5, sampling=Uniform(every=5)),), Points(64, 16, 16))
        found = fit(posed, small)
        assert np.isfinite(found.history[-1]["loss"])
        points = inside(10, posed.lower, posed.upper)
        assert found.solution(points).shape == (10, 1)

    def test_hard_forms_hold_exactly(self, name, hard):
        if not hard:
            pytest.skip("the conditions are trained for")
        problem = problem_named(name)
        posed = problem.make()
        small = PINN(problem.recipe().network, (Phase(Adam(), 1),), Points(16, 16, 16))
        u = fit(posed, small).solution
        points = inside(50, posed.lower, posed.upper)
        start = points.copy()
        start[:, -1] = 0
        soft = problem.make(hard=False)
        block = soft.terms[-1 if name != "wave1d-c" else -2].block
        wanted = block.prescribed(
            {n: torch.as_tensor(start[:, i]) for i, n in enumerate(soft.coordinates)}
            | {"points": torch.as_tensor(start)},
            50,
        )
        torch.testing.assert_close(u(start)[:, 0], wanted, atol=1e-12, rtol=0)
        axis = 1 if name == "heat2d-ms" else 0
        for end in (posed.lower, posed.upper):
            points[:, axis] = end[axis]
            np.testing.assert_allclose(u(points).numpy(), 0, atol=1e-12)


def test_the_string_is_at_rest_whatever_the_network():
    posed = wave1d_c.make()
    u = fit(posed, PINN(MLP(8, 1), (Phase(Adam(), 1),), Points(16, 16, 16))).solution
    x = inside(20, (0, 0), (1, 0))
    np.testing.assert_allclose(u.derivatives(x, ["u.t"])["u.t"].numpy(), 0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_named_problem_is_whole(name):
    problem = problem_named(name)
    wanted = problem.reference(**problem.parameters)
    assert wanted.values.shape == (len(wanted.points), len(wanted.outputs))
    assert problem.published is not None
    assert problem.goal < problem.published
    assert set(wanted.outputs) <= set(problem.make(**problem.parameters).outputs)
    assert problem.recipe().steps > 0
