"""Sources: grid data read block by block, whatever the file; converters and loaders take nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self, final

import numpy as np

from .layout import Layout, Values


class Source(ABC):
    """Samples on one grid, read lazily; a context manager.

    Attributes:
        layout: form of the samples.
        samples: how many there are.
    """

    layout: Layout
    samples: int

    @abstractmethod
    def read(self, start: int, stop: int) -> Values:
        """Return samples start to stop of every field, in the shapes of the layout.

        Fields that vary between samples have the samples in front, (stop - start, ...); the others have none.
        """

    def frames(self, sample: int, times: slice, names: Sequence[str]) -> Values:
        """Return some fields of one sample, those that vary in time at some times only.

        The arrays are the caller's own. Files that can read a part alone do so.

        Args:
            sample: number of the sample.
            times: which of the times, for fields that vary in time; others come whole.
            names: of the fields.
        """
        values, cut = self.read(sample, sample + 1), {}
        for name in names:
            variable = self.layout[name]
            one = values[name][0] if variable.sample_varying else values[name]
            cut[name] = np.array(one[times] if variable.time_varying else one)
        return cut

    def close(self) -> None:  # noqa: B027
        """Let go of files; harmless when repeated."""

    @final
    def blocks(self, nbytes: int = 1 << 26) -> Iterator[tuple[int, Values]]:
        """Go through all samples in blocks of about so many bytes: pairs (first sample, values)."""
        size = max(1, nbytes // max(1, self.layout.bytes_per_sample()))
        for start in range(0, self.samples, size):
            yield start, self.read(start, min(start + size, self.samples))

    @final
    def __enter__(self) -> Self:
        return self

    @final
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
