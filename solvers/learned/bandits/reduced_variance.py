"""Tsallis-INF with importance weights around a baseline."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from numba import njit

from .base import Choose, CompiledLearner, Floats, Learn
from .tsallis_inf import HEADER, draw, starting_memory, tsallis_probabilities


@njit(cache=True, nogil=True)
def choose_reduced(memory: Floats, context: float, u: float) -> int:
    """Return the arm to play, and move the baselines of the arms that are played often enough."""
    d = (memory.shape[0] - HEADER) // 3
    k, shift, p = (
        memory[HEADER : HEADER + d],
        memory[HEADER + d : HEADER + 2 * d],
        memory[HEADER + 2 * d :],
    )
    floor, solves, total = memory[0], memory[1], memory[2]
    scale = max(total / solves - floor, 1e-9) if solves > 0 else 1.0
    t = solves + 1.0
    tsallis_probabilities(k / scale + shift, 4.0 / np.sqrt(t), p)
    arm = draw(p, u)
    if t >= 16.0:
        for j in range(d):
            if t * p[j] >= 16.0:  # p >= eta^2
                shift[j] += 0.5
        if t * p[arm] >= 16.0:
            shift[arm] -= 0.5 / p[arm]
    return arm


@njit(cache=True, nogil=True)
def learn_reduced(memory: Floats, context: float, arm: int, loss: float) -> None:
    """Add the loss, weighted by its probability, to the estimate of the arm."""
    d = (memory.shape[0] - HEADER) // 3
    memory[HEADER + arm] += (loss - memory[0]) / memory[HEADER + 2 * d + arm]
    memory[1] += 1.0
    memory[2] += loss


@final
class ReducedVarianceTsallisINF(CompiledLearner):
    """Choose without contexts, as `TsallisINF`, with estimates of smaller variance.

    The loss of arm i over the mean loss is estimated by 1/2 + (loss / scale - 1/2) / p_i when it was played
    and by 1/2 when it was not, for arms with p_i >= eta^2 = 16 / t; the others as in Tsallis-INF.

    Args:
        arms: number of arms.
        floor: the least possible loss: 1 for steps of an iteration, 0 for seconds.

    Source: Zimmert and Seldin (2021), section 3; used for preconditioners by Khodak, Jung, Wynne, Chow and
    Kolemen (2025).

    Raises:
        ValueError: for no arms or a negative floor.

    >>> learner, generator = ReducedVarianceTsallisINF(3), np.random.default_rng(0)
    >>> for _ in range(500):
    ...     arm = learner.choose(0.0, generator)
    ...     learner.learn(0.0, arm, [5.0, 2.0, 9.0][arm])
    >>> int(np.argmax(learner.probabilities))
    1
    """

    kernels: ClassVar[tuple[Choose, Learn]] = (choose_reduced, learn_reduced)

    def __init__(self, arms: int, *, floor: float = 0.0) -> None:
        super().__init__(arms, starting_memory(arms, floor, 2))
        self.floor = floor

    @property
    def probabilities(self) -> Floats:
        """Probabilities of the last choice, (arms,)."""
        return self._memory[HEADER + 2 * self.arms :].copy()

    def settings(self) -> dict[str, Any]:
        """Return arms and floor."""
        return {"arms": self.arms, "floor": float(self.floor)}
