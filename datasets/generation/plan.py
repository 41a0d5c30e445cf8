"""What a run shall make: which samples, in which files, from which settings."""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from math import ceil
from typing import Any, final

import h5py

from ..recipe import Recipe, describe, digest
from .manifest import SPLITS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHARD_BYTES = 1 << 26
SHARES = (0.8, 0.1, 0.1)  # of train, valid and test


@final
@dataclass(frozen=True)
class Job:
    """One file to make: its path in the folder, its split, the samples that it holds."""

    path: str
    split: str
    ids: range


@final
@dataclass(frozen=True)
class Plan:
    """A dataset: recipe, seed, sizes. Everything that decides the content of the files, and nothing else.

    Args:
        recipe: of a sample.
        n: samples.
        seed: of all; sample i draws from `SeedSequence(seed, spawn_key=(i,))`.
        splits: samples of train, valid, test.
        shard: samples per file.
        license: written into every file.

    Raises:
        ValueError: a name that files cannot have, shard < 1, a negative seed, counts that do not add up.
    """

    recipe: Recipe
    n: int
    seed: int
    splits: tuple[int, int, int]
    shard: int
    license: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.recipe.name):
            raise ValueError(f"{self.recipe.name!r} cannot name files: use letters, digits, . _ -")
        if self.seed < 0:
            raise ValueError(f"the seed is a number >= 0, got {self.seed}")
        if self.shard < 1:
            raise ValueError(f"a file holds at least one sample, got shard = {self.shard}")
        if sum(self.splits) != self.n or min(self.splits) < 0:
            raise ValueError(f"splits {self.splits} do not add up to {self.n} samples")

    @property
    def kind(self) -> str:
        """The word "grid" for recipes with a layout, "mesh" for the others."""
        return "grid" if hasattr(self.recipe, "layout") else "mesh"

    def ranges(self) -> dict[str, range]:
        """Return the ids of each split."""
        train, valid, _ = self.splits
        edges = (0, train, train + valid, self.n)
        return {split: range(edges[i], edges[i + 1]) for i, split in enumerate(SPLITS)}

    def jobs(self) -> tuple[Job, ...]:
        """Return the files, in the order of their samples; none crosses a split."""
        name = self.recipe.name
        return tuple(
            Job(f"data/{split}/{name}-{split}-{k:05d}.hdf5", split, ids[start : start + self.shard])
            for split, ids in self.ranges().items()
            for k, start in enumerate(range(0, len(ids), self.shard))
        )

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """What is asked for, as JSON values; `config_sha256` is the checksum of the rest."""
        values = {
            "name": self.recipe.name,
            "kind": self.kind,
            "config": describe(self.recipe),
            "seed": self.seed,
            "n": self.n,
            "splits": {split: [ids.start, ids.stop] for split, ids in self.ranges().items()},
            "shard": self.shard,
            "license": self.license,
        }
        return {**values, "config_sha256": digest(values)}

    @cached_property
    def attributes(self) -> Mapping[str, str | int]:
        """What stands in every file, the same for all of them."""
        config = self.config
        return {
            "generator": "solvus",
            "config_json": json.dumps(config["config"], sort_keys=True),
            "config_sha256": config["config_sha256"],
            "seed_root": self.seed,
            "license": self.license,
            "software_json": json.dumps(software(), sort_keys=True),
        }


@cache
def software() -> Mapping[str, str]:
    """Return the versions on which numbers depend."""
    packages = {name: version(name) for name in ("solvus", "torch", "numpy", "scipy", "h5py")}
    return {**packages, "hdf5": h5py.version.hdf5_version, "python": platform.python_version()}


def split_counts(n: int, fractions: Sequence[float]) -> tuple[int, int, int]:
    """Return how many samples go to train, valid and test: largest remainders, train never left empty.

    Raises:
        ValueError: n < 1, or fractions that are not three numbers >= 0 with the sum 1.

    >>> split_counts(64, (0.8, 0.1, 0.1))
    (51, 6, 7)
    >>> split_counts(1, (0.1, 0.1, 0.8))
    (1, 0, 0)
    """
    if n < 1:
        raise ValueError(f"a dataset has at least one sample, got n = {n}")
    shares = [float(f) for f in fractions]
    if len(shares) != 3 or not all(s >= 0 for s in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-9):
        raise ValueError(
            f"splits are three numbers >= 0 with the sum 1 (train, valid, test), got {fractions}"
        )
    counts = [math.floor(s * n + 1e-9) for s in shares]
    by_remainder = sorted(range(3), key=lambda i: (round(shares[i] * n - counts[i], 9), i), reverse=True)
    for i in by_remainder[: n - sum(counts)]:
        counts[i] += 1
    if shares[0] > 0 and counts[0] == 0:
        counts[counts.index(max(counts))] -= 1
        counts[0] = 1
    return counts[0], counts[1], counts[2]


def shard_size(n: int, sample_bytes: int) -> int:
    """Return the samples per file when none is asked for: from sizes alone, never from workers.

    At most 64 MiB, and small enough that a run that is killed loses little and that many workers find work:
    about 16 files up to 64 samples, about 128 for many.

    >>> [shard_size(n, 1000) for n in (1, 64, 1000, 100_000)]
    [1, 4, 8, 782]
    """
    few = min(ceil(n / 16), max(4, ceil(n / 128)))
    return max(1, min(few, SHARD_BYTES // max(1, sample_bytes)))


def differences(asked: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return where two configurations differ, in words: "n: 64 in the folder, 128 asked for".

    >>> differences({"n": 2, "config": {"dt": 0.1}}, {"n": 2, "config": {"dt": 0.2}})
    ['dt: 0.2 in the folder, 0.1 asked for']
    """
    new, old = dict(_leaves(asked)), dict(_leaves(found))
    keys = [*new, *(key for key in old if key not in new)]
    return [
        f"{key}: {old.get(key, 'nothing')} in the folder, {new.get(key, 'nothing')} asked for"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _leaves(thing: Any, path: str = "") -> list[tuple[str, Any]]:
    if not isinstance(thing, Mapping):
        return [(path, thing)]
    inner = [
        (key if path in ("", "config") else f"{path}.{key}", value)
        for key, value in thing.items()
        if key != "config_sha256"
    ]
    return [leaf for key, value in inner for leaf in _leaves(value, key)]
