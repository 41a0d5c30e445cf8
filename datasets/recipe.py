"""Recipes: how one sample of a dataset is drawn and solved, and where its arrays go."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

Draw = Mapping[str, NDArray[np.float64]]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Solved:
    """One sample, solved, or the reason why not.

    Args:
        arrays: what is stored, by name; {} when it failed.
        residual: what the recipe bounds: relative residual of a linear solve, or the defect of a time step.
        steps: iterations, or time steps.
        failure: the reason; "" when all is well.
    """

    arrays: Arrays
    residual: float
    steps: int = 0
    failure: str = ""


class Storage(Protocol):
    """How samples of one kind lie in an HDF5 file."""

    def allocate(self, file: h5py.File, samples: int) -> None:
        """Create everything for a number of samples, filled with NaN: what was never written shows."""

    def put(self, file: h5py.File, index: int, arrays: Arrays) -> None:
        """Write sample `index`; indices come in increasing order, failed ones are left out.

        Flush every dataset that is written: HDF5 gives chunks their places when a dataset is flushed or
        closed, and a profiler that holds frames (that of Dask) changes when it is closed.
        """

    def bytes_per_sample(self) -> int:
        """Estimate of the size of a sample, from which shards are sized."""
        ...


class Recipe(ABC):
    """How samples are made: a frozen dataclass of settings, picklable; one generator, one sample.

    Attributes:
        name: of the dataset.
        max_residual: a sample whose residual is larger counts as failed.
    """

    name: str
    max_residual: float

    @property
    @abstractmethod
    def storage(self) -> Storage:
        """Where the arrays of a sample go."""

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Draw:
        """Draw the random inputs of one sample."""

    @abstractmethod
    def solve(self, draws: Sequence[Draw], device: str = "cpu") -> list[Solved]:
        """Solve samples together; on the CPU a result must not depend on the other samples, to the bit.

        A sample that cannot be solved is returned with its failure; nothing is raised for it.
        """


def describe(thing: Any) -> Any:
    """Return settings as plain JSON values: dataclasses by class and fields, arrays by checksum.

    >>> describe({"n": (1, 2), "dt": 0.5})
    {'n': [1, 2], 'dt': 0.5}
    """
    if isinstance(thing, Enum):
        return thing.value
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, np.generic):
        return thing.item()
    if isinstance(thing, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(thing).tobytes()).hexdigest()
        return {"array": list(thing.shape), "dtype": str(thing.dtype), "sha256": digest}
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        values = {f.name: describe(getattr(thing, f.name)) for f in dataclasses.fields(thing)}
        return {"class": type(thing).__name__, **values}
    if isinstance(thing, functools.partial):
        arguments = {**{str(i): a for i, a in enumerate(thing.args)}, **thing.keywords}
        return {"function": thing.func.__qualname__, **{k: describe(v) for k, v in arguments.items()}}
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [describe(value) for value in thing]
    if isinstance(thing, Callable):
        return {"function": thing.__qualname__}
    raise TypeError(f"{type(thing).__name__} cannot be described: settings are numbers, words, dataclasses")


def digest(thing: Any) -> str:
    """Return the SHA-256 of settings."""
    return hashlib.sha256(json.dumps(describe(thing), sort_keys=True).encode()).hexdigest()
