"""The loss of a problem: its groups, gradients, Jacobian and products with the Hessian agree."""

from functools import partial

import numpy as np
import pytest
import torch

from solvus.meshes.geometry import Interval, Rectangle
from solvus.solvers.pinn import (
    MLP,
    BoundaryProblem,
    Data,
    Dirichlet,
    Initial,
    Neumann,
    Periodic,
    Unknown,
)
from solvus.solvers.pinn.model import Cloud, Model, grouping
from solvus.solvers.pinn.objective import NotPointwise, ResidualLoss, TermView
from solvus.solvers.pinn.solution import build

LIKE = torch.empty(0, dtype=torch.float64)


def problem():
    def equation(u, v, nu, x):
        return u.t + u * u.x + v * u.y - nu * u.laplacian, u.x + v.y + torch.sin(x)

    return BoundaryProblem(
        Rectangle((0.0, 0.0), (2.0, 1.0)),
        equation,
        [
            Dirichlet(1.0, on="xmin", weight=3.0),
            Neumann(0.5, of=("u", "v"), on=("ymin", "ymax")),
            Periodic("x", of="v"),
            Initial(lambda x, y: x * y),
            Data(np.full((4, 3), 0.3), np.full((4, 2), 0.7), of=("u", "v")),
        ],
        outputs=("u", "v"),
        time=(0.0, 1.0),
        unknowns={"nu": Unknown(0.2)},
    )


def loss(groups="kinds", n=6, seed=0):
    posed = problem()
    model = Model(posed, build(MLP(width=6, depth=2), posed, seed, LIKE))
    generator = np.random.default_rng(0)
    theta = model.start()
    clouds = [model.cloud(t, t.block.where.draw(n + k, generator), theta) for k, t in enumerate(posed.terms)]
    return ResidualLoss(model, clouds, grouping(groups, posed.kinds)), theta


@pytest.mark.parametrize("groups", ["kinds", "terms", [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]])
def test_groups_add_up(groups):
    objective, theta = loss(groups)
    losses, rows = objective.group_gradients(theta)
    total, gradient = objective.gradient(theta)
    torch.testing.assert_close(losses, total)
    torch.testing.assert_close(rows.sum(0), gradient)
    torch.testing.assert_close(total.sum(), loss("terms")[0].losses(theta).sum())


def test_the_loss_is_the_sum_of_squared_residuals():
    objective, theta = loss()
    torch.testing.assert_close(objective.residuals(theta).square().sum(), objective.value(theta))


def test_weights_of_conditions_and_further_ones():
    objective, theta = loss("terms")
    squares = objective.mean_squares(theta)
    before = objective.losses(theta)
    torch.testing.assert_close(before[2], 3 * squares[2])
    further = torch.arange(1.0, 11.0, dtype=torch.float64)
    objective.weigh(further)
    torch.testing.assert_close(objective.losses(theta), before * further)
    objective.weigh(None)
    torch.testing.assert_close(objective.losses(theta), before)


def test_the_jacobian_point_by_point_is_that_of_all():
    objective, theta = loss()
    objective.weigh(torch.linspace(0.5, 2.0, 10, dtype=torch.float64))
    residuals, jacobian = objective.jacobian(theta)
    torch.testing.assert_close(residuals, objective.residuals(theta))
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(objective.residuals, theta))
    gradient = objective.gradient(theta)[1]
    torch.testing.assert_close(2 * jacobian.T @ residuals, gradient)


def test_emphasis_of_points():
    objective, theta = loss()
    plain = objective.rows(theta)[0]
    emphasis = torch.rand(2, len(plain), dtype=torch.float64)
    objective.emphasise(0, emphasis)
    torch.testing.assert_close(objective.rows(theta)[0], emphasis[0] * plain)
    residuals, jacobian = objective.jacobian(theta)
    torch.testing.assert_close(residuals, objective.residuals(theta))
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(objective.residuals, theta))


def test_emphasis_is_in_the_loss_alone():
    """Mean squares say how well the problem is solved, and methods of weighting see no weights of points."""
    objective, theta = loss("terms")
    plain, rows = objective.mean_squares(theta), objective.rows(theta)
    view = TermView(objective, theta, torch.Generator())
    seen = view.losses(), view.gradients(), view.residuals(1), view.pull(1, rows[1].detach())
    emphasis = torch.linspace(0.1, 2.0, 2 * len(rows[0]), dtype=torch.float64).view(2, -1)
    objective.emphasise(0, emphasis)
    assert torch.equal(objective.mean_squares(theta), plain)
    for before, now in zip(
        seen,
        (view.losses(), view.gradients(), view.residuals(1), view.pull(1, rows[1].detach())),
        strict=True,
    ):
        assert torch.equal(before, now)
    emphasised = objective.mean_squares(theta, emphasised=True)
    torch.testing.assert_close(emphasised[1], (emphasis[1] * rows[1]).square().mean())
    assert torch.equal(emphasised[2:], plain[2:])
    torch.testing.assert_close(objective.value(theta), (objective.own * emphasised).sum())
    torch.testing.assert_close(objective.residuals(theta).square().sum(), objective.value(theta))


def one_dimensional(equation, **options):
    posed = BoundaryProblem(Interval(0.0, 1.0), equation, [Dirichlet(0.5)], **options)
    model = Model(posed, build(MLP(width=5, depth=2), posed, 0, LIKE))
    generator, theta = np.random.default_rng(0), model.start()
    clouds = [model.cloud(t, t.block.where.draw(12, generator), theta) for t in posed.terms]
    return ResidualLoss(model, clouds, grouping("kinds", posed.kinds)), theta


def test_a_residual_that_looks_at_other_points_has_no_jacobian_point_by_point():
    objective, theta = one_dimensional(lambda u: u.xx + u.value.mean() - 1)
    with pytest.raises(
        NotPointwise, match=r"the equation at one point changes by .* SSBroyden, LBFGS or Adam"
    ):
        objective.jacobian(theta)
    with pytest.raises(NotPointwise, match="without a mean or sum over points"):
        objective.jacobian(theta)
    assert bool(torch.isfinite(objective.gradient(theta)[1]).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_no_dependence_on_other_points(dtype):
    """The second residual is nothing else."""
    objective, theta = one_dimensional(
        lambda u: (u.xx - 1, torch.sin(9 * u) ** 2 + torch.cos(9 * u) ** 2 - 1)
    )
    objective.clouds = [
        Cloud(*(None if p is None else p.to(dtype) for p in c.parts())) for c in objective.clouds
    ]
    objective.weights, objective.model.network = (
        objective.weights.to(dtype),
        objective.model.network.to(dtype),
    )
    residuals, jacobian = objective.jacobian(theta.to(dtype))
    assert residuals.dtype == jacobian.dtype == dtype


def test_points_are_tried_once(monkeypatch):
    objective, theta = one_dimensional(lambda u: u.xx - 1)
    tried = []
    few = ResidualLoss._few
    monkeypatch.setattr(ResidualLoss, "_few", lambda self, *a: tried.append(a[1]) or few(self, *a))
    objective.jacobian(theta)
    count = len(tried)
    assert count == 2 * (1 + 4)
    objective.jacobian(2 * theta)
    assert len(tried) == count
    objective.set_cloud(0, Cloud(torch.rand(12, 1, dtype=torch.float64)))
    objective.jacobian(theta)
    assert len(tried) == 2 * count


def test_products_with_the_hessian():
    objective, theta = loss(n=3)
    hessian = torch.autograd.functional.hessian(objective.value, theta)
    v = torch.randn(2, len(theta), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(objective.hessian_product(theta, v[0]), hessian @ v[0])
    torch.testing.assert_close(objective.hessian_product(theta, v), v @ hessian)


def test_every_parameter_and_the_unknown_get_a_gradient():
    objective, theta = loss()
    gradient = objective.gradient(theta)[1]
    pieces = gradient.split(objective.model.sizes)
    assert all(bool((p != 0).any()) for p in pieces)
    assert objective.shapes[-1] == ()
    assert objective.model.coefficients(theta)["nu"] == 0.2


def test_what_a_weighting_sees():
    objective, theta = loss("terms")
    view = TermView(objective, theta, torch.Generator())
    assert view.kinds == objective.model.problem.kinds
    torch.testing.assert_close(view.losses(), objective.mean_squares(theta).detach())
    own = torch.ones(10, dtype=torch.float64)
    own[2] = 3.0  # the loss has the weight of the condition, the view has not
    torch.testing.assert_close(own[:, None] * view.gradients(), objective.group_gradients(theta)[1])
    r = view.residuals(3)
    torch.testing.assert_close(2 / len(r) * view.pull(3, r), view.gradients()[3])


def test_groups_name_every_residual_once():
    kinds = ("equation", "condition", "condition")
    assert grouping("terms", kinds) == [[0], [1], [2]]
    assert grouping([[2], [0, 1]], kinds) == [[2], [0, 1]]
    with pytest.raises(ValueError, match="each of the residuals 0 to 2 once"):
        grouping([[0], [1]], kinds)
    with pytest.raises(ValueError, match="'kinds', 'terms', or lists"):
        grouping("all", kinds)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's compiler, of itself
def test_a_compiled_loss_can_be_differentiated_as_methods_do(monkeypatch):
    """What was compiled for one gradient gives no second one, and no products with the Hessian."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    objective, theta = one_dimensional(lambda u: u.x + u * u - 1)
    compiled = ResidualLoss(objective.model, objective.clouds, objective.groups, compiled=True)
    torch.testing.assert_close(compiled.gradient(theta), objective.gradient(theta))
    torch.testing.assert_close(compiled.group_gradients(theta), objective.group_gradients(theta))
    torch.testing.assert_close(compiled.gradient(theta), objective.gradient(theta))
    v = torch.linspace(-1.0, 1.0, len(theta), dtype=torch.float64)
    torch.testing.assert_close(compiled.hessian_product(theta, v), objective.hessian_product(theta, v))
    torch.testing.assert_close(compiled.jacobian(theta), objective.jacobian(theta))
    compiled.groups = objective.groups = [[1], [0]]
    compiled.weigh(torch.tensor([2.0, 3.0], dtype=torch.float64))
    objective.weigh(torch.tensor([2.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(compiled.group_gradients(theta), objective.group_gradients(theta))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's compiler, of itself
def test_a_compiled_loss_is_the_same():
    objective, theta = loss()
    compiled = ResidualLoss(objective.model, objective.clouds, objective.groups, compiled=True)
    torch.testing.assert_close(compiled.losses(theta), objective.losses(theta))
    torch.testing.assert_close(compiled.gradient(theta)[1], objective.gradient(theta)[1])
