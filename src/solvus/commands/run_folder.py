"""The folder of a training keeps what was asked for, so that another request does not go on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..meshes.whole import write_whole
from ..solvers.training.checkpoint import OtherTraining

PLAN = "plan.json"


def keep_plan(out: Path, plan: Mapping[str, Any], *, resume: bool = False) -> None:
    """Write what is trained on what, or hold it against what the folder has.

    Args:
        out: folder of the run.
        plan: plain values.
        resume: the run must be there already.

    Raises:
        OtherTraining: the folder holds a run with another plan.
        FileExistsError: it holds other files.
        FileNotFoundError: there is no run to resume.
    """
    plan = json.loads(json.dumps(plan))
    file = out / PLAN
    if file.exists():
        if differing := _differing(json.loads(file.read_text()), plan):
            raise OtherTraining(
                f"{out} holds another run, other in {', '.join(differing)}: choose another --out"
            )
        return
    if resume:
        raise FileNotFoundError(
            f"{out} holds no run to go on with: leave out --resume, or name it with --out"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} holds other files: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(file, (json.dumps(plan, indent=2) + "\n").encode())


def forget_plan(out: Path) -> None:
    """Remove the plan, and the folder, where nothing came of it."""
    if [path.name for path in out.iterdir()] == [PLAN]:
        (out / PLAN).unlink()
        out.rmdir()


def _differing(found: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    return [key for key in plan if found.get(key) != plan[key]]
