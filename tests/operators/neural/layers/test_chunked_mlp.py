"""Layers whose derivatives are written by hand, against plain operations."""

import pytest
import torch
from torch.nn import functional as F

from solvus.operators.neural.layers import chunked_mlp
from solvus.operators.neural.layers.channels import ChannelMLP
from solvus.operators.neural.layers.chunked_mlp import few, gelu_mlp, gelu_residual
from solvus.operators.neural.layers.fused import fusible


def tensors(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*s, dtype=dtype, generator=generator).requires_grad_() for s in shapes]


def mlp_inputs(dtype=torch.float64):
    return tensors((5, 3, 7), (4, 3), (4,), (2, 4), (2,), dtype=dtype)


def residual_inputs(dtype=torch.float64):
    return tensors((5, 3, 7), (4, 3), (4,), (2, 4), (5, 2, 7), dtype=dtype)


def plain_mlp(x, W1, b1, W2, b2):
    return W2 @ F.gelu(W1 @ x + b1[:, None]) + b2[:, None]


def plain_residual(x, W1, b1, W2, onto):
    return F.gelu(onto + W2 @ F.gelu(W1 @ F.gelu(x) + b1[:, None]))


def residual(x, W1, b1, W2, onto):
    return gelu_residual(x, W1, b1, W2, onto * 1.0)  # what is overwritten must not be a leaf


PAIRS = [(gelu_mlp, plain_mlp, mlp_inputs), (residual, plain_residual, residual_inputs)]
pairs = pytest.mark.parametrize(("fast", "plain", "make"), PAIRS, ids=["mlp", "residual"])


@pytest.fixture(params=[1, 60, 1 << 18], ids=["one by one", "two at a time", "all at once"])
def chunks(request, monkeypatch):
    monkeypatch.setattr(chunked_mlp, "_NUMBERS", request.param)
    assert few(torch.empty(5, 4, 7)) == max(1, request.param // 28)


@pairs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("chunks")
def test_values_and_gradients(fast, plain, make, dtype):
    inputs = make(dtype)
    found, expected = fast(*inputs), plain(*inputs)
    torch.testing.assert_close(found, expected)
    seed = torch.linspace(-1, 1, found.numel(), dtype=dtype).reshape(found.shape)
    gradients = torch.autograd.grad(found, inputs, seed)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, inputs, seed))
    with torch.no_grad():
        torch.testing.assert_close(fast(*inputs), found.detach())


@pairs
@pytest.mark.usefixtures("chunks")
def test_derivatives(fast, plain, make):
    inputs = make()
    assert torch.autograd.gradcheck(fast, inputs)
    assert torch.autograd.gradgradcheck(fast, inputs)


@pairs
def test_only_what_is_asked_for(fast, plain, make):
    """No gradient of the input, or of the input alone."""
    for wanted in ([1, 3], [0], [4]):
        inputs = [t.detach() for t in make()]
        asked = [inputs[i].requires_grad_() for i in wanted]
        found = torch.autograd.grad(fast(*inputs).square().sum(), asked)
        torch.testing.assert_close(found, torch.autograd.grad(plain(*inputs).square().sum(), asked))


def test_the_residual_overwrites_its_last_argument():
    *inputs, onto = (t.detach() for t in residual_inputs())
    before = onto.clone()
    gelu_residual(*inputs, onto)
    assert not torch.equal(onto, before)


@pytest.mark.parametrize("act", ["gelu", "tanh"])
def test_a_layer_takes_whichever_applies(act):
    torch.manual_seed(0)
    layer = ChannelMLP(3, 6, 2, act).double()
    (x,) = tensors((2, 3, 4, 5))
    expected = layer.second(layer.act(layer.first(x)))
    torch.testing.assert_close(layer(x), expected)
    weights = list(layer.parameters())
    found = torch.autograd.grad(layer(x).sum(), weights)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), weights))


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
def test_where_plain_operations_are_needed():
    x = torch.ones(2)
    assert fusible(x)
    assert fusible(x, None)
    assert not fusible(x.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not fusible(x)
    seen = []
    torch.vmap(lambda t: seen.append(fusible(t)) or t)(x)
    with torch.autograd.forward_ad.dual_level():
        seen.append(fusible(None, torch.autograd.forward_ad.make_dual(x, x)))
    torch.compile(lambda t: seen.append(fusible(t)) or t + 1, backend="eager")(x)
    assert seen == [False] * 3
