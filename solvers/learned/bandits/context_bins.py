"""One learner for each part of the range of contexts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, final

import numpy as np

from .base import Floats, Learner


def check_interval(interval: tuple[float, float]) -> tuple[float, float]:
    """Return the range of contexts, rejecting an empty or infinite one."""
    low, high = map(float, interval)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"contexts need a range (low, high) with low < high, got {tuple(interval)}")
    return low, high


@final
class ContextBins(Learner):
    """Cut the range of contexts into bins of equal width and learn in each of them by itself.

    Makes any learner use contexts, at the price that nothing learned in one bin is used in the next.

    Args:
        make: makes the learner of one bin, with the same number of arms each.
        bins: number of bins.
        interval: range of the contexts; those beyond its ends belong to the first and the last bin.

    Good values: 5 or 6 bins, fewer where solves are few: each bin explores every arm.
    Source: Khodak, Chow, Balcan and Talwalkar (2024), Tsallis-INF-CB.

    Raises:
        ValueError: for no bins, an empty range, or bins of unequal numbers of arms.

    >>> from solvus.solvers.learned.bandits import TsallisINF
    >>> learner, generator = ContextBins(lambda: TsallisINF(2), 4, (0.0, 1.0)), np.random.default_rng(0)
    >>> for context in generator.random(2000):
    ...     arm = learner.choose(context, generator)
    ...     learner.learn(context, arm, abs(arm - context))
    >>> [int(np.argmax(part.probabilities)) for part in (learner.parts[0], learner.parts[-1])]
    [0, 1]
    """

    contextual: ClassVar[bool] = True

    def __init__(self, make: Callable[[], Learner], bins: int, interval: tuple[float, float]) -> None:
        if bins < 1:
            raise ValueError(f"there must be at least 1 bin, got {bins}")
        self.interval = check_interval(interval)
        self.parts = [make() for _ in range(bins)]
        sizes = {part.arms for part in self.parts}
        if len(sizes) > 1:
            raise ValueError(f"the learners of the bins have {sorted(sizes)} arms: give all the same number")
        super().__init__(sizes.pop())

    def bin(self, context: float) -> int:
        """Return the number of the bin of a context."""
        low, high = self.interval
        count = len(self.parts)
        return min(max(int((context - low) / (high - low) * count), 0), count - 1)

    def choose(self, context: float, generator: np.random.Generator) -> int:
        """Return the arm that the learner of the bin chooses."""
        return self.parts[self.bin(context)].choose(context, generator)

    def learn(self, context: float, arm: int, loss: float) -> None:
        """Tell the learner of the bin."""
        self.parts[self.bin(context)].learn(context, arm, loss)

    def settings(self) -> dict[str, Any]:
        """Return the range and the settings of each bin."""
        parts = [[type(part).__name__, part.settings()] for part in self.parts]
        return {"interval": list(self.interval), "bins": parts}

    def memory(self) -> list[Floats]:
        """Return the arrays of all bins."""
        return [array for part in self.parts for array in part.memory()]
