"""Problems: what is posed, and the named errors for what cannot be."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from solvus.meshes import l_shape
from solvus.meshes.geometry import Ball, Box, Disc, Interval, MeshGeometry, Rectangle
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
from solvus.solvers.pinn.problem import COLUMNS, _numbered

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
    walls = ("u, v = 0 on the boundary (1)", "u, v = 0 on the boundary (2)")
    assert problem.labels[3:] == (*walls, "p = 0 at a point")


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


BALL, CORE = Ball((0.0, 0.0, 0.0), 1.0), Ball((0.0, 0.0, 0.0), 0.95)
WIDE, HOLE = Disc((0.0, 0.0), 1.0), Disc((0.0, 0.0), 0.99)
DOT, SPECK = Disc((0.5, 0.5), 0.03), Disc((0.5, 0.5), 0.003)


@pytest.mark.parametrize(
    ("domain", "one", "other"),
    [
        (Box((0.0, 0.0, 0.0), (1.0, 1.0, 0.03)), "zmin", "zmax"),
        (BALL - CORE, BALL, CORE),
        (WIDE - HOLE, WIDE, HOLE),
        (SQUARE - DOT, SQUARE, "circle"),
        (Interval(0.0, 1e-3), "xmin", "xmax"),
        (Rectangle((0.0, 0.0), (1.0, 1e-4)), "ymin", lambda p: p[:, 1] > 0.5e-4),
        (SQUARE, "xmin", lambda p: p[:, 0] > 0),
        (SQUARE, "ymin", lambda p: p[:, 0] < 1e-3),  # a predicate with some room takes a bit of ymin
        (Box((0.0,) * 6, (1.0,) * 6), "x1min", "x2max"),
        (MeshGeometry(l_shape(4)), "reentrant", "ymax"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_parts_may_lie_close_together(domain, one, other):
    conditions = [Dirichlet(0.0, on=one), Dirichlet(1.0, on=other)]
    assert len(posed(lambda u: u.laplacian, conditions, domain).labels) == 3


@pytest.mark.parametrize(
    ("domain", "one", "other"),
    [
        (SQUARE, None, "xmin"),
        (SQUARE, "xmin", lambda p: p[:, 0] < 0.5),
        (SQUARE, SQUARE, ("xmin", "ymax")),
        (SQUARE - DOT, None, "circle"),
        (SQUARE - SPECK, None, "circle"),
        (SQUARE - DOT, lambda p: np.hypot(*(p - 0.5).T) < 0.1, DOT),
        (BALL - CORE, BALL, lambda p: p[:, 2] > 0.9),
        (Box((0.0,) * 6, (1.0,) * 6), None, "x3min"),
        (MeshGeometry(l_shape(4)), "reentrant", lambda p: p[:, 0] == 0),
        (Interval(0.0, 1.0), "xmin", lambda p: p[:, 0] < 0.5),
        (SQUARE, lambda p: p[:, 0] < 0.5, lambda p: p[:, 0] > 0.4),
    ],
    ids=lambda v: type(v).__name__,
)
def test_one_part_by_two_names(domain, one, other):
    """In either order, and whichever is the smaller one."""
    for first, second in [(one, other), (other, one)]:
        with pytest.raises(Contradiction, match=r"both prescribe u, for example 0 and 1 at"):
            posed(lambda u: u.laplacian, [Dirichlet(0.0, on=first), Dirichlet(1.0, on=second)], domain)
        assert posed(lambda u: u.laplacian, [Dirichlet(1.0, on=first), Dirichlet(1.0, on=second)], domain)


def test_contradictions_at_the_start():
    def at_start(*conditions):
        return posed(lambda u, v: (u.t, v.t), conditions, outputs=("u", "v"), time=(0.0, 1.0))

    with pytest.raises(Contradiction, match="u = 0 at the start and u, v = 1 at the start both prescribe u"):
        at_start(Initial(0.0), Initial(1.0, of=("u", "v")))
    with pytest.raises(Contradiction, match="u_t = 0 at the start and u_t = f at the start both prescribe u"):
        at_start(Initial(0.0, order=1), Initial(lambda x: x, order=1))
    assert at_start(Initial(0.0), Initial(1.0, order=1), Initial(1.0, of="v"))
    assert at_start(Initial(lambda x: x**2), Initial(lambda x: x * x))
    assert at_start(Initial(1.0), Dirichlet(0.0))  # they meet at the edge of space and time


@pytest.mark.parametrize(
    ("point", "value", "others"),
    [
        ((0.0, 0.5), 5.0, [Dirichlet(0.0)]),
        ((0.0, 0.5), 5.0, [Dirichlet(0.0, on=lambda p: p[:, 0] == 0)]),
        ((0.0, 0.0), 5.0, [Dirichlet(0.0, on="xmin"), Dirichlet(1.0, on="ymin")]),
        ((0.0, 0.0), 5.0, [Dirichlet(0.0, on="ymin")]),
        ((0.53, 0.5), 5.0, [Dirichlet(lambda x: x, on="circle")]),
        ((0.3, 0.3), 5.0, [Fixed((0.3, 0.3), 4.0)]),
    ],
)
def test_a_fixed_value_against_what_holds_at_its_point(point, value, others):
    for conditions in ([*others, Fixed(point, value)], [Fixed(point, value), *others]):
        with pytest.raises(Contradiction, match=r"both prescribe u, .*: leave one of them out"):
            posed(conditions=conditions, domain=SQUARE - DOT)


@pytest.mark.parametrize(
    ("point", "value", "others"),
    [
        ((0.1, 0.5), 5.0, [Dirichlet(0.0)]),  # inside
        ((0.0, 0.5), 5.0, [Dirichlet(0.0, on="xmax"), Dirichlet(0.0, on=lambda p: p[:, 0] > 0)]),
        ((0.0, 0.5), 0.5, [Dirichlet(lambda y: y, on="xmin")]),
        ((0.0, 0.0), 1.0, [Dirichlet(0.0, on="xmin"), Dirichlet(1.0, on="ymin")]),  # one of two, in a corner
        ((0.3, 0.3), 5.0, [Fixed((0.3, 0.4), 4.0)]),
        ((0.0, 0.5), 5.0, [Neumann(0.0)]),
    ],
)
def test_a_fixed_value_that_goes_with_the_rest(point, value, others):
    assert posed(conditions=[*others, Fixed(point, value)], domain=SQUARE - DOT).labels


def test_fixed_values_in_time_and_on_seams():
    def timed(*conditions):
        return posed(lambda u: u.t, conditions, time=(0.0, 1.0))

    with pytest.raises(Contradiction, match="u = 1 at the start and u = 2 at a point"):
        timed(Initial(1.0), Fixed((0.5, 0.5, 0.0), 2.0))
    with pytest.raises(Contradiction, match="u = 0 on the boundary and u = 2 at a point"):
        timed(Initial(1.0), Dirichlet(0.0), Fixed((0.0, 0.5, 0.7), 2.0))
    assert timed(Initial(1.0), Dirichlet(0.0), Fixed((0.0, 0.5, 0.0), 1.0))
    assert timed(Initial(1.0), Dirichlet(0.0), Fixed((0.5, 0.5, 0.5), 2.0))
    assert timed(Initial(1.0, order=1), Fixed((0.5, 0.5, 0.0), 2.0))
    two = SQUARE | Rectangle((1.0, 0.0), (2.0, 1.0))
    assert posed(conditions=[Dirichlet(0.0), Fixed((1.0, 0.5), 2.0)], domain=two).labels  # inside
    with pytest.raises(Contradiction):
        posed(conditions=[Dirichlet(0.0), Fixed((1.0, 1.0), 2.0)], domain=two)


def test_values_that_are_to_be_found_do_not_contradict():
    conditions = [Dirichlet(lambda k: k), Fixed((0.0, 0.5), 3.0)]
    assert len(posed(conditions=conditions, unknowns={"k": Unknown(1.0)}).labels) == 3


def test_labels_are_unique():
    left, right = (lambda p: p[:, 0] < 0.1), (lambda p: p[:, 0] > 0.9)
    conditions = [
        Dirichlet(lambda x: x, on=left),
        Data([[0.5, 0.5]], [1.0]),
        Dirichlet(lambda x: x, on=right),
        Data([[0.6, 0.5]], [1.0]),
        BoundaryResidual(lambda u: (u, u.n), on="ymin"),
        BoundaryResidual(lambda u: (u, u.n), on="ymax"),
        BoundaryResidual(lambda u: (u, u.n), on="ymin"),
    ]
    labels = posed(conditions=conditions).labels
    assert labels == (
        "the equation",
        "u = f on a selection, no. 1",
        "data of u, no. 1",
        "u = f on a selection, no. 2",
        "data of u, no. 2",
        "a residual on ymin, no. 1 (1)",
        "a residual on ymin, no. 1 (2)",
        "a residual on ymax (1)",
        "a residual on ymax (2)",
        "a residual on ymin, no. 2 (1)",
        "a residual on ymin, no. 2 (2)",
    )
    assert len(set(labels)) == len(labels)


@given(st.lists(st.sampled_from(["a", "a, no. 1", "a, no. 2", "b", "a, no. 1, no. 1"]), max_size=8))
def test_numbered_names_are_unique(names):
    found = _numbered(names)
    assert len(set(found)) == len(names)
    assert all(new.startswith(old) for new, old in zip(found, names, strict=True))
    assert all(new == old for new, old in zip(found, names, strict=True) if names.count(old) == 1)


@pytest.mark.parametrize("name", COLUMNS)
def test_names_of_columns_of_the_history_are_taken(name):
    with pytest.raises(BadProblem, match=f"{name} is a column of the history .*: rename"):
        posed(unknowns={name: Unknown()})
    with pytest.raises(BadProblem, match=f"{name} is a column of the history"):
        posed(outputs=("u", name))


def test_names_of_residuals_are_taken():
    with pytest.raises(BadProblem, match="the equation is a column of the history"):
        posed(unknowns={"the equation": Unknown()})


def test_the_columns_are_those_of_a_history():
    from solvus.solvers.pinn import MLP, PINN, Run

    problem = posed(unknowns={"k": Unknown()})
    row = Run(problem, PINN(MLP(width=4, depth=1))).report()
    assert set(row) | {"error"} == {*COLUMNS, *problem.labels, "k"}


def test_names_of_normals_are_taken():
    for taken in ({"outputs": ("u", "nx")}, {"unknowns": {"ny": Unknown()}}):
        with pytest.raises(BadProblem, match="means a component of the outward normal on the boundary"):
            posed(**taken)
    assert posed(unknowns={"nz": Unknown()}).normals == ("nx", "ny")


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
        (lambda u: (), WrongShape, "the equation returned no residual"),
        (torch.sin, BadProblem, r"named arguments, such as lambda u: sin\(u\)"),
        (lambda nu: nu, WrongShape, r"has shape \(\), there are 7 points: it must be \(7,\)"),
    ],
)
def test_bad_equations(equation, error, words):
    with pytest.raises(error, match=words):
        posed(equation, unknowns={"nu": Unknown()})


def test_made_up_values_are_those_of_a_share():
    assert posed(lambda u: u.laplacian + torch.sqrt(1 - u**2) + torch.log(u) / (1 - u.x)).labels


@pytest.mark.parametrize(
    ("condition", "error", "words"),
    [
        (Dirichlet(math.nan), BadProblem, "it must be finite"),
        (Dirichlet(0.0, of="w"), UnknownName, "is about w, the outputs are u"),
        (Dirichlet(lambda u: u, on="xmin"), UnknownName, "asks for u"),
        (Dirichlet(lambda x: torch.log(-1 - x)), NotFinite, "is nan at"),
        (Dirichlet(lambda points: points), WrongShape, r"has shape \(7, 2\)"),
        (Dirichlet(torch.sin), BadProblem, r"is sin, .* such as lambda x: sin\(x\)"),
        (Dirichlet(torch.ones(5)), WrongShape, "gave Tensor: a number, or a function of coordinates"),
        (Dirichlet(None), WrongShape, "gave NoneType: a number, or a function"),
        (Dirichlet(lambda x: None), WrongShape, "gave NoneType: a number, or a tensor of 7 numbers"),
        (Dirichlet(of=()), BadProblem, "Dirichlet is about no output"),
        (Data([[0.5, 0.5]], np.zeros((1, 0)), of=()), BadProblem, "Data is about no output"),
        (Fixed((0.0, 0.0), math.nan), BadProblem, "it must be finite"),
        (Fixed((0.0, 0.0), lambda x: x), WrongShape, "gave function: a number is needed"),
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
    with pytest.raises(BadProblem, match=r"the lift of a constraint is a function .* got 0\.0"):
        posed(constraint={"u": Hard(lift=0.0)})  # pyright: ignore[reportArgumentType]
    with pytest.raises(WrongShape, match=r"the factor of u has shape \(7, 1\), there are 7 points"):
        posed(constraint={"u": Hard(factor=lambda points: points[:, :1])})
    with pytest.raises(NotFinite, match=r"the lift of v is nan at x = .*: mend its functions there"):
        posed(outputs=("u", "v"), constraint={"v": Hard(lambda x: torch.log(-x))})
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
