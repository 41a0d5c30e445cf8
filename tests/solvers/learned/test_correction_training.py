"""Losses, data and training of correction networks, and the weights that come with the package."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.linear.errors import ShapeMismatch
from solvus.solvers import CG, LinearSystem, Stop, jacobi, solve
from solvus.solvers.krylov import FlexibleCG
from solvus.solvers.learned import shipped
from solvus.solvers.learned.corrections import (
    CorrectionConfig,
    CorrectionData,
    CorrectionNetwork,
    Hybrid,
    NotayLoss,
    StencilResidual,
    apply_stencil,
    learned_correction,
    stencil_channels,
    train_correction,
)
from solvus.solvers.learned.directions import LineSearchResidual, cell_image
from solvus.solvers.stationary import Jacobi
from solvus.solvers.training import Training, fit
from solvus.solvers.training.saving import read_config

SMALL = ("10", "20")


def iterates(problem, solver, steps):
    seen = []
    stop = Stop(rtol=0, max_steps=steps)
    solve(problem, solver, stop=stop, callback=lambda k, x, _: seen.append(x.clone()) and None, throw=False)
    return torch.stack(seen)


def config(**more):
    return CorrectionConfig(**{"channels": 4, "layers": 1, "smoothing": SMALL, **more})


def network(seed=0, std=0.01, **more):
    """A network that says something: its head does not start at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = CorrectionNetwork(config(**more))
        torch.nn.init.normal_(net.operator.head.weight, std=std)
    return net


def masked(n=9):
    mask = np.ones((n, n + 1), dtype=bool)
    mask[2:5, 3:7] = False
    return mask


# --- losses -------------------------------------------------------------------------------------------------


def sample(seed=0):
    (r, stencil), target = CorrectionData(Grid((12, 11)), 3, seed, steps=(0, 4)).tensors()
    return r.double(), stencil.double(), target.double()


def exact_sample():
    """The data are float32: here r is A e to the last bits."""
    _, stencil, target = sample()
    return torch.cat([apply_stencil(stencil, target[:, 1:2]), target[:, 1:]], 1)


SAMPLE = exact_sample()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), sign=st.sampled_from([1, -1]))
def test_losses_do_not_see_the_scale(seed, scale, sign):
    target = SAMPLE
    f = torch.randn(target[:, :1].shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for loss in (NotayLoss(), StencilResidual()):
        assert torch.allclose(loss(sign * scale * f, target), loss(f, target), rtol=1e-9)
    assert float(NotayLoss()(f, target).max()) <= 1 + 1e-12


def test_losses_of_the_error_itself():
    _, _, target = sample()
    e = target[:, 1:2]
    assert float(NotayLoss()(e, target).max()) < 1e-3  # the data are float32
    assert float(NotayLoss(line_search=False)(e, target).max()) < 1e-3
    assert float(StencilResidual()(e, target).max()) < 1e-6
    assert torch.allclose(NotayLoss(line_search=False)(2 * e, target), torch.ones(6).double(), atol=1e-3)


def test_the_residual_loss_is_that_of_the_direction_networks():
    """Where those know the operator: unit coefficient and spacing, cells."""
    grid = Grid((5, 4, 6), upper=(5, 4, 6), centring="cell")
    q, b = torch.randn(2, 1, 1, *grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = b / b.norm()
    image = torch.nn.functional.pad(b, (1,) * 6)
    theirs = LineSearchResidual()(q, torch.cat([image, cell_image(grid).double()], 1))
    stencil = stencil_channels(Diffusion(grid))
    assert torch.allclose(StencilResidual()(q, torch.cat([b, 0 * b, stencil], 1)), theirs, rtol=1e-10)


def test_losses_of_another_shape():
    _, _, target = sample()
    for loss in (NotayLoss(), StencilResidual()):
        with pytest.raises(ShapeMismatch, match=r"the correction has shape \(6, 1, 12, 10\), the target"):
            loss(target[:, :1, :, :-1], target)
        with pytest.raises(ShapeMismatch, match="as `CorrectionData` gives them"):
            loss(target[:, :1], target[:, :4])


def test_a_useless_correction_has_a_finite_loss_and_gradient():
    _, _, target = sample()
    for f in (torch.zeros_like(target[:, :1]), target[:, 1:2].clone()):
        f.requires_grad_()
        loss = NotayLoss()(f, target).sum() + StencilResidual()(f, target).sum()
        loss.backward()
        assert f.grad is not None
        assert bool(torch.isfinite(f.grad).all())


# --- data and training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [Grid((12, 11)), Grid((9, 10), mask=masked())], ids=["box", "mask"])
def test_data_hold_residuals_and_errors(grid):
    (r, stencil), target = CorrectionData(grid, 3, steps=(5, 0, 2)).tensors()
    assert target.shape == (9, 5, *grid.shape)
    assert target.dtype == torch.float32
    assert torch.equal(target, torch.cat([r, target[:, 1:2], stencil], 1))
    assert torch.allclose(r.flatten(1).norm(dim=1), torch.ones(9))
    assert torch.allclose(stencil[:, 0].flatten(1).amax(1), torch.ones(9))
    image = apply_stencil(stencil.double(), target[:, 1:2].double())
    assert torch.allclose(image, r.double(), atol=2e-6)


def test_data_come_from_the_seed():
    def first(seed):
        return CorrectionData(Grid((8, 8)), 2, seed, steps=(0, 3))[1][1]

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))
    assert len(CorrectionData(Grid((8, 8)), 2, steps=(0, 3, 3))) == 4


def test_data_of_a_preconditioner_that_converges_at_once():
    from solvus.solvers.multigrid import multigrid

    data = CorrectionData(Grid((8, 8)), 2, steps=(0, 40, 50), preconditioner=multigrid())
    _, target = data.tensors()
    assert len(target) == len(data) == 6


def test_data_out_of_range():
    for systems, steps in ((0, (1,)), (3, ()), (3, (-1, 2))):
        with pytest.raises(ValueError, match="at least one system, and steps from 0 on"):
            CorrectionData(Grid((8, 8)), systems, steps=steps)


def test_training_lowers_the_loss_and_saves(tmp_path):
    net, data = network(), CorrectionData(Grid((12, 11)), 24, steps=(0, 2, 6))
    valid = CorrectionData(Grid((12, 11)), 2, seed=9)
    how = Training(6, 8, 1e-2, "adam", 0.0, checkpoint_seconds=0, select="last")
    trained = train_correction(net, data, how, valid=valid, out=tmp_path / "out", meta={"why": "test"})
    losses = [row["train"] for row in trained.history]
    assert losses[-1] < 0.9 * losses[0]
    saved = CorrectionNetwork.load(tmp_path / "out" / "network")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), saved.parameters(), strict=True))
    card = (tmp_path / "out" / "network" / "README.md").read_text()
    for words in ("| grid | 12 x 11 |", "| steps | 54 |", "| why | test |", "| data seed | 0 |"):
        assert words in card


def test_training_without_a_folder_and_without_solutions():
    net, data = network(), CorrectionData(Grid((8, 8)), 8, steps=(0,))
    how = Training(3, 4, 1e-2, "adam", 0.0)
    trained = fit(net, data, StencilResidual(), how)
    losses = [row["train"] for row in trained.history]
    assert losses[-1] < losses[0]


# --- what is shipped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(63, 63), (90, 77)])
def test_shipped_weights_save_steps(shape):
    """Against CG with Jacobi's preconditioner, what the network starts from; also on a size it never saw."""
    part, problem = learned_correction(shipped("correction-2d")), LinearSystem(*poisson(shape))
    stop = Stop(1e-6)
    learned = solve(problem, FlexibleCG(part), stop=stop)
    assert 4 * learned.steps <= solve(problem, CG(jacobi), stop=stop).steps
    plain = solve(problem, Jacobi(0.8), stop=Stop(1e-3, max_steps=3000), throw=False).steps
    assert 4 * solve(problem, Hybrid(Jacobi(0.8), part), stop=Stop(1e-3)).steps <= plain


def poisson(shape):
    A = Diffusion(Grid(shape))
    return A, torch.randn(A.shape[0], generator=torch.Generator().manual_seed(77), dtype=torch.float64)


def test_the_card_of_what_is_shipped():
    record = read_config(shipped("correction-2d"))["meta"]
    assert {"seconds in all", "steps", "seed", "data", "device"} <= set(record)


def test_the_energy_falls_along_a_solve():
    problem = LinearSystem(*poisson((40, 41)))
    exact = solve(problem, CG(), stop=Stop(1e-13)).value
    errors = iterates(problem, FlexibleCG(learned_correction(shipped("correction-2d"))), 12) - exact
    energies = (errors * problem.A.matvec(errors)).sum(-1).tolist()
    assert all(b < a for a, b in pairwise(energies))
