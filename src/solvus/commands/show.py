"""The command `show`: what a file or a dataset holds, as a table and a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import typer
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..datasets.formats.open import Kind, kind_of, open_source
from ..datasets.formats.well import WellFile
from ..datasets.generation.manifest import Manifest, read_manifest
from ..datasets.mesh_pictures import mesh_picture
from ..datasets.pictures import in_words, picture, sizes
from ..datasets.source import Source
from ..datasets.systems import list_systems
from ..datasets.unstructured.mesh_data import MeshFile, MeshFolder, MeshSource
from .console import plain_errors, plain_warnings

_RANKS = ("scalar", "vector", "tensor")
_SAMPLES = 3  # drawn when none is named
_READ = 1 << 26  # bytes from which ranges are taken


def show(
    path: Annotated[Path, typer.Argument(help="A folder of generate, or a file of any kind that is read.")],
    out: Annotated[
        Path | None, typer.Option(help="The picture; default PATH/preview.png, or NAME.png in this folder.")
    ] = None,
    sample: Annotated[list[int] | None, typer.Option(help="A sample to draw; repeat it.", min=0)] = None,
    split: Annotated[str | None, typer.Option(help="Of a folder: train, valid or test.")] = None,
    axes: Annotated[
        str | None, typer.Option(help="Names of the axes of plain arrays: sample,time,x,y.")
    ] = None,
) -> None:
    """Tell what a file or a dataset holds, and draw some samples."""
    console = Console(highlight=False)
    with plain_errors(), plain_warnings():
        kind = kind_of(path)
        if kind is Kind.SYSTEMS:
            console.print(_systems(path))
            return
        if kind in (Kind.MESH, Kind.MESH_FOLDER):
            with MeshFolder(path, split) if path.is_dir() else MeshFile(path) as meshes:
                facts, fields, figure = _of_meshes(meshes, sample)
        else:
            named = None if axes is None else [axis.strip() for axis in axes.split(",")]
            with open_source(path, split=split, axes=named) as source:
                facts, fields, figure = _of_grid(source, sample)
        made = _of_manifest(read_manifest(path)) if path.is_dir() else {}
        console.print(_facts({"kind": kind.value, **facts, **made, **_storage(path)}))
        console.print(fields)
        picture_path = _place(path) if out is None else out
        figure.savefig(picture_path)
        console.print(f"[dim]picture[/]  {escape(str(picture_path))}", soft_wrap=True)


def _place(path: Path) -> Path:
    if path.is_dir() and os.access(path, os.W_OK):
        return path / "preview.png"
    return Path(f"{path.resolve().name if path.is_dir() else path.stem}.png")


def _chosen(given: Sequence[int] | None, samples: int) -> tuple[int, ...]:
    return tuple(given) if given else tuple(range(min(_SAMPLES, samples)))


def _of_grid(source: Source, given: Sequence[int] | None) -> tuple[dict[str, str], Table, Figure]:
    layout = source.layout
    facts = {"name": layout.name, "samples": str(source.samples)}
    for axis, c in zip(layout.axes, layout.coordinates, strict=True):
        facts[f"axis {axis}"] = f"{len(c)} points, {in_words(c[0])} to {in_words(c[-1])}"
    if not layout.steady:
        t = layout.times
        facts["times"] = f"{len(t)}, {in_words(t[0])} to {in_words(t[-1])}"
    if layout.boundary is not None:
        pairs = zip(layout.axes, layout.boundary, strict=True)
        facts["boundary"] = ", ".join(f"{a} {low.value}/{high.value}" for a, (low, high) in pairs)
    facts |= _parameters(layout.parameters)
    if isinstance(source, WellFile):
        failed = sum(status != "ok" for status in source.status)
        facts |= {"failed": f"{failed} samples, NaN in the file"} if failed else {}
    count = max(1, min(source.samples, _READ // max(1, layout.bytes_per_sample())))
    values = source.read(0, count)
    table = _fields(f"of the first {count} samples" if count < source.samples else "")
    for v in layout.variables:
        dims = (("sample", source.samples),) * v.sample_varying + tuple(
            zip(layout.dims(v.name), layout.shape(v.name), strict=True)
        )
        shape = ", ".join(f"{axis} {n}" for axis, n in dims)
        table.add_row(
            v.name, v.role.value, _RANKS[v.rank], shape, _range(sizes(values[v.name], v)), escape(v.meaning)
        )
    return facts, table, picture(source, _chosen(given, source.samples))


def _of_meshes(source: MeshSource, given: Sequence[int] | None) -> tuple[dict[str, str], Table, Figure]:
    layout = source.layout
    count = min(len(source), 100)
    looked = [source[i] for i in range(count)]
    points = [len(s.mesh.points) for s in looked]
    cells = [len(s.mesh.simplices) for s in looked]
    facts = {
        "name": layout.name,
        "samples": str(len(source)),
        "meshes": f"{_span(points)} points, {_span(cells)} {layout.cell_type} cells",
        "tags": ", ".join(f"{name} (dimension {d})" for name, d in sorted(layout.tags.items())) or "none",
        **_parameters(layout.parameters),
    }
    table = _fields(f"of the first {count} samples" if count < len(source) else "")
    for v in layout.variables:
        where = "points" if v in layout.point_fields else "cells"
        values = np.concatenate([sizes(np.asarray(s[v.name]), v).ravel() for s in looked])
        table.add_row(v.name, v.role.value, _RANKS[v.rank], f"on {where}", _range(values), escape(v.meaning))
    return facts, table, mesh_picture(source, _chosen(given, len(source)))


def _span(counts: list[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _of_manifest(manifest: Manifest) -> dict[str, str]:
    config, failed = manifest.config, len(manifest.failed)
    preset = config.get("preset") or {}
    settings = [f"{k}={v}" for k, v in (preset.get("settings") or {}).items()]
    splits = ", ".join(f"{s} {stop - start}" for s, (start, stop) in config["splits"].items())
    made = f"{len(manifest.made) - failed} of {manifest.samples}"
    equation = config["config"].get("equation")
    return {
        **({"equation": equation["class"]} if isinstance(equation, Mapping) else {}),
        **({"recipe": " ".join([preset["equation"], *settings])} if preset else {}),
        "seed": str(config["seed"]),
        "splits": splits,
        "samples made": made + (f", [red]{failed} failed[/]" if failed else ""),
        "largest residual": f"{manifest.max_residual:.1e}",
    }


def _parameters(parameters: Mapping[str, float]) -> dict[str, str]:
    words = ", ".join(f"{name} = {in_words(value)}" for name, value in parameters.items())
    return {"parameters": words} if words else {}


def _storage(path: Path) -> dict[str, str]:
    """Size on disk, and chunks of the largest array of the first HDF5 file."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    data = [p for p in files if h5py.is_hdf5(p)]
    total = sum(p.stat().st_size for p in files) / 1e6
    facts = {"size": f"{total:.3g} MB" + (f", {len(data)} HDF5 files" if path.is_dir() else "")}
    if not data:
        return facts
    arrays: list[h5py.Dataset] = []
    with h5py.File(data[0], "r", locking="best-effort") as file:
        file.visititems(lambda _, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
        largest = max(arrays, key=lambda item: item.nbytes)
        packed = f", {largest.compression}" if largest.compression else ""
        facts["storage"] = f"{largest.dtype}, " + (
            f"chunks {' × '.join(map(str, largest.chunks))}{packed}" if largest.chunks else "contiguous"
        )
    return facts


def _range(values: Any) -> str:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "not finite"
    bad = values.size - finite.size
    text = f"{in_words(float(finite.min()))} to {in_words(float(finite.max()))}"
    return text + (f", [red]{bad} not finite[/]" if bad else "")


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 3))
    for name, text in facts.items():
        table.add_row(f"[dim]{name}[/]", text if "[red]" in text else escape(text))
    return table


def _fields(caption: str) -> Table:
    title = "fields" + (f", ranges {caption}" if caption else "")
    return Table(
        "name",
        "role",
        "",
        "shape",
        "range",
        "meaning",
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )


def _systems(path: Path) -> Table:
    table = Table("system", "shape", "entries", "", title=f"{path.name}: linear systems", box=box.SIMPLE_HEAD)
    with h5py.File(path, "r", locking="best-effort") as file:
        for name in list_systems(path):
            group = file["systems"][name]
            words = [word for word in ("symmetric", "spd") if group.attrs.get(word)]
            words += ["with a solution"] if "x" in group else []
            shape = " × ".join(str(n) for n in group.attrs["shape"])
            table.add_row(escape(name), shape, f"{len(group['data']):,}", ", ".join(words))
    return table
