"""Auto: the table in its docstring, and the direct method it falls back on."""

import numpy as np
import pyamg
import pytest
import scipy.sparse as sp
import torch

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, NotSupported, Tag, dense, sparse, to_scipy
from solvus.solvers import (
    CG,
    GMRES,
    MINRES,
    Auto,
    Dense,
    FastTransform,
    LinearSystem,
    Pardiso,
    Status,
    Stop,
    SuperLU,
    auto,
    solve,
)

MASK = np.ones((32, 32), dtype=bool)
MASK[10:20, 8:12] = False
CELLS = {"centring": "cell", "boundary": "neumann", "mask": MASK}


def system(A):
    b = torch.randn(A.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if isinstance(A, Diffusion) and A.grid.mask is not None:
        b = b * torch.as_tensor(A.grid.mask.ravel())
    return LinearSystem(A, b if A.nullspace is None else A.nullspace.project(b))


def plain(n):
    return sp.csr_array(pyamg.gallery.poisson((n, n)))


DIFFUSION = {
    "tiny": (Diffusion(Grid((9, 9))), Dense, ""),
    "constant": (Diffusion(Grid((40, 40))), FastTransform, ""),
    "pure neumann": (Diffusion(Grid((12, 12), boundary="neumann")), FastTransform, ""),
    "no-flux obstacle": (Diffusion(Grid((32, 32), **CELLS)), CG, "FastTransform"),
    "dirichlet obstacle": (Diffusion(Grid((32, 32), **CELLS, obstacle="dirichlet")), CG, "cycle=<Cycle.V"),
    "varying": (Diffusion(Grid((31, 31)), np.linspace(1, 9, 1024).reshape(32, 32)), CG, "cycle='W'"),
}


@pytest.mark.parametrize("name", DIFFUSION)
def test_choice_for_diffusion(name):
    A, kind, inside = DIFFUSION[name]
    chosen = Auto().choose(system(A))
    assert type(chosen) is kind
    assert inside in repr(chosen)
    assert solve(system(A), stop=Stop(rtol=1e-8)).status is Status.CONVERGED


def test_choice_for_matrices(monkeypatch):
    for limit in ("DIRECT", "DIRECT_THIN", "DIRECT_INDEFINITE"):
        monkeypatch.setattr(auto, limit, 1000)
    P = plain(40)
    skew = sp.csr_array(P + sp.diags_array([0.3], offsets=[1], shape=P.shape))
    table = [
        (plain(10), Dense, ""),
        (plain(25), (Pardiso, SuperLU), ""),
        (P, CG, "AlgebraicMultigrid"),
        (sp.csr_array(P - 0.05 * sp.eye_array(1600)), MINRES, "jacobi"),
        (sp.csr_array(P - 5 * sp.eye_array(1600)), MINRES, "identity"),
        (skew, GMRES, "IncompleteLU"),
    ]
    for matrix, kind, inside in table:
        chosen = Auto().choose(system(sparse(matrix)))
        assert isinstance(chosen, kind), (chosen, kind)
        assert inside in repr(chosen)


def test_direct_limits():
    thin, thick = plain(150), sp.csr_array(pyamg.gallery.stencil_grid(np.ones((3, 3, 3)), (28, 28, 28)))
    assert isinstance(Auto().choose(system(sparse(thin))), (Pardiso, SuperLU))
    assert not isinstance(Auto().choose(system(sparse(thick, tags={Tag.SPD}))), (Pardiso, SuperLU))


def test_false_spd_tag_falls_back_on_a_direct_method(monkeypatch):
    monkeypatch.setattr(auto, "DIRECT_THIN", 100)
    monkeypatch.setattr(auto, "DIRECT", 100)
    matrix = sp.csr_array(plain(25) - 3 * sp.eye_array(625))
    A = sparse(matrix, tags={Tag.SPD})
    assert isinstance(Auto().choose(system(A)), CG)
    result = solve(system(A), stop=Stop(rtol=1e-8))
    assert result.status is Status.CONVERGED
    x = np.linalg.solve(matrix.toarray(), system(A).b.numpy())
    assert np.linalg.norm(result.value.numpy() - x) <= 1e-6 * np.linalg.norm(x)


def test_gradients_through_auto():
    grid = Grid((25, 25))
    k = torch.full((26, 26), 2.0, dtype=torch.float64, requires_grad=True)
    b = torch.ones(625, dtype=torch.float64)
    value = solve(LinearSystem(Diffusion(grid, k), b), stop=Stop(rtol=1e-12)).value
    (grad,) = torch.autograd.grad(value.sum(), k)
    # scaling k by s scales the solution by 1/s: the directional derivative is known
    torch.testing.assert_close((grad * k.detach()).sum(), -value.detach().sum(), rtol=1e-8, atol=0)


def test_a_matrix_free_operator_goes_by_its_tags():
    A = Diffusion(Grid((25, 25))) @ Diffusion(Grid((25, 25)), np.full((26, 26), 2.0))
    b = torch.ones(625, dtype=torch.float64)
    reference = np.linalg.solve(to_scipy(A).toarray(), b.numpy())
    found = solve(LinearSystem(A, b), stop=Stop(rtol=1e-10)).value
    np.testing.assert_allclose(found, reference, rtol=1e-6)
    assert dense(A).shape == (625, 625)


def test_auto_knows_linear_systems_only():
    with pytest.raises(NotSupported, match=r"Auto knows methods for a LinearSystem.*name the solver"):
        Auto().choose(object())
