"""Learned fluxes: the two-point flux scheme at the start, an exact solve, gradients by the adjoint."""

import numpy as np
import pytest
import scipy.sparse.linalg as spla
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, to_scipy
from solvus.operators.neural.base import WrongChannels, WrongResolution, WrongSettings
from solvus.operators.neural.layers.two_point_flux import solve_fluxes
from solvus.operators.neural.learned_fluxes import LARGEST_LOG, QUICKER, LearnedFluxes, LearnedFluxesConfig
from solvus.solvers.training import RelativeL2, Surrogate, Training, evaluate, fit, normalisers

SHAPES = [(7,), (5, 4), (3, 4, 3)]


def balance(space, seed=0, samples=2, outputs=3):
    g = torch.Generator().manual_seed(seed)
    faces = [
        torch.rand(samples, *(n - (k == axis) for k, n in enumerate(space)), dtype=torch.float64, generator=g)
        + 0.1
        for axis in range(len(space))
    ]
    ends = torch.rand(samples, *space, dtype=torch.float64, generator=g)
    sources = torch.randn(samples, outputs, *space, dtype=torch.float64, generator=g)
    return sources, faces, ends


def dense(faces, ends):
    """The matrix of one sample, entry by entry from the definition."""
    space = ends.shape
    places = torch.arange(ends.numel()).reshape(space)
    A = torch.diag(ends.flatten())
    for axis, T in enumerate(faces):
        n = space[axis] - 1
        pairs = zip(places.narrow(axis, 0, n).flatten(), places.narrow(axis, 1, n).flatten(), strict=True)
        for (i, j), t in zip(pairs, T.flatten(), strict=True):
            A[i, i] += t
            A[j, j] += t
            A[i, j] -= t
            A[j, i] -= t
    return A


@pytest.mark.parametrize("space", SHAPES)
def test_the_solve_is_that_of_the_dense_matrix(space):
    sources, faces, ends = balance(space)
    u = solve_fluxes(sources, faces, ends)
    for i in range(2):
        wanted = torch.linalg.solve(dense([f[i] for f in faces], ends[i]), sources[i].flatten(1).T).T
        assert torch.allclose(u[i].flatten(1), wanted, rtol=1e-10)
        wrong = torch.linalg.solve(dense([f[i] * 1.01 for f in faces], ends[i]), sources[i].flatten(1).T).T
        assert not torch.allclose(u[i].flatten(1), wrong, rtol=1e-4)


@pytest.mark.parametrize("space", SHAPES)
def test_gradients_of_the_solve(space):
    arguments = balance(space)
    leaves = [arguments[0], arguments[2], *arguments[1]]
    for leaf in leaves:
        leaf.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, e, *f: solve_fluxes(s, f, e), leaves)


def test_a_sample_that_cannot_be_solved_gives_nan_and_spares_the_others():
    sources, faces, ends = balance((5, 4))
    ends[0] = 0.0  # nothing holds the solution
    faces[0][1, 0, 0] = torch.nan
    three = [torch.cat((t, t[:1])) for t in (sources, ends, *faces)]
    three[1][2] = 1.0
    u = solve_fluxes(three[0], three[2:], three[1])
    assert u[1].isnan().all()
    assert u[2].isfinite().all()
    negative = solve_fluxes(sources[:1], [-f[:1].abs() for f in balance((5, 4))[1]], ends[:1])
    assert negative.isnan().all()


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("layers", [0, 2])
def test_the_start_is_the_scheme_of_finite_volumes(dim, layers):
    """With the contrast put in by hand, an untrained network is `Diffusion` on cells."""
    space = (6, 5, 4)[:dim]
    low, high = 3.0, 12.0
    x = (torch.rand(2, 1, *space, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    net = LearnedFluxes(LearnedFluxesConfig(1, 1, dim=dim, layers=layers)).double()
    with torch.no_grad():
        logs = [LARGEST_LOG * np.arctanh(np.log(a) / LARGEST_LOG) / QUICKER for a in (low, high)]
        net.log_coefficient.weight.fill_(logs[1] - logs[0])
        net.log_coefficient.bias.fill_(logs[0])
    u = net(x)
    upper = tuple(map(float, space))  # cells of size one
    for i in range(2):
        grid = Grid(space, upper=upper, centring="cell")
        A = Diffusion(grid, torch.where(x[i, 0] > 0, high, low).double())
        wanted = spla.spsolve(to_scipy(A).tocsc(), np.full(grid.size, 8 / max(space) ** 2))
        assert np.allclose(u[i].detach().numpy().ravel(), wanted, rtol=1e-8)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_every_parameter_gets_a_gradient(dim, shared):
    net = LearnedFluxes(
        LearnedFluxesConfig(2, 3, dim=dim, width=4, boundary=("dirichlet", "neumann") * dim, shared=shared)
    )
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    net(torch.randn(2, 2, *(5, 6, 4)[:dim])).square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None
        assert bool((p.grad != 0).any()), name


def test_turned_problems_have_turned_solutions():
    """One network for both axes: mirrored at the diagonal, a field gives the mirrored solution."""
    net = LearnedFluxes(LearnedFluxesConfig(1, 1, width=4))
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x = torch.randn(2, 1, 7, 7)
    assert torch.allclose(net(x.mT), net(x).mT, rtol=1e-4)
    apart = LearnedFluxes(LearnedFluxesConfig(1, 1, width=4, shared=False))
    for p in apart.parameters():
        torch.nn.init.normal_(p, std=0.2)
    assert not torch.allclose(apart(x.mT), apart(x).mT, rtol=1e-2)


def test_only_the_numbers_of_the_field_are_trained():
    net = LearnedFluxes(LearnedFluxesConfig(1, 1))
    net.train_network(False)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 6
    net.train_network(True)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 5721
    few = LearnedFluxes(LearnedFluxesConfig(1, 1, layers=0))
    assert sum(p.numel() for p in few.parameters()) == 6


def test_training_finds_the_coefficients(tmp_path):
    """From pairs of a scheme with unknown contrast, six numbers recover it; the model is saved whole."""
    g = torch.Generator().manual_seed(0)
    x = (torch.rand(40, 1, 8, 8, generator=g) > 0.5).float()
    y = torch.stack(
        [
            torch.from_numpy(
                spla.spsolve(
                    to_scipy(
                        Diffusion(Grid((8, 8), centring="cell"), torch.where(a[0] > 0, 5.0, 1.0).double())
                    ).tocsc(),
                    np.ones(64),
                )
            ).reshape(1, 8, 8)
            for a in x
        ]
    ).float()
    net = LearnedFluxes(LearnedFluxesConfig(1, 1, layers=0))
    model = Surrogate(net, *normalisers((x[:30], y[:30])))
    held = (x[30:], y[30:])
    before = evaluate(model, held)["valid"]
    settings = Training(epochs=40, batch=5, learning_rate=2e-2, weight_decay=0)
    fit(model, (x[:30], y[:30]), RelativeL2(), settings)
    after = evaluate(model, held)["valid"]
    assert after < 0.02 < 0.2 < before
    model.save(tmp_path / "model")
    again = Surrogate.load(tmp_path / "model")
    assert torch.equal(again.predict(held[0]), model.predict(held[0]))


def test_weights_of_any_size_leave_a_matrix_that_is_solved():
    net = LearnedFluxes(LearnedFluxesConfig(1, 1, width=4))
    for p in net.parameters():
        torch.nn.init.normal_(p, std=30.0)
    with torch.no_grad():
        net.scale.zero_()
    assert net(torch.randn(4, 1, 9, 9)).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dim": 4}, "dim is 1, 2 or 3"),
        ({"width": 0}, "width is at least 1, got 0"),
        ({"layers": -1}, "layers is at least 0, got -1"),
        ({"boundary": ("periodic",)}, "take another network, FNO for periodic problems"),
        ({"boundary": ("neumann",)}, "need a box with a dirichlet side"),
        ({"activation": "square"}, "activation is one of"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(WrongSettings, match=words):
        LearnedFluxesConfig(1, 1, **settings)


def test_wrong_inputs():
    net = LearnedFluxes(LearnedFluxesConfig(1, 1, width=2))
    with pytest.raises(WrongChannels, match="takes fields"):
        net(torch.zeros(2, 2, 8, 8))
    with pytest.raises(WrongResolution, match="at least 2 cells per axis"):
        net(torch.zeros(2, 1, 8, 1))
