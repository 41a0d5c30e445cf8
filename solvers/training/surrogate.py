"""A trained network with all that using it takes: normalisers, names, grid, and how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...operators.linear.errors import NonFinite, ShapeMismatch
from ...operators.neural.architectures import ARCHITECTURES, architecture, name_of
from ...operators.neural.base import parameter_count
from ..time.base import rollout
from .card import model_card
from .memory import named_memory_errors
from .normalisers import Normaliser
from .saving import (
    BadModel,
    BrokenFile,
    UnknownArchitecture,
    check_tensors,
    floating_type,
    read_config,
    read_weights,
    write_folder,
)


@final
@dataclass(frozen=True)
class Signature:
    """What goes in and comes out of a surrogate.

    Args:
        inputs, outputs: names of the channels.
        coordinates: positions of the points along each axis, of the grid of the training data.
        boundary: condition per axis, as words.
        residual: channels of x to which the output is added: the network learns the change of these.
        constants: how many channels at the end of x stay the same during a rollout.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    coordinates: tuple[tuple[float, ...], ...] = ()
    boundary: tuple[str, ...] = ()
    residual: tuple[int, ...] = ()
    constants: int = 0

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "boundary", "residual"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        axes = tuple(tuple(float(v) for v in axis) for axis in self.coordinates)
        object.__setattr__(self, "coordinates", axes)
        if self.constants < 0:
            raise ValueError(f"constants, a number of channels, is not negative, got {self.constants}")

    @classmethod
    def of(cls, data: Any, **more: Any) -> Self:
        """Take names and grid from a dataset that has `inputs`, `outputs` and `coordinates`."""
        known = {n: getattr(data, n) for n in ("inputs", "outputs", "coordinates") if hasattr(data, n)}
        return cls(**known, **more)


@final
class Surrogate(nn.Module):
    """Map physical fields to physical fields, y = decode(net(encode(x))), plus x's own where it is residual.

    Args:
        net: a `NeuralOperator`, or any network (B, C_in, *space) -> (B, C_out, *space); the latter can be
            saved where it has `settings()` and `from_settings(settings)`.
        encode, decode: normalisers of x and y, None for none; `residual`: `decode` is that of the change.
        signature: names and grid.
        meta: how it was trained, plain values.

    >>> net = nn.Conv1d(1, 1, 3, padding=1)
    >>> model = Surrogate(net, signature=Signature(("u",), ("u",), residual=(0,)))
    >>> model.predict(np.zeros((5, 1, 16), dtype=np.float32)).shape
    (5, 1, 16)
    """

    def __init__(
        self,
        net: nn.Module,
        encode: Normaliser | None = None,
        decode: Normaliser | None = None,
        *,
        signature: Signature | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.encode = encode or Normaliser.none()
        self.decode = decode or Normaliser.none()
        self.signature = signature or Signature()
        self.meta = dict(meta or {})

    def forward(self, x: Tensor) -> Tensor:
        y = self.decode.decode(self.net(self.encode.encode(x)))
        if not self.signature.residual:
            return y
        kept = list(self.signature.residual)
        if len(kept) != y.shape[1] or max(kept) >= x.shape[1]:
            raise ShapeMismatch(
                f"residual channels {kept} of an input with {x.shape[1]} do not fit {y.shape[1]} outputs: "
                "name one channel of x per output"
            )
        return x[:, kept] + y

    @torch.no_grad()
    def predict(self, x: Tensor | NDArray[Any], *, batch: int = 64) -> Any:
        """Return the prediction for many samples: an array for an array, a tensor on x's device for a tensor.

        Args:
            x: (N, C_in, *space), in physical units; any floating-point type.
            batch: samples at a time.

        Raises:
            NonFinite: x has NaN or infinity.
            OutOfMemory: so many samples at a time do not fit.
        """
        if batch < 1:
            raise ValueError(f"batch is at least 1, got {batch}")
        given = torch.as_tensor(x)
        if not torch.isfinite(given).all():
            raise NonFinite("the input of the prediction holds NaN or infinity: correct it first")
        like = next((p for p in self.parameters() if p.is_floating_point()), torch.empty(0))
        training = self.training
        self.eval()
        what, advice = f"a prediction of {batch} samples at a time", "pass a smaller `batch`"
        try:
            with named_memory_errors(what, advice):
                parts = [self(part.to(like)) for part in given.split(batch)]
        finally:
            self.train(training)
        y = torch.cat(parts).to(given.device, given.dtype if given.is_floating_point() else like.dtype)
        return y.numpy() if isinstance(x, np.ndarray) else y

    def rollout(self, u0: Tensor, frames: int) -> Tensor:
        """Apply the network to its own output; gradients pass.

        The output takes the place of the oldest frames of x; the last `signature.constants` channels stay.

        Args:
            u0: (B, C_in, *space): frames, oldest first, then constants.
            frames: how many times to apply the network.

        Returns:
            (B, frames + 1, C_out, *space), the last given frames first.
        """
        state = u0.shape[1] - self.signature.constants
        width: list[int] = []

        def step(x: Tensor) -> Tensor:
            y = self(x)
            width[:] = [y.shape[1]]
            if y.shape[1] > state:
                raise ShapeMismatch(
                    f"a network with {state} channels of state cannot go on from {y.shape[1]} outputs: "
                    "train it on windows whose output frames are no more than the input frames"
                )
            return torch.cat((x[:, y.shape[1] : state], y, x[:, state:]), dim=1)

        states = rollout(step, u0, frames)[:, :, :state]
        return states[:, :, -width[0] :] if width else states

    def check_savable(self) -> None:
        """Raise BadModel where the network has no settings to make it again from."""
        if not (hasattr(self.net, "settings") and hasattr(type(self.net), "from_settings")):
            raise BadModel(
                f"{type(self.net).__name__} cannot be saved: a network needs settings() and "
                "from_settings(), as every NeuralOperator has"
            )

    def save(
        self, folder: str | Path, *, metrics: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> Path:
        """Write the model to a folder, whole or not at all; see `saving` for its files.

        Raises:
            BadModel: the network or a record cannot be written as plain values.
            FileExistsError: the folder exists, and `overwrite` is not set, or it is no saved model.
        """
        self.check_savable()
        tensors = self.state_dict()
        net: Any = self.net
        config = {
            "solvus": _version(),
            "architecture": name_of(type(net)) or type(net).__name__,
            "settings": net.settings(),
            "dtype": str(floating_type(net.state_dict())).removeprefix("torch."),
            "parameters": parameter_count(self),
            "encode": self.encode.settings(),
            "decode": self.decode.settings(),
            "signature": asdict(self.signature),
            "meta": self.meta,
        }
        measured = dict(metrics or {})
        card = model_card(config, measured)
        write_folder(Path(folder), tensors, config, measured, card, overwrite=overwrite)
        return Path(folder)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str | torch.device = "cpu",
        architectures: Mapping[str, Any] | None = None,
    ) -> Self:
        """Read a model that `save` wrote, ready to predict. Nothing in the folder is executed.

        Args:
            folder: where it is.
            device: where to put it.
            architectures: classes of your own networks, by their class names.

        Raises:
            MissingFile, BrokenFile, ChangedWeights, NewerFormat, UnknownArchitecture, WrongTensors: as they
                say; all are `BadModel`.
            WrongSettings: settings that the architecture does not have.
        """
        folder = Path(folder)
        config = read_config(folder)
        try:
            kind = _class(config["architecture"], architectures or {})
            tensors = read_weights(folder, config["sha256"])
            with torch.random.fork_rng(devices=[]):  # weights that are drawn here are overwritten
                net = kind.from_settings(config["settings"]).to(getattr(torch, config["dtype"]))
            ends = [Normaliser.from_settings(config[end]) for end in ("encode", "decode")]
            signature = Signature(**config["signature"])
            model = cls(net, *ends, signature=signature, meta=config["meta"])
        except KeyError as error:
            raise BrokenFile(f"{folder}: config.json has no entry {error}: save the model again") from None
        own = model.state_dict()
        check_tensors(tensors, own, str(folder))
        for end in (model.encode, model.decode):
            end.to(floating_type({k: v for k, v in tensors.items() if k.partition(".")[0] != "net"}))
        model.load_state_dict(tensors)
        return model.to(device).eval()

    def extra_repr(self) -> str:
        names = self.signature
        return f"{', '.join(names.inputs) or '?'} -> {', '.join(names.outputs) or '?'}"


def _class(name: str, own: Mapping[str, Any]) -> Any:
    if name in own:
        return own[name]
    if name not in ARCHITECTURES:
        raise UnknownArchitecture(
            f"the model has the architecture {name!r}; known are {', '.join([*ARCHITECTURES, *own])}: pass "
            f"architectures={{{name!r}: its class}} if it is your own, or update solvus"
        )
    return architecture(name)


def _version() -> str:
    try:
        return version("solvus")
    except PackageNotFoundError:
        return "unknown"
