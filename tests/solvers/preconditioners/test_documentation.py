"""The examples of docs/preconditioners.md run, and their assertions hold."""

import re
from pathlib import Path


def test_examples_of_the_page_run(root: Path) -> None:
    text = (root / "docs" / "preconditioners.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(block, namespace)
    assert namespace["info"] == 0
