"""Make a dataset: many samples of a recipe, in files that a crash cannot spoil, by many workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import final

import torch

from ...meshes.whole import write_whole
from ..recipe import Recipe
from .books import Books
from .card import CARD, Preset, card
from .executors import Executor, Processes, WorkerDied, check_not_starting, run
from .manifest import OK, Manifest, Shard, read_manifest
from .plan import SHARES, Plan, shard_size, split_counts
from .shard import DiskFull, Task, iterate_shards, make_shards, no_space
from .statistics import STATISTICS, write_statistics
from .tally import Standing, Tally


@final
@dataclass(frozen=True)
class Options:
    """How a dataset is made. Only `shard` and `license` change what is in the files.

    Args:
        device: of the solves: "cpu", or "cuda" for one process with large batches.
        batch: samples that are solved together; None lets their size decide.
        shard: samples per file; None lets sizes decide.
        max_failed: part of the samples that may fail.
        license: of the data, written into every file and the card.
        preset: where the recipe comes from, for the card: equation, resolution, settings.
        progress: called when the run starts and after every finished file.
    """

    device: str = "cpu"
    batch: int | None = None
    shard: int | None = None
    max_failed: float = 0.1
    license: str = ""
    preset: Preset | None = None
    progress: Callable[[Standing], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, value in (("batch", self.batch), ("shard", self.shard)):
            if value is not None and value < 1:
                raise ValueError(f"{name} counts samples and is at least 1, got {value}")
        if not 0 <= self.max_failed <= 1:
            raise ValueError(f"max_failed is a part of the samples, 0 to 1, got {self.max_failed}")


_DEFAULT = Options()


def generate(
    recipe: Recipe,
    n: int,
    out: str | Path,
    *,
    seed: int = 0,
    splits: Sequence[float] = SHARES,
    workers: int | None = None,
    executor: Executor | None = None,
    options: Options = _DEFAULT,
) -> Manifest:
    """Make n samples of a recipe, or go on where an earlier run was interrupted.

    Sample i draws from `SeedSequence(seed, spawn_key=(i,))` and is solved on one thread: on the CPU the files
    are the same to the byte for any workers, executor, batch and number of interruptions, given the same
    versions of the libraries and the same kind of processor. Every file appears whole or not at all. A sample
    that cannot be made stays NaN and is recorded with the reason.

    Args:
        recipe: what a sample is.
        n: samples, ids 0 to n - 1.
        out: folder, new or of an earlier run with the same recipe, n, seed, splits and shard.
        seed: of the random numbers.
        splits: parts of train, valid and test, contiguous ranges of ids; files never cross them.
        workers: processes, default one per core; 1 stays in this process.
        executor: runs tasks instead: of `concurrent.futures`, Dask's `client.get_executor()`,
            `mpi4py.futures.MPIPoolExecutor`, submitit's `AutoExecutor`.
        options: how; see `Options`.

    Raises:
        ValueError: a setting is out of range, workers together with an executor or a GPU.
        ForeignFolder, NotADirectoryError, PermissionError: `out` cannot be used.
        OtherSettings: `out` holds a dataset with other settings; the message lists them.
        FolderInUse: another run is writing there.
        DiskFull, MemoryError, WorkerDied: finished files are kept, the same call goes on.
        TooManyFailed: more than `max_failed` of the samples failed; the files are kept.

    See docs/generating.md for examples.
    """
    check_not_starting()
    out = Path(out).absolute()
    plan = Plan(
        recipe,
        n,
        seed,
        split_counts(n, splits),
        options.shard or shard_size(n, recipe.storage.bytes_per_sample()),
        options.license,
    )
    make = _way(workers, executor, options)
    books = Books(out, plan, options.preset and options.preset.values())
    tally = Tally(plan.n, options.max_failed, options.progress)
    try:
        with books:
            tally.begin(books.listed.values())
            missing = books.missing()
            task = Task(plan, missing, out, options.device, options.batch or 0)
            with closing(make(task)) as shards:
                for shard in shards:
                    books.append(shard)
                    tally.add(shard)
            if lost := len(books.missing()):
                raise WorkerDied(f"the executor returned without {lost} files: repeat the same command")
            if missing or not _described(books):
                _describe(books)
    except BrokenExecutor as error:
        raise WorkerDied(_died(books, error)) from error
    except OSError as error:
        if no_space(error) or isinstance(error, DiskFull):
            raise DiskFull(_full(books)) from error
        raise
    tally.check()
    return read_manifest(out)


def _way(
    workers: int | None, executor: Executor | None, options: Options
) -> Callable[[Task], Generator[Shard]]:
    """Return what makes the files of a task."""
    if options.device != "cpu":
        _check_device(options.device)
    if workers is not None and workers < 1:
        raise ValueError(f"workers is at least 1, got {workers}")
    if executor is not None:
        if workers is not None:
            raise ValueError("an executor has its own workers: leave out workers, or leave out executor")
        return partial(_elsewhere, executor)
    if options.device != "cpu":
        if workers not in (None, 1):
            raise ValueError(
                f"device {options.device!r} is used by one process: leave out workers = {workers}"
            )
        return iterate_shards
    return partial(_here, workers or _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}): see `solvus doctor`") from None


def _single(task: Task) -> list[Task]:
    """Split a task into one per file."""
    return [Task(task.plan, (job,), task.folder, task.device, task.batch) for job in task.jobs]


def _here(workers: int, task: Task) -> Generator[Shard]:
    tasks = _single(task)
    workers = min(workers, len(tasks))
    if workers <= 1:
        for one in tasks:
            yield from iterate_shards(one)
        return
    with Processes(workers, task) as processes:
        yield from _flat(processes, tasks)


def _elsewhere(executor: Executor, task: Task) -> Generator[Shard]:
    yield from _flat(executor, _single(task))


def _flat(executor: Executor, tasks: list[Task]) -> Generator[Shard]:
    for shards in run(executor, make_shards, tasks):
        yield from shards


def _died(books: Books, error: BaseException) -> str:
    done, total = len(books.listed), len(books.plan.jobs())
    return (
        f"a worker process ended abruptly ({error}); most often memory ran out and the system killed it. "
        f"{done} of {total} files are finished and kept in {books.folder}: repeat the same command to go on, "
        "with fewer workers or a smaller batch if memory is short"
    )


def _full(books: Books) -> str:
    done, total = len(books.listed), len(books.plan.jobs())
    samples = sum(len(job.ids) for job in books.missing())
    need = samples * books.plan.recipe.storage.bytes_per_sample()
    return (
        f"the disk of {books.folder} is full: {done} of {total} files are finished and kept, about "
        f"{in_bytes(need)} more are needed. Make room and repeat the same command"
    )


def in_bytes(size: float) -> str:
    """Return a size in words.

    >>> in_bytes(2_500_000)
    '2.5 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _described(books: Books) -> bool:
    wanted = (CARD, STATISTICS) if books.plan.kind == "grid" else (CARD,)
    return all((books.folder / name).exists() for name in wanted)


def _describe(books: Books) -> None:
    """Write statistics, of grids with samples to train on, and the card."""
    manifest = read_manifest(books.folder)
    made = any(status == OK for shard in manifest.shards if shard.split == "train" for status in shard.status)
    if books.plan.kind == "grid" and made:
        write_statistics(books.folder)
    write_whole(books.folder / CARD, card(manifest).encode())
