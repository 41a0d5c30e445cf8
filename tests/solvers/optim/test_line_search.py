"""The strong Wolfe search: its conditions, against SciPy, and every way to fail."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import line_search, rosen, rosen_der

from solvus.solvers.optim.line_search import Search, StrongWolfe

Phi = Callable[[float], tuple[float, float, float]]


def wolfe(search: Search[float], value: float, slope: float, c1: float, c2: float) -> bool:
    lowered = search.value <= value + c1 * search.alpha * slope
    return search.alpha > 0 and lowered and abs(search.slope) <= c2 * abs(slope)


def wave(a: float, b: float, c: float, d: float) -> Phi:
    """A function that is bounded below, with several minima."""

    def phi(x: float) -> tuple[float, float, float]:
        value = a * (x - b) ** 2 + c * math.sin(d * x)
        return value, 2 * a * (x - b) + c * d * math.cos(d * x), x

    return phi


def test_a_specimen_that_takes_the_first_step_breaks_the_conditions() -> None:
    phi = wave(1, 5, 0, 1)
    value, slope, _ = phi(0)
    assert not wolfe(Search(*phi(20.0)[2:], *phi(20.0), 1), value, slope, 1e-4, 0.9)
    assert wolfe(StrongWolfe()(phi, value, slope, 20.0), value, slope, 1e-4, 0.9)


@settings(deadline=None, max_examples=200)
@given(
    a=st.floats(1e-3, 1e3),
    b=st.floats(1e-2, 1e2),
    c=st.floats(-5, 5),
    d=st.floats(0.1, 5),
    first=st.floats(1e-4, 1e3),
    c2=st.sampled_from([0.1, 0.5, 0.9]),
)
def test_the_conditions_hold(a: float, b: float, c: float, d: float, first: float, c2: float) -> None:
    phi = wave(a, b, c, d)
    value, slope, _ = phi(0)
    if slope >= -1e-8 * (abs(value) + 1):  # rounding would rule
        return
    search = StrongWolfe(c2=c2, max_evaluations=60)(phi, value, slope, first)
    assert search.failure == ""
    assert search.payload == search.alpha
    assert wolfe(search, value, slope, 1e-4, c2)
    assert (search.value, search.slope) == phi(search.alpha)[:2]


@pytest.mark.parametrize("first", [1e-3, 1e-1, 1e1, 1e3])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_functions_of_more_and_thuente(number: int, first: float) -> None:
    def phi(x: float) -> tuple[float, float, None]:
        if number == 1:  # beta = 2
            return -x / (x * x + 2), (x * x - 2) / (x * x + 2) ** 2, None
        if number == 2:  # beta = 0.004
            y = x + 0.004
            return y**5 - 2 * y**4, 5 * y**4 - 8 * y**3, None
        return (x - 1) ** 2 + 0.05 * math.sin(20 * x), 2 * (x - 1) + math.cos(20 * x), None

    value, slope, _ = phi(0)
    search = StrongWolfe(c1=1e-3, c2=0.1)(phi, value, slope, first)
    assert search.failure == ""
    assert search.evaluations <= 16


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_a_step_where_scipy_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=6)
    p = -rosen_der(x) * rng.uniform(1e-4, 1e-2)
    value, slope = rosen(x), rosen_der(x) @ p
    theirs = line_search(rosen, rosen_der, x, p, c1=1e-4, c2=0.9)

    def phi(alpha: float) -> tuple[float, float, float]:
        return rosen(x + alpha * p), rosen_der(x + alpha * p) @ p, alpha

    ours = StrongWolfe()(phi, value, slope)
    assert theirs[0] is not None
    assert ours.failure == ""
    assert wolfe(ours, value, slope, 1e-4, 0.9)
    assert ours.evaluations <= theirs[1] + 2


def test_a_quadratic_takes_two_evaluations() -> None:
    search = StrongWolfe(c2=0.01)(lambda a: ((a - 0.3) ** 2, 2 * (a - 0.3), None), 0.09, -0.6)
    assert search.alpha == pytest.approx(0.3, abs=1e-14)
    assert search.evaluations == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_only_shortens_the_step(bad: float) -> None:
    def phi(a: float) -> tuple[float, float, float]:
        if a >= 0.01:
            return bad, math.nan, a
        return -math.log1p(a) - 0.01 * math.log(0.01 - a), -1 / (1 + a) + 0.01 / (0.01 - a), a

    value, slope = 0.01 * -math.log(0.01), -1 + 1.0 - 1e-3
    search = StrongWolfe()(lambda a: (phi(a)[0] - 0.02 * a, phi(a)[1] - 0.02, a), value, slope - 0.02)
    assert 0 < search.alpha < 0.01
    assert search.failure == ""


def test_an_uphill_direction_fails_at_once() -> None:
    search = StrongWolfe()(lambda a: (a, 1.0, a), 0.0, 1.0)
    assert (search.alpha, search.payload, search.evaluations) == (0, None, 0)
    assert search.failure == "the direction does not descend (slope 1)"
    assert "nan" in StrongWolfe()(lambda a: (a, 1.0, a), 0.0, math.nan).failure


def test_a_wrong_slope_ends_in_a_bracket_of_rounding() -> None:
    search = StrongWolfe(max_evaluations=200)(lambda a: (1 + a, -1.0, a), 1.0, -1.0)
    assert search.alpha == 0
    assert search.payload is None
    assert search.failure in ("the bracket has shrunk to rounding", "200 evaluations were not enough")


def test_few_evaluations_give_the_lowest_point_and_a_reason() -> None:
    search = StrongWolfe(max_evaluations=3)(lambda a: (-a, -1.0, a), 0.0, -1.0)  # has no minimum
    assert search.failure == "3 evaluations were not enough"
    assert search.alpha == search.payload == 100.0
    assert search.value == -100.0


def test_a_decrease_hidden_by_rounding_is_taken_on_request() -> None:
    def phi(a: float) -> tuple[float, float, float]:
        return 1.0 + 1e-15 * (a > 0), 1e-20 * (a - 1), a  # the true function falls, its values do not

    assert StrongWolfe(max_evaluations=9)(phi, 1.0, -1e-20, 0.8).alpha == 0
    search = StrongWolfe(rounding=1e-12)(phi, 1.0, -1e-20, 0.8)
    assert (search.alpha, search.failure) == (0.8, "")


@pytest.mark.parametrize(("c1", "c2"), [(0.0, 0.9), (0.5, 0.4), (1e-4, 1.0)])
def test_wrong_constants(c1: float, c2: float) -> None:
    with pytest.raises(ValueError, match="needed is 0 < c1 < c2 < 1"):
        StrongWolfe(c1, c2)


def test_no_evaluations() -> None:
    with pytest.raises(ValueError, match="max_evaluations=0: at least one"):
        StrongWolfe(max_evaluations=0)
