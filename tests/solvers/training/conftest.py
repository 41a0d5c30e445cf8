"""The tiny network of `programs/tiny.py`, which programs in processes of their own use too."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="session")
def tiny():
    spec = importlib.util.spec_from_file_location("tiny", PROGRAMS / "tiny.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def start():
    """Return a function that runs a program, with torchrun on several processes: (status, stderr)."""

    def run(program, *arguments, processes=1, **environment):
        launch = [sys.executable]
        if processes > 1:
            launch += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        done = subprocess.run(
            [*launch, str(PROGRAMS / program), *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stderr[-2000:]

    return run
