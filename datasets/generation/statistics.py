"""Statistics of the train split, and the description of a dataset, as The Well's loader reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
import yaml
from numpy.typing import NDArray

from ...meshes.whole import write_whole
from ..formats.well_storage import GROUPS
from ..layout import Variable
from ..loading.folder import FolderSource
from ..source import Source
from .manifest import Manifest, read_manifest

STATISTICS = "stats.yaml"
NEARLY_CONSTANT = 1e-4  # the smallest standard deviation by which The Well's loader divides
_KINDS = ("mean", "std", "rms")


@final
@dataclass(frozen=True)
class Moments:
    """Number, mean and sum of squared deviations of values, one per component; combined without cancellation.

    Source: Chan, Golub, LeVeque (1983), equation 2.1.

    >>> a, b = moments(np.array([1.0, 2.0]), 0), moments(np.array([3.0]), 0)
    >>> (a + b).mean.item(), (a + b).squares.item()
    (2.0, 2.0)
    """

    count: int
    mean: NDArray[np.float64]  # (D,) * rank
    squares: NDArray[np.float64]  # (D,) * rank

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        gap, share = other.mean - self.mean, other.count / count
        squares = self.squares + other.squares + gap * gap * (self.count * share)
        return Moments(count, self.mean + gap * share, squares)

    def named(self) -> dict[str, Any]:
        """Return mean, standard deviation and root mean square as numbers and lists."""
        variance = self.squares / self.count
        values = (self.mean, np.sqrt(variance), np.sqrt(variance + self.mean**2))
        return {kind: value.tolist() for kind, value in zip(_KINDS, values, strict=True)}


def moments(values: NDArray[np.float64], rank: int) -> Moments:
    """Return the moments of an array over all its axes but the last `rank`."""
    axes = tuple(range(values.ndim - rank))
    mean = np.asarray(values.mean(axis=axes))
    return Moments(values.size // mean.size, mean, np.asarray(((values - mean) ** 2).sum(axis=axes)))


def statistics_of(source: Source) -> dict[str, dict[str, Any]]:
    """Return mean, std and rms of every field; mean_delta, ... of its differences between successive times.

    Computed in float64, sample by sample: the numbers do not depend, to the bit, on blocks or files.

    Raises:
        ValueError: a value is not finite.
    """
    found: dict[tuple[str, str], Moments] = {}
    for start, values in source.blocks():
        for variable in source.layout.variables:
            several, array = variable.sample_varying, values[variable.name]
            if several or start == 0:
                for one in array if several else [array]:
                    for ending, part in _parts(variable, one).items():
                        key = ending, variable.name
                        found[key] = found[key] + part if key in found else part
    out: dict[str, dict[str, Any]] = {kind + ending: {} for ending in ("", "_delta") for kind in _KINDS}
    for (ending, name), sums in found.items():
        if not np.isfinite(sums.squares).all():
            raise ValueError(f"{name} has values that are not finite: `solvus check` says where")
        for kind, value in sums.named().items():
            out[kind + ending][name] = value
    return out


def _parts(variable: Variable, one: NDArray[Any]) -> dict[str, Moments]:
    """Return the moments of one sample, and of its steps in time."""
    wide = one.astype(np.float64, order="C")
    parts = {"": moments(wide, variable.rank)}
    if variable.time_varying and len(wide) > 1:
        parts["_delta"] = moments(np.diff(wide, axis=0), variable.rank)
    return parts


def describe_folder(manifest: Manifest) -> dict[str, Any]:
    """Return names of fields and scalars, resolution and numbers of steps of the train split."""
    shards = manifest.of("train")
    steps: list[int] = []
    out: dict[str, Any] = {}
    for shard in shards:
        with h5py.File(manifest.path(shard), "r", locking="best-effort") as file:
            out = out or _description(file)
            steps.append(int(file["dimensions/time"].shape[-1]))
    counts = [len(shard.ids) for shard in shards]
    out |= {"n_files": len(shards), "n_trajectories_per_file": counts, "n_steps_per_trajectory": steps}
    return out


def _description(file: h5py.File) -> dict[str, Any]:
    axes = [str(axis) for axis in file["dimensions"].attrs["spatial_dims"]]
    scalars, conditions = file["scalars"], file["boundary_conditions"].values()
    names: dict[bool, dict[int, list[str]]] = {
        timed: {rank: [] for rank in range(3)} for timed in (True, False)
    }
    for rank, group in enumerate(GROUPS):
        for name in file[group].attrs["field_names"]:
            parts = ["".join(part) for part in product(axes, repeat=rank)]
            timed = bool(file[group][name].attrs["time_varying"])
            names[timed][rank] += [f"{name}_{part}" if part else str(name) for part in parts]
    timed_scalars = {
        str(name): bool(scalars[name].attrs["time_varying"]) for name in scalars.attrs["field_names"]
    }
    return {
        "dataset_name": str(file.attrs["dataset_name"]),
        "n_spatial_dims": len(axes),
        "grid_type": str(file.attrs["grid_type"]),
        "spatial_resolution": [int(file["dimensions"][axis].shape[-1]) for axis in axes],
        "scalar_names": [name for name, timed in timed_scalars.items() if timed],
        "constant_scalar_names": [name for name, timed in timed_scalars.items() if not timed],
        "field_names": names[True],
        "constant_field_names": names[False],
        "boundary_condition_types": sorted({str(group.attrs["bc_type"]) for group in conditions}),
    }


def write_statistics(folder: str | Path) -> Path:
    """Write `stats.yaml` and `NAME.yaml` of a complete dataset on a grid and return the path of the first.

    Only the train split counts, and only samples that did not fail. Differences of one step are there for
    fields that vary in time. Fields whose standard deviation is at most 1e-4 are named in a comment.

    Raises:
        NoDataset, ForeignFolder: the folder is missing, or none of ours.
        EmptySplit: no sample of the train split could be made.
    """
    manifest = read_manifest(folder)
    for name, content in statistics_files(manifest).items():
        write_whole(manifest.folder / name, content.encode())
    return manifest.folder / STATISTICS


def statistics_files(manifest: Manifest) -> dict[str, str]:
    """Return the files that belong to a dataset: name -> content."""
    with FolderSource(manifest.folder, "train") as source:
        found = statistics_of(source)
    name = f"{manifest.name}.yaml"
    about = {name: yaml.safe_dump(describe_folder(manifest), sort_keys=False)} if name != STATISTICS else {}
    return {STATISTICS: _comment(found) + yaml.safe_dump(found, sort_keys=False), **about}


def _comment(found: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["# statistics of the train split, float64; *_delta: of the differences between successive times"]
    for kind in ("std", "std_delta"):
        flat = ", ".join(name for name, value in found[kind].items() if np.min(value) <= NEARLY_CONSTANT)
        if flat:
            lines.append(
                f"# {kind} at most {NEARLY_CONSTANT:g}, by which The Well's loader divides then: {flat}"
            )
    return "\n".join(lines) + "\n"
