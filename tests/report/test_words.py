import math

import pytest

from solvus.bench import break_even
from solvus.report import group_records
from solvus.report.groups import rank
from solvus.report.words import break_even_section, duration, lead, overview, times, verdict


def verdict_of(records):
    return verdict(rank(group_records(records)[0]))


def test_ours_ahead(record):
    said = verdict_of([record("GMG-CG", "solvus", 0.5), record("RS-CG", "pyamg", 5.0)])
    assert (
        said
        == "Fastest: GMG-CG (solvus), 500 ms. The fastest peer, RS-CG (pyamg), takes 10 times as long: 5 s."
    )


def test_the_peer_ahead_is_said_as_plainly(record):
    said = verdict_of([record("GMG-CG", "solvus", 6.0), record("dstn", "scipy", 2.0)])
    assert said == (
        "Fastest: dstn (scipy), 2 s. "
        "The fastest method of solvus, GMG-CG (solvus), takes 3 times as long: 6 s."
    )


def test_level(record):
    assert "is level with it" in verdict_of([record("a", "solvus", 1.0), record("b", "scipy", 1.05)])


def test_what_missed_the_tolerance_is_no_rival(record):
    fast_but_wrong = record("cg", "scipy", 0.01, converged=False, reason="missed", residual=1e-3)
    assert verdict_of([record("a", "solvus", 1.0), fast_but_wrong]).endswith("No peer has a result here.")


def test_compared_where_both_sides_have_a_result_at_the_tightest_tolerance(record):
    records = [record("a", "solvus", n / 100, size=n, rtol=t) for n in (31, 63, 127) for t in (1e-4, 1e-8)]
    records += [record("b", "scipy", 7.0, size=63), record("b", "scipy", 1.0, size=63, rtol=1e-4)]
    found = rank(group_records(records)[0])
    assert found.condition.replace("\N{NON-BREAKING HYPHEN}", "-") == (
        "size 63 (3,969 unknowns), to a relative residual of 1e-8"
    )
    assert [(s.method, s.seconds) for s in found.standings] == [("a", 0.63), ("b", 7.0)]


def test_with_errors_methods_are_ranked_at_the_error_that_every_package_reached(records):
    darcy = next(g for g in group_records(records) if g.problem == "darcy")
    found = rank(darcy)
    assert [s.package for s in found.standings] == ["solvus", "dolfinx", "scikit-fem"]
    assert "2e\N{NON-BREAKING HYPHEN}3" in found.condition  # what the network reached, too
    dolfinx = found.standings[1].seconds
    assert 16**2 * 1e-4 < dolfinx < 32**2 * 1e-4  # interpolated between the sizes that bracket 2e-3


def test_where_nothing_was_solved_the_smallest_error_comes_first(record):
    trained = {"rtol": None, "residual": None, "converged": None, "ladder": False}
    records = [
        record("adam", "solvus", 30.0, error=0.5, **trained),
        record("fem", "scikit-fem", 2.0, error=3e-5, **trained),
        record("recipe", "solvus", 30.0, error=2e-4, **trained),
    ]
    found = rank(group_records(records)[0])
    assert found.by_error
    assert [s.method for s in found.standings] == ["fem", "recipe", "adam"]
    said = verdict(found).replace("\N{NON-BREAKING HYPHEN}", "-")
    assert said == "Smallest error: fem (scikit-fem), 3e-5 in 2 s. Next: recipe (solvus), 2e-4 in 30 s."
    card = overview(group_records(records))
    assert "3 of 3 methods have an error" in card
    assert card.index("fem") < card.index("recipe") < card.index("adam")
    assert not rank(group_records([record("a", "solvus", 1.0, error=0.1)])[0]).by_error  # it was solved


def test_at_equal_errors_the_times_are_ranked(record):
    trained = {"rtol": None, "residual": None, "converged": None, "ladder": False, "error": 1e-6}
    records = [record("nested", "torch", 0.06, **trained), record("jets", "solvus", 0.03, **trained)]
    found = rank(group_records(records)[0])
    assert not found.by_error
    assert [s.method for s in found.standings] == ["jets", "nested"]
    assert found.condition.replace("\N{NON-BREAKING HYPHEN}", "-").endswith("all with an error of 1e-6")
    assert verdict(found).startswith(
        "Fastest: jets (solvus), 30 ms. The fastest peer, nested (torch), takes 2"
    )


def test_machines_and_devices_are_never_compared(record):
    groups = group_records([record("a", "solvus", 1.0), record("b", "scipy", 9.0, threads=1)])
    assert [g.title for g in groups] == [
        "poisson · test <processor>, 2 threads",
        "poisson · test <processor>, 1 thread",
    ]


def test_the_last_record_of_a_run_counts(record):
    (group,) = group_records([record("a", "solvus", 1.0), record("a", "solvus", 3.0)])
    assert [r.total_s for r in group.records] == [3.0]


def test_the_lead_counts_what_there_is(records):
    said = lead(records, group_records(records))
    assert said.startswith("25 measurements of 8 methods on 3 problems; 2 runs failed and stayed in.")


def test_cards_escape_and_show_the_best_of_each_package(records):
    cards = overview(group_records(records))
    assert cards.count('<article class="card">') == 3
    assert "plain &lt;/script&gt; CG" in cards
    assert "</script>" not in cards
    assert "3 of 4 methods reached it" in cards


def test_a_group_without_success_says_so(record):
    failed = record("a", "solvus", 1.0, converged=False, reason="no")
    assert "No method succeeded." in overview(group_records([failed]))


def test_break_even_table(record):
    learned = {"kind": "learned", "train_s": 90.0, "data_s": 10.0}
    found = break_even([record("net", "solvus", 1.0, **learned), record("slow net", "solvus", 4.0, **learned),
                        record("AMG", "pyamg", 3.0)])  # fmt: skip
    assert [b.solves for b in found] == [pytest.approx(50.0), math.inf]
    table = break_even_section(found)
    assert "<b>50</b>" in table
    assert "<b>never</b>" in table
    assert break_even_section([]) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-5, "20 µs"), (0.0123, "12.3 ms"), (1.0, "1 s"), (99.96, "100 s"), (600, "10 min"), (86400, "24 h")],
)
def test_durations(value, text):
    assert duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.234, "1.2 times"), (45.6, "46 times"), (12345.0, "12,000 times")]
)
def test_ratios(value, text):
    assert times(value) == text
