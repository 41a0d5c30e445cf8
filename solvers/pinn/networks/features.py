"""Chosen functions of the coordinates: cosines, steps and straight ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..jets import Affine, Jet, activate, concatenate, linear
from ..jets.activations import COS, TANH
from .base import WrongSettings
from .embeddings import Embedding, Encoding

Row = tuple[float, ...]


@final
@dataclass(frozen=True)
class Features(Embedding):
    """Replace the coordinates z (D,) by chosen functions of them: cos(a.z + b), tanh(a.z + b) and a.z + b.

    Networks of such features have their symmetries and periods exactly. They need normalise=False.

    Args:
        cosines, steps, straight: rows (a_1, ..., a_D, b).

    >>> Features(cosines=((6.28, 0.0),), straight=((1.0, 0.0),))  # cos(6.28 x) and x
    Features(cosines=((6.28, 0.0),), steps=(), straight=((1.0, 0.0),))
    """

    cosines: tuple[Row, ...] = ()
    steps: tuple[Row, ...] = ()
    straight: tuple[Row, ...] = ()

    def make(self, width: int, like: Tensor, generator: torch.Generator) -> Encoding:
        rows = (*self.cosines, *self.steps, *self.straight)
        if not rows or any(len(row) != width + 1 for row in rows):
            raise WrongSettings(
                f"Features takes rows of {width} coefficients and a shift, for {width} coordinates: got rows "
                f"of {sorted({len(row) for row in rows})} numbers"
            )
        return _FeatureEncoding((self.cosines, self.steps, self.straight), like)


@final
class _FeatureEncoding(Encoding):
    """The features of three tables of rows."""

    def __init__(self, tables: tuple[tuple[Row, ...], ...], like: Tensor) -> None:
        super().__init__()
        self.names = [
            name for name, rows in zip(("cosines", "steps", "straight"), tables, strict=True) if rows
        ]
        for name, rows in zip(("cosines", "steps", "straight"), tables, strict=True):
            if rows:
                self.register_buffer(name, like.new_tensor(rows))
        self.width = sum(len(rows) for rows in tables)

    def forward(self, jet: Jet | Affine) -> Jet | Affine:
        found = []
        for name in self.names:
            table = self.get_buffer(name)
            inner = linear(jet, table[:, :-1], table[:, -1])
            found.append(inner if name == "straight" else activate(inner, COS if name == "cosines" else TANH))
        return concatenate(found) if len(found) > 1 else found[0]
