"""Read the text files that COMSOL exports: a header of lines that start with %, then one row per node."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_COLUMNS = re.compile(r"\s{2,}")  # between the names in the last line of the header
_TIME = re.compile(r"@\s*t\s*=\s*([^\s,]+)")


class BadFile(ValueError):
    """A file that is not what its header says, or has no header."""


@final
@dataclass(frozen=True, eq=False)
class ComsolTable:
    """What a file holds.

    Attributes:
        points: (M, D), coordinates; time is the last one where the file has several times.
        values: (M, C), one column per expression.
        names: of the C expressions, as the file writes them, e.g. "u".
        times: of the columns, ascending; empty for a stationary file.
    """

    points: Floats
    values: Floats
    names: tuple[str, ...]
    times: tuple[float, ...] = ()


def read_comsol(path: str | Path) -> ComsolTable:
    """Read a COMSOL export and return its points and values, one row per node and time.

    A file of several times has rows x, [y,] then one column per time and expression (u@t0 v@t0 u@t1 ...),
    where the header names the times as `@ t=...`; they become rows (x, [y,] t). Rows with NaN (nodes outside
    the domain) are dropped.

    Args:
        path: of the file.

    Raises:
        BadFile: no header, a number of columns or nodes other than the header's, expressions at unlike times.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    with path.open(encoding="utf-8") as lines:
        header = [line[1:].strip() for line in _header(lines)]
    fields = dict(_COLUMNS.sub(" ", line).split(": ", 1) for line in header if ": " in line)
    if "Dimension" not in fields:
        raise BadFile(
            f"{path.name} has no line `% Dimension: ...`: give a text file as COMSOL exports it, "
            "header included"
        )
    dim = int(fields["Dimension"])
    columns = _COLUMNS.split(header[-1])
    table = np.loadtxt(path, comments="%", ndmin=2, dtype=np.float64)
    if table.shape[1] != len(columns):
        raise BadFile(
            f"{path.name} names {len(columns)} columns and holds {table.shape[1]}: the header is damaged, "
            "export again"
        )
    if "Nodes" in fields and len(table) != int(fields["Nodes"]):
        raise BadFile(
            f"{path.name} announces {fields['Nodes']} nodes and holds {len(table)}: it is cut short, "
            "export again"
        )
    return _expand(path, table[:, :dim], table[:, dim:], columns[dim:])


def _header(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("%"):
            return
        yield line


def _expand(path: Path, points: Floats, values: Floats, columns: list[str]) -> ComsolTable:
    """Turn columns of several times into rows."""
    found = [_TIME.search(column) for column in columns]
    names = [re.split(r"[\s@(]", column, maxsplit=1)[0] for column in columns]
    if not any(found):
        return _whole(points, values, tuple(names), ())
    stamps = [float(match.group(1)) if match else np.nan for match in found]
    times = tuple(dict.fromkeys(stamps))
    n = len(columns) // len(times)
    if [*np.repeat(times, n)] != stamps or names != names[:n] * len(times):
        raise BadFile(
            f"the columns of {path.name} are not the same expressions at one time after the other: "
            "export all expressions at all times"
        )
    shape = (len(points), len(times), n)
    rows = np.concatenate(
        [
            np.broadcast_to(points[:, None], (*shape[:2], points.shape[1])),
            np.broadcast_to(np.asarray(times)[:, None], (*shape[:2], 1)),
        ],
        axis=2,
    ).reshape(-1, points.shape[1] + 1)
    return _whole(rows, values.reshape(-1, n), tuple(names[:n]), times)


def _whole(points: Floats, values: Floats, names: tuple[str, ...], times: tuple[float, ...]) -> ComsolTable:
    keep = np.isfinite(values).all(axis=1) & np.isfinite(points).all(axis=1)
    return ComsolTable(points[keep], values[keep], names, times)
