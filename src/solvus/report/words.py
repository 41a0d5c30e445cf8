"""What the measurements say, in plain words and small bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from ..bench.compare import BreakEven
from ..bench.record import Record
from ..bench.table import seconds
from .groups import Group, Ranking, Standing, power, rank
from .style import colour_class

_PER_PACKAGE = 3  # bars of solvus; peers have one each
_BY_ERROR = 6  # bars where errors are compared


def overview(groups: Sequence[Group]) -> str:
    """Return the cards of the overview as HTML, one for each group."""
    return "\n".join(_card(index, group) for index, group in enumerate(groups))


def lead(records: Sequence[Record], groups: Sequence[Group]) -> str:
    """Return the sentence under the title."""
    methods = len({(r.package, r.method) for r in records})
    problems = len({r.problem for r in records})
    failed = sum(not r.ok for r in records)
    kept = f"{_count(failed, 'run')} failed and stayed in" if failed else "no run failed"
    measured = f"{_count(len(records), 'measurement')} of {_count(methods, 'method')}"
    return (
        f"{measured} on {_count(problems, 'problem')}; {kept}. Every residual was recomputed in float64 "
        "after the method had ended, and speeds are compared at equal error only."
    )


def verdict(ranking: Ranking) -> str:
    """Say in one or two sentences who is fastest at equal error, or most accurate, and by how much."""
    best = ranking.standings[0]
    if ranking.by_error:
        return " ".join(_accuracy(s, first=s is best) for s in ranking.standings[:2])
    rivals = [s for s in ranking.standings if (s.package == "solvus") != (best.package == "solvus")]
    first = f"Fastest: {best.method} ({best.package}), {duration(best.seconds)}."
    if not rivals:
        side = "peer" if best.package == "solvus" else "method of solvus"
        return f"{first} No {side} has a result here."
    rival = rivals[0]
    factor = rival.seconds / best.seconds if best.seconds > 0 else math.inf
    who = "The fastest peer" if best.package == "solvus" else "The fastest method of solvus"
    who = f"{who}, {rival.method} ({rival.package}),"
    if factor < 1.1:
        return f"{first} {who} is level with it: {duration(rival.seconds)}."
    return f"{first} {who} takes {times(factor)} as long: {duration(rival.seconds)}."


def _accuracy(standing: Standing, *, first: bool) -> str:
    who = f"{standing.method} ({standing.package})"
    error = power(standing.error or 0.0)
    return f"{'Smallest error' if first else 'Next'}: {who}, {error} in {duration(standing.seconds)}."


def _card(index: int, group: Group) -> str:
    ranking = rank(group)
    head = f'<h3><a href="#explore" data-open="{index}">{escape(group.title)}</a></h3>'
    if ranking is None or not ranking.standings:
        return f'<article class="card">{head}<p class="verdict">No method succeeded.</p></article>'
    shown = _selection(ranking.standings)
    if ranking.by_error:
        shown = list(ranking.standings[:_BY_ERROR])
        bars = "".join(_error_bar(s, shown) for s in shown)
    else:
        longest = max(s.seconds for s in shown)
        bars = "".join(_bar(s, longest, shown[0].seconds) for s in shown)
    rest = len(ranking.standings) - len(shown)
    more = f"; {rest} more in the table" if rest else ""
    end = "have an error" if ranking.by_error else "reached it"
    note = f"{len(ranking.standings)} of {ranking.tried} methods {end}{more}"
    return (
        f'<article class="card">{head}<p class="condition">{escape(ranking.condition)}</p>'
        f'<p class="verdict">{escape(verdict(ranking))}</p><ol class="bars">{bars}</ol>'
        f'<p class="note">{note}</p></article>'
    )


def _selection(standings: Sequence[Standing]) -> list[Standing]:
    """The fastest three of solvus and the fastest of each peer."""
    count: dict[str, int] = {}
    shown = []
    for s in standings:
        count[s.package] = count.get(s.package, 0) + 1
        if count[s.package] <= (_PER_PACKAGE if s.package == "solvus" else 1):
            shown.append(s)
    return shown


def _bar(standing: Standing, longest: float, shortest: float) -> str:
    share = 100 * standing.seconds / longest if longest > 0 else 100.0
    factor = "" if standing.seconds <= shortest or shortest <= 0 else f"{times(standing.seconds / shortest)}"
    return (
        f'<li class="{colour_class(standing.package)}"><span class="who">{escape(standing.method)} '
        f"<small>{escape(standing.package)}</small></span>"
        f'<span class="time">{duration(standing.seconds)}<small>{factor}</small></span>'
        f'<span class="track"><i style="width:{max(share, 0.4):.2f}%"></i></span></li>'
    )


def _error_bar(standing: Standing, shown: Sequence[Standing]) -> str:
    """Return a bar as long as the error, on a logarithmic scale."""
    logs = [math.log10(max(s.error or 0.0, 1e-300)) for s in shown]
    own, low, high = math.log10(max(standing.error or 0.0, 1e-300)), min(logs), max(logs)
    share = 100 * (own - low + 1) / (high - low + 1)
    return (
        f'<li class="{colour_class(standing.package)}"><span class="who">{escape(standing.method)} '
        f"<small>{escape(standing.package)}</small></span>"
        f'<span class="time">{power(standing.error or 0.0)}<small>{duration(standing.seconds)}</small></span>'
        f'<span class="track"><i style="width:{max(share, 0.4):.2f}%"></i></span></li>'
    )


def break_even_section(found: Sequence[BreakEven]) -> str:
    """Return the table of N* as HTML, empty when nothing was learned."""
    if not found:
        return ""
    heads = ("problem", "size", "learned method", "data + training", "its solve")
    heads += ("fastest classical", "its solve", "break-even N*", "compared at")
    head = "".join(f"<th>{h}</th>" for h in heads)
    return (
        '<section id="break-even"><h2>When learning pays</h2><p>N* is the number of solves after which data '
        "and training are repaid: N* = (data + training) / (fastest classical solve &minus; learned solve), "
        "at equal error. &ldquo;Never&rdquo;: the learned solve is not faster.</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(map(_break_even_row, found))}</tbody></table></div></section>"
    )


def _break_even_row(b: BreakEven) -> str:
    solves = "never" if math.isinf(b.solves) else f"{math.ceil(b.solves):,}"
    basis = {"tolerance": "same tolerance", "error": "same error", "interpolated": "same error, interpolated"}
    cells = [(escape(b.problem), ""), (str(b.size), "num"), (escape(b.method), "")]
    cells += [(duration(b.upfront_s), "num"), (duration(b.learned_s), "num"), (escape(b.classical), "")]
    cells += [(duration(b.classical_s), "num"), (f"<b>{solves}</b>", "num"), (basis[b.basis], "")]
    return "<tr>" + "".join(f'<td class="{kind}">{text}</td>' for text, kind in cells) + "</tr>"


def duration(value: float) -> str:
    """Format a time for reading: milliseconds, seconds, minutes, hours."""
    for limit, scale, unit in (
        (1e-3, 1e-6, "µs"),
        (1.0, 1e-3, "ms"),
        (120.0, 1.0, "s"),
        (7200.0, 60.0, "min"),
    ):
        if value < limit:
            return f"{_three(value / scale)} {unit}"
    return f"{_three(value / 3600)} h"


def times(factor: float) -> str:
    """Format a ratio of times."""
    if factor >= 99.5:
        return f"{float(f'{factor:.2g}'):,.0f} times"
    return f"{factor:.2g} times"


def _three(value: float) -> str:
    return seconds(float(f"{value:.3g}"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"
