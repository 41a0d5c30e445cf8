"""The books of a dataset: `dataset.json`, what was asked for, and `manifest.jsonl`, what is there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

FORMAT = "solvus dataset"
SHARD_FORMAT = "solvus shard"
VERSION = 1
DATASET, MANIFEST = "dataset.json", "manifest.jsonl"
SPLITS = ("train", "valid", "test")
OK = "ok"


class NoDataset(FileNotFoundError):
    """There is no folder, or no dataset in it."""


class ForeignFolder(ValueError):
    """A folder whose content is not a dataset of ours, or one that cannot be read."""


@final
@dataclass(frozen=True)
class Shard:
    """A line of the manifest: one finished file.

    Args:
        shard: path relative to the folder, with "/".
        split: "train", "valid" or "test".
        ids: of its samples.
        status: "ok" or "failed: reason", per sample.
        residual: per sample; NaN where there is none.
        steps: per sample.
        sha256: of the file.
        bytes: its size.
        wall_s: seconds that it took, 0 where that is not known.
        config_sha256: of the settings it was made with.
        software: versions it was made with.
    """

    shard: str
    split: str
    ids: tuple[int, ...]
    status: tuple[str, ...]
    residual: tuple[float, ...]
    steps: tuple[int, ...]
    sha256: str
    bytes: int
    wall_s: float
    config_sha256: str
    software: Mapping[str, str]

    @property
    def failed(self) -> dict[int, str]:
        """Samples that could not be made: id -> reason."""
        pairs = zip(self.ids, self.status, strict=True)
        return {i: status.removeprefix("failed: ") for i, status in pairs if status != OK}

    def line(self) -> str:
        """Return the line of the manifest, with its end; a number that is not finite becomes null."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["residual"] = [r if math.isfinite(r) else None for r in self.residual]
        return json.dumps({**values, "software": dict(self.software)}, allow_nan=False) + "\n"


def shard_from(values: Mapping[str, Any]) -> Shard:
    """Return the shard that a line describes.

    Raises:
        KeyError, TypeError, ValueError: when the line is none of ours.
    """
    got = {f.name: values[f.name] for f in dataclasses.fields(Shard)}
    ids = tuple(int(i) for i in got["ids"])
    residual = tuple(math.nan if r is None else float(r) for r in got["residual"])
    status, steps = tuple(str(s) for s in got["status"]), tuple(int(s) for s in got["steps"])
    if not len(ids) == len(status) == len(residual) == len(steps):
        raise ValueError("ids, status, residual and steps differ in length")
    return Shard(**{**got, "ids": ids, "status": status, "residual": residual, "steps": steps})


@final
@dataclass(frozen=True)
class Manifest:
    """A generated dataset: where it is, what was asked for, which files are there.

    Args:
        folder: of the dataset.
        config: the content of `dataset.json`.
        shards: in the order of their samples.
    """

    folder: Path
    config: Mapping[str, Any]
    shards: tuple[Shard, ...]

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return str(self.config["name"])

    @property
    def kind(self) -> str:
        """Whether samples lie on one grid, "grid", or on a mesh each, "mesh"."""
        return str(self.config["kind"])

    @property
    def samples(self) -> int:
        """How many samples were asked for."""
        return int(self.config["n"])

    @cached_property
    def failed(self) -> dict[int, str]:
        """Samples that could not be made: id -> reason."""
        return {i: reason for shard in self.shards for i, reason in shard.failed.items()}

    @cached_property
    def made(self) -> frozenset[int]:
        """Ids of the samples that are in files, failed ones among them."""
        return frozenset(i for shard in self.shards for i in shard.ids)

    @property
    def complete(self) -> bool:
        """Every sample that was asked for is in a file."""
        return len(self.made) == self.samples

    @property
    def max_residual(self) -> float:
        """Largest residual of the samples that count; NaN when there are none."""
        pairs = ((s, r) for shard in self.shards for s, r in zip(shard.status, shard.residual, strict=True))
        return max((r for s, r in pairs if s == OK), default=math.nan)

    def of(self, split: str) -> tuple[Shard, ...]:
        """Return the shards of a split."""
        return tuple(shard for shard in self.shards if shard.split == split)

    def path(self, shard: Shard) -> Path:
        """Return where a shard lies."""
        return self.folder / shard.shard


def read_manifest(folder: str | Path) -> Manifest:
    """Read the books of a dataset.

    A last line without an end, the trace of a run that was killed while it wrote, is left out. When a file
    has several lines, the last counts.

    Raises:
        NoDataset: there is no such folder, or it holds no `dataset.json`.
        ForeignFolder: `dataset.json` or `manifest.jsonl` is none of ours, or damaged.
    """
    folder = Path(folder)
    config = read_config(folder)
    shards: dict[str, Shard] = {}
    for number, line in enumerate(complete_lines(folder / MANIFEST), start=1):
        try:
            shard = shard_from(json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise ForeignFolder(
                f"line {number} of {folder / MANIFEST} is damaged ({error}): delete that line and generate "
                "again with the same command; the file it spoke of is checked and listed anew"
            ) from None
        shards[shard.shard] = shard
    ordered = sorted(shards.values(), key=lambda shard: shard.ids)
    return Manifest(folder, config, tuple(ordered))


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of `dataset.json`; raises as `read_manifest` does."""
    if not folder.is_dir():
        what = "is a file, not the folder of a dataset" if folder.exists() else "does not exist"
        raise NoDataset(f"{folder} {what}: give the folder that `generate` wrote")
    path = folder / DATASET
    if not path.is_file():
        raise NoDataset(f"{folder} holds no dataset of solvus: there is no {DATASET} in it")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise ForeignFolder(f"{path} is not valid JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        given = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ForeignFolder(
            f"{path} has the format {given!r}, expected is {FORMAT!r}: it was not written by solvus"
        )
    if config.get("format_version") != VERSION:
        raise ForeignFolder(
            f"{path} has format version {config.get('format_version')}, this solvus reads {VERSION}: "
            "use the version of solvus that wrote it, or a newer one"
        )
    needed = ("name", "kind", "config", "config_sha256", "seed", "n", "splits", "shard")
    missing = [key for key in needed if key not in config]
    if missing:
        raise ForeignFolder(f"{path} lacks {', '.join(missing)}: it is not complete")
    return config


def complete_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that have an end; [] when there is no file."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1].splitlines()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
