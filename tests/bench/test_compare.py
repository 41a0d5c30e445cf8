import math

import pytest

from solvus.bench import Environment, Record, break_even, compare

ENV = Environment(cpu="test processor", cores=2)


def record(method, total, **kw):
    base = {"benchmark": "b", "problem": "p", "size": 10, "package": "x", "threads": 1, "env": ENV}
    base |= {
        "rtol": 1e-8,
        "residual": 5e-9,
        "converged": True,
        "setup_s": 0.0,
        "solve_s": total,
        "repeats": 3,
    }
    return Record(**(base | {"method": method} | kw))


def test_same_tolerance_gives_the_ratio_of_setup_plus_solve():
    records = [record("slow", 2.0, setup_s=4.0), record("fast", 1.0, setup_s=0.5)]
    (found,) = compare(records, "slow")
    assert found.speedup == pytest.approx(4.0)
    assert (found.method, found.baseline, found.basis) == ("fast", "slow", "tolerance")


@pytest.mark.parametrize(
    "unequal",
    [
        {"converged": False, "reason": "missed"},
        {"rtol": 1e-4, "residual": 9e-5},
        {"size": 11},
        {"problem": "q"},
        {"threads": 2},
        {"device": "cuda"},
    ],
)
def test_no_speedup_without_equal_error_on_equal_terms(unequal):
    assert compare([record("slow", 2.0), record("fast", 1.0, **unequal)], "slow") == []


def test_errors_are_matched_across_sizes_and_interpolated():
    ladder = [record("classic", t, size=n, error=e) for n, e, t in [(8, 1e-2, 1.0), (16, 1e-4, 100.0)]]
    coarse, between, fine, beyond = (
        record("new", 0.5, size=99, error=e, residual=None) for e in (2e-2, 1e-3, 1e-4, 1e-6)
    )
    found = compare([*ladder, coarse, between, fine, beyond], "classic")
    assert [c.basis for c in found] == ["error", "interpolated", "error"]  # nothing at 1e-6: no speed-up
    assert [c.baseline_s for c in found] == pytest.approx([1.0, 10.0, 100.0])
    assert found[1].speedup == pytest.approx(20.0)


def test_errors_do_not_compare_across_sizes_that_are_problems_of_their_own():
    records = [record("classic", t, size=n, error=1e-9, ladder=False) for n, t in [(10, 1.0), (20, 8.0)]]
    (found,) = compare([*records, record("new", 2.0, size=20, error=1e-9, ladder=False)], "classic")
    assert found.baseline_s == 8.0


def test_the_cheapest_run_of_the_baseline_counts():
    ladder = [record("classic", 5.0, error=1e-3), record("classic", 1.0, size=20, error=1e-4)]
    (found,) = compare([*ladder, record("new", 0.5, error=1e-3)], "classic")
    assert found.speedup == pytest.approx(2.0)


def test_an_unknown_baseline_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"no record of a method 'amg'.*fast, slow"):
        compare([record("slow", 2.0), record("fast", 1.0)], "amg")


def test_break_even_counts_data_and_training_against_the_fastest_classical_method():
    learned = record("net", 1.0, kind="learned", train_s=90.0, data_s=10.0)
    rivals = [record("slow", 9.0), record("best", 3.0), record("broken", 0.1, converged=False)]
    (found,) = break_even([learned, *rivals])
    assert found.classical == "best"
    assert found.upfront_s == 100.0
    assert found.solves == pytest.approx(50.0)


def test_break_even_is_infinite_when_the_learned_solve_is_not_faster():
    learned = record("net", 3.0, kind="learned", train_s=90.0)
    (found,) = break_even([learned, record("best", 3.0)])
    assert math.isinf(found.solves)


def test_break_even_matches_by_error_and_ignores_the_inaccurate():
    learned = record("net", 0.1, kind="learned", train_s=9.0, error=1e-3, residual=None)
    rivals = [record("rough", 0.2, error=1e-1), record("exact", 1.0, error=1e-6)]
    (found,) = break_even([learned, *rivals])
    assert (found.classical, found.solves) == ("exact", pytest.approx(10.0))
    assert break_even([learned, rivals[0]]) == []
