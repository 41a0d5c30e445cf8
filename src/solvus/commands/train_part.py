"""What `solvus train` does for a learned part of a linear solver, whose data are drawn on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..parts.listing import PARTS, in_words, new_network, options_of, part_named, read_part, settings_of_part
from ..parts.plan import Ended, PartPlan, Request
from ..solvers.learned.part import LearnedPart
from ..solvers.training.outcome import Outcome
from ..training_plan import device_of, words_of
from .progress import duration, progress, rows_of
from .run_folder import forget_plan, keep_plan

STOPPED = 130  # what a shell reports after Ctrl-C


@final
@dataclass(frozen=True)
class Wish:
    """What the command line says about a part.

    Attributes:
        out: folder of the run.
        words: of `--set`.
        options: steps, size, batch and learning_rate, those that were given; sizes as text.
    """

    name: str
    out: Path
    words: Sequence[str]
    options: Mapping[str, Any]
    seconds: float | None
    seed: int
    device: str
    resume: bool


def train_part(console: Console, wish: Wish) -> None:
    """Train a part and save it in `model` of the folder.

    Raises:
        ValueError: settings that are unknown or out of range, a device that cannot be used.
        OtherTraining, FileExistsError, FileNotFoundError: see `keep_plan`.
    """
    plan, device = part_named(wish.name), device_of(wish.device)
    if plan.cpu_only and device.type != "cpu":
        raise ValueError(f"{wish.name} is trained on the CPU: leave out --device {wish.device}")
    options = {**wish.options}
    if "size" in options:
        options["size"] = sizes_in(options["size"])
    config, training = read_part(wish.name, plan, words_of(wish.words), options)
    network = new_network(plan, config, wish.seed)
    plan.check(network, training)
    record = {
        "part": wish.name,
        "settings": asdict(config),
        "training": asdict(training),
        "seed": wish.seed,
    }
    keep_plan(wish.out, record, resume=wish.resume)
    console.print(_opening(wish.name, plan, network, training))
    request = Request(wish.out, wish.seed, device, wish.seconds, lambda: progress(console))
    try:
        ended = plan.run(None if network is None else network.to(device), training, request)
    except KeyboardInterrupt:
        folder = escape(str(wish.out))
        console.print(
            f"stopped: the same command goes on from the last checkpoint in {folder}", soft_wrap=True
        )
        raise typer.Exit(STOPPED) from None
    except Exception:
        forget_plan(wish.out)
        raise
    meta = {
        **{key: in_words(value) for key, value in asdict(training).items()},
        "seed": wish.seed,
        "steps taken": ended.steps,
        "seconds": round(ended.seconds, 1),
        "device": _name_of(device),
        "threads": torch.get_num_threads(),
    }
    ended.part.save(wish.out / "model", metrics=ended.metrics, meta=meta, overwrite=True)
    console.print(_ending(ended))
    show_use(console, plan, wish.out / "model")


def show_use(console: Console, plan: PartPlan, folder: Path) -> None:
    """Print where the trained part is, and the lines of Python that use it."""
    console.print(f"[dim]model[/] {escape(str(folder))}", soft_wrap=True)
    console.print("[dim]next[/]  [dim]in Python, for a LinearSystem `system`:[/]")
    for line in (*plan.imports, plan.use.format(folder=str(folder))):
        console.print(f"      {escape(line)}", soft_wrap=True)


def sizes_in(text: str) -> tuple[int, ...]:
    """Return sizes that commas separate.

    Raises:
        ValueError: something that is no whole number.

    >>> sizes_in("16,32")
    (16, 32)
    """
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise ValueError(f"--size takes whole numbers, separated by commas, got {text!r}") from None


def refuse_options(name: str, given: Sequence[str]) -> None:
    """Refuse options of networks that learn from a dataset.

    Raises:
        ValueError: there is one.
    """
    if given:
        raise ValueError(
            f"{name} draws its training data itself and takes no {', '.join(given)}: it takes "
            f"{options_of(part_named(name))}"
        )


def parts_table() -> Table:
    """Return the parts with a line each."""
    table = Table("part of a linear solver", "", box=box.SIMPLE_HEAD)
    for name in PARTS:
        table.add_row(name, escape(part_named(name).says))
    return table


def part_settings_table(name: str) -> Table:
    """Return the options and settings of a part with their defaults."""
    table = Table("setting", "default", "of", box=box.SIMPLE_HEAD, title=name, title_justify="left")
    for setting, default, owner in settings_of_part(part_named(name)):
        table.add_row(setting, escape(default), owner)
    return table


def _opening(name: str, plan: PartPlan, network: LearnedPart | None, training: Any) -> Table:
    size = "computed" if network is None else f"{network.parameter_count} parameters"
    batch = f" of {training.batch}" if hasattr(training, "batch") else ""
    rows = [
        ("data", "drawn on the way"),
        ("part", f"{name}, {size}"),
        ("training", f"{training.steps} steps{batch}, size {in_words(training.size)}"),
        ("valid", plan.valid),
    ]
    return rows_of(rows)


def _ending(ended: Ended) -> Table:
    more = "" if ended.outcome is Outcome.FINISHED else "; the same command goes on"
    text = f"{ended.outcome.name} after {ended.steps} steps, {duration(ended.seconds)}{more}"
    return rows_of([("ended", text), *ended.rows])


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
