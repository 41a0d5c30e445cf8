"""The table of docs/time-stepping.md names every stepper, with its order."""

import re

from solvus.solvers import time


def test_every_stepper_is_in_the_table(root):
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]* \| (\d) \|", (root / "docs" / "time-stepping.md").read_text(), re.M
    )
    known = {name for name in time.__all__ if isinstance(getattr(getattr(time, name), "order", None), int)}
    assert dict(rows).keys() == known
    assert all(getattr(time, name).order == int(order) for name, order in rows)
