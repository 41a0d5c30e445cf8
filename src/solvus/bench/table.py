"""Records and comparisons as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from .compare import compare
from .record import Record


def print_records(records: Sequence[Record], console: Console | None = None) -> None:
    """Print one table per problem: times, residuals, failures with their reasons."""
    console = console or Console()
    for problem, group in groupby(records, key=lambda r: r.problem):
        rows = list(group)
        tolerances = sorted({r.rtol for r in rows if r.rtol is not None}, reverse=True)
        title = f"{problem}, relative residual {', '.join(f'{t:.0e}' for t in tolerances)}"
        table = Table(title=title, title_justify="left", header_style="bold")
        several = len(tolerances) > 1
        for name in ("size", "method", "package"):
            table.add_column(name, justify="right" if name == "size" else "left")
        names = ("rtol",) * several + ("set-up s", "solve s", "total s", "spread s", "steps", "residual", "error")
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("outcome")
        previous = None
        for r in rows:
            if previous is not None and (r.size, r.rtol) != previous:
                table.add_section()
            previous = (r.size, r.rtol)
            cells = (_number(r.rtol, "8.0e"),) * several
            cells += (seconds(r.setup_s), seconds(r.solve_s), seconds(r.total_s), seconds(r.spread))
            cells += ("" if r.steps is None else str(r.steps), _number(r.residual), _number(r.error))
            outcome = "[green]ok[/]" if r.ok else f"[red]{_escape(r.reason or 'not converged')}[/]"
            table.add_row(str(r.size), r.method, r.package, *cells, outcome)
        console.print(table)


def print_comparisons(records: Sequence[Record], console: Console | None = None) -> None:
    """Print, for every problem and size, our fastest method against the fastest peer, at equal error only."""
    console = console or Console()
    table = Table(title="fastest of solvus against the fastest peer, at equal error", title_justify="left")
    for name in ("problem", "method", "seconds", "peer", "seconds", "speed-up"):
        table.add_column(name, justify="right" if name in ("seconds", "speed-up") else "left")
    keys = dict.fromkeys((r.problem, r.size, r.rtol) for r in records)
    for key in keys:
        rows = [r for r in records if (r.problem, r.size, r.rtol) == key and r.ok]
        mine = [r for r in rows if r.package == "solvus"]
        peers = [r for r in rows if r.package != "solvus"]
        if not mine or not peers:
            continue
        best, peer = (min(rs, key=lambda r: r.total_s or 0.0) for rs in (mine, peers))
        for c in compare([best, peer], peer.method):
            label = f"{c.problem}:{c.size}"
            times = (seconds(c.method_s), seconds(c.baseline_s))
            table.add_row(label, c.method, times[0], f"{c.baseline}", times[1], f"{c.speedup:.2f}")
    if table.row_count:
        console.print(table)


def seconds(value: float | None) -> str:
    """Format a time with three significant figures."""
    if value is None:
        return ""
    return f"{value:.3g}" if value >= 1e-4 or value == 0 else f"{value:.0e}"


def _number(value: float | None, form: str = ".1e") -> str:
    return "" if value is None else format(value, form.strip())


def _escape(text: str) -> str:
    return text.replace("[", "\\[")
