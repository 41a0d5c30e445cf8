"""What the commands around a training decide: data, defaults of networks, losses, the record of a run."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from .datasets.formats.open import Kind, kind_of, open_source
from .datasets.loading.folder import EmptySplit, UnknownSplit
from .datasets.loading.load import FieldDataset
from .datasets.loading.window import Window
from .operators.neural.architectures import architecture
from .operators.neural.base import NeuralOperator, WrongResolution, WrongSettings
from .operators.neural.pod import PODOnGrid
from .solvers.training.losses import BandLimitedH1, Edge, Loss, RelativeH1, RelativeL2
from .solvers.training.normalisers import Mode, Normaliser
from .solvers.training.schedules import Constant, Cosine, OneCycle, Schedule, StepDecay
from .solvers.training.surrogate import Signature, Surrogate

LOSSES = ("relative-l2", "relative-h1", "band-limited-h1")
SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "one-cycle": lambda epochs: OneCycle(),
    "cosine": lambda epochs: Cosine(),
    "step": lambda epochs: StepDecay(every=max(1, epochs // 5)),
    "constant": lambda epochs: Constant(),
}
MOST_MODES = {1: 16, 2: 12, 3: 8}  # per axis, by the number of axes; the published settings of FNO
FROM_DATA = ("in_channels", "out_channels", "dim", "modes", "size", "coordinates", "boundary", "periodic")
HELD_OUT = 10  # one of so many samples validates where the data have no validation split


@final
@dataclass(frozen=True)
class Pairing:
    """How samples become pairs; the same for training, validation and evaluation.

    Args:
        window_in, window_out: frames of a pair of trajectories.
        stride: keep every so many points.
        inputs, outputs: names of fields; none: by role.
    """

    window_in: int = 1
    window_out: int = 1
    stride: int = 1
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))

    def load(
        self,
        path: Path,
        split: str | None,
        samples: int | range | None = None,
        window: Window | None = None,
    ) -> FieldDataset:
        """Open data as pairs; `window` stands in for that of the training."""
        with open_source(path, split=split) as source:
            steady = source.layout.steady
        return FieldDataset(
            path,
            split,
            window=None if steady else window or Window(self.window_in, self.window_out),
            inputs=self.inputs or None,
            outputs=self.outputs or None,
            stride=self.stride,
            samples=samples,
        )


def train_and_valid(path: Path, pairing: Pairing, samples: int | None) -> tuple[FieldDataset, FieldDataset]:
    """Return training and validation data: the splits of a folder; else the last tenth validates.

    Raises:
        ValueError: too few samples.
    """
    folder = kind_of(path) is Kind.FOLDER
    split = "train" if folder else None
    if folder:
        try:
            return pairing.load(path, split, samples), pairing.load(path, "valid")
        except (EmptySplit, UnknownSplit):
            pass
    with open_source(path, split=split) as source:
        there = source.samples if samples is None else min(samples, source.samples)
    held = max(1, there // HELD_OUT)
    if there <= held:
        raise ValueError(
            f"{path} has {there} sample to train on: at least 2 are needed, one of them to validate"
        )
    return pairing.load(path, split, range(there - held)), pairing.load(
        path, split, range(there - held, there)
    )


def read_settings(kind: type[NeuralOperator], words: Mapping[str, str]) -> dict[str, Any]:
    """Return settings of a network from words, by the types that its configuration has.

    Raises:
        WrongSettings: an unknown name, or a value that is none of its type.

    >>> from solvus.operators.neural.fno import FNO
    >>> read_settings(FNO, {"width": "8", "modes": "4,4", "norm": "batch"})
    {'width': 8, 'modes': (4, 4), 'norm': 'batch'}
    """
    return read_fields(kind.__name__, kind.Config, words)


def read_fields(owner: str, config: type, words: Mapping[str, str]) -> dict[str, Any]:
    """Return fields of a dataclass from words, by their types.

    Args:
        owner: what has these settings, for the message.
        config: the dataclass.
        words: texts by name.

    Raises:
        WrongSettings: an unknown name, or a value that is none of its type.
    """
    hints = typing.get_type_hints(config)
    fields = {f.name for f in dataclasses.fields(config)}
    if unknown := sorted(set(words) - fields):
        raise WrongSettings(
            f"{owner} has no setting {', '.join(unknown)}: it has {', '.join(sorted(fields)) or 'none'}"
        )
    return {name: _value(name, text, hints[name]) for name, text in words.items()}


def _value(name: str, text: str, hint: Any) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(name, text, parts)
    if origin is tuple:
        entry = parts[0] if parts else str
        return tuple(_value(name, word.strip(), entry) for word in text.split(",") if word.strip())
    if origin is Literal:
        return text
    try:
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        if hint in (int, float):
            return hint(text)
        return text if hint is str else json.loads(text)
    except (KeyError, ValueError):
        what = {bool: "true or false", int: "a whole number", float: "a number"}.get(hint, "JSON")
        raise WrongSettings(f"the setting {name} takes {what}, got {text!r}") from None


def _first_that_fits(name: str, text: str, kinds: Sequence[Any]) -> Any:
    for kind in kinds:
        if kind is type(None):
            if text.lower() == "none":
                return None
            continue
        try:
            return _value(name, text, kind)
        except WrongSettings:
            continue
    raise WrongSettings(f"the setting {name} does not take {text!r}")


def make_network(
    name: str, given: Mapping[str, Any], data: FieldDataset, *, channels: int = 0, space: tuple[int, ...] = ()
) -> NeuralOperator:
    """Make a network whose settings fit the data where they are not given.

    Channels, axes, modes, conditions and coordinates follow the data; levels are as many as the grid allows,
    up to the default.

    Args:
        name: of the architecture.
        given: settings that are fixed.
        data: training data.
        channels: of the input, where they are not those of the data.
        space: points, where they are not those of the data.

    Raises:
        WrongSettings, WrongResolution: settings that go neither together nor with the grid.
        UnknownName: there is no such architecture.
    """
    kind = architecture(name)
    if name == "masked-deeponet":
        raise WrongSettings(
            "masked-deeponet takes a mask of the domain as its last channel and a loss that knows it: train "
            "it in Python, or take another network"
        )
    space = space or tuple(len(axis) for axis in data.coordinates)
    fields = {f.name: f for f in dataclasses.fields(kind.Config)}
    values = {
        k: v for k, v in _defaults(data, channels or len(data.inputs), space, given).items() if k in fields
    }
    if "modes" in fields and fields["modes"].default is not dataclasses.MISSING:  # of a POD basis: one number
        values["modes"] = max(1, min(fields["modes"].default, len(data) - 1, math.prod(space)))
    if "size" in fields and fields["size"].default is not dataclasses.MISSING:  # only for layer norms
        del values["size"]
    if name == "patched":
        values |= _patches(given, data, space, values.pop("boundary"))
    values |= given
    if "groups" in fields and "groups" not in given and "norm" in fields:
        defaults: dict[str, Any] = {k: fields[k].default for k in ("groups", "width")}
        values["groups"] = math.gcd(defaults["groups"], values.get("width", defaults["width"]))
    return _with_levels(kind, values, given, space)


def _defaults(
    data: FieldDataset, channels: int, space: tuple[int, ...], given: Mapping[str, Any]
) -> dict[str, Any]:
    dim, sides = len(space), data.layout.boundary
    most = MOST_MODES[dim]
    periodic = sides is not None and all(str(low) == "periodic" for low, _ in sides)
    values: dict[str, Any] = {
        "in_channels": channels,
        "out_channels": len(data.outputs),
        "dim": dim,
        "modes": tuple(max(1, min(most, n // 3)) for n in space),
        "size": space,
        "coordinates": "periodic" if periodic else "closed",
        "boundary": tuple(str(side) for pair in sides for side in pair) if sides else ("neumann",),
    }
    if periodic:
        values |= {"periodic": True, "fourier": given.get("fourier") or 4}
    return values


def _patches(
    given: Mapping[str, Any], data: FieldDataset, space: tuple[int, ...], sides: Sequence[str]
) -> dict[str, Any]:
    """Return the settings of a network on patches: a network whose own settings fit a patch."""
    patches = tuple(given.get("patches", (2,) * len(space)))
    network, levels = given.get("network", "fno"), given.get("levels", 0)
    patch = tuple(n // p for n, p in zip(space, patches, strict=True))
    inner = make_network(
        network, given.get("settings", {}), data, channels=len(data.inputs) * (levels + 1), space=patch
    )
    settings = inner.settings()
    if "coordinates" in settings and "coordinates" not in given.get("settings", {}):
        settings["coordinates"] = "closed"
    ends = ("periodic" if set(sides) == {"periodic"} else "replicate",)
    return {"patches": patches, "network": network, "settings": settings, "boundary": ends}


def _with_levels(
    kind: type[NeuralOperator], values: dict[str, Any], given: Mapping[str, Any], space: tuple[int, ...]
) -> NeuralOperator:
    """Make the network with as many levels as the grid allows, at most the default ones."""
    defaults: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(kind.Config)}
    name = next((n for n in ("smoothing", "levels") if n in defaults and n not in given), None)
    if name is None or "network" in defaults:
        net = kind.from_settings(values)
        net.check_resolution(space)
        return net
    most = len(defaults[name]) if name == "smoothing" else defaults[name]
    for levels in range(most, 0, -1):
        word = ("10",) * (levels - 1) + ("20",) if name == "smoothing" else levels
        net = kind.from_settings(values | {name: word})
        try:
            net.check_resolution(space)
        except WrongResolution:
            if levels == 1:
                raise
            continue
        return net
    raise WrongSettings(f"{kind.__name__} has no levels")


def make_surrogate(net: NeuralOperator, data: FieldDataset, mode: Mode, meta: Mapping[str, Any]) -> Surrogate:
    """Put a network and normalisers of the training data into one model; fills a POD basis."""
    encode = Normaliser.from_data(data, mode, part="x")
    decode = Normaliser.from_data(data, mode, part="y")
    if isinstance(net, PODOnGrid):
        net.fit_basis(decode.encode(stacked(data)[1]))
    return Surrogate(net, encode, decode, signature=signature_of(data), meta=meta)


def signature_of(data: FieldDataset) -> Signature:
    """Return names, grid and conditions of data; channels that do not vary in time are constants."""
    series = sum("@" in name for name in data.inputs)
    constants = len(data.inputs) - series if series else 0
    sides = data.layout.boundary or ()
    words = tuple(str(low) if low is high else f"{low}, {high}" for low, high in sides)
    return Signature.of(data, boundary=words, constants=constants)


def loss_named(name: str, signature: Signature) -> Loss:
    """Return a loss; gradients are taken in the units of the coordinates.

    Raises:
        ValueError: for another name.
    """
    if name == "relative-l2":
        return RelativeL2()
    if name == "band-limited-h1":
        return BandLimitedH1()
    if name == "relative-h1":
        return relative_h1(signature)
    raise ValueError(f"there is no loss {name!r}: there are {', '.join(LOSSES)}")


def relative_h1(signature: Signature) -> RelativeH1:
    """Return the relative H1 error on the grid of a signature."""
    steps = tuple(abs(axis[-1] - axis[0]) / max(1, len(axis) - 1) for axis in signature.coordinates)
    known = signature.boundary or ("",) * len(steps)
    edges: list[Edge] = ["periodic" if word == "periodic" else "open" for word in known]
    return RelativeH1(steps, tuple(edges))


def schedule_named(name: str, epochs: int) -> Schedule:
    """Return a schedule of the learning rate.

    Raises:
        ValueError: for another name.
    """
    if name not in SCHEDULES:
        raise ValueError(f"there is no schedule {name!r}: there are {', '.join(SCHEDULES)}")
    return SCHEDULES[name](epochs)


def model_folder(run: Path) -> Path:
    """Return the folder of the model of a run, or the one that was named itself.

    Raises:
        FileNotFoundError: there is no run, or it has no model yet.
    """
    if not run.exists():
        raise FileNotFoundError(f"there is no run at {run}: make one with `solvus train`")
    if (run / "model").is_dir():
        return run / "model"
    if (run / "settings.json").exists():
        raise FileNotFoundError(
            f"the training in {run} has not ended, so there is no model: give the same `solvus train` again, "
            "it goes on"
        )
    return run


def pairing_of(model: Surrogate) -> Pairing:
    """Return how a trained model's data were cut into pairs, as its record has it."""
    known = model.meta.get("pairing", {})
    return Pairing(**known) if known else Pairing()


def stacked(data: FieldDataset) -> tuple[Tensor, Tensor]:
    """Return all pairs as two tensors."""
    pairs = [data[i] for i in range(len(data))]
    return torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs])


def device_of(word: str) -> torch.device:
    """Return a device that can be used.

    Raises:
        ValueError: it cannot be used here.
    """
    try:
        torch.empty(0, device=word)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {word!r} cannot be used here ({reason}): see `solvus doctor`") from None
    return torch.device(word)


def is_trained(net: nn.Module) -> bool:
    """Whether a network has something to train, unlike regressions that are computed."""
    return any(p.requires_grad for p in net.parameters())


def words_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return KEY=VALUE words by key.

    >>> words_of(["width=8", "skip-kernel=3"])
    {'width': '8', 'skip_kernel': '3'}
    """
    words = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"--set takes KEY=VALUE, got {pair!r}")
        words[key.strip().replace("-", "_")] = value.strip()
    return words


def names_in(text: str) -> tuple[str, ...]:
    """Return names that commas separate."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def settings_of(kind: type[NeuralOperator]) -> list[tuple[str, str]]:
    """Return the settings of a network with their defaults in words."""
    rows = []
    for setting in dataclasses.fields(kind.Config):
        if setting.name in FROM_DATA:
            text = "from the data"
        elif setting.default is not dataclasses.MISSING:
            text = str(setting.default)
        else:
            text = "from the data" if setting.default_factory is dataclasses.MISSING else "none"
        rows.append((setting.name, text))
    return rows
