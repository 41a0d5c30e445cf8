"""A sparse approximate inverse that a network writes, as a preconditioner for plain CG."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from ....operators.linear.base import SPD, LinearOperator
from ....operators.linear.csr import CSR
from ....operators.linear.errors import MixedDevices, ShapeMismatch
from ...preconditioners.base import Preconditioner
from ...preconditioners.inverse import Inverse
from .graph import MatrixGraph, matrix_graph
from .network import SparseInverseNetwork


@final
class SparseInverse(Inverse):
    """M = D^-1/2 (L L^T + eps Id) D^-1/2, D the diagonal of A, L sparse, its entries written by a network.

    Symmetric positive definite for every finite L, as eps > 0. Two sparse products per application and no
    triangular solve, on any device. A network that fails is not used: where an entry of L is not finite, or
    r.M r > 0 does not hold for a random r, M is D^-1, and `fallback` says why.

    Args:
        A: one symmetric matrix with positive diagonal: `CSR`, or what `to_scipy` takes.
        network: writes L.

    Raises:
        NotSupported: a batch, a matrix-free operator, not declared symmetric, a negative diagonal entry.
        ZeroDiagonal: a zero diagonal entry.
        MixedDevices: the network is on another device than A.
        ShapeMismatch: the network does not give one number per entry of L.
    """

    fallback: str | None

    def __init__(self, A: LinearOperator, network: SparseInverseNetwork) -> None:
        super().__init__(A, SPD)
        graph = matrix_graph(A, network.config.pattern, network.config.start)
        weights = next(network.parameters())
        if weights.device != A.device:
            raise MixedDevices(
                f"the network is on {weights.device}, the operator on {A.device}: move it with "
                f"network.to({str(A.device)!r})"
            )
        with torch.no_grad():
            entries = network(graph).to(A.dtype)
        if entries.shape != graph.kept.shape:
            raise ShapeMismatch(
                f"the network wrote {tuple(entries.shape)} numbers, L has {len(graph.kept)} entries: give "
                "one for each"
            )
        self.fallback = None
        self.L: CSR | None = None  # scaled: D^-1/2 L
        self.weight = graph.scale.square()  # of the identity: eps / d
        if not bool(torch.isfinite(entries).all()):
            self.fallback = "the network wrote entries that are not finite"
            return
        self.weight *= network.config.eps
        self.L = _factor(graph, entries)
        self._LT = self.L.transpose()
        if not self._positive():
            self.fallback = "r.Mr > 0 failed for a random r"
            self.L, self.weight = None, graph.scale.square()

    def _positive(self) -> bool:
        """Whether r.M r > 0 for a random r."""
        r = torch.randn(self.shape[1], generator=torch.Generator().manual_seed(0)).to(self.device, self.dtype)
        return bool(r @ self.matvec(r) > 0)

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write M x into out."""
        if self.L is None:
            torch.mul(self.weight, x, out=out)
            return
        self.L.matvec_into(self._LT.matvec(x), out)
        out.addcmul_(self.weight, x)

    def __repr__(self) -> str:
        size = "" if self.L is None else f", {self.L.nnz} entries in L"
        note = f", network not used: {self.fallback}" if self.fallback else ""
        return f"SparseInverse(n {self.shape[0]}{size}{note})"


def _factor(graph: MatrixGraph, entries: Tensor) -> CSR:
    """Return D^-1/2 L."""
    rows, cols = graph.rows[graph.kept], graph.cols[graph.kept]
    counts = torch.bincount(rows, minlength=graph.n)
    kind = torch.int32 if max(len(rows), graph.n) < 2**31 else torch.int64
    crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(kind)
    return CSR(crow, cols.to(kind), entries * graph.scale[rows], (graph.n, graph.n))


def sparse_inverse(part: SparseInverseNetwork | str | Path) -> Preconditioner:
    """Return the preconditioner that a network writes for each matrix; see `SparseInverse`.

    Args:
        part: a network, or the folder that one was saved in.

    Source: the form of M and the sizes of the network follow Yang et al. (2025), arXiv 2510.27517.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.linear import Diffusion
    >>> from solvus.solvers import CG, LinearSystem, solve
    >>> A = Diffusion(Grid((31, 31)))
    >>> b = torch.ones(961, dtype=torch.float64)
    >>> solve(LinearSystem(A, b), CG(sparse_inverse(SparseInverseNetwork()))).status.name
    'CONVERGED'
    """
    network = SparseInverseNetwork.load(part) if isinstance(part, str | Path) else part
    return partial(SparseInverse, network=network)
