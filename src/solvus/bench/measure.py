"""Timing rules: warm-up, repeats, median and spread, and a residual that the method cannot influence."""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from .case import Case, Method, Options, Outcome
from .record import Record, environment

_SLACK = 1.01  # a residual one per cent above the tolerance still counts: peers stop on an updated one
_FIELDS = ("train_s", "data_s", "reason", "dtype", "device", "unknowns")


@dataclass(frozen=True)
class Settings:
    """How often to measure.

    Args:
        repeats: timed runs after the warm-up.
        long_s: a first run longer than this is no warm-up but the one measurement (`repeats` 1).
        budget_s: no further repeat starts once the timed runs of a method have taken this long.
    """

    repeats: int = 5
    long_s: float = 10.0
    budget_s: float = 10.0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")


def measure(
    benchmark: str,
    case: Case,
    problem: Any,
    method: Method,
    options: Options,
    settings: Settings | None = None,
    commit: str | None = None,
) -> Record:
    """Measure one method on one case; a failure becomes a record with its reason."""
    settings = settings or Settings()
    record: dict[str, Any] = {
        "benchmark": benchmark,
        "problem": case.problem,
        "size": case.size,
        "unknowns": getattr(problem, "unknowns", None),
        "method": method.name,
        "package": method.package,
        "kind": method.kind,
        "dtype": getattr(problem, "dtype", None),
        "device": options.device,
        "threads": options.threads,
        "rtol": options.rtol,
        "seed": options.seed,
        "tags": case.tags,
        "ladder": case.ladder,
        "commit": commit,
        "env": environment(),
    }
    try:
        outcomes = _runs(problem, case, method, options, settings)
        record |= _summary(outcomes) | _checked(problem, outcomes[-1], options.rtol)
    except Exception as error:  # a failing method is a result: kept, with its reason
        record |= {"converged": False, "reason": _text(error)}
    return Record(**record)


def _runs(problem: Any, case: Case, method: Method, options: Options, settings: Settings) -> list[Outcome]:
    """Run once to warm up, then the timed runs; one long run is enough."""
    gc.collect()
    outcome, seconds = _once(problem, case, method, options)
    over = options.seconds is not None and seconds > options.seconds
    if seconds > settings.long_s or over or outcome.converged is False:
        return [outcome]
    outcomes, spent = [], 0.0
    while len(outcomes) < settings.repeats and spent <= settings.budget_s:
        outcome, seconds = _once(problem, case, method, options)
        outcomes.append(outcome)
        spent += seconds
    return outcomes


def _once(problem: Any, case: Case, method: Method, options: Options) -> tuple[Outcome, float]:
    on_gpu = options.device.startswith("cuda")
    if on_gpu:
        torch.cuda.synchronize(options.device)
        torch.cuda.reset_peak_memory_stats(options.device)
    begin = perf_counter()
    outcome = method.run(problem, case, options)
    if on_gpu:
        torch.cuda.synchronize(options.device)
        peak = torch.cuda.max_memory_allocated(options.device) / 1e9
        outcome = Outcome(**{**vars(outcome), "extra": {**outcome.extra, "peak_gb": round(peak, 3)}})
    return outcome, perf_counter() - begin


def _summary(outcomes: list[Outcome]) -> dict[str, Any]:
    totals = [o.setup_s + o.solve_s for o in outcomes]
    spread = kind = None
    if len(totals) >= 4:
        low, high = np.percentile(totals, [25, 75])
        spread, kind = float(high - low), "iqr"
    elif len(totals) > 1:
        spread, kind = max(totals) - min(totals), "range"
    last = outcomes[-1]
    extra = dict(last.extra)
    fields = {name: extra.pop(name) for name in _FIELDS if extra.get(name) is not None}
    return {
        "setup_s": median(o.setup_s for o in outcomes),
        "solve_s": median(o.solve_s for o in outcomes),
        "steps": last.steps,
        "repeats": len(outcomes),
        "spread": spread,
        "spread_kind": kind,
        "extra": {
            name: _plain(item) for name, item in extra.items() if item is not None and name != "reason"
        },
        **fields,
    }


def _checked(problem: Any, outcome: Outcome, rtol: float) -> dict[str, Any]:
    """Recompute residual and error; the residual decides on convergence."""
    residual, error = outcome.residual, outcome.error
    if outcome.value is not None:
        found_residual, found_error = problem.check(outcome.value)
        residual = found_residual if found_residual is not None else residual
        error = found_error if found_error is not None else error
    out: dict[str, Any] = {
        "residual": _finite(residual),
        "error": _finite(error),
        "converged": outcome.converged,
    }
    if residual is not None:
        reached = math.isfinite(residual) and residual <= _SLACK * rtol
        out["converged"] = reached
        reason = outcome.extra.get("reason")
        missed = f"residual {residual:.1e} misses the tolerance {rtol:.0e}"
        out["reason"] = None if reached else reason or missed
    return out


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else float(number)


def _plain(item: Any) -> Any:
    """Make an extra value fit for JSON."""
    if isinstance(item, torch.Tensor | np.ndarray | np.generic):
        item = item.tolist()
    if isinstance(item, float):
        return _finite(item)
    if isinstance(item, Mapping):
        return {str(key): _plain(part) for key, part in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(part) for part in item]
    return item if isinstance(item, str | int | bool) or item is None else str(item)


def _text(error: Exception) -> str:
    """One line for the record, without the folders of this machine."""
    text = " ".join(str(error).split()) or "no message"
    text = re.sub(r"(?<![\w.])(?:/[\w.+-]+)+/([\w.+-]+)", r"\1", text)
    return f"{type(error).__name__}: {text}"[:300]
