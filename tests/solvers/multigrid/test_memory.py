"""How much memory a multigrid solve takes beside the system."""

import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.multigrid import multigrid

SCRIPT = """
import sys, torch
from solvus import Diffusion, Grid, LinearSystem, Stop, solve
from solvus.solvers import CG
from solvus.solvers.multigrid import multigrid

def memory(name):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

n = int(sys.argv[1])
small = Diffusion(Grid((31,) * 3))
solve(LinearSystem(small, torch.ones(31**3, dtype=torch.float64)), CG(multigrid()))
generator = torch.Generator().manual_seed(0)
system = LinearSystem(Diffusion(Grid((n,) * 3)), torch.randn(n**3, dtype=torch.float64, generator=generator))
open("/proc/self/clear_refs", "w").write("5")  # start the high-water mark anew
before = memory("VmRSS")
result = solve(system, CG(multigrid()), stop=Stop(rtol=1e-8))
print(result.steps, (memory("VmHWM") - before) / (8 * n**3) - 1)  # without x
"""


class Meter(TorchDispatchMode):
    """Follow the bytes of all tensors that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self.alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            storage = out.untyped_storage()
            key = storage._cdata
            if key not in self.alive:
                self.alive[key] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, key, None)
            self.most = max(self.most, sum(self.alive.values()))
        return out


def test_vectors_of_a_solve():
    """b, x, at most 12 float64 vectors, and the dense inverse at the bottom."""
    n = 31
    b = torch.ones(n**3, dtype=torch.float64)
    system = LinearSystem(Diffusion(Grid((n,) * 3)), b)
    solver = CG(multigrid())
    with Meter() as meter:
        result = solve(system, solver, stop=Stop(rtol=1e-8))
    assert result.steps <= 8
    assert 4 <= meter.most / b.nbytes <= 2 + 12


def run(n: int) -> tuple[int, float]:
    """Steps, and peak resident memory beyond b and x in float64 vectors, of a solve in a fresh process."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs the high-water mark of Linux' /proc")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(n)], capture_output=True, text=True, check=True)
    steps, vectors = done.stdout.split()
    return int(steps), float(vectors)


@pytest.mark.slow
def test_peak_memory_at_16_million_unknowns():
    steps, vectors = run(255)
    assert steps <= 8
    assert vectors <= 12
