"""Poisson2d-C, Poisson2d-CG, PNd, HNd and Helmholtz2D: references and classical methods."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_network import residuals_of

from solvus.meshes.geometry import Disc, Rectangle
from solvus.solvers.pinn import MLP, PINN, Phase, Points, fit
from solvus.solvers.pinn.problems import helmholtz2d, hnd, pnd, poisson2d_c, poisson2d_cg, problem_named
from solvus.solvers.pinn.problems.ball import BallHeat
from solvus.solvers.pinn.problems.collocation import chebyshev, evaluate, interpolation, radau, solve_cube
from solvus.solvers.pinn.problems.punctured import Punctured

try:
    import gmsh
except (ImportError, OSError) as error:
    gmsh = None
    reason = f"gmsh cannot be imported: {error}"
else:
    reason = ""
needs_gmsh = pytest.mark.skipif(gmsh is None, reason=reason)

NAMES = ("poisson2d-c", "poisson2d-cg", "pnd", "hnd", "helmholtz2d")


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def error_of(answer, reference):
    return relative(answer.at(reference.points), reference.values)


@pytest.mark.parametrize("name", NAMES)
class TestEvery:
    @pytest.fixture(autouse=True)
    def _files(self, reference):
        """Some references are files."""

    def test_reference_fits_the_problem(self, name):
        named = problem_named(name)
        problem, known = named.make(), named.reference()
        assert known.points.shape[1] == len(problem.coordinates)
        assert known.values.shape == (len(known.points), len(known.outputs))
        assert set(known.outputs) <= set(problem.outputs)
        assert (known.points >= np.array(problem.lower) - 1e-9).all()
        assert (known.points <= np.array(problem.upper) + 1e-9).all()
        assert 0 <= known.floor < named.goal

    def test_a_short_training_lowers_the_error(self, name):
        named = problem_named(name)
        recipe = named.recipe()
        assert isinstance(recipe.network, MLP)
        first, second = recipe.chain[:2]
        short = PINN(
            replace(recipe.network, width=12, depth=2),
            (Phase(first.optimiser, 20), Phase(second.optimiser, 200, sampling=second.sampling)),
            Points(domain=256, boundary=128, initial=128),
        )
        done = fit(named.make(), short, reference=named.reference())
        assert done.error < 0.9 * done.history[0]["error"]
        assert recipe.steps <= 6000

    def test_recipe_is_within_the_limits_of_its_methods(self, name):
        named = problem_named(name)
        from solvus.solvers.pinn import Run

        recipe = named.recipe()
        few = Points(domain=64, boundary=64, initial=64)
        run = Run(named.make(), PINN(recipe.network, recipe.chain, few))
        assert len(run.theta) < 8000


class TestPunctured:
    def test_boundary_values_hold_exactly(self):
        for problem in (poisson2d_c.make(), poisson2d_c.make(scale=4.0), poisson2d_cg.make()):
            shape = problem.constraint["u"]
            generator = np.random.default_rng(0)
            cg = problem.domain.upper[0] == 1.0
            outer, inner = (0.2, 1.0) if cg else (1.0, 0.0)
            discs = tuple(s for s in problem.domain.shapes if isinstance(s, Disc))
            square = tuple(s for s in problem.domain.shapes if isinstance(s, Rectangle))
            for on, value in ((discs, inner), (square, outer)):
                x, y = torch.from_numpy(problem.domain.sample_boundary(200, generator, on=on).points).T
                torch.testing.assert_close(shape.lift(x, y), torch.full_like(x, value), atol=1e-12, rtol=0)
                torch.testing.assert_close(shape.factor(x, y), torch.zeros_like(x), atol=1e-12, rtol=0)
            x, y = torch.from_numpy(problem.domain.sample(500, generator)).T
            assert (shape.factor(x, y) > 0).all()

    def test_the_equations(self):
        c = poisson2d_c.make(hard=False)
        assert residuals_of(c, lambda p: p[:, :1] ** 2 - p[:, 1:] ** 2)["the equation"] < 1e-14
        assert residuals_of(c, lambda p: p[:, :1] ** 2)["the equation"] == pytest.approx(2.0)
        cg = poisson2d_cg.make(hard=False)
        found = residuals_of(cg, lambda p: torch.ones_like(p[:, :1]))
        assert found["u = 0.2 on Rectangle((-1, -1), (1, 1))"] == pytest.approx(0.8)
        assert list(found.values())[-1] < 1e-12  # on the discs

    def test_outer_square_gets_its_share_of_the_points(self):
        problem = poisson2d_c.make(hard=False)
        square, discs = (term.block.where.measure() for term in problem.terms[1:])
        assert square / (square + discs) == pytest.approx(4 / (4 + 0.8 * math.pi))

    @needs_gmsh
    def test_quadratic_triangles_reach_order_three_on_curved_edges(self):
        disc = Punctured(1.0, ((0.0, 0.0, 0.4),), 0.0, 0.0)
        generator = np.random.default_rng(0)
        points = disc.domain.sample(500, generator)
        fine, *coarse = (disc.solve(h, lambda x, y: np.cos(3 * x + y))[0](points) for h in (0.015, 0.1, 0.05))
        errors = [relative(values, fine) for values in coarse]
        assert math.log2(errors[0] / errors[1]) > 2.5
        assert errors[1] < 1e-4

    @needs_gmsh
    def test_agrees_with_the_logarithm_between_circle_and_square(self):
        """A harmonic function with a singularity in the hole, on the values that it takes."""
        ring = Punctured(1.0, ((0.0, 0.0, 0.3),), 0.0, 1.0)
        at, _ = ring.solve(0.05, lambda x, y: np.zeros_like(x))
        points = ring.domain.sample(300, np.random.default_rng(1))
        values = at(points)[:, 0]
        assert (values >= -1e-6).all()
        assert (values <= 1 + 1e-6).all()
        np.testing.assert_allclose(at(points[:, ::-1]), at(points), atol=2e-4)

    @needs_gmsh
    @pytest.mark.parametrize(("module", "floor"), [(poisson2d_c, 2.8e-5), (poisson2d_cg, 9.0e-5)])
    def test_files_agree_with_finite_elements_to_the_floor(self, reference, module, floor):
        known = module.reference()
        coarse, fine = (error_of(module.fem(n), known) for n in (40, 80))
        assert known.floor == floor
        assert floor / 2 < fine < floor + coarse / 6
        assert coarse > 2.5 * fine

    @needs_gmsh
    def test_scale(self, reference):
        small, large = poisson2d_c.fem(20), poisson2d_c.fem(20, scale=8.0)
        points = poisson2d_c.reference().points
        np.testing.assert_allclose(large.at(8 * points), small.at(points), atol=1e-3)
        np.testing.assert_array_equal(poisson2d_c.reference(scale=8.0).points, 8 * points)
        assert poisson2d_c.make(scale=8.0).upper == (4.0, 4.0)


class TestManyDimensions:
    @pytest.mark.parametrize("d", [2, 5])
    def test_pnd_satisfies_its_equation(self, d):
        found = residuals_of(pnd.make(d=d), lambda p: pnd.exact(p)[:, None])
        assert max(found.values()) < 1e-12
        assert max(residuals_of(pnd.make(d=d), lambda p: 1.01 * pnd.exact(p)[:, None]).values()) > 1e-2

    @pytest.mark.parametrize("d", [2, 5])
    def test_hnd_satisfies_its_equation_with_the_derived_datum(self, d):
        def u(p):
            return torch.exp(p[:, :-1].square().sum(1) / 2 + p[:, -1])[:, None]

        assert max(residuals_of(hnd.make(d=d), u).values()) < 1e-12
        wrong = residuals_of(hnd.make(d=d), lambda p: u(p) + p[:, :1])
        assert all(v > 1e-3 for v in wrong.values() if v is not wrong["the equation"])
        known = hnd.reference(d=d)
        where = torch.from_numpy(known.points)
        np.testing.assert_allclose(u(where).numpy(), known.values, rtol=1e-14)
        assert (np.linalg.norm(known.points[:, :-1], axis=1) <= 1).all()

    def test_collocation_converges_spectrally(self):
        known = pnd.reference(d=3)
        errors = [error_of(pnd.fem(n, d=3), known) for n in (4, 6, 8)]
        assert errors[0] / errors[1] > 50
        assert errors[1] / errors[2] > 50
        assert errors[2] < 1e-7
        answer = pnd.fem(6)
        assert answer.unknowns == 4**5
        assert error_of(answer, pnd.reference()) < 1e-5

    def test_collocation_solves_what_is_no_sum(self):
        u = solve_cube(lambda x: np.zeros(len(x)), lambda x: x[:, 0] * x[:, 1] * x[:, 2], 3, 5)
        points = np.random.default_rng(0).random((50, 3))
        np.testing.assert_allclose(evaluate(u, points), points.prod(axis=1), atol=1e-13)

    def test_chebyshev_differentiates_and_interpolates_polynomials(self):
        x, w, D = chebyshev(6)
        np.testing.assert_allclose(D @ x**5, 5 * x**4, atol=1e-12)
        at = np.array([0.0, 0.3, 1.0])
        np.testing.assert_allclose(interpolation(x, w, at) @ x**5, at**5, atol=1e-14)

    def test_radau_is_of_order_five_with_three_stages(self):
        times, D = radau(3)
        np.testing.assert_allclose(
            times[1:-1], [(4 - math.sqrt(6)) / 10, (4 + math.sqrt(6)) / 10], atol=1e-14
        )
        errors = []
        for h in (0.1, 0.05):
            y = np.linalg.solve(D[1:, 1:] + h * np.eye(3), -D[1:, 0])
            errors.append(abs(y[-1] - math.exp(-h)))
        assert math.log2(errors[0] / errors[1]) == pytest.approx(6, abs=0.2)  # of one step

    def test_galerkin_in_the_ball_converges_spectrally(self):
        known = hnd.reference(d=3)
        errors = [error_of(hnd.fem(p, d=3), known) for p in (2, 4, 6)]
        assert errors[0] / errors[1] > 10
        assert errors[1] / errors[2] > 10
        assert errors[2] < 3e-5
        assert error_of(hnd.fem(4), hnd.reference()) < 5e-4

    def test_galerkin_keeps_heat_without_source_and_flux(self):
        zero = lambda x, t: np.zeros(len(x))  # noqa: E731
        u = BallHeat(2, 4).solve(zero, zero, lambda x: 1 + x[:, 0])
        angle = np.linspace(0, 2 * np.pi, 7)
        late = np.column_stack([np.cos(angle), np.sin(angle), np.full(7, 1.0)])
        assert abs(u.at(late)[:-1].mean() - 1) < 1e-10
        middle = u.at(np.array([[0.0, 0.0, 0.5]]))
        np.testing.assert_allclose(middle, 1, atol=1e-10)

    def test_too_many_cubature_points(self):
        with pytest.raises(ValueError, match="lower n"):
            hnd.fem(8, d=10)

    def test_a_grid_that_does_not_fit_is_refused(self):
        with pytest.raises(
            ValueError, match=r"n=10 .* 9 axes are 1e\+09 points .* may be 1e\+08: lower n, to 6 "
        ):
            pnd.fem(10, d=9)
        with pytest.raises(ValueError, match=r"n=3 .* 15 axes .*: there are too many dimensions for a grid"):
            pnd.fem(3, d=15)
        assert pnd.fem(3, d=9).unknowns == 1


@pytest.mark.parametrize("hard", [True, False])
def test_equations_are_divided_by_what_is_said(hard):
    """Beside a large function the sources are nothing; PINNacle trains these equations undivided."""
    large = 1e9
    for module, term, rate in (
        (poisson2d_cg, 64 * large, 64.0),
        (helmholtz2d, large, 2 * (4 * math.pi) ** 2),
    ):
        posed = module.make(hard=hard)
        if hard:  # the equation does not depend on the form
            posed = replace(posed, constraint={})
        found = residuals_of(posed, lambda p: torch.full_like(p[:, :1], large))["the equation"]
        assert found == pytest.approx(term / rate, rel=1e-5)


class TestHelmholtz:
    def test_exact_satisfies_the_equation(self):
        soft = helmholtz2d.make(hard=False)
        assert max(residuals_of(soft, lambda p: helmholtz2d.exact(*p.T)[:, None]).values()) < 1e-12
        assert residuals_of(soft, lambda p: 1.01 * helmholtz2d.exact(*p.T)[:, None])["the equation"] > 1e-3

    def test_constraint_vanishes_on_the_boundary(self):
        problem = helmholtz2d.make()
        points = problem.domain.sample_boundary(100, np.random.default_rng(0)).points
        assert problem.constraint["u"].factor(*torch.from_numpy(points).T).abs().max() < 1e-15

    def test_cubic_triangles_have_order_four(self):
        known = helmholtz2d.reference()
        errors = [error_of(helmholtz2d.fem(n), known) for n in (16, 32)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)
        assert errors[1] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_recipe_reaches_the_goal(name, reference):
    named = problem_named(name)
    done = fit(named.make(), named.recipe(), reference=named.reference())
    assert done.error < named.goal
