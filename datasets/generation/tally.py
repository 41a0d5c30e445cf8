"""How a run stands: counted file by file, reported, and stopped when too much fails."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

from .manifest import OK, Shard


class TooManyFailed(ArithmeticError):
    """More samples failed than the caller accepts."""


@final
@dataclass(frozen=True)
class Standing:
    """How far a run is: given to the callback when it starts and after every finished file.

    Args:
        samples: that the dataset will have.
        done: that are in finished files, those of earlier runs included.
        resumed: that were there when this run began.
        failed: that could not be made.
        seconds: since this run began.
        max_residual: of all samples that count; NaN when there are none.
    """

    samples: int
    done: int
    resumed: int
    failed: int
    seconds: float
    max_residual: float

    @property
    def rate(self) -> float:
        """Samples per second of this run."""
        return (self.done - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float:
        """Seconds until the end at this rate; infinite before the first file is finished."""
        missing = self.samples - self.done
        return 0.0 if not missing else missing / self.rate if self.rate > 0 else math.inf


@final
class Tally:
    """Count what is made.

    Args:
        samples: that the dataset will have.
        max_failed: part of them that may fail.
        progress: told how the run stands.
    """

    def __init__(self, samples: int, max_failed: float, progress: Callable[[Standing], None] | None) -> None:
        self._samples, self._progress = samples, progress
        self._allowed = max_failed * samples
        self._reasons: Counter[str] = Counter()
        self._done, self._worst, self._resumed = 0, math.nan, 0
        self._started = time.perf_counter()

    def begin(self, shards: Iterable[Shard]) -> None:
        """Count the files that are there already."""
        for shard in shards:
            self._count(shard)
        self._resumed = self._done
        self._report()

    def add(self, shard: Shard) -> None:
        """Count a file that was made; raises `TooManyFailed` as soon as it is certain."""
        self._count(shard)
        self._report()
        self.check()

    def check(self) -> None:
        """Raise `TooManyFailed` when more samples failed than may fail of all."""
        failed = self._reasons.total()
        if failed > self._allowed:
            reason = self._reasons.most_common(1)[0][0]
            raise TooManyFailed(
                f"{failed} of {self._done} samples failed, accepted are {self._allowed:.4g} of "
                f"{self._samples} (max_failed); most often: {reason}. What was made is kept: change the "
                "settings and give another folder, or accept more failures and repeat the same command"
            )

    def _count(self, shard: Shard) -> None:
        self._done += len(shard.ids)
        self._reasons.update(shard.failed.values())
        good = [r for status, r in zip(shard.status, shard.residual, strict=True) if status == OK]
        self._worst = max([*good, self._worst] if self._worst == self._worst else good, default=self._worst)

    def _report(self) -> None:
        if self._progress is not None:
            seconds = time.perf_counter() - self._started
            failed = self._reasons.total()
            self._progress(Standing(self._samples, self._done, self._resumed, failed, seconds, self._worst))
