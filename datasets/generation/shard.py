"""One file of a dataset: made whole or not at all, the same bytes for the same recipe and seed."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
import torch

from ...meshes.whole import write_whole
from ..recipe import Draw, Recipe, Solved
from .executors import one_thread
from .manifest import OK, SHARD_FORMAT, VERSION, Shard, sha256
from .plan import Job, Plan, software

BATCH_BYTES = {"cpu": 1 << 23, "cuda": 1 << 28}
_GROWTH = 1 << 22  # bytes by which a file in memory grows
_FULL = (errno.ENOSPC, errno.EDQUOT)
_HDF5 = threading.Lock()


class DiskFull(OSError):
    """There is no space left where the dataset is written."""


@final
@dataclass(frozen=True)
class Task:
    """Files to make in one go: settings only, so that it travels to any process.

    Args:
        plan: of the dataset.
        jobs: the files, in order; batches run across their borders.
        folder: absolute, of the dataset.
        device: of the solves.
        batch: samples that are solved together; 0 lets their size decide.
    """

    plan: Plan
    jobs: tuple[Job, ...]
    folder: Path
    device: str = "cpu"
    batch: int = 0


def make_shards(task: Task) -> list[Shard]:
    """Make the files of a task, on one thread, and return their lines for the manifest.

    Raises:
        DiskFull: the files before the one that did not fit are kept.
        MemoryError: a batch did not fit in memory.
    """
    return list(iterate_shards(task))


def iterate_shards(task: Task) -> Generator[Shard]:
    """Make the files of a task and yield each when it is finished."""
    with one_thread():
        ids = [i for job in task.jobs for i in job.ids]
        solved = solve_samples(task.plan, ids, task.device, task.batch or batch_size(task.plan, task.device))
        for job in task.jobs:
            yield write_shard(task.plan, job, task.folder, solved)


def batch_size(plan: Plan, device: str) -> int:
    """Return how many samples are solved together when nobody says."""
    budget = BATCH_BYTES["cpu" if device == "cpu" else "cuda"]
    return max(1, budget // max(1, plan.recipe.storage.bytes_per_sample()))


def generator_of(seed: int, sample: int) -> np.random.Generator:
    """Return the random numbers of a sample: they depend on the seed and its id alone."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(sample,)))


def solve_samples(plan: Plan, ids: list[int], device: str, batch: int) -> Iterator[Solved]:
    """Draw and solve samples batch by batch; yield them in the order of their ids."""
    recipe = plan.recipe
    for start in range(0, len(ids), batch):
        found: list[Draw | Solved] = [_draw(recipe, plan.seed, i) for i in ids[start : start + batch]]
        draws = [draw for draw in found if not isinstance(draw, Solved)]
        solved = iter(_solve(recipe, draws, device))
        for draw in found:
            yield draw if isinstance(draw, Solved) else judged(recipe, next(solved))


def judged(recipe: Recipe, solved: Solved) -> Solved:
    """Return a sample as failed when its residual or its arrays are not what the recipe promises."""
    if solved.failure:
        return Solved({}, solved.residual, solved.steps, solved.failure)
    if not solved.residual <= recipe.max_residual:
        reason = f"residual {solved.residual:.1e} above {recipe.max_residual:.1e}"
        return Solved({}, solved.residual, solved.steps, reason)
    bad = [name for name, a in solved.arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
    if bad:
        return Solved({}, solved.residual, solved.steps, f"{', '.join(bad)} not finite")
    return solved


def _draw(recipe: Recipe, seed: int, sample: int) -> Draw | Solved:
    try:
        return recipe.draw(generator_of(seed, sample))
    except (ArithmeticError, RuntimeError, ValueError) as error:
        return _failure(error)


def _solve(recipe: Recipe, draws: list[Draw], device: str) -> list[Solved]:
    if not draws:
        return []
    try:
        solved = recipe.solve(draws, device)
    except (ArithmeticError, RuntimeError, ValueError) as error:
        if _out_of_memory(error):
            raise MemoryError(
                f"{len(draws)} samples together do not fit in the memory of {device}: give a smaller batch"
            ) from error
        if len(draws) == 1:
            return [_failure(error)]
        return [one for draw in draws for one in _solve(recipe, [draw], device)]
    if len(solved) != len(draws):
        raise TypeError(
            f"{type(recipe).__name__}.solve returned {len(solved)} samples for {len(draws)} draws"
        )
    return solved


def _failure(error: Exception) -> Solved:
    text = " ".join(str(error).split())
    return Solved({}, math.nan, 0, f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def write_shard(plan: Plan, job: Job, folder: Path, solved: Iterator[Solved]) -> Shard:
    """Make a file: in memory, then under a temporary name, then, when it is safe on the disk, under its own.

    HDF5 itself never writes to the disk: a library that cannot write the rest of a file leaves the process in
    a state that ends in a crash.

    Raises:
        DiskFull: nothing is left of the file.
    """
    started, final = time.perf_counter(), folder / job.path
    image, columns = _image(plan, job, solved)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(final, image)
    except OSError as error:
        if no_space(error):
            raise DiskFull(f"no space left on the disk of {folder}") from error
        raise
    return Shard(
        job.path,
        job.split,
        **columns,
        sha256=hashlib.sha256(image).hexdigest(),
        bytes=len(image),
        wall_s=round(time.perf_counter() - started, 3),
        config_sha256=str(plan.attributes["config_sha256"]),
        software=dict(software()),
    )


def _image(plan: Plan, job: Job, solved: Iterator[Solved]) -> tuple[bytes, dict[str, tuple[Any, ...]]]:
    """Return the bytes of a file, and what became of its samples.

    Threads of one process take turns with HDF5.
    """
    storage = plan.recipe.storage
    nowhere = f"{secrets.token_hex(8)}.hdf5"  # HDF5 asks for a name, unique in this process
    with ExitStack() as later:
        with _HDF5:
            file = h5py.File(nowhere, "w", driver="core", backing_store=False, block_size=_GROWTH)
            later.callback(_close, file)
            file.attrs.update({"format": SHARD_FORMAT, "format_version": VERSION, **plan.attributes})
            storage.allocate(file, len(job.ids))
            provenance = _Provenance(file, len(job.ids))
        for index, sample in enumerate(job.ids):
            one = next(solved)
            with _HDF5:
                if not one.failure:
                    storage.put(file, index, one.arrays)
                provenance.put(index, sample, one)
        with _HDF5:
            file.flush()
            return file.id.get_file_image(), provenance.columns()


def _close(file: h5py.File) -> None:
    with _HDF5:
        file.close()


def no_space(error: BaseException) -> bool:
    """Tell whether an error, of Python or HDF5, says that the disk is full."""
    return getattr(error, "errno", None) in _FULL or any(os.strerror(code) in str(error) for code in _FULL)


@final
class _Provenance:
    """The group `provenance` of a file: what became of each sample."""

    def __init__(self, file: h5py.File, samples: int) -> None:
        group = file.create_group("provenance")
        whole = {"chunks": (samples,), "fletcher32": True}
        self._ids = group.create_dataset("sample_id", (samples,), "i8", fillvalue=-1, **whole)
        self._status = group.create_dataset("status", (samples,), h5py.string_dtype())
        self._residual = group.create_dataset("residual", (samples,), "f8", fillvalue=np.nan, **whole)
        self._steps = group.create_dataset("steps", (samples,), "i8", fillvalue=-1, **whole)
        self._rows: list[tuple[int, str, float, int]] = []

    def put(self, index: int, sample: int, one: Solved) -> None:
        row = (sample, f"failed: {one.failure}" if one.failure else OK, float(one.residual), int(one.steps))
        self._ids[index], self._status[index], self._residual[index], self._steps[index] = row
        for dataset in (self._ids, self._status, self._residual, self._steps):
            dataset.flush()
        self._rows.append(row)

    def columns(self) -> dict[str, tuple[Any, ...]]:
        return dict(zip(("ids", "status", "residual", "steps"), zip(*self._rows, strict=True), strict=True))


class BadShard(ValueError):
    """A file that is not what its name says."""


def read_shard(path: Path, job: Job, config_sha256: str) -> Shard:
    """Read a finished file through, and return its line for the manifest.

    Every number is read, so that the checksums of HDF5 are compared.

    Raises:
        BadShard: it cannot be read, or belongs to another dataset.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("config_sha256") != config_sha256:
                raise BadShard("it was made with other settings")
            ids = tuple(int(i) for i in file["provenance/sample_id"][:])
            if ids != tuple(job.ids):
                raise BadShard(f"it holds the samples {ids[:3]}..., expected are {tuple(job.ids)[:3]}...")
            status = tuple(text.decode() for text in file["provenance/status"][:])
            if not all(text == OK or text.startswith("failed: ") for text in status):
                raise BadShard("a sample has no status")
            residual = tuple(float(r) for r in file["provenance/residual"][:])
            steps = tuple(int(s) for s in file["provenance/steps"][:])
            file.visititems(_read_through)
            made_with = str(file.attrs["software_json"])
    except (KeyError, OSError, RuntimeError, TypeError, UnicodeDecodeError) as error:
        raise BadShard(f"it cannot be read: {error}") from None
    return Shard(
        job.path,
        job.split,
        ids,
        status,
        residual,
        steps,
        sha256=sha256(path),
        bytes=path.stat().st_size,
        wall_s=0.0,
        config_sha256=config_sha256,
        software=_versions(made_with),
    )


def _versions(text: str) -> dict[str, str]:
    return dict(json.loads(text))


def _read_through(_: str, thing: h5py.Group | h5py.Dataset) -> None:
    if isinstance(thing, h5py.Dataset) and thing.ndim == 0:
        thing[()]
    elif isinstance(thing, h5py.Dataset):
        rows = max(1, thing.shape[0] * (1 << 26) // max(1, thing.nbytes))
        for start in range(0, thing.shape[0], rows):
            thing[start : start + rows]
