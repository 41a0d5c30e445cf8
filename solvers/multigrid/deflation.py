"""Islands: groups of unknowns that strong couplings hold together and that coarser levels cannot show.

Where the coefficient jumps by orders of magnitude, constants on such groups are almost null vectors of A. A
few of them are lost on every coarsening and keep a multigrid cycle from being a good preconditioner. Here they
are found from the stencil of each level and join its coarse space as columns of an indicator matrix Z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ...operators.linear.csr import CSR, sparse
from .stencil import Stencil

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Found = tuple[sp.csr_array, sp.csr_array, Floats, float]


@final
@dataclass(frozen=True)
class Islands:
    """Settings of the search.

    Args:
        strength: i and j are strongly coupled when |a_ij| > strength sqrt(a_ii a_jj).
        rayleigh: a connected group is an island when (1.A 1)/(1.D 1) over it lies below this.
        limit: keep at most so many islands per level, those of lowest Rayleigh quotient.
    """

    strength: float = 0.03
    rayleigh: float = 0.1
    limit: int = 2000


@final
class Deflation:
    """Exact solution on the islands of one level, wrapped around its coarse-grid correction.

    With E = Z^T A Z and Q = Z E^-1 Z^T the correction of a residual r becomes Q r + (Id - Q A) C (Id - A Q) r,
    C the coarse-grid correction: symmetric, and positive definite inside a symmetric cycle. A Z is stored, so
    that no further product with A is needed. A batch is one block-diagonal problem.

    Args:
        Z: (B * total, B * m), block-diagonal indicator matrix.
        AZ: A times Z.
        inverse: E^-1, (B, m, m).
        weakest: the smallest Rayleigh quotient among the islands.
    """

    def __init__(self, Z: CSR, AZ: CSR, inverse: Tensor, weakest: float) -> None:
        self.Z, self.AZ, self.inverse, self.weakest = Z, AZ, inverse, weakest
        self.ZT, self.AZT = Z.transpose(), AZ.transpose()

    def to(self, dtype: torch.dtype) -> Deflation:
        """Return the deflation for vectors of another type."""
        cast = lambda matrix: matrix.to(dtype=dtype)  # noqa: E731
        return Deflation(cast(self.Z), cast(self.AZ), self.inverse.to(dtype), self.weakest)

    def solve(self, projected: Tensor) -> Tensor:
        """Return E^-1 times (..., B * m)."""
        blocks = projected.unflatten(-1, self.inverse.shape[:2])
        return torch.matmul(self.inverse, blocks.unsqueeze(-1)).squeeze(-1).flatten(-2)

    def before(self, r: Tensor) -> Tensor:
        """Replace r by (Id - A Q) r in place and return the island coefficients E^-1 Z^T r."""
        flat = self._flat(r)
        c = self.solve(self.ZT.matvec(flat))
        flat.sub_(self.AZ.matvec(c))
        return c

    def after(self, c: Tensor, correction: Tensor) -> Tensor:
        """Return Z c - Q A correction: what to add to the solution besides the correction itself."""
        c = c - self.solve(self.AZT.matvec(self._flat(correction)))
        return self.Z.matvec(c).view(correction.shape)

    def _flat(self, v: Tensor) -> Tensor:
        """View (..., B, total) as (..., B * total); single operators as they are."""
        return v.view(*v.shape[:-2], -1) if self.inverse.shape[0] > 1 else v


def find(stencil: Stencil, islands: Islands) -> Deflation | None:
    """Return the deflation of a level, or None where no sample has more than one island."""
    centre = stencil.centre
    if not isinstance(centre, Tensor):
        return None
    layout = stencil.layout
    home = torch.arange(layout.total).double()  # the unknown that a periodic ghost stands for
    layout.wrap(home)
    edges = Edges(_rows(centre, layout.total), home.long().numpy())
    for offset, w in stencil.sides.items():
        assert isinstance(w, Tensor)
        edges.sides.append((layout.distance(offset), _rows(w, layout.total)))
    samples = [_sample(edges, s, islands) for s in range(edges.centre.shape[0])]
    m = max(E.shape[0] for _, _, E, _ in samples)
    if m == 0:
        return None
    Z = sp.block_diag([_widen(Z, m) for Z, _, _, _ in samples], format="csr")
    AZ = sp.block_diag([_widen(AZ, m) for _, AZ, _, _ in samples], format="csr")
    inverse = np.stack([_inverse(E, m) for _, _, E, _ in samples])
    device = centre.device
    load = lambda matrix: sparse(matrix, tags=(), device=device, dtype=centre.dtype)  # noqa: E731
    weakest = min(q for *_, q in samples)
    inverse = torch.as_tensor(inverse, dtype=centre.dtype, device=device)
    return Deflation(load(Z), load(AZ), inverse, weakest)


@final
class Edges:
    """The couplings of a batch of stencils: entry (i, i + distance) is `sides[k][1][sample, i]`."""

    def __init__(self, centre: Floats, home: Ints) -> None:
        self.centre, self.home = centre, home
        self.ghosts = np.flatnonzero(home != np.arange(home.size))
        self.sides: list[tuple[int, Floats]] = []

    def of(self, s: int) -> list[tuple[int, Floats]]:
        """Return (distance d, couplings (total - d,)) of one sample, each pair of unknowns once."""
        inside = self.centre[s] > 0
        return [(d, np.where(inside[:-d], w[s, :-d], 0.0)) for d, w in self.sides]

    def shared(self, v: np.ndarray) -> np.ndarray:
        """Return a vector whose ghosts hold what their unknowns hold."""
        return v[self.home] if self.ghosts.size else v

    def fold(self, v: Floats) -> None:
        """Add what stands at ghosts to their unknowns."""
        np.add.at(v, self.home[self.ghosts], v[self.ghosts])
        v[self.ghosts] = 0.0


def _rows(t: Tensor, total: int) -> Floats:
    return t.detach().double().cpu().numpy().reshape(-1, total)


def _widen(matrix: sp.csr_array, m: int) -> sp.csr_array:
    return sp.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], m))


def _inverse(E: Floats, m: int) -> Floats:
    """Invert E (pseudo-inverse where constants on everything are in its kernel) and pad with zeros to m."""
    out = np.zeros((m, m))
    k = E.shape[0]
    if k:
        scale = 1 / np.sqrt(E.diagonal())
        scaled = torch.as_tensor(E * scale[:, None] * scale)
        factor, failed = torch.linalg.cholesky_ex(scaled)
        singular = int(failed) or float(factor.diagonal().min()) < 1e-6
        inverse = (
            torch.linalg.pinv(scaled, rtol=1e-11, hermitian=True)
            if singular
            else torch.cholesky_inverse(factor)
        )
        out[:k, :k] = inverse.numpy() * scale[:, None] * scale
    return out


def _components(strong: NDArray[np.bool_], distances: list[int], edges: Edges) -> tuple[int, Ints]:
    """Label the unknowns by connected component of the strong couplings."""
    neighbours = np.arange(strong.shape[0], dtype=np.int32)[:, None] + np.array(distances, dtype=np.int32)
    columns = edges.home.astype(np.int32)[neighbours[strong]] if edges.ghosts.size else neighbours[strong]
    pointers = np.zeros(strong.shape[0] + 1, dtype=np.int32)
    np.cumsum(strong.sum(axis=1), out=pointers[1:])
    ones = np.ones(columns.size)
    graph = sp.csr_array((ones, columns, pointers), shape=(strong.shape[0],) * 2)
    return connected_components(graph, directed=False)


def _sample(edges: Edges, s: int, islands: Islands) -> Found:
    """Find the islands of one operator; return Z, A Z, E = Z^T A Z and the smallest Rayleigh quotient."""
    c, sides = edges.centre[s], edges.of(s)
    root = edges.shared(np.sqrt(np.maximum(c, 0)))
    slack = c.copy()  # row sums: what ties an unknown to Dirichlet data or a reaction
    strong = np.zeros((c.size, len(sides)), dtype=bool)
    for k, (d, a) in enumerate(sides):
        slack[:-d] += a
        slack[d:] += a
        np.greater(np.abs(a), islands.strength * (root[:-d] * root[d:]), out=strong[:-d, k])
    edges.fold(slack)
    slack[np.abs(slack) < 1e-13 * c] = 0.0
    count, label = _components(strong, [d for d, _ in sides], edges)
    size, mass = np.bincount(label, c > 0, count), np.bincount(label, c, count)
    energy = np.bincount(label, slack, count)
    shared, cuts = edges.shared(label), []  # couplings between different groups
    for d, a in sides:
        i = np.flatnonzero((shared[:-d] != shared[d:]) & (a != 0))
        p, q, value = shared[i], shared[i + d], a[i]
        energy -= np.bincount(p, value, count) + np.bincount(q, value, count)
        cuts.append((i, edges.home[i + d], p, q, value))
    quotient = np.divide(energy, mass, out=np.full(count, np.inf), where=mass > 0)
    chosen = np.flatnonzero((size >= 2) & (quotient < islands.rayleigh) & (energy > 0))
    if chosen.size > islands.limit:
        chosen = np.sort(chosen[np.argsort(quotient[chosen], kind="stable")[: islands.limit]])
    if chosen.size == 1:  # one group is what the coarse grid is for
        chosen = chosen[:0]
    number = np.full(count, -1)
    number[chosen] = np.arange(chosen.size)
    island = number[label]
    member = np.flatnonzero((island >= 0) & (c > 0))
    Z = sp.csr_array((np.ones(member.size), (member, island[member])), shape=(c.size, chosen.size))
    tied = member[slack[member] != 0]
    parts = [(tied, island[tied], slack[tied])]
    for i, j, p, q, a in cuts:  # interior rows of A Z vanish exactly: only couplings across borders count
        p, q = number[p], number[q]
        for row, own, other in ((i, p, q), (j, q, p)):
            inside, beside = own >= 0, other >= 0
            parts.append((row[inside], own[inside], -a[inside]))
            parts.append((row[beside], other[beside], a[beside]))
    rows, columns, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    AZ = sp.coo_array((values, (rows, columns)), shape=(c.size, chosen.size)).tocsr()
    weakest = float(quotient[chosen].min()) if chosen.size else np.inf
    return Z, AZ, (Z.T @ AZ).toarray(), weakest
