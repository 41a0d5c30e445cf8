"""What every neural operator is: a torch module from fields to fields, its settings plain values."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, final

from torch import Tensor, nn

from ..linear.errors import ShapeMismatch


class WrongChannels(ShapeMismatch):
    """An input with other channels or other axes than the network was made for."""


class WrongResolution(ShapeMismatch):
    """A grid on which the network cannot work, for example one that is too coarse for its modes."""


class WrongSettings(ValueError):
    """Settings that are unknown, or do not go together."""


class NeuralOperator(nn.Module, ABC):
    """A network on fields: (B, in_channels, *space) -> (B, out_channels, *space).

    Attributes:
        config: settings, a frozen dataclass with at least `in_channels` and `out_channels`.
        Config: its class.
    """

    Config: ClassVar[type]
    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        if not isinstance(config, self.Config):
            raise WrongSettings(
                f"{type(self).__name__} takes a {self.Config.__name__}, got {type(config).__name__}"
            )
        self.config = config

    @property
    @abstractmethod
    def dim(self) -> int:
        """Axes of space, 1 to 3."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map fields (B, in_channels, *space) to fields (B, out_channels, *space)."""

    def check_resolution(self, space: tuple[int, ...]) -> None:
        """Raise WrongResolution, with what is needed, for a grid on which the network cannot work."""

    @final
    def check(self, x: Tensor) -> None:
        """Raise WrongChannels or WrongResolution for an input that does not fit; `forward` calls it first."""
        wanted = self.config.in_channels
        if x.ndim != self.dim + 2 or x.shape[1] != wanted:
            axes = ", ".join(("B", str(wanted), *(f"n{i + 1}" for i in range(self.dim))))
            raise WrongChannels(
                f"{type(self).__name__} takes fields ({axes}), got {tuple(x.shape)}: give {wanted} channel"
                f"{'s' * (wanted != 1)} in front of {self.dim} axes of space, or make the network for these"
            )
        self.check_resolution(tuple(x.shape[2:]))

    @final
    def settings(self) -> dict[str, Any]:
        """Return the settings as JSON values, from which `from_settings` makes the same network."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self.config).items()}

    @classmethod
    @final
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Make a network from JSON values.

        Raises:
            WrongSettings: for a name that the configuration does not have, or one that is missing.
        """
        known = {f.name for f in dataclasses.fields(cls.Config)}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise WrongSettings(
                f"{cls.Config.__name__} has no {', '.join(unknown)}: it has {', '.join(sorted(known))}"
            )
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        try:
            return cls(cls.Config(**values))
        except TypeError as error:
            raise WrongSettings(f"{cls.Config.__name__}: {error}") from None


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable real numbers; a complex parameter counts twice.

    >>> parameter_count(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in model.parameters() if p.requires_grad)
