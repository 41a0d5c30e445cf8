"""The demonstration of physics-informed networks runs on a bare checkout."""

import re
from pathlib import Path

import pytest

from solvus.solvers.pinn.problems import NoReference, problem_named

ROOT = Path(__file__).resolve().parents[2]


def shown() -> list[str]:
    """Return the problems that `make demo` trains networks for."""
    (words,) = re.findall(r"benchmarks/pinn\.py --only (\S+)", (ROOT / "Makefile").read_text())
    return [case.partition(":")[0] for case in words.split(",")]


def test_the_demonstration_needs_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SOLVUS_REFERENCE", str(tmp_path))
    assert shown()
    for name in shown():
        assert len(problem_named(name).reference().points) > 100
    with pytest.raises(NoReference):  # a problem whose reference is a file would be noticed
        problem_named("poisson2d-c").reference()
