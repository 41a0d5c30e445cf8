"""The command `solvus eval`."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, final

import numpy as np
import torch
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ..datasets.formats.open import Kind, kind_of
from ..datasets.loading.load import FieldDataset
from ..datasets.loading.metrics import max_error, relative_l2, rmse, summary
from ..datasets.loading.window import Window
from ..meshes.whole import write_whole
from ..operators.neural.base import WrongChannels
from ..solvers.training.surrogate import Signature, Surrogate
from ..training_plan import Pairing, device_of, model_folder, pairing_of, relative_h1, signature_of
from .console import plain_errors, plain_warnings
from .settings import command

ALL = "all fields"
Figures = Mapping[str, Mapping[str, float]]


@final
@dataclass(frozen=True)
class Settings:
    """The options of the command."""

    run: Annotated[Path, typer.Argument(help="Folder that `train` wrote, or of a saved model.")]
    data: Annotated[Path, typer.Argument(help="Folder that `generate` wrote, or a file of data.")]
    split: Annotated[str | None, typer.Option(help="Default: test of a folder, all of a file.")] = None
    name: Annotated[str | None, typer.Option(help="Of the figures; default: data and split.")] = None
    batch: Annotated[int, typer.Option(help="Samples at a time.", min=1)] = 64
    samples: Annotated[int | None, typer.Option(help="The first so many.", min=1)] = None
    stride: Annotated[int | None, typer.Option(help="Points kept; default: that of training.", min=1)] = None
    device: Annotated[str, typer.Option(help="Torch device, for example cuda.")] = "cpu"


def evaluate_network(given: Settings) -> None:
    """Measure a trained network on test data, in physical units; for trajectories also its rollout.

    Writes RUN/eval-NAME.json. Ends with code 2 on bad input.
    """
    console = Console(highlight=False)
    with plain_errors(), plain_warnings():
        model = Surrogate.load(model_folder(given.run), device=device_of(given.device))
        split = given.split or ("test" if kind_of(given.data) is Kind.FOLDER else None)
        pairing = pairing_of(model)
        if given.stride is not None:
            pairing = Pairing(**{**vars(pairing), "stride": given.stride})
        data = pairing.load(given.data, split, given.samples)
        _check_fields(model.signature, data)
        _warn(model, given.data, data)
        fields, failed = _errors(model, data, given.batch)
        curve = _rollout(model, pairing, given, split)
        name = _slug(given.name or f"{data.layout.name}-{split or 'all'}")
        file = given.run / f"eval-{name}.json"
        record = {
            "data": data.layout.name,
            "split": split,
            "pairs": len(data),
            "grid": [len(axis) for axis in data.coordinates],
            "not_finite": failed,
            "fields": fields,
            "rollout": curve,
        }
        text = json.dumps(_plain(record), indent=2, allow_nan=False)
        write_whole(file, (text + "\n").encode())
        console.print(_table(fields, f"{data.layout.name}, {split or 'all'}: {len(data)} pairs"))
        if curve:
            console.print(_rollout_table(curve))
        console.print(f"[dim]written to[/] {escape(str(file))}", soft_wrap=True)


evaluate = command(evaluate_network, Settings)


def _check_fields(signature: Signature, data: FieldDataset) -> None:
    """Hold the channels of the data against those of the model.

    Raises:
        WrongChannels: their numbers differ.

    Warns:
        UserWarning: their names differ.
    """
    for what in ("inputs", "outputs"):
        wanted, have = getattr(signature, what), getattr(data, what)
        if wanted and len(wanted) != len(have):
            raise WrongChannels(
                f"the model has the {what} {', '.join(wanted)}, {data.layout.name} has {', '.join(have)}: "
                "give data of the same fields"
            )
        if wanted and wanted != have:
            warnings.warn(
                f"the model's {what} are called {', '.join(wanted)}, those of the data {', '.join(have)}: "
                "they are taken in this order",
                stacklevel=2,
            )


def _warn(model: Surrogate, path: Path, data: FieldDataset) -> None:
    """Warn of another grid than that of training, and of data that were trained on."""
    trained = [np.asarray(axis) for axis in model.signature.coordinates]
    here = [np.asarray(axis) for axis in data.coordinates]
    if trained and [len(a) for a in trained] != [len(a) for a in here]:
        was, now = (" x ".join(str(len(a)) for a in axes) for axes in (trained, here))
        warnings.warn(f"the grid of {now} points is not that of training, {was}", stacklevel=2)
    elif trained and not all(
        np.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(trained, here, strict=True)
    ):
        warnings.warn("the points lie elsewhere than those of training, in the same number", stacklevel=2)
    known = model.meta.get("data", {})
    same = known.get("file") is not None and Path(known["file"]).resolve() == path.resolve()
    if same and known.get("split") == data.split:
        warnings.warn("these data were trained on: the errors are no test errors", stacklevel=2)


def _errors(model: Surrogate, data: FieldDataset, batch: int) -> tuple[dict[str, Figures], int]:
    """Return the errors by field, and how many predictions are not finite."""
    h1 = relative_h1(signature_of(data))
    names = (*data.outputs, ALL) if len(data.outputs) > 1 else data.outputs
    values: dict[str, dict[str, list[Tensor]]] = {name: {} for name in names}
    failed = 0
    for start in range(0, len(data), batch):
        pairs = [data[i] for i in range(start, min(start + batch, len(data)))]
        x, y = (torch.stack(part) for part in zip(*pairs, strict=True))
        p = model.predict(x, batch=batch)
        if p.shape != y.shape:
            raise WrongChannels(f"the model gives {tuple(p.shape[1:])}, the data have {tuple(y.shape[1:])}")
        failed += int((~torch.isfinite(p.flatten(1)).all(1)).sum())
        for c, name in enumerate(names):
            part = slice(None) if name == ALL else slice(c, c + 1)
            a, b = p[:, part].double(), y[:, part].double()
            found = {
                "relative_l2": relative_l2(a, b),
                "relative_h1": h1(a, b),
                "rmse": rmse(a, b).square().mean(1).sqrt(),
                "max_error": max_error(a, b).amax(1),
            }
            for metric, one in found.items():
                values[name].setdefault(metric, []).append(one)
    return {
        name: {metric: dict(summary(torch.cat(parts))) for metric, parts in metrics.items()}
        for name, metrics in values.items()
    }, failed


def _rollout(
    model: Surrogate, pairing: Pairing, given: Settings, split: str | None
) -> list[dict[str, float]]:
    """Return the error frame by frame of trajectories that are predicted from their first frames."""
    with_frames = [name for name in model.signature.inputs if "@" in name]
    if not with_frames or pairing.window_out > pairing.window_in:
        return []
    alone = pairing.load(given.data, split, given.samples)
    frames = len(alone.layout.times) - pairing.window_in
    count = frames // pairing.window_out
    window = Window(pairing.window_in, count * pairing.window_out, stride=None)
    data = pairing.load(given.data, split, given.samples, window)
    parts = []
    for start in range(0, len(data), given.batch):
        pairs = [data[i] for i in range(start, min(start + given.batch, len(data)))]
        x, y = (torch.stack(part) for part in zip(*pairs, strict=True))
        p = roll(model, x, count, pairing.window_out)
        y = y.unflatten(1, (p.shape[1], -1))
        parts.append(torch.stack([relative_l2(p[:, t], y[:, t]) for t in range(p.shape[1])], dim=1))
    errors, times = torch.cat(parts), data.layout.times[pairing.window_in :]
    return [
        {"time": float(t), **{k: float(v) for k, v in summary(e).items()}}
        for t, e in zip(times, errors.T, strict=False)
    ]


@torch.no_grad()
def roll(model: Surrogate, x: Tensor, steps: int, width: int) -> Tensor:
    """Return the frames (B, steps width, C, *space) that a model predicts from its own output."""
    like = next(model.parameters(), torch.empty(0))
    p = model.rollout(x.to(like), steps)[:, 1:]
    return p.unflatten(2, (width, -1)).flatten(1, 2).to(x)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-") or "data"


def _plain(value: Any) -> Any:
    """Return a record without numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(fields: Mapping[str, Figures], title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=escape(title), title_justify="left")
    for head in ("field", "error", "mean", "median", "worst"):
        table.add_column(head, justify="left" if head in ("field", "error") else "right")
    for name, metrics in fields.items():
        for i, (metric, found) in enumerate(metrics.items()):
            figures = (f"{found[k]:.3e}" for k in ("mean", "median", "worst"))
            table.add_row(escape(name) if i == 0 else "", metric.replace("_", " "), *figures)
    return table


def _rollout_table(curve: list[dict[str, float]]) -> Table:
    table = Table(
        "time", "mean", "worst", box=box.SIMPLE_HEAD, title="rollout, relative l2", title_justify="left"
    )
    for row in curve[:: max(1, len(curve) // 8)]:
        table.add_row(f"{row['time']:.4g}", f"{row['mean']:.3e}", f"{row['worst']:.3e}")
    return table
