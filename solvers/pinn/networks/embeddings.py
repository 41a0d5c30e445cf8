"""What coordinates become before the first layer: normalised, periodic, or random Fourier features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import pi
from typing import final

import torch
from torch import Tensor, nn

from ..jets import Affine, Jet, activate, concatenate, linear
from ..jets.activations import COS, SIN
from .base import Box, WrongSettings, normal


@dataclass(frozen=True)
class Embedding(ABC):
    """Settings of a map of coordinates."""

    @abstractmethod
    def make(self, width: int, like: Tensor, generator: torch.Generator) -> Encoding:
        """Return the map for `width` inputs."""


class Encoding(nn.Module, ABC):
    """A map of coordinates without trained parameters.

    Attributes:
        width: functions that come out.
    """

    width: int

    @abstractmethod
    def forward(self, jet: Jet | Affine) -> Jet | Affine:
        """Return the encoded coordinates."""


@final
@dataclass(frozen=True)
class Fourier(Embedding):
    """Random Fourier features [cos(B x), sin(B x)], B drawn from N(0, scale^2) once; not trained.

    The coordinates are those of [-1, 1] where the network normalises. They let a network see high
    frequencies, and make it slow to learn low ones where the scale is too large.

    Args:
        features: rows of B; there come out twice as many functions.
        scale: standard deviation of B, 1 to 10.

    Source: Tancik et al. (2020); Wang, Wang, Perdikaris (2021) for their use in PINNs.
    """

    features: int = 64
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.features < 1 or not 0 < self.scale < float("inf"):
            raise WrongSettings(f"Fourier needs features >= 1 and a positive scale, got {self}")

    def make(self, width: int, like: Tensor, generator: torch.Generator) -> Encoding:
        return FourierEncoding(self.scale * normal((self.features, width), like, generator))


@final
class FourierEncoding(Encoding):
    """The features of one drawn matrix B (features, D)."""

    frequencies: Tensor

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        self.register_buffer("frequencies", frequencies)
        self.width = 2 * len(frequencies)

    def forward(self, jet: Jet | Affine) -> Jet | Affine:
        angle = linear(jet, self.frequencies)
        return concatenate([activate(angle, COS), activate(angle, SIN)])


@final
@dataclass(frozen=True, init=False)
class PeriodicEmbedding(Embedding):
    """Exact periodicity: coordinate x of period L is replaced by cos(2 pi x / L) and sin(2 pi x / L).

    Args:
        axes: period, in the units of the coordinate, by coordinate number: {0: 1.0}; pairs do as well.
    """

    axes: tuple[tuple[int, float], ...]

    def __init__(self, axes: Mapping[int, float] | Iterable[tuple[int, float]]) -> None:
        periods = {int(k): float(v) for k, v in dict(axes).items()}
        if not periods or any(k < 0 or not 0 < v < float("inf") for k, v in periods.items()):
            raise WrongSettings(
                f"PeriodicEmbedding takes positive periods by coordinate number, got {dict(periods)}"
            )
        object.__setattr__(self, "axes", tuple(sorted(periods.items())))

    def make(self, width: int, like: Tensor, generator: torch.Generator) -> Encoding:
        return PeriodicEncoding(dict(self.axes), width, like)


@final
class PeriodicEncoding(Encoding):
    """cos and sin of some coordinates, and the others as they are."""

    waves: Tensor
    rest: Tensor

    def __init__(self, periods: Mapping[int, float], inputs: int, like: Tensor) -> None:
        super().__init__()
        if max(periods) >= inputs:
            raise WrongSettings(
                f"PeriodicEmbedding names coordinate {max(periods)}, the network has coordinates 0 to "
                f"{inputs - 1}"
            )
        eye = torch.eye(inputs, dtype=like.dtype, device=like.device)
        self.register_buffer("waves", torch.stack([2 * pi / L * eye[i] for i, L in periods.items()]))
        self.register_buffer("rest", eye[[i for i in range(inputs) if i not in periods]])
        self.width = inputs + len(periods)

    def forward(self, jet: Jet | Affine) -> Jet | Affine:
        angle = linear(jet, self.waves)
        found = [activate(angle, COS), activate(angle, SIN)]
        return concatenate([*found, linear(jet, self.rest)] if len(self.rest) else found)


@final
class Encoder(nn.Module):
    """Everything before the first layer: the box to [-1, 1], then the embeddings one after the other.

    The coordinates that `PeriodicEmbedding` names keep their units, that their period has a meaning.

    Attributes:
        width: functions that come out.
    """

    centre: Tensor
    stretch: Tensor

    def __init__(
        self,
        box: Box,
        embedding: Embedding | tuple[Embedding, ...] | None,
        normalise: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        lower, upper = box
        steps = embedding if isinstance(embedding, tuple) else () if embedding is None else (embedding,)
        if any(isinstance(step, PeriodicEmbedding) for step in steps[1:]):
            raise WrongSettings("PeriodicEmbedding names coordinates: put it before the other embeddings")
        periodic = [i for step in steps[:1] if isinstance(step, PeriodicEmbedding) for i, _ in step.axes]
        kept = torch.tensor([i in periodic or not normalise for i in range(len(lower))], device=lower.device)
        self.register_buffer("centre", torch.where(kept, torch.zeros_like(lower), (lower + upper) / 2))
        self.register_buffer("stretch", torch.where(kept, torch.ones_like(lower), 2 / (upper - lower)))
        self.steps = nn.ModuleList()
        self.width = len(lower)
        for step in steps:
            encoding = step.make(self.width, lower, generator)
            self.steps.append(encoding)
            self.width = encoding.width

    def forward(self, x: Affine) -> Jet | Affine:
        jet: Jet | Affine = Affine(x.plan, (x.value - self.centre) * self.stretch, x.slopes * self.stretch)
        for step in self.steps:
            jet = step(jet)
        return jet
