"""Models on disk: a folder with weights, settings, metrics and a card. Nothing in it is executed.

Layout, format 1:

    model.safetensors   weights and normalisers
    config.json         architecture and its settings, names, grid, training record, SHA-256 of the weights
    metrics.json        what was measured
    README.md           card for people
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from ...meshes.whole import sync_folder, write_whole

FORMAT = 1
WEIGHTS, CONFIG, METRICS, CARD = "model.safetensors", "config.json", "metrics.json", "README.md"


class BadModel(ValueError):
    """A saved model that cannot be loaded, or a model that cannot be saved."""


class MissingFile(BadModel):
    """A file of a saved model is not there."""


class BrokenFile(BadModel):
    """A file that was cut off or is not of its format."""


class ChangedWeights(BadModel):
    """Weights that are not those that were saved."""


class NewerFormat(BadModel):
    """A folder written by a newer version of this library."""


class UnknownArchitecture(BadModel):
    """A network whose class is not known here."""


class WrongTensors(BadModel):
    """Weights that do not fit the architecture: some missing, some left over, some of another shape."""


def write_folder(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    card: str,
    *,
    overwrite: bool,
) -> None:
    """Write a model whole or not at all.

    Raises:
        FileExistsError: the folder exists and is not to be overwritten, or holds something else.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
            raise FileExistsError(f"{folder} holds something else than a saved model: choose another folder")
        if not overwrite:
            raise FileExistsError(f"{folder} holds a model: choose another folder, or pass overwrite=True")
    weights = to_bytes({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
    signed = {"format": FORMAT, "sha256": hashlib.sha256(weights).hexdigest(), **config}
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    new, old = (folder.with_name(f".{folder.name}~{mark}.{kind}") for kind in ("new", "old"))
    new.mkdir()
    try:
        for name, content in {
            WEIGHTS: weights,
            CONFIG: _json(signed),
            METRICS: _json(metrics),
            CARD: card.encode(),
        }.items():
            write_whole(new / name, content)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the settings of a saved model.

    Raises:
        MissingFile, BrokenFile, NewerFormat: as they say.
    """
    path = _there(folder, CONFIG)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version = int(config["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenFile(f"{path} is not the configuration of a saved model ({error}): save again") from None
    if version > FORMAT:
        raise NewerFormat(
            f"{path} has format {version}, this version of solvus reads up to {FORMAT}: update solvus"
        )
    return config


def read_weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    """Return the tensors of a saved model.

    Raises:
        MissingFile, BrokenFile, ChangedWeights: as they say.
    """
    path = _there(folder, WEIGHTS)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise BrokenFile(
            f"{path} was cut off or is not of the format safetensors ({error}): copy or save it again"
        ) from None
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ChangedWeights(
            f"{path} has SHA-256 {found[:12]}..., {CONFIG} says {str(sha256)[:12]}...: the weights are not "
            "those that were saved; fetch the folder again"
        )
    return tensors


def check_tensors(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Raise WrongTensors with names and shapes where tensors differ from those of a network."""
    faults = tensor_differences(given, wanted)
    if faults:
        raise WrongTensors(
            f"{where} does not fit the network: {'; '.join(faults)}. Use the settings that it was saved with"
        )


def tensor_differences(given: Mapping[str, Any], wanted: Mapping[str, Any], most: int = 4) -> list[str]:
    """Say which tensors are missing, left over, or of another shape; a tensor or its shape may be given."""
    missing, extra = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    both = {n: (_shape(given[n]), _shape(wanted[n])) for n in wanted if n in given}
    shapes = [f"{n} is {list(a)}, needed {list(b)}" for n, (a, b) in both.items() if a != b]
    kinds = {"missing": missing, "not of the network": extra, "of another shape": shapes}
    return [
        f"{len(names)} {kind}: {', '.join(names[:most])}{', ...' if len(names) > most else ''}"
        for kind, names in kinds.items()
        if names
    ]


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.shape if isinstance(tensor, Tensor) else tensor)


def _there(folder: Path, name: str) -> Path:
    path = Path(folder) / name
    if not path.is_file():
        raise MissingFile(
            f"{folder} has no {name}: a saved model holds {WEIGHTS}, {CONFIG}, {METRICS} and {CARD}"
        )
    return path


def _json(values: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(values, indent=2, allow_nan=True) + "\n").encode()
    except TypeError as error:
        raise BadModel(f"what is saved with a model must be plain values that JSON knows: {error}") from None


def floating_type(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """Return the floating-point type of weights, float32 where there is none."""
    return next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
