"""Put the page together: one HTML file that needs neither network nor any other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from ..bench.compare import break_even
from ..bench.record import Record
from .figures import group_figures
from .groups import group_records
from .style import colour_rules
from .tables import environment_table, measurement_table
from .words import break_even_section, lead, overview


def write_report(records: Sequence[Record], folder: str | Path, title: str = "Accuracy versus speed") -> Path:
    """Write `index.html` into a folder (made where it is missing) and return its path.

    The page depends on the records alone: the same records give the same file.

    Raises:
        ValueError: when there is no record.
    """
    if not records:
        raise ValueError("there is no record to draw: run a benchmark with --out FILE.jsonl first")
    groups = group_records(records)
    tables = [
        f'<div class="panel" data-group="{i}" {"" if i == 0 else "hidden"}>{measurement_table(g)}</div>'
        for i, g in enumerate(groups)
    ]
    tabs = [
        f'<button type="button" role="tab" data-group="{i}" aria-selected="{str(i == 0).lower()}">'
        f"{escape(g.title)}</button>"
        for i, g in enumerate(groups)
    ]
    source = files(__spec__.parent)
    page = Template((source / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        lead=escape(lead(records, groups)),
        style=colour_rules() + (source / "page.css").read_text(encoding="utf-8"),
        overview=overview(groups),
        tabs="".join(tabs),
        tables="".join(tables),
        break_even=break_even_section(break_even(records)),
        environment=environment_table(records),
        figures=_embedded([group_figures(g) for g in groups]),
        records=_embedded([r.model_dump(mode="json") for r in records]),
        plotly=get_plotlyjs(),
        script=(source / "page.js").read_text(encoding="utf-8"),
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _embedded(data: object) -> str:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
