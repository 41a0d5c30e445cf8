"""Bases for deflation: orthonormal columns, from snapshots of solutions or any matrix, saved with a card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from ....operators.linear.errors import NonFinite, ShapeMismatch
from ..part import LearnedPart

DROP = 1e-10  # columns of a pivoted QR with |R_jj| below this share of |R_11| are dependent

Matrix = Tensor | NDArray[np.floating]


@final
@dataclass(frozen=True)
class BasisConfig:
    """Settings of `Basis`.

    Args:
        unknowns: n, rows.
        columns: k, 0 for none.
        source: where the columns come from, for the card.
    """

    unknowns: int
    columns: int
    source: str = "matrix"

    def __post_init__(self) -> None:
        if self.unknowns < 1 or not 0 <= self.columns <= self.unknowns:
            raise ValueError(
                f"a basis has 0 to n columns on n >= 1 unknowns, got {self.columns} on {self.unknowns}"
            )


@final
class Basis(LearnedPart):
    """Orthonormal columns Q on the unknowns of one grid: the space that deflation solves in exactly.

    Made by `Basis.of` (any matrix), `Basis.from_snapshots` (solutions of a family of problems) or
    `TrunkBasis.on` (a network, on any grid). Saved and loaded as a folder, see `LearnedPart`. Columns are
    values at the unknowns, so a saved basis fits this number of unknowns only.

    Attributes:
        columns: Q, float64 (n, k), Q^T Q = Id.

    >>> Basis.of(torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 1.0], [1.0, 2.0, 3.0]])).size
    2
    """

    Config = BasisConfig
    columns: Tensor

    def __init__(self, config: BasisConfig) -> None:
        super().__init__(config)
        empty = torch.zeros(config.unknowns, config.columns, dtype=torch.float64)
        self.register_buffer("columns", empty)

    @property
    def size(self) -> int:
        """Number of columns, k."""
        return self.columns.shape[1]

    @classmethod
    def of(
        cls,
        matrix: Matrix,  # (n, m)
        *,
        columns: int | None = None,
        zero: Matrix | None = None,  # bool (n,)
        source: str = "matrix",
    ) -> Self:
        """Return an orthonormal basis of the columns of a matrix, by QR with column pivoting, in float64.

        Args:
            matrix: any; linearly dependent columns are dropped, |R_jj| < 1e-10 |R_11|.
            columns: keep at most so many, those that the pivoting takes first.
            zero: unknowns where every column is set to zero: Dirichlet values, points outside of the domain.
            source: for the card.

        Raises:
            ShapeMismatch: matrix is no matrix, or `zero` has another length.
            NonFinite: NaN or infinity in the matrix.
        """
        P = torch.as_tensor(matrix).detach().double().cpu()
        if P.ndim != 2 or len(P) < 1:
            raise ShapeMismatch(
                f"a basis is made of a matrix (unknowns, columns), got {tuple(P.shape)}: flatten fields first"
            )
        away = None
        if zero is not None:
            away = torch.as_tensor(zero).cpu().bool()
            if away.shape != P.shape[:1]:
                raise ShapeMismatch(
                    f"`zero` marks the {len(P)} unknowns of the matrix, got {tuple(away.shape)}: give one "
                    "boolean per row"
                )
        if not bool(torch.isfinite(P).all()):
            raise NonFinite("the columns of the basis hold NaN or infinity: train or compute them anew")
        Q = independent(P, zero=away)
        Q = Q if columns is None else Q[:, :columns]
        basis = cls(BasisConfig(len(P), Q.shape[1], source))
        basis.columns.copy_(Q)
        return basis

    @classmethod
    def from_snapshots(
        cls,
        snapshots: Matrix,  # (m, n) or (m, *space)
        *,
        columns: int | None = None,
        energy: float | None = None,
        zero: Matrix | None = None,
    ) -> Self:
        """Return the principal modes (POD) of solutions: the k right singular vectors that hold the most.

        The mean is not removed, for the space has to hold it. Snapshots are solutions of a family of
        problems that are solved once, before; take those of training samples only.

        Args:
            snapshots: solutions, one per row.
            columns: k, 8 to 64 are good; all independent ones by default.
            energy: or the fewest columns that hold this share of the sum of squares, below 1.
            zero: as in `of`.

        Raises:
            ValueError: both `columns` and `energy`, or an energy outside (0, 1].
            ShapeMismatch, NonFinite: as `of`.

        >>> x = torch.linspace(0, 3, 40, dtype=torch.float64)
        >>> Basis.from_snapshots(torch.stack([torch.sin(x), torch.cos(x), torch.sin(x + 1)])).size
        2
        """
        U = torch.as_tensor(snapshots).detach().double().cpu()
        if U.ndim < 2:
            raise ShapeMismatch(f"snapshots are (samples, unknowns), got {tuple(U.shape)}")
        if columns is not None and energy is not None:
            raise ValueError(f"give columns or energy, not both: got columns={columns}, energy={energy}")
        if energy is not None and not 0 < energy <= 1:
            raise ValueError(f"energy is a share of the sum of squares in (0, 1], got {energy}")
        if not bool(torch.isfinite(U).all()):
            raise NonFinite("the snapshots hold NaN or infinity: leave out those solves that failed")
        _, s, Vt = torch.linalg.svd(U.flatten(1), full_matrices=False)
        if energy is not None:
            held = s.square().cumsum(0)
            columns = int((held < energy * held[-1] * (1 - 1e-12)).sum()) + 1
        kept = slice(0, columns)
        return cls.of((Vt[kept] * s[kept, None]).mT, zero=zero, source=f"{len(U)} snapshots")

    def extra_repr(self) -> str:
        return f"{self.columns.shape[0]} unknowns, {self.size} columns of {self.config.source}"


def independent(P: Tensor, *, zero: Tensor | None = None, drop: float = DROP) -> Tensor:
    """Return orthonormal columns of the same span, float64 (n, k), the pivoting's first column first.

    Args:
        P: float64 (n, m), on the CPU.
        zero: rows to set to zero before, bool (n,).
        drop: columns with |R_jj| below this share of |R_11| are dependent.
    """
    if zero is not None:
        P = P.masked_fill(zero[:, None], 0.0)
    if P.shape[1] == 0:
        return P
    Q, R, _ = scipy.linalg.qr(P.numpy(), mode="economic", pivoting=True, check_finite=False)
    sizes = np.abs(np.diagonal(R))
    kept = int((sizes >= drop * sizes[0]).sum()) if sizes[0] > 0 else 0
    columns = torch.from_numpy(np.ascontiguousarray(Q[:, :kept]))
    return columns if zero is None else columns.masked_fill_(zero[:, None], 0.0)  # of rounding errors
