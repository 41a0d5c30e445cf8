"""What training a learned part of a linear solver by name takes and gives: see `listing` for the parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from ..solvers.base import Solver, Status, Stop, solve
from ..solvers.learned.part import LearnedPart
from ..solvers.system import LinearSystem
from ..solvers.training.logs import Callback
from ..solvers.training.outcome import Outcome

LONGEST = 60.0  # seconds of a solve that compares


@final
@dataclass(frozen=True)
class Request:
    """What a training function is asked for, besides the network and the settings of its training.

    Attributes:
        out: folder for checkpoints and history; it may hold those of an earlier call, to go on from.
        seed: of the data.
        device: where to train; the network is there.
        seconds: limit of this call; None for none.
        show: makes a callback that shows one training.
    """

    out: Path
    seed: int
    device: torch.device
    seconds: float | None
    show: Callable[[], Callback]


@final
@dataclass(frozen=True)
class Ended:
    """What came of a training.

    Attributes:
        part: what is to be saved: the network that was trained.
        outcome: FINISHED or TIMEOUT.
        steps, seconds: over all calls.
        rows: what the validation says, as names and words.
        metrics: the same as plain values, for the card.
    """

    part: LearnedPart
    outcome: Outcome
    steps: int
    seconds: float
    rows: list[tuple[str, str]]
    metrics: dict[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class PartPlan:
    """A part of a linear solver that can be trained by name.

    Attributes:
        says: what it is, in a line.
        config: settings of the network with their defaults, a frozen dataclass.
        make: makes the network from them; None where the part is computed.
        training: settings of the training with their defaults, a frozen dataclass: steps, size (a tuple),
            learning_rate and batch, as far as it has them, and further ones.
        run: (network, settings of the training, request) -> `Ended`; trains the network in place.
        valid: what the validation value says.
        imports: lines of Python that the line `use` needs.
        use: line of Python that loads the part, from `{folder}`, and solves `system` with it.
        least: smallest size.
        follow: defaults of the training that follow the settings of the network.
        check: (network, settings of the training) raises ValueError where they do not go together.
        cpu_only: it is not trained on other devices.
    """

    says: str
    config: Any
    make: Callable[[Any], LearnedPart] | None
    training: Any
    run: Callable[[Any, Any, Request], Ended]
    imports: tuple[str, ...]
    use: str
    valid: str
    least: int = 1
    follow: Callable[[Any], Mapping[str, Any]] = lambda config: {}
    check: Callable[[Any, Any], None] = lambda network, training: None
    cpu_only: bool = False


def compared(
    system: LinearSystem, with_part: Solver, without: Solver, names: tuple[str, str], rtol: float
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Solve a system with a part and without it, and return the steps as words and as values.

    Args:
        system: one that was not trained on.
        with_part, without: the solvers; each may take a minute.
        names: of both.
        rtol: tolerance.
    """
    counts, words = {}, []
    for name, solver in zip(names, (with_part, without), strict=True):
        result = solve(system, solver, stop=Stop(rtol=rtol, max_steps=2000, seconds=LONGEST), throw=False)
        good = result.status is Status.CONVERGED
        words.append(f"{result.steps} steps of {name}{'' if good else f' ({result.status.name})'}")
        counts[f"steps of {name}"] = result.steps if good else result.status.name
    return [("solve", f"{words[0]}, {words[1]}, to {rtol:g}")], counts
