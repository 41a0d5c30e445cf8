"""Coarsening of grids of any size."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvus.meshes import Boundary, Centring, Grid
from solvus.meshes.hierarchy import coarse_grid, coarse_size, hierarchy_shapes

D, N, P = (getattr(Boundary, name) for name in ("DIRICHLET", "NEUMANN", "PERIODIC"))
PAIRS = [(D, D), (D, N), (N, D), (N, N), (P, P)]


@pytest.mark.parametrize(
    ("n", "centring", "pair", "coarse"),
    [
        (127, "node", (D, D), 63),
        (126, "node", (D, D), 63),
        (129, "node", (N, N), 65),
        (128, "node", (P, P), 64),
        (100, "cell", (D, D), 50),
        (101, "cell", (N, N), 51),
        (3, "node", (D, D), 1),
        (2, "cell", (N, N), 2),
        (1, "node", (D, D), 1),
    ],
)
def test_sizes(n, centring, pair, coarse):
    assert coarse_size(n, Centring(centring), pair) == coarse


@given(st.integers(1, 5000), st.sampled_from(list(Centring)), st.sampled_from(PAIRS))
def test_every_size_coarsens_by_about_two(n, centring, pair):
    coarse = coarse_size(n, centring, pair)
    assert coarse == n if n <= 2 else n // 2 <= coarse <= n // 2 + 1


@given(
    st.lists(st.integers(2, 200), min_size=1, max_size=3),
    st.sampled_from(list(Centring)),
    st.sampled_from(PAIRS),
    st.integers(1, 50),
)
def test_hierarchies_of_any_size_end(shape, centring, pair, smallest):
    grid = Grid(tuple(shape), centring=centring, boundary=(pair,))
    shapes = hierarchy_shapes(grid, smallest)
    assert shapes[0] == grid.shape
    sizes = [int(np.prod(s)) for s in shapes]
    assert all(b < a for a, b in pairwise(sizes))
    assert sizes[-1] <= smallest or max(shapes[-1]) <= 2
    assert all(size > smallest for size in sizes[:-1])
    assert len(shapes) <= 9


def test_short_axes_wait_for_the_long_ones():
    assert hierarchy_shapes(Grid((64, 2), centring="cell"), 4)[-1] == (2, 2)


def test_coarse_grids_keep_box_and_conditions():
    grid = Grid((10, 7), (0.0, 1.0), (2.0, 5.0), "cell", [("neumann", "dirichlet"), "periodic"])
    coarse = grid.coarsen()
    assert coarse is not None
    assert (coarse.shape, coarse.lower, coarse.upper) == ((5, 4), grid.lower, grid.upper)
    assert coarse.boundary == grid.boundary
    assert coarse_grid(Grid((2, 2))) is None
