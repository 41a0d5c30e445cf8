"""Fields of HDF5 files read sample by sample and frame by frame, and the open files of a process."""

from __future__ import annotations

import os
from collections import OrderedDict
from math import prod
from pathlib import Path
from typing import final

import h5py
import numpy as np
from numpy.typing import NDArray

_CHECKSUM = 4  # bytes that fletcher32 appends to a chunk


@final
class Field:
    """A field of an HDF5 file: [samples][times] + (*space, ...), as The Well has it.

    Where a chunk is one frame of one sample and is not compressed, its bytes are read as they are, past the
    filters of HDF5, three times faster. Its checksum is verified the first time that this object reads it.

    Args:
        dataset: of an open file.
        several: it has an axis of samples in front.
        timed: it has an axis of times.
    """

    def __init__(self, dataset: h5py.Dataset, *, several: bool, timed: bool) -> None:
        self.dataset, self.several, self.timed = dataset, several, timed
        lead, shape = several + timed, dataset.shape
        create = dataset.id.get_create_plist()
        filters = [create.get_filter(i)[0] for i in range(create.get_nfilters())]
        self._tail = _CHECKSUM * len(filters)
        self._plain = (
            several
            and dataset.chunks == (1,) * lead + shape[lead:]
            and dataset.dtype.isnative
            and set(filters) <= {h5py.h5z.FILTER_FLETCHER32}
        )
        self._verified = np.zeros(shape[:lead] if self._plain else (), dtype=bool)
        self._dtype, self._frame, self._times = (
            dataset.dtype,
            shape[lead:],
            range(shape[several] if timed else 1),
        )
        self._size, self._zeros = dataset.dtype.itemsize * prod(shape[lead:]), (0,) * len(shape[lead:])

    def one(self, sample: int, times: slice) -> NDArray[np.floating]:
        """Return one sample, at some times where there is an axis of times."""
        where = (sample,) * self.several + (times,) * self.timed
        if not self._plain:
            return self.dataset[where]
        if self._verified[where].all():
            return self._bytes(sample, self._times[times]) if self.timed else self._bytes(sample, None)
        values = self.dataset[where]
        self._verified[where] = True
        return values

    def _bytes(self, sample: int, frames: range | None) -> NDArray[np.floating]:
        """Read chunks one after the other into one array; each overwrites the checksum of the one before."""
        read, size, tail = self.dataset.id.read_direct_chunk, self._size, self._tail
        chunks = [(sample, *self._zeros)] if frames is None else [(sample, t, *self._zeros) for t in frames]
        raw = np.empty(len(chunks) * size + tail, dtype=np.uint8)
        for k, chunk in enumerate(chunks):
            read(chunk, out=raw[k * size : (k + 1) * size + tail])
        values = raw[: len(chunks) * size].view(self._dtype)
        return values.reshape(self._frame if frames is None else (len(chunks), *self._frame))


@final
class OpenFiles:
    """HDF5 files and their fields, opened when they are asked for; the last few stay open.

    Every process opens its own: what a forked process inherits is left alone, and nothing open is pickled.
    Chunks are not cached: this is for files whose chunks are read whole.

    Args:
        keep: how many files stay open.
    """

    def __init__(self, keep: int = 128) -> None:
        self.keep = keep
        self._owner = os.getpid()
        self._files: OrderedDict[Path, tuple[h5py.File, dict[str, Field]]] = OrderedDict()
        self._inherited: list[object] = []

    def field(self, path: Path, group: str, name: str) -> Field:
        """Return a field of a file; its attributes say whether samples and times have an axis."""
        fields = self._open(path)
        key = f"{group}/{name}"
        if key not in fields:
            dataset = self._files[path][0][key]
            several, timed = (bool(dataset.attrs[flag]) for flag in ("sample_varying", "time_varying"))
            fields[key] = Field(dataset, several=several, timed=timed)
        return fields[key]

    def close(self) -> None:
        """Close the files that this process opened."""
        if self._owner == os.getpid():
            while self._files:
                self._files.popitem()[1][0].close()

    def _open(self, path: Path) -> dict[str, Field]:
        if (
            self._owner != os.getpid()
        ):  # closing inherited files here could disturb the process they belong to
            self._inherited.append(self._files)
            self._owner, self._files = os.getpid(), OrderedDict()
        if path in self._files:
            self._files.move_to_end(path)
            return self._files[path][1]
        while len(self._files) >= self.keep:
            self._files.popitem(last=False)[1][0].close()
        try:
            file = h5py.File(path, "r", locking="best-effort", rdcc_nbytes=0)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{path} is in the manifest but not in the folder: generate again"
            ) from None
        self._files[path] = (file, {})
        return self._files[path][1]

    def __len__(self) -> int:
        """How many files this process has open."""
        return len(self._files) if self._owner == os.getpid() else 0

    def __getstate__(self) -> dict[str, int]:
        return {"keep": self.keep}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(state["keep"])
