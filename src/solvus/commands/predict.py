"""The command `solvus predict`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, final

import h5py
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from torch import Tensor

from ..datasets.formats.open import open_source
from ..datasets.layout import Layout
from ..datasets.loading.channels import Channels
from ..meshes.whole import whole_file
from ..operators.linear.errors import NonFinite, ShapeMismatch
from ..operators.neural.base import WrongChannels
from ..solvers.training.surrogate import Surrogate
from ..training_plan import device_of, model_folder, pairing_of
from .console import plain_errors, plain_warnings
from .evaluate import roll
from .settings import command


@final
@dataclass(frozen=True)
class Settings:
    """The options of the command."""

    run: Annotated[Path, typer.Argument(help="Folder that `train` wrote, or of a saved model.")]
    given: Annotated[Path, typer.Argument(help="Array (.npy) of (B, C, *space), or data of any kind.")]
    out: Annotated[Path, typer.Option(help="File of the predictions: .npy, .npz, .pt or .hdf5.")]
    split: Annotated[str | None, typer.Option(help="Of a folder; default: all samples.")] = None
    samples: Annotated[int | None, typer.Option(help="The first so many.", min=1)] = None
    steps: Annotated[int, typer.Option(help="Apply the model so often to its own output.", min=1)] = 1
    batch: Annotated[int, typer.Option(help="Samples at a time.", min=1)] = 64
    device: Annotated[str, typer.Option(help="Torch device, for example cuda.")] = "cpu"
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False


def predict_fields(given: Settings) -> None:
    """Predict fields (B, C, *space) from inputs; (B, T, C, *space) where --steps is more than 1.

    Ends with code 2 on bad input: other channels, a grid that does not suit the network, NaN.
    """
    with plain_errors(), plain_warnings():
        write = _writer(given.out)
        model = Surrogate.load(model_folder(given.run), device=device_of(given.device))
        x = _read(given, model)
        wanted = model.signature.inputs
        if wanted and x.shape[1] != len(wanted):
            raise WrongChannels(
                f"the model takes {len(wanted)} channels, {', '.join(wanted)}, the input has the shape "
                f"{tuple(x.shape)}: give (B, {len(wanted)}, *space)"
            )
        y = _predict(model, x, given)
        with whole_file(given.out, overwrite=given.overwrite) as temporary:
            write(temporary, y.cpu().numpy(), model)
        bad = int((~torch.isfinite(y.flatten(1)).all(1)).sum())
        console = Console(highlight=False)
        if bad:
            console.print(f"[yellow]warning[/] {bad} of {len(y)} predictions are not finite")
        shape = " x ".join(str(n) for n in y.shape)
        console.print(f"{shape} values written to {escape(str(given.out))}", soft_wrap=True)


predict = command(predict_fields, Settings)


def _predict(model: Surrogate, x: Tensor, given: Settings) -> Tensor:
    if given.steps == 1:
        return model.predict(x, batch=given.batch)
    if not any("@" in name for name in model.signature.inputs):
        raise ValueError("the model was not trained on trajectories: leave out --steps")
    if not torch.isfinite(x).all():
        raise NonFinite("the input of the prediction holds NaN or infinity: correct it first")
    width = pairing_of(model).window_out
    return torch.cat([roll(model, part, given.steps, width) for part in x.split(given.batch)])


def _read(given: Settings, model: Surrogate) -> Tensor:
    """Return the inputs (B, C, *space) of a file.

    Raises:
        ShapeMismatch: an array without axes for samples, channels and space.
        WrongChannels: data without the fields of the model.
    """
    if given.given.suffix == ".npy":
        array = np.load(given.given, allow_pickle=False)
        if array.dtype.kind not in "fiu" or not 3 <= array.ndim <= 5:
            raise ShapeMismatch(
                f"{given.given.name} holds {array.dtype} of the shape {array.shape}: needed are real "
                "numbers, (B, C, *space) with 1 to 3 axes of space"
            )
        kept = array if array.dtype.kind == "f" and array.dtype.itemsize >= 4 else array.astype(np.float32)
        x = torch.from_numpy(np.ascontiguousarray(kept, kept.dtype.newbyteorder("=")))
        return x[: given.samples]
    pairing = pairing_of(model)
    with open_source(given.given, split=given.split) as source:
        channels = Channels(source.layout, pairing.stride)
        fields = _fields(source.layout, channels, model.signature.inputs)
        count = source.samples if given.samples is None else min(given.samples, source.samples)
        first = slice(0, pairing.window_in)
        return torch.stack([_input(source.frames(i, first, fields), channels, fields) for i in range(count)])


def _fields(layout: Layout, channels: Channels, wanted: tuple[str, ...]) -> list[str]:
    """Return the fields that hold the channels of the model, in their order."""
    order = list(dict.fromkeys(name.partition("@")[0] for name in wanted))
    owner = {name: v.name for v in layout.variables for name in channels.names(v.name)}
    missing = [name for name in order if name not in owner]
    if missing:
        raise WrongChannels(
            f"the model takes {', '.join(order)}; {layout.name} has {', '.join(owner)}: rename its fields, "
            "or give an array (.npy) with the channels in this order"
        )
    return list(dict.fromkeys(owner[name] for name in order))


def _input(values: Any, channels: Channels, fields: list[str]) -> Tensor:
    """Return the channels of one sample: frame by frame, then what does not vary in time."""
    found = {name: channels.tensor(name, values[name]) for name in fields}
    timed = [found[name] for name in fields if channels.layout[name].time_varying]
    still = [found[name] for name in fields if not channels.layout[name].time_varying]
    frames = [torch.cat(timed, dim=1).flatten(0, 1)] if timed else []
    return torch.cat([*frames, *still])


Write = Callable[[Path, NDArray[Any], Surrogate], None]


def _writer(path: Path) -> Write:
    """Return what writes a file of this kind.

    Raises:
        ValueError: for another suffix.
    """
    writers: dict[str, Write] = {".npy": _npy, ".npz": _npz, ".pt": _pt, ".hdf5": _hdf5, ".h5": _hdf5}
    if path.suffix not in writers:
        raise ValueError(f"predictions are written to {', '.join(writers)}, got {path.name!r}")
    return writers[path.suffix]


def _npy(path: Path, values: NDArray[Any], model: Surrogate) -> None:
    with open(path, "wb") as file:
        np.save(file, values)


def _npz(path: Path, values: NDArray[Any], model: Surrogate) -> None:
    with open(path, "wb") as file:
        np.savez(file, prediction=values, outputs=np.array(model.signature.outputs, dtype=np.str_))


def _pt(path: Path, values: NDArray[Any], model: Surrogate) -> None:
    torch.save({"y": torch.from_numpy(values), "outputs": list(model.signature.outputs)}, path)


def _hdf5(path: Path, values: NDArray[Any], model: Surrogate) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("prediction", data=values, fletcher32=True)
        file.attrs["outputs"] = list(model.signature.outputs)
