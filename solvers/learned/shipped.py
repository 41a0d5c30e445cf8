"""Where the trained weights that come with the package are."""

from __future__ import annotations

from pathlib import Path

from ..training.saving import MissingFile

_FOLDER = Path(__file__).resolve().parent / "weights"


def shipped(name: str) -> Path:
    """Return the folder of a trained network that comes with the package; its card is README.md in it.

    Raises:
        MissingFile: there is none of that name.

    >>> shipped("dcdm-32").name
    'dcdm-32'
    """
    folder = _FOLDER / name
    if not (folder / "config.json").is_file():
        found = ", ".join(sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))) or "none"
        raise MissingFile(f"no weights named {name!r} come with the package; there are {found}")
    return folder
