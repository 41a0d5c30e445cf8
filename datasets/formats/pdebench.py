"""PDEBench: its layouts, its splits, and what is common to reading them."""

from __future__ import annotations

import math
import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
from numpy.typing import NDArray

from ..layout import AXES, Layout, Role, Values
from ..source import Source
from .arrays import cell_centres

CFD = ("density", "pressure", "Vx", "Vy", "Vz")


class PDEBenchLayout(StrEnum):
    """How a file is laid out.

    A: one array per field, (sample, time, *space): `tensor`, or `nu` and `tensor` (Darcy), or density,
    pressure and velocities (CFD). B: a group `0000`, `0001`, ... per sample, channels last. C: `velocity`,
    `particles`, `force` of an incompressible flow.
    """

    A = "A"
    B = "B"
    C = "C"


class NotPDEBench(ValueError):
    """A file that has none of the layouts of PDEBench, or breaks the one it has."""


class SuspectData(UserWarning):
    """Data that can be read but should not be trusted: missing samples, times that do not fit."""


def layout_of(file: h5py.File) -> PDEBenchLayout | None:
    """Return the layout of an open file, told by its content; None where it is none of them."""
    if "velocity" in file:
        return PDEBenchLayout.C
    if "tensor" in file or "density" in file:
        return PDEBenchLayout.A
    return PDEBenchLayout.B if samples_in(file) else None


def pdebench_split(samples: int, protocol: str) -> tuple[range, range]:
    """Return which samples train and which test in PDEBench: it has two rules, never mix their figures.

    Args:
        samples: in the file.
        protocol: "pdebench-single", the first tenth tests (loader of one file), or "pdebench-mult", the last
            tenth tests (loader of several files).

    >>> pdebench_split(100, "pdebench-single")
    (range(10, 100), range(0, 10))
    >>> pdebench_split(100, "pdebench-mult")
    (range(0, 90), range(90, 100))
    """
    if protocol == "pdebench-single":
        return range(samples // 10, samples), range(samples // 10)
    if protocol == "pdebench-mult":
        return range(samples * 9 // 10), range(samples * 9 // 10, samples)
    raise ValueError(f"the split is 'pdebench-single' or 'pdebench-mult', got {protocol!r}")


class PDEBench(Source):
    """An open file of PDEBench; `read_pdebench` makes it.

    Attributes:
        kind: its layout.
    """

    kind: PDEBenchLayout

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told: set[int] = set()
        self._handle: tuple[int, h5py.File] | None = None
        try:
            self.layout, self.samples = self._examine()
        except BaseException:
            self.close()
            raise

    @property
    def _file(self) -> h5py.File:
        """The open file; every process opens its own."""
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = os.getpid(), h5py.File(self.path, "r", locking="best-effort")
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    @abstractmethod
    def _examine(self) -> tuple[Layout, int]:
        """Return the form of the samples and their number."""

    @abstractmethod
    def _read(self, start: int, stop: int) -> Values:
        """Return samples as they are."""

    @abstractmethod
    def _part(self, sample: int, times: slice, name: str) -> NDArray[Any]:
        """Return one field of one sample as it is, at some times where it varies in time."""

    @final
    def read(self, start: int, stop: int) -> Values:
        """Return samples start to stop of every field; warn of samples that are missing."""
        values = self._read(start, stop)
        self._warn(self._missing(values, start))
        return values

    @final
    def frames(self, sample: int, times: slice, names: Sequence[str]) -> Values:
        """Return some fields of one sample at some times, see `Source.frames`; nothing else is read."""
        sample = range(self.samples)[sample]
        values = {name: self._part(sample, times, name).astype(self.layout.dtype) for name in names}
        if not all(np.isfinite(array).all() and array.any() for array in values.values()):
            self.read(sample, sample + 1)  # warns when the whole sample is missing
        return values

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._handle is not None and self._handle[0] == os.getpid():
            self._handle[1].close()
        self._handle = None

    def _fault(self, text: str) -> NotPDEBench:
        return NotPDEBench(f"{self.path.name}: {text}")

    def _missing(self, values: Values, start: int) -> set[int]:
        """Samples that are zero in all that was solved for, or not finite."""
        solved = [values[v.name] for v in self.layout.variables if v.role is not Role.INPUT]
        zero = np.all([~_rows(a).any(axis=1) for a in solved], axis=0)
        broken = np.any([~np.isfinite(_rows(a)).all(axis=1) for a in values.values()], axis=0)
        return {start + int(i) for i in np.flatnonzero(np.logical_or(zero, broken))}

    def _warn(self, missing: set[int]) -> None:
        new = sorted(missing - self._told)
        if new:
            self._told |= missing
            some = ", ".join(map(str, new[:10])) + (", ..." if len(new) > 10 else "")
            warnings.warn(
                f"{self.path.name}: samples that are all zero or not finite, so probably missing "
                f"({len(new)}): {some}; leave them out before you train",
                SuspectData,
                stacklevel=3,
            )

    def _times(self, given: Any, n: int) -> NDArray[np.float64]:
        """Return n times: those of the file, one too many dropped, or 0, 1, 2, ... where there are none."""
        if given is None:
            self._suspect("there is no t-coordinate, times are counted 0, 1, 2, ...")
            return np.arange(float(n))
        times = np.asarray(given, dtype=np.float64).ravel()
        if len(times) < n:
            raise self._fault(f"the t-coordinate has {len(times)} entries, the data have {n} times")
        if len(times) > n:
            self._suspect(
                f"the t-coordinate has {len(times)} entries, the data {n} times: the first {n} are taken"
            )
        return times[:n]

    def _suspect(self, text: str) -> None:
        warnings.warn(f"{self.path.name}: {text}", SuspectData, stacklevel=5)

    def _coordinates(self, shape: Iterable[int], given: Mapping[str, Any]) -> tuple[NDArray[np.float64], ...]:
        found = []
        for axis, n in zip(AXES, shape, strict=False):
            values = cell_centres(n) if axis not in given else np.asarray(given[axis], dtype=np.float64)
            if values.shape != (n,):
                raise self._fault(
                    f"the {axis}-coordinate has the shape {values.shape}, the data have {n} points"
                )
            found.append(values)
        return tuple(found)

    def _root_coordinates(self) -> dict[str, Any]:
        return {a: self._file[f"{a}-coordinate"][...] for a in AXES if f"{a}-coordinate" in self._file}

    def _dtype(self, names: Iterable[str]) -> str:
        return str(np.result_type(np.float32, *(self._file[name].dtype for name in names)))


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(len(array), math.prod(array.shape[1:]))


def samples_in(file: h5py.File) -> list[str]:
    """Names of the groups of samples, by number."""
    names = [n for n in file if n.isdigit() and isinstance(file.get(n), h5py.Group) and "data" in file[n]]
    return sorted(names, key=int)
