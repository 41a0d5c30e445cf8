"""What every test starts from: the installed package, fixed seeds, one thread, what the machine offers."""

import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
IN_CI = os.environ.get("CI", "") not in ("", "0", "false")

# With the root on the path, `import datasets` would find ours, and a broken install would go unnoticed.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


def missing(reason: str) -> None:
    """Skip the running test, or fail it in CI, where everything must be there."""
    if IN_CI:
        pytest.fail(f"missing in CI: {reason}")
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let tests marked `fenics` run only where an interpreter with dolfinx is found."""
    if item.get_closest_marker("fenics") is None:
        return
    from solvus.solvers.fem import FenicsUnavailable, find_interpreter

    try:
        find_interpreter()
    except FenicsUnavailable as error:
        missing(str(error))


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def reference() -> Path:
    """Return the folder of published reference data; skip where it is absent."""
    folder = Path(os.environ.get("SOLVUS_REFERENCE", ROOT.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}: set SOLVUS_REFERENCE to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a headless browser; skip where there is none, fail in CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    missing("no Chromium: install it with `apt install chromium`")
    raise AssertionError
