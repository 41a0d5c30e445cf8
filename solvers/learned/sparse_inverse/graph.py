"""A sparse matrix as a graph for message passing: its entries are the edges, all features are scale free."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import final

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ....operators.linear.base import LinearOperator
from ....operators.linear.queries import to_scipy
from .factored import Pattern, as_csr, lower_factor, positive_diagonal

_FLOOR = 1e-6  # entries below this share of the diagonal count as this in logarithms


class Start(StrEnum):
    """The factor L that a network which says nothing leaves."""

    IDENTITY = "identity"  # Jacobi's method
    FACTORED = "factored"  # the classical factored inverse on the pattern, a triangular one


@final
@dataclass(frozen=True)
class MatrixGraph:
    """The scaled matrix D^-1/2 A D^-1/2, its features, and the places where L has entries.

    Attributes:
        n: unknowns.
        rows, cols: of the edges, int64 (E,), row by row: the entries of A (of A^2 for `lower-squared`).
        entries: of the scaled matrix at the edges, (E,), 0 where it has none.
        edge: features of the edges, (E, EDGE_FEATURES), one more where L starts from the factored inverse.
        node: features of the unknowns, (n, NODE_FEATURES).
        kept: which edges are entries of L, int64 (nnz of L,).
        start: entries of L to start from, (nnz of L,).
        scale: d_i^-1/2, (n,), in the type of A.
    """

    n: int
    rows: Tensor
    cols: Tensor
    entries: Tensor
    edge: Tensor
    node: Tensor
    kept: Tensor
    start: Tensor
    scale: Tensor

    EDGE_FEATURES = 9
    NODE_FEATURES = 8


def matrix_graph(
    A: LinearOperator, pattern: Pattern | str = Pattern.LOWER, start: Start | str = Start.IDENTITY
) -> MatrixGraph:
    """Return the graph of a symmetric matrix with positive diagonal.

    Nothing in it changes when A is replaced by S A S with a positive diagonal S, except `scale`. The product
    A^2, whose entries are a feature, is formed by SciPy on the host.

    Raises:
        NotSupported, ZeroDiagonal: see `as_csr` and `positive_diagonal`.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.linear import Diffusion
    >>> graph = matrix_graph(Diffusion(Grid((3, 3))), "lower")
    >>> graph.n, len(graph.rows), len(graph.kept)
    (9, 33, 21)
    """
    pattern = Pattern(pattern)
    scale = positive_diagonal(A).rsqrt()
    matrix = to_scipy(as_csr(A)).astype(np.float64)
    s = scale.cpu().numpy().astype(np.float64)
    scaled = sp.csr_array(sp.diags_array(s) @ matrix @ sp.diags_array(s))
    scaled.sum_duplicates()
    square = sp.csr_array(scaled @ scaled)
    square.sort_indices()
    edges = scaled
    if pattern is Pattern.LOWER_SQUARED:
        edges = sp.csr_array(abs(scaled) @ abs(scaled))  # where sums of A^2 cancel there is an entry too
        edges.sort_indices()
    n = edges.shape[0]
    rows = np.repeat(np.arange(n), np.diff(edges.indptr))
    cols = edges.indices.astype(np.int64)
    entry, two = _at(scaled, rows, cols), _at(square, rows, cols)
    lower = pattern is not Pattern.FULL
    edge, node = _features(n, rows, cols, entry, two, lower=lower)
    if lower:
        edge[:, -1] = _at(_paths(scaled), rows, cols)
    kept = np.arange(len(rows)) if pattern is Pattern.FULL else np.flatnonzero(cols <= rows)
    if start == Start.FACTORED:
        first = _at(_reversed_factor(scaled, pattern), rows, cols)
        edge = np.concatenate([edge, first[:, None].astype(np.float32)], axis=1)
    else:
        first = (rows == cols).astype(np.float64)
    put = lambda x: torch.as_tensor(x, device=A.device)  # noqa: E731
    return MatrixGraph(
        n, put(rows), put(cols), put(entry), put(edge), put(node), put(kept), put(first[kept]), scale
    )


def _reversed_factor(scaled: sp.csr_array, pattern: Pattern) -> sp.csr_array:
    """Return L on a lower pattern with L L^T ~ A^-1: the factor G^T of the matrix in reversed order."""
    G = lower_factor(sp.csr_array(scaled[::-1][:, ::-1]), pattern)
    L = sp.csr_array(sp.csr_array(G.T)[::-1][:, ::-1])
    L.sort_indices()
    return L


def _paths(scaled: sp.csr_array) -> sp.csr_array:
    """Return the sums over k > j, k != i, of a_ik a_kj: paths that the column j of a lower factor sees."""
    inner = sp.csr_array(scaled - sp.diags_array(scaled.diagonal()))
    product = sp.csr_array(inner @ sp.csr_array(sp.tril(inner, -1)))
    product.sort_indices()
    return product


def _at(matrix: sp.csr_array, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Return the entries of a matrix at given places, 0 where it has none."""
    n = matrix.shape[1]
    known = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * n + matrix.indices
    wanted = rows * n + cols
    if len(known) == 0:
        return np.zeros(len(wanted))
    if len(known) == len(wanted) and np.array_equal(known, wanted):
        return matrix.data
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[place] == wanted, matrix.data[place], 0.0)


def _features(
    n: int, rows: np.ndarray, cols: np.ndarray, entry: np.ndarray, two: np.ndarray, *, lower: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of edges and unknowns; those of the order of the unknowns only where `lower`."""
    off = rows != cols
    size = np.abs(entry) * off
    largest = np.zeros(n)
    np.maximum.at(largest, rows, size)
    largest = np.maximum(largest, _FLOOR)
    below = (cols < rows) * float(lower)
    total = lambda x: np.bincount(rows, x, minlength=n)  # noqa: E731
    degree = total(off.astype(float))
    edge = np.stack(
        [
            entry * off,
            two,
            np.log10(np.maximum(np.abs(entry), _FLOOR)) / 3,
            size / largest[rows],
            size / largest[cols],
            off.astype(float),
            below - (cols > rows) * float(lower),
            size * below,
            np.zeros(len(rows)),
        ],
        axis=1,
    )
    node = np.stack(
        [
            total(entry * off),
            total(size),
            total(size * size),
            largest,
            np.log(degree + 1) / 3,
            total(size * below),
            total(size * size * below),
            total(below) / np.maximum(degree, 1),
        ],
        axis=1,
    )
    return edge.astype(np.float32), node.astype(np.float32)
