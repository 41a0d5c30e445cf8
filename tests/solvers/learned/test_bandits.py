"""Bandits: a contract for every learner with a wrong specimen, the published formulas, regret, restoring."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, lsq_linear

from solvus.solvers.learned.bandits import (
    ChebCB,
    ContextBins,
    Learner,
    ReducedVarianceTsallisINF,
    TsallisINF,
)
from solvus.solvers.learned.bandits.box_least_squares import minimize_in_box, work_size
from solvus.solvers.learned.bandits.tsallis_inf import tsallis_probabilities

ARMS = 4
LEARNERS = {
    "tsallis": lambda: TsallisINF(ARMS, floor=1.0),
    "reduced": lambda: ReducedVarianceTsallisINF(ARMS, floor=1.0),
    "chebcb": lambda: ChebCB(ARMS, (0.0, 1.0), floor=1.0),
    "bins": lambda: ContextBins(lambda: TsallisINF(ARMS, floor=1.0), 3, (0.0, 1.0)),
    "bins of chebcb": lambda: ContextBins(lambda: ChebCB(ARMS, (0.0, 1.0), floor=1.0), 2, (0.0, 1.0)),
}


class Uniform(Learner):
    """The wrong specimen: learns nothing, and forgets its state."""

    def choose(self, context, generator):
        return int(generator.integers(self.arms))

    def learn(self, context, arm, loss):
        self.last = loss

    def settings(self):
        return {}

    def memory(self):
        return []


def losses(contexts, generator):
    """Arm 1 is best everywhere, by a margin."""
    means = np.array([9.0, 3.0, 7.0, 12.0])
    return np.maximum(1.0, means + contexts[:, None] + generator.normal(size=(len(contexts), ARMS)))


def play(learner, contexts, table, generator):
    arms = []
    for context, row in zip(contexts, table, strict=True):
        arm = learner.choose(context, generator)
        learner.learn(context, arm, row[arm])
        arms.append(arm)
    return np.array(arms)


def learns(make):
    """Whether a learner plays the best arm most of the time in the end."""
    generator = np.random.default_rng(3)
    contexts = generator.random(3000)
    arms = play(make(), contexts, losses(contexts, generator), generator)
    return np.mean(arms[-500:] == 1) > 0.7


@pytest.mark.parametrize("name", LEARNERS)
def test_learner_finds_the_best_arm(name):
    assert learns(LEARNERS[name])


def test_one_that_does_not_learn_is_found():
    assert not learns(lambda: Uniform(ARMS))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_restored_learner_continues_bit_for_bit(name):
    contexts = np.random.default_rng(0).random(300)
    table = losses(contexts, np.random.default_rng(1))
    whole, generator = LEARNERS[name](), np.random.default_rng(2)
    first = play(whole, contexts[:137], table[:137], generator)
    state = json.loads(json.dumps(whole.state(), allow_nan=False))
    place = generator.bit_generator.state
    rest = play(whole, contexts[137:], table[137:], generator)

    half, again = LEARNERS[name](), np.random.default_rng(99)
    half.restore(state)
    again.bit_generator.state = place
    assert np.array_equal(play(half, contexts[137:], table[137:], again), rest)
    assert half.state() == whole.state()
    forgetful = LEARNERS[name]()
    assert forgetful.state() != state
    assert len(set(first)) > 1


@pytest.mark.parametrize("name", LEARNERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_losses_are_borne(name, data):
    """Equal, zero, huge and tiny losses, in any order, and contexts out of range."""
    learner, generator = LEARNERS[name](), np.random.default_rng(0)
    kinds = st.sampled_from([0.0, 1.0, 1e-9, 1e9, 5.0])
    for loss in data.draw(st.lists(kinds, min_size=1, max_size=60)):
        context = data.draw(st.floats(-1, 2))
        arm = learner.choose(context, generator)
        assert 0 <= arm < ARMS
        learner.learn(context, arm, loss)
    assert all(np.isfinite(part).all() for part in learner.memory())


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.floats(1e-3, 4.0))
@settings(max_examples=200, deadline=None)
def test_probabilities_solve_the_equation(estimates, eta):
    """Against a bracketing root finder; estimates may be negative."""
    estimates = np.array(estimates)
    p = np.empty(len(estimates))
    tsallis_probabilities(estimates, eta, p)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    low = estimates.min()

    def excess(gap):
        return np.sum(4 / (eta * (estimates - low + gap)) ** 2) - 1

    gap = brentq(excess, 2 / eta * (1 - 1e-12), 2 / eta * np.sqrt(len(estimates)) * (1 + 1e-9), xtol=1e-14)
    np.testing.assert_allclose(p, 4 / (eta * (estimates - low + gap)) ** 2, rtol=1e-6, atol=1e-12)


def test_a_start_at_minus_one_fails_where_ours_holds():
    """The start that is right for positive estimates only: the specimen that the property above is for."""
    estimates, eta, x = np.array([-3.0, 0.5]), 1.0, -1.0
    for _ in range(20):
        p = 4 * (eta * (estimates - x)) ** -2.0
        x -= (p.sum() - 1) / (eta * np.sum(p**1.5))
    assert not (x < estimates.min() and abs(p.sum() - 1) < 1e-3)


def test_weights_by_the_published_formulas():
    """Two steps of Tsallis-INF by hand: uniform at first; k = (loss - 1) / p, scale = mean loss - 1."""
    learner, generator = TsallisINF(2, floor=1.0), np.random.default_rng(0)
    arm = learner.choose(0.0, generator)
    np.testing.assert_allclose(learner.probabilities, 0.5)
    learner.learn(0.0, arm, 9.0)
    learner.choose(0.0, generator)
    estimates = np.zeros(2)
    estimates[arm] = (9.0 - 1.0) / 0.5 / (9.0 - 1.0)
    expected = np.empty(2)
    tsallis_probabilities(estimates, 2 / np.sqrt(2), expected)
    np.testing.assert_allclose(learner.probabilities, expected)


def test_baselines_keep_the_estimates_unbiased():
    """With p >= eta^2 the estimate is 1/2 for the arms that rest, and 1/2 + (loss - 1/2) / p on average."""
    learner, generator = ReducedVarianceTsallisINF(2), np.random.default_rng(1)
    for _ in range(400):
        arm = learner.choose(0.0, generator)
        learner.learn(0.0, arm, 1.0)
    estimates = learner.memory()[0][4:6] / 1.0 + learner.memory()[0][6:8]
    assert estimates / 400 == pytest.approx(np.ones(2), abs=0.15)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 30), st.floats(0.05, 2.0))
@settings(max_examples=40, deadline=None)
def test_fit_against_scipy(seed, terms, count, bound):
    """Bounded least squares: one fit, from any start, reaches the minimum that SciPy finds."""
    generator = np.random.default_rng(seed)
    X, y = generator.uniform(-1, 1, (count, terms)), generator.normal(size=count)
    box, theta = np.full(terms, bound), generator.normal(size=terms)
    G = X.T @ X + 1e-9 * np.eye(terms)
    free = minimize_in_box(G, X.T @ y, box, theta, np.zeros(work_size(terms)))
    assert (np.abs(theta) <= bound).all()
    assert free == bool((np.abs(np.linalg.solve(G, X.T @ y)) <= bound).all())
    best = lsq_linear(X, y, bounds=(-bound, bound), tol=1e-14)
    assert np.sum((X @ theta - y) ** 2) <= 2 * best.cost * (1 + 1e-5) + 1e-6


def test_a_clipped_fit_is_not_the_bounded_one():
    """The specimen that the comparison with SciPy is for: clipping the free minimum loses."""
    G, h, box = np.array([[1.0, 0.9], [0.9, 1.0]]), np.array([1.0, 0.2]), np.full(2, 0.5)

    def value(theta):
        return theta @ G @ theta - 2 * theta @ h

    theta = np.zeros(2)
    assert not minimize_in_box(G, h, box, theta, np.zeros(work_size(2)))
    np.testing.assert_allclose(theta, [0.5, -0.25])
    assert value(np.clip(np.linalg.solve(G, h), -box, box)) > value(theta) + 0.01


def test_a_ridge_keeps_polynomials_from_swinging():
    """What a few solves at one end of the range say of the other depends less on chance."""
    far = np.zeros((2, 20))
    for k, ridge in enumerate((0.0, 0.03)):
        for seed in range(20):
            learner, generator = ChebCB(1, (0.0, 1.0), ridge=ridge), np.random.default_rng(seed)
            for context in np.linspace(0.0, 0.3, 12):
                learner.choose(context, generator)
                learner.learn(context, 0, 10.0 + generator.normal())
            far[k, seed] = learner.predict(1.0)[0]
    assert far[1].std() < 0.5 * far[0].std(), far.std(1)


def test_predictions_meet_a_polynomial():
    """Losses that are polynomials in the context are predicted, in their own unit."""
    learner, generator = ChebCB(2, (-1.0, 3.0), terms=4, floor=2.0), np.random.default_rng(0)
    curves = [lambda c: 10 + c - 0.3 * c**2, lambda c: 8 + 0.5 * c]
    for context in generator.uniform(-1, 3, 600):
        arm = learner.choose(context, generator)
        learner.learn(context, arm, curves[arm](context))
    for context in (-0.5, 0.7, 2.5):
        assert learner.predict(context)[1] == pytest.approx(curves[1](context), abs=0.3)
    assert learner.probabilities.sum() == pytest.approx(1)


def test_contexts_pay():
    """The best arm changes with the context: with contexts the regret is a fraction of the gap."""
    generator = np.random.default_rng(0)
    contexts = generator.random(4000)
    table = 2 + 10 * np.abs(contexts[:, None] - np.linspace(0, 1, ARMS))
    fixed, optimal = table.sum(0).min(), table.min(1).sum()
    totals = {}
    for name in ("tsallis", "chebcb", "bins"):
        arms = play(LEARNERS[name](), contexts, table, np.random.default_rng(1))
        totals[name] = table[np.arange(4000), arms].sum()
    assert totals["chebcb"] < optimal + 0.15 * (fixed - optimal)
    for seed in range(2, 12):  # and no draw shuts out the best arm for good
        arms = play(LEARNERS["chebcb"](), contexts, table, np.random.default_rng(seed))
        assert table[np.arange(4000), arms].sum() < optimal + 0.15 * (fixed - optimal), seed
    assert totals["bins"] < optimal + 0.8 * (fixed - optimal)
    assert totals["tsallis"] > totals["chebcb"]


def test_bins_are_of_equal_width():
    learner = ContextBins(lambda: TsallisINF(2), 4, (0.0, 2.0))
    assert [learner.bin(c) for c in (-9, 0, 0.49, 0.5, 1.2, 1.99, 2.0, 9)] == [0, 0, 0, 1, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TsallisINF(0), "at least 1 arm, got 0"),
        (lambda: TsallisINF(2, floor=-1.0), "floor is the least possible loss"),
        (lambda: ReducedVarianceTsallisINF(2, floor=float("nan")), "floor is the least possible loss"),
        (lambda: ReducedVarianceTsallisINF(2, threshold=-1.0), "number of plays, finite and not negative"),
        (lambda: ChebCB(2, (0, 1), terms=0), "at least 1 term"),
        (lambda: ChebCB(2, (0, 1), ridge=-0.1), "ridge is the weight of a penalty"),
        (lambda: ChebCB(2, (1.0, 1.0)), "low < high"),
        (lambda: ContextBins(lambda: TsallisINF(2), 0, (0, 1)), "at least 1 bin"),
        (lambda: ContextBins(lambda: TsallisINF(2), 2, (0, float("inf"))), "low < high"),
        (lambda: ContextBins(iter([TsallisINF(2), TsallisINF(3)]).__next__, 2, (0, 1)), r"\[2, 3\] arms"),
        (lambda: TsallisINF(2).learn(0.0, 2, 1.0), "arm 2 does not exist"),
        (lambda: TsallisINF(2).learn(0.0, 0, float("nan")), "finite cost and not negative, got nan"),
        (lambda: TsallisINF(2).learn(0.0, 0, -1.0), "charge failures a price"),
        (lambda: TsallisINF(2).restore(ChebCB(2, (0, 1)).state()), "one of ChebCB, this learner is Tsallis"),
        (lambda: TsallisINF(2).restore(TsallisINF(3).state()), "same settings"),
        (lambda: TsallisINF(2).restore({**TsallisINF(2).state(), "memory": [[1.0]]}), "right size"),
        (lambda: TsallisINF(2).restore({**TsallisINF(2).state(), "memory": [[np.nan] * 7]}), "NaN"),
    ],
)
def test_errors(make, words):
    with pytest.raises(ValueError, match=words):
        make()
