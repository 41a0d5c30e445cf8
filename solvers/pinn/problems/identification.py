"""Find a coefficient field from noisy observations of the solution: regularised Gauss-Newton, all at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

Floats = NDArray[np.float64]
Weights = tuple[float, ...]

_GUARD = 1.4  # against too little smoothing: Kim and Gu (2004)
_PROBES = 8  # random vectors that estimate a trace
_STEP = 10.0  # between neighbouring weights
_RANGE = (1e-12, 1e12)
_SMALL = 1e-5  # relative change of the unknowns that ends Gauss-Newton
_STEPS = 15


class Model(ABC):
    """A discrete equation c(u, a) = 0, observations B u ~ data, and what is held to be rough.

    Attributes:
        observe: B, (M, U).
        data: (M,).
        rough: pairs of a matrix R (Q, U + A) and an offset (Q,): |R (u, a) + offset|^2 is held small, each
            with a weight of its own.
    """

    observe: sp.csr_array
    data: Floats
    rough: tuple[tuple[sp.csr_array, Floats], ...]

    @abstractmethod
    def residual(self, u: Floats, a: Floats) -> tuple[Floats, sp.csr_array, sp.csr_array]:
        """Return c, (C,), its derivative by u, (C, U), and by a, (C, A)."""


@final
@dataclass(frozen=True, eq=False)
class Found:
    """Solution (U,) and coefficient (A,), and how they were found.

    Attributes:
        weights: of the rough quantities.
        score: of generalised cross-validation.
        misfit: root mean square of B u - data.
        solves: factorisations of the optimality system.
    """

    u: Floats
    a: Floats
    weights: Weights
    score: float
    misfit: float
    solves: int


def identify(model: Model, u: Floats, a: Floats, weights: Weights) -> Found:
    """Minimise |B u - data|^2 + sum_k w_k |R_k (u, a) + r_k|^2 subject to c(u, a) = 0.

    Every Gauss-Newton step solves the optimality system with Lagrange multipliers by sparse LU. The weights
    are chosen by generalised cross-validation among powers of ten, one after the other until none moves; the
    trace of the influence matrix is estimated with random signs.

    Args:
        model: what is to be identified.
        u, a: where to start, (U,) and (A,).
        weights: to start with, one for each of `model.rough`.

    Source: Haber, Ascher and Oldenburg (2000); Golub, Heath and Wahba (1979); Hutchinson (1990).
    """
    best = _gauss_newton(model, u, a, weights)
    tried = {weights: best}
    moved = True
    while moved:
        moved = False
        for axis in reversed(range(len(weights))):
            for factor in (_STEP, 1 / _STEP):
                while True:
                    moves = [
                        float(f"{w * factor if k == axis else w:.3e}") for k, w in enumerate(best.weights)
                    ]
                    point = tuple(moves)
                    if not _RANGE[0] < point[axis] < _RANGE[1]:
                        break
                    if point not in tried:
                        tried[point] = _gauss_newton(model, best.u, best.a, point)
                    if not tried[point].score < best.score * (1 - 1e-6):
                        break
                    best, moved = tried[point], True
    return replace(best, solves=sum(found.solves for found in tried.values()))


def _gauss_newton(model: Model, u: Floats, a: Floats, weights: Weights) -> Found:
    n, size = len(u), len(u) + len(a)
    B = sp.csr_array(sp.hstack([model.observe, sp.csr_array((len(model.data), len(a)))]))
    x = np.concatenate([u, a])
    H = B.T @ B + sum(w * (R.T @ R) for w, (R, _) in zip(weights, model.rough, strict=True))
    count = 0
    while True:
        c, K, G = model.residual(x[:n], x[n:])
        J = sp.hstack([K, G])
        factors = splu(sp.block_array([[H, J.T], [J, None]], format="csc"))
        pull = sum(w * (R.T @ (R @ x + r)) for w, (R, r) in zip(weights, model.rough, strict=True))
        step = factors.solve(np.concatenate([B.T @ (model.data - B @ x) - pull, -c]))[:size]
        x, count = x + step, count + 1
        if np.linalg.norm(step) <= _SMALL * np.linalg.norm(x) or count == _STEPS:
            break
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(len(model.data), _PROBES))
    push = np.concatenate([B.T @ signs, np.zeros((len(c), _PROBES))])
    trace = float((signs * (B @ factors.solve(push)[:size])).sum() / _PROBES)
    misfit = float(np.sqrt(np.mean((B @ x - model.data) ** 2)))
    score = (misfit / (1 - _GUARD * trace / len(signs))) ** 2
    return Found(x[:n], x[n:], weights, score, misfit, count)
