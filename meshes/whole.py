"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary name beside a file, which takes the file's place when the block ends without an error.

    What was written is on the disk when this returns.

    Raises:
        FileExistsError: the file is there and `overwrite` is False.
        FileNotFoundError: its folder does not exist.
    """
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder: name a file in it, for example {path / 'data.hdf5'}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: choose another name, or pass overwrite=True to replace it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}: make it first")
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, in the place of one that is there."""
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_bytes(content)


def temporary_name(name: str) -> str:
    """Return a name for an unfinished file that tells which process on which machine writes it."""
    return f"{name}~{socket.gethostname()}~{os.getpid()}-{secrets.token_hex(4)}.tmp"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; nothing where folders cannot be opened (Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
