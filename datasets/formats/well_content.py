"""What is asked of a file beyond the rules of The Well: provenance, even coordinates, finite values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...meshes.grid import Boundary
from ..checking.fault import Fault
from ..generation.manifest import OK, SHARD_FORMAT
from .well_storage import GROUPS, MAKING

SHARED = -1  # in the place of a sample, for fields that all samples share
_LARGEST_PIECE = 1 << 28  # bytes read at once
_EPS = float(np.finfo(np.float32).eps)


def is_ours(file: h5py.File) -> bool:
    """Tell whether a file was written by this library, from which more is asked."""
    return "coordinates" in file or str(file.attrs.get("format", "")).startswith("solvus")


def check_content(file: h5py.File, deep: bool = True, sound: bool = True) -> list[Fault]:
    """Return what is wrong with a file of The Well beyond its schema.

    Args:
        file: that is open.
        deep: read every value, which also verifies the checksum of every chunk.
        sound: the file follows the schema; otherwise what cannot be looked at is left out.
    """
    parts: list[Callable[[h5py.File], Iterable[Fault]]] = [_positions, check_provenance, _conditions]
    faults: list[Fault] = []
    for part in [*parts, _values, check_readable] if deep else parts:
        try:
            faults.extend(part(file))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            if sound:
                raise
    return faults


def _positions(file: h5py.File) -> Iterator[Fault]:
    """Coordinates and times: finite, increasing, even, the same in both places where they stand."""
    ours, even_axes = is_ours(file), file.attrs["grid_type"] == "cartesian"
    for name in ("time", *file["dimensions"].attrs["spatial_dims"]):
        stored, where = np.asarray(file["dimensions"][name], dtype=np.float64), f"dimensions/{name}"
        exact = file.get(f"coordinates/{name}")
        if exact is not None:
            values = np.asarray(exact)
            if values.shape != stored.shape:
                yield Fault(
                    f"coordinates/{name}", f"has the shape {values.shape}, {where} has {stored.shape}"
                )
            elif not np.allclose(stored, values, rtol=2 * _EPS, atol=0, equal_nan=True):
                yield Fault(f"coordinates/{name}", f"differs from {where}: make them agree")
            else:
                stored, where = values, f"coordinates/{name}"
        elif ours:
            yield Fault(f"coordinates/{name}", f"is missing: a copy of {where} in float64")
        if not np.isfinite(stored).all():
            yield Fault(where, "has values that are not finite")
            continue
        steps = np.diff(stored)
        if steps.size == 0:
            continue
        if (steps <= 0).any():
            yield Fault(where, "does not increase: sort the axis, and the fields along it")
            continue
        mean = steps.mean(axis=-1, keepdims=True)
        if (np.abs(steps - mean) > 1e-3 * mean + 4 * _EPS * np.abs(stored).max()).any() and even_axes:
            what = f"is not even: steps from {steps.min():.6g} to {steps.max():.6g}"
            yield Fault(
                where, f"{what}; networks and solvers on grids take it as even: interpolate", note=not ours
            )


def check_provenance(file: h5py.File) -> Iterator[Fault]:
    """Return what is missing about the origin of the samples: a fault of our files, a note about others."""
    ours, samples = is_ours(file), int(file.attrs["n_trajectories"])
    shard = file.attrs.get("format") == SHARD_FORMAT
    group = file.get("provenance")
    if not isinstance(group, h5py.Group):
        what = "is missing: nothing tells which samples these are and whether they could be solved"
        yield Fault("provenance", what, note=not ours)
        return
    for name in ("sample_id", "status", *(("residual", "steps") if shard else ())):
        if not isinstance(group.get(name), h5py.Dataset):
            yield Fault(f"provenance/{name}", "is missing: one value per sample")
        elif group[name].shape != (samples,):
            yield Fault(
                f"provenance/{name}", f"has the shape {group[name].shape}, there are {samples} samples"
            )
        elif name == "sample_id" and len(np.unique(group[name])) != samples:
            yield Fault("provenance/sample_id", "an id stands twice")
        elif name == "status":
            wrong = sorted({s for s in _statuses(file) if s != OK and not _failed(s)})
            if wrong:
                yield Fault("provenance/status", f"{wrong[0]!r}, needed is 'ok' or 'failed: reason'")
    for key in MAKING if shard else ():
        if key not in file.attrs:
            yield Fault(f"/ @{key}", "the attribute is missing: how the samples were made cannot be told")
    for key in ("config_json", "software_json"):
        try:
            json.loads(file.attrs.get(key, "{}"))
        except (TypeError, ValueError) as error:
            yield Fault(f"/ @{key}", f"is not valid JSON: {error}")


def _conditions(file: h5py.File) -> Iterator[Fault]:
    """The true conditions: known kinds, one pair per axis, in accord with those of The Well."""
    exact, kinds = file.get("boundary_conditions_ext"), [kind.value for kind in Boundary]
    if exact is None:
        return
    periodic = {
        axis
        for group in file["boundary_conditions"].values()
        for axis in group.attrs["associated_dims"]
        if group.attrs["bc_type"] == "PERIODIC"
    }
    for axis in file["dimensions"].attrs["spatial_dims"]:
        where = f"boundary_conditions_ext/{axis}"
        if axis not in exact:
            yield Fault(where, "is missing: one group per axis, with the attributes low and high")
            continue
        sides = [exact[axis].attrs.get(side) for side in ("low", "high")]
        if any(side not in kinds for side in sides):
            yield Fault(where, f"low and high are {sides}, needed are two of {', '.join(kinds)}")
        elif (sides == ["periodic"] * 2) != (axis in periodic) or sides.count("periodic") == 1:
            yield Fault(where, f"low and high are {sides}, which contradicts boundary_conditions")


def _values(file: h5py.File) -> Iterator[Fault]:
    """Fields: readable, finite where samples are ok, NaN where they failed, equal times of steady states."""
    status, steady = _statuses(file), bool(file.attrs.get("steady", False))
    for group in (name for name in GROUPS if name in file):
        for name in file[group].attrs["field_names"]:
            dataset, where = file[group][name], f"{group}/{name}"
            found: dict[str, list[int]] = {}
            for sample, index in _pieces(dataset):
                try:
                    values = np.asarray(dataset[index])
                except OSError:
                    found.setdefault("damaged: its checksum is wrong, or it cannot be read", []).append(
                        sample
                    )
                    continue
                failed = _failed(status[sample]) if sample != SHARED else all(map(_failed, status))
                for what in _wrong(values, failed):
                    found.setdefault(what, []).append(sample)
                timed = bool(dataset.attrs["time_varying"]) and len(index) < 2
                if steady and timed and not (failed or _constant(values)):
                    found.setdefault("differs between the times of a steady state", []).append(sample)
            for what, samples in found.items():
                yield Fault(where, f"{which(samples)}{what}")


def _pieces(dataset: h5py.Dataset) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Go through a field by sample, large ones by sample and time: pairs (sample or SHARED, index)."""
    several, timed = bool(dataset.attrs["sample_varying"]), bool(dataset.attrs["time_varying"])
    count = dataset.shape[0] if several else 1
    by_time = timed and dataset.dtype.itemsize * dataset.size > _LARGEST_PIECE * count
    for sample in range(count):
        lead = (sample,) if several else ()
        times = [(t,) for t in range(dataset.shape[several])] if by_time else [()]
        for time in times:
            yield (sample if several else SHARED), (*lead, *time)


def _wrong(values: NDArray[Any], failed: bool) -> list[str]:
    if failed:
        return [] if np.isnan(values).all() else ["holds values, but its status says that it failed"]
    if np.isfinite(values).all():
        return []
    first = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
    kinds = [
        kind for kind, hit in (("NaN", np.isnan(values)), ("infinite values", np.isinf(values))) if hit.any()
    ]
    return [f"{' and '.join(kinds)}, though the status is 'ok' (first at {first})"]


def _constant(values: NDArray[Any]) -> bool:
    return all(np.array_equal(values[0], value, equal_nan=True) for value in values[1:])


def which(samples: list[int]) -> str:
    """Return how many and which samples a fault concerns, "" for a field that all of them share."""
    distinct = sorted(set(samples))
    if distinct == [SHARED]:
        return ""
    listed = ", ".join(map(str, distinct[:5])) + (", ..." if len(distinct) > 5 else "")
    return f"{len(distinct)} {'sample' if len(distinct) == 1 else 'samples'} ({listed}): "


def _failed(status: str) -> bool:
    return status.startswith("failed: ")


def _statuses(file: h5py.File) -> list[str]:
    samples, dataset = int(file.attrs["n_trajectories"]), file.get("provenance/status")
    if (
        isinstance(dataset, h5py.Dataset)
        and dataset.shape == (samples,)
        and h5py.check_string_dtype(dataset.dtype)
    ):
        return dataset.asstr()[()].tolist()
    return [OK] * samples


def check_readable(file: h5py.File) -> list[Fault]:
    """Read everything that is no field on a grid and return what cannot be read."""
    faults = []

    def visit(name: str, thing: h5py.Group | h5py.Dataset) -> None:
        if isinstance(thing, h5py.Dataset) and name.split("/")[0] not in GROUPS:
            try:
                thing[()]
            except OSError as error:
                faults.append(Fault(name, f"cannot be read: {error}"))

    file.visititems(visit)
    return faults
