"""The code of docs/solvers.md runs, and prints what it says it prints."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest


def test_the_guide_runs(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (root / "docs" / "solvers.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", text, flags=re.S | re.M))
    guide = ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", guide)  # dataclasses look their module up
    exec(compile(code, "docs/solvers.md", "exec"), guide.__dict__)
    printed = capsys.readouterr().out
    claimed = re.findall(r"print\(.*\) +# (.+)", code)
    assert len(claimed) >= 8
    for line in claimed[1:]:  # the first holds a time
        assert line in printed
    assert printed.startswith("Result(CONVERGED, 50 steps, relative residual ")
