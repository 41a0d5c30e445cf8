"""The command `solvus train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, final

import torch
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..datasets.loading.load import FieldDataset
from ..operators.neural.architectures import ARCHITECTURES, UnknownName, architecture
from ..operators.neural.base import NeuralOperator, parameter_count
from ..operators.neural.pod_regression import PODRegression
from ..parts.listing import OWN_OPTIONS, PARTS
from ..solvers.pinn.chains import START
from ..solvers.pinn.problems import PROBLEMS
from ..solvers.training.fit import fit
from ..solvers.training.outcome import Trained
from ..solvers.training.settings import Training
from ..solvers.training.surrogate import Surrogate
from ..solvers.training.validation import Validation, evaluate
from ..training_plan import (
    LOSSES,
    SCHEDULES,
    Pairing,
    device_of,
    is_trained,
    loss_named,
    make_network,
    make_surrogate,
    names_in,
    read_settings,
    schedule_named,
    settings_of,
    signature_of,
    stacked,
    train_and_valid,
    words_of,
)
from .console import plain_errors, plain_warnings
from .progress import duration, progress, rows_of
from .run_folder import keep_plan
from .settings import command
from .train_part import STOPPED, Wish, part_settings_table, parts_table, refuse_options, train_part
from .train_pinn import (
    OPTIMISERS,
    PINN_FIELDS,
    PINN_OPTIONS,
    RECIPE,
    PinnWish,
    pinn_settings_table,
    pinn_table,
    train_pinn,
    trainings_table,
)

PINN = "pinn"
GIVEN = ("COMMANDLINE", "ENVIRONMENT")  # where options come from, rather than from a default
PART_FIELDS = ("network", "out", "set_", *OWN_OPTIONS, "seconds", "seed", "device", "resume")


@final
@dataclass(frozen=True)
class Settings:
    """The options of the command."""

    context: typer.Context
    network: Annotated[
        str | None,
        typer.Argument(
            help=f"A network, one of {', '.join(ARCHITECTURES)}; or a part of a linear solver, one of "
            f"{', '.join(PARTS)}; or {PINN}, for a problem."
        ),
    ] = None
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder that `generate` wrote, or a file of data; parts of solvers take none; the problem "
            f"of {PINN}, one of {', '.join(PROBLEMS)}."
        ),
    ] = None
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default: the network's name, or pinn-PROBLEM.")
    ] = None
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, KEY=VALUE; repeat it. --list shows them.")
    ] = None
    epochs: Annotated[int, typer.Option(help="Passes over the data.", min=1)] = 100
    steps: Annotated[
        int | None,
        typer.Option(
            help=f"Parts and {PINN}: steps of the optimiser; of second order: after {START} of Adam.", min=1
        ),
    ] = None
    size: Annotated[str | None, typer.Option(help="Parts: points per axis of the systems, N,...")] = None
    batch: Annotated[int, typer.Option(help="Samples of a step; parts have their own default.", min=1)] = 20
    learning_rate: Annotated[float, typer.Option(help="The highest one; parts have their own default.")] = (
        1e-3
    )
    schedule: Annotated[str, typer.Option(help=f"One of {', '.join(SCHEDULES)}.")] = "one-cycle"
    loss: Annotated[str, typer.Option(help=f"One of {', '.join(LOSSES)}.")] = "relative-l2"
    optimiser: Annotated[
        str,
        typer.Option(
            help=f"adamw, adam or sgd; {PINN}: {', '.join(OPTIMISERS)}.",
            show_default=f"adamw; {PINN}: {RECIPE}",
        ),
    ] = "adamw"
    weight_decay: Annotated[float, typer.Option(help="Of the optimiser.")] = 1e-4
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better one.", min=1)
    ] = None
    seconds: Annotated[float | None, typer.Option(help="Stop after so long; the same command goes on.")] = (
        None
    )
    seed: Annotated[int, typer.Option(help="Of weights and order.", min=0)] = 0
    device: Annotated[str, typer.Option(help="Torch device, for example cuda.")] = "cpu"
    precision: Annotated[str, typer.Option(help="float32, bf16 or fp16 (CUDA).")] = "float32"
    normalise: Annotated[str, typer.Option(help="channel, pointwise, scalar or none.")] = "channel"
    stride: Annotated[int, typer.Option(help="Keep every so many points.", min=1)] = 1
    samples: Annotated[int | None, typer.Option(help="Train on the first so many.", min=1)] = None
    window_in: Annotated[int, typer.Option(help="Trajectories: frames that go in.", min=1)] = 1
    window_out: Annotated[int, typer.Option(help="Trajectories: frames asked for.", min=1)] = 1
    inputs: Annotated[str, typer.Option(help="Fields that go in, NAME,...; default: by role.")] = ""
    outputs: Annotated[str, typer.Option(help="Fields asked for, NAME,...; default: by role.")] = ""
    resume: Annotated[bool, typer.Option("--resume", help="Only go on: there must be a run in --out.")] = (
        False
    )
    list_: Annotated[
        bool, typer.Option("--list", help="Print networks and parts, or the settings of one.")
    ] = False

    def named(self) -> dict[str, str]:
        """Return the options that the command line has, by field, as they are written."""
        source = self.context.get_parameter_source
        fields = [f.name for f in dataclasses.fields(self)[1:]]
        there = [name for name in fields if getattr(source(name), "name", None) in GIVEN]
        return {name: f"--{name.strip('_').replace('_', '-')}" for name in there}


def train_network(given: Settings) -> None:
    """Train a network on a dataset; a learned part of a linear solver, or `pinn PROBLEM`, without one.

    The same command again goes on where it was stopped. Settings of a network that are not given follow the
    data; the validation split chooses the best epoch; the test split is not looked at. Ends with code 2 on
    bad input.
    """
    console = Console(highlight=False)
    with plain_errors():
        name = given.network
        if name is None:
            console.print(_networks(), parts_table(), pinn_table(), sep="")
            return
        if name not in (*ARCHITECTURES, *PARTS, PINN):
            raise UnknownName(
                f"there is no network {name!r}, and no part of a solver: networks are "
                f"{', '.join(ARCHITECTURES)}; parts are {', '.join(PARTS)}; {PINN} solves a problem"
            )
        if given.list_:
            if name == PINN:
                problem = None if given.data is None else str(given.data)
                console.print(pinn_table(), trainings_table(), pinn_settings_table(problem), sep="")
            else:
                console.print(part_settings_table(name) if name in PARTS else _settings(name))
            return
        out = given.out or Path(f"{PINN}-{given.data}" if name == PINN else name)
        with plain_warnings():
            if name == PINN:
                train_pinn(console, _pinn_wish(given, out))
            elif name in PARTS:
                train_part(console, _wish(given, name, out))
            else:
                _train(console, given, name, _data(given, name), out)


train = command(train_network, Settings)


def _wish(given: Settings, name: str, out: Path) -> Wish:
    """Return what is wanted of a part.

    Raises:
        ValueError: a dataset, or an option that only networks have.
    """
    if given.data is not None:
        raise ValueError(f"{name} draws its training data itself: leave out {given.data}")
    named = given.named()
    refuse_options(name, [option for field, option in named.items() if field not in PART_FIELDS])
    options = {field: getattr(given, field) for field in OWN_OPTIONS if field in named}
    return Wish(name, out, given.set_ or [], options, given.seconds, given.seed, given.device, given.resume)


def _pinn_wish(given: Settings, out: Path) -> PinnWish:
    """Return what is wanted of a physics-informed network.

    Raises:
        ValueError: no problem, or an option that it does not have.
    """
    if given.data is None:
        raise ValueError(f"name the problem: `solvus train {PINN} PROBLEM`, one of {', '.join(PROBLEMS)}")
    named = given.named()
    if foreign := [option for field, option in named.items() if field not in PINN_FIELDS]:
        raise ValueError(
            f"{PINN} takes no {', '.join(foreign)}: it takes {', '.join(PINN_OPTIONS)}, and `solvus train "
            f"{PINN} PROBLEM --list` shows the settings"
        )
    options = {field: getattr(given, field) for field in ("steps", "learning_rate") if field in named}
    optimiser = given.optimiser if "optimiser" in named else RECIPE
    return PinnWish(
        str(given.data),
        out,
        optimiser,
        given.set_ or [],
        options,
        given.seconds,
        given.seed,
        given.device,
        given.resume,
    )


def _data(given: Settings, name: str) -> Path:
    """Return where the data of a network are.

    Raises:
        ValueError: nowhere, or an option that only parts have.
    """
    if given.steps is not None:
        raise ValueError(f"{name} passes over a dataset: give --epochs in place of --steps")
    if given.size is not None:
        raise ValueError(f"{name} takes the grid of its data: leave out --size; --stride keeps fewer points")
    if given.data is None:
        raise ValueError("name the data: a folder that `solvus generate` wrote, or a file")
    if str(given.data) in PARTS and not given.data.exists():
        raise ValueError(
            f"{given.data} is a part of a solver and no data: `solvus train {given.data}` trains it"
        )
    return given.data


def _train(console: Console, given: Settings, name: str, path: Path, out: Path) -> None:
    device = device_of(given.device)
    training = _training(given)
    words = read_settings(architecture(name), words_of(given.set_ or []))
    pairing = Pairing(
        given.window_in, given.window_out, given.stride, names_in(given.inputs), names_in(given.outputs)
    )
    data, valid = train_and_valid(path, pairing, given.samples)
    model = _model(given, name, words, pairing, data, valid)
    loss = loss_named(given.loss, model.signature)
    keep_plan(out, _plan(name, model), resume=given.resume)
    console.print(_opening(name, model, data, valid))
    if not is_trained(model):
        measured = evaluate(model, valid)
        model.save(out / "model", metrics=measured, overwrite=True)
        console.print(f"computed, nothing to train: error on validation {measured['valid']:.3e}")
    else:
        resume = (out / "settings.json").exists()
        try:
            result = fit(
                model.to(device),
                data,
                loss,
                training,
                valid=Validation(valid),
                out=out,
                resume=resume,
                callbacks=[progress(console)],
            )
        except KeyboardInterrupt:
            console.print(f"stopped: the same command goes on from the last checkpoint in {escape(str(out))}")
            raise typer.Exit(STOPPED) from None
        console.print(_ending(result))
    folder, source = escape(str(out)), escape(str(path))
    console.print(f"[dim]model[/] {folder}/model", soft_wrap=True)
    console.print(f"[dim]next[/]  solvus eval {folder} {source}  [dim]errors on test data[/]", soft_wrap=True)


def _training(given: Settings) -> Training:
    return Training(
        epochs=given.epochs,
        batch=given.batch,
        learning_rate=given.learning_rate,
        optimiser=given.optimiser,  # pyright: ignore[reportArgumentType]
        weight_decay=given.weight_decay,
        schedule=schedule_named(given.schedule, given.epochs),
        precision=given.precision,  # pyright: ignore[reportArgumentType]
        patience=given.patience,
        seconds=given.seconds,
        seed=given.seed,
    )


def _model(
    given: Settings,
    name: str,
    words: Mapping[str, Any],
    pairing: Pairing,
    data: FieldDataset,
    valid: FieldDataset,
) -> Surrogate:
    """Make the model, its first weights drawn with the seed."""
    known = {"name": data.layout.name, "split": data.split, "file": str(given.data), "pairs": len(data)}
    meta = {"data": known, "pairing": asdict(pairing)}
    if architecture(name) is PODRegression:
        if words:
            raise ValueError(f"{name} finds its ranks on the validation data: leave out --set")
        net = PODRegression.from_data(stacked(data), stacked(valid))
        return Surrogate(net, signature=signature_of(data), meta=meta)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(given.seed)
        net = make_network(name, words, data)
    return make_surrogate(net, data, given.normalise, meta)  # pyright: ignore[reportArgumentType]


def _plan(name: str, model: Surrogate) -> dict[str, Any]:
    """Return what is trained on what."""
    ends = b"".join(t.cpu().numpy().tobytes() for end in (model.encode, model.decode) for t in end.buffers())
    net: Any = model.net
    return {
        "network": name,
        "settings": net.settings(),
        "data": model.meta["data"]["name"],
        "pairing": model.meta["pairing"],
        "normalisers": sha256(ends).hexdigest(),
    }


def _opening(name: str, model: Surrogate, data: FieldDataset, valid: FieldDataset) -> Table:
    grid = " x ".join(str(len(axis)) for axis in data.coordinates)
    rows = [
        ("data", f"{data.layout.name}, {len(data)} pairs to train, {len(valid)} to validate, {grid} points"),
        ("network", f"{name}, {parameter_count(model)} parameters"),
        ("maps", f"{', '.join(data.inputs)} to {', '.join(data.outputs)}"),
    ]
    return rows_of(rows)


def _ending(result: Trained) -> Table:
    best = "" if result.best is None else f"{result.best:.3e} at epoch {result.best_epoch}"
    rows = [
        ("ended", f"{result.outcome.name} after {result.epochs} epochs, {duration(result.seconds)}"),
        ("best validation", best),
    ]
    return rows_of(rows)


def _networks() -> Table:
    table = Table("network", "", box=box.SIMPLE_HEAD)
    for name in ARCHITECTURES:
        table.add_row(name, escape((architecture(name).__doc__ or "").strip().splitlines()[0]))
    return table


def _settings(name: str) -> Table:
    kind: type[NeuralOperator] = architecture(name)
    table = Table("setting", "default", box=box.SIMPLE_HEAD, title=name, title_justify="left")
    for setting, default in settings_of(kind):
        table.add_row(setting, escape(default))
    return table
