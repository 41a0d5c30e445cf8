"""The plots of a group as plain data for plotly.js; colours are put in by the page, which knows its theme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from ..bench.compare import accuracy_of
from ..bench.record import Record
from .groups import Group
from .style import colour_class, symbols
from .words import duration

Axis = Callable[[Record], float | None]


def group_figures(group: Group) -> dict[str, Any]:
    """Return the figures: accuracy versus speed, work-precision and regret per size, time versus size."""
    views: list[dict[str, Any]] = []
    if group.ladder:
        views.append({"label": "all sizes", **_views(group, group.records)})
    else:
        for size in reversed(group.sizes):
            chosen = [r for r in group.records if r.size == size]
            unknowns = next((f", {r.unknowns:,} unknowns" for r in chosen if r.unknowns), "")
            views.append({"label": f"size {size}{unknowns}", **_views(group, chosen)})
    finest = [r for r in group.records if r.rtol == _tightest(group)]
    growth = _figure(group, finest, _unknowns, lambda r: r.total_s, "unknowns", "seconds, set-up + solve")
    growth["traces"] += _proportional(finest)
    return {
        "title": group.title,
        "machine": group.machine,
        "views": views,
        "growth": growth,
        "methods": [
            {"key": _key(package, method), "method": method, "package": package, "symbol": symbol,
             "class": colour_class(package)}
            for (package, method), symbol in symbols(group).items()
        ],
    }  # fmt: skip


def _views(group: Group, records: Sequence[Record]) -> dict[str, Any]:
    what = "relative error" if any(r.error is not None for r in records) else "relative residual"
    speed = _figure(group, records, lambda r: r.total_s, accuracy_of, "seconds, set-up + solve", what)
    speed["traces"] += _front(records)
    several = len({r.rtol for r in records}) > 1 or group.ladder
    asked: Axis = accuracy_of if group.ladder else lambda r: r.rtol
    x_title = f"{what} reached" if group.ladder else "tolerance asked for"
    work = {
        "seconds": _figure(group, records, asked, lambda r: r.total_s, x_title, "seconds, set-up + solve"),
        "steps": _figure(group, records, asked, lambda r: r.steps or None, x_title, "steps"),
    }
    return {"speed": speed, "work": work, "several": several, "regret": _regret(group, records)}


def _figure(
    group: Group, records: Sequence[Record], x: Axis, y: Axis, x_title: str, y_title: str
) -> dict[str, Any]:
    """Return one log-log figure with a curve per method; runs that failed are crossed out, not joined."""
    traces: list[dict[str, Any]] = []
    marks = symbols(group)
    for package, method in group.methods:
        own = [r for r in records if (r.package, r.method) == (package, method)]
        good, bad = (
            [r for r in own if r.ok is state and _positive(x(r)) and _positive(y(r))]
            for state in (True, False)
        )
        name = f"{method} ({package})"
        base = {
            "type": "scatter",
            "name": escape(name),
            "key": _key(package, method),
            "class": colour_class(package),
        }
        if good:
            good.sort(key=lambda r: (x(r), y(r)))
            traces.append({
                **base,
                "mode": "lines+markers",
                "x": [x(r) for r in good],
                "y": [y(r) for r in good],
                "text": [_hover(r) for r in good],
                "marker": {"symbol": marks[package, method]},
                "line": {"dash": "dash" if own[0].kind == "learned" else "solid"},
                "ours": package == "solvus",
            })  # fmt: skip
        if bad:
            traces.append({
                **base,
                "mode": "markers",
                "x": [x(r) for r in bad],
                "y": [y(r) for r in bad],
                "text": [_hover(r) for r in bad],
                "marker": {"symbol": "x-thin-open"},
                "failed": True,
            })  # fmt: skip
    return {"traces": traces, "x_title": x_title, "y_title": y_title}


def _regret(group: Group, records: Sequence[Record]) -> dict[str, Any]:
    """Return the curves of `extra["regret"]`, cost so far above that of the best choices, evenly spaced."""
    traces: list[dict[str, Any]] = []
    marks = symbols(group)
    for r in sorted(records, key=lambda r: group.methods.index((r.package, r.method))):
        curve = r.extra.get("regret")
        if not r.ok or not isinstance(curve, list) or len(curve) < 2:
            continue
        share = [100 * i / (len(curve) - 1) for i in range(len(curve))]
        name = f"<b>{escape(r.method)}</b>, {escape(r.problem)} {r.size}"
        traces.append({
            "type": "scatter",
            "mode": "lines+markers",
            "name": escape(f"{r.method} ({r.package})"),
            "key": _key(r.package, r.method),
            "class": colour_class(r.package),
            "x": share,
            "y": curve,
            "text": [f"{name}<br>{y:,.4g} above the best choices" for y in curve],
            "marker": {"symbol": marks[r.package, r.method], "maxdisplayed": 10},
            "line": {"dash": "dash" if r.kind == "learned" else "solid"},
        })  # fmt: skip
    return {"traces": traces, "x_title": "percent of the sequence", "y_title": "regret"}


def _front(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The line through the runs that no other run beats in both time and accuracy."""
    points = sorted(
        (r.total_s, accuracy)
        for r in records
        if r.ok and _positive(r.total_s) and _positive(accuracy := accuracy_of(r))
    )  # type: ignore[type-var]
    front: list[tuple[Any, Any]] = []
    for point in points:
        if not front or point[1] < front[-1][1]:
            front.append(point)
    if len(front) < 2:
        return []
    xs, ys = zip(*front, strict=True)
    line = {"type": "scatter", "mode": "lines", "name": "best of all", "line": {"shape": "hv"}}
    return [{**line, "x": list(xs), "y": list(ys), "front": True, "hoverinfo": "skip"}]


def _proportional(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A guide line of time proportional to the unknowns, below the fastest run of the largest size."""
    timed = [r for r in records if r.ok and _positive(r.total_s)]
    sizes = sorted({_unknowns(r) for r in timed})
    if len(sizes) < 2:
        return []
    fastest = min(r.total_s or 0.0 for r in timed if _unknowns(r) == sizes[-1])
    ends = [fastest * 0.6 * n / sizes[-1] for n in (sizes[0], sizes[-1])]
    line = {"type": "scatter", "mode": "lines", "name": "proportional to the unknowns", "hoverinfo": "name"}
    return [{**line, "x": [sizes[0], sizes[-1]], "y": ends, "guide": True}]


def _hover(r: Record) -> str:
    """Return the box that opens over a point."""
    lines = [f"<b>{escape(r.method)}</b> ({escape(r.package)})", f"{escape(r.problem)}, size {r.size}"]
    if r.unknowns:
        lines[-1] += f", {r.unknowns:,} unknowns"
    if r.total_s is not None:
        spread = "" if r.spread is None else f" ± {duration(r.spread)}"
        lines.append(f"<b>{duration(r.total_s)}</b>{spread}, median of {r.repeats}")
        lines.append(f"set-up {duration(r.setup_s or 0.0)}, solve {duration(r.solve_s or 0.0)}")
    if r.steps is not None:
        lines.append(f"{r.steps} steps")
    if r.residual is not None:
        lines.append(f"residual {r.residual:.1e}" + ("" if r.rtol is None else f", asked for {r.rtol:.0e}"))
    if r.error is not None:
        lines.append(f"error {r.error:.2e}")
    if not r.ok:
        lines.append(f"<b>failed</b>: {escape((r.reason or 'not converged')[:80])}")
    return "<br>".join(lines)


def _key(package: str, method: str) -> str:
    return f"{package}/{method}"


def _unknowns(record: Record) -> float:
    return float(record.unknowns or record.size)


def _tightest(group: Group) -> float | None:
    return min((r.rtol for r in group.records if r.rtol is not None), default=None)


def _positive(value: float | None) -> bool:
    return value is not None and value > 0
