"""The command `solvus train`."""

from __future__ import annotations

import json
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
from ..meshes.whole import write_whole
from ..operators.neural.architectures import ARCHITECTURES, architecture
from ..operators.neural.base import NeuralOperator, parameter_count
from ..operators.neural.pod_regression import PODRegression
from ..solvers.training.checkpoint import OtherTraining
from ..solvers.training.fit import fit
from ..solvers.training.logs import Callback, Moment, Progress
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
from .settings import command

STOPPED = 130  # what a shell reports after Ctrl-C
PLAN = "plan.json"  # what was asked for, so that another request does not go on with this training
LINES = 10  # of progress, where there is no terminal


@final
@dataclass(frozen=True)
class Settings:
    """The options of the command."""

    network: Annotated[str | None, typer.Argument(help=f"One of {', '.join(ARCHITECTURES)}.")] = None
    data: Annotated[Path | None, typer.Argument(help="Folder that `generate` wrote, or a file of data.")] = (
        None
    )
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: the network's name.")] = None
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the network, KEY=VALUE; repeat it.")
    ] = None
    epochs: Annotated[int, typer.Option(help="Passes over the data.", min=1)] = 100
    batch: Annotated[int, typer.Option(help="Samples of a step.", min=1)] = 20
    learning_rate: Annotated[float, typer.Option(help="The highest one.")] = 1e-3
    schedule: Annotated[str, typer.Option(help=f"One of {', '.join(SCHEDULES)}.")] = "one-cycle"
    loss: Annotated[str, typer.Option(help=f"One of {', '.join(LOSSES)}.")] = "relative-l2"
    optimiser: Annotated[str, typer.Option(help="adamw, adam or sgd.")] = "adamw"
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
    list_: Annotated[bool, typer.Option("--list", help="Print the networks, or the settings of one.")] = False


def train_network(given: Settings) -> None:
    """Train a network on a dataset; the same command again goes on where it was stopped.

    Settings of the network that are not given follow the data. The validation split chooses the best epoch;
    the test split is not looked at. Ends with code 2 on bad input.
    """
    console = Console(highlight=False)
    with plain_errors():
        if given.list_ or given.network is None:
            console.print(_networks() if given.network is None else _settings(given.network))
            return
        if given.data is None:
            raise ValueError("name the data: a folder that `solvus generate` wrote, or a file")
        out = given.out or Path(given.network)
        with plain_warnings():
            _train(console, given, given.network, given.data, out)


train = command(train_network, Settings)


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
    _keep_plan(out, name, model)
    console.print(_opening(name, model, data, valid))
    if not is_trained(model):
        measured = evaluate(model, valid)
        model.save(out / "model", metrics=measured, overwrite=True)
        console.print(f"computed, nothing to train: error on validation {measured['valid']:.3e}")
    else:
        resume = (out / "settings.json").exists()
        show: Callback = Progress(console) if console.is_terminal else _Lines(console)
        try:
            result = fit(
                model.to(device),
                data,
                loss,
                training,
                valid=Validation(valid),
                out=out,
                resume=resume,
                callbacks=[show],
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


def _keep_plan(out: Path, name: str, model: Surrogate) -> None:
    """Write what is trained on what, or hold it against what the folder has.

    Raises:
        OtherTraining: the folder holds a run of another network, other settings or other data.
    """
    ends = b"".join(t.cpu().numpy().tobytes() for end in (model.encode, model.decode) for t in end.buffers())
    net: Any = model.net
    plan = {
        "network": name,
        "settings": net.settings(),
        "data": model.meta["data"]["name"],
        "pairing": model.meta["pairing"],
        "normalisers": sha256(ends).hexdigest(),
    }
    plan = json.loads(json.dumps(plan))
    file = out / PLAN
    if file.exists():
        found = json.loads(file.read_text())
        if differing := [key for key in plan if found.get(key) != plan[key]]:
            raise OtherTraining(
                f"{out} holds another run, other in {', '.join(differing)}: choose another --out"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out} holds other files: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(file, (json.dumps(plan, indent=2) + "\n").encode())


@final
class _Lines(Callback):
    """Print a line of progress now and then."""

    def __init__(self, console: Console) -> None:
        self._console, self._shown = console, 0

    def on_start(self, moment: Moment) -> None:
        done = len(moment.history)
        self._shown = LINES * done // moment.epochs
        if done:
            self._console.print(f"{done} of {moment.epochs} epochs are done: going on")

    def on_epoch(self, moment: Moment) -> None:
        share = LINES * moment.epoch // moment.epochs
        if share > self._shown:
            self._shown, row = share, moment.history[-1]
            self._console.print(
                f"epoch {moment.epoch} of {moment.epochs}, train {row['train']:.3e}, "
                f"valid {row['valid']:.3e}, {moment.rate:.3g} samples/s, {_duration(moment.left)} left",
                soft_wrap=True,
            )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _opening(name: str, model: Surrogate, data: FieldDataset, valid: FieldDataset) -> Table:
    grid = " x ".join(str(len(axis)) for axis in data.coordinates)
    rows = [
        ("data", f"{data.layout.name}, {len(data)} pairs to train, {len(valid)} to validate, {grid} points"),
        ("network", f"{name}, {parameter_count(model)} parameters"),
        ("maps", f"{', '.join(data.inputs)} to {', '.join(data.outputs)}"),
    ]
    return _grid(rows)


def _ending(result: Trained) -> Table:
    best = "" if result.best is None else f"{result.best:.3e} at epoch {result.best_epoch}"
    rows = [
        ("ended", f"{result.outcome.name} after {result.epochs} epochs, {_duration(result.seconds)}"),
        ("best validation", best),
    ]
    return _grid(rows)


def _grid(rows: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 3))
    for name, text in rows:
        table.add_row(f"[dim]{name}[/]", escape(text))
    return table


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
