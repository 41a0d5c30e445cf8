"""Tables of the page: all measurements of a group, and the machines behind them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..bench.record import Record
from ..bench.table import seconds
from .groups import Group
from .style import colour_class

_HEADS = (
    "size",
    "tolerance",
    "method",
    "package",
    "set-up s",
    "solve s",
    "total s",
    "± spread",
    "steps",
    "residual",
)


def measurement_table(group: Group) -> str:
    """Return a sortable table of a group's records; failures carry their reason."""
    errors = any(r.error is not None for r in group.records)
    solved = any(r.residual is not None for r in group.records)  # to a tolerance
    heads = (*(h for h in _HEADS if solved or h != "tolerance"), *(["error"] * errors), "outcome")
    head = "".join(f'<th aria-sort="none"><button type="button">{h}</button></th>' for h in heads)
    best = _fastest(group.records)
    ordered = sorted(group.records, key=lambda r: (-r.size, r.rtol or 0.0, not r.ok, r.total_s or 0.0))
    rows = "".join(_row(r, solved, errors, id(r) in best) for r in ordered)
    table = f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _fastest(records: Sequence[Record]) -> set[int]:
    """Records that are the fastest at their size and tolerance."""
    best: dict[tuple[int, float | None], Record] = {}
    for r in records:
        key = (r.size, r.rtol)
        if r.ok and (key not in best or (r.total_s or 0.0) < (best[key].total_s or 0.0)):
            best[key] = r
    return {id(r) for r in best.values()}


def _row(r: Record, solved: bool, errors: bool, best: bool) -> str:
    numbers = [
        (r.setup_s, seconds(r.setup_s)),
        (r.solve_s, seconds(r.solve_s)),
        (r.total_s, seconds(r.total_s)),
    ]
    numbers += [(r.spread, seconds(r.spread)), (r.steps, "" if r.steps is None else str(r.steps))]
    numbers += [(r.residual, _scientific(r.residual))] + [(r.error, _scientific(r.error))] * errors
    cells = _cell(r.size, str(r.size))
    cells += _cell(r.rtol, "" if r.rtol is None else f"{r.rtol:.0e}") * solved
    name = escape(r.method) + (
        ' <abbr title="learned: needs data and training">L</abbr>' * (r.kind == "learned")
    )
    cells += f'<td class="{colour_class(r.package)} name"><i class="dot"></i>{name}</td>'
    cells += f"<td>{escape(r.package)}</td>"
    cells += "".join(_cell(value, text) for value, text in numbers)
    outcome = ("fastest" if best else "ok") if r.ok else escape(r.reason or "not converged")
    kind = ("best" if best else "good") if r.ok else "bad"
    return f'<tr class="{kind}">{cells}<td class="outcome">{outcome}</td></tr>'


def _cell(value: float | None, text: str) -> str:
    key = "" if value is None else f' data-v="{value!r}"'
    return f'<td class="num"{key}>{text}</td>'


def _scientific(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def environment_table(records: Sequence[Record]) -> str:
    """Return the machines, versions and commits behind the records."""
    seen: dict[str, list[Record]] = {}
    for r in records:
        seen.setdefault(r.env.model_dump_json(), []).append(r)
    return "".join(_environment(group) for group in seen.values())


def _environment(records: Sequence[Record]) -> str:
    env = records[0].env
    versions = " ".join(f"<span>{escape(k)} <b>{escape(v)}</b></span>" for k, v in env.versions.items())
    rows = [
        ("processor", escape(env.cpu)),
        ("cores", str(env.cores)),
        ("memory", "" if env.memory_gb is None else f"{env.memory_gb:g} GB"),
        ("accelerator", escape(env.accelerator or "none")),
        ("system", escape(f"{env.system}, Python {env.python}")),
        ("threads", ", ".join(sorted({str(r.threads) for r in records}))),
        ("devices", escape(", ".join(sorted({r.device for r in records})))),
        ("types", escape(", ".join(sorted({r.dtype for r in records if r.dtype})))),
        ("benchmarks", escape(", ".join(dict.fromkeys(r.benchmark for r in records)))),
        (
            "commits",
            escape(", ".join(sorted({r.commit for r in records if r.commit})) or "not from a checkout"),
        ),
        ("versions", f'<span class="versions">{versions}</span>'),
    ]
    body = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows if text)
    return f'<dl class="env">{body}</dl>'
