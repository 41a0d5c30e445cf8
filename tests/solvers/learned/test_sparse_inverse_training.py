"""Training of sparse inverses: losses, gradients, random matrices, and a trainer that can go on."""

import json

import numpy as np
import pytest
import torch

from solvus.meshes import box, disc
from solvus.operators.linear import dense, to_scipy
from solvus.solvers.learned.sparse_inverse import (
    RandomMeshes,
    SparseInverseConfig,
    SparseInverseNetwork,
    Trainer,
    Training,
    factored_sparse_inverse,
    iterations,
    jittered,
    ratio,
    stiffness,
)
from solvus.solvers.learned.sparse_inverse.losses import TrainingSystem, hutchinson, kaporin, reduction
from solvus.solvers.preconditioners import jacobi

pytest.importorskip("skfem", reason="needs scikit-fem")
WIDE = torch.float64
SMALL = RandomMeshes((60, 120))


def network(pattern="full", seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = SparseInverseNetwork(
            SparseInverseConfig(pattern=pattern, **{"width": 6, "layers": 2, **options})
        )
        torch.nn.init.normal_(net.head.weight, std=0.1)
        torch.nn.init.normal_(net.head.bias, std=0.1)
    return net


def system(pattern="full", number=0, dtype=WIDE):
    return TrainingSystem(SMALL.draw(number), pattern, 3e-3, dtype=dtype)


def full_matrices(s, L):
    """The scaled A and M = L L^T + eps Id as dense matrices."""
    g, n = s.graph, s.n
    A, F = torch.zeros(2, n, n, dtype=WIDE)
    A[g.rows, g.cols] = s.entries
    F[g.rows[g.kept], g.cols[g.kept]] = L.detach()
    return A, F @ F.T + s.eps * torch.eye(n, dtype=WIDE), F


LOSSES = {
    "hutchinson": hutchinson,
    "kaporin": kaporin,
    "reduction": lambda s, L, z: reduction(s, L, z, 3),
}


@pytest.mark.parametrize("pattern", ["full", "lower", "lower-squared"])
def test_products_are_those_of_the_matrices(pattern):
    s = system(pattern)
    L = network(pattern).double()(s.graph)
    A, M, _ = full_matrices(s, L)
    z = s.random(3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(s.apply(z), A @ z)
    torch.testing.assert_close(s.precondition(L, z).detach(), M @ z)
    torch.testing.assert_close(A.diagonal(), torch.ones(s.n, dtype=WIDE))


def test_losses_are_their_formulas():
    s = system("lower")
    L = network("lower").double()(s.graph)
    A, M, F = full_matrices(s, L)
    z = s.random(1, torch.Generator().manual_seed(0))
    y = M @ A @ z
    best = float((y * z).sum() / (y * y).sum())
    misfit = (best * y - z).square().sum() / z.square().sum()
    assert hutchinson(s, L, z).item() == pytest.approx(float(misfit.log()))
    many = s.random(20_000, torch.Generator().manual_seed(0))
    n = s.n
    logarithm = (torch.trace(M @ A) / n).log() - 2 * F.diagonal().abs().log().mean()
    assert kaporin(s, L, many).item() == pytest.approx(float(logarithm), abs=5e-3)
    x, r, count = (
        torch.zeros_like(z),
        z,
        2,
    )  # the residual of CG is b - A x for the best x of the Krylov space
    basis = torch.linalg.qr(torch.cat([M @ z, M @ A @ M @ z], dim=1))[0]
    x = basis @ torch.linalg.solve(basis.T @ A @ basis, basis.T @ z)
    r = z - A @ x
    assert reduction(s, L, z, count).item() == pytest.approx(float((r.norm() / z.norm()).log()) / 2, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_do_not_see_the_scale_of_the_inverse(name):
    s = system("lower")
    L = network("lower").double()(s.graph)
    z = s.random(2, torch.Generator().manual_seed(0))
    s.eps = 0.0
    assert LOSSES[name](s, 7 * L, z).item() == pytest.approx(LOSSES[name](s, L, z).item(), rel=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    s = system("lower")
    L = network("lower").double()(s.graph).detach().requires_grad_()
    z = s.random(2, torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda entries: LOSSES[name](s, entries, z), (L,), fast_mode=True)


def test_products_are_differentiable_in_both_arguments():
    s = system()
    L = network().double()(s.graph).detach().requires_grad_()
    z = s.random(2, torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(s.precondition, (L, z), fast_mode=True)


@pytest.mark.parametrize("pattern", ["full", "lower", "lower-squared"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_parameter_gets_a_gradient(pattern, name):
    net, s = network(pattern), system(pattern, dtype=torch.float32)
    LOSSES[name](s, net(s.graph), s.random(2, torch.Generator().manual_seed(0))).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert bool((parameter.grad != 0).any()), key


def test_random_matrices_are_spd_and_a_stream():
    rows = set()
    for k in range(6):
        A = SMALL.draw(k)
        values = dense(A)
        assert torch.equal(values, values.T)
        assert float(torch.linalg.eigvalsh(values).min()) > 0
        assert 20 < A.shape[0] < 400
        rows.add(A.shape[0])
    assert len(rows) > 3
    assert abs(to_scipy(SMALL.draw(3)) - to_scipy(SMALL.draw(3))).max() == 0


@pytest.mark.parametrize("mesh", [disc(5), box((3, 4, 5))], ids=["triangles", "tetrahedra"])
def test_jittered_meshes_keep_their_boundary(mesh):
    moved = jittered(mesh, 0.45, np.random.default_rng(0))
    wall = np.unique(mesh.facets[mesh.boundary_facets])
    assert np.array_equal(moved.points[wall], mesh.points[wall])
    assert float(abs(moved.points - mesh.points).max()) > 0.01
    assert float((moved.volumes / mesh.volumes).min()) >= 0.1


def test_stiffness_of_one_part_of_the_boundary():
    mesh = box((4, 4))
    assert stiffness(mesh, np.ones(32)).shape == (9, 9)
    assert stiffness(mesh, np.ones(32), ("xmin",)).shape == (20, 20)


TINY = Training(steps=60, pool=2, visits=1000, cg_steps=4, rate=1e-2, evaluate_every=30)


def test_training_saves_steps(tmp_path):
    torch.manual_seed(0)
    net, rows = SparseInverseNetwork(SparseInverseConfig(width=8, layers=2)), []
    held_out = [RandomMeshes((200, 300), seed=5).draw(k) for k in range(2)]
    trainer = Trainer(net, TINY, draw=SMALL.draw, folder=tmp_path, report=rows.append)
    assert trainer.run(held_out) < -0.2
    assert [row["step"] for row in rows] == [30, 60]
    assert rows[-1]["jacobi"] == iterations(jacobi, held_out)
    assert rows[-1]["ratio"] < 0.75
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[1])["ratio"] == rows[1]["ratio"]


@pytest.mark.parametrize(("objective", "pattern"), [("hutchinson", "full"), ("kaporin", "lower")])
def test_other_objectives_fall_too(objective, pattern):
    torch.manual_seed(0)
    net = SparseInverseNetwork(SparseInverseConfig(width=8, layers=2, pattern=pattern))
    trainer = Trainer(net, Training(pool=1, objective=objective, rate=1e-2), draw=SMALL.draw)
    trainer.advance()
    (s,) = trainer.pool
    z = s.random(200, torch.Generator().manual_seed(7))

    def value():
        with torch.no_grad():
            return float(LOSSES[objective](s, net(s.graph), z))

    before = value()
    for _ in range(30):
        trainer.advance()
    assert value() < before - 0.02


def test_training_can_be_taken_up_again(tmp_path):
    once, again = (Trainer(network(), TINY, draw=SMALL.draw) for _ in range(2))
    once.advance()
    once.save_state(tmp_path / "state.pt")
    again.load_state(tmp_path / "state.pt")
    assert again.step == 1
    assert again.drawn == 1
    for p, q in zip(once.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(p, q)
    once.pool, once.visits = [], []
    assert once.advance() == pytest.approx(again.advance())


def test_a_worn_matrix_is_replaced():
    trainer = Trainer(network(), Training(pool=1, visits=2, cg_steps=2), draw=SMALL.draw)
    for _ in range(5):
        trainer.advance()
    assert trainer.drawn == 3


def test_messages():
    with pytest.raises(ValueError, match="at least 1, got"):
        Training(pool=0)
    with pytest.raises(ValueError, match="not triangular here: use the pattern 'lower'"):
        Trainer(network(), Training(objective="kaporin"))


def test_ratio_and_iterations():
    A = SMALL.draw(0)
    counts = iterations(factored_sparse_inverse(), [A]), iterations(jacobi, [A])
    assert 0.2 < ratio(*counts) < 0.8
    assert ratio([], []) == 1.0
