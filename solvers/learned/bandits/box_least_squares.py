"""Least squares in a box: the exact minimum, by an active set."""

from __future__ import annotations

import numpy as np
from numba import njit

from .base import Floats

_ROUNDS = 60  # of the active set; 12 are rarely passed with 6 unknowns


def work_size(m: int) -> int:
    """Return how many numbers of scratch space `minimize_in_box` needs."""
    return m * m + 4 * m


@njit(cache=True, nogil=True, error_model="numpy")
def _minimize(G: Floats, h: Floats, theta: Floats, free: Floats, held: bool, work: Floats) -> None:
    """Write the minimum into the first m numbers of work; if held, theta_j stays where free_j = 0.

    LDL^T; the rows of those that keep their value are replaced by rows of the identity.
    """
    m = h.shape[0]
    new, inverse, scaled = work[:m], work[m : 2 * m], work[2 * m : 3 * m]
    factor = work[3 * m :]
    for i in range(m):
        row, total, pivot = i * m, h[i], G[i, i]
        if held:
            for j in range(m):
                if free[j] == 0.0:
                    total -= G[i, j] * theta[j]
        for j in range(i):
            entry = G[i, j]
            if held and free[i] * free[j] == 0.0:
                entry = 0.0
            for k in range(j):
                entry -= scaled[k] * factor[j * m + k]
            scaled[j] = entry
            entry *= inverse[j]
            factor[row + j] = entry
            pivot -= scaled[j] * entry
            total -= new[j] * entry
        if held and free[i] == 0.0:
            total, pivot = theta[i], 1.0
        new[i], inverse[i] = total, 1.0 / max(pivot, 1e-14 * G[i, i])
    for i in range(m - 1, -1, -1):
        total = new[i] * inverse[i]
        for k in range(i + 1, m):
            total -= factor[k * m + i] * new[k]
        new[i] = total


@njit(cache=True, nogil=True, error_model="numpy")
def minimize_in_box(G: Floats, h: Floats, box: Floats, theta: Floats, work: Floats) -> bool:
    """Overwrite theta by argmin theta.G theta - 2 theta.h over |theta_j| <= box_j; say if no bound holds it.

    All unknowns are free first; where that leaves the box, a primal active set from theta: towards the
    minimum over the free unknowns until one meets its bound and stays there; at the minimum, the bound that
    holds back most is let go.

    Args:
        G: symmetric positive definite, (m, m).
        h: (m,).
        box: not negative, (m,).
        theta: start and result, (m,); a start near the result saves rounds.
        work: scratch space of `work_size(m)` numbers.
    """
    m = h.shape[0]
    new, free = work[:m], work[3 * m + m * m :]
    _minimize(G, h, theta, free, False, work)
    inside = True
    for j in range(m):
        inside = inside and abs(new[j]) <= box[j]
    if inside:
        for j in range(m):
            theta[j] = new[j]
        return True
    for j in range(m):
        theta[j] = min(max(theta[j], -box[j]), box[j])
        free[j] = 1.0 if abs(theta[j]) < box[j] else 0.0
    for _ in range(_ROUNDS):
        _minimize(G, h, theta, free, True, work)
        share, hit = 1.0, -1
        for j in range(m):
            if free[j] != 0.0 and abs(new[j]) > box[j]:
                reach = (np.copysign(box[j], new[j]) - theta[j]) / (new[j] - theta[j])
                if hit < 0 or reach < share:
                    share, hit = reach, j
        for j in range(m):
            if free[j] != 0.0:
                theta[j] = min(max(theta[j] + share * (new[j] - theta[j]), -box[j]), box[j])
        if hit >= 0:
            theta[hit], free[hit] = np.copysign(box[hit], new[hit]), 0.0
            continue
        worst, release = 0.0, -1
        for j in range(m):
            if free[j] == 0.0 and box[j] > 0.0:
                inwards = -h[j] if theta[j] > 0 else h[j]
                for k in range(m):
                    inwards += G[j, k] * theta[k] if theta[j] > 0 else -G[j, k] * theta[k]
                if inwards > worst and inwards > 1e-12 * G[j, j] * box[j]:
                    worst, release = inwards, j
        if release < 0:
            break
        free[release] = 1.0
    return False
