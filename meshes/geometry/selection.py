"""Which parts of a boundary are meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, final

import numpy as np

from .base import Bools, Floats, Geometry, On, Part, Predicate
from .errors import BadPredicate, UnknownPart

_LISTED = 20  # names that a message lists


@final
@dataclass(frozen=True, eq=False)
class Selection:
    """Hold what `on` selects: whole parts, (parts,), and all points where a predicate holds."""

    whole: Bools
    predicates: tuple[Predicate, ...]

    @property
    def candidates(self) -> Bools:
        """Parts that can hold selected points, (parts,)."""
        return np.ones_like(self.whole) if self.predicates else self.whole

    def where(self, points: Floats) -> Bools:
        """Return which points satisfy a predicate, (n,).

        Raises:
            BadPredicate: a predicate does not return (n,) booleans.
        """
        out = np.zeros(len(points), dtype=bool)
        for predicate in self.predicates:
            given = np.asarray(predicate(points))
            if given.shape != out.shape or given.dtype != np.bool_:
                raise BadPredicate(
                    f"a predicate on {len(points)} points must return booleans of shape ({len(points)},), it "
                    f"returned {given.dtype} of shape {given.shape}: write e.g. lambda x: x[:, 0] < 0.5"
                )
            out |= given
        return out


def select(parts: Sequence[Part], on: On) -> Selection:
    """Return what `on` selects of the parts of a boundary.

    Raises:
        UnknownPart: a name, part or shape that is not there.
    """
    whole = np.zeros(len(parts), dtype=bool)
    predicates: list[Predicate] = []
    for item in on if isinstance(on, tuple) else (on,):
        if isinstance(item, tuple):
            inner = select(parts, item)
            whole |= inner.whole
            predicates += inner.predicates
        elif item is None:
            whole[:] = True
        elif isinstance(item, str | Part | Geometry):
            whole |= _named(parts, item)
        elif callable(item):
            predicates.append(cast(Predicate, item))
        else:
            raise UnknownPart(
                f"a part of the boundary is given by a name, a Part, a shape, a predicate or a tuple of "
                f"these, not by {item!r}"
            )
    return Selection(whole, tuple(predicates))


def _named(parts: Sequence[Part], item: str | Part | Geometry) -> Bools:
    if isinstance(item, str):
        found = [item == part.name or item in part.also for part in parts]
    elif isinstance(item, Part):
        found = [item == part for part in parts]
    else:
        found = [part.owner in item.shapes for part in parts]
    if not any(found):
        if isinstance(item, str):
            known = sorted({name for part in parts for name in (part.name, *part.also)})
            more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
            listing = ", ".join(map(repr, known[:_LISTED])) + more
            raise UnknownPart(
                f"there is no part {item!r} of the boundary, there are {listing}: use one of these"
            )
        owners = list(dict.fromkeys(repr(part.owner) for part in parts))
        more = f" and {len(owners) - _LISTED} more" if len(owners) > _LISTED else ""
        raise UnknownPart(
            f"the boundary has no part of {item!r}, it is made of {'; '.join(owners[:_LISTED])}{more}: "
            "select one of these"
        )
    return np.array(found)
