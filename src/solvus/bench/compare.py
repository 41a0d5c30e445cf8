"""Speed-ups at equal error only, and how many solves repay the costs of a learned method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .record import Record

Basis = Literal["tolerance", "error", "interpolated"]
Match = tuple[float, float | None, Basis]
_EQUAL = 1.1  # errors within ten per cent of each other are equal


@dataclass(frozen=True)
class Comparison:
    """A method against a baseline at equal error.

    `basis` says what made the errors equal: "tolerance" (same problem and size, the same relative residual
    recomputed for both), "error" (a run of the baseline is at least as accurate), or "interpolated" (between
    two runs of the baseline, log-log). `speedup` is `baseline_s / method_s`, set-up included in both.
    """

    problem: str
    size: int
    method: str
    baseline: str
    speedup: float
    method_s: float
    baseline_s: float
    accuracy: float | None
    baseline_accuracy: float | None
    basis: Basis


@dataclass(frozen=True)
class BreakEven:
    """After how many solves a learned method has repaid data and training.

    `solves` is N* = upfront_s / (classical_s - learned_s), infinite when the learned solve is not faster than
    the fastest classical one (`classical`) at the same error.
    """

    problem: str
    size: int
    method: str
    classical: str
    upfront_s: float
    learned_s: float
    classical_s: float
    solves: float
    basis: Basis


def compare(records: Iterable[Record], baseline: str) -> list[Comparison]:
    """Compare every method that succeeded with the one named `baseline`, where their errors are equal.

    Records with an `error` are matched by error: against the cheapest baseline run of the same problem, at
    any size and tolerance, that is as accurate (between two such runs, by log-log interpolation). Records
    without are matched by size and tolerance, both converged by the recomputed residual. Where nothing
    matches there is no speed-up.

    Raises:
        ValueError: when no record has this method.
    """
    records = list(records)
    if not any(r.method == baseline for r in records):
        names = ", ".join(sorted({r.method for r in records}))
        raise ValueError(f"no record of a method {baseline!r} to compare with: the records have {names}")
    rivals = [r for r in records if r.method == baseline and r.ok]
    out = []
    for record in records:
        if record.method == baseline or not record.ok:
            continue
        found = _match(record, rivals)
        if found is not None:
            seconds, accuracy, basis = found
            own = _total(record)
            out.append(
                Comparison(
                    record.problem,
                    record.size,
                    record.method,
                    baseline,
                    seconds / own if own > 0 else math.inf,
                    own,
                    seconds,
                    accuracy_of(record),
                    accuracy,
                    basis,
                )
            )
    return out


def break_even(records: Iterable[Record]) -> list[BreakEven]:
    """Return N* of every learned record with costs, against the fastest classical method at equal error."""
    records = list(records)
    names = sorted({r.method for r in records if r.kind == "classical" and r.ok})
    out = []
    for record in records:
        if record.kind != "learned" or not record.ok or (record.train_s is None and record.data_s is None):
            continue
        matches = []
        for name in names:
            found = _match(
                record, [r for r in records if r.method == name and r.kind == "classical" and r.ok]
            )
            if found is not None:
                matches.append((found[0], name, found[2]))
        if not matches:
            continue
        classical_s, name, basis = min(matches)
        upfront, own = (record.train_s or 0.0) + (record.data_s or 0.0), _total(record)
        gain = classical_s - own
        solves = upfront / gain if gain > 0 else math.inf
        out.append(
            BreakEven(
                record.problem, record.size, record.method, name, upfront, own, classical_s, solves, basis
            )
        )
    return out


def accuracy_of(record: Record) -> float | None:
    """Return the error where there is one, else the residual."""
    return record.error if record.error is not None else record.residual


def _total(record: Record) -> float:
    total = record.total_s
    assert total is not None
    return total


def _match(record: Record, rivals: Sequence[Record]) -> Match | None:
    """Return the rival's seconds at the record's error, its accuracy there, and on what basis."""
    same = [r for r in rivals if r.problem == record.problem and _setting(r) == _setting(record)]
    if not record.ladder:
        same = [r for r in same if r.size == record.size]
    with_error = [r for r in same if r.error is not None]
    if record.error is not None and with_error:
        return at_error(record.error, with_error)
    equal = [r for r in same if r.size == record.size and r.rtol == record.rtol]
    if not equal or record.residual is None:
        return None
    best = min(equal, key=_total)
    return (_total(best), best.residual, "tolerance") if best.residual is not None else None


def _setting(record: Record) -> tuple[object, ...]:
    return (record.device, record.threads, record.env.cpu, record.env.accelerator)


def at_error(error: float, runs: Sequence[Record]) -> Match | None:
    """Return the seconds that a method needs for an error, from its runs: (seconds, error, basis) or None.

    Along the front of its cheapest runs: the cheapest one that is as accurate (errors within ten per cent
    are equal), or between two runs by log-log interpolation; None when no run is accurate enough.
    """
    front: list[tuple[float, float]] = []  # (error, seconds), error falling, seconds rising
    for run in sorted((r for r in runs if r.ok), key=lambda r: (_total(r), r.error or 0.0)):
        if run.error is not None and (not front or run.error < front[-1][0]):
            front.append((run.error, _total(run)))
    good = [i for i, (e, _) in enumerate(front) if e <= _EQUAL * error]
    if not good:
        return None
    i = good[0]
    e, seconds = front[i]
    if i == 0 or e >= error / _EQUAL or min(e, seconds, front[i - 1][1]) <= 0:
        return seconds, e, "error"
    e_before, s_before = front[i - 1]
    part = math.log(error / e_before) / math.log(e / e_before)
    return math.exp((1 - part) * math.log(s_before) + part * math.log(seconds)), error, "interpolated"
