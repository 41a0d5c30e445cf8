"""Records and comparisons as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .compare import at_error, compare
from .record import Record

_WIDTH = 112  # of tables written to a file or pipe


def make_console() -> Console:
    """Return a console that is wide enough for the tables where there is no terminal to ask."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    return console


def print_records(records: Sequence[Record], console: Console | None = None) -> None:
    """Print one table per problem and tolerance, with the reasons of failures below it."""
    console = console or make_console()
    ordered = sorted(records, key=lambda r: (r.problem, -(r.rtol or 0.0), r.size))
    for (problem, rtol), group in groupby(ordered, key=lambda r: (r.problem, r.rtol)):
        rows = list(group)
        solved = rtol is not None and any(r.residual is not None for r in rows)
        title = f"{problem}, to a relative residual of {rtol:.0e}" if solved else problem
        console.print(_table(title, rows))
        for r in rows:
            if not r.ok:
                reason = escape(r.reason or "not converged")
                console.print(f"  [red]failed[/] {r.label} {escape(r.method)}: {reason}", soft_wrap=True)


def _table(title: str, rows: Sequence[Record]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("method")
    table.add_column("package")
    errors = any(r.error is not None for r in rows)
    for name in ("set-up s", "solve s", "total s", "± spread", "steps", "residual", *(["error"] * errors)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for i, r in enumerate(rows):
        if i and rows[i - 1].size != r.size:
            table.add_section()
        steps = "" if r.steps is None else str(r.steps)
        times = [seconds(t) for t in (r.setup_s, r.solve_s, r.total_s, r.spread)]
        error = [_number(r.error)] * errors
        outcome = "[green]ok[/]" if r.ok else "[red]failed[/]"
        table.add_row(str(r.size), r.method, r.package, *times, steps, _number(r.residual), *error, outcome)
    return table


def print_comparisons(records: Sequence[Record], console: Console | None = None) -> None:
    """Print, for every problem and size, the fastest peer and our fastest method that is as accurate."""
    console = console or make_console()
    table = Table(
        title="fastest method of solvus against the fastest peer, at equal error",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    for name in ("problem", "rtol", "method", "total s", "peer", "total s", "speed-up"):
        table.add_column(name, justify="left" if name in ("problem", "method", "peer") else "right")
    for key in dict.fromkeys((r.problem, r.size, r.rtol) for r in records):
        rows = [r for r in records if (r.problem, r.size, r.rtol) == key and r.ok]
        mine = [r for r in rows if r.package == "solvus"]
        peers = [r for r in rows if r.package != "solvus"]
        if not mine or not peers:
            continue
        peer = min(peers, key=lambda r: r.total_s or 0.0)
        as_good = [r for r in mine if None in (r.error, peer.error) or at_error(peer.error or 0.0, [r])]
        if not as_good:
            continue
        best = min(as_good, key=lambda r: r.total_s or 0.0)
        for c in compare([best, peer], peer.method):
            times = seconds(c.method_s), seconds(c.baseline_s)
            name = f"{c.baseline} ({peer.package})"
            label = f"{c.problem}:{c.size}"
            table.add_row(
                label, _number(best.rtol, ".0e"), c.method, times[0], name, times[1], f"{c.speedup:.2f}"
            )
    if table.row_count:
        console.print(table)


def seconds(value: float | None) -> str:
    """Format a time with three significant figures."""
    if value is None:
        return ""
    if value >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1e-4 or value == 0 else f"{value:.0e}"


def _number(value: float | None, form: str = ".1e") -> str:
    return "" if value is None else format(value, form)
