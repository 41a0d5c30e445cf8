"""Every figure in the README's tables stands in a committed record.

A table between the marks `figures: begin` and `figures: end` has a header row that names fields of records:
benchmark, problem, size, method (which find the record; rtol, device, threads where needed), then any of
setup_s, solve_s, total_s, steps, residual, error, unknowns.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("benchmark", "problem", "size", "method", "rtol", "device", "threads")


def committed_records() -> list[dict]:
    """All records under benchmarks/results, each with its total seconds."""
    found = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            times = [record.get("setup_s"), record.get("solve_s")]
            record["total_s"] = None if times == [None, None] else sum(t or 0.0 for t in times)
            found.append(record)
    return found


def table_rows(text: str) -> list[dict[str, str]]:
    """The rows of all tables between the marks, by their header's names."""
    match = re.search(r"<!-- figures: begin -->(.*?)<!-- figures: end -->", text, re.DOTALL)
    assert match, "the marks `figures: begin` and `figures: end` are missing"
    rows, header = [], None
    for line in match.group(1).splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip().strip("`*") for cell in line.strip().strip("|").split("|")]
        if header is None:
            header = cells
        elif set(line) - set("|-: "):
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def agrees(shown: str, value: float | str | None) -> bool:
    """Whether a shown figure is the value rounded to the digits that are shown."""
    if value is None or isinstance(value, str):
        return shown in (value or "-", str(value))
    number = float(shown)
    digits = shown.lower().partition("e")
    decimals = len(digits[0].partition(".")[2])
    unit = 10.0 ** (-decimals + (int(digits[2]) if digits[2] else 0))
    return abs(number - value) <= 0.5000001 * unit


def wrong_figures(text: str, records: list[dict]) -> list[str]:
    """What is shown and not in a record."""
    wrong = []
    for row in table_rows(text):
        keys = {k: v for k, v in row.items() if k in KEYS}
        fits = [r for r in records if all(agrees(v, r[k]) for k, v in keys.items())]
        rest = {k: v for k, v in row.items() if k not in KEYS}
        if not any(all(agrees(v, r.get(k)) for k, v in rest.items()) for r in fits):
            wrong.append(
                f"{row} is not in the records; they say {[{k: r.get(k) for k in rest} for r in fits]}"
            )
    return wrong


def test_the_readme_shows_measured_figures_only():
    assert not wrong_figures((ROOT / "README.md").read_text(), committed_records())


SPECIMEN = """<!-- figures: begin -->
| benchmark | problem | size | method | setup_s | total_s | steps | residual |
|---|---|---|---|---|---|---|---|
| poisson | poisson3d | 127 | ours | 0.21 | 1.0 | 8 | 3e-09 |
<!-- figures: end -->
"""
RECORD = {"benchmark": "poisson", "problem": "poisson3d", "size": 127, "method": "ours", "steps": 8}
RECORD |= {"setup_s": 0.214, "total_s": 1.04, "residual": 3.4e-9}


def test_right_figures_are_let_through():
    assert not wrong_figures(SPECIMEN, [RECORD])


@pytest.mark.parametrize(
    "change", [{"steps": 9}, {"setup_s": 0.216}, {"method": "theirs"}, {"residual": 1e-7}]
)
def test_wrong_figures_are_found(change):
    assert wrong_figures(SPECIMEN, [RECORD | change])
