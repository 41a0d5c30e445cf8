"""PInv and HInv: the true functions satisfy what is posed, and the classical method finds them."""

import math

import numpy as np
import pytest
import torch
from exact_network import residuals_of

from solvus.solvers.pinn import fit
from solvus.solvers.pinn.problems import hinv, pinv, problem_named
from solvus.solvers.pinn.problems.arrays import in_numpy
from solvus.solvers.pinn.problems.identification import identify
from solvus.solvers.pinn.problems.unknown_field import Spaces

NAMES = ("pinv", "hinv")


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def plate(points):
    """The true functions, with the network's share of the conductivity."""
    x, y = points.T
    share = (pinv.conductivity(x, y) - pinv.patch(x, y)) / (x * (1 - x) * y * (1 - y))
    return torch.stack([pinv.temperature(x, y), share], dim=1)


def heated(points):
    x, y, t = points.T
    share = (hinv.conductivity(x, y) - 2) / ((1 - x * x) * (1 - y * y))
    return torch.stack([hinv.temperature(x, y, t), share], dim=1)


class TestPosed:
    def test_pinv(self):
        found = residuals_of(pinv.make(sigma=0.0, smoothing=0.0), plate)
        assert max(found.values()) < 1e-8
        wrong = residuals_of(pinv.make(sigma=0.0, smoothing=0.0), lambda p: plate(p) * 1.01)
        assert min(wrong.values()) > 1e-3

    def test_the_wrong_sign_of_the_benchmark_leaves_a_residual(self):
        x, y = torch.rand(2, 100, dtype=torch.float64)
        p, a = math.pi, pinv.conductivity(x, y)
        sx, sy, cx, cy = torch.sin(p * x), torch.sin(p * y), torch.cos(p * x), torch.cos(p * y)
        coded = 2 * p * p * a * sx * sy + 2 * p * a * a * ((2 * x + 1) * cx * sy + (2 * y + 1) * sx * cy)
        assert 0.5 < (coded - pinv.source(x, y)).abs().max() < 3

    def test_hinv(self):
        found = residuals_of(hinv.make(sigma=0.0, smoothing=0.0), heated)
        assert max(found.values()) < 1e-8
        wrong = residuals_of(hinv.make(sigma=0.0, smoothing=0.0), lambda p: heated(p) * 1.01)
        assert wrong["the equation (1)"] > 1e-3

    @pytest.mark.parametrize("smoothing", [0.0, 1.0])
    def test_the_equation_of_hinv_is_divided_by_ten(self, smoothing):
        growing = lambda p: torch.stack([1e9 * p[:, 2], 0 * p[:, 2]], dim=1)  # noqa: E731
        found = residuals_of(hinv.make(smoothing=smoothing), growing)
        assert found["the equation (1)"] == pytest.approx(1e8, rel=1e-6)

    def test_patch_takes_the_values_on_the_boundary(self):
        side = torch.linspace(0, 1, 11, dtype=torch.float64)
        for x, y in ((side, 0 * side), (side, 0 * side + 1), (0 * side, side), (0 * side + 1, side)):
            torch.testing.assert_close(pinv.patch(x, y), pinv.conductivity(x, y), atol=1e-14, rtol=0)

    @pytest.mark.parametrize("module", [pinv, hinv])
    def test_data_have_the_noise_that_was_asked_for(self, module):
        points, data = module.observations(0.1, 3)
        exact = module.temperature(*torch.from_numpy(points).T).numpy()
        assert len(data) == 2500
        assert np.std(data - exact) == pytest.approx(0.1, rel=0.05)
        assert abs(np.mean(data - exact)) < 0.01
        np.testing.assert_array_equal(module.observations(0.1, 3)[1], data)
        assert not np.array_equal(module.observations(0.1, 4)[1], data)

    @pytest.mark.parametrize("name", NAMES)
    def test_reference(self, name):
        named = problem_named(name)
        known = named.reference()
        assert known.outputs == ("u", "a")
        assert known.values.shape == (len(known.points), 2)
        problem = named.make()
        assert set(problem.outputs) == {"u", "a"}
        assert len(set(problem.labels)) == len(problem.labels)  # columns of the history


class TestClassical:
    def test_derivative_by_the_coefficient(self):
        spaces = Spaces((0.0, 0.0), (1.0, 1.0), 4, in_numpy(pinv.conductivity))
        generator = np.random.default_rng(0)
        u, a, da = (generator.random(n) for n in (spaces.u.N, len(spaces.free), len(spaces.free)))
        change = (spaces.stiffness(a + da) - spaces.stiffness(a)) @ u
        np.testing.assert_allclose(spaces.by_coefficient(u) @ da, change, atol=1e-12)

    def test_spaces_evaluate_polynomials(self):
        spaces = Spaces((-1.0, 0.0), (1.0, 1.0), 3, lambda x, y: 1 + x - 2 * y)
        points = np.random.default_rng(0).uniform((-1, 0), (1, 1), (40, 2))
        x, y = spaces.u.doflocs
        np.testing.assert_allclose(
            spaces.observe(points) @ (x * y + x**2),
            points[:, 0] * points[:, 1] + points[:, 0] ** 2,
            atol=1e-13,
        )
        smooth = spaces.start()  # a linear function is the smoothest with its boundary values
        np.testing.assert_allclose(
            spaces.coefficient_at(smooth, points), 1 + points[:, 0] - 2 * points[:, 1], atol=1e-12
        )
        assert np.abs(spaces.boundary_bending @ (1 + x + y)).max() < 1e-10
        bent = spaces.boundary_bending @ x**2
        assert (bent**2).sum() == pytest.approx(4 * 2 * 2 * (1 - 1 / 6), rel=1e-6)  # 2 sides, ends lack h / 2

    def test_without_noise_the_error_falls_with_the_mesh(self):
        known = pinv.reference()
        errors = []
        for n in (6, 12):
            answer = pinv.fem(n, sigma=1e-6)
            errors.append(relative(answer.at(known.points), known.values))
        assert math.log2(errors[0] / errors[1]) > 1.7
        assert errors[1] < 8e-4

    def test_pinv_from_noisy_data(self):
        known = pinv.reference()
        answer = pinv.fem(8)
        assert relative(answer.at(known.points), known.values) < 1.0e-2
        assert "factorisations" in answer.method

    @pytest.mark.parametrize("module", [pinv, hinv])
    def test_it_says_that_its_smoothing_is_its_own(self, module):
        answer = module.fem(3, smoothing=0.0)
        assert "with smoothing of its own by cross-validation" in answer.method
        points = np.random.default_rng(0).random((20, 2 if module is pinv else 3))
        np.testing.assert_array_equal(answer.at(points), module.fem(3, smoothing=1.0).at(points))

    def test_cross_validation_beats_too_little_and_too_much(self):
        points, data = pinv.observations()
        spaces = Spaces((0.0, 0.0), (1.0, 1.0), 6, in_numpy(pinv.conductivity))
        model = pinv._Plate(spaces, points, data)
        found = identify(model, np.zeros(spaces.u.N), spaces.start(), (1e-2, 1e-2))
        exact = in_numpy(pinv.conductivity)(*spaces.a.doflocs)[spaces.free]
        assert found.misfit == pytest.approx(0.1, rel=0.05)
        from solvus.solvers.pinn.problems.identification import _gauss_newton

        for factor in (1e-5, 1e5):
            weights = tuple(w * factor for w in found.weights)
            other = _gauss_newton(model, found.u, found.a, weights)
            assert relative(other.a, exact) > 1.5 * relative(found.a, exact)
            assert other.score > found.score

    @pytest.mark.slow
    def test_hinv_from_noisy_data(self):
        known = hinv.reference()
        answer = hinv.fem()
        assert relative(answer.at(known.points), known.values) < 6e-2

    def test_hinv_on_a_coarse_mesh(self):
        known = hinv.reference()
        answer = hinv.fem(4)
        assert relative(answer.at(known.points), known.values) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_recipe_reaches_the_goal(name):
    named = problem_named(name)
    done = fit(named.make(), named.recipe(), reference=named.reference())
    assert done.error < named.goal
