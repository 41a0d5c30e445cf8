"""Generated folders: all shards of a split as one source."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import yaml
from numpy.typing import NDArray

from ..formats.well import WellFile
from ..formats.well_storage import GROUPS
from ..generation.manifest import OK, read_manifest
from ..layout import Values
from ..source import Source
from .fields import OpenFiles

Statistics = Mapping[str, Mapping[str, NDArray[np.float64]]]


class UnknownSplit(ValueError):
    """A split that the dataset does not have."""


class EmptySplit(ValueError):
    """A split without a sample that could be read."""


class IncompleteFolder(UserWarning):
    """Fewer samples are in the folder than were asked for."""


@final
class FolderSource(Source):
    """Samples of a generated folder, or of one split of it, in the order of their ids.

    Samples that failed are left out. Files are opened when they are read, the last few stay open, and every
    process opens its own: the object can be sent to other processes and used after a fork.

    Args:
        folder: that `generate` wrote, with grid data.
        split: "train", "valid" or "test"; None for all.

    Attributes:
        layout, samples: form and number of the samples.
        ids: their numbers in the dataset, (samples,).
        failed: id -> reason of those left out.
        manifest: the books of the folder.

    Raises:
        NoDataset, ForeignFolder: the folder is missing, or none of ours.
        UnknownSplit: there is no such split; the message lists those there are.
        EmptySplit: not one sample of it is there.

    Warns:
        IncompleteFolder: fewer samples are there than were asked for.
    """

    def __init__(self, folder: str | Path, split: str | None = None) -> None:
        manifest = read_manifest(folder)
        if manifest.kind != "grid":
            raise ValueError(f"{manifest.name} holds data on a {manifest.kind}: grid data are read here")
        splits: Mapping[str, Any] = manifest.config["splits"]
        if split is not None and split not in splits:
            raise UnknownSplit(f"{manifest.name} has no split {split!r}: it has {', '.join(splits)}")
        shards = manifest.shards if split is None else manifest.of(split)
        self.manifest, self.split = manifest, split
        self.failed = {i: reason for shard in shards for i, reason in shard.failed.items()}
        rows = [
            (i, number, row)
            for number, shard in enumerate(shards)
            for row, (i, status) in enumerate(zip(shard.ids, shard.status, strict=True))
            if status == OK
        ]
        self._warn_of_missing(sum(len(shard.ids) for shard in shards))
        if not rows:
            raise EmptySplit(
                f"{self.title} holds no sample ({len(self.failed)} failed): generate it, or choose another"
            )
        self.ids, self._shard, self._row = np.array(sorted(rows), dtype=np.int64).T
        self._paths = [manifest.path(shard) for shard in shards]
        self.samples = len(rows)
        with WellFile(self._paths[self._shard[0]]) as first:
            self.layout = first.layout
        self._files = OpenFiles()

    @property
    def title(self) -> str:
        """Name of the dataset, and of the split."""
        return self.manifest.name + (f", split {self.split}" if self.split else "")

    def _warn_of_missing(self, found: int) -> None:
        wanted = self.manifest.config["splits"]
        chosen = wanted.values() if self.split is None else [wanted[self.split]]
        count = sum(stop - start for start, stop in chosen)
        if found < count:
            warnings.warn(
                f"{self.title} is incomplete: {found} of {count} samples are there; "
                "run `generate` again to go on",
                IncompleteFolder,
                stacklevel=3,
            )

    def read(self, start: int, stop: int) -> Values:
        """Return samples start to stop of every field, in the shapes of the layout."""
        chosen = range(self.samples)[start:stop]
        everything = slice(None)
        out: dict[str, NDArray[np.floating]] = {}
        for variable in self.layout.variables:
            if not variable.sample_varying:
                out[variable.name] = self._one(0, everything, variable.name)
                continue
            out[variable.name] = np.empty(
                (len(chosen), *self.layout.shape(variable.name)), dtype=self.layout.dtype
            )
            for k, sample in enumerate(chosen):
                out[variable.name][k] = self._one(sample, everything, variable.name)
        return out

    def frames(self, sample: int, times: slice, names: Sequence[str]) -> Values:
        """Return some fields of one sample, those that vary in time at some times only."""
        sample = range(self.samples)[sample]
        return {name: self._one(sample, times, name) for name in names}

    def _one(self, sample: int, times: slice, name: str) -> NDArray[np.floating]:
        variable = self.layout[name]
        path = self._paths[self._shard[sample]]
        field = self._files.field(path, GROUPS[variable.rank], name)
        steady = field.timed and not variable.time_varying  # such a state stands at one time
        try:
            values = field.one(int(self._row[sample]), slice(1) if steady else times)
        except OSError as error:
            raise OSError(
                f"{path}: the field {name} is damaged ({error}): remove the file and run `generate` again"
            ) from None
        return values[0] if steady else values

    def close(self) -> None:
        """Let go of the files; the next read opens them again."""
        self._files.close()

    def statistics(self) -> Statistics:
        """Return the statistics of the train split, see `statistics`."""
        return statistics(self.manifest.folder)

    def __repr__(self) -> str:
        left_out = f", {len(self.failed)} failed ones left out" if self.failed else ""
        return f"FolderSource({self.title}: {self.samples} samples{left_out})"


def statistics(folder: str | Path) -> Statistics:
    """Return statistics of the fields over the train split, whatever split is read: no test data leak.

    They are in `stats.yaml`: "mean", "std" and "rms", for trajectories also "mean_delta", "std_delta" and
    "rms_delta" of the differences between successive frames; each by field, float64: () for scalars, (D,) for
    vectors, (D, D) for tensors.

    Raises:
        FileNotFoundError: the folder has no `stats.yaml`.
        ValueError: it cannot be understood.
    """
    path = Path(folder) / "stats.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"no statistics at {path}: they are written when a dataset is complete; "
            "run `generate` again to go on"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {
            str(kind): {str(name): np.asarray(value, dtype=np.float64) for name, value in fields.items()}
            for kind, fields in content.items()
        }
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no statistics: {' '.join(str(error).split())}") from None
