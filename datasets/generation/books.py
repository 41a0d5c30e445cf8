"""The folder of a dataset while it is written: one writer, what is there already, what is missing."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, final

from ...meshes.whole import write_whole
from .manifest import (
    DATASET,
    FORMAT,
    MANIFEST,
    VERSION,
    ForeignFolder,
    Shard,
    complete_lines,
    read_config,
    sha256,
    shard_from,
)
from .plan import Job, Plan, differences, software
from .shard import BadShard, read_shard

LOCK = ".lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)
_TEMPORARY = re.compile(r"~(?P<host>[^~]+)~(?P<pid>\d+)-[0-9a-f]{8}\.tmp$")
_A_DAY = 86_400


class FolderInUse(OSError):
    """Another run writes into the folder."""


class OtherSettings(ValueError):
    """The folder holds a dataset that was made with other settings."""


class OtherVersions(UserWarning):
    """A run goes on with other versions of the libraries than it began with."""


@final
class Books:
    """Open the folder of a dataset for writing; a context manager that keeps other runs out.

    Opening checks that the folder is new or holds this very dataset, compares every listed file with its
    checksum, reads finished files that are not listed through and lists them, and removes unfinished files
    that no process writes any more.

    Args:
        folder: new, empty, or begun by a run with the same plan.
        plan: of the dataset.
        preset: where its recipe comes from, noted in `dataset.json`.

    Raises:
        NotADirectoryError, PermissionError: nothing can be written there.
        ForeignFolder: the folder holds something else.
        OtherSettings: it holds another dataset.
        FolderInUse: another run is writing there.
    """

    def __init__(self, folder: Path, plan: Plan, preset: Mapping[str, Any] | None = None) -> None:
        self.folder, self.plan, self._preset = folder, plan, preset
        self.listed: dict[str, Shard] = {}
        self.adopted, self.damaged = 0, 0
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Books:
        _prepare(self.folder)
        self._lock = _locked(self.folder)
        try:
            if (self.folder / DATASET).exists():
                _agree(self.folder, self.plan)
            else:
                self._begin()
            self._take_stock()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self.sweep()
            (self.folder / LOCK).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def missing(self) -> tuple[Job, ...]:
        """Return the files that are still to be made."""
        return tuple(job for job in self.plan.jobs() if job.path not in self.listed)

    def append(self, shard: Shard) -> None:
        """List a finished file; it is on the disk when this returns."""
        line = shard.line().encode()
        with open(self.folder / MANIFEST, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)  # no torn line stays behind
                raise
        self.listed[shard.shard] = shard

    def sweep(self) -> None:
        """Remove unfinished files that no process writes any more."""
        for path in self.folder.glob("**/*.tmp"):
            if _abandoned(path):
                path.unlink(missing_ok=True)

    def _begin(self) -> None:
        values: dict[str, Any] = {"format": FORMAT, "format_version": VERSION, **self.plan.config}
        values.update({"preset": self._preset, "software": dict(software())})
        values["created_utc"] = datetime.now(UTC).isoformat(timespec="seconds")
        write_whole(self.folder / DATASET, (json.dumps(values, indent=2) + "\n").encode())

    def _take_stock(self) -> None:
        self.sweep()
        path, jobs = self.folder / MANIFEST, {job.path: job for job in self.plan.jobs()}
        lines = complete_lines(path)
        kept: dict[str, Shard] = {}
        for line in lines:
            shard = self._valid(line, jobs)
            if shard is not None:
                kept[shard.shard] = shard
        for job in jobs.values():
            if job.path not in kept and (self.folder / job.path).exists():
                try:
                    kept[job.path] = read_shard(
                        self.folder / job.path, job, self.plan.config["config_sha256"]
                    )
                    self.adopted += 1
                except BadShard:
                    self.damaged += 1
        self.listed = kept
        content = "".join(shard.line() for shard in kept.values()).encode()
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content)

    def _valid(self, line: bytes, jobs: Mapping[str, Job]) -> Shard | None:
        """Return the shard of a line whose file is what the line says."""
        try:
            shard = shard_from(json.loads(line))
        except (KeyError, TypeError, ValueError):
            return None
        path = self.folder / shard.shard
        known = shard.shard in jobs and shard.config_sha256 == self.plan.config["config_sha256"]
        if not known or not path.is_file() or path.stat().st_size != shard.bytes:
            return None
        return shard if sha256(path) == shard.sha256 else None


def _prepare(folder: Path) -> None:
    """Make the folder, or see that it is ours."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: a dataset is a folder, give another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except NotADirectoryError:
        raise NotADirectoryError(f"{folder} lies under a file: give another name") from None
    except OSError as error:
        raise _not_writable(folder, error) from None
    inside = {path.name for path in folder.iterdir()}
    ours = DATASET in inside or all(name == LOCK or name.endswith(".tmp") for name in inside)
    if not ours:
        some = ", ".join(sorted(inside)[:3])
        raise ForeignFolder(
            f"{folder} is not empty ({some}) and holds no dataset of solvus: give the name of a new folder"
        )


def _not_writable(folder: Path, error: OSError) -> PermissionError:
    reason = error.strerror or str(error)
    return PermissionError(
        f"nothing can be written to {folder} ({reason}): give a folder that you may write to"
    )


def _locked(folder: Path) -> IO[bytes]:
    """Return an open file whose lock keeps other runs out; a killed process lets go of it by itself."""
    path = folder / LOCK
    while True:
        try:
            file = open(path, "ab")  # noqa: SIM115
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise _not_writable(folder, error) from None
            raise
        try:
            _lock_file(file)
        except OSError as error:
            if error.errno in _NO_LOCKS:  # some network file systems
                return file
            file.close()
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise FolderInUse(
                    f"another run is writing to {folder}: wait until it ends, or give another folder"
                ) from None
            raise
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # the run that held it has just ended and removed it


def _lock_file(file: IO[bytes]) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _agree(folder: Path, plan: Plan) -> None:
    """See that the folder holds this dataset."""
    found = read_config(folder)
    if found["config_sha256"] != plan.config["config_sha256"]:
        what = differences(plan.config, {key: found.get(key) for key in plan.config})
        raise OtherSettings(
            f"{folder} holds a dataset made with other settings ({'; '.join(what[:6])}): give another "
            "folder, or the same settings to go on with it"
        )
    if found.get("software") != software():
        what = differences(software(), found.get("software", {}))
        text = f"{folder} was begun with other versions ({'; '.join(what)}): last bits may differ"
        warnings.warn(text, OtherVersions, stacklevel=4)


def _abandoned(path: Path) -> bool:
    """Tell whether nobody writes an unfinished file: its process is gone, or, elsewhere, a day has passed."""
    match = _TEMPORARY.search(path.name)
    if match is None:
        return False
    if match["host"] != socket.gethostname():
        return time.time() - path.stat().st_mtime > _A_DAY
    pid = int(match["pid"])
    return pid == os.getpid() or not _alive(pid)


def _alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 ends the process; a file that is open cannot be removed anyway
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1]
    except OSError:  # not Linux, or it has just ended
        return True
    return state != [b"Z"]
