"""The best relaxation parameter of SOR on grids with constant coefficients."""

from __future__ import annotations

from math import cos, pi, sqrt

from ...meshes.grid import Boundary, Centring
from ...operators.linear.base import LinearOperator
from ...operators.linear.diffusion import Diffusion
from ...operators.linear.errors import NotSupported


def young_omega(A: LinearOperator) -> float:
    """Return the omega of SOR with the smallest spectral radius: 2 / (1 + sqrt(1 - mu^2)).

    mu is the largest eigenvalue of the Jacobi iteration matrix Id - D^-1 A, which the cosines of the grid
    give: mu = sum_a (2 k / h_a^2) cos(theta_a) / (sum_a 2 k / h_a^2 + c), theta = pi / (n + 1) between
    Dirichlet faces, pi / (2 n) between a Dirichlet and a Neumann face, 0 where constants pass. When A is
    singular, the next eigenvalue counts. Exact for forward and backward sweeps in natural and red-black order
    (periodic axes: even sizes); SSOR is less sensitive, and best at somewhat smaller values.

    Args:
        A: `Diffusion` of constant coefficient and reaction on a full node-centred grid, not a batch; periodic
            cell-centred grids too.

    Source: Young (1971), theorem 6-2.3.

    Raises:
        NotSupported: for any other operator.

    >>> from solvus.meshes import Grid
    >>> round(young_omega(Diffusion(Grid((9,)))), 6)
    1.527864
    """
    if not isinstance(A, Diffusion) or A.coefficient is None or A.reaction is None or A.grid.mask is not None:
        raise NotSupported(
            "young_omega knows constant coefficients on full grids: try omega 1.5 to 1.95 by hand, or let a "
            "tuner find it"
        )
    grid, k = A.grid, A.coefficient
    periodic = [pair[0] is Boundary.PERIODIC for pair in grid.boundary]
    if grid.centring is Centring.CELL and not all(periodic):
        raise NotSupported(
            "young_omega knows node-centred grids; walls half a cell away make the diagonal vary: try omega "
            "1.5 to 1.95 by hand"
        )
    weights = [2 * k / h**2 for h in grid.spacing]
    first, second = [], []  # smallest and next angle along each axis
    for n, (low, high), around in zip(grid.shape, grid.boundary, periodic, strict=True):
        walls = (low is Boundary.DIRICHLET) + (high is Boundary.DIRICHLET)
        if around:
            angles = (0.0, 2 * pi / n)
        elif walls == 2:
            angles = (pi / (n + 1), 2 * pi / (n + 1))
        elif walls == 1:
            angles = (pi / (2 * n), 3 * pi / (2 * n))
        else:
            angles = (0.0, pi / (n - 1))
        first.append(angles[0])
        second.append(angles[1])
    total = sum(weights) + A.reaction
    terms = [w * cos(t) for w, t in zip(weights, first, strict=True)]
    mu = sum(terms) / total
    if A.nullspace is not None:
        mu += max(w * cos(t) - term for w, t, term in zip(weights, second, terms, strict=True)) / total
    return 2 / (1 + sqrt(1 - mu**2))
