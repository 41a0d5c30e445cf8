"""How fast are random samples and windows read for training?

Three problems, all on float32 fields of smooth random numbers, n points along both axes:

  frames   two successive frames of a 2-D velocity as they are stored, all windows of 24 trajectories of 32
           frames in random order: what chunks cost. 24 x 32 x n x n x 2 numbers.
  pairs    the same windows of a scalar as a pair of tensors (x, y), one frame each: what a loader costs
  steady   pairs (a, u) of 512 samples, in random order

`solve_s` is the time of one pass over all items, the median of five, with the files in the cache of the
operating system; `setup_s` is the time to open, which for `loader in memory` reads everything. `extra` holds
MB_per_s, items_per_s, the chunk shape, and the time of the first pass, in which ours verify checksums.

All methods run the same loop with a file that stays open, but for `open per item`. `h5py` reads arrays that
differ in their chunks alone, uncompressed but for `gzip`. Ours are the files that `generate` writes, with a
checksum per chunk: `reader` is `FolderSource.frames`, `loader` is `FieldDataset`, workers make batches of 16.
Every item of every method is compared with the array; `error` is the largest difference.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.datasets.formats.well_storage import GridStorage
from solvus.datasets.generation.generate import Options as Making
from solvus.datasets.generation.generate import generate
from solvus.datasets.layout import Layout, Role, Variable
from solvus.datasets.loading.folder import FolderSource
from solvus.datasets.loading.load import FieldDataset, Loading
from solvus.datasets.loading.window import Window
from solvus.datasets.recipe import Draw, Recipe, Solved

PASSES = 5
BATCH = 16
Item = tuple[Any, ...]


@dataclass(frozen=True)
class Smooth(Recipe):
    """Samples without an equation: Fourier series with random coefficients that decay like 1 / k^2.

    Args:
        name: of the problem.
        points: along both axes.
        frames: of a trajectory; 1 for steady data.
    """

    name: str
    points: int
    frames: int
    max_residual: float = 1.0

    @property
    def layout(self) -> Layout:
        """Form of the samples."""
        fields = {
            "frames": (Variable("velocity", 1, Role.STATE, time_varying=True),),
            "pairs": (Variable("w", role=Role.STATE, time_varying=True),),
            "steady": (Variable("a", role=Role.INPUT), Variable("u", role=Role.OUTPUT)),
        }[self.name]
        line = np.arange(self.points) / self.points
        return Layout(self.name, ("x", "y"), (line, line), np.arange(float(self.frames)), fields)

    @property
    def storage(self) -> GridStorage:
        """Where the arrays of a sample go."""
        return GridStorage(self.layout)

    def draw(self, generator: np.random.Generator) -> Draw:
        """Draw all there is."""
        k = np.fft.fftfreq(self.points, 1 / self.points)
        decay = 1 / (1 + k[:, None] ** 2 + k[None, : self.points // 2 + 1] ** 2)
        out = {}
        for variable in self.layout.variables:
            count = self.frames * 2 if variable.rank else self.frames
            noise = generator.standard_normal((count, 2, *decay.shape))
            waves = np.fft.irfft2((noise[:, 0] + 1j * noise[:, 1]) * decay * self.points, (self.points,) * 2)
            shape = self.layout.shape(variable.name)
            out[variable.name] = (
                np.moveaxis(waves.reshape(-1, 2, *waves.shape[1:]), 1, -1) if variable.rank else waves
            )
            out[variable.name] = np.ascontiguousarray(out[variable.name]).reshape(shape)
        return out

    def solve(self, draws: Sequence[Draw], device: str = "cpu") -> list[Solved]:
        """Take the draws as they are."""
        return [Solved(draw, 0.0) for draw in draws]


class Stored:
    """A dataset as we store it and, with other chunks, as HDF5 can; and the items in the order they are read.

    Args:
        recipe: of the samples.
        samples: how many.
    """

    dtype = "float32"

    def __init__(self, recipe: Smooth, samples: int) -> None:
        self.recipe, self.samples = recipe, samples
        self.path = Path(tempfile.mkdtemp(prefix="loading-"))
        weakref.finalize(self, shutil.rmtree, self.path)
        self.folder = self.path / "folder"
        generate(recipe, samples, self.folder, splits=(1, 0, 0), workers=1, options=Making(shard=8))
        with FolderSource(self.folder) as source:
            self.arrays = dict(source.read(0, samples))
        starts = range(recipe.frames - 1) if recipe.frames > 1 else (0,)
        items = [(i, t) for i in range(samples) for t in starts]
        self.order = np.random.default_rng(0).permutation(len(items)).tolist()
        self.items = [items[k] for k in self.order]

    @cached_property
    def unknowns(self) -> int:
        """Numbers that the dataset holds."""
        return sum(a.size for a in self.arrays.values())

    def file(self, chunks: Any, **filters: Any) -> Path:
        """Write the arrays with other chunks, once: "frame" is one frame of one sample, "series" all."""
        path = self.path / ("-".join(map(str, (chunks, *filters.items()))) + ".h5")
        if not path.exists():
            with h5py.File(path, "w") as file:
                for name, array in self.arrays.items():
                    lead = 2 if self.recipe.frames > 1 else 1
                    shapes = {"frame": (1,) * lead + array.shape[lead:], "series": (1, *array.shape[1:])}
                    file.create_dataset(name, data=array, chunks=shapes.get(chunks, chunks), **filters)
        return path

    def expected(self, item: tuple[int, int]) -> Item:
        """Return what an item holds, from the arrays."""
        i, t = item
        if self.recipe.name == "frames":
            return (self.arrays["velocity"][i, t : t + 2],)
        if self.recipe.name == "pairs":
            return self.arrays["w"][i, t, None], self.arrays["w"][i, t + 1, None]
        return self.arrays["a"][i, None], self.arrays["u"][i, None]

    def cut(self, group: Any, item: tuple[int, int]) -> Item:
        """Read an item from the arrays of a file."""
        i, t = item
        if self.recipe.name == "frames":
            return (group["velocity"][i, t : t + 2],)
        if self.recipe.name == "pairs":
            w = torch.from_numpy(group["w"][i, t : t + 2])
            return w[:1], w[1:]
        return torch.from_numpy(group["a"][i])[None], torch.from_numpy(group["u"][i])[None]


Pass = Callable[[], Iterable[Item]]
"""A pass over all items in order."""
Open = Callable[[ExitStack], tuple[Pass, Any]]
"""Open the files; return a pass, and the chunk shape."""


def method(
    name: str, package: str, prepare: Callable[[Stored], Open], applies: Callable[[Case], bool]
) -> Method:
    """Return the method that goes through all items several times, and once more to compare them."""

    def run(problem: Stored, case: Case, options: Options) -> Outcome:
        start = prepare(problem)  # writes the files it needs
        with ExitStack() as stack:
            begin = perf_counter()
            once, chunks = start(stack)
            opened = perf_counter()
            passes = []
            for _ in range(PASSES):
                at = perf_counter()
                for _item in once():
                    pass
                passes.append(perf_counter() - at)
            error = 0.0
            for item, expected in zip(once(), map(problem.expected, problem.items), strict=True):
                for found, right in zip(item, expected, strict=True):
                    assert tuple(found.shape) == right.shape
                    error = max(error, float(np.abs(np.asarray(found) - right).max()))
        size, count = sum(a.nbytes for a in problem.expected(problem.items[0])), len(problem.items)
        return Outcome(
            setup_s=opened - begin,
            solve_s=median(passes),
            error=error,
            converged=error == 0.0,
            extra={
                "MB_per_s": round(count * size / median(passes) / 1e6, 1),
                "items_per_s": round(count / median(passes), 1),
                "item_bytes": size,
                "first_pass_s": passes[0],
                "chunks": chunks,
            },
        )

    return Method(name, package, run, applies=applies)


def stays_open(chunks: Any, **filters: Any) -> Callable[[Stored], Open]:
    """Read arrays of one HDF5 file that stays open, each with its chunks."""

    def prepare(problem: Stored) -> Open:
        path = problem.file(chunks, **filters)

        def start(stack: ExitStack) -> tuple[Pass, Any]:
            file = stack.enter_context(h5py.File(path, "r"))
            arrays = {name: file[name] for name in file}
            shape = arrays[next(iter(arrays))].chunks
            return lambda: (problem.cut(arrays, item) for item in problem.items), shape

        return start

    return prepare


def opened_anew(problem: Stored) -> Open:
    """Open the file for every item, as loaders do that were written without processes in mind."""
    path = problem.file("frame")

    def items() -> Iterator[Item]:
        for item in problem.items:
            with h5py.File(path, "r") as file:
                yield problem.cut(file, item)

    def start(stack: ExitStack) -> tuple[Pass, Any]:
        with h5py.File(path, "r") as file:
            return items, file[next(iter(file))].chunks

    return start


def reader(problem: Stored) -> Open:
    """Read windows of the stored velocity."""

    def start(stack: ExitStack) -> tuple[Pass, Any]:
        source = stack.enter_context(FolderSource(problem.folder))

        def items() -> Iterator[Item]:
            for i, t in problem.items:
                yield (source.frames(i, slice(t, t + 2), ("velocity",))["velocity"],)

        return items, (1, 1, *problem.arrays["velocity"].shape[2:])

    return start


def loader(preload: bool, workers: int = 0) -> Callable[[Stored], Open]:
    """Read pairs as a training loop does."""

    def prepare(problem: Stored) -> Open:
        def start(stack: ExitStack) -> tuple[Pass, Any]:
            window = Window() if problem.recipe.frames > 1 else None
            data = FieldDataset(problem.folder, window=window, loading=Loading(preload=preload))
            if not workers:
                return lambda: (data[k] for k in problem.order), "frame"
            batches: DataLoader[Any] = DataLoader(
                data,
                BATCH,
                sampler=problem.order,
                num_workers=workers,
                multiprocessing_context="spawn",
                persistent_workers=True,
            )
            for _ in batches:  # workers start, which takes seconds
                break
            return lambda: (pair for x, y in batches for pair in zip(x, y, strict=True)), "frame"

        return start

    return prepare


def frames(case: Case) -> bool:
    """Whether arrays are read as they are stored."""
    return case.problem == "frames"


def pairs(case: Case) -> bool:
    """Whether pairs of tensors are asked for."""
    return case.problem != "frames"


def cases() -> list[Case]:
    """Return the cases, quick ones first."""

    def case(problem: str, n: int, count: int, steps: int, quick: bool) -> Case:
        return Case(problem, n, lambda: Stored(Smooth(problem, n, steps), count), quick=quick, ladder=False)

    return [
        case("frames", 64, 12, 16, True),
        case("pairs", 64, 12, 16, True),
        case("steady", 64, 128, 1, True),
        case("frames", 128, 24, 32, False),
        case("pairs", 128, 24, 32, False),
        case("steady", 128, 512, 1, False),
    ]


def methods() -> list[Method]:
    """Return the methods, ours first."""

    def always(case: Case) -> bool:
        return True

    def long(case: Case) -> bool:
        return pairs(case) and not case.quick  # workers take seconds to start

    return [
        method("reader", "solvus", reader, frames),
        method("loader", "solvus", loader(preload=False), pairs),
        method("loader in memory", "solvus", loader(preload=True), pairs),
        method("loader 2 workers", "solvus", loader(preload=False, workers=2), long),
        method("automatic chunks", "h5py", stays_open(True), always),
        method("frame chunks", "h5py", stays_open("frame"), always),
        method("frame chunks + checksums", "h5py", stays_open("frame", fletcher32=True), always),
        method("trajectory chunks", "h5py", stays_open("series"), frames),
        method("contiguous", "h5py", stays_open(None), always),
        method(
            "gzip", "h5py", stays_open("frame", compression="gzip", compression_opts=1, shuffle=True), always
        ),
        method("open per item", "h5py", opened_anew, always),
    ]


if __name__ == "__main__":
    main("loading", __doc__, cases(), methods())
