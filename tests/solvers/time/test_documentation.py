"""The examples of docs/time-stepping.md run, print what they say, and the table names every stepper."""

import re
from contextlib import redirect_stdout
from io import StringIO

from solvus.solvers import time


def test_examples_of_the_page_run(root):
    text = (root / "docs" / "time-stepping.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    said, namespace = StringIO(), {}
    with redirect_stdout(said):
        for block in blocks:
            exec(block, namespace)
    assert said.getvalue().splitlines() == re.findall(r"print\(.*\)  # (.*)", text)
    assert all(p.grad is not None for p in namespace["network"].parameters())


def test_every_stepper_is_in_the_table(root):
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]* \| (\d) \|", (root / "docs" / "time-stepping.md").read_text(), re.M
    )
    known = {name for name in time.__all__ if isinstance(getattr(getattr(time, name), "order", None), int)}
    assert dict(rows).keys() == known
    assert all(getattr(time, name).order == int(order) for name, order in rows)
