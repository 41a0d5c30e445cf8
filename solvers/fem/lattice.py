"""The equispaced Lagrange lattice on simplices: nodes, basis, numbering, and how cells correspond.

A node of degree p is a multi-index alpha of d + 1 integers with sum p, at the barycentric point alpha / p.
Self-contained (numpy only), because workers under other interpreters use it too.
"""

from __future__ import annotations

import functools
import itertools
from math import comb
from typing import Any

import numpy as np

Array = Any  # numpy arrays; the worker's numpy may be older than its typing


@functools.cache
def multi_indices(dim: int, degree: int) -> Array:
    """Return all multi-indices, (n, dim + 1); for degree > 0 the vertices come first, in their order."""
    if degree == 0:
        return np.zeros((1, dim + 1), dtype=np.int64)
    rows = [a for a in itertools.product(range(degree, -1, -1), repeat=dim + 1) if sum(a) == degree]
    rows.sort(key=lambda a: (max(a) != degree, [-v for v in a]))
    return np.array(rows, dtype=np.int64)


def lattice_degree(dim: int, count: int) -> int:
    """Return the degree of the lattice that has so many nodes."""
    return next(q for q in itertools.count() if comb(q + dim, dim) >= count)


def barycentric_nodes(dim: int, degree: int) -> Array:
    """Return the barycentric coordinates of the nodes, (n, dim + 1); degree 0 has the centroid."""
    return multi_indices(dim, degree) / degree if degree else np.full((1, dim + 1), 1.0 / (dim + 1))


def basis(dim: int, degree: int, bary: Array) -> Array:
    """Evaluate the Lagrange basis at barycentric coordinates (..., dim + 1), giving (..., n).

    phi_alpha = prod_j prod_{m < alpha_j} (p lambda_j - m) / (m + 1)   (Silvester 1969).
    """
    indices = multi_indices(dim, degree)
    factors = [np.ones_like(bary)]  # factors[k][..., j] = prod_{m < k} (p lambda_j - m) / (m + 1)
    for m in range(degree):
        factors.append(factors[-1] * (degree * bary - m) / (m + 1))
    table = np.stack(factors, axis=-1)  # (..., d + 1, p + 1)
    return np.stack([np.prod([table[..., j, k] for j, k in enumerate(a)], axis=0) for a in indices], axis=-1)


def find(dim: int, degree: int, indices: Array) -> Array:
    """Return the position of multi-indices (..., dim + 1) in the lattice, (...)."""
    weights = (degree + 1) ** np.arange(dim + 1)
    table = np.full((degree + 1) ** (dim + 1), -1, dtype=np.int64)
    table[multi_indices(dim, degree) @ weights] = np.arange(len(multi_indices(dim, degree)))
    return table[indices @ weights]


def positions(cells: Array, others: Array) -> Array:
    """Return where each vertex of `others` (M, d + 1) stands in the same cell of `cells`, (M, d + 1)."""
    same = cells[:, None, :] == others[:, :, None]
    if not same.any(axis=2).all():
        raise AssertionError("the two cell lists do not name the same cells")
    return same.argmax(axis=2)


def correspondence(cells: Array, others: Array, degree: int, indices: Array) -> Array:
    """Find the nodes of cells whose vertices another program orders differently.

    Args:
        cells: (M, d + 1), vertices in our order.
        others: (M, d + 1), the same cells, vertices in the other order.
        degree: of the lattice.
        indices: (n, d + 1), multi-indices of the other program's local nodes, in its vertex order.

    Returns:
        (M, n), our lattice position of the other program's local nodes.
    """
    dim = cells.shape[1] - 1
    where = positions(cells, others)  # (M, d + 1)
    ours = np.empty((len(cells), len(indices), dim + 1), dtype=np.int64)
    np.put_along_axis(
        ours, np.broadcast_to(where[:, None, :], ours.shape), np.broadcast_to(indices, ours.shape), axis=2
    )
    return find(dim, degree, ours)


def unique_rows(rows: Array) -> tuple[Array, Array]:
    """Return the number of each row (n, k) among the distinct rows, and how often each of those occurs."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    fresh = np.ones(len(rows), dtype=bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    rank = np.cumsum(fresh) - 1
    number = np.empty(len(rows), dtype=np.int64)
    number[order] = rank
    return number, np.bincount(rank) if len(rows) else np.zeros(0, dtype=np.int64)


def number_nodes(cells: Array, degree: int, vertices: int) -> tuple[Array, int]:
    """Number the nodes of continuous Lagrange elements: vertices keep their numbers, the rest follows.

    Returns:
        nodes (M, n) of every cell in lattice order, and how many there are.
    """
    dim = cells.shape[1] - 1
    indices = multi_indices(dim, degree)
    if degree == 1:
        return cells.astype(np.int64), vertices
    nodes = np.empty((len(cells), len(indices)), dtype=np.int64)
    nodes[:, : dim + 1] = cells
    total = vertices
    support = (indices > 0).sum(axis=1)
    for k in range(2, dim + 2):  # nodes inside edges, triangles, tetrahedra
        which = np.flatnonzero(support == k)
        if not len(which):
            continue
        keys = np.concatenate([_keys(cells, indices[i]) for i in which])
        number, counts = unique_rows(keys)
        nodes[:, which] = total + number.reshape(len(which), len(cells)).T
        total += len(counts)
    return nodes, total


def _keys(cells: Array, index: Array) -> Array:
    """Return a key of the node `index` of every cell that does not depend on the cell, (M, 2k)."""
    corners = np.flatnonzero(index)
    vertices = cells[:, corners]
    order = np.argsort(vertices, axis=1)
    return np.concatenate([np.take_along_axis(vertices, order, axis=1), index[corners][order]], axis=1)
