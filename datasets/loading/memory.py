"""How much memory there is for data: of the machine, of the container, and shared between processes."""

from __future__ import annotations

import os
from pathlib import Path

_SHARED = Path("/dev/shm")
_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Return the bytes that this process may still use; a container's limit counts."""
    found = [_of_machine()]
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            found.append(int(limit) - int((_CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(0, min(found))


def _of_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return (
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        )  # free memory cannot be asked for
    except (OSError, ValueError, AttributeError):
        return 0


def free_shared_memory() -> int:
    """Return the bytes that fit into memory shared between processes.

    Containers often have 64 MB of it; a process that writes more is killed, so it has to be asked before.
    """
    try:
        room = os.statvfs(_SHARED)
    except (OSError, AttributeError):
        return free_memory()  # no such folder: shared memory has no limit of its own
    return room.f_bavail * room.f_frsize
