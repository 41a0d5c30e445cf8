"""The command line that every benchmark script has."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numba
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..solvers.allocator import keep_freed_memory
from .case import Case, Method, Options
from .measure import Settings, measure
from .record import Record, available_cores, environment, git_commit
from .table import make_console, print_comparisons, print_records, seconds

_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class _Plan:
    """What one call measures."""

    benchmark: str
    cases: list[Case]
    methods: list[Method]
    options: Options
    settings: Settings
    rtols: list[float]
    commit: str | None


def main(
    name: str,
    doc: str | None,
    cases: Sequence[Case],
    methods: Sequence[Method],
    argv: Sequence[str] | None = None,
) -> list[Record]:
    """Run a benchmark from the command line: measure, write records, print tables.

    Args:
        name: of the benchmark, goes into the records.
        doc: shown by --help.
        cases: in the order in which they are measured.
        methods: in the order of the table.
        argv: arguments; default those of the process. Only then are the thread pools of BLAS, which read
            their size once at start-up, set by starting the script anew.

    Returns the records.
    """
    parser = _parser(doc)
    given = parser.parse_args(argv)
    console = make_console()
    if given.list:
        _print_list(console, cases, methods)
        return []
    chosen = _choose_cases(parser, cases, given.only, given.quick)
    used = _choose_methods(parser, methods, given.methods)
    threads = given.threads or int(os.environ.get("OMP_NUM_THREADS", 0)) or available_cores()
    if argv is None:
        _same_pools(threads)
    keep_freed_memory()  # for all methods alike
    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, _numba_threads()))
    _check_device(parser, given.device)
    plan = _Plan(
        name,
        chosen,
        used,
        Options(given.device, threads, seconds=given.seconds, seed=given.seed),
        Settings(given.repeats or 3, 5.0, 5.0) if given.quick else Settings(given.repeats or 5),
        given.rtol,
        git_commit(Path(sys.argv[0]).resolve().parent),
    )
    records = _measure_all(plan, console, given.out)
    print_records(records, console)
    print_comparisons(records, console)
    env = environment()
    where = env.accelerator if given.device.startswith("cuda") and env.accelerator else env.cpu
    console.print(f"{where}, {threads} threads, {given.device}; seconds are medians, set-up and solve apart")
    if given.out:
        console.print(
            f"{len(records)} records in {given.out}: draw them with `solvus report --out DIR {given.out}`"
        )
    return records


def _parser(doc: str | None) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a small selection of cases")
    parser.add_argument(
        "--only", type=_words, default=[], metavar="PROBLEM[:SIZE],...", help="these cases only"
    )
    parser.add_argument("--methods", type=_words, default=[], metavar="NAME,...", help="these methods only")
    parser.add_argument("--repeats", type=_positive, help="timed runs after the warm-up (5; 3 if --quick)")
    parser.add_argument("--device", default="cpu", help="torch device (cpu)")
    parser.add_argument("--threads", type=_positive, help="threads for every library (all cores)")
    parser.add_argument(
        "--rtol", type=_numbers, default=[], metavar="R,...", help="tolerances (default: each case's)"
    )
    parser.add_argument(
        "--seconds", type=float, help="wall limit; a method that passes it skips larger sizes"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed recorded and passed to the methods (0)")
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="write one JSON record per line")
    parser.add_argument("--list", action="store_true", help="print problems, sizes and methods, and end")
    return parser


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[float]:
    numbers = [float(word) for word in _words(text)]
    if any(not 0 < number < 1 for number in numbers):
        raise argparse.ArgumentTypeError(f"a relative tolerance lies between 0 and 1, got {text}")
    return numbers


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _print_list(console: Console, cases: Sequence[Case], methods: Sequence[Method]) -> None:
    table = Table(
        "problem", "sizes (* in --quick, + only when named)", "methods", title_justify="left", show_lines=True
    )
    for problem in dict.fromkeys(c.problem for c in cases):
        mine = [c for c in cases if c.problem == problem]
        sizes = ", ".join(dict.fromkeys(f"{c.size}{'*' * c.quick}{'+' * c.large}" for c in mine))
        names = ", ".join(m.name for m in methods if any(m.applies(c) for c in mine))
        table.add_row(problem, sizes, names)
    console.print(table)


def _choose_cases(
    parser: argparse.ArgumentParser, cases: Sequence[Case], only: list[str], quick: bool
) -> list[Case]:
    def selected(case: Case, word: str) -> bool:
        problem, _, size = word.partition(":")
        return case.problem == problem and size in ("", str(case.size))

    for word in only:
        if not any(selected(case, word) for case in cases):
            have = ", ".join(dict.fromkeys(f"{c.problem}:{c.size}" for c in cases))
            _reject(parser, f"--only {word} names no case: there are {have}")
    chosen = []
    for case in cases:
        exact = any(":" in word and selected(case, word) for word in only)
        named = not only or any(selected(case, word) for word in only)
        if named and (exact or (case.quick if quick else not case.large)):
            chosen.append(case)
    if not chosen:
        _reject(parser, "no case is left: --only names none of the --quick selection; name PROBLEM:SIZE")
    return chosen


def _choose_methods(
    parser: argparse.ArgumentParser, methods: Sequence[Method], names: list[str]
) -> list[Method]:
    have = [m.name for m in methods]
    for name in names:
        if name not in have:
            _reject(parser, f"--methods {name} is unknown: there are {', '.join(have)}")
    return [m for m in methods if not names or m.name in names]


def _reject(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    parser.error(message)


def _check_device(parser: argparse.ArgumentParser, device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, AttributeError) as error:
        text = str(error).splitlines()[0]
        _reject(parser, f"--device {device} cannot be used here ({text}): use cpu, or see `solvus doctor`")


def _numba_threads() -> int:
    """Size of the thread pool of numba, fixed when it is imported."""
    from numba.core import config

    return int(vars(config)["NUMBA_NUM_THREADS"])


def _same_pools(threads: int) -> None:
    """Give the thread pools of BLAS and OpenMP their size, which they read once: start the script anew."""
    if threads == available_cores() and not any(pool in os.environ for pool in _POOLS):
        return
    wanted = {pool: str(threads) for pool in _POOLS}
    if all(os.environ.get(pool) == size for pool, size in wanted.items()):
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})


class NotTried(RuntimeError):
    """A method that was not run; the text says why."""


def _measure_all(plan: _Plan, console: Console, out: Path | None) -> list[Record]:
    records: list[Record] = []
    late: dict[tuple[str, str], str] = {}  # (problem, method) that passed the wall limit, and how
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("", encoding="utf-8")
    for case in plan.cases:
        console.print(f"[bold]{case.problem}:{case.size}[/]")
        problem, unbuilt = _build(case)
        for rtol in plan.rtols or [case.rtol]:
            options = replace(plan.options, rtol=rtol)
            for method in plan.methods:
                if not method.applies(case):
                    continue
                key = (case.problem, method.name)
                why = unbuilt or late.get(key)
                tried = method if why is None else _refused(method, why)
                record = measure(plan.benchmark, case, problem, tried, options, plan.settings, plan.commit)
                if options.seconds is not None and (record.total_s or 0.0) > options.seconds:
                    took, limit = seconds(record.total_s), f"{options.seconds:g} s"
                    late.setdefault(key, f"took {took} s at size {case.size}, over the limit of {limit}")
                records.append(record)
                _show(console, record)
                if out is not None:
                    with out.open("a", encoding="utf-8") as lines:
                        lines.write(record.model_dump_json() + "\n")
        del problem
    return records


def _build(case: Case) -> tuple[Any, str | None]:
    """Build the problem of a case, or say why that failed."""
    try:
        return case.build(), None
    except Exception as error:  # the methods of this case are recorded as failures
        return None, f"the problem could not be built ({type(error).__name__}: {error})"


def _refused(method: Method, why: str) -> Method:
    """Return a stand-in for a method that fails with a given reason."""

    def refuse(problem: object, case: Case, options: Options) -> NoReturn:
        raise NotTried(why)

    return replace(method, run=refuse)


def _show(console: Console, record: Record) -> None:
    what = f"{seconds(record.total_s)} s" if record.ok else f"failed: {record.reason or 'not converged'}"
    console.print(f"  {record.method:<28} {record.package:<10} {escape(what)}", soft_wrap=True)
