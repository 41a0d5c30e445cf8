"""Tsallis-INF: follow the regularised leader with Tsallis entropy of order 1/2."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from numba import njit

from .base import Choose, CompiledLearner, Floats, Learn

HEADER = 3  # floor, number of solves, their total loss; then the estimates and the probabilities of all arms
_NEWTON = 60


@njit(cache=True, nogil=True)
def tsallis_probabilities(estimates: Floats, eta: float, p: Floats) -> None:
    """Write p_i = 4 / (eta (l_i - x))^2 with x < min l such that they sum to one.

    Newton from x = min l - 2 / eta, where the sum is at least one; the sum is convex and increasing in x, so
    that Newton descends to the root without passing it, also for negative estimates.
    """
    d = estimates.shape[0]
    lowest = estimates[0]
    for i in range(1, d):
        lowest = min(lowest, estimates[i])
    y = 2.0 / eta  # lowest - x, without the cancellation
    total = 1.0
    for _ in range(_NEWTON):
        total = slope = 0.0
        for i in range(d):
            root = 2.0 / (eta * (estimates[i] - lowest + y))
            p[i] = root * root
            total += p[i]
            slope += p[i] * root
        step = (total - 1.0) / (eta * slope)
        if step <= 1e-15 * y:
            break
        y += step
    for i in range(d):
        p[i] /= total


@njit(cache=True, nogil=True)
def draw(p: Floats, u: float) -> int:
    """Return i with probability p_i, for u uniform in [0, 1)."""
    last = 0
    for i in range(p.shape[0]):
        if p[i] > 0.0:
            last = i
            u -= p[i]
            if u < 0.0:
                break
    return last


@njit(cache=True, nogil=True)
def choose_tsallis(memory: Floats, context: float, u: float) -> int:
    """Return the arm to play."""
    d = (memory.shape[0] - HEADER) // 2
    k, p = memory[HEADER : HEADER + d], memory[HEADER + d :]
    floor, t, total = memory[0], memory[1], memory[2]
    scale = max(total / t - floor, 1e-9) if t > 0 else 1.0
    tsallis_probabilities(k / scale, 2.0 / np.sqrt(t + 1.0), p)
    return draw(p, u)


@njit(cache=True, nogil=True)
def learn_tsallis(memory: Floats, context: float, arm: int, loss: float) -> None:
    """Add the loss, weighted by its probability, to the estimate of the arm."""
    d = (memory.shape[0] - HEADER) // 2
    memory[HEADER + arm] += (loss - memory[0]) / memory[HEADER + d + arm]
    memory[1] += 1.0
    memory[2] += loss


def check_floor(floor: float) -> float:
    """Return the floor of the losses, rejecting what is negative or not finite."""
    if not (np.isfinite(floor) and floor >= 0):
        raise ValueError(f"floor is the least possible loss, finite and not negative, got {floor}")
    return float(floor)


def starting_memory(arms: int, floor: float, vectors: int) -> Floats:
    """Return a memory with some vectors of zeros and, last, the uniform probabilities."""
    zeros = np.zeros(vectors * max(arms, 0))
    return np.concatenate([[check_floor(floor), 0.0, 0.0], zeros, np.full(max(arms, 0), 1 / max(arms, 1))])


@final
class TsallisINF(CompiledLearner):
    """Choose without contexts: nearly as good as the best single arm, whatever the costs do.

    p = argmin_p <p, k> / scale - (4 / eta) sum_i sqrt(p_i) over the simplex,   eta = 2 / sqrt(t),

    with k_i the sum of (loss - floor) / p_i over the plays of arm i, and scale the mean of loss - floor. The
    regret against the best arm in hindsight grows as sqrt(arms * solves), and as a logarithm where costs are
    random and one arm is best.

    Args:
        arms: number of arms.
        floor: the least possible loss: 1 for steps of an iteration, 0 for seconds.

    Source: Zimmert and Seldin (2021); scale and floor: Khodak, Chow, Balcan and Talwalkar (2024).

    Raises:
        ValueError: for no arms or a negative floor.

    >>> learner, generator = TsallisINF(3), np.random.default_rng(0)
    >>> for _ in range(500):
    ...     arm = learner.choose(0.0, generator)
    ...     learner.learn(0.0, arm, [5.0, 2.0, 9.0][arm])
    >>> int(np.argmax(learner.probabilities))
    1
    """

    kernels: ClassVar[tuple[Choose, Learn]] = (choose_tsallis, learn_tsallis)

    def __init__(self, arms: int, *, floor: float = 0.0) -> None:
        super().__init__(arms, starting_memory(arms, floor, 1))
        self.floor = floor

    @property
    def probabilities(self) -> Floats:
        """Probabilities of the last choice, (arms,)."""
        return self._memory[HEADER + self.arms :].copy()

    def settings(self) -> dict[str, Any]:
        """Return arms and floor."""
        return {"arms": self.arms, "floor": float(self.floor)}
