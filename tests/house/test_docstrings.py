"""Every example in every docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil
import tomllib
import types
from pathlib import Path

import pytest

FOREIGN = ("dolfinx", "petsc4py", "mpi4py", "nvmath", "basix", "ufl")


def module_names() -> list[str]:
    """Every package that pyproject.toml lists, and every module in it."""
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    names = set(settings["tool"]["setuptools"]["packages"])
    for package in list(names):
        path = importlib.import_module(package).__path__
        names |= {m.name for m in pkgutil.iter_modules(path, f"{package}.")}
    return sorted(names)


def run_examples(module: types.ModuleType) -> tuple[int, list[str]]:
    """Run the examples of a module; return how many there are, and reports of those that failed."""
    reports: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    tests = doctest.DocTestFinder(exclude_empty=True).find(module)
    for test in tests:
        runner.run(test, out=reports.append)
    return sum(len(t.examples) for t in tests), reports


@pytest.mark.parametrize("name", module_names())
def test_docstring_examples(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").split(".")[0] in FOREIGN:
            pytest.skip(f"{error.name} is not in this interpreter")
        raise
    _, reports = run_examples(module)
    assert not reports, "".join(reports)


def test_there_are_examples():
    assert run_examples(importlib.import_module("solvus.meshes.grid"))[0] > 0


def test_a_wrong_example_is_found():
    specimen = types.ModuleType("specimen")
    specimen.__doc__ = ">>> 1 + 1\n3\n"
    count, reports = run_examples(specimen)
    assert count == 1
    assert "Expected:\n    3\nGot:\n    2" in "".join(reports)
