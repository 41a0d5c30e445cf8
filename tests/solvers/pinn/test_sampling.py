"""Points that are drawn anew: their density by chi-square, their number, and exact repetition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from solvus.solvers.pinn.sampling import RAD, RAR, RARD, FixedPoints, Sampling, Uniform, Until
from solvus.solvers.pinn.sampling.adaptive import choose, density

CASES: list[Sampling] = [FixedPoints(), Uniform(), RAD(pool=500), RARD(pool=500), RAR(pool=500)]
BINS = 20


def uniform(seed: int, dtype: torch.dtype = torch.float64) -> Callable[[int], Tensor]:
    g = torch.Generator().manual_seed(seed)
    return lambda n: torch.rand(n, 1, generator=g, dtype=dtype)


def peak(x: Tensor) -> Tensor:
    return torch.exp(-50 * (x[:, 0] - 0.3) ** 2)


def renewed(sampling: Sampling, n: int, seed: int = 0, residual: Callable[[Tensor], Tensor] = peak) -> Tensor:
    present = torch.full((n, 1), 0.5, dtype=torch.float64)
    return sampling.renew(present, uniform(seed), residual, np.random.default_rng(seed))


def p_value(points: Tensor, k: float, c: float) -> float:
    """Return the chi-square p-value of points in [0, 1] against e^k / mean(e^k) + c, by quadrature."""
    middle = (torch.arange(BINS * 500, dtype=torch.float64)[:, None] + 0.5) / (BINS * 500)
    powers = peak(middle) ** k
    p = (powers / powers.mean() + c).reshape(BINS, -1).sum(1).numpy()
    expected = p / p.sum() * len(points)
    found = np.histogram(points[:, 0].numpy(), bins=BINS, range=(0, 1))[0]
    keep = expected > 5
    rest = [found[~keep].sum()], [expected[~keep].sum()]
    counts = [np.append(a[keep], b) for a, b in ((found, rest[0]), (expected, rest[1]))]
    if counts[1][-1] == 0:
        counts = [a[:-1] for a in counts]
    return float(chisquare(*counts).pvalue)


@pytest.mark.parametrize(("k", "c"), [(1.0, 1.0), (2.0, 0.0), (1.0, 0.0), (0.5, 2.0)])
def test_rad_follows_the_density(k: float, c: float):
    points = renewed(RAD(k=k, c=c), 3000)
    assert points.shape == (3000, 1)
    assert p_value(points, k, c) > 1e-3


@pytest.mark.parametrize(("k", "c"), [(2.0, 0.0), (1.0, 1.0)])
def test_what_rard_adds_follows_the_density(k: float, c: float):
    points = renewed(RARD(k=k, c=c, add=3000), 50)
    assert torch.equal(points[:50], torch.full((50, 1), 0.5, dtype=torch.float64))
    assert p_value(points[50:], k, c) > 1e-3


def test_other_densities_fail_the_test():
    assert p_value(renewed(Uniform(), 3000), 1.0, 1.0) < 1e-6
    assert p_value(renewed(RAD(k=1.0, c=1.0), 3000), 2.0, 0.0) < 1e-6
    assert p_value(renewed(RAD(k=2.0, c=0.0), 3000), 1.0, 0.0) < 1e-6


def test_uniform_points_are_uniform():
    found = np.histogram(renewed(Uniform(), 3000)[:, 0].numpy(), bins=BINS, range=(0, 1))[0]
    assert chisquare(found).pvalue > 1e-3


@pytest.mark.parametrize("sampling", CASES, ids=lambda s: type(s).__name__)
class TestEverySampling:
    def test_repeats_exactly_from_its_generators(self, sampling: Sampling):
        assert torch.equal(renewed(sampling, 40, seed=3), renewed(sampling, 40, seed=3))

    def test_points_lie_in_the_domain_and_have_the_type_given(self, sampling: Sampling):
        points = renewed(sampling, 40)
        assert points.dtype == torch.float64
        assert points.shape[1] == 1
        assert len(points) >= 40
        assert ((points >= 0) & (points <= 1)).all()

    def test_leaves_the_points_it_was_given(self, sampling: Sampling):
        present = torch.full((40, 1), 0.5)
        sampling.renew(present, uniform(0, torch.float32), peak, np.random.default_rng(0))
        assert torch.equal(present, torch.full((40, 1), 0.5))

    def test_does_not_touch_global_generators(self, sampling: Sampling):
        before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["pos"]  # pyright: ignore
        renewed(sampling, 40)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state(legacy=False)["state"]["pos"] == before[1]  # pyright: ignore


@pytest.mark.parametrize("sampling", CASES[2:], ids=lambda s: type(s).__name__)
def test_another_generator_gives_other_points(sampling: Sampling):
    assert not torch.equal(renewed(sampling, 40, seed=3), renewed(sampling, 40, seed=4))


@pytest.mark.parametrize("sampling", CASES[2:], ids=lambda s: type(s).__name__)
def test_a_residual_that_is_not_finite_is_named(sampling: Sampling):
    def broken(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0.9, torch.nan, x[:, 0])

    message = (
        r"the residual is not finite at \d+ of 500 points, first at \(0\.9\d*\): the training has diverged"
    )
    with pytest.raises(FloatingPointError, match=message):
        renewed(sampling, 40, residual=broken)
    with pytest.raises(ValueError, match=r"the residual at 500 points has shape \(500,\), got \(500, 1\)"):
        renewed(sampling, 40, residual=lambda x: x)


def test_fixed_points_stay():
    present = torch.rand(5, 2)
    assert FixedPoints().renew(present, uniform(0), peak, np.random.default_rng(0)) is present


@pytest.mark.parametrize("sampling", [RARD(add=30, limit=100, pool=500), RAR(add=30, limit=100, pool=500)])
def test_the_limit_is_kept(sampling: Sampling):
    points, counts = torch.zeros(50, 1, dtype=torch.float64), []
    for seed in range(4):
        points = sampling.renew(points, uniform(seed), peak, np.random.default_rng(seed))
        counts.append(len(points))
    assert counts == [80, 100, 100, 100]
    many = torch.zeros(150, 1, dtype=torch.float64)
    assert sampling.renew(many, uniform(0), peak, np.random.default_rng(0)) is many


def test_rar_adds_the_points_of_largest_residual():
    candidates = uniform(0)(500)
    best = peak(candidates).argsort(descending=True)[:7]
    found = renewed(RAR(add=7, pool=500), 10)
    torch.testing.assert_close(found[10:], candidates[best])


def test_the_points_chosen_are_different_ones():
    points = renewed(RAD(k=8, c=0, pool=200), 150)
    assert len(points.unique()) == 150


@given(
    residual=st.lists(st.floats(0, 1e100), min_size=1, max_size=30),
    k=st.floats(0, 4),
    c=st.floats(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_the_density_is_a_probability_and_does_not_see_the_scale(residual: list[float], k: float, c: float):
    e = np.array(residual)
    p = density(e, k, c)
    assert p.sum() == pytest.approx(1)
    assert (p >= 0).all()
    np.testing.assert_allclose(density(e * 2.0**40, k, c), p, rtol=1e-9, atol=1e-300)


def test_the_density_is_its_formula():
    e = np.array([0.5, 1.0, 4.0])
    p = e**2 / (e**2).mean() + 0.3
    np.testing.assert_allclose(density(e, 2, 0.3), p / p.sum())
    assert density(np.zeros(4), 2, 0).tolist() == [0.25] * 4


def test_choices_without_replacement_have_the_probabilities_of_successive_draws():
    p, found = np.array([0.5, 0.3, 0.2, 0.0]), np.zeros((4, 4))
    for seed in range(6000):
        first, second = choose(p, 2, np.random.default_rng(seed))
        found[first, second] += 1
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    expected = [6000 * p[i] * p[j] / (1 - p[i]) for i, j in pairs]
    assert found[3].sum() + found[:, 3].sum() == 0
    assert chisquare([found[i, j] for i, j in pairs], expected).pvalue > 1e-3
    assert sorted(choose(p, 4, np.random.default_rng(0))) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(every=0), r"every 1 step or more, got every=0; FixedPoints\(\) never does"),
        (lambda: FixedPoints(every=5), r"never renewed, got every=5: use Uniform\(every=\.\.\.\)"),
        (lambda: RAD(k=-1), "k and c are finite and at least 0, got k=-1 and c=1"),
        (lambda: RAD(pool=0), "the pool has at least 1 point, got 0"),
        (lambda: RARD(add=0), "at least 1 point is added, and at most the pool of 100000, got add=0"),
        (lambda: RAR(add=9, pool=8), "at most the pool of 8, got add=9"),
        (lambda: renewed(RAD(pool=30), 40), "RAD chooses 40 points from 30: give pool=400 or more"),
    ],
)
def test_wrong_settings_are_named(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


# --- an early stretch of time -----------------------------------------------------------------------


def timed(first: float, last: float) -> Callable[[int], Tensor]:
    g = torch.Generator().manual_seed(0)
    low, high = torch.tensor([0.0, first]), torch.tensor([1.0, last])
    return lambda n: low + (high - low) * torch.rand(n, 2, generator=g, dtype=torch.float64)


def stretches(until: Until, residual: Callable[[Tensor], Tensor], time: tuple[float, float], times: int = 40):
    """Return where the stretch ends after every renewal, and the points of the last one."""
    state, rng, draw, found = until.start(time, {}), np.random.default_rng(0), timed(*time), []
    points = draw(100)
    for _ in range(times):
        points = until.renew(points, draw, residual, rng, state)
        found.append(state["until"])
    return found, points


def late_is_small(x: Tensor) -> Tensor:
    return torch.exp(-50 * x[:, 1])


def small(x: Tensor) -> Tensor:
    return 0 * x[:, 1]


@pytest.mark.parametrize(
    "until",
    [
        Until(RAD(k=2, c=0, pool=1000), 0.5),
        Until(RAD(k=2, c=0, pool=1000), 0.5, growth=1.5, tolerance=1e-30),
        Until(Uniform(), 0.5, power=3.0),
    ],
)
def test_a_stretch_stays_where_the_points_are_early(until: Until):
    found, _ = stretches(until, late_is_small, (0.0, 1.0))
    assert found == [0.5] * 40


@pytest.mark.parametrize("inner", [Uniform(), RAD(k=8, c=0, pool=1000)])
def test_a_stretch_grows_to_the_end_of_time(inner: Sampling):
    until = Until(inner, 1.1, growth=1.5, tolerance=0.01)
    found, points = stretches(until, lambda x: late_is_small(x - 1), (1.0, 3.0))
    assert found[0] == 1.1  # nothing was trained before
    lengths = [t - 1 for t in found]
    assert lengths[:10] == pytest.approx([min(0.1 * 1.5**k, 2.0) for k in range(10)])
    assert found[-1] == 3.0
    assert float(points[:, 1].min()) >= 1
    assert float(points[:, 1].max()) <= 3


def test_a_stretch_does_not_grow_where_the_equation_does_not_hold():
    assert stretches(Until(Uniform(), 0.2, growth=2.0), lambda x: small(x) + 1, (0.0, 1.0))[0][-1] == 0.2
    new = lambda x: (x[:, 1] > 0.1).double()  # noqa: E731  only in the newest part
    assert stretches(Until(Uniform(), 0.2, growth=2.0), new, (0.0, 1.0))[0][-1] == 0.2


@pytest.mark.parametrize("inner", [Uniform(every=3), RAD(every=5, pool=500)])
def test_points_of_a_stretch(inner: Sampling):
    """Time begins where the problem's does; t = 1 + 0.8 s^2 has the median 1.2."""
    until = Until(inner, 1.8, power=2.0)
    points = stretches(until, lambda x: small(x) + 1, (1.0, 5.0), times=1)[1][:, 1]
    assert until.every == inner.every
    assert float(points.min()) >= 1
    assert 1.7 < float(points.max()) <= 1.8
    assert float(points.median()) == pytest.approx(1.2, abs=0.12)


def test_a_stretch_goes_on_from_phase_to_phase():
    before = Until(Uniform(), 0.3).start((0.0, 1.0), {})
    assert Until(Uniform()).start((0.0, 1.0), before)["until"] == 0.3
    assert Until(Uniform(), 0.7).start((0.0, 1.0), before)["until"] == 0.7
    assert Until(Uniform()).start((0.0, 1.0), {})["until"] == 1.0
    assert Uniform().start((0.0, 1.0), before) == {}


def test_the_pool_grows_with_the_points():
    asked: list[int] = []

    def draw(n: int) -> Tensor:
        asked.append(n)
        return uniform(0)(n)

    for n in (50, 2000, 8192):
        RAD(pool=None).renew(torch.zeros(n, 1), draw, peak, np.random.default_rng(0))
    assert asked == [10_000, 10_000, 40_960]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Until(FixedPoints()), r"drawn anew, got FixedPoints: use Until\(Uniform\(every=\.\.\.\)\)"),
        (lambda: Until(RARD()), "drawn anew, got RARD"),
        (
            lambda: Until(Uniform(), growth=0.5),
            "growth is at least 1, tolerance and power are positive, got 0.5",
        ),
        (
            lambda: Until(Uniform()).check(9, None),
            r"the problem has no time: give BoundaryProblem\(\.\.\., time=",
        ),
        (lambda: Until(Uniform()).start(None, {}), "the problem has no time"),
        (
            lambda: Until(Uniform(), 1.0).check(9, (1.0, 2.0)),
            "ends in the problem's time, after 1 and at 2 at the latest, got time=1",
        ),
        (lambda: Until(Uniform(), 3.0).start((1.0, 2.0), {}), "at 2 at the latest, got time=3"),
        (lambda: Until(RAD(pool=8), 1.5).check(9, (1.0, 2.0)), "RAD chooses 9 points from 8"),
    ],
)
def test_wrong_stretches_are_named(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_stretch_needs_its_state_and_an_object():
    with pytest.raises(TypeError, match="pass the state that `start` returned"):
        Until(Uniform()).renew(torch.zeros(3, 2), timed(0, 1), small, np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"Until\(Uniform\(\)\), got 100\.0"):
        Until(100.0, Uniform())  # pyright: ignore[reportArgumentType]
