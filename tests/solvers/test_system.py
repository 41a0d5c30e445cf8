"""LinearSystem: every kind of bad input by its named error, and what a system tells of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from solvus.meshes import Grid
from solvus.operators.linear import (
    SPD,
    Diagonal,
    Diffusion,
    IncompatibleSystem,
    MixedDevices,
    MixedDtypes,
    NonFinite,
    NotSupported,
    ShapeMismatch,
    sparse,
)
from solvus.solvers import LinearSystem, Status, Stop, solve
from solvus.solvers.krylov import CG, MINRES

F64 = torch.float64
EYE = sp.csr_array(sp.eye_array(4))
NAN, INF = float("nan"), float("inf")


def batch() -> Diagonal:
    return Diagonal(torch.ones(3, 4, dtype=F64), tags=SPD)


@pytest.mark.parametrize(
    ("A", "b", "error", "message"),
    [
        (sp.csr_array((3, 4)), torch.ones(4, dtype=F64), ShapeMismatch, "square operator, this one is 3 x 4"),
        (EYE, torch.ones(5, dtype=F64), ShapeMismatch, r"b has shape \(5,\), the operator takes"),
        (EYE, torch.ones(4, 1, dtype=F64), ShapeMismatch, "the last axis counts the unknowns"),
        (EYE, torch.tensor(1.0, dtype=F64), ShapeMismatch, r"b has shape \(\)"),
        (EYE, torch.ones(4), MixedDtypes, r"b is torch.float32, .* torch.float64: convert"),
        (EYE, np.ones(4, dtype=int), MixedDtypes, "b is torch.int64"),
        (EYE, torch.ones(4, dtype=F64, device="meta"), MixedDevices, "b is on meta, the operator on cpu"),
        (EYE, torch.tensor([1.0, NAN, 1.0, 1.0], dtype=F64), NonFinite, "b holds NaN or infinite values"),
        (EYE, torch.tensor([1.0, INF, 1.0, 1.0], dtype=F64), NonFinite, "b holds NaN or infinite values"),
        (EYE * NAN, torch.ones(4, dtype=F64), NonFinite, "the matrix holds NaN or infinite entries"),
        (EYE * INF, torch.ones(4, dtype=F64), NonFinite, "the matrix holds NaN or infinite entries"),
        (Diagonal(torch.tensor([1.0, NAN])), torch.ones(2), NonFinite, "the operator holds NaN or infinite"),
        (batch(), torch.ones(4, dtype=F64), ShapeMismatch, r"give b the shape \(3, 4\)"),
        (batch(), torch.ones(2, 4, dtype=F64), ShapeMismatch, r"the operator is a batch of \(3,\)"),
        (batch(), torch.ones(3, 3, 4, dtype=F64), ShapeMismatch, r"one right-hand side each, \(3, 4\)"),
        ("a string", torch.ones(4), FileNotFoundError, "no matrix file at a string"),
        ({"not": "a matrix"}, torch.ones(4), NotSupported, "cannot read a matrix from dict"),
    ],
)  # fmt: skip
def test_bad_input(A: Any, b: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LinearSystem(A, b)


def test_what_is_taken() -> None:
    for b in ([1.0, 2.0, 3.0, 4.0], np.arange(4.0)[::-1], torch.ones(2, 3, 4, dtype=F64)):
        system = LinearSystem(EYE, b)
        assert system.n == 4
        assert solve(system).value.shape == system.b.shape
    assert LinearSystem(batch(), torch.ones(1, 4, dtype=F64)).batch_shape == (3,)
    assert repr(LinearSystem(EYE, np.ones(4))) == (
        "LinearSystem(CSR(4 x 4, torch.float64, cpu, SPD, SYMMETRIC), b (4,))"
    )


# --- singular systems ---------------------------------------------------------------------------------------


def neumann(mask: np.ndarray | None = None) -> Diffusion:
    return Diffusion(Grid((7, 5), centring="cell", boundary="neumann", mask=mask))


def test_incompatible_pure_neumann() -> None:
    A = neumann()
    message = (
        r"null space of dimension 1.*share of 1.0e\+00 in its null space.*pass `A.nullspace.project\(b\)`"
    )
    with pytest.raises(IncompatibleSystem, match=message):
        LinearSystem(A, torch.ones(35, dtype=F64))
    b = torch.randn(35, dtype=F64)
    with pytest.raises(IncompatibleSystem):
        LinearSystem(A, b)
    solution = solve(LinearSystem(A, A.nullspace.project(b)), CG(), stop=Stop(rtol=1e-10)).value
    assert abs(float(solution.mean())) < 1e-12
    with pytest.raises(IncompatibleSystem):  # one bad sample in a batch
        LinearSystem(A, torch.stack([A.nullspace.project(b), b]))


def test_every_part_of_a_disconnected_domain_needs_a_compatible_right_hand_side() -> None:
    mask = np.ones((7, 5), dtype=bool)
    mask[3] = False
    A = neumann(mask)
    assert A.nullspace.dimension == 2
    left = torch.as_tensor(np.indices((7, 5))[0] < 3).reshape(-1)
    right = torch.as_tensor(np.indices((7, 5))[0] > 3).reshape(-1)
    b = 1.0 * left - 1.0 * right  # compatible as a whole, not part by part
    assert float(b.sum()) == 0
    with pytest.raises(IncompatibleSystem, match="dimension 2"):
        LinearSystem(A, b.double())
    b = A.nullspace.project(torch.randn(35, dtype=F64))
    result = solve(LinearSystem(A, b), CG(), stop=Stop(rtol=1e-11))
    assert abs(float(result.value[left].sum())) < 1e-12
    assert abs(float(result.value[right].sum())) < 1e-12
    assert float((A @ result.value - b).norm() / b.norm()) <= 1e-11


def test_rounding_in_the_null_space_is_removed_from_b() -> None:
    A = neumann()
    b = A.nullspace.project(torch.randn(35, dtype=F64))
    given = b + 1e-11
    system = LinearSystem(A, given)
    assert torch.allclose(system.b, b, rtol=0, atol=1e-15)
    assert solve(system, CG(), stop=Stop(rtol=1e-13)).status is Status.CONVERGED
    assert LinearSystem(A, b).b is b


def test_float32_right_hand_sides_are_compatible_to_rounding() -> None:
    A = Diffusion(Grid((40, 40), centring="cell", boundary="neumann"), dtype=torch.float32)
    b = torch.randn(1600)
    assert solve(LinearSystem(A, b - b.mean()), CG(), stop=Stop(rtol=1e-5)).status is Status.CONVERGED


# --- definiteness -------------------------------------------------------------------------------------------


def test_indefinite_under_cg_is_refused_by_its_tags() -> None:
    indefinite = sp.diags_array(np.array([1.0, -2.0, 3.0, 4.0]))
    message = r"CG needs a symmetric positive definite operator, this one is tagged SYMMETRIC.*use MINRES"
    with pytest.raises(NotSupported, match=message):
        solve(LinearSystem(indefinite, np.ones(4)), CG())


def test_indefinite_under_cg_with_a_false_tag_breaks_down() -> None:
    A = sparse(sp.diags_array(np.array([1.0, -2.0, 3.0, 4.0])), tags=SPD)
    system = LinearSystem(A, np.ones(4))
    result = solve(system, CG(), throw=False)
    assert result.status is Status.BREAKDOWN
    assert "<= 0: A is not positive definite, use MINRES or GMRES" in result.reason
    assert bool(torch.isfinite(result.value).all())
    assert solve(system, MINRES()).status is Status.CONVERGED


# --- residuals ----------------------------------------------------------------------------------------------


def test_residual_of_one_vector_against_many_right_hand_sides() -> None:
    system = LinearSystem(EYE, torch.arange(8, dtype=F64).reshape(2, 4))
    x = torch.ones(4, dtype=F64)
    assert torch.equal(system.residual(x), system.b - x)
    assert system.residual_norm(x).shape == (2,)


def test_residual_is_differentiable() -> None:
    k = torch.rand(4, 4, dtype=F64).add(0.5).requires_grad_()
    x = torch.rand(9, dtype=F64, requires_grad=True)
    b = torch.rand(9, dtype=F64, requires_grad=True)

    def residual(k: torch.Tensor, x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return LinearSystem(Diffusion(Grid((3, 3)), k), b).residual(x)

    assert torch.autograd.gradcheck(residual, (k, x, b))
