"""Training with files: history, checkpoints, an answer that can be loaded."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from ...meshes.whole import write_whole
from ..training.checkpoint import FORMAT, FolderInUse, OtherTraining, read_checkpoint
from ..training.outcome import Outcome
from .problem import BoundaryProblem
from .run import Known, Run
from .solution import Solution
from .solver import PINN
from .where import Given

PAUSE = 30.0  # seconds between two checkpoints at least; the first one is written with the first report
_SAME = 0.01  # relative difference of mean squares on two devices, in float32

Watch = Callable[[Run, Mapping[str, Any]], object]


@final
@dataclass(frozen=True)
class Fitted:
    """What came of a training.

    Attributes:
        solution: the functions found.
        outcome: FINISHED, TIMEOUT or STOPPED.
        history: a row per report: step, phase, method, loss, mean square of every residual, unknown
            coefficients, error where there is a reference, evaluations, seconds.
        stops: why each phase ended.
        steps, evaluations, seconds: over all calls.
        residuals: root mean square of every residual at fresh points.
        folder: where it was saved.
    """

    solution: Solution
    outcome: Outcome
    history: list[dict[str, Any]]
    stops: list[str]
    steps: int
    evaluations: int
    seconds: float
    residuals: dict[str, float]
    folder: Path | None = None

    @property
    def error(self) -> float | None:
        """The relative L2 error at the end, None without a reference."""
        return self.history[-1].get("error") if self.history else None

    def __repr__(self) -> str:
        error = "" if self.error is None else f", error {self.error:.2e}"
        worst = max(self.residuals.values())
        return (
            f"Fitted({self.outcome.name}, {self.steps} steps, largest residual {worst:.2e}{error}, "
            f"{self.seconds:.3g} s)"
        )


def fit(
    problem: BoundaryProblem,
    pinn: PINN | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    seconds: float | None = None,
    every: int = 100,
    callbacks: Sequence[Watch] = (),
    reference: Known | None = None,
) -> Fitted:
    """Train a network to solve a problem.

    Args:
        problem: what to solve.
        pinn: how; default `PINN()`.
        out: folder for `training.json`, `history.csv`, `checkpoint.pt` and, at the end, the solution; None
            for no files.
        resume: go on from the checkpoint in `out`: on the same device the result is that of an uninterrupted
            training, to the last bit.
        seconds: time limit of this call.
        every: steps between two rows of the history. The first checkpoint is written after so many steps,
            the others with rows that are 30 s apart, so that an interruption loses little.
        callbacks: called as callback(run, row) at every report after a step; a true return value stops the
            training. `run.solution()` is the function found so far, `run.position.step` the step.
        reference: values to compare with, a `solvus.solvers.pinn.problems.Reference`, or anything with
            `points` (M, D), `values` (M, C) and `outputs`; the error at every report.

    Raises:
        NotFinite: the loss became NaN or infinite.
        FolderInUse: `out` holds a training, and resume is False.
        OtherTraining: `out` holds a training with other settings (more steps among them), or with another
            domain, weights, unknowns or data, or whose residuals are not those of this problem.
        BrokenCheckpoint: the checkpoint in `out` cannot be read.

    >>> from solvus.meshes.geometry import Interval
    >>> from solvus.solvers.optim import SSBroyden
    >>> from solvus.solvers.pinn import Dirichlet, MLP, Phase
    >>> problem = BoundaryProblem(Interval(0, 1), lambda u: u.xx + 2, [Dirichlet(0.0)])
    >>> small = PINN(MLP(width=8, depth=1), (Phase(SSBroyden(), 60),))
    >>> u = fit(problem, small).solution
    >>> bool(abs(u([[0.5]]).item() - 0.25) < 1e-3)
    True
    """
    pinn = pinn or PINN()
    if every < 1:
        raise ValueError(f"every counts steps, it is at least 1, got {every}")
    run = Run(problem, pinn)
    folder = None if out is None else Path(out)
    if folder is not None:
        _open(folder, run, resume=resume)
    begin, written = time.monotonic(), -math.inf
    outcome = Outcome.FINISHED
    if not run.history:
        run.report(reference)
    while not run.done:
        run.advance()
        if run.position.step % every == 0 or run.done:
            row = run.report(reference)
            asked = [bool(callback(run, row)) for callback in callbacks]
            late = time.monotonic() - written > PAUSE
            if folder is not None and late and not run.done:
                _keep(folder, run)
                written = time.monotonic()
            if any(asked) and not run.done:
                outcome = Outcome.STOPPED
                break
        if seconds is not None and time.monotonic() - begin > seconds and not run.done:
            outcome = Outcome.TIMEOUT
            break
    if run.history[-1]["step"] != run.position.step:
        run.report(reference)
    solution, position = run.solution(), run.position
    if folder is not None:
        _keep(folder, run)
        solution.save(folder)
    return Fitted(
        solution,
        outcome,
        run.history,
        run.stops,
        position.step,
        position.evaluations,
        position.seconds,
        solution.residuals(),
        folder,
    )


def _identity(run: Run) -> dict[str, Any]:
    """Return what must not change between two parts of a training: words and numbers.

    They are the same in every process: the code of functions and the device are not in them.
    """
    problem = run.problem
    return {
        "problem": _said(problem),
        "lower": list(problem.lower),
        "upper": list(problem.upper),
        "settings": _said(replace(run.pinn, device=None)),
        "domain": [_said(problem.domain), *map(_said, problem.domain.shapes)],
        "weights": [float(t.block.weight) for t in problem.terms],
        "unknowns": {name: float(u.start) for name, u in problem.unknowns.items()},
        "constrained": sorted(problem.constraint),
        "data": [_digest(t.block.where) for t in problem.terms if isinstance(t.block.where, Given)],
    }


def _said(value: Any) -> str:
    """Return the repr of a value without the addresses of objects in memory.

    >>> _said([lambda x: x])
    '[<function <lambda>>]'
    """
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _digest(given: Given) -> str:
    return hashlib.sha256(given.points.tobytes() + given.measured.tobytes()).hexdigest()[:16]


def _open(folder: Path, run: Run, *, resume: bool) -> None:
    path = folder / "checkpoint.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "training.json", (json.dumps(_identity(run), indent=2) + "\n").encode())
        return
    if not resume:
        raise FolderInUse(
            f"{folder} holds a training: pass resume=True to go on with it, or use another folder"
        )
    values = read_checkpoint(path)
    now = _identity(run)
    faults = [f"{k} was {v}, is {now[k]}" for k, v in values["identity"].items() if v != now[k]]
    if faults:
        raise OtherTraining(f"{path} belongs to another training: {'; '.join(faults)}. Use another folder")
    run.load(values["state"])
    _refuse_other_residuals(path, run, values.get("squares"))


def _squares(run: Run) -> list[float]:
    """Return the mean squares of all residuals, at the points of the training."""
    with torch.no_grad():
        return run.loss.mean_squares(run.theta).tolist()


def _refuse_other_residuals(path: Path, run: Run, saved: list[float] | None) -> None:
    """Raise OtherTraining where a residual is not what it was: its function, which is code, has changed."""
    rounding = (1e4 * torch.finfo(run.theta.dtype).eps) ** 2
    rows = zip(run.problem.labels, saved or [], _squares(run), strict=bool(saved))
    faults = [
        f"the mean square of {label} was {was:.3e}, is {now:.3e}"
        for label, was, now in rows
        if not abs(now - was) <= _SAME * max(was, now) + rounding  # NaN is another value, too
    ]
    if faults:
        raise OtherTraining(
            f"{path} belongs to another training, whose functions were others: at the same parameters and "
            f"points {'; '.join(faults)}. Use another folder"
        )


def _keep(folder: Path, run: Run) -> None:
    """Write checkpoint and history, whole or not at all."""
    buffer = io.BytesIO()
    kept = {"identity": _identity(run), "state": run.values(), "squares": _squares(run)}
    torch.save({"format": FORMAT, **kept}, buffer)
    write_whole(folder / "checkpoint.pt", buffer.getvalue())
    text = io.StringIO()
    names = dict.fromkeys(name for row in run.history for name in row)
    writer = csv.DictWriter(text, list(names), restval="")
    writer.writeheader()
    writer.writerows(run.history)
    write_whole(folder / "history.csv", text.getvalue().encode())
