"""Every condition: its residual vanishes for a function that meets it, and not for one that does not."""

import math

import numpy as np
import pytest
import torch
from exact_network import residuals_of

from solvus.meshes.geometry import Disc, Interval, Rectangle
from solvus.solvers.pinn import (
    BadProblem,
    BoundaryProblem,
    BoundaryResidual,
    Data,
    Dirichlet,
    Fixed,
    Initial,
    Neumann,
    Periodic,
    Robin,
    Unknown,
)

SQUARE = Rectangle((0.0, 0.0), (1.0, 1.0))
RING = Disc((0.0, 0.0), 2.0) - Disc((0.0, 0.0), 1.0)


def right(p):  # u = exp(-t) sin(2 pi x) y: periodic in x
    return (torch.exp(-p[:, 2]) * torch.sin(2 * math.pi * p[:, 0]) * p[:, 1])[:, None]


def wrong(p):
    return right(p) + 0.1 * (1 + p[:, :1] + p[:, 1:2] + p[:, 1:2] ** 2 + p[:, 2:])


def values(x, y, t):
    return torch.exp(-t) * torch.sin(2 * math.pi * x) * y


SAMPLES = np.random.default_rng(3).random((30, 3))
CONDITIONS = [
    Dirichlet(values),
    Dirichlet(0.0, on=("xmin", "xmax", "ymin")),
    Dirichlet(0.0, on=lambda p: p[:, 1] == 0),
    Neumann(lambda x, t: torch.exp(-t) * torch.sin(2 * math.pi * x), on="ymax"),
    Neumann(lambda x, t: -torch.exp(-t) * torch.sin(2 * math.pi * x), on="ymin"),
    Robin(2.0, 3.0, lambda x, t: 5 * torch.exp(-t) * torch.sin(2 * math.pi * x), on="ymax"),
    Robin(lambda x: x, 1.0, lambda x, t: (1 + x) * torch.exp(-t) * torch.sin(2 * math.pi * x), on="ymax"),
    BoundaryResidual(lambda u, x, y, t, nx: u.x - values(x, y, t) - u.x + nx**2 * u, on="xmax"),
    Periodic("x"),
    Initial(lambda x, y: torch.sin(2 * math.pi * x) * y),
    Initial(lambda x, y: -torch.sin(2 * math.pi * x) * y, order=1),
    Data(SAMPLES, right(torch.as_tensor(SAMPLES)).numpy()),
    Fixed((0.25, 1.0, 0.0), 1.0),
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: type(c).__name__)
def test_residuals_of_right_and_wrong_functions(condition):
    problem = BoundaryProblem(SQUARE, lambda u: u.t + u, [condition], time=(0.0, 1.0))
    good, bad = residuals_of(problem, right), residuals_of(problem, wrong)
    assert good["the equation"] < 1e-12
    for label in problem.labels[1:]:
        assert good[label] < 1e-10
        assert bad[label] > 1e-3 or "periodic" in label
    assert max(bad[label] for label in problem.labels[1:]) > 1e-3


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        (Dirichlet(np.float32(2), on="xmin"), "u = 2 on xmin"),
        (Dirichlet(torch.tensor(2.0), on="xmin"), "u = 2 on xmin"),
        (Dirichlet(torch.tensor(2.0, requires_grad=True)), "u = 2 on the boundary"),
        (Neumann(np.array(2), on=("xmin", lambda p: p[:, 0] > 0.5)), "du/dn = 2 on ('xmin', a selection)"),
        (Robin(value=np.int64(3), on=SQUARE), "a u + b du/dn = 3 on Rectangle((0, 0), (1, 1))"),
        (Fixed((0.25, 1.0, 0.0), np.float32(1.5)), "u = 1.5 at a point"),
        (Initial(torch.tensor(1.0), order=1), "u_t = 1 at the start"),
    ],
)
def test_what_a_condition_is_called(condition, label):
    problem = BoundaryProblem(SQUARE, lambda u: u.t, [condition], time=(0.0, 1.0))
    assert problem.labels[1:] == (label,)


def test_an_unknown_as_a_value():
    """u = k on the boundary, u_t = k at the start: the residuals follow the coefficient."""
    problem = BoundaryProblem(
        SQUARE,
        lambda u: u.t,
        [Dirichlet(lambda k: k), Robin(lambda k: k, 0.0, lambda k: k, on="xmin"), Initial(lambda k: 2 * k)],
        time=(0.0, 1.0),
        unknowns={"k": Unknown(3.0)},
    )
    found = residuals_of(problem, lambda p: torch.full_like(p[:, :1], 4.0))
    assert list(found.values()) == pytest.approx([0.0, 1.0, 9.0, 2.0])


def test_a_periodic_condition_has_a_residual_per_derivative():
    problem = BoundaryProblem(SQUARE, lambda u: u.laplacian, [Periodic("y", order=3)])
    assert len(problem.labels) == 4
    found = residuals_of(problem, lambda p: p[:, 1:] ** 2)
    assert [found[label] for label in problem.labels[1:]] == pytest.approx([1.0, 2.0, 0.0])


def test_a_periodic_condition_keeps_to_faces_that_have_an_opposite():
    step = Rectangle((0.0, 0.0), (4.0, 2.0)) - Rectangle((0.0, 1.0), (2.0, 2.0))
    problem = BoundaryProblem(step, lambda u: u.laplacian, [Periodic("x", order=1)])
    where = problem.terms[1].block.where
    drawn = where.draw(500, np.random.default_rng(0))
    assert (drawn.points[:, 0] == 0).all()
    assert 0.95 < drawn.points[:, 1].max() <= 1
    assert where.measure() == pytest.approx(1.0, rel=1e-2)
    assert residuals_of(problem, lambda p: (p[:, 1:] > 1) * p[:, :1])[problem.labels[1]] == 0


def test_a_periodic_condition_without_opposite_faces_is_refused():
    stairs = Rectangle((0.0, 0.0), (1.5, 1.0)) | Rectangle((0.5, 1.0), (2.0, 2.0))
    with pytest.raises(BadProblem, match=r"u periodic in x holds on no points: .*on=two faces opposite"):
        BoundaryProblem(stairs, lambda u: u.laplacian, [Periodic("x")])


def test_normals_point_outwards():
    """u = |x|^2 / 2 has du/dn = 2 on the outer circle and -1 on the inner one."""
    inner = Disc((0.0, 0.0), 1.0)
    problem = BoundaryProblem(
        RING,
        lambda u: u.laplacian - 2,
        [Neumann(-1.0, on=inner), Neumann(2.0, on=lambda p: np.hypot(*p.T) > 1.5)],
    )
    assert max(residuals_of(problem, lambda p: (p**2).sum(1, keepdim=True) / 2).values()) < 1e-12


def test_several_outputs_in_one_condition():
    problem = BoundaryProblem(
        Interval(0.0, 1.0),
        lambda u, v: (u.x - 1, v.x - 1),
        [Dirichlet(0.0, of=("u", "v"))],
        outputs=("u", "v"),
    )
    found = residuals_of(problem, lambda p: torch.cat([p, p + 2], dim=1))
    assert found["u, v = 0 on the boundary (1)"] == 1.0
    assert found["u, v = 0 on the boundary (2)"] == 3.0
    assert found["the equation (1)"] == found["the equation (2)"] == 0


def test_a_problem_with_a_wrong_sign_is_noticed():
    """The check can fail: Burgers with the sign of the diffusion turned."""
    nu = 0.1

    def travelling(p):  # u = 1 / (1 + exp((x - t / 2) / (2 nu)))
        return torch.sigmoid(-(p[:, :1] - p[:, 1:] / 2) / (2 * nu))

    good = BoundaryProblem(Interval(-1, 1), lambda u: u.t + u * u.x - nu * u.xx, [], time=(0.0, 1.0))
    bad = BoundaryProblem(Interval(-1, 1), lambda u: u.t + u * u.x + nu * u.xx, [], time=(0.0, 1.0))
    assert residuals_of(good, travelling)["the equation"] < 1e-12
    assert residuals_of(bad, travelling)["the equation"] > 0.1
