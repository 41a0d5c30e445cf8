"""ChebCB: exploration by inverse gaps, costs modelled by Chebyshev polynomials in the context."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from numba import njit

from .base import Choose, CompiledLearner, Floats, Learn
from .box_least_squares import minimize_in_box, work_size
from .context_bins import check_interval
from .tsallis_inf import check_floor, draw

# The memory: arms, terms, floor, ridge, low, high, solves, largest loss, smallest loss, scale, eta, sum y^2,
# sum y loss, sum loss^2 (y: what was predicted for the played arm), 2 alpha^2; theta (m, d); for each arm
# G (m, m), the ridge in it, h (m), the sum of squares, and what the fit leaves of it; scratch space, which
# begins with the Chebyshev polynomials and the bounds of theta; predictions and probabilities of the last
# choice (d each).
_HEADER = 15
_SOLVES, _LARGEST, _SMALLEST, _SCALE, _ETA, _Y2, _YL, _L2, _ALPHA = range(6, _HEADER)
_LEAST_RIDGE = 1e-9  # keeps G definite while an arm has seen fewer contexts than terms


def _block(m: int) -> int:
    """Return how many numbers each arm has, theta apart."""
    return m * m + m + 2


def _scratch(m: int) -> int:
    """Return the size of the scratch space: polynomials, box, theta, target, and that of the fit."""
    return 4 * m + work_size(m)


@njit(cache=True, nogil=True, error_model="numpy")
def _features(low: float, high: float, context: float, phi: Floats) -> None:
    """Write T_0, ..., T_(m-1) at the context, moved to [-1, 1] and clipped."""
    z = min(max(2.0 * (context - low) / (high - low) - 1.0, -1.0), 1.0)
    before, now = z, 1.0
    for j in range(phi.shape[0]):
        phi[j] = now
        before, now = now, 2.0 * z * now - before


@njit(cache=True, nogil=True, error_model="numpy")
def choose_chebyshev(memory: Floats, context: float, u: float) -> int:
    """Return the arm to play: the more probable, the smaller its predicted loss."""
    d, m = int(memory[0]), int(memory[1])
    end = memory.shape[0]
    y, p = memory[end - 2 * d : end - d], memory[end - d :]
    work = memory[_HEADER + d * (m * m + 2 * m + 2) : end - 2 * d]
    _features(memory[4], memory[5], context, work[:m])
    for i in range(d):
        y[i] = memory[_HEADER + i]
    for j in range(1, m):
        row, factor = memory[_HEADER + j * d : _HEADER + (j + 1) * d], work[j]
        for i in range(d):
            y[i] += row[i] * factor
    best = 0
    for i in range(1, d):
        if y[i] < y[best]:
            best = i
    eta, lowest, rest = memory[_ETA], y[best], 1.0
    for i in range(d):
        p[i] = 1.0 / (d + eta * (y[i] - lowest))
    p[best] = 0.0
    for i in range(d):
        rest -= p[i]
    p[best] = max(rest, 0.0)
    return draw(p, u)


@njit(cache=True, nogil=True, error_model="numpy")
def _rescale(memory: Floats, box: Floats) -> None:
    """Set the scale, the bounds of theta and 2 alpha^2 by the range of the losses."""
    m = int(memory[1])
    largest = max(memory[_LARGEST], 1e-100)  # K, and L (b - a) in the publication
    spread = memory[_LARGEST] - memory[_SMALLEST]
    N = 2.0 + 4.0 * (spread / largest) * (1.0 + np.log(float(m)))
    scale = largest * N
    memory[_SCALE], box[0] = scale, 1.0 / N
    for j in range(1, m):
        box[j] = 2.0 * spread / (scale * j)
    alpha = (np.pi + 2.0 / np.pi * np.log(2.0 * m + 1.0)) * spread / (2.0 * scale * (m + 1))
    memory[_ALPHA] = 2.0 * alpha * alpha


@njit(cache=True, nogil=True, error_model="numpy")
def _refit(memory: Floats, arm: int, work: Floats) -> None:
    """Fit the polynomial of an arm to its sums, and note the sum of squares that is left."""
    d, m, scale = int(memory[0]), int(memory[1]), memory[_SCALE]
    at = _HEADER + d * m + arm * (m * m + m + 2)
    G, h = memory[at : at + m * m].reshape((m, m)), memory[at + m * m : at + m * m + m]
    box, theta, target = work[m : 2 * m], work[2 * m : 3 * m], work[3 * m : 4 * m]
    for j in range(m):
        theta[j], target[j] = memory[_HEADER + j * d + arm], h[j] / scale
    bounded = not minimize_in_box(G, target, box, theta, work[4 * m :])
    total = memory[at + m * m + m] / (scale * scale)
    for j in range(m):
        product = target[j]  # of G and theta
        if bounded:
            product = 0.0
            for k in range(m):
                product += G[j, k] * theta[k]
        total += theta[j] * (product - 2.0 * target[j] - memory[3] * theta[j])
        memory[_HEADER + j * d + arm] = theta[j]
    memory[at + m * m + m + 1] = max(total, 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def learn_chebyshev(memory: Floats, context: float, arm: int, loss: float) -> None:
    """Add the loss to the sums of the arm, fit its polynomial anew (all where the scale changed), set eta."""
    d, m, floor = int(memory[0]), int(memory[1]), memory[2]
    block, end = m * m + m + 2, memory.shape[0]
    arms = _HEADER + d * m
    work = memory[arms + d * block : end - 2 * d]
    _features(memory[4], memory[5], context, work[:m])
    at, above, predicted = arms + arm * block, loss - floor, memory[end - 2 * d + arm]
    for j in range(m):
        memory[at + m * m + j] += work[j] * above
        for k in range(m):
            memory[at + j * m + k] += work[j] * work[k]
    memory[at + m * m + m] += above * above
    memory[_Y2] += predicted * predicted
    memory[_YL] += predicted * loss
    memory[_L2] += loss * loss
    first = memory[_SOLVES] == 0.0
    memory[_SOLVES] += 1.0
    if first or loss > memory[_LARGEST] or loss < memory[_SMALLEST]:
        memory[_LARGEST] = loss if first else max(memory[_LARGEST], loss)
        memory[_SMALLEST] = loss if first else min(memory[_SMALLEST], loss)
        _rescale(memory, work[m : 2 * m])
        for i in range(d):
            _refit(memory, i, work)
    else:
        _refit(memory, arm, work)
    left = 0.0
    for i in range(d):
        left += memory[arms + i * block + block - 1]

    t, scale = memory[_SOLVES], memory[_SCALE]
    R = memory[_Y2] - 2.0 * memory[_YL] / scale + memory[_L2] / (scale * scale)
    excess = max(R - left + memory[_ALPHA] * t, 1e-12)
    memory[_ETA] = 2.0 * t * np.sqrt(d * t / excess)


@final
class ChebCB(CompiledLearner):
    """Choose by a context: as good, after a while, as the best arm for each context.

        loss of arm i at context c, over a scale  ~  y_i(c) = sum_j theta_ij T_j(z),   z = c moved to [-1, 1]
        p_i = 1 / (arms + eta (y_i - min y)) for all arms but the best, which takes the rest

    theta by least squares with the penalty ridge * sum_j theta_ij^2, bounded as the coefficients of a
    Lipschitz function are; eta, 0 at the start (all arms alike), grows with the number of solves as the
    predictions prove right. Sums of products replace the history, so that a step takes less than a
    microsecond, at any time, for 20 arms and 6 terms.

    Args:
        arms: number of arms.
        interval: range of the contexts; those beyond its ends count as its ends.
        terms: coefficients of each polynomial, its degree plus one.
        floor: the least possible loss: 1 for steps of an iteration, 0 for seconds.
        ridge: weight of the penalty, in solves; 0 is the published method.

    Good values: 6 terms; ridge 0.03, with which a few solves of an arm do not let its polynomial swing; the
    constant is penalised too, so that arms are tried where little is known of them: a penalty on the slopes
    alone was better on smooth costs and missed the best arm on others. Choose a context in which the cost is
    smooth: the logarithm of a step length rather than the step length.
    Source: Khodak, Chow, Balcan and Talwalkar (2024), ChebCB; Foster and Rakhlin (2020), SquareCB.

    Raises:
        ValueError: for no arms or terms, an empty range, a negative floor or ridge.

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
        self,
        arms: int,
        interval: tuple[float, float],
        *,
        terms: int = 6,
        floor: float = 0.0,
        ridge: float = 0.03,
    ) -> None:
        if terms < 1:
            raise ValueError(f"a polynomial has at least 1 term, got {terms}")
        if not (np.isfinite(ridge) and ridge >= 0):
            raise ValueError(f"ridge is the weight of a penalty, finite and not negative, got {ridge}")
        self.interval, self.terms, self.floor = check_interval(interval), terms, check_floor(floor)
        self.ridge = float(ridge)
        d = max(arms, 0)
        memory = np.zeros(_HEADER + d * (terms + _block(terms) + 2) + _scratch(terms))
        memory[:6] = arms, terms, self.floor, max(self.ridge, _LEAST_RIDGE), *self.interval
        at = _HEADER + d * terms
        blocks = memory[at : at + d * _block(terms)].reshape(d, _block(terms))
        blocks[:, 0 : terms * terms : terms + 1] = memory[3]
        memory[len(memory) - d :] = 1 / max(d, 1)
        super().__init__(arms, memory)

    def predict(self, context: float) -> Floats:
        """Return the losses that are expected of all arms at a context, (arms,)."""
        theta = self._memory[_HEADER : _HEADER + self.arms * self.terms].reshape(self.terms, self.arms)
        phi = np.empty(self.terms)
        _features(*self.interval, context, phi)
        return self.floor + self._memory[_SCALE] * phi @ theta

    @property
    def probabilities(self) -> Floats:
        """Probabilities of the last choice, (arms,)."""
        return self._memory[len(self._memory) - self.arms :].copy()

    def settings(self) -> dict[str, Any]:
        """Return arms, range, terms, floor and ridge."""
        return {
            "arms": self.arms,
            "interval": list(self.interval),
            "terms": self.terms,
            "floor": self.floor,
            "ridge": self.ridge,
        }
