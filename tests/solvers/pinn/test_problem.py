"""Problems: what is posed, and the named errors for what cannot be."""

import math

import numpy as np
import pytest
import torch

from solvus.meshes.geometry import Ball, Disc, Interval, Rectangle
from solvus.solvers.pinn import (
    BadProblem,
    BoundaryProblem,
    BoundaryResidual,
    Contradiction,
    Data,
    Dirichlet,
    Fixed,
    Hard,
    Initial,
    Neumann,
    NoDerivative,
    NoPoints,
    NotFinite,
    Periodic,
    Robin,
    Unknown,
    UnknownName,
    WrongShape,
)

SQUARE = Rectangle((0.0, 0.0), (1.0, 1.0))


def poisson(u, x, y):
    return u.laplacian + torch.sin(math.pi * x) * y


def posed(equation=poisson, conditions=None, domain=SQUARE, **options):
    conditions = [Dirichlet(0.0)] if conditions is None else list(conditions)
    return BoundaryProblem(domain, equation, conditions, **options)


def test_what_a_problem_says():
    problem = posed(conditions=[Dirichlet(1.0, on="xmin"), Neumann(0.0, on=("xmax", "ymin", "ymax"))])
    assert problem.labels == ("the equation", "u = 1 on xmin", "du/dn = 0 on ('xmax', 'ymin', 'ymax')")
    assert problem.kinds == ("equation", "condition", "condition")
    assert problem.terms[0].plan.laplacian == (0, 1)
    assert problem.terms[2].plan.keys == ((), (0,), (1,))
    assert repr(problem).startswith("BoundaryProblem(u(x, y), 1 equation, u = 1 on xmin")


def test_coordinates():
    assert posed(lambda u: u.x, (), Interval(0, 1)).coordinates == ("x",)
    assert posed(lambda u: u.t - u.xx, (Initial(0.0),), time=(0, 2)).coordinates == ("x", "y", "t")
    ball = posed(lambda u: u.laplacian, (), Ball((0.0,) * 5, 1.0))
    assert ball.coordinates == ("x1", "x2", "x3", "x4", "x5")
    assert posed(time=(0, 2), conditions=()).upper == (1, 1, 2)


def test_several_equations_outputs_and_unknowns():
    def flow(u, v, p, nu):
        return u * u.x + v * u.y + p.x - nu * u.laplacian, u.x + v.y

    problem = posed(
        [flow, lambda u, v: u.y - v.x],
        [Dirichlet(0.0, of=("u", "v")), Fixed((0.0, 0.0), 0.0, of="p")],
        outputs=("u", "v", "p"),
        unknowns={"nu": Unknown(0.1)},
    )
    assert problem.labels[:3] == ("equation 1 (1)", "equation 1 (2)", "equation 2")
    assert problem.labels[3:] == ("u, v = 0 on the boundary (1)", "u, v = 0 on the boundary (2)", "data of p")


# --- bad input, by name ---------------------------------------------------------------------------


def test_no_domain():
    with pytest.raises(BadProblem, match="the domain is a Geometry such as Rectangle"):
        posed(domain="square")


def test_a_domain_without_interior():
    with pytest.raises(NoPoints, match="the domain has no interior"):
        posed(domain=Disc((0, 0), 1.0) - Disc((0, 0), 2.0))


@pytest.mark.parametrize(
    "condition",
    [
        Dirichlet(0.0, on=lambda p: p[:, 0] > 7),
        Neumann(0.0, on=Disc((5, 5), 1.0)),
        Robin(on=lambda p: p[:, 0] < -1),
    ],
)
def test_a_condition_on_no_points(condition):
    with pytest.raises(NoPoints, match="holds on no points"):
        posed(conditions=[condition])


def test_an_unknown_part():
    with pytest.raises(ValueError, match="left"):
        posed(conditions=[Dirichlet(0.0, on="left")])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Dirichlet(0.0), Dirichlet(1.0, on="xmin")),
        (Dirichlet(0.0, on="xmin"), Dirichlet(lambda y: y, on="xmin")),
        (Dirichlet(0.0), Dirichlet(1e-3)),
    ],
)
def test_contradicting_conditions(first, second):
    with pytest.raises(Contradiction, match=r"both prescribe u, for example .* let each have a part"):
        posed(conditions=[first, second])


def test_contradicting_ends_of_an_interval():
    with pytest.raises(Contradiction):
        posed(lambda u: u.xx, [Dirichlet(0.0), Dirichlet(1.0, on="xmin")], Interval(0, 1))


@pytest.mark.parametrize(
    "conditions",
    [
        [Dirichlet(0.0, on="xmin"), Dirichlet(1.0, on="ymin")],  # they meet in a corner
        [Dirichlet(0.0), Dirichlet(0.0, on="xmin")],  # they agree
        [Dirichlet(lambda x: x, on="xmin"), Dirichlet(0.0, on="xmin")],  # x is 0 there
        [Dirichlet(0.0), Neumann(1.0)],
    ],
)
def test_conditions_that_go_together(conditions):
    assert len(posed(conditions=conditions).labels) == 3


def test_other_outputs_do_not_contradict():
    both = [Dirichlet(0.0, of="u"), Dirichlet(1.0, of="v")]
    assert posed(lambda u, v: u.x + v.y, both, outputs=("u", "v")).labels


@pytest.mark.parametrize(
    ("equation", "error", "words"),
    [
        (lambda u: u.xxxxx, NoDerivative, "of order 5"),
        (lambda u: u.z, UnknownName, "u.z is no derivative"),
        (lambda u: u.n, NoDerivative, "on the boundary"),
        (lambda u, w: u.x, UnknownName, "asks for w"),
        (lambda u, x: u.x * x[:, None], WrongShape, "must be"),
        (lambda u, points: u.x[:, None] + points, WrongShape, r"\(7, 2\)"),
        (lambda u: 1.0, WrongShape, "gave float"),
        (lambda u, x: u.xx + torch.log(x - 2), NotFinite, "the equation is nan at x ="),
        (lambda u, x: (u.x, u.xx / (0 * x)), NotFinite, "the equation, part 2 is inf"),
        ([], BadProblem, "there is no equation"),
    ],
)
def test_bad_equations(equation, error, words):
    with pytest.raises(error, match=words):
        posed(equation)


@pytest.mark.parametrize(
    ("condition", "error", "words"),
    [
        (Dirichlet(math.nan), BadProblem, "it must be finite"),
        (Dirichlet(0.0, of="w"), UnknownName, "is about w, the outputs are u"),
        (Dirichlet(lambda u: u, on="xmin"), UnknownName, "asks for u"),
        (Dirichlet(lambda x: torch.log(-1 - x)), NotFinite, "is nan at"),
        (Dirichlet(lambda points: points), WrongShape, r"has shape \(7, 2\)"),
        (Initial(0.0), BadProblem, r"needs time: give the problem time="),
        (Periodic("z"), BadProblem, "a coordinate of space, one of x, y"),
        (Data([[0.5, 0.5]], [1.0, 2.0]), WrongShape, r"data need points \(M, 2\)"),
        (Data([[0.5, 0.5, 0.5]], [1.0]), WrongShape, "columns x, y"),
        (Data([[0.5, math.nan]], [1.0]), BadProblem, "hold NaN"),
        (BoundaryResidual(lambda u, nz: u), UnknownName, "asks for nz"),
        (Dirichlet(0.0, weight=0.0), BadProblem, "the weight of u = 0 on the boundary is positive"),
        ("u = 0", BadProblem, "a condition such as Dirichlet"),
    ],
)
def test_bad_conditions(condition, error, words):
    with pytest.raises(error, match=words):
        posed(conditions=[condition])


def test_bad_names_times_and_constraints():
    with pytest.raises(UnknownName, match="x means two things"):
        posed(outputs=("x",))
    with pytest.raises(BadProblem, match="start < end"):
        posed(time=(1.0, 0.0))
    with pytest.raises(UnknownName, match="a constraint of w was given"):
        posed(constraint={"w": Hard()})
    with pytest.raises(UnknownName, match="the factor of a constraint asks for q"):
        posed(constraint={"u": Hard(factor=lambda q: q)})
    with pytest.raises(BadProblem, match="make the network periodic by its embedding"):
        posed(conditions=[Periodic("x")], constraint={"u": Hard()})
    with pytest.raises(BadProblem, match="finite number"):
        Unknown(math.inf)


def test_points_of_conditions_are_where_they_belong():
    problem = posed(
        lambda u: u.t - u.laplacian,
        [Dirichlet(0.0, on="xmax"), Initial(1.0), Data([[0.1, 0.2, 0.3]], [2.0])],
        time=(2.0, 3.0),
    )
    generator = np.random.default_rng(0)
    edge, start, data = (t.block.where.draw(50, generator).points for t in problem.terms[1:])
    assert (edge[:, 0] == 1).all()
    assert ((edge[:, 2] >= 2) & (edge[:, 2] <= 3)).all()
    assert (start[:, 2] == 2).all()
    assert data.tolist() == [[0.1, 0.2, 0.3]]
