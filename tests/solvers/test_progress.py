"""The progress line, on a stand-in for a terminal."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from rich.console import Console

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.solvers import LinearSystem, Stop, solve
from solvus.solvers.krylov import CG
from solvus.solvers.progress import Progress

F64 = torch.float64


@dataclass
class _Sink:
    """A stand-in for a terminal."""

    text: str = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        return


def test_progress() -> None:
    sink = _Sink()
    system = LinearSystem(Diffusion(Grid((20, 20))), torch.randn(2, 400, dtype=F64))
    stop = Stop(rtol=1e-8)
    with Progress(stop, label="flow", console=Console(file=sink, force_terminal=True, width=100)) as progress:  # type: ignore[arg-type]
        result = solve(system, CG(), stop=stop, callback=progress)
    assert "flow" in sink.text
    assert f"step {result.steps}" in sink.text
    with pytest.raises(RuntimeError, match="`with Progress\\(\\) as progress: solve"):
        solve(system, CG(), callback=progress)


def test_progress_survives_a_zero_residual_and_nan() -> None:
    with Progress(console=Console(file=_Sink(), force_terminal=True)) as progress:  # type: ignore[arg-type]
        for step, residual in enumerate((0.0, float("nan"), float("inf"), 1.0)):
            progress(step, torch.zeros(1), torch.tensor(residual))
