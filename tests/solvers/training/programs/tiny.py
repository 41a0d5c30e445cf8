"""A network of a few weights and a problem that it can learn: what the tests of training train."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[4]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

from solvus.operators.neural.base import NeuralOperator  # noqa: E402


@dataclass(frozen=True)
class TinyConfig:
    in_channels: int = 1
    out_channels: int = 1
    width: int = 4
    dropout: float = 0.0


class Tiny(NeuralOperator):
    Config = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.lift = nn.Conv1d(config.in_channels, config.width, 3, padding=1, padding_mode="circular")
        self.drop = nn.Dropout(config.dropout)
        self.project = nn.Conv1d(config.width, config.out_channels, 1)

    @property
    def dim(self) -> int:
        return 1

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        return self.project(self.drop(torch.tanh(self.lift(x))))


def make(dropout: float = 0.0, seed: int = 0) -> Tiny:
    torch.manual_seed(seed)
    return Tiny(TinyConfig(dropout=dropout))


def pairs(n: int = 24, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Random waves, and their shifted copies."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, 16, generator=generator)
    return x, x.roll(1, -1) + 0.1
