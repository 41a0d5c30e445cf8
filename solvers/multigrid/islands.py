"""Islands: groups of unknowns that strong couplings hold together and that coarser levels cannot show.

Where the coefficient jumps by orders of magnitude, constants on such groups are almost null vectors of A. A
few of them are lost on every coarsening and keep a multigrid cycle from being a good preconditioner. Here
they are found from the stencil of a level; `deflation.py` makes them part of its coarse space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from . import kernels
from .stencil import ArrayStencil

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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
@dataclass(frozen=True)
class Found:
    """The islands of a level.

    Attributes:
        ZT: indicators, (B * m, B * total), block-diagonal over the batch.
        AZT: (A Z)^T, same shape: only rows of A at the borders of islands contribute.
        inverse: (Z^T A Z)^-1, (B, m, m); zero where a sample has fewer islands than m.
        weakest: the smallest Rayleigh quotient among the islands.
    """

    ZT: sp.csr_array
    AZT: sp.csr_array
    inverse: Floats
    weakest: float


def find(stencil: ArrayStencil, islands: Islands) -> Found | None:
    """Return the islands of a level, or None where no sample of the batch has more than one."""
    layout = stencil.layout
    home = torch.arange(layout.total).double()  # the unknown that a periodic ghost stands for
    layout.wrap(home)
    read = lambda t: t.detach().double().cpu().numpy().reshape(-1, layout.total)  # noqa: E731
    distances = np.array([layout.distance(o) for o in stencil.sides])
    centre = read(stencil.centre)
    sides = [read(w) for w in stencil.sides.values()]
    samples = [
        _sample(c, np.stack([w[s] for w in sides]), distances, home.long().numpy(), islands)
        for s, c in enumerate(centre)
    ]
    m = max(E.shape[0] for _, _, E, _ in samples)
    if m == 0:
        return None
    ZT, AZT = ([_widen(sample[k], m) for sample in samples] for k in (0, 1))
    return Found(
        ZT[0] if len(ZT) == 1 else sp.block_diag(ZT, format="csr"),
        AZT[0] if len(AZT) == 1 else sp.block_diag(AZT, format="csr"),
        np.stack([_inverse(E, m) for _, _, E, _ in samples]),
        min(quotient for *_, quotient in samples),
    )


def _widen(matrix: sp.csr_array, m: int) -> sp.csr_array:
    """Append empty rows up to m."""
    pointers = np.concatenate([matrix.indptr, np.full(m - matrix.shape[0], matrix.nnz, dtype=np.int32)])
    return sp.csr_array((matrix.data, matrix.indices, pointers), shape=(m, matrix.shape[1]))


def _inverse(E: Floats, m: int) -> Floats:
    """Invert E (pseudo-inverse where constants on everything are in its kernel) and pad with zeros to m."""
    out = np.zeros((m, m))
    k = E.shape[0]
    if k:
        scale = 1 / np.sqrt(E.diagonal())
        scaled = torch.as_tensor(E * scale[:, None] * scale)
        factor, failed = torch.linalg.cholesky_ex(scaled)
        if int(failed) or float(factor.diagonal().min()) < 1e-6:
            inverse = torch.linalg.pinv(scaled, rtol=1e-11, hermitian=True)
        else:
            inverse = torch.cholesky_inverse(factor)
        out[:k, :k] = inverse.numpy() * scale[:, None] * scale
    return out


def _sample(
    c: Floats, w: Floats, distances: Ints, home: Ints, islands: Islands
) -> tuple[sp.csr_array, sp.csr_array, Floats, float]:
    """Find the islands of one operator; return Z^T, (A Z)^T, Z^T A Z and the smallest Rayleigh quotient."""
    root, slack = kernels.strong_components(c, w, distances, home, islands.strength)
    slack[np.abs(slack) < 1e-13 * c] = 0.0
    i, j, a = kernels.cut_couplings(c, w, distances, home, root)
    total = c.size
    size, mass, energy = kernels.measure_components(c, slack, root, i, j, a)
    groups = np.flatnonzero(size >= 2)
    quotient = energy[groups] / mass[groups]
    good = (quotient < islands.rayleigh) & (quotient > 0)
    chosen, quotient = groups[good], quotient[good]
    if chosen.size > islands.limit:
        kept = np.sort(np.argsort(quotient, kind="stable")[: islands.limit])
        chosen, quotient = chosen[kept], quotient[kept]
    if chosen.size == 1:  # one group is what the coarse grid is for
        chosen = chosen[:0]
    number = np.full(total, -1)
    number[chosen] = np.arange(chosen.size)
    island = np.where(c > 0, number[root], -1)
    member = np.flatnonzero(island >= 0)
    tied = member[slack[member] != 0]
    parts = [(island[tied], tied, slack[tied])]
    p, q = island[i], island[j]
    for row, own, other in ((i, p, q), (j, q, p)):
        inside, beside = own >= 0, other >= 0  # a row loses what leaves its island, and feels its neighbours'
        parts.append((own[inside], row[inside], -a[inside]))
        parts.append((other[beside], row[beside], a[beside]))
    m = chosen.size
    which, rows, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    touched = island[rows] >= 0
    place = island[rows[touched]] * m + which[touched]
    E = np.bincount(place, values[touched], m * m).astype(np.float64).reshape(m, m)
    ZT = sp.coo_array((np.ones(member.size), (island[member], member)), shape=(m, total)).tocsr()
    AZT = sp.coo_array((values, (which, rows)), shape=(m, total)).tocsr()
    return ZT, AZT, E, float(quotient.min()) if m else np.inf
