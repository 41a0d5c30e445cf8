"""The diffusion operator: against hand-built matrices, manufactured solutions, and its own other forms."""

import itertools
from math import pi

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, NonFinite, ShapeMismatch, dense, diagonal, to_scipy

F64 = torch.float64
PAIRS = [
    ("dirichlet", "dirichlet"),
    ("neumann", "neumann"),
    ("dirichlet", "neumann"),
    ("neumann", "dirichlet"),
    ("periodic", "periodic"),
]
SHAPES = [(5,), (4, 3), (3, 4, 2)]


def fields(grid: Grid, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A random coefficient and a random reaction."""
    generator = torch.Generator().manual_seed(seed)
    k = 0.5 + torch.rand(grid.cells, generator=generator, dtype=F64)
    return k, torch.rand(grid.shape, generator=generator, dtype=F64)


def solid(shape: tuple[int, ...]) -> np.ndarray:
    mask = np.random.default_rng(5).random(shape) > 0.25
    mask.flat[0] = True
    return mask


def grids(shape: tuple[int, ...], centring: str, masked: bool) -> list[Grid]:
    upper = (1.0, 0.7, 1.9)[: len(shape)]
    out = []
    for boundary in itertools.product(PAIRS, repeat=len(shape)):
        for obstacle in ("neumann", "dirichlet") if masked else ("neumann",):
            mask = solid(shape) if masked else None
            out.append(
                Grid(
                    shape, (), upper, centring=centring, boundary=list(boundary), mask=mask, obstacle=obstacle
                )
            )
    return out[:: 4 if len(shape) == 3 else 1]


def reference(grid: Grid, k: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Build the matrix unknown by unknown and face by face, from the definition, sharing no code.

    Rows of masked-out unknowns are left zero.
    """
    n, node, h = grid.shape, grid.centring == "node", grid.spacing
    A = np.zeros((grid.size, grid.size))
    place = np.arange(grid.size).reshape(n)
    exists = np.ones(n, bool) if grid.mask is None else grid.mask

    def cell_ends(axis: int, i: int) -> list[int]:
        """Cells along an axis that node i touches (node-centred)."""
        low, _ = grid.boundary[axis]
        first = i if low == "dirichlet" else i - 1
        m = grid.cells[axis]
        if low == "periodic":
            return [first % m, (first + 1) % m]
        return [j for j in (first, first + 1) if 0 <= j < m]

    def face(at: tuple[int, ...], axis: int, step: int) -> tuple[float, tuple[int, ...] | None, str]:
        """Conductance of the face, the neighbour behind it, and what it is: inner, dirichlet or neumann."""
        to = list(at)
        to[axis] += step
        kind = "inner"
        if not 0 <= to[axis] < n[axis]:
            kind = str(grid.boundary[axis][0 if step < 0 else 1])
            if kind == "periodic":
                kind, to[axis] = "inner", to[axis] % n[axis]
        if node:
            if kind == "neumann":
                return 0.0, None, kind
            low = grid.boundary[axis][0]
            shift = (0 if low == "dirichlet" else -1) + (step > 0)
            along = (at[axis] + shift) % grid.cells[axis]
            around = [[along] if a == axis else cell_ends(a, at[a]) for a in range(grid.dim)]
            value = sum(k[cell] for cell in itertools.product(*around)) / 2 ** (grid.dim - 1)
        elif kind == "inner":
            value = 2 * k[at] * k[tuple(to)] / (k[at] + k[tuple(to)])
        else:
            value = 2 * k[at] if kind == "dirichlet" else 0.0
        if kind == "inner" and not exists[tuple(to)]:
            kind = str(grid.obstacle)
            value *= 2 if kind == "dirichlet" and not node else 1
        return value / h[axis] ** 2, tuple(to) if kind == "inner" else None, kind

    for at in np.ndindex(*n):
        if not exists[at]:
            continue
        volume = 1.0
        for axis, i in enumerate(at):
            if node and len(set(cell_ends(axis, i))) == 1 and len(cell_ends(axis, i)) == 1:
                volume /= 2
        A[place[at], place[at]] += c[at] * volume
        for axis, step in itertools.product(range(grid.dim), (-1, 1)):
            value, to, kind = face(at, axis, step)
            if kind != "neumann":
                A[place[at], place[at]] += value
            if to is not None:
                A[place[at], place[to]] -= value
    return A


def differs(A: Diffusion, want: np.ndarray) -> float:
    """Largest deviation on the rows that exist, and of the masked-out rows from a positive diagonal."""
    found = dense(A).numpy()
    out = np.zeros(A.grid.size, bool) if A.grid.mask is None else ~A.grid.mask.ravel()
    alone = out | (np.abs(want).sum(1) == 0)
    identity = found[alone][:, ~alone].any() or (np.diag(found)[alone] <= 0).any()
    return np.inf if identity else float(np.abs(found - want)[~alone].max(initial=0) / np.abs(want).max())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize("shape", SHAPES)
def test_all_forms_agree_with_the_definition(shape, centring, masked):
    for grid in grids(shape, centring, masked):
        k, c = fields(grid)
        for A, want in (
            (Diffusion(grid, k, c), reference(grid, k.numpy(), c.numpy())),
            (
                Diffusion(grid, 0.3, 0.1),
                reference(grid, np.full(grid.cells, 0.3), np.full(grid.shape, 0.1)),
            ),
        ):
            assert differs(A, want) < 1e-14, grid
            matrix = dense(A).numpy()
            np.testing.assert_allclose(to_scipy(A).toarray(), matrix, rtol=0, atol=1e-12)
            np.testing.assert_allclose(diagonal(A).numpy(), np.diag(matrix), rtol=1e-14)
            np.testing.assert_array_equal(matrix, matrix.T)
            x = torch.randn(2, grid.size, dtype=F64)
            into = A.matvec_into(x, torch.full_like(x, torch.nan))
            np.testing.assert_allclose(into.numpy(), x.numpy() @ matrix, rtol=0, atol=1e-10)
            graph = A @ x.clone().requires_grad_()
            torch.testing.assert_close(graph.detach(), into, rtol=0, atol=1e-10)


def test_a_wrong_matrix_is_found():
    grid = Grid((4, 3), centring="cell")
    k, c = (t.numpy() for t in fields(grid))
    assert differs(Diffusion(grid, 2.0), reference(grid, k, c)) > 1e-3
    assert differs(Diffusion(grid, torch.from_numpy(k), torch.from_numpy(c)), reference(grid, k, c)) < 1e-14


# --- convergence --------------------------------------------------------------------------------------------


def wave(pair: tuple[str, str], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A function that meets the conditions of an axis, and its derivative."""
    a = {PAIRS[0]: pi, PAIRS[1]: pi, PAIRS[2]: pi / 2, PAIRS[3]: pi / 2, PAIRS[4]: 2 * pi}[pair]
    if pair[0] == "dirichlet":
        return np.sin(a * x), a * np.cos(a * x)
    if pair[0] == "neumann":
        return np.cos(a * x), -a * np.sin(a * x)
    return np.sin(a * x + 0.4), a * np.cos(a * x + 0.4)


def error(n: int, centring: str, pairs: list[tuple[str, str]], weighted: bool = True) -> float:
    """Root mean square error with n cells per axis: k = 1 + s/2, s the product of cos(2 pi x), and c = 1."""
    probe = Grid((n + 1,) * len(pairs), centring=centring, boundary=pairs)
    shape = tuple(n - (c - m) for c, m in zip(probe.cells, probe.shape, strict=True))
    grid = Grid(shape, centring=centring, boundary=pairs)
    assert grid.cells == (n,) * len(pairs)

    def bump(points: list[np.ndarray]) -> np.ndarray:
        return np.prod([np.cos(2 * pi * x) for x in points], axis=0)

    X = np.meshgrid(*grid.axes(), indexing="ij")
    k = 1 + bump(np.meshgrid(*grid.cell_axes(), indexing="ij")) / 2
    lines = [wave(pair, x) for pair, x in zip(pairs, X, strict=True)]
    u = np.prod([line[0] for line in lines], axis=0)
    f = u.copy()
    for axis, (pair, x) in enumerate(zip(pairs, X, strict=True)):
        others = np.prod([line[0] for a, line in enumerate(lines) if a != axis], axis=0)
        rest = np.prod([np.cos(2 * pi * y) for a, y in enumerate(X) if a != axis], axis=0)
        curvature = {PAIRS[0]: 1, PAIRS[1]: 1, PAIRS[2]: 0.25, PAIRS[3]: 0.25, PAIRS[4]: 4}[pair] * pi**2
        slope = -pi * np.sin(2 * pi * x) * rest  # of k
        f += (1 + bump(X) / 2) * curvature * u - slope * lines[axis][1] * others
    A = Diffusion(grid, k, 1.0)
    weights = A.weights().numpy() if weighted else 1.0
    found = spla.spsolve(sp.csc_array(to_scipy(A)), weights * f.ravel())
    return float(np.sqrt(np.mean((found - u.ravel()) ** 2)))


@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize(
    "pairs",
    [[p] for p in PAIRS] + [[p, q] for p, q in zip(PAIRS, PAIRS[1:] + PAIRS[:1], strict=True)] + [PAIRS[:3]],
)
def test_second_order(pairs, centring):
    sizes = (8, 16) if len(pairs) == 3 else (32, 64)
    coarse, fine = (error(n, centring, pairs) for n in sizes)
    assert np.log2(coarse / fine) == pytest.approx(2, abs=0.2)
    assert fine < 3e-3 * (64 / sizes[1]) ** 2


def test_weights_matter():
    pairs = [PAIRS[1], PAIRS[1]]
    coarse, fine = (error(n, "node", pairs, weighted=False) for n in (32, 64))
    assert np.log2(coarse / fine) < 1.5


# --- batches, types, gradients ------------------------------------------------------------------------------


@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize("masked", [False, True])
def test_batch_equals_loop(centring, masked):
    for grid in grids((4, 3), centring, masked)[::3]:
        samples = [fields(grid, seed) for seed in range(3)]
        k, c = (torch.stack(part) for part in zip(*samples, strict=True))
        x = torch.randn(3, grid.size, dtype=F64)
        for many, one in (
            (Diffusion(grid, k, c), [Diffusion(grid, *s) for s in samples]),
            (Diffusion(grid, k), [Diffusion(grid, s[0]) for s in samples]),
            (Diffusion(grid, 2.0, c), [Diffusion(grid, 2.0, s[1]) for s in samples]),
        ):
            assert many.batch_shape == (3,)
            want = torch.stack([A @ v for A, v in zip(one, x, strict=True)])
            torch.testing.assert_close(many @ x, want, rtol=1e-13, atol=1e-12)
            torch.testing.assert_close(diagonal(many), torch.stack([diagonal(A) for A in one]))


def test_numbers_keep_double_precision():
    A = Diffusion(Grid((3,)), 0.1, 0.7)
    assert (A.coefficient, A.reaction) == (0.1, 0.7)


def test_single_precision():
    grid = Grid((4, 3))
    A = Diffusion(grid, np.ones(grid.cells), dtype=torch.float32)
    x = torch.ones(12)
    assert (A @ x).dtype == torch.float32
    torch.testing.assert_close((A @ x).double(), Diffusion(grid) @ x.double(), rtol=1e-6, atol=1e-5)
    assert Diffusion(grid, torch.ones(grid.cells)).dtype == torch.float32


@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize("obstacle", ["neumann", "dirichlet"])
def test_gradients(centring, obstacle):
    boundary = [("neumann", "dirichlet"), "periodic"]
    mask = np.ones((3, 4), dtype=bool)
    mask[1, 2] = False
    grid = Grid((3, 4), centring=centring, boundary=boundary, mask=mask, obstacle=obstacle)
    k, c = (t.requires_grad_() for t in fields(grid))
    x = torch.randn(2, 12, dtype=F64, requires_grad=True)
    inside = torch.from_numpy(mask.ravel())  # the scale of the identity rows is not differentiated
    assert torch.autograd.gradcheck(lambda k, c, x: (Diffusion(grid, k, c) @ x)[..., inside], (k, c, x))


# --- null space ---------------------------------------------------------------------------------------------


def kernel(A: Diffusion) -> int:
    """Dimension of the kernel of the matrix, with that of the declared null space checked against it."""
    values, vectors = torch.linalg.eigh(dense(A))
    null = vectors[:, values.abs() < 1e-9 * values.abs().max()]
    declared = 0 if A.nullspace is None else A.nullspace.dimension
    assert declared == null.shape[1]
    if declared:
        torch.testing.assert_close(A.nullspace.component(null.T), null.T, rtol=0, atol=1e-8)
    return declared


@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize("masked", [False, True])
def test_null_space_is_the_kernel(centring, masked):
    for shape in SHAPES:
        for grid in grids(shape, centring, masked):
            kernel(Diffusion(grid, fields(grid)[0]))


def parts(**settings: object) -> Grid:
    """Two rooms with a wall between, the right one with a cell shut in alone."""
    mask = np.ones((7, 8), dtype=bool)
    mask[3] = False
    mask[6, 6] = mask[5, 7] = False
    return Grid((7, 8), mask=mask, **{"centring": "cell", "boundary": "neumann", **settings})


def test_disconnected_parts():
    assert kernel(Diffusion(parts())) == 2
    assert kernel(Diffusion(parts(boundary=["periodic", "neumann"]))) == 1
    assert kernel(Diffusion(parts(boundary=[("dirichlet", "neumann"), "neumann"]))) == 1
    assert kernel(Diffusion(parts(boundary="dirichlet"))) == 0
    assert kernel(Diffusion(parts(obstacle="dirichlet"))) == 0


def test_reaction_grounds_only_where_it_is():
    left = np.zeros((7, 8))
    left[1, 2] = 1.0
    assert kernel(Diffusion(parts(), 1.0, left)) == 1
    wall = np.zeros((7, 8))
    wall[3] = 1.0  # where no unknown exists
    assert kernel(Diffusion(parts(), 1.0, wall)) == 2
    assert kernel(Diffusion(parts(), 1.0, 0.5)) == 0
    assert Diffusion(Grid((4,), boundary="neumann"), 1.0, torch.ones(2, 4)).nullspace is None


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((torch.ones(3, 3),), ShapeMismatch, r"coefficient has shape \(3, 3\); .* \(4, 5\) .*of its cells"),
        ((1.0, torch.ones(4, 5)), ShapeMismatch, r"reaction has shape \(4, 5\); .*unknowns\) or \(B, 3, 4\)"),
        ((torch.ones(2, 2, 4, 5),), ShapeMismatch, r"coefficient has shape \(2, 2, 4, 5\)"),
        ((float("nan"),), NonFinite, "the coefficient holds NaN or infinite values"),
        ((1.0, float("inf")), NonFinite, "the reaction holds NaN or infinite values"),
        ((0.0,), ValueError, "the diffusion coefficient must be positive everywhere"),
        ((1.0, -1.0), ValueError, r"must not be negative: for an indefinite shift add `s \* Identity` to A"),
    ],
)  # fmt: skip
def test_bad_fields(arguments, kind, message):
    with pytest.raises(kind, match=message):
        Diffusion(Grid((3, 4)), *arguments)


def test_batch_of_singular_and_regular_operators():
    c = torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=F64)
    with pytest.raises(ValueError, match="only some are singular: put those samples in a batch of their own"):
        Diffusion(Grid((2,), boundary="neumann"), 1.0, c)
    mask = np.array([True, True, False, True, True])
    c = torch.zeros(2, 5, dtype=F64)
    c[1, 0] = 1.0
    with pytest.raises(ValueError, match="only some are singular"):
        Diffusion(Grid((5,), boundary="neumann", mask=mask), 1.0, c)


def test_batches_that_do_not_fit():
    with pytest.raises(
        ShapeMismatch, match="coefficient is a batch of 2, the reaction one of 3: give both the same"
    ):
        Diffusion(Grid((2,)), torch.ones(2, 3), torch.ones(3, 2))


@pytest.mark.parametrize("centring", ["node", "cell"])
def test_periodic_axis_of_one_unknown_has_no_flux(centring):
    A = Diffusion(Grid((1, 4), centring=centring, boundary=["periodic", "dirichlet"]))
    line = Diffusion(Grid((4,), centring=centring))
    torch.testing.assert_close(dense(A), dense(line))
    np.testing.assert_allclose(diagonal(A), to_scipy(A).diagonal())
