from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, NotSupported, dense, sparse
from solvus.operators.linear.errors import ShapeMismatch
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.learned import shipped
from solvus.solvers.learned.directions import (
    BoxModes,
    ConjugateDirections,
    DCDMConfig,
    DCDMNetwork,
    EnergyLeft,
    KnownErrors,
    LineSearchResidual,
    MultilevelConfig,
    MultilevelNetwork,
    ResidualNorm,
    Residuals,
    SymmetricConfig,
    SymmetricMultilevelNetwork,
    UnrolledCG,
    cell_image,
    learned_directions,
    random_obstacles,
    ritz_modes,
    train_directions,
)
from solvus.solvers.learned.directions.losses import graph_laplacian
from solvus.solvers.training import Training
from solvus.solvers.training.outcome import Outcome
from solvus.solvers.training.saving import MissingFile

SMALL = DCDMConfig(channels=3, pairs=1, coarse=1, fine=1)
NETWORKS = {
    "dcdm": lambda: DCDMNetwork(SMALL),
    "multilevel": lambda: MultilevelNetwork(MultilevelConfig(levels=2, start="random")),
    "symmetric": lambda: SymmetricMultilevelNetwork(SymmetricConfig(levels=2)),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def closed(n, mask=None, **more):
    return Grid((n, n, n), upper=(n, n, n), centring="cell", boundary="neumann", mask=mask, **more)


def obstacles(n=8, seed=1):
    return random_obstacles(n, 3, generator(seed))


def mixed_grid(n=6):
    """All kinds of cells: walls and open faces, an open obstacle."""
    mask = np.ones((n, n, n), dtype=bool)
    mask[2:4, 1:3, 3] = False
    faces = (("neumann", "dirichlet"), ("neumann", "neumann"), ("dirichlet", "neumann"))
    return Grid((n, n, n), upper=(n, n, n), centring="cell", boundary=faces, mask=mask, obstacle="dirichlet")


def system(grid, seed=0, batch=()):
    A = Diffusion(grid)
    fluid = 1.0 if grid.mask is None else torch.as_tensor(grid.mask.ravel())
    b = torch.randn(*batch, A.shape[0], generator=generator(seed), dtype=torch.float64) * fluid
    return LinearSystem(A, b if A.nullspace is None else A.nullspace.project(b))


# --- losses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [closed(6), obstacles(), mixed_grid()], ids=["box", "obstacles", "mixed"])
def test_the_operator_of_the_losses(grid):
    """h^2 times `Diffusion`, whose own oracle is elsewhere."""
    q = torch.randn(1, 1, *grid.shape, generator=generator(), dtype=torch.float64)
    A, h = Diffusion(grid), grid.spacing[0]
    fluid = torch.ones(A.shape[0]) if grid.mask is None else torch.as_tensor(grid.mask.ravel())
    expected = h**2 * (A @ (q.reshape(-1) * fluid)) * fluid
    found = graph_laplacian(cell_image(grid).double(), q).reshape(-1)
    assert torch.allclose(found, expected, atol=1e-12)


def sample(grid, seed=0):
    (b, image), target = Residuals([grid], 5, seed)[2]
    return b[None].double(), image[None].double(), target[None].double()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3), sign=st.sampled_from([-1, 1]))
def test_only_one_loss_has_no_scale(seed, factor, sign):
    _, _, target = sample(obstacles())
    q = torch.randn(1, 1, 8, 8, 8, generator=generator(seed), dtype=torch.float64)
    one, many = LineSearchResidual()(q, target), LineSearchResidual()(sign * factor * q, target)
    assert torch.allclose(one, many, rtol=1e-9)
    assert not torch.allclose(ResidualNorm()(q, target), ResidualNorm()(-2 * q, target))


def test_losses_of_known_directions():
    grid = obstacles()
    b, _, target = sample(grid)
    A = dense(Diffusion(grid)) / 64
    exact = (torch.linalg.pinv(A) @ b.reshape(-1)).reshape(b.shape)
    assert float(LineSearchResidual()(3 * exact, target)) < 1e-10
    assert float(ResidualNorm()(exact, target)) < 1e-5
    assert float(ResidualNorm()(0 * exact, target)) == pytest.approx(1)
    assert float(LineSearchResidual()(torch.ones_like(exact), target)) == pytest.approx(1)
    q = torch.randn(b.shape, generator=generator(), dtype=torch.float64) * (b != 0)
    v, w = q.reshape(-1), b.reshape(-1)
    alpha = (v @ w) / (v @ A @ v)
    assert float(LineSearchResidual()(q, target)) == pytest.approx(float((w - alpha * A @ v).square().sum()))


def test_energy_left_is_that_of_the_best_step():
    """Against NumPy: the least (x - a q).A (x - a q) over a, and the bound of Kantorovich."""
    grid = obstacles()
    (_, _), target = KnownErrors([grid], 5)[2]
    target = target[None].double()
    x = target[0, 0, 1:-1, 1:-1, 1:-1].reshape(-1).numpy()
    A = dense(Diffusion(grid)).numpy() / 64
    fluid = grid.mask.ravel()
    for seed in range(3):
        q = np.random.default_rng(seed).standard_normal(512) * fluid
        a = (q @ A @ x) / (q @ A @ q)
        left = (x - a * q) @ A @ (x - a * q) / (x @ A @ x)
        found = EnergyLeft()(torch.from_numpy(q).reshape(1, 1, 8, 8, 8), target)
        assert float(found) == pytest.approx(left, rel=1e-9)
    assert (
        float(EnergyLeft()(torch.from_numpy(fluid * 1.0).reshape(1, 1, 8, 8, 8), target)) == 1.0
    )  # null space
    r = torch.from_numpy(A @ x).reshape(1, 1, 8, 8, 8)
    values = np.linalg.eigvalsh(A[fluid][:, fluid])
    assert (
        float(EnergyLeft()(r, target)) <= ((values[-1] / values[1] - 1) / (values[-1] / values[1] + 1)) ** 2
    )


def test_known_errors():
    grid = obstacles()
    (r, image), target = KnownErrors([closed(8), grid], 4)[1]
    x = target[:1, 1:-1, 1:-1, 1:-1]
    assert float(r.norm()) == pytest.approx(1, rel=1e-5)
    assert torch.equal(target[1:], image)
    assert bool((x[0][~torch.as_tensor(grid.mask)] == 0).all())
    assert torch.allclose(graph_laplacian(image[None], x[None])[0], r, atol=1e-5)
    assert not torch.equal(r, KnownErrors([closed(8), grid], 4, seed=1)[1][0][0])
    with pytest.raises(ValueError, match="at least one grid and one sample, got 0, 3"):
        KnownErrors([], 3)


def test_known_errors_have_equal_energy_in_every_octave():
    values, vectors = torch.linalg.eigh(dense(Diffusion(closed(8))))
    b = BoxModes(closed(8), weight=1.0, density="errors").draw(400, generator()).reshape(400, -1)
    energy = ((b @ vectors).square() * values).mean(0)
    low, high = ((values > a) & (values <= 2 * a) for a in (0.3, 2.4))
    assert 0.4 < float(energy[low].sum() / energy[high].sum()) < 2.5  # three octaves apart; "modes": 1 / 60
    even = (
        BoxModes(closed(8), density="modes", weight=1.0).draw(400, generator()).reshape(400, -1)
    ) @ vectors
    energy = (even.square() * values).mean(0)
    assert float(energy[low].sum() / energy[high].sum()) < 0.1


def test_losses_of_wrong_shapes():
    for loss in (LineSearchResidual(), ResidualNorm(), EnergyLeft()):
        with pytest.raises(ShapeMismatch, match=r"the direction has shape \(2, 1, 4, 4, 4\), the target"):
            loss(torch.zeros(2, 1, 4, 4, 4), torch.zeros(2, 1, 4, 4, 4))


# --- data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "grid",
    [
        closed(4),
        Grid((4, 5, 3), centring="cell"),
        Grid((4, 3, 5)),
        Grid(
            (4, 3, 4),
            centring="cell",
            boundary=(("neumann", "dirichlet"), ("neumann",) * 2, ("dirichlet",) * 2),
        ),
    ],
)
def test_box_modes_are_the_eigenvectors(grid):
    """With no weight on the low part the draws have none of the lowest eigenvectors, found by NumPy."""
    A = dense(Diffusion(grid))
    values, vectors = torch.linalg.eigh(A)
    lowest = vectors[:, values < 0.3 * values[-1]]  # the arcsine law: 0.37 of the Ritz values
    b = BoxModes(grid, weight=0.0, low=0.38).draw(3, generator()).reshape(3, -1)
    assert float((b @ lowest).abs().max()) < 1e-12
    whole = BoxModes(grid).draw(3, generator()).reshape(3, -1)
    assert torch.allclose(whole.norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert float((whole @ lowest[:, int(A.shape[0] == 64) :]).abs().min()) > 0


def energy_below(b, eigenpairs, share):
    values, vectors = eigenpairs
    part = ((b @ vectors).square() * (values <= share * values[-1])).sum(1)
    return float((part / b.square().sum(1)).mean())


def test_box_modes_have_the_spectrum_of_lanczos_data():
    """Energy below an eigenvalue is that of draws from Ritz vectors; with equal modes it is not."""
    grid = closed(8)
    A = Diffusion(grid)
    pairs = torch.linalg.eigh(dense(A))
    ritz = ritz_modes(A, 40, generator())
    from_ritz = ritz.draw(400, generator(1), weight=1.0)
    for density, near in (("ritz", True), ("modes", False)):
        ours = BoxModes(grid, weight=1.0, density=density).draw(400, generator(2)).reshape(400, -1)
        gaps = [
            abs(energy_below(ours, pairs, s) - energy_below(from_ritz, pairs, s)) for s in (0.1, 0.2, 0.3)
        ]
        assert (max(gaps) < 0.06) == near, gaps


def test_the_low_part_has_nine_times_the_weight():
    grid = closed(8)
    pairs = torch.linalg.eigh(dense(Diffusion(grid)))
    b = BoxModes(grid, low=0.5).draw(400, generator()).reshape(400, -1)
    assert energy_below(b, pairs, 0.5) == pytest.approx(
        81 / 82, abs=0.02
    )  # many modes share the eigenvalue in the middle


def test_residuals_are_made_when_asked_for():
    grid = obstacles()
    data = Residuals([closed(8), Grid((8,) * 3, centring="cell", boundary="neumann", mask=grid.mask)], 10**12)
    (b, image), target = data[10**11 + 1]
    assert torch.equal(data[10**11 + 1][1], target)
    assert not torch.equal(Residuals(data_grids := [grid], 4)[0][1], Residuals(data_grids, 4, seed=1)[0][1])
    assert torch.equal(target, torch.cat([functional.pad(b, (1,) * 6), image]))
    assert float(b.norm()) == pytest.approx(1)
    assert abs(float(b.double().sum())) < 1e-4
    assert bool((b[0][~torch.as_tensor(grid.mask)] == 0).all())
    assert b.dtype == torch.float32
    with pytest.raises(IndexError):
        data[10**12]


def test_data_that_cannot_be_made():
    with pytest.raises(ValueError, match="low is a share of the spectrum, 0 to 1, got 2"):
        BoxModes(closed(4), low=2)
    with pytest.raises(ValueError, match="density is 'ritz', 'modes' or 'errors'"):
        BoxModes(closed(4), density="flat")
    for grid in (Grid((4, 4, 4), boundary="periodic"), Grid((4, 4, 4), boundary="neumann")):
        with pytest.raises(NotSupported, match="use `ritz_modes"):
            BoxModes(grid)
    with pytest.raises(ValueError, match="at least one grid and one sample, got 0, 3"):
        Residuals([], 3)
    with pytest.raises(ShapeMismatch, match="2 shapes and boundaries"):
        Residuals([closed(4), closed(6)], 3)


def test_ritz_pairs():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    exact = np.geomspace(1e-2, 10, 40)
    A = sparse((q * exact) @ q.T, tags=frozenset())
    with pytest.raises(NotSupported, match="not declared symmetric"):
        ritz_modes(A, 3, generator())
    A = LinearSystem((q * exact + 0) @ q.T, torch.ones(40, dtype=torch.float64)).A
    A.tags = frozenset(Diffusion(closed(4)).tags)
    ritz = ritz_modes(A, 40, generator())
    assert np.allclose(ritz.values, exact, rtol=1e-8)
    assert torch.allclose(ritz.vectors @ ritz.vectors.mT, torch.eye(40, dtype=torch.float64), atol=1e-12)
    few = ritz_modes(A, 12, generator())
    assert float(few.values[-1]) == pytest.approx(10, rel=1e-4)
    assert bool((few.values[1:] > few.values[:-1]).all())


def test_ritz_pairs_of_a_null_space_are_dropped_and_short_spaces_end():
    A = Diffusion(Grid((6, 5), centring="cell", boundary="neumann"))
    different = len(np.unique(np.linalg.eigvalsh(dense(A).numpy()).round(6)))
    ritz = ritz_modes(A, 1000, generator())
    assert different - 1 <= len(ritz.values) <= 29  # rounding finds some eigenvalues twice
    assert float(ritz.values[0]) > 0.1
    assert len(ritz_modes(sparse(sp.eye_array(9)), 5, generator()).values) == 1
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        ritz_modes(A, 0, generator())
    batch = Diffusion(Grid((3, 3)), torch.ones(2, 4, 4))
    with pytest.raises(NotSupported, match="a batch of"):
        ritz_modes(batch, 2, generator())


def test_random_obstacles():
    first, again, other = (random_obstacles(12, 4, generator(seed)).mask for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()
    assert ndimage.label(first)[1] == 1
    with pytest.raises(ValueError, match="2 draws of 200 obstacles left no connected fluid on 6"):
        random_obstacles(6, 200, generator(), attempts=2)


# --- training -----------------------------------------------------------------------------------------------


def training(**more):
    return Training(4, 4, 3e-3, "adam", 0.0, checkpoint_seconds=0, select="last", **more)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_lowers_the_loss_and_saves(name, tmp_path):
    net = NETWORKS[name]()
    data, valid = Residuals([closed(8), obstacles()], 40), Residuals([obstacles()], 4, seed=9)
    trained = train_directions(net, data, training(), valid=valid, out=tmp_path / "out", meta={"why": "test"})
    losses = [row["train"] for row in trained.history]
    assert losses[-1] < 0.9 * losses[0]
    saved = type(net).load(tmp_path / "out" / "network")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), saved.parameters(), strict=True))
    card = (tmp_path / "out" / "network" / "README.md").read_text()
    for words in ("| box | 8 x 8 x 8 |", "| steps | 40 |", "| why | test |", "| batch | 4 |"):
        assert words in card


def test_symmetric_networks_train_on_known_errors(tmp_path):
    net = NETWORKS["symmetric"]()
    data, valid = KnownErrors([closed(8), obstacles()], 40), KnownErrors([obstacles()], 4, seed=9)
    trained = train_directions(net, data, training(), valid=valid, out=tmp_path / "out")
    losses = [row["train"] for row in trained.history]
    assert losses[-1] < 0.9 * losses[0]
    assert "EnergyLeft" in (tmp_path / "out" / "network" / "README.md").read_text()
    with pytest.raises(TypeError, match="training on KnownErrors, validation on Residuals"):
        train_directions(net, data, training(), valid=Residuals([obstacles()], 4), out=tmp_path / "other")


def test_training_through_steps_of_cg(tmp_path):
    net = NETWORKS["symmetric"]()
    data, valid = KnownErrors([closed(8), obstacles()], 40), KnownErrors([obstacles()], 4, seed=9)
    trained = train_directions(UnrolledCG(net, 3), data, training(), valid=valid, out=tmp_path / "out")
    losses = [row["train"] for row in trained.history]
    assert losses[-1] < losses[0] - 0.3  # logarithms
    saved = type(net).load(tmp_path / "out" / "network")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), saved.parameters(), strict=True))
    with pytest.raises(TypeError, match="UnrolledCG compares with errors, which Residuals do not have"):
        train_directions(UnrolledCG(net, 2), Residuals([obstacles()], 4), training(), out=tmp_path / "other")
    with pytest.raises(ValueError, match="at least 1 step of CG is unrolled, got 0"):
        UnrolledCG(net, 0)
    with pytest.raises(NotSupported, match="MultilevelNetwork is not symmetric, CG does not take it"):
        UnrolledCG(NETWORKS["multilevel"](), 2)


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_unrolled_steps_are_those_of_cg(steps):
    grid, net = obstacles(), NETWORKS["symmetric"]().double()
    (r, image), target = KnownErrors([grid], 5)[2]
    A = Diffusion(grid)
    b = 64 * A.nullspace.project(r.double().reshape(-1))
    seen = []
    stop = Stop(rtol=1e-14, max_steps=steps)
    f = learned_directions(net)
    solve(LinearSystem(A, b), CG(f), stop=stop, callback=lambda k, x, _: seen.append(x.clone()), throw=False)
    ours = UnrolledCG(net, steps)(r[None].double(), image[None].double())
    assert torch.allclose(A.nullspace.project(ours.detach().reshape(-1)), seen[-1], atol=1e-5)
    left = [float(EnergyLeft(logarithm=log)(ours.detach(), target[None].double())) for log in (False, True)]
    assert np.exp(left[1]) == pytest.approx(left[0])


def test_training_goes_on_where_it_stopped(tmp_path):
    runs = []
    for parts in (1, 3):
        torch.manual_seed(5)
        net, data = DCDMNetwork(SMALL), Residuals([closed(8)], 12)
        for part in range(parts):
            torch.manual_seed(5)
            again = net if part == 0 else DCDMNetwork(SMALL)
            limit = 0 if part < parts - 1 else None
            trained = train_directions(
                again, data, training(seconds=limit), out=tmp_path / f"{parts}", resume=True
            )
        runs.append((again, trained))
    assert runs[1][1].outcome is Outcome.FINISHED
    pairs = zip(runs[0][0].parameters(), runs[1][0].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# --- what is shipped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dcdm-32", DCDMNetwork),
        ("multilevel-32", MultilevelNetwork),
        ("multilevel-spd", SymmetricMultilevelNetwork),
    ],
)
def test_shipped_weights_halve_the_iterations_of_cg(name, kind):
    network = kind.load(shipped(name))
    problem = system(random_obstacles(16, 4, generator(77)))
    plain = solve(problem, CG(), stop=Stop(1e-4)).steps
    steps = solve(problem, ConjugateDirections(learned_directions(network)), stop=Stop(1e-4)).steps
    assert 2 * steps <= plain
    card = (shipped(name) / "README.md").read_text()
    assert "seconds in all" in card


def test_weights_that_are_not_shipped():
    with pytest.raises(
        MissingFile, match=r"no weights named .dcdm-9. come with the package; there are .*dcdm-32"
    ):
        shipped("dcdm-9")


def test_residuals_along_a_solve():
    """The energy falls in every step; the residual need not, but does in most."""
    network = MultilevelNetwork.load(shipped("multilevel-32"))
    result = solve(system(obstacles(12)), ConjugateDirections(learned_directions(network)), stop=Stop(1e-8))
    assert sum(b < a for a, b in pairwise(result.residuals.tolist())) > 0.7 * result.steps
