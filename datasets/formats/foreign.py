"""What formats of other programs have no place for."""

from __future__ import annotations

from collections.abc import Mapping

from ..layout import AXES, Layout, Role


class DoesNotFit(ValueError):
    """A format has no place for data that must not be left out."""


def left_behind(layout: Layout, roles: Mapping[str, Role]) -> list[str]:
    """Return what formats of plain arrays do not say: conditions, meanings, roles and the like, in words.

    Args:
        layout: of the source.
        roles: of the fields that are written, as a reader will take them.
    """
    notes = []
    shared = [v.name for v in layout.variables if not v.sample_varying]
    if shared:
        notes.append(f"fields that all samples share have no place: {', '.join(shared)}")
    if layout.boundary is not None:
        words = ", ".join(
            f"{a} {low.value}/{high.value}"
            for a, (low, high) in zip(layout.axes, layout.boundary, strict=True)
        )
        notes.append(f"boundary conditions are not recorded: {words}")
    meant = [f"{v.name} ({v.meaning})" for v in layout.variables if v.meaning]
    if meant:
        notes.append(f"meanings of fields are not recorded: {', '.join(meant)}")
    if layout.axes != AXES[: layout.dim]:
        notes.append(f"the axes {', '.join(layout.axes)} become {', '.join(AXES[: layout.dim])}")
    changed = [
        f"{n} is read as {role.value}, it is {layout[n].role.value}"
        for n, role in roles.items()
        if layout[n].role != role
    ]
    if changed:
        notes.append(f"roles are not recorded: {', '.join(changed)}")
    return notes
