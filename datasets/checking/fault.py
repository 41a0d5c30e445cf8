"""What is wrong with a file or folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Fault:
    """Something that a check found.

    Args:
        where: file, and the object in it.
        what: is wrong, what is needed, and what to do.
        note: worth knowing, but no fault: the data can be used.

    >>> str(Fault("a.hdf5: t2_fields", "the group is missing"))
    'a.hdf5: t2_fields: the group is missing'
    """

    where: str
    what: str
    note: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"
