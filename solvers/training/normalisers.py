"""Normalisers: shifts and scales learned from training data, kept with the weights of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, Self, final, get_args

import torch
from torch import Tensor, nn

from ...operators.linear.errors import NonFinite
from ...operators.neural.base import WrongChannels, WrongResolution

Mode = Literal["channel", "pointwise", "scalar", "none"]
NEARLY_CONSTANT = 1e-6


class NotTrainingData(ValueError):
    """Statistics asked of a split other than the training one."""


class Pairs(Protocol):
    """What training reads: a map-style dataset of pairs (x, y)."""

    def __len__(self) -> int:
        """Return the number of pairs."""
        ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]:
        """Return one pair."""
        ...


@final
class Normaliser(nn.Module):
    """Map fields to zero mean and unit deviation, encode(v) = (v - mean) / scale, and back.

    "channel" has a mean and a scale per channel and works on any grid. "pointwise" has them per channel and
    point, and is tied to its grid. "scalar" has one pair for all channels. "none" does nothing. What hardly
    varies (a deviation below 1e-6 of its root mean square) is divided by its root mean square instead, or
    left unscaled where that is 0. Pointwise, the root mean square is the largest one of the channel.

    Buffers, so that they are saved with the weights and follow `.to(...)`. Gradients pass through.

    Args:
        mean, scale: (C,), (C, *space), (1,), or (0,), by mode.
        mode: see above.

    >>> x = torch.tensor([[[1.0, 3.0], [10.0, 30.0]]])  # (B, C, n)
    >>> normaliser = Normaliser.from_data(x)
    >>> normaliser.encode(x), torch.equal(normaliser.decode(normaliser.encode(x)), x)
    (tensor([[[-1.,  1.],
             [-1.,  1.]]]), True)
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, mode: Mode = "channel") -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise ValueError(f"mode is one of {', '.join(get_args(Mode))}, got {mode!r}")
        if mean.shape != scale.shape:
            raise ValueError(f"mean {tuple(mean.shape)} and scale {tuple(scale.shape)} must have one shape")
        self.mode: Mode = mode
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def none(cls) -> Self:
        """Return the normaliser that does nothing."""
        return cls(torch.empty(0), torch.empty(0), "none")

    @classmethod
    def from_data(
        cls,
        data: Tensor | tuple[Tensor, Tensor] | Pairs,
        mode: Mode = "channel",
        *,
        part: Literal["x", "y"] = "x",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Compute a normaliser in one pass over training data, in float64.

        Args:
            data: fields (N, C, *space), a pair (x, y) of them, or a dataset of pairs.
            mode: see the class.
            part: of a pair.
            dtype: of the buffers.

        Raises:
            NotTrainingData: the dataset says that it is of another split than "train".
            NonFinite: NaN or infinity in the data.
        """
        if mode == "none":
            return cls.none()
        mean, scale = _Moments.of(_fields(data, part), mode).shift_and_scale(pointwise=mode == "pointwise")
        shape = (-1,) if mode == "scalar" else mean.shape
        return cls(mean.to(dtype).reshape(shape), scale.to(dtype).reshape(shape), mode)

    def settings(self) -> dict[str, Any]:
        """Return what makes an empty normaliser of this form, as JSON values."""
        return {"mode": self.mode, "shape": list(self.mean.shape)}

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Make a normaliser whose buffers are still to be loaded."""
        shape = [int(n) for n in settings["shape"]]
        return cls(torch.zeros(shape), torch.ones(shape), settings["mode"])

    def encode(self, v: Tensor) -> Tensor:
        """Return (v - mean) / scale, (B, C, *space)."""
        if self.mode == "none":
            return v
        mean, scale = self._fitted(v)
        return (v - mean) / scale

    def decode(self, v: Tensor) -> Tensor:
        """Return v scale + mean, (B, C, *space)."""
        if self.mode == "none":
            return v
        mean, scale = self._fitted(v)
        return v * scale + mean

    def forward(self, v: Tensor) -> Tensor:
        return self.encode(v)

    def _fitted(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale with axes that fit the fields."""
        if self.mode != "scalar" and v.shape[1] != self.mean.shape[0]:
            raise WrongChannels(
                f"this normaliser was computed for {self.mean.shape[0]} channels, got {v.shape[1]}: "
                "give the channels that the model was trained with"
            )
        if self.mode == "pointwise":
            if v.shape[1:] != self.mean.shape:
                raise WrongResolution(
                    f"this normaliser holds values for the grid {tuple(self.mean.shape[1:])}, got fields on "
                    f"{tuple(v.shape[2:])}: interpolate to its grid, or train with the mode 'channel'"
                )
            return self.mean, self.scale
        shape = (-1, *(1 for _ in v.shape[2:]))
        return self.mean.view(shape), self.scale.view(shape)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}, shape={tuple(self.mean.shape)}"


def normalisers(
    data: Pairs | tuple[Tensor, Tensor], x: Mode = "channel", y: Mode = "channel"
) -> tuple[Normaliser, Normaliser]:
    """Return the normalisers of inputs and outputs of a training set of pairs, see `Normaliser.from_data`."""
    return Normaliser.from_data(data, x, part="x"), Normaliser.from_data(data, y, part="y")


def _fields(data: Tensor | tuple[Tensor, Tensor] | Pairs, part: Literal["x", "y"]) -> Iterable[Tensor]:
    """Yield blocks of fields, (N, C, *space)."""
    if isinstance(data, Tensor):
        return [data]
    split = getattr(data, "split", None)
    if split is not None and any(word in str(split).lower() for word in ("test", "valid")):
        raise NotTrainingData(
            f"normalisers are computed from training data alone, this dataset is the split {split!r}: "
            "give the training set"
        )
    which = 0 if part == "x" else 1
    if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(t, Tensor) for t in data):
        return [data[which]]
    return (data[i][which][None] for i in range(len(data)))


class _Moments:
    """Count, mean and sum of squared deviations per component, combined block by block.

    Source: Chan, Golub, LeVeque (1983), equation 2.1.
    """

    def __init__(self, block: Tensor, axes: Sequence[int]) -> None:
        values = block.double()
        if not torch.isfinite(values).all():
            raise NonFinite(
                "the training data hold NaN or infinity: correct them, or leave those samples out"
            )
        self.mean = values.mean(dim=tuple(axes))
        self.count = values.numel() // self.mean.numel()
        shape = [1 if a in axes else n for a, n in enumerate(values.shape)]
        self.squares = (values - self.mean.reshape(shape)).square().sum(dim=tuple(axes))

    @classmethod
    def of(cls, blocks: Iterable[Tensor], mode: Mode) -> _Moments:
        total: _Moments | None = None
        for block in blocks:
            axes = {"pointwise": [0], "channel": [0, *range(2, block.ndim)], "scalar": [*range(block.ndim)]}
            one = cls(block, axes[mode])
            if total is None:
                total = one
            else:
                total.add(one)
        if total is None:
            raise ValueError("there are no training data: the dataset is empty")
        return total

    def add(self, other: _Moments) -> None:
        if other.mean.shape != self.mean.shape:
            raise WrongResolution(
                f"fields of different sizes, {tuple(self.mean.shape)} and {tuple(other.mean.shape)}, have no "
                "pointwise statistics: use the mode 'channel'"
            )
        count = self.count + other.count
        gap, share = other.mean - self.mean, other.count / count
        self.mean = self.mean + gap * share
        self.squares = self.squares + other.squares + gap.square() * (self.count * share)
        self.count = count

    def shift_and_scale(self, *, pointwise: bool) -> tuple[Tensor, Tensor]:
        variance = self.squares / self.count
        deviation, size = variance.sqrt(), (variance + self.mean.square()).sqrt()
        if pointwise:
            size = size.amax(dim=tuple(range(1, size.ndim)), keepdim=True).expand(size.shape)
        size = torch.where(size > torch.finfo(torch.float32).tiny, size, 1.0)
        return self.mean, torch.where(deviation > NEARLY_CONSTANT * size, deviation, size)
