"""Loading for training: pairs of tensors from folders, files and arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...operators.linear.errors import NonFinite
from ..generation.manifest import OK
from ..layout import Layout
from ..source import Source
from .channels import Channels
from .folder import FolderSource, UnknownSplit
from .memory import free_memory, free_shared_memory
from .pairs import Pairs, choose_fields
from .window import Window


@final
@dataclass(frozen=True)
class Loading:
    """How data get into memory.

    Args:
        preload: True reads everything at once, into memory that worker processes share; False reads each item
            when it is asked for; "auto" preloads what takes less than `fraction` of the free memory.
        dtype: of the tensors.
        fraction: of the free memory, see `preload`.
    """

    preload: bool | Literal["auto"] = "auto"
    dtype: torch.dtype = torch.float32
    fraction: float = 0.5

    def __post_init__(self) -> None:
        if self.preload not in (True, False, "auto"):
            raise ValueError(f"preload is True, False or 'auto', got {self.preload!r}")
        if not self.dtype.is_floating_point:
            raise ValueError(f"dtype is a floating-point type of torch, got {self.dtype}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction lies between 0 and 1, got {self.fraction}")


@final
class FieldDataset(Dataset[tuple[Tensor, Tensor]]):
    """Pairs (x, y) of what is given and what is asked for, channels first, for a `DataLoader`.

    Steady problems: x (C_in, *space) holds the input fields, y (C_out, *space) the outputs. Trajectories: a
    `Window` cuts each into pairs; fields in `inputs` that do not vary in time are appended to x as channels.
    Vectors and tensors become channels velocity_x, velocity_y, ...

    Files are opened in the process that reads them, so workers may be forked or spawned. Every item is the
    caller's own memory: changing it changes nothing else. Values are neither scaled nor shifted.

    Args:
        data: folder that `generate` wrote, a file that `open_source` reads, or a `Source`.
        split: of a folder: "train", "valid", "test"; of a file by the rules of PDEBench,
            "pdebench-single-train" and so on, see `open_source`; None for all.
        window: of trajectories.
        inputs, outputs: names of fields; None chooses by role: inputs and states, outputs and states.
        stride: keep every so many points, for all axes or per axis; the coordinates follow.
        samples: the first so many, or a range of them; None for all.
        loading: whether to preload, and the type.

    Attributes:
        layout: of the data as stored.
        coordinates: of the points along each axis, float64.

    Raises:
        KeyError: an unknown field.
        WindowTooLong, UnfitStride, UnknownSplit, EmptySplit: as they say.
        NonFinite: NaN or infinity, found when preloading; the message names sample and field.
        ValueError: settings that do not fit the data.

    >>> from solvus.datasets.formats.arrays import from_arrays
    >>> a, u = torch.ones(100, 32, 32), torch.zeros(100, 32, 32)
    >>> pairs = FieldDataset(from_arrays({"a": a}, {"u": u}, axes=("sample", "x", "y")), stride=2)
    >>> x, y = pairs[0]
    >>> len(pairs), tuple(x.shape), pairs.inputs, pairs.outputs
    (100, (1, 16, 16), ('a',), ('u',))
    """

    def __init__(
        self,
        data: str | Path | Source,
        split: str | None = None,
        *,
        window: Window | None = None,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        stride: int | Sequence[int] = 1,
        samples: int | range | None = None,
        loading: Loading | None = None,
    ) -> None:
        self.loading = loading or Loading()
        self.split = split
        self._data = data
        self._owner, self._source = os.getpid(), _open(data, split)
        self._inherited: list[Source | None] = []
        self.layout: Layout = self._source.layout
        given, asked = choose_fields(self.layout, window, inputs, outputs)
        self._pairs = Pairs(Channels(self.layout, stride, self.loading.dtype), window, given, asked)
        self._samples = _numbers(self._source, samples)
        self._starts = range(1) if window is None else window.starts(len(self.layout.times))
        self._shared: dict[str, Tensor] = {}
        self._store: dict[str, Tensor] | None = None
        if self.loading.preload is True or (
            self.loading.preload == "auto" and self.nbytes <= self.loading.fraction * free_memory()
        ):
            self._store = self._preload()

    @property
    def in_memory(self) -> bool:
        """Whether the data were preloaded."""
        return self._store is not None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the channels of x: NAME@0 is the last frame that goes in, NAME@-1 the one before."""
        return self._pairs.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the channels of y: NAME@1 is the first frame after those that go in."""
        return self._pairs.outputs

    @property
    def coordinates(self) -> tuple[Any, ...]:
        """Positions of the points along each axis, float64 arrays."""
        return self._pairs.channels.coordinates

    @property
    def grid(self) -> Tensor:
        """Positions of the points as channels, (d, *space), to append to x."""
        axes = [torch.tensor(c, dtype=self.loading.dtype) for c in self.coordinates]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    @property
    def interval(self) -> float:
        """Time between two frames of a window."""
        if self._pairs.window is None:
            raise ValueError("steady problems have no time between frames")
        times = self.layout.times
        return float(times[-1] - times[0]) / (len(times) - 1) * self._pairs.window.every

    @property
    def nbytes(self) -> int:
        """Memory that preloading takes."""
        channels, frames = self._pairs.channels, len(range(len(self.layout.times))[self._used])
        varying = [self.layout[f] for f in self._pairs.fields if self.layout[f].sample_varying]
        values = sum(prod(channels.shape(v.name)) * (frames if v.time_varying else 1) for v in varying)
        return values * len(self._samples) * self.loading.dtype.itemsize

    def __len__(self) -> int:
        return len(self._samples) * len(self._starts)

    def where(self, index: int) -> tuple[int, int]:
        """Return what an item is: the number of the sample in the source, and the first frame."""
        position, start = self._locate(index)
        return self._samples[position], start

    def _locate(self, index: int) -> tuple[int, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} pairs, asked for number {index}")
        position, window = divmod(int(index) % len(self), len(self._starts))
        return position, self._starts[window]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        position, start = self._locate(index)
        return self._pairs.pair(lambda times, names: self._fetch(position, times, names), start)

    def _fetch(self, position: int, times: slice, names: Sequence[str]) -> dict[str, Tensor]:
        """Return frames of fields of one sample, from memory or from the file."""
        varying = [name for name in names if self.layout[name].sample_varying]
        if self._store is not None:
            found = {name: self._store[name][position] for name in varying}
            times = self._stored(times)
            found = {n: (v[times] if self.layout[n].time_varying else v).clone() for n, v in found.items()}
        else:
            found = self._read(self._samples[position], times, varying) if varying else {}
        return {name: found[name] if name in found else self._same(name, times) for name in names}

    def _read(self, sample: int, times: slice, names: Sequence[str]) -> dict[str, Tensor]:
        values = self._here().frames(sample, times, names)
        return {name: self._pairs.channels.tensor(name, values[name]) for name in names}

    def _same(self, name: str, times: slice) -> Tensor:
        """Return a field that all samples share; it is read once."""
        if name not in self._shared:
            self._shared[name] = self._read(self._samples[0], self._used, [name])[name]
        value = self._shared[name]
        return value[self._stored(times)].clone() if self.layout[name].time_varying else value.clone()

    @property
    def _used(self) -> slice:
        """Frames that occur in windows."""
        window = self._pairs.window
        if window is None:
            return slice(None)
        alone = window.stride is None or window.stride % window.every == 0 or len(self._starts) == 1
        return slice(self._starts[0], self._starts[-1] + window.span, window.every if alone else 1)

    def _stored(self, times: slice) -> slice:
        """Return where frames stand among those that are used."""
        if times.start is None:
            return times
        kept, count = self._used, len(range(times.start, times.stop, times.step))
        first, step = (times.start - kept.start) // kept.step, times.step // kept.step
        return slice(first, first + (count - 1) * step + 1, step)

    def _preload(self) -> dict[str, Tensor]:
        """Read everything, look for NaN, and keep it where other processes see it when there is room."""
        channels, shared = self._pairs.channels, self.nbytes < free_shared_memory()
        varying = [f for f in self._pairs.fields if self.layout[f].sample_varying]
        frames = len(range(len(self.layout.times))[self._used])
        store: dict[str, Tensor] = {}
        for name in varying:
            times = (frames,) if self.layout[name].time_varying else ()
            empty = torch.empty(len(self._samples), *times, *channels.shape(name), dtype=self.loading.dtype)
            store[name] = empty.share_memory_() if shared else empty
        for position, sample in enumerate(self._samples):
            for name, value in self._read(sample, self._used, varying).items() if varying else ():
                store[name][position] = value
                self._check(name, value, f"sample {self._name(sample)}")
        for name in self._pairs.fields:
            if name not in varying:
                self._check(name, self._same(name, self._used), "all samples")
        return store

    def _check(self, name: str, value: Tensor, where: str) -> None:
        bad = value.numel() - int(torch.isfinite(value).sum())
        if bad:
            raise NonFinite(
                f"{self.layout.name}: the field {name} of {where} has {bad} values that are NaN or infinite "
                f"in {self.loading.dtype}: correct the data, leave the sample out with samples=, or read "
                "float64"
            )

    def _name(self, sample: int) -> int:
        """Return the id of a sample, where its source has ids."""
        return int(getattr(self._source, "ids", range(sample + 1))[sample])

    def _here(self) -> Source:
        """Return the source: a `Source` that was given, or files opened by this process."""
        if self._source is None or (self._owner != os.getpid() and not isinstance(self._data, Source)):
            self._inherited.append(self._source)  # closing it here could disturb the process it belongs to
            self._owner, self._source = os.getpid(), _open(self._data, self.split)
        return self._source

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind, and memory that is not shared: the other process reads lazily then."""
        state = {**self.__dict__, "_source": None, "_inherited": []}
        if isinstance(self._data, Source):
            state["_source"] = self._source
        shared = self._store is not None and all(t.is_shared() for t in self._store.values())
        if not shared or get_spawning_popen() is None:
            state["_store"] = None
        return state

    def statistics(self, kind: str = "mean") -> tuple[Tensor, Tensor]:
        """Return a statistic of the train split per channel: of x (C_in,), and of y (C_out,).

        Args:
            kind: "mean", "std" or "rms", for trajectories also "mean_delta", "std_delta", "rms_delta".

        Raises:
            ValueError: the data are no generated folder, or have no such statistic.
            FileNotFoundError: the folder has none yet.
        """
        source = self._here()
        if not isinstance(source, FolderSource):
            raise ValueError(
                "only generated folders have statistics: compute them over your training samples"
            )
        found = source.statistics()
        if kind not in found:
            raise ValueError(f"there is no statistic {kind!r}: there are {', '.join(found)}")
        of = {
            name: float(value)
            for field in self._pairs.fields
            for name, value in zip(self._pairs.channels.names(field), found[kind][field].ravel(), strict=True)
        }
        x, y = ([of[name.partition("@")[0]] for name in names] for names in (self.inputs, self.outputs))
        return torch.tensor(x, dtype=self.loading.dtype), torch.tensor(y, dtype=self.loading.dtype)

    def __repr__(self) -> str:
        x, y = self._pairs.shapes
        split = f", {self.split}" if self.split else ""
        of = f" from {len(self._samples)} trajectories" if self._pairs.window else ""
        where = "in memory" if self.in_memory else "read when asked for"
        dtype = str(self.loading.dtype).removeprefix("torch.")
        return (
            f"FieldDataset({self.layout.name}{split}: {len(self)} pairs{of}, {dtype}, {where},\n"
            f"  x {x}: {_some(self.inputs)},\n"
            f"  y {y}: {_some(self.outputs)})"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 6 else (*names[:2], "...", names[-1]))


def _open(data: str | Path | Source, split: str | None) -> Source:
    if not isinstance(data, Source):
        from ..formats.open import open_source

        return open_source(data, split=split)
    if split is not None:
        raise UnknownSplit(
            f"{data.layout.name} is open already, its split {split!r} cannot be chosen here: give the path, "
            "or choose with samples=range(...)"
        )
    return data


def _numbers(source: Source, samples: int | range | None) -> list[int]:
    """Return the numbers of the samples that are used, without failed ones."""
    status: Sequence[str] | None = getattr(source, "status", None)
    numbers = [i for i in range(source.samples) if status is None or status[i] == OK]
    if samples is None:
        return numbers
    wanted = samples if isinstance(samples, range) else range(samples)
    if not wanted or min(wanted) < 0 or max(wanted) >= len(numbers):
        raise ValueError(f"there are {len(numbers)} samples, asked for {samples}: lower the number")
    return [numbers[i] for i in wanted]
