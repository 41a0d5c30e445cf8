"""The allocator of the C library, told to keep the memory that is freed."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the parameters M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt
_LARGEST_MMAP_THRESHOLD = 32 << 20  # what glibc accepts on 64-bit systems


def keep_freed_memory() -> bool:
    """Tell glibc not to return freed memory to the system, for this process; return whether it was done.

    By default every large buffer goes back when it is freed, and the next one is mapped anew: the page faults
    of loops that allocate some megabytes per step cost up to half of their time. The process keeps its peak
    memory until it ends. Without effect (False) on other C libraries.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    done = mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD), mallopt(_TRIM_THRESHOLD, 1 << 30)
    return all(done)
