"""What `solvus train pinn PROBLEM` does: a boundary value problem, a network, pictures and the errors."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..meshes.whole import write_whole
from ..operators.linear import NotSupported
from ..solvers import SolveError
from ..solvers.pinn import PINN, Fitted, Run, fit
from ..solvers.pinn.chains import TRAININGS, Settings
from ..solvers.pinn.pictures import draw
from ..solvers.pinn.problems import PROBLEMS, NamedProblem, NoReference, Reference, problem_named
from ..training_plan import device_of, words_of
from .progress import LINES, duration, rows_of
from .run_folder import forget_plan, keep_plan
from .train_part import STOPPED

RECIPE = "recipe"
OPTIMISERS = (RECIPE, *TRAININGS)
PINN_FIELDS = (
    "network", "data", "out", "set_", "steps", "learning_rate", "optimiser", "seconds", "seed", "device",
    "resume",
)  # fmt: skip
PINN_OPTIONS = tuple(
    f"--{n.strip('_').replace('_', '-')}" for n in PINN_FIELDS if n not in ("network", "data")
)
_SET = [f.name for f in dataclasses.fields(Settings) if f.name not in ("steps", "learning_rate", "seed")]


@final
@dataclass(frozen=True)
class PinnWish:
    """What the command line says about a training of a physics-informed network.

    Attributes:
        problem: its name.
        optimiser: "recipe", or the name of a training.
        words: of `--set`.
        given: steps, learning_rate and seed, those that were given.
    """

    problem: str
    out: Path
    optimiser: str
    words: Sequence[str]
    given: Mapping[str, Any]
    seconds: float | None
    seed: int
    device: str
    resume: bool


def train_pinn(console: Console, wish: PinnWish) -> None:
    """Train a network to solve a named problem; compare with its reference and the classical method.

    Raises:
        ValueError: settings that are unknown or out of range.
        NoSuchProblem: there is no such problem.
    """
    named = problem_named(wish.problem)
    parameters, settings = read_words(wish, named)
    device = None if wish.device == "cpu" else str(device_of(wish.device))
    if wish.optimiser == RECIPE:
        pinn = dataclasses.replace(named.recipe(), seed=wish.seed, device=device)
    else:
        pinn = TRAININGS[wish.optimiser].pinn(settings, device)
    problem = named.make(**parameters)
    record = {
        "problem": wish.problem,
        "parameters": parameters,
        "optimiser": wish.optimiser,
        "settings": dataclasses.asdict(settings) if wish.optimiser != RECIPE else {"seed": wish.seed},
    }
    keep_plan(wish.out, record, resume=wish.resume)
    known, without = _reference(named, parameters)
    console.print(_opening(wish, named, pinn, known))
    if without:
        console.print(f"[yellow]no reference[/] {escape(without)}", soft_wrap=True)
    folder = wish.out / "model"
    try:
        fitted = fit(
            problem,
            pinn,
            out=folder,
            resume=(folder / "checkpoint.pt").exists(),
            seconds=wish.seconds,
            every=max(1, min(100, pinn.steps // 20)),
            callbacks=[Lines(console, pinn.steps)],
            reference=known,
        )
    except KeyboardInterrupt:
        kept = (folder / "checkpoint.pt").exists()
        then = "goes on from the last checkpoint" if kept else "begins anew, as there is no checkpoint yet,"
        console.print(f"stopped: the same command {then} in {escape(str(wish.out))}")
        raise typer.Exit(STOPPED) from None
    except Exception:
        forget_plan(wish.out)
        raise
    picture = draw(fitted.solution, wish.out / "pictures.png", known, fitted.history)
    errors = _compare(named, parameters, known, fitted)
    write_whole(wish.out / "metrics.json", (json.dumps(errors, indent=2) + "\n").encode())
    console.print(_ending(fitted, errors, _published(named, parameters)))
    console.print(f"[dim]solution[/] {escape(str(folder))}", soft_wrap=True)
    console.print(f"[dim]picture[/]  {escape(str(picture))}", soft_wrap=True)
    console.print("[dim]next[/]  [dim]in Python:[/]")
    given = ", ".join(f"{k}={v!r}" for k, v in parameters.items())
    for line in (
        "from solvus.solvers.pinn import Solution",
        "from solvus.solvers.pinn.problems import problem_named",
        f'u = Solution.load("{folder}", problem_named("{wish.problem}").make({given}))',
    ):
        console.print(f"      {escape(line)}", soft_wrap=True)


def read_words(wish: PinnWish, named: NamedProblem) -> tuple[dict[str, Any], Settings]:
    """Return the parameters of the problem and the settings of the training.

    Raises:
        ValueError: an unknown name, an unknown optimiser, or a value that is none.
    """
    if wish.optimiser not in OPTIMISERS:
        raise ValueError(f"--optimiser is one of {', '.join(OPTIMISERS)}, got {wish.optimiser!r}")
    words = words_of(wish.words)
    default = TRAININGS["adam" if wish.optimiser == RECIPE else wish.optimiser].settings
    own = [] if wish.optimiser == RECIPE else _SET
    if unknown := sorted(set(words) - {*own, *named.parameters}):
        known = ", ".join([*named.parameters, *own]) or "none"
        raise ValueError(
            f"{wish.problem} has no setting {', '.join(unknown)}: with this optimiser it has {known}"
        )
    if wish.optimiser == RECIPE and wish.given:
        said = ", ".join(f"--{name.replace('_', '-')}" for name in wish.given)
        raise ValueError(f"the recipe of {wish.problem} has steps and rates of its own: leave out {said}")
    defaults = named.defaults(recipe=wish.optimiser == RECIPE)
    parameters = {k: _number(k, words.get(k), v) for k, v in defaults.items()}
    changed = {k: _number(k, words[k], getattr(default, k)) for k in own if k in words}
    for key, value in {**changed, **wish.given}.items():
        if not (isinstance(value, bool) or value > 0):
            raise ValueError(f"{key} is positive, got {value}")
    return parameters, dataclasses.replace(default, **changed, **wish.given, seed=wish.seed)


def pinn_table() -> Table:
    """Return the problems with a line each."""
    table = Table("problem of `train pinn`", "", box=box.SIMPLE_HEAD)
    for name in PROBLEMS:
        table.add_row(name, escape(problem_named(name).says))
    return table


def trainings_table() -> Table:
    """Return the optimisers with a line each."""
    table = Table("--optimiser of `train pinn`", "", box=box.SIMPLE_HEAD)
    table.add_row(RECIPE, "the best chain that we know for the problem (default)")
    for name, training in TRAININGS.items():
        s = training.settings
        table.add_row(name, f"{training.says}; MLP {s.depth} x {s.width}, {s.steps} steps")
    return table


def pinn_settings_table(problem: str | None) -> Table:
    """Return what `--set` takes: parameters of a problem, and settings of the optimisers."""
    table = Table("--set of `train pinn`", "default", "", box=box.SIMPLE_HEAD)
    if problem is not None:
        for name, value in problem_named(problem).parameters.items():
            table.add_row(name, str(value), f"of {problem}")
    for name in _SET:
        values = dict.fromkeys(str(getattr(t.settings, name)) for t in TRAININGS.values())
        table.add_row(name, " or ".join(values), "of all optimisers but the recipe")
    return table


@final
class Lines:
    """Print a line of progress now and then."""

    def __init__(self, console: Console, steps: int) -> None:
        self._console, self._steps, self._shown = console, steps, 0

    def __call__(self, run: Run, row: Mapping[str, Any]) -> None:
        share = LINES * row["step"] // self._steps
        if share > self._shown or run.done:
            self._shown = share
            error = f", error {row['error']:.3e}" if "error" in row else ""
            self._console.print(
                f"step {row['step']} of {self._steps}, {row['method']}, loss {row['loss']:.3e}{error}, "
                f"{duration(row['seconds'])}",
                soft_wrap=True,
            )


def _number(name: str, word: str | None, default: Any) -> Any:
    if word is None:
        return default
    if isinstance(default, bool):
        if word not in ("True", "False"):
            raise ValueError(f"{name} is True or False, got {word!r}")
        return word == "True"
    try:
        return type(default)(word)
    except ValueError:
        kind = "whole number" if isinstance(default, int) else "number"
        raise ValueError(f"{name} is a {kind} such as {default}, got {word!r}") from None


def _reference(named: NamedProblem, parameters: Mapping[str, Any]) -> tuple[Reference | None, str]:
    try:
        return named.reference(**parameters), ""
    except (NoReference, ValueError) as error:
        return None, str(error)


def _floor(known: Reference) -> float | None:
    return None if math.isnan(known.floor) else known.floor


def _compare(
    named: NamedProblem, parameters: Mapping[str, Any], known: Reference | None, fitted: Fitted
) -> dict[str, Any]:
    """Return errors and seconds, of the network and of the classical method on the same points."""
    row: dict[str, Any] = {
        "seconds": fitted.seconds,
        "steps": fitted.steps,
        "evaluations": fitted.evaluations,
    }
    row |= {f"residual: {name}": value for name, value in fitted.residuals.items()}
    row |= {f"found: {name}": value for name, value in fitted.solution.unknowns.items()}
    if known is None:
        return row
    row |= {"error": fitted.error, "floor": _floor(known), "reference": known.source}
    try:
        answer = named.fem(named.fem_n, **parameters)
    except (ImportError, NotSupported, ValueError, ArithmeticError, MemoryError, SolveError) as error:
        return row | {"classical": f"not run: {error or type(error).__name__}"}
    difference = answer.at(known.points) - known.values
    gap = float((difference**2).sum() ** 0.5 / (known.values**2).sum() ** 0.5)
    said = f"{gap:.2e} in {duration(answer.seconds) if answer.seconds > 60 else f'{answer.seconds:.2g} s'}"
    row |= {"classical": f"{said}: {answer.method}, {answer.unknowns} unknowns"}
    return row | {"classical_error": gap, "classical_seconds": answer.seconds}


def _opening(wish: PinnWish, named: NamedProblem, pinn: PINN, known: Reference | None) -> Table:
    chain = ", ".join(f"{type(p.optimiser).__name__} {p.steps}" for p in pinn.chain)
    rows = [
        ("problem", f"{wish.problem}: {named.says}"),
        ("network", repr(pinn.network)),
        ("training", chain),
        ("points", f"{pinn.points.domain} inside, {pinn.points.boundary} on the boundary"),
    ]
    if known is not None:
        own = "not known" if _floor(known) is None else f"{known.floor:.1e}"
        rows.append(("reference", f"{known.source}; its own error {own}"))
    return rows_of(rows)


def _published(named: NamedProblem, parameters: Mapping[str, Any]) -> str:
    """Return what is known of others, which is for the default parameters, however conditions are met."""
    own = {name: value for name, value in parameters.items() if name != "hard"}
    changed = any(named.parameters[name] != value for name, value in own.items())
    if changed or named.published is None:
        return "none is published" + (" for these parameters" if changed else "")
    return f"best published {named.published:.2e}"


def _ending(fitted: Fitted, errors: Mapping[str, Any], published: str) -> Table:
    more = "; the same command goes on" if fitted.outcome.name == "TIMEOUT" else ""
    rows = [("ended", f"{fitted.outcome.name} after {fitted.steps} steps, {duration(fitted.seconds)}{more}")]
    rows += [("", stop) for stop in fitted.stops]
    worst = max(fitted.residuals, key=lambda name: fitted.residuals[name])
    rows.append(("largest residual", f"{fitted.residuals[worst]:.2e}, {worst}"))
    rows += [(f"found {name}", f"{value:.6g}") for name, value in fitted.solution.unknowns.items()]
    if errors.get("error") is not None:
        rows.append(("relative L2 error", f"{errors['error']:.2e} ({published})"))
    if "classical" in errors:
        rows.append(("classical method", errors["classical"]))
    return rows_of(rows)
