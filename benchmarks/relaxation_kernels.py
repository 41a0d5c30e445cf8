"""Compiled loops of learning_to_relax.py: SSOR-CG on the five-point stencil, SOR, decisions in between.

States and vectors lie in a ring of zeros, (n + 2, n + 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

Kernels = tuple[Callable[..., Any], Callable[..., Any]]
DT, FORCING, RADIUS, RTOL, MOST = 1e-3, 32.0, 0.125, 1e-8, 10_000
LOOK = 50  # every so many solves the true residual is computed


@njit(cache=True)
def _keep(memory, context, u):
    return int(memory[0])


@njit(cache=True)
def _ignore(memory, context, arm, loss):
    pass


single: Kernels = (_keep, _ignore)


def binned(choose: Callable[..., Any], learn: Callable[..., Any]) -> Kernels:
    """Return the kernels of learners in bins; the memory is low, high, bins, and theirs in turn."""

    @njit
    def block(memory, context):
        bins = int(memory[2])
        k = int((context - memory[0]) / (memory[1] - memory[0]) * bins)
        k, size = min(max(k, 0), bins - 1), (memory.shape[0] - 3) // bins
        return memory[3 + k * size : 3 + (k + 1) * size]

    @njit
    def choose_in_bin(memory, context, u):
        return choose(block(memory, context), context, u)

    @njit
    def learn_in_bin(memory, context, arm, loss):
        learn(block(memory, context), context, arm, loss)

    return choose_in_bin, learn_in_bin


@njit
def replay(choose, learn, memory, contexts, uniforms, steps, arms):
    """Make the decisions of a run once more, given the steps that they led to."""
    for t in range(contexts.shape[0]):
        arms[t] = choose(memory, contexts[t], uniforms[t])
        learn(memory, contexts[t], arms[t], float(steps[t]))


# --- heat: (Id + g L) u_1 = (Id - g L) u + dt f, L the stencil 4, -1 ----------------------------------------


@njit(cache=True)
def heat_rhs(u, b, g, cx, cy):
    """Write the right-hand side of a step into b; return its norm."""
    n = u.shape[0] - 2
    h, total = 1.0 / (n + 1), 0.0
    for i in range(1, n + 1):
        dx = (i * h - cx) / RADIUS
        for j in range(1, n + 1):
            value = (1.0 - 4.0 * g) * u[i, j] + g * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])
            dy = (j * h - cy) / RADIUS
            inside = 1.0 - dx * dx - dy * dy
            if inside > 0.0:
                value += DT * FORCING * np.exp(1.0 - 1.0 / inside)
            b[i, j] = value
            total += value * value
    return np.sqrt(total)


@njit(cache=True)
def precondition(r, z, g, omega):
    """Solve M z = r, M = X^T D^-1 X / (omega (2 - omega)), X = D + omega tril(A, -1); return r.z."""
    n, total = r.shape[0] - 2, 0.0
    if omega == 0.0:
        for i in range(1, n + 1):
            for j in range(1, n + 1):
                z[i, j] = r[i, j]
                total += r[i, j] * r[i, j]
        return total
    d, w = 1.0 + 4.0 * g, omega * g
    inverse, factor = 1.0 / d, omega * (2.0 - omega) * d
    for i in range(n, 0, -1):  # the backward sweep first
        for j in range(n, 0, -1):
            z[i, j] = (r[i, j] + w * (z[i + 1, j] + z[i, j + 1])) * inverse
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            z[i, j] = (factor * z[i, j] + w * (z[i - 1, j] + z[i, j - 1])) * inverse
            total += r[i, j] * z[i, j]
    return total


@njit(cache=True)
def multiply(p, q, g):
    """Write (Id + g L) p into q; return p.q."""
    n, total = p.shape[0] - 2, 0.0
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            q[i, j] = (1.0 + 4.0 * g) * p[i, j] - g * (p[i - 1, j] + p[i + 1, j] + p[i, j - 1] + p[i, j + 1])
            total += p[i, j] * q[i, j]
    return total


@njit(cache=True)
def difference(b, q, r):
    """Write b - q into r; return its norm."""
    n, total = b.shape[0] - 2, 0.0
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            r[i, j] = b[i, j] - q[i, j]
            total += r[i, j] * r[i, j]
    return np.sqrt(total)


@njit(cache=True)
def heat_solve(u, b, size, g, omega, work):
    """Improve u by SSOR-CG until the recursive residual is at most 1e-8 ||b||; return the iterations."""
    n = u.shape[0] - 2
    r, z, p, q = work[0], work[1], work[2], work[3]
    multiply(u, q, g)
    norm, old, steps = difference(b, q, r), 1.0, 0
    while norm > RTOL * size and steps < MOST:
        rz = precondition(r, z, g, omega)
        beta = 0.0 if steps == 0 else rz / old
        for i in range(1, n + 1):
            for j in range(1, n + 1):
                p[i, j] = z[i, j] + beta * p[i, j]
        old = rz
        alpha, total = rz / multiply(p, q, g), 0.0
        for i in range(1, n + 1):
            for j in range(1, n + 1):
                u[i, j] += alpha * p[i, j]
                r[i, j] -= alpha * q[i, j]
                total += r[i, j] * r[i, j]
        norm = np.sqrt(total)
        steps += 1
    return steps


@njit
def heat_roll(choose, learn, memory, inputs, omegas, state):
    """Take the steps of the sequence; return the largest true relative residual that was looked at.

    `inputs`: scaled diffusivities, centres, contexts, uniforms; `state`: u, arms and steps, overwritten.
    """
    g, centres, contexts, uniforms = inputs
    u, arms, steps = state
    b, work, worst = np.zeros_like(u), np.zeros((4, *u.shape)), 0.0
    for t in range(uniforms.shape[0]):
        arms[t] = choose(memory, contexts[t], uniforms[t])
        size = heat_rhs(u, b, g[t], centres[t, 0], centres[t, 1])
        steps[t] = heat_solve(u, b, size, g[t], omegas[arms[t]], work)
        learn(memory, contexts[t], arms[t], float(steps[t]))
        if t % LOOK == 0 or t == uniforms.shape[0] - 1:
            multiply(u, work[3], g[t])
            worst = max(worst, difference(b, work[3], work[0]) / size)
    return worst


@njit(cache=True)
def heat_table(u, g, centres, omegas):
    """Return the iterations of all arms from each state (T, d); the state goes on with the fewest."""
    b, work = np.zeros_like(u), np.zeros((4, *u.shape))
    trial, best = np.zeros_like(u), np.zeros_like(u)
    steps = np.zeros((g.shape[0], omegas.shape[0]), dtype=np.int64)
    for t in range(g.shape[0]):
        size = heat_rhs(u, b, g[t], centres[t, 0], centres[t, 1])
        fewest = MOST + 1
        for i in range(omegas.shape[0]):
            trial[:] = u
            steps[t, i] = heat_solve(trial, b, size, g[t], omegas[i], work)
            if steps[t, i] < fewest:
                fewest = steps[t, i]
                best[:] = trial
        u[:] = best
    return steps


# --- SOR on (L + c Id) u = b, from zero ---------------------------------------------------------------------


@njit(cache=True)
def sor_residual(u, b, c):
    """Return ||b - (L + c Id) u||."""
    n, total = u.shape[0] - 2, 0.0
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            r = b[i, j] - (4.0 + c) * u[i, j] + u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1]
            total += r * r
    return np.sqrt(total)


@njit(cache=True)
def sor_solve(u, b, c, omega):
    """Overwrite u by the SOR iterate with a residual of at most 1e-8 ||b||; return the sweeps."""
    n, steps = u.shape[0] - 2, 0
    u[:] = 0.0
    target, scaled = RTOL * sor_residual(u, b, c), omega / (4.0 + c)
    while steps < MOST and sor_residual(u, b, c) > target:
        for i in range(1, n + 1):
            for j in range(1, n + 1):
                old = (b[i, j] + u[i + 1, j] + u[i, j + 1]) + u[i - 1, j]  # u[i, j - 1] is ready last
                u[i, j] = scaled * old + (1.0 - omega) * u[i, j] + scaled * u[i, j - 1]
        steps += 1
    return steps


@njit
def sor_roll(choose, learn, memory, inputs, omegas, state):
    """Solve the systems; return the largest true relative residual that was looked at.

    `inputs`: right-hand sides, contexts, uniforms; `state`: u, arms and steps, overwritten.
    """
    rhs, contexts, uniforms = inputs
    u, arms, steps = state
    worst, zero = 0.0, np.zeros_like(u)
    for t in range(uniforms.shape[0]):
        arms[t] = choose(memory, contexts[t], uniforms[t])
        steps[t] = sor_solve(u, rhs[t], contexts[t], omegas[arms[t]])
        learn(memory, contexts[t], arms[t], float(steps[t]))
        if t % LOOK == 0:
            size = sor_residual(zero, rhs[t], contexts[t])
            worst = max(worst, sor_residual(u, rhs[t], contexts[t]) / size)
    return worst


@njit(cache=True)
def sor_table(rhs, contexts, omegas):
    """Return the sweeps of all arms for each system, (T, d)."""
    u = np.zeros_like(rhs[0])
    steps = np.zeros((rhs.shape[0], omegas.shape[0]), dtype=np.int64)
    for t in range(rhs.shape[0]):
        for i in range(omegas.shape[0]):
            steps[t, i] = sor_solve(u, rhs[t], contexts[t], omegas[i])
    return steps
