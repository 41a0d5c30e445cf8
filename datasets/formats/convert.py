"""From one format of grid data to another, block by block, and saying what stays behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import final

from ...meshes.whole import whole_file
from ..layout import Layout
from ..loading.folder import FolderSource
from ..source import Source
from .arrays import Axes
from .open import Part, open_source
from .pdebench import PDEBenchLayout
from .pdebench_write import pdebench_notes, write_pdebench
from .tensors import pt_notes, write_npz, write_pt
from .well import WellFile, write_well


class FailedSamples(ValueError):
    """A file with samples that could not be made: they are NaN, and must not pass for data."""


class Target(StrEnum):
    """A format that can be written.

    well: The Well, HDF5; npz: arrays by name; both hold everything. pdebench-a, -b, -c: the layouts of
    PDEBench. pt: inputs x and outputs y of neuraloperator.
    """

    WELL = "well"
    PDEBENCH_A = "pdebench-a"
    PDEBENCH_B = "pdebench-b"
    PDEBENCH_C = "pdebench-c"
    NPZ = "npz"
    PT = "pt"


_UNMADE = "recipe and seed are not recorded: keep them with the new file"
_BY_SUFFIX = {".npz": Target.NPZ, ".pt": Target.PT, ".pth": Target.PT}


@final
@dataclass(frozen=True)
class Conversion:
    """What was written.

    Args:
        path: of the new file.
        target: its format.
        samples: in it.
        notes: what could not be carried over, one sentence each.
    """

    path: Path
    target: Target
    samples: int
    notes: tuple[str, ...]


def convert(
    source: Source | str | Path,
    path: str | Path,
    *,
    to: Target | str | None = None,
    split: str | None = None,
    axes: Axes | Mapping[str, Axes] | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write grid data in another format. The file appears under its name when it is complete.

    Args:
        source: a source, or the path of one, see `open_source`.
        path: of the new file.
        to: "well", "pdebench-a", "pdebench-b", "pdebench-c", "npz" or "pt"; None when the suffix tells.
        split, axes: see `open_source`; for paths only.
        overwrite: replace an existing file.

    Returns:
        What was written, and notes on what the format has no place for.

    Raises:
        DoesNotFit: the format has no place for what must not be left out.
        FileExistsError: the file is there and `overwrite` is False.
        ValueError: the format cannot be told, or the source and the target are one file.
    """
    path = Path(path)
    target = target_of(path) if to is None else _target(to)
    if not isinstance(source, Source):
        if path.exists() and path.samefile(source):
            raise ValueError(f"{path} would be written onto itself: choose another name")
        with open_source(source, split=split, axes=axes) as opened:
            return convert(opened, path, to=target, overwrite=overwrite)
    if split is not None or axes is not None:
        raise ValueError("split and axes belong to paths: the source that was given is read as it is")
    notes = (*_notes(source, target), *conversion_notes(source.layout, target))
    _WRITERS[target](source, path, overwrite)
    return Conversion(path, target, source.samples, notes)


def target_of(path: Path) -> Target:
    """Return the format that a suffix tells; HDF5 files may have any of four."""
    if path.suffix in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix]
    if path.suffix in (".h5", ".hdf5"):
        raise ValueError(
            f"{path.name} may become a file of The Well or of PDEBench: say which, "
            "to='well', 'pdebench-a', 'pdebench-b' or 'pdebench-c'"
        )
    raise ValueError(
        f"the suffix {path.suffix!r} tells no format: use .npz or .pt, or say to="
        + ", ".join(f"'{t}'" for t in Target)
    )


def conversion_notes(layout: Layout, target: Target) -> tuple[str, ...]:
    """Return what a format has no place for; raises DoesNotFit where that must not be left out."""
    if target is Target.PT:
        return pt_notes(layout)
    if target in (Target.WELL, Target.NPZ):
        return ()
    return pdebench_notes(layout, PDEBenchLayout(target.value[-1].upper()))


def _target(to: Target | str) -> Target:
    try:
        return Target(to)
    except ValueError:
        raise ValueError(
            f"there is no format {to!r} to convert to: choose one of {', '.join(Target)}"
        ) from None


def _notes(source: Source, target: Target) -> tuple[str, ...]:
    """Notes on the source itself: samples left out, splits joined."""
    if isinstance(source, Part):
        return _notes(source.source, target)
    if isinstance(source, WellFile):
        failed = [i for i, status in zip(source.ids, source.status, strict=True) if status != "ok"]
        if failed:
            raise FailedSamples(
                f"{source.path.name} has samples that failed and are NaN ({len(failed)} of "
                f"{source.samples}): convert the folder that it lies in, which leaves them out"
            )
        scalars = ", ".join(source.varying_scalars())
        notes = [f"scalars that vary between samples or in time are left out: {scalars}"] if scalars else []
        return (*notes, *([_UNMADE] if target is not Target.WELL and source.extras() else []))
    if not isinstance(source, FolderSource):
        return ()
    notes = [_UNMADE]
    if source.failed:
        notes.append(f"failed samples are left out ({len(source.failed)}): {_some(source.failed)}")
    splits = [s for s, (start, stop) in source.manifest.config["splits"].items() if stop > start]
    if source.split is None and len(splits) > 1:
        notes.append(f"the splits {', '.join(splits)} are joined, in this order; name one to keep them apart")
    return tuple(notes)


def _some(ids: Mapping[int, str]) -> str:
    return ", ".join(map(str, list(ids)[:10])) + (", ..." if len(ids) > 10 else "")


def _well(source: Source, path: Path, overwrite: bool) -> None:
    with whole_file(path, overwrite=overwrite) as temporary:
        write_well(source, temporary)


def _pdebench(layout: PDEBenchLayout) -> Callable[[Source, Path, bool], object]:
    return lambda source, path, overwrite: write_pdebench(source, path, layout, overwrite=overwrite)


_WRITERS: Mapping[Target, Callable[[Source, Path, bool], object]] = {
    Target.WELL: _well,
    Target.PDEBENCH_A: _pdebench(PDEBenchLayout.A),
    Target.PDEBENCH_B: _pdebench(PDEBenchLayout.B),
    Target.PDEBENCH_C: _pdebench(PDEBenchLayout.C),
    Target.NPZ: lambda source, path, overwrite: write_npz(source, path, overwrite=overwrite),
    Target.PT: lambda source, path, overwrite: write_pt(source, path, overwrite=overwrite),
}
