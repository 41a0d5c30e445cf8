"""The command `solvus`: data, solves, benchmarks, report, doctor."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .bench.record import read_records
from .bench.table import seconds
from .commands.check import check
from .commands.console import plain_errors
from .commands.convert import convert
from .commands.evaluate import evaluate
from .commands.generate import generate
from .commands.predict import predict
from .commands.show import show
from .commands.train import train
from .doctor import Check, Finding, benchmark_folder, examine, self_test
from .named import (
    EQUATIONS,
    SOLVERS,
    check_vector_name,
    equation_named,
    in_words,
    solver_named,
    system_from_files,
    write_vector,
)
from .report import write_report
from .solvers import LinearSystem, Result, Status, Stop
from .solvers import solve as run_solver
from .solvers.auto import Auto

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Classical and learned solvers of PDEs and linear systems, measured side by side.",
)
_NAMES = f"auto, {', '.join(name for name in SOLVERS if name != 'auto')}"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"solvus {importlib.metadata.version('solvus')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@app.command()
def solve(
    problem: Annotated[
        str, typer.Argument(help=f"Matrix file (.mtx, .npz, .npy, .h5), or {', '.join(EQUATIONS)}.")
    ],
    rhs: Annotated[
        Path | None, typer.Argument(help="Right-hand side (.npy, .mtx, .npz); default: of a known solution.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Nodes per axis of a named equation.", min=1)] = None,
    contrast: Annotated[float | None, typer.Option(help="Ratio of the coefficients of diffusion.")] = None,
    solver: Annotated[str, typer.Option(help=f"One of {_NAMES}.")] = "auto",
    rtol: Annotated[float, typer.Option(help="Relative residual to reach.")] = 1e-8,
    out: Annotated[Path | None, typer.Option(help="Write the solution: .npy, .mtx or .txt.")] = None,
    device: Annotated[str, typer.Option(help="Torch device, for example cuda.")] = "cpu",
) -> None:
    """Solve A x = b: a matrix from a file, or a named equation.

    Prints the residual recomputed from the problem. Ends with code 0 when it meets the tolerance, with 1 when
    it does not, with 2 on bad input. Naming a solver that ends in cg declares a symmetric matrix positive
    definite.
    """
    with plain_errors():
        method = solver_named(solver)
        if out is not None:
            check_vector_name(out)
        system = _system(problem, rhs, size, contrast, device, definite=solver.endswith("cg"))
        result = run_solver(system, method, stop=Stop(rtol=rtol, max_steps=100_000), throw=False)
        chosen = f", chose {in_words(method.choose(system))}" if isinstance(method, Auto) else ""
        _show_result(system, solver + chosen, result)
        if out is not None:
            write_vector(out, result.value.cpu().numpy())
            Console().print(f"solution written to {escape(str(out))}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if result.status is Status.CONVERGED else 1)


def _system(
    problem: str, rhs: Path | None, size: int | None, contrast: float | None, device: str, *, definite: bool
) -> LinearSystem:
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}): see `solvus doctor`") from None
    if Path(problem).suffix or Path(problem).exists():
        if size is not None or contrast is not None:
            raise ValueError("--size and --contrast belong to named equations, not to a matrix file")
        return system_from_files(problem, rhs, device, definite=definite)
    if rhs is not None:
        raise ValueError(f"the equation {problem} brings its own right-hand side: leave out {rhs}")
    return equation_named(problem, size, contrast, device)


def _show_result(system: LinearSystem, method: str, result: Result) -> None:
    colour = "green" if result.status is Status.CONVERGED else "red"
    status = f"[bold {colour}]{result.status.name}[/]"
    if result.status is not Status.CONVERGED:
        status += f": {escape(result.reason + '; ' if result.reason else '')}{escape(result.status.advice)}"
    table = Table.grid(padding=(0, 3))
    rows = [
        ("system", escape(repr(system.A))),
        ("solver", escape(method)),
        ("status", status),
        ("steps", str(result.steps)),
        ("true residual", f"{float(result.relative_residual.max()):.2e} relative to b"),
        ("set-up", f"{seconds(result.stats['setup_s'])} s"),
        ("solve", f"{seconds(result.stats['solve_s'])} s"),
    ]
    for name, text in rows:
        table.add_row(f"[dim]{name}[/]", text)
    Console(highlight=False).print(table)


_COMMANDS = {"generate": generate, "check": check, "show": show, "convert": convert}
_COMMANDS |= {"train": train, "eval": evaluate, "predict": predict}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks, default all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small selection of cases.")] = False,
    only: Annotated[str | None, typer.Option(help="PROBLEM[:SIZE],...")] = None,
    methods: Annotated[str | None, typer.Option(help="NAME,...")] = None,
    repeats: Annotated[int | None, typer.Option(help="Timed runs after the warm-up.", min=1)] = None,
    device: Annotated[str | None, typer.Option(help="Torch device.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the records, one file per benchmark.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print problems, sizes and methods.")] = False,
) -> None:
    """Run benchmark scripts of the repository; ends with code 1 when one of them fails."""
    with plain_errors():
        scripts = _scripts(names or [])
        flags = ["--quick"] * quick + ["--list"] * list_
        given = {"--only": only, "--methods": methods, "--repeats": repeats, "--device": device}
        flags += [str(word) for flag, value in given.items() if value is not None for word in (flag, value)]
        failed = []
        for script in scripts:
            Console().rule(f"{script.stem}", align="left")
            record = [] if out is None or list_ else ["--out", str(out / f"{script.stem}.jsonl")]
            ended = subprocess.run([sys.executable, str(script), *flags, *record], check=False)
            if ended.returncode:
                failed.append(script.stem)
    if failed:
        Console(stderr=True).print(f"[bold red]failed[/] {', '.join(failed)}")
        raise typer.Exit(1)


def _scripts(names: list[str]) -> list[Path]:
    folder = benchmark_folder()
    if folder is None:
        raise FileNotFoundError("the benchmark scripts are part of the repository: run this in a checkout")
    have = {path.stem: path for path in sorted(folder.glob("*.py"))}
    unknown = [name for name in names if name not in have]
    if unknown:
        raise ValueError(f"there is no benchmark {', '.join(unknown)}: there are {', '.join(have)}")
    return [have[name] for name in names] or list(have.values())


@app.command()
def report(
    records: Annotated[list[Path], typer.Argument(help="JSON-lines files of benchmark records.")],
    out: Annotated[Path, typer.Option(help="Folder for the page, index.html.")],
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Accuracy versus speed",
) -> None:
    """Draw one self-contained page from benchmark records."""
    with plain_errors():
        found = read_records(records)
        page = write_report(found, out, title)
        typer.echo(f"{len(found)} records drawn in {page}")


@app.command()
def doctor(
    device: Annotated[str, typer.Option(help="Torch device of the self-test.")] = "cpu",
) -> None:
    """Tell what is installed and found, how to get what is missing, and test the solvers for a second.

    Ends with code 1 when something needed is missing or a solver fails the test.
    """
    with plain_errors():
        findings = examine()
        checks = self_test(device)
        console = Console(highlight=False)
        console.print(_findings_table(findings))
        console.print(_checks_table(checks, device))
    missing = [f.part for f in findings if f.needed and not f.works]
    failed = [c.solver for c in checks if not c.passed]
    if missing or failed:
        console.print(f"[bold red]not well[/]: {', '.join(missing + failed)}")
        raise typer.Exit(1)
    console.print("[bold green]all is well[/]: what is missing above is optional")


def _findings_table(findings: list[Finding]) -> Table:
    table = Table("part", "", "", box=box.SIMPLE_HEAD, title="what is here", title_justify="left")
    for f in findings:
        state = "[green]ok[/]" if f.works else "[red]missing[/]" if f.needed else "[yellow]no[/]"
        table.add_row(f.part, state, escape(f.detail))
    return table


def _checks_table(checks: list[Check], device: str) -> Table:
    title = f"self-test on {device}: Poisson, to 1e-8"
    table = Table(
        "solver", "", "residual", "seconds", "", box=box.SIMPLE_HEAD, title=title, title_justify="left"
    )
    for c in checks:
        state = "[green]ok[/]" if c.passed else "[red]failed[/]"
        table.add_row(c.solver, state, f"{c.residual:.1e}", seconds(c.seconds), escape(c.detail))
    return table


if __name__ == "__main__":
    app()
