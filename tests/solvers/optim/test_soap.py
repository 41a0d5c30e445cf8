"""SOAP against dense formulas with Kronecker products."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from solvus.solvers.optim.adam import Adam
from solvus.solvers.optim.objective import Objective
from solvus.solvers.optim.schedules import ExponentialDecay
from solvus.solvers.optim.soap import SOAP

Array = NDArray[np.float64]


class Given(Objective):
    """An objective with the gradient that is asked for next."""

    def __init__(self, gradients: Tensor, *shapes: tuple[int, ...]) -> None:
        self.rows, self.shapes = iter(gradients), shapes

    def losses(self, theta: Tensor) -> Tensor:
        return (theta @ next(self.rows))[None]

    def residuals(self, theta: Tensor) -> Tensor:
        return self.losses(theta)


def drawn(steps: int, parameters: int) -> Tensor:
    return torch.randn(steps, parameters, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def path(soap: SOAP | Adam, gradients: Tensor, *shapes: tuple[int, ...]) -> Tensor:
    theta = torch.ones(gradients.shape[1], dtype=torch.float64)
    objective, state, thetas = Given(gradients, *shapes), soap.start(theta), []
    for _ in gradients:
        theta = soap.step(objective, theta, state).theta
        thetas.append(theta)
    return torch.stack(thetas)


def dense(gradients: Array, a: int, b: int, soap: SOAP, one_sided: bool = False) -> Array:
    """Return the path of one a x b matrix, by the matrix Q_L (x) Q_R that acts on all its entries."""
    (b1, b2), theta = soap.betas, np.ones(a * b)
    L, R, m, v = np.zeros((a, a)), np.zeros((b, b)), np.zeros(a * b), np.zeros(a * b)
    QL, QR, thetas, t = np.eye(a), np.eye(b), [], 0
    for k, g in enumerate(gradients):
        G = g.reshape(a, b)
        if k:
            t = k
            Q = np.kron(QL, QR)
            m = b1 * m + (1 - b1) * Q.T @ g
            v = b2 * v + (1 - b2) * (Q.T @ g) ** 2
            change = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + soap.eps)
            theta = theta - soap.learning_rate * Q @ change
            theta = theta - soap.learning_rate * soap.weight_decay * theta
        L, R = b2 * L + (1 - b2) * G @ G.T, b2 * R + (1 - b2) * G.T @ G
        old = np.kron(QL, QR)
        if k == 0:
            QL, QR = np.linalg.eigh(L)[1][:, ::-1], np.linalg.eigh(R)[1][:, ::-1]
            QR = np.eye(b) if one_sided else QR
        elif t % soap.frequency == 0:
            rows = np.argsort(-np.diag(QL.T @ L @ QL))
            columns = np.arange(b) if one_sided else np.argsort(-np.diag(QR.T @ R @ QR))
            v = v.reshape(a, b)[rows][:, columns].ravel()
            QL = np.linalg.qr(L @ QL[:, rows])[0]
            QR = QR if one_sided else np.linalg.qr(R @ QR[:, columns])[0]
            m = np.kron(QL, QR).T @ old @ m
        thetas.append(theta)
    return np.array(thetas)


@pytest.mark.parametrize("frequency", [1, 3, 10])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_matrix_follows_the_dense_formulas(frequency: int, weight_decay: float):
    gradients, soap = drawn(25, 12), SOAP(frequency=frequency, weight_decay=weight_decay)
    expected = torch.as_tensor(dense(gradients.numpy(), 3, 4, soap))
    torch.testing.assert_close(path(soap, gradients, (3, 4)), expected, rtol=1e-9, atol=1e-9)
    other = path(SOAP(frequency=frequency + 1, weight_decay=weight_decay), gradients, (3, 4))
    assert (other - expected).abs().max() > 1e-4


def test_several_matrices_and_stacks_are_treated_one_by_one():
    gradients, soap = drawn(12, 12 + 5 + 12 + 1), SOAP(frequency=2)
    whole = path(soap, gradients, (3, 4), (5,), (2, 3, 2), ())
    parts = gradients.split([12, 5, 6, 6, 1], dim=1)
    for part, shape, end in zip(
        parts, [(3, 4), None, (3, 2), (3, 2), None], [12, 17, 23, 29, 30], strict=True
    ):
        columns = whole[:, end - part.shape[1] : end]
        if shape is not None:
            expected = torch.as_tensor(dense(part.numpy(), *shape, soap))
            torch.testing.assert_close(columns, expected, rtol=1e-9, atol=1e-9)


def test_vectors_get_adam_after_the_first_step():
    gradients = drawn(15, 5)
    soap = path(SOAP(0.01, betas=(0.9, 0.95), weight_decay=0.0), gradients, (5,))
    adam = path(Adam(0.01, betas=(0.9, 0.95)), gradients[1:], (5,))
    assert torch.equal(soap[0], torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(soap[1:], adam, rtol=1e-13, atol=1e-13)


def test_long_sides_keep_their_basis():
    gradients, soap = drawn(15, 12), SOAP(frequency=2, largest=3)
    expected = torch.as_tensor(dense(gradients.numpy(), 3, 4, soap, one_sided=True))
    torch.testing.assert_close(path(soap, gradients, (3, 4)), expected, rtol=1e-9, atol=1e-9)
    adam = path(Adam(3e-3, betas=(0.95, 0.95)), gradients[1:], (3, 4))
    none = path(SOAP(largest=2, weight_decay=0.0), gradients, (3, 4))
    torch.testing.assert_close(none[1:], adam, rtol=1e-13, atol=1e-13)


def test_bases_stay_orthogonal_in_single_precision():
    soap, shapes = SOAP(frequency=2), ((6, 8), (8,))
    theta = torch.ones(56)
    objective, state = Given(drawn(50, 56).float(), *shapes), soap.start(theta)
    for _ in range(50):
        theta = soap.step(objective, theta, state).theta
    for side, n in (("left", 6), ("right", 8)):
        Q = state[f"basis.0.{side}"]
        torch.testing.assert_close(Q.mT @ Q, torch.eye(n), rtol=1e-5, atol=1e-5)


def test_a_turned_matrix_of_parameters_takes_turned_steps():
    """Unlike Adam, SOAP does not see a rotation of the rows and columns of its matrices."""
    gradients = drawn(20, 12)
    U, W = torch.linalg.qr(drawn(7, 7)[:3, :3]).Q, torch.linalg.qr(drawn(7, 7)[:4, :4]).Q
    turned = (U @ gradients.view(-1, 3, 4) @ W).reshape(-1, 12)
    start = torch.ones(12, dtype=torch.float64)
    for method, same in ((SOAP(weight_decay=0.0), True), (Adam(3e-3), False)):
        moves = [path(method, g, (3, 4)) - start for g in (gradients, turned)]
        back = (U.T @ moves[1].view(-1, 3, 4) @ W.T).reshape(-1, 12)
        assert torch.allclose(back, moves[0], rtol=1e-9, atol=1e-9) == same


def test_the_rate_follows_the_schedule():
    gradients = drawn(4, 12)
    plain = path(SOAP(weight_decay=0.0), gradients, (3, 4))
    halved = path(SOAP(weight_decay=0.0, schedule=ExponentialDecay(1, 0.5)), gradients, (3, 4))
    moves = (halved.diff(dim=0) / plain.diff(dim=0)).mean(1)
    torch.testing.assert_close(moves, torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64))


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"the shapes hold 12 parameters, theta has 13: \[\(3, 4\)\]"):
        path(SOAP(), drawn(1, 13), (3, 4))
    with pytest.raises(ValueError, match="frequency is at least 1, largest at least 0, got 0, 10000"):
        SOAP(frequency=0)
