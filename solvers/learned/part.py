"""Networks inside linear solvers: settings in a frozen dataclass, saved whole, nothing executable."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, final

from torch import nn

from ..training.saving import (
    BadModel,
    UnknownArchitecture,
    check_tensors,
    read_config,
    read_weights,
    write_folder,
)


class LearnedPart(nn.Module, ABC):
    """A network that works inside a linear solver.

    Subclasses name their settings, `Config`, a frozen dataclass of plain values, and pass one to
    `super().__init__(config)`.
    """

    Config: ClassVar[type]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    @final
    def parameter_count(self) -> int:
        """Real numbers that are trained."""
        return sum(p.numel() for p in self.parameters())

    @final
    def save(
        self,
        folder: str | Path,
        *,
        metrics: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write weights (safetensors), settings, metrics and a card into a folder, whole or not at all.

        Args:
            folder: to write.
            metrics: what was measured, with these weights.
            meta: how they were trained: data, seed, seconds, device, commit.
            overwrite: replace a saved part that is there.

        Raises:
            FileExistsError: the folder holds something.
        """
        kind = type(self).__name__
        config = {
            "part": kind,
            "settings": dataclasses.asdict(self.config),
            "parameters": self.parameter_count,
            "meta": dict(meta or {}),
        }
        card = _card(kind, config, metrics or {})
        write_folder(Path(folder), self.state_dict(), config, metrics or {}, card, overwrite=overwrite)

    @classmethod
    @final
    def load(cls, folder: str | Path) -> Self:
        """Read a saved part.

        Raises:
            MissingFile, BrokenFile, ChangedWeights, NewerFormat, WrongTensors: what is wrong with the folder.
            UnknownArchitecture: it holds another kind of network.
            BadModel: settings that this kind does not have.
        """
        config = read_config(Path(folder))
        if config.get("part") != cls.__name__:
            found = config.get("part") or config.get("architecture") or "no network of a linear solver"
            raise UnknownArchitecture(
                f"{folder} holds {found}, needed is {cls.__name__}: load it by its class"
            )
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in config["settings"].items()}
        try:
            part = cls(cls.Config(**settings))
        except (TypeError, ValueError) as error:
            raise BadModel(f"{folder} has settings that {cls.__name__} does not take: {error}") from None
        tensors = read_weights(Path(folder), config["sha256"])
        check_tensors(tensors, part.state_dict(), str(folder))
        part.load_state_dict(tensors)
        return part


def _card(kind: str, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    def table(rows: Mapping[str, Any]) -> str:
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])

    sections = {
        "Settings": {**config["settings"], "parameters (real numbers)": f"{config['parameters']:,}"},
        "Training": config["meta"],
        "Metrics": metrics,
    }
    parts = [f"## {head}\n\n{table(rows) if rows else 'None recorded.'}" for head, rows in sections.items()]
    return "\n\n".join([f"# {kind}: part of a linear solver", *parts]) + "\n"
