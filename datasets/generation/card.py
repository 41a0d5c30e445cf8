"""The card of a dataset, README.md: what is in the folder, and the command that makes it again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from .manifest import SPLITS, Manifest
from .plan import SHARES, split_counts

CARD = "README.md"


@final
@dataclass(frozen=True)
class Preset:
    """The name of a recipe and what it was given: enough to make the dataset again from the command line."""

    equation: str
    resolution: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Return the preset as JSON values."""
        return {"equation": self.equation, "resolution": self.resolution, "settings": dict(self.settings)}


def card(manifest: Manifest) -> str:
    """Return the card of a dataset as Markdown."""
    config = manifest.config
    sections = [
        f"# {manifest.name}",
        _summary(manifest),
        "## Recipe\n\n" + _settings(config["config"]),
        "## Make it again\n\n" + _command(config),
        "## Splits\n\n" + _splits(manifest),
    ]
    if manifest.failed:
        sections.append("## Failed samples\n\n" + _failed(manifest))
    sections.append("## Software\n\n" + _software(manifest))
    sections.append("## License\n\n" + (config.get("license") or "Not stated.") + "\n")
    return "\n\n".join(sections)


def _summary(manifest: Manifest) -> str:
    where = "on a grid" if manifest.kind == "grid" else "on a mesh each"
    size = sum(shard.bytes for shard in manifest.shards)
    residual = manifest.max_residual
    worst = "" if math.isnan(residual) else f" The largest residual is {residual:.1e}."
    files = f"{len(manifest.shards)} HDF5 files, {size / 1e6:.1f} MB"
    return (
        f"{manifest.samples} samples {where}, {len(manifest.failed)} failed, in {files}.{worst} "
        "`manifest.jsonl` lists every file with its samples and its SHA-256."
    )


def _settings(config: Mapping[str, Any]) -> str:
    rows = ["| setting | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in _rows(config))]
    return "\n".join(rows)


def _rows(config: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            rows += _rows(value, name)
        else:
            rows.append((name, str(value).replace("|", "\\|")))
    return rows


def _command(config: Mapping[str, Any]) -> str:
    preset = config.get("preset")
    if preset is None:
        return (
            f"With the recipe above: `generate(recipe, {config['n']}, out, seed={config['seed']}, "
            f"splits={_fractions(config)}, options=Options(shard={config['shard']}))`."
        )
    words = ["solvus", "generate", preset["equation"], "--n", str(config["n"]), "--seed", str(config["seed"])]
    if preset["resolution"] is not None:
        words += ["--resolution", str(preset["resolution"])]
    for key, value in preset["settings"].items():
        words += ["--set", f"{key}={value}"]
    if _counts(config) != split_counts(config["n"], SHARES):
        words += ["--splits", ",".join(str(count / config["n"]) for count in _counts(config))]
    words += ["--shard", str(config["shard"]), "--out", config["name"]]
    if config.get("license"):
        words += ["--license", config["license"]]
    return f"```console\n$ {shlex.join(words)}\n```"


def _fractions(config: Mapping[str, Any]) -> str:
    return "(" + ", ".join(str(count / config["n"]) for count in _counts(config)) + ")"


def _counts(config: Mapping[str, Any]) -> tuple[int, ...]:
    ranges = (config["splits"][split] for split in SPLITS)
    return tuple(stop - start for start, stop in ranges)


def _splits(manifest: Manifest) -> str:
    rows = ["| split | ids | samples | failed | files |", "|---|---|---|---|---|"]
    for split in SPLITS:
        start, stop = manifest.config["splits"][split]
        shards = manifest.of(split)
        failed = sum(len(shard.failed) for shard in shards)
        ids = f"{start} to {stop - 1}" if stop > start else "none"
        rows.append(f"| {split} | {ids} | {stop - start} | {failed} | {len(shards)} |")
    return "\n".join(rows)


def _failed(manifest: Manifest) -> str:
    lines = [f"- {i}: {reason}" for i, reason in list(manifest.failed.items())[:20]]
    more = len(manifest.failed) - len(lines)
    return "\n".join(lines + [f"- and {more} more, see `manifest.jsonl`"] * (more > 0))


def _software(manifest: Manifest) -> str:
    versions = {", ".join(f"{k} {v}" for k, v in sorted(shard.software.items())) for shard in manifest.shards}
    return "\n".join(f"- {line}" for line in sorted(versions))
