"""A recipe whose samples cost nothing, for tests that start processes: those import it from this file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from solvus.datasets.generation.manifest import read_manifest, sha256
from solvus.datasets.recipe import Arrays, Draw, Recipe, Solved


@dataclass(frozen=True)
class ToyStorage:
    """Two arrays per sample, filled with NaN."""

    size: int

    def allocate(self, file: h5py.File, samples: int) -> None:
        for name in ("a", "x"):
            file.create_dataset(
                name, (samples, self.size), "f4", chunks=(1, self.size), fillvalue=np.nan, fletcher32=True
            )

    def put(self, file: h5py.File, index: int, arrays: Arrays) -> None:
        for name in ("a", "x"):
            dataset = file[name]
            dataset[index] = arrays[name]
            dataset.flush()

    def bytes_per_sample(self) -> int:
        return 8 * self.size


@dataclass(frozen=True)
class Toy(Recipe):
    """Draw a vector and solve a x = 1, entry by entry; fail where the first entry is below a threshold."""

    name: str = "toy"
    size: int = 8
    fail_below: float = 0.0
    pause: float = 0.0
    raises: str = ""
    max_residual: float = 1e-8

    @property
    def storage(self) -> ToyStorage:
        return ToyStorage(self.size)

    def draw(self, generator: np.random.Generator) -> Draw:
        return {"a": generator.uniform(size=self.size)}

    def solve(self, draws: Sequence[Draw], device: str = "cpu") -> list[Solved]:
        time.sleep(self.pause * len(draws))
        if self.raises:
            raise {"memory": MemoryError, "bug": KeyError, "breakdown": ArithmeticError}[self.raises]("toy")
        return [self._one(draw["a"]) for draw in draws]

    def _one(self, a: np.ndarray) -> Solved:
        if a[0] < self.fail_below:
            return Solved({}, 1.0, 3, f"{a[0]:.3f} is too small")
        return Solved({"a": a, "x": 1 / a}, 1e-12 * a[0], 3)


@dataclass(frozen=True)
class Summing(Toy):
    """A recipe whose last bits depend on the number of threads when nobody limits them."""

    def _one(self, a: np.ndarray) -> Solved:
        big = torch.from_numpy(np.random.default_rng(int(a[0] * 1e9)).standard_normal(1 << 20))
        return Solved({"a": a, "x": np.full(self.size, float(big.sum()) + torch.get_num_threads())}, 0.0)


def some_bad(size: int = 8) -> Toy:
    """Return a recipe of which about a tenth fails."""
    return Toy(size=size, fail_below=0.1)


def sums(folder: Path) -> dict[str, str]:
    """Return the checksum of every file, computed anew, by path."""
    return {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*.hdf5"))}


def listed(folder: Path) -> dict[str, str]:
    """Return the checksum of every file as the manifest has it."""
    return {s.shard: s.sha256 for s in read_manifest(folder).shards}
