"""Hard constraints: the product rule, and values that hold whatever the network says."""

import math

import numpy as np
import pytest
import torch

from solvus.meshes.geometry import Interval, Rectangle
from solvus.solvers.pinn import MLP, BoundaryProblem, Dirichlet, Hard, NoDerivative, WrongShape
from solvus.solvers.pinn.constraint import Constrained, Shape, splits
from solvus.solvers.pinn.jets import Plan, nested
from solvus.solvers.pinn.model import Model
from solvus.solvers.pinn.solution import Solution, build

SQUARE = Rectangle((0.0, 0.0), (1.0, 1.0))
HARD = Hard(lambda x, y: torch.sin(x) * y**2, lambda x, y: x * (1 - x) * y * (1 - y))
LIKE = torch.empty(0, dtype=torch.float64)


def constrained(hard=HARD, **options):
    problem = BoundaryProblem(
        SQUARE, lambda u, x, y: u.laplacian + x * y, [], constraint={"u": hard}, **options
    )
    architecture = MLP(width=8, depth=2)
    model = Model(problem, build(architecture, problem, 0, LIKE))
    return model, model.start(), architecture


PLANS = [Plan([(0,), (1,)]), Plan([(0, 0), (0, 1)], laplacian=(0, 1)), Plan([(0, 0, 1, 1), (1, 1, 1)])]


@pytest.mark.parametrize("plan", PLANS)
def test_derivatives_are_those_of_the_whole(plan):
    """Against nested differentiation of lift + factor * network."""
    model, theta, _ = constrained()
    points = torch.rand(9, 2, dtype=torch.float64)

    def whole(p):
        return HARD.lift(*p.T)[:, None] + HARD.factor(*p.T)[:, None] * model.network(p)

    wanted = nested(whole, points, plan)
    assert model.shape is not None
    values = Constrained(model.values(theta, points, plan), plan, *model.shape.jets(points, plan))
    for key in plan.rows:
        torch.testing.assert_close(values.of(key), wanted.of(key), rtol=1e-9, atol=1e-10)
    if plan.laplacian:
        torch.testing.assert_close(values.laplacian, wanted.laplacian, rtol=1e-9, atol=1e-10)


def test_the_boundary_holds_for_any_network():
    model, theta, architecture = constrained()
    u = Solution(model, 10 * theta, architecture)
    edge = SQUARE.sample_boundary(200, np.random.default_rng(0)).points
    wanted = torch.as_tensor(np.sin(edge[:, 0]) * edge[:, 1] ** 2)
    torch.testing.assert_close(u(edge)[:, 0], wanted, rtol=0, atol=1e-12)
    inside = SQUARE.sample(200, np.random.default_rng(0))
    assert (u(inside)[:, 0] - torch.as_tensor(np.sin(inside[:, 0]) * inside[:, 1] ** 2)).abs().max() > 1e-3


def test_the_jacobian_knows_the_constraint():
    from solvus.solvers.pinn.objective import ResidualLoss

    model, theta, _ = constrained()
    term = model.problem.terms[0]
    cloud = model.cloud(term, term.block.where.draw(11, np.random.default_rng(0)), theta)
    loss = ResidualLoss(model, [cloud], [[0]])
    residuals, jacobian = loss.jacobian(theta)
    torch.testing.assert_close(residuals, loss.residuals(theta))
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(loss.residuals, theta))


def test_constants_as_lift_and_factor():
    shape = Shape({"u": Hard(lambda: 2.0, lambda x: x)}, ("u", "v"), ("x", "y"))
    lift, factor = shape.jets(torch.tensor([[3.0, 5.0]], dtype=torch.float64), Plan([(0,)]))
    assert lift[0].tolist() == [[2.0, 0.0]]  # v has no constraint
    assert factor[0].tolist() == [[3.0, 1.0]]
    assert factor[1].tolist() == [[1.0, 0.0]]


def test_a_part_of_the_wrong_shape_is_named():
    points = torch.tensor([[3.0, 5.0], [1.0, 2.0]], dtype=torch.float64)
    for hard, words in [
        (Hard(lambda points: points[:, :1]), r"the lift of v has shape \(2, 1\), there are 2 points"),
        (Hard(factor=lambda points: points), r"the factor of v has shape \(2, 2\), there are 2 points"),
        (Hard(lambda: "one"), "the lift of v gave str: a number, or a tensor of 2 numbers"),
    ]:
        with pytest.raises(WrongShape, match=words):
            Shape({"v": hard}, ("u", "v"), ("x", "y")).jets(points, Plan([(0,)]))
    lift, _ = Shape({"u": Hard(lambda: torch.tensor(2.0))}, ("u",), ("x", "y")).jets(points, Plan())
    assert lift[0].tolist() == [[2.0], [2.0]]


def test_the_rule_of_leibniz_counts_every_way():
    for key in [(), (0,), (0, 0, 1), (0, 0, 1, 1), (0, 0, 0, 0)]:
        assert sum(count for _, _, count in splits(key)) == 2 ** len(key)
    assert splits((0, 1)) == (((), (0, 1), 1), ((0,), (1,), 1), ((0, 1), (), 1), ((1,), (0,), 1))


def test_soft_and_hard_conditions_together():
    model, theta, _ = constrained(Hard(factor=lambda x: x))
    assert model.problem.labels == ("the equation",)
    problem = BoundaryProblem(
        SQUARE, lambda u: u.laplacian, [Dirichlet(0.0, on="xmax")], constraint={"u": Hard(factor=lambda x: x)}
    )
    assert len(problem.labels) == 2
    assert math.isfinite(float(theta.sum()))


@pytest.mark.parametrize("part", ["lift", "factor"])
def test_a_form_that_torch_does_not_follow_is_refused(part):
    """NumPy in between: the derivatives would be zero, and the answer wrong with a small residual."""

    def cut(x):
        return torch.as_tensor(np.sin(x.detach().numpy()))

    with pytest.raises(NoDerivative, match=f"the {part} of u differs between points, but torch knows no"):
        BoundaryProblem(Interval(0, 1), lambda u: u.xx + 1, [], constraint={"u": Hard(**{part: cut})})
