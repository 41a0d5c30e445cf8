"""Finite-volume equations with a flux between neighbouring cells, solved exactly and differentiated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.linalg.lapack import dpbtrf, dpbtrs
from torch import Tensor
from torch.autograd.function import once_differentiable


def solve_fluxes(sources: Tensor, faces: Sequence[Tensor], ends: Tensor) -> Tensor:
    """Return u with, in every cell i, ends_i u_i + sum over its faces of T (u_i - u_neighbour) = source_i.

    By Cholesky's factorisation of band matrices, in float64 on the CPU, whatever the type and the device of
    the arguments. Gradients (of first order) come from one solve more with the same factor. A sample whose
    matrix is not positive definite, or not finite, gives NaN.

    Args:
        sources: (B, K, *space), K right-hand sides.
        faces: per axis, transmissibilities T > 0 of the faces between cells, (B, *space) with one entry less
            on that axis.
        ends: sum of the transmissibilities of the faces on the boundary of the box, (B, *space).

    Cost: O(n1^d n^(2d-2)) per sample of n cells per axis; memory n^(2d-1) numbers at a time per sample.

    >>> one = torch.ones(1, 3)
    >>> solve_fluxes(one[:, None], [one[:, :2]], torch.tensor([[2.0, 0.0, 2.0]]))  # both ends held at zero
    tensor([[[0.7500, 1.2500, 0.7500]]])
    """
    return _Solve.apply(sources, ends, *faces)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sources: Tensor, ends: Tensor, *faces: Tensor) -> Tensor:
        space = ends.shape[1:]
        n = math.prod(space)
        strides = [math.prod(space[axis + 1 :]) for axis in range(len(space))]
        diagonal = _host(ends).copy()
        below = []  # per axis, the entry that links a cell with the next one
        for axis, face in enumerate(faces, start=1):
            T = _host(face)
            low, high = _around(diagonal.ndim, axis)
            diagonal[low] += T
            diagonal[high] += T
            link = np.zeros(diagonal.shape)
            link[low] = -T
            below.append(link.reshape(len(link), n))
        band = np.zeros((max(strides) + 1, n))
        right = _host(sources).reshape(len(ends), -1, n)
        u, ctx.factors = np.full(right.shape, np.nan), []
        for i, d in enumerate(diagonal.reshape(-1, n)):
            band[:] = 0.0
            band[0] = d
            for stride, link in zip(strides, below, strict=True):
                band[stride] += link[i]
            factor, failed = dpbtrf(band, lower=1) if np.isfinite(band).all() else (None, 1)
            ctx.factors.append(None if failed else factor)
            if not failed:
                u[i] = dpbtrs(factor, right[i].T, lower=1)[0].T
        value = torch.from_numpy(u.reshape(sources.shape)).to(sources)
        ctx.save_for_backward(value)
        return value

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, ...]:
        (u,) = ctx.saved_tensors
        given = _host(grad_outputs[0]).reshape(len(u), u.shape[1], -1)
        found = np.full(given.shape, np.nan)
        for i, factor in enumerate(ctx.factors):
            if factor is not None:
                found[i] = dpbtrs(factor, given[i].T, lower=1)[0].T
        w = torch.from_numpy(found.reshape(u.shape)).to(u)  # A w = gradient; then dA = -w u^T
        faces = []
        for axis in range(2, u.ndim):
            n = u.shape[axis] - 1
            jumps = [(v.narrow(axis, 0, n) - v.narrow(axis, 1, n)) for v in (u, w)]
            faces.append(-(jumps[0] * jumps[1]).sum(dim=1))
        return w, -(w * u).sum(dim=1), *faces


def _host(t: Tensor) -> np.ndarray:
    return t.detach().to("cpu", torch.float64).numpy()


def _around(ndim: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where the cells before and behind the inner faces of an axis stand."""
    before, behind = [slice(None)] * ndim, [slice(None)] * ndim
    before[axis], behind[axis] = slice(None, -1), slice(1, None)
    return tuple(before), tuple(behind)
