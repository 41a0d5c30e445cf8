"""POD regression: exact on linear maps, ridge by the normal equations, choice on validation samples."""

import json

import pytest
import torch

from solvus.operators.neural.base import WrongResolution, WrongSettings, parameter_count
from solvus.operators.neural.pod_regression import Components, PODRegression, ridge_weights, usable


def linear_data(samples=60, noise=0.0, seed=0):
    """Inputs in five smooth modes, outputs a linear map of them plus a constant."""
    g = torch.Generator().manual_seed(seed)
    grid = torch.linspace(0, 1, 24, dtype=torch.float64)
    modes = torch.cos(torch.pi * torch.arange(5)[:, None] * grid)
    a = torch.randn(samples, 5, generator=g, dtype=torch.float64)
    x = (a @ modes)[:, None]
    y = torch.cat([x.cumsum(-1) / 24 + 2, 1e3 * x.flip(-1)], 1)
    return x, y + noise * torch.randn(y.shape, generator=g, dtype=torch.float64)


def split(data, *sizes):
    return [tuple(t) for t in zip(*(part.split(list(sizes)) for part in data), strict=True)]


def error(model, pair):
    x, y = pair
    return ((model(x) - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)).mean().item()


def test_a_linear_map_is_exact():
    train, valid, test = split(linear_data(), 40, 10, 10)
    model = PODRegression.from_data(train, valid)
    assert model(test[0]).shape == test[1].shape
    assert error(model, test) < 1e-6


def test_a_map_that_is_not_linear_is_not_exact():
    x, _ = linear_data()
    train, valid, test = split((x, x.square()), 40, 10, 10)
    assert error(PODRegression.from_data(train, valid), test) > 0.1


def test_ridge_weights_solve_the_normal_equations():
    g = torch.Generator().manual_seed(0)
    A, B = (torch.randn(20, n, generator=g, dtype=torch.float64) for n in (4, 3))
    Q = torch.linalg.qr(A).Q * torch.tensor([3.0, 2.0, 1.0, 0.5])
    shift = 0.01 * 9 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(ridge_weights(Q, B, 0.01), torch.linalg.solve(Q.mT @ Q + shift, Q.mT @ B))


def test_the_choice_is_the_best_of_all_on_the_validation_samples():
    train, valid = split(linear_data(noise=0.3), 40, 20)
    # one channel, so that errors in scaled and in physical units are the same
    train, valid = [(x, y[:, :1]) for x, y in (train, valid)]
    best = error(PODRegression.from_data(train, valid), valid)
    every = [
        error(PODRegression.from_data(train, valid, ranks=(r,), ridges=(ridge,)), valid)
        for r in (2, 4, 8, 16)
        for ridge in (1e-8, 1e-4, 1e-2, 1.0)
    ]
    assert best <= min(every) * (1 + 1e-9)
    assert max(every) > 1.05 * best


def test_the_validation_samples_choose_but_do_not_train():
    train, valid = split(linear_data(), 40, 20)
    one = PODRegression.from_data(train, valid, ranks=(4,), ridges=(1e-6,))
    other = PODRegression.from_data(train, (valid[0], valid[1] + 7), ranks=(4,), ridges=(1e-6,))
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))


def test_units_of_a_channel_do_not_count():
    (x, y), valid = split(linear_data(noise=0.1), 40, 20)
    model = PODRegression.from_data((x, y), valid)
    scale = torch.tensor([1.0, 1e-5], dtype=torch.float64)[:, None]
    scaled = PODRegression.from_data((x, y * scale), (valid[0], valid[1] * scale))
    assert scaled.config.rank_out == model.config.rank_out or scaled.config == model.config
    torch.testing.assert_close(Components.of(y).vectors.abs(), Components.of(y * scale).vectors.abs())


def test_it_is_rebuilt_from_json_and_state_and_has_no_parameters():
    train, valid = split(linear_data(), 40, 20)
    model = PODRegression.from_data(train, valid)
    again = PODRegression.from_settings(json.loads(json.dumps(model.settings()))).double()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(valid[0]), model(valid[0]))
    assert parameter_count(model) == 0
    single = PODRegression.from_data(*[tuple(t.float() for t in pair) for pair in (train, valid)])
    assert single(valid[0].float()).dtype == torch.float32


def test_two_dimensional_fields_and_few_samples():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(6, 2, 5, 4, generator=g)
    model = PODRegression.from_data((x, x[:, :1]), (x, x[:, :1]))
    assert model.config.rank_in <= 5
    assert error(model, (x, x[:, :1])) < 1e-3


def test_wrong_data_are_refused():
    train, valid = split(linear_data(), 40, 20)
    with pytest.raises(WrongResolution, match="on one grid"):
        PODRegression.from_data(train, (valid[0][..., ::2], valid[1][..., ::2]))
    with pytest.raises(WrongSettings, match="no rank or no ridge"):
        PODRegression.from_data(train, valid, ranks=())
    model = PODRegression.from_data(train, valid)
    with pytest.raises(WrongResolution, match="a grid of 24 points, got 12"):
        model(valid[0][..., ::2])
    with pytest.raises(WrongResolution, match="interpolate it, or use DeepONet"):
        model.at(valid[0], torch.rand(3, 1))


def test_usable_ranks():
    assert usable((2, 8, 8, 64), 8) == [2, 8]
    assert usable((0, -1), 8) == []
