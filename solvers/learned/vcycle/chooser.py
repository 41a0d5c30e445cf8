"""A small network that chooses the settings of a cycle for a system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...multigrid.geometric import Smoothing
from ..part import LearnedPart
from . import cycle_kernels as ck
from .choice import CANDIDATES, CycleSettings
from .packed import Packed, Plain

LEVELS = 3  # levels whose islands are counted
FEATURES = 2 + 3 * LEVELS + 2 * 5 + 3
SLOPE = (2, 4)  # cycles after which the error is compared


@final
@dataclass(frozen=True)
class ChooserConfig:
    """Settings of `CycleChooser`.

    Args:
        width: units of the hidden layer.
        choices: settings to choose from, the first so many of `CANDIDATES`.
    """

    width: int = 24
    choices: int = len(CANDIDATES)

    def __post_init__(self) -> None:
        if self.width < 1 or not 2 <= self.choices <= len(CANDIDATES):
            raise ValueError(
                f"a chooser needs width >= 1 and 2 to {len(CANDIDATES)} choices, got {self.width} and "
                f"{self.choices}"
            )


@final
class CycleChooser(LearnedPart):
    """Predict the logarithm of the cost of every setting over that of the classical one, from features of A.

    The head starts at zero: an untrained chooser takes the classical W-cycle. Its features do not change when
    A is multiplied by a number.

    >>> CycleChooser().choose(torch.zeros(FEATURES)) == CANDIDATES[0]
    True
    """

    Config = ChooserConfig
    config: ChooserConfig
    mean: Tensor
    spread: Tensor

    def __init__(self, config: ChooserConfig | None = None) -> None:
        super().__init__(config or ChooserConfig())
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        self.hidden = nn.Linear(FEATURES, self.config.width)
        self.skip = nn.Linear(FEATURES, self.config.choices - 1)
        self.head = nn.Linear(self.config.width, self.config.choices - 1, bias=False)
        for tensor in (self.head.weight, self.skip.weight, self.skip.bias):
            nn.init.zeros_(tensor)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (..., F) to scores (..., choices), lower is better; the classical cycle has 0."""
        x = ((features - self.mean) / self.spread).clamp(-5, 5)
        scores = self.head(torch.tanh(self.hidden(x))) + self.skip(x)
        return torch.cat([torch.zeros_like(scores[..., :1]), scores], dim=-1)

    def choose(self, features: Tensor) -> CycleSettings | None:
        """Return the settings for a system with these features, (F,); None where scores are not finite."""
        with torch.no_grad():
            scores = self(features)
        if not bool(torch.isfinite(scores).all()):
            return None
        return CANDIDATES[int(scores.argmin())]


def features(packed: Packed) -> Tensor:
    """Return (F,): size, islands, stencils of coarser levels, how fast V-cycles there reduce errors."""
    depth = len(packed.stencils) - 1
    out = [float(np.log2(packed.stencils[0].layout.size)), float(len(packed.stencils[0].layout.shape))]
    for level in range(LEVELS):
        T = packed.table[level] if level < depth else np.zeros(ck.COLUMNS)
        size = max(float(T[ck.SIZE]), 1.0)
        ratios = (np.log1p(T[ck.ISLANDS]), 10 * T[ck.RUNS] / size, 10 * T[ck.ENTRIES] / size)
        out += [float(v) for v in ratios]
    for level in (2, 3):
        out += _shape_of(packed.stencils[min(level, depth)])
    out += _slopes(packed, min(2, depth - 1))
    return torch.tensor(out, dtype=torch.float32)


def _shape_of(stencil: Plain) -> list[float]:
    """Return five numbers about a stencil: its couplings relative to its diagonal, the range of that."""
    c, w, d = stencil.centre, stencil.w, stencil.d
    there = c > 0
    root = np.where(there, 1 / np.sqrt(np.where(there, c, 1.0)), 0.0)
    count = max(int(there.sum()), 1)
    strong = positive = total = weak = 0.0
    for k in range(d.size):
        j = d[k]
        r = w[k, : c.size - j] * root[: c.size - j] * root[j:]
        size = np.abs(r)
        strong += float((size > 0.2).sum())
        weak += float(((size < 0.03) & (size > 0)).sum())
        positive += float(r[r > 0].sum())
        total += float(size.sum())
    low, high = np.quantile(np.log10(c[there]), (0.1, 0.9)) if there.any() else (0.0, 0.0)
    return [strong / count, weak / count, 10 * positive / count, total / count, float(high - low) / 3]


def _slopes(packed: Packed, start: int) -> list[float]:
    """Return logarithms of how much V-cycles below level `start` reduce the error of A x = 0."""
    depth, T = len(packed.stencils) - 1, packed.table[start]
    operations, factors = CycleSettings((1,)).program(depth, start)
    operations[0, 0] = ck.GO_ON
    n = int(T[ck.SIZE])
    store = packed.store
    store[T[ck.RHS] : T[ck.RHS] + n] = 0
    error = store[T[ck.X] : T[ck.X] + n]
    place = store[T[ck.INVERSE] : T[ck.INVERSE] + n] > 0
    error[:] = np.where(place, np.cos(np.arange(n, dtype=np.float64) ** 2), 0.0)
    weights = packed.sweeps(
        Smoothing(lower=0.25 if len(packed.stencils[0].layout.shape) < 3 else 1 / 6).weights()
    )
    nothing: Any = np.zeros(0)
    rows: NDArray[np.int64] = np.zeros((0, 3), dtype=np.int64)
    sizes = []
    for _ in range(SLOPE[1] + 1):
        sizes.append(float(np.linalg.norm(error)) + 1e-30)
        error /= error.dtype.type(sizes[-1])
        packed.run(weights, operations, factors, nothing, nothing, rows)
    sizes = [np.log(s) for s in sizes[1:]]
    return [float(v) for v in (sizes[0], sizes[SLOPE[0] - 1], sizes[SLOPE[1] - 1])]
