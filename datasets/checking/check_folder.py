"""Look for everything that can be wrong with the folder of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..formats.well import WellFile
from ..generation.card import CARD
from ..generation.manifest import (
    DATASET,
    MANIFEST,
    ForeignFolder,
    Manifest,
    NoDataset,
    Shard,
    read_manifest,
    sha256,
)
from ..generation.statistics import STATISTICS, statistics_files
from ..layout import Layout
from ..recipe import digest
from .check import HDF5, Checked, Fault, examine_file

_WRITTEN_LATER = ("format", "format_version", "preset", "software", "created_utc", "config_sha256")
_GO_ON = "repeat the same `generate` command, it goes on where it stopped"


def examine_folder(folder: Path, deep: bool = True) -> Checked:
    """Return what `check` finds in a folder: books, files, statistics; without books, its HDF5 files.

    Raises:
        NoDataset: the folder holds no data.
    """
    if not (folder / DATASET).is_file():
        return _loose(folder, deep)
    try:
        manifest = read_manifest(folder)
    except ForeignFolder as error:
        return Checked((Fault(folder.name, str(error)),))
    total = Checked(tuple(_books(manifest)), files=0)
    reference: tuple[str, Layout] | None = None
    for shard in manifest.shards:
        faults = list(_listed(manifest, shard, deep))
        path = manifest.path(shard)
        if not path.is_file():
            total += Checked(tuple(faults), files=0)
            continue
        found = examine_file(path, deep)
        renamed = [Fault(shard.shard + f.where.removeprefix(path.name), f.what, f.note) for f in found.faults]
        found = replace(found, faults=tuple(renamed))
        if manifest.kind == "grid" and not any(not f.note for f in found.faults):
            layout, more = _agrees(manifest, shard, reference)
            faults += more
            reference = reference or (shard.shard, layout)
        total += found + Checked(tuple(faults), files=0)
    sound = not any(not fault.note for fault in total.faults)
    return total + Checked((*_around(manifest), *_statistics(manifest, deep and sound)), files=0)


def _loose(folder: Path, deep: bool) -> Checked:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in HDF5 and path.is_file())
    if not paths:
        raise NoDataset(f"{folder} holds no data: there is no {DATASET} and no HDF5 file in it")
    what = f"there is no {DATASET}: the files are looked at one by one"
    total = Checked((Fault(folder.name, what, note=True),), files=0)
    for path in paths:
        try:
            total += examine_file(path, deep)
        except ValueError as error:
            total += Checked((Fault(str(path.relative_to(folder)), str(error)),))
    return total


def _books(manifest: Manifest) -> Iterator[Fault]:
    """Settings, splits and ids, as `dataset.json` and `manifest.jsonl` have them."""
    config = manifest.config
    asked = {key: value for key, value in config.items() if key not in _WRITTEN_LATER}
    if digest(asked) != config["config_sha256"]:
        yield Fault(
            DATASET, "its settings do not have the checksum config_sha256: it was edited; generate anew"
        )
    try:
        splits = {str(name): range(*ends) for name, ends in config["splits"].items()}
        ids = [i for split in splits.values() for i in split]
    except (AttributeError, TypeError, ValueError):
        yield Fault(f"{DATASET}: splits", f"{config['splits']!r}, needed are pairs (first id, last id + 1)")
        return
    if len(set(ids)) != len(ids):
        yield Fault(f"{DATASET}: splits", "a sample belongs to two splits: test data leak into training")
    if set(ids) != set(range(manifest.samples)):
        yield Fault(f"{DATASET}: splits", f"do not make up the ids 0 to {manifest.samples - 1}")
    owner: dict[int, str] = {}
    for shard in manifest.shards:
        twice = [i for i in shard.ids if i in owner]
        if twice:
            yield Fault(shard.shard, f"holds the samples {_some(twice)}, which are in {owner[twice[0]]}, too")
        owner |= dict.fromkeys(shard.ids, shard.shard)
        strange = [i for i in shard.ids if i not in splits.get(shard.split, ())]
        if strange:
            yield Fault(
                shard.shard, f"holds the samples {_some(strange)}, which are not in split {shard.split}"
            )
        if shard.config_sha256 != config["config_sha256"]:
            yield Fault(shard.shard, f"was made with other settings than {DATASET} has")
    missing = sorted(set(range(manifest.samples)) - set(owner))
    if missing:
        share = f"{len(missing)} of {manifest.samples} samples are missing ({_some(missing)})"
        yield Fault(MANIFEST, f"incomplete: {share}: {_GO_ON}")
    if manifest.failed:
        first, reason = next(iter(manifest.failed.items()))
        what = f"{len(manifest.failed)} of {manifest.samples} samples failed (sample {first}: {reason})"
        yield Fault(MANIFEST, what, note=True)


def _listed(manifest: Manifest, shard: Shard, deep: bool) -> Iterator[Fault]:
    """A file against its line in the manifest."""
    path = manifest.path(shard)
    if not path.is_file():
        yield Fault(shard.shard, f"the file is missing: {_GO_ON}")
        return
    size = path.stat().st_size
    if size != shard.bytes:
        yield Fault(
            shard.shard, f"has {size} bytes, the manifest says {shard.bytes}: {_GO_ON}, or copy it again"
        )
    elif deep and sha256(path) != shard.sha256:
        yield Fault(shard.shard, f"its SHA-256 is not that of the manifest, it has changed: {_GO_ON}")


def _agrees(
    manifest: Manifest, shard: Shard, reference: tuple[str, Layout] | None
) -> tuple[Layout, list[Fault]]:
    """A sound file against its line, and against the form of the first file."""
    faults = []
    with WellFile(manifest.path(shard)) as file:
        if tuple(file.ids.tolist()) != shard.ids:
            faults.append(Fault(shard.shard, "its samples are not those that the manifest lists"))
        if file.status != shard.status:
            faults.append(Fault(shard.shard, "the status of its samples is not the one in the manifest"))
        if file.layout.name != manifest.name:
            faults.append(
                Fault(shard.shard, f"belongs to the dataset {file.layout.name!r}, not {manifest.name!r}")
            )
        if reference is not None:
            for what in differences(file.layout, reference[1]):
                faults.append(Fault(shard.shard, f"differs from {reference[0]} in its {what}"))
        return file.layout, faults


def differences(one: Layout, other: Layout) -> list[str]:
    """Return the parts in which two layouts differ."""
    parts: dict[str, tuple[Any, Any]] = {
        "name": (one.name, other.name),
        "axes": (one.axes, other.axes),
        "fields": (one.variables, other.variables),
        "boundary conditions": (one.boundary, other.boundary),
        "parameters": (dict(one.parameters), dict(other.parameters)),
        "type": (one.dtype, other.dtype),
    }
    out = [what for what, (a, b) in parts.items() if a != b]
    pairs = zip((one.times, *one.coordinates), (other.times, *other.coordinates), strict=False)
    if not all(np.array_equal(a, b) for a, b in pairs):
        out.append("coordinates or times")
    return out


def _around(manifest: Manifest) -> Iterator[Fault]:
    """Files that the manifest does not know."""
    known = {manifest.path(shard) for shard in manifest.shards}
    for path in sorted(manifest.folder.rglob("*")):
        name = path.relative_to(manifest.folder).as_posix()
        if path.suffix == ".tmp":
            yield Fault(
                name, "an unfinished file: a run is writing it, or was killed; the next run removes it", True
            )
        elif path.suffix in HDF5 and path not in known:
            yield Fault(name, f"is not in {MANIFEST}: {_GO_ON} and lists it, or remove the file")


def _statistics(manifest: Manifest, deep: bool) -> Iterator[Fault]:
    """The files of statistics: there, and what the train split gives."""
    if manifest.kind != "grid" or not manifest.complete:
        return
    again = f"remove {CARD} and repeat the same `generate` command, which writes it"
    try:
        expected = statistics_files(manifest) if deep else {}
    except ValueError as error:
        yield Fault(STATISTICS, f"cannot be compared: {error}")
        return
    for name in (STATISTICS, f"{manifest.name}.yaml"):
        path = manifest.folder / name
        if not path.is_file():
            yield Fault(name, f"is missing: {again}")
        elif name in expected:
            try:
                same = yaml.safe_load(path.read_bytes()) == yaml.safe_load(expected[name])
            except yaml.YAMLError:
                same = False
            if not same:
                yield Fault(name, f"is not what the train split gives: {again} anew")


def _some(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
