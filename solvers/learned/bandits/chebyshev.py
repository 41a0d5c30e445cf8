"""ChebCB: exploration by inverse gaps, costs modelled by Chebyshev polynomials in the context."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from numba import njit

from .base import Choose, CompiledLearner, Floats, Learn
from .context_bins import check_interval
from .tsallis_inf import check_floor, draw

# The memory: arms, terms, floor, low, high, solves, largest loss, smallest loss, scale, eta, sum y^2,
# sum y loss, sum loss^2 (y: what was predicted for the played arm); then, for all arms, theta (d, m),
# G (d, m, m), h (d, m), s, resnorm, predictions and probabilities of the last choice (d each).
_HEADER = 13
_SOLVES, _LARGEST, _SMALLEST, _SCALE, _ETA, _Y2, _YL, _L2 = range(5, _HEADER)
_SWEEPS = 5  # each fit goes on where the last one of that arm stopped


@njit(cache=True, nogil=True)
def _features(memory: Floats, context: float, m: int) -> Floats:
    """Return T_0, ..., T_(m-1) at the context, moved to [-1, 1] and clipped."""
    low, high = memory[3], memory[4]
    z = min(max(2.0 * (context - low) / (high - low) - 1.0, -1.0), 1.0)
    phi = np.empty(m)
    phi[0] = 1.0
    if m > 1:
        phi[1] = z
    for j in range(2, m):
        phi[j] = 2.0 * z * phi[j - 1] - phi[j - 2]
    return phi


@njit(cache=True, nogil=True)
def choose_chebyshev(memory: Floats, context: float, u: float) -> int:
    """Return the arm to play: the more probable, the smaller its predicted loss."""
    d, m = int(memory[0]), int(memory[1])
    y = memory[memory.shape[0] - 2 * d : memory.shape[0] - d]
    p = memory[memory.shape[0] - d :]
    phi = _features(memory, context, m)
    best = 0
    for i in range(d):
        total = 0.0
        for j in range(m):
            total += memory[_HEADER + i * m + j] * phi[j]
        y[i] = total
        if total < y[best]:
            best = i
    rest = 1.0
    for i in range(d):
        if i != best:
            p[i] = 1.0 / (d + memory[_ETA] * (y[i] - y[best]))
            rest -= p[i]
    p[best] = max(rest, 0.0)
    return draw(p, u)


@njit(cache=True, nogil=True)
def _least_squares(G: Floats, h: Floats, theta: Floats) -> bool:
    """Overwrite theta by G^-1 h (Cholesky); leave it and return False where G is close to singular."""
    m = h.shape[0]
    factor = np.empty((m, m))
    for i in range(m):
        for j in range(i + 1):
            total = G[i, j]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if j < i:
                factor[i, j] = total / factor[j, j]
            elif total <= 1e-12 * G[i, i]:
                return False
            else:
                factor[i, i] = np.sqrt(total)
    for i in range(m):
        total = h[i]
        for k in range(i):
            total -= factor[i, k] * theta[k]
        theta[i] = total / factor[i, i]
    for i in range(m - 1, -1, -1):
        total = theta[i]
        for k in range(i + 1, m):
            total -= factor[k, i] * theta[k]
        theta[i] = total / factor[i, i]
    return True


@njit(cache=True, nogil=True)
def fit(G: Floats, h: Floats, box: Floats, theta: Floats) -> None:
    """Overwrite theta by argmin theta.G theta - 2 theta.h over |theta_j| <= box_j.

    Least squares first; where they are not unique or leave the box, a few sweeps of coordinate descent from
    theta, which is the last fit: the minimum is approached over the steps of the learner, not in each.
    """
    m = h.shape[0]
    start = theta.copy()
    inside = _least_squares(G, h, theta)
    for j in range(m):
        inside = inside and abs(theta[j]) <= box[j]
    if inside:
        return
    for j in range(m):
        theta[j] = min(max(start[j], -box[j]), box[j])
    for _ in range(_SWEEPS):
        change = 0.0
        for j in range(m):
            if G[j, j] <= 0.0:
                continue
            gradient = h[j]
            for k in range(m):
                gradient -= G[j, k] * theta[k]
            new = min(max(theta[j] + gradient / G[j, j], -box[j]), box[j])
            change = max(change, abs(new - theta[j]) - 1e-6 * box[j])
            theta[j] = new
        if change <= 0.0:
            break


@njit(cache=True, nogil=True)
def learn_chebyshev(memory: Floats, context: float, arm: int, loss: float) -> None:
    """Add the loss to the sums of the arm, fit its polynomial anew (all where the scale changed), set eta."""
    d, m = int(memory[0]), int(memory[1])
    floor, width = memory[2], memory[4] - memory[3]
    at = _HEADER
    thetas = memory[at : at + d * m].reshape((d, m))
    at += d * m
    Gs = memory[at : at + d * m * m].reshape((d, m, m))
    at += d * m * m
    hs = memory[at : at + d * m].reshape((d, m))
    at += d * m
    s, resnorms, y = memory[at : at + d], memory[at + d : at + 2 * d], memory[at + 2 * d : at + 3 * d]

    phi = _features(memory, context, m)
    above = loss - floor
    for j in range(m):
        hs[arm, j] += phi[j] * above
        for k in range(m):
            Gs[arm, j, k] += phi[j] * phi[k]
    s[arm] += above * above
    memory[_Y2] += y[arm] * y[arm]
    memory[_YL] += y[arm] * loss
    memory[_L2] += loss * loss
    first = memory[_SOLVES] == 0.0
    memory[_SOLVES] += 1.0
    memory[_LARGEST] = loss if first else max(memory[_LARGEST], loss)
    memory[_SMALLEST] = loss if first else min(memory[_SMALLEST], loss)

    K = max(memory[_LARGEST], 1e-100)
    L = (memory[_LARGEST] - memory[_SMALLEST]) / width
    N = 2.0 + 4.0 * width * (L / K) * (1.0 + np.log(float(m)))
    scale = K * N
    changed = scale != memory[_SCALE]
    memory[_SCALE] = scale
    box = np.empty(m)
    box[0] = 1.0 / N
    for j in range(1, m):
        box[j] = 2.0 * width * L / (scale * j)
    resnorm = 0.0
    for i in range(d):
        if changed or i == arm:
            target = hs[i] / scale
            fit(Gs[i], target, box, thetas[i])
            total = s[i] / scale**2
            for j in range(m):
                total -= 2.0 * thetas[i, j] * target[j]
                for k in range(m):
                    total += thetas[i, j] * Gs[i, j, k] * thetas[i, k]
            resnorms[i] = max(total, 0.0)
        resnorm += resnorms[i]

    t = memory[_SOLVES]
    alpha = (np.pi + 2.0 / np.pi * np.log(2.0 * m + 1.0)) * width * L / (2.0 * scale * (m + 1))
    R = memory[_Y2] - 2.0 * memory[_YL] / scale + memory[_L2] / scale**2
    excess = max(R - resnorm + 2.0 * alpha * alpha * t, 1e-12)
    memory[_ETA] = 2.0 * t * np.sqrt(d * t / excess)


@final
class ChebCB(CompiledLearner):
    """Choose by a context: as good, after a while, as the best arm for each context.

        loss of arm i at context c, over a scale  ~  y_i(c) = sum_j theta_ij T_j(z),   z = c moved to [-1, 1]
        p_i = 1 / (arms + eta (y_i - min y)) for all arms but the best, which takes the rest

    theta by least squares, bounded as the coefficients of a Lipschitz function are; eta, 0 at the start (all
    arms alike), grows with the number of solves as the predictions prove right. Sums of products replace the
    history, so that a step takes about two microseconds, at any time, for 20 arms and 6 terms.

    Args:
        arms: number of arms.
        interval: range of the contexts; those beyond its ends count as its ends.
        terms: coefficients of each polynomial, its degree plus one.
        floor: the least possible loss: 1 for steps of an iteration, 0 for seconds.

    Good values: 6 terms. Choose a context in which the cost is smooth: the logarithm of a step length rather
    than the step length.
    Source: Khodak, Chow, Balcan and Talwalkar (2024), ChebCB; Foster and Rakhlin (2020), SquareCB.

    Raises:
        ValueError: for no arms or terms, an empty range, or a negative floor.

    >>> learner, generator = ChebCB(2, (0.0, 1.0), terms=3), np.random.default_rng(0)
    >>> for context in generator.random(500):
    ...     arm = learner.choose(context, generator)
    ...     learner.learn(context, arm, 1.0 + abs(arm - context))
    >>> [int(np.argmin(learner.predict(context))) for context in (0.1, 0.9)]
    [0, 1]
    """

    contextual: ClassVar[bool] = True
    kernels: ClassVar[tuple[Choose, Learn]] = (choose_chebyshev, learn_chebyshev)

    def __init__(
        self, arms: int, interval: tuple[float, float], *, terms: int = 6, floor: float = 0.0
    ) -> None:
        if terms < 1:
            raise ValueError(f"a polynomial has at least 1 term, got {terms}")
        self.interval, self.terms, self.floor = check_interval(interval), terms, check_floor(floor)
        memory = np.zeros(_HEADER + max(arms, 0) * (2 * terms + terms**2 + 4))
        memory[:5] = arms, terms, floor, *self.interval
        memory[len(memory) - max(arms, 0) :] = 1 / max(arms, 1)
        super().__init__(arms, memory)

    def predict(self, context: float) -> Floats:
        """Return the losses that are expected of all arms at a context, (arms,)."""
        thetas = self._memory[_HEADER : _HEADER + self.arms * self.terms].reshape(self.arms, self.terms)
        return self.floor + self._memory[_SCALE] * thetas @ _features(self._memory, context, self.terms)

    @property
    def probabilities(self) -> Floats:
        """Probabilities of the last choice, (arms,)."""
        return self._memory[len(self._memory) - self.arms :].copy()

    def settings(self) -> dict[str, Any]:
        """Return arms, range, terms and floor."""
        return {
            "arms": self.arms,
            "interval": list(self.interval),
            "terms": self.terms,
            "floor": float(self.floor),
        }
