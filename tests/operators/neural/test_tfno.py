"""TFNO: formulas, equal results of both executions, parameter counts, the start, compile and export."""

import json
from dataclasses import replace

import pytest
import torch

from solvus.operators.neural.base import WrongSettings, parameter_count
from solvus.operators.neural.fno import FNO, FNOConfig
from solvus.operators.neural.layers.factorised import (
    CP,
    FORMS,
    FactorisedWeight,
    SeparableWeight,
    TensorTrain,
    Tucker,
    complex_einsum,
)
from solvus.operators.neural.layers.spectral import SpectralWeight
from solvus.operators.neural.tfno import TFNO, TFNOConfig

KEPT = {1: (5,), 2: (6, 4), 3: (4, 2, 3)}


def seeded(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def as_complex(t):
    return torch.view_as_complex(t.detach().contiguous())


def dense_by_formula(tensor):
    """The tensor from its factors by one complex einsum, for four axes."""
    if isinstance(tensor, Tucker):
        return torch.einsum(
            "rsuv,ir,os,xu,yv->ioxy", as_complex(tensor.core), *map(as_complex, tensor.factors)
        )
    if isinstance(tensor, CP):
        return torch.einsum("r,ir,or,xr,yr->ioxy", as_complex(tensor.scale), *map(as_complex, tensor.factors))
    return torch.einsum("qia,aob,bxc,cyz->ioxy", *map(as_complex, tensor.cores))


def off(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def test_complex_einsum_agrees_with_complex_numbers_whichever_operand_is_smaller():
    a, b = seeded((3, 2, 4)), seeded((4, 5, 6, 2), 1)
    for equation, x, y in (("ipj,jklp->iklp", a, b), ("jklp,ipj->iklp", b, a)):
        expected = torch.einsum("ij,jkl->ikl", as_complex(a.mT), as_complex(b))
        torch.testing.assert_close(complex_einsum(equation, x, y), torch.view_as_real(expected))


@pytest.mark.parametrize("form", FORMS)
def test_the_tensor_is_that_of_the_formula(form):
    tensor = FORMS[form]((4, 5, 6, 3), 0.3, 1.0).double()
    assert off(as_complex(tensor()), dense_by_formula(tensor)) < 1e-13


@pytest.mark.parametrize("dim", KEPT)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rank", [0.05, 0.9])
def test_both_executions_agree_in_value_and_gradient(form, dim, rank):
    results = []
    for execution in ("factorised", "reconstructed"):
        torch.manual_seed(0)
        weight = FactorisedWeight(4, 6, KEPT[dim], form=form, rank=rank, execution=execution).double()
        x = seeded((torch.Size(KEPT[dim]).numel(), 2, 3, 4)).requires_grad_()
        y = weight.contract(x)
        y.square().sum().backward()
        results.append([y, x.grad, *(p.grad for p in weight.parameters())])
    for a, b in zip(*results, strict=True):
        assert off(a, b) < 1e-12


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dim", KEPT)
def test_a_separable_weight_is_a_diagonal(form, dim):
    weight = SeparableWeight(4, 4, KEPT[dim], form=form, rank=0.5).double()
    x = seeded((torch.Size(KEPT[dim]).numel(), 2, 3, 4))
    assert off(weight.contract(x), SpectralWeight.contract(weight, x)) < 1e-13
    dense = as_complex(weight())
    assert dense.shape == (*KEPT[dim], 4, 4)
    assert dense[..., ~torch.eye(4, dtype=torch.bool)].abs().max() == 0


def test_a_wrong_contraction_is_found():
    weight = FactorisedWeight(4, 4, (6, 4), form="tucker", rank=0.9).double()
    x = seeded((24, 2, 3, 4))
    swapped = weight.tensor.contract(x.flip(1))  # real and imaginary parts exchanged
    assert off(swapped, SpectralWeight.contract(weight, x)) > 0.1


# measured with neuraloperator 2.0, n_modes 64 x 64, 64 hidden channels, 4 layers, rank 0.1; in millions
PEER = {"tucker": 7.20, "cp": 7.00, "tt": 6.93}


@pytest.mark.parametrize("form", PEER)
def test_parameter_counts_are_those_of_neuraloperator(form):
    config = replace(TFNOConfig.like_neuraloperator((64, 64), 3, 1, 64), form=form)
    with torch.device("meta"):
        count = parameter_count(TFNO(config))
    assert round(count / 1e6, 2) == PEER[form]


def test_dense_parameter_counts():
    with torch.device("meta"):
        model = FNO(FNOConfig.like_neuraloperator((64, 64), 3, 1, 64))
    spectral = sum(b.inner.spectral.weight.values.numel() for b in model.blocks)
    assert spectral == 69_206_016
    assert parameter_count(model) == pytest.approx(69.27e6, rel=0.01)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.5, 1.0])
def test_the_rank_fraction_is_the_fraction_of_the_numbers(form, fraction):
    shape = (32, 32, 24, 12)
    with torch.device("meta"):
        tensor = FORMS[form](shape, fraction, 1.0)
    assert parameter_count(tensor) / 2 / torch.Size(shape).numel() == pytest.approx(fraction, rel=0.12)


@pytest.mark.parametrize("form", FORMS)
def test_entries_start_with_the_dense_standard_deviation(form):
    torch.manual_seed(0)
    weight = FactorisedWeight(24, 40, (16, 8), form=form, rank=0.2)
    assert as_complex(weight()).abs().square().mean().sqrt().item() == pytest.approx(
        (2 / 64) ** 0.5, rel=0.15
    )


def test_explicit_ranks_and_a_tucker_of_full_rank_holds_any_tensor():
    tensor = Tucker((3, 4, 5), (3, 4, 5), 1.0).double()
    wanted = seeded((3, 4, 5, 2))
    with torch.no_grad():
        tensor.core.copy_(wanted)
        for factor in tensor.factors:
            factor.zero_()
            factor[..., 0] = torch.eye(factor.shape[0])
    torch.testing.assert_close(tensor(), wanted)
    assert CP((3, 4, 5), (7,), 1.0).ranks == (7,)
    assert TensorTrain((3, 4, 5), (2, 3), 1.0).ranks == (2, 3)


@pytest.mark.parametrize("rank", [0.0, 1.5, (2, 2), (0, 1, 1, 1)])
def test_wrong_ranks_are_refused(rank):
    with pytest.raises(WrongSettings, match="rank"):
        TFNO(TFNOConfig(1, 1, (4, 4), width=4, rank=rank))


@pytest.mark.parametrize(
    "wrong", [{"form": "svd"}, {"execution": "fast"}, {"block": "factorised", "rank": (1, 1)}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(WrongSettings):
        TFNOConfig(1, 1, (4, 4), **wrong)


def test_a_separable_weight_needs_equal_channels():
    with pytest.raises(WrongSettings, match="got 3 and 4"):
        SeparableWeight(3, 4, (4,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_gets_a_gradient(form, separable, dtype):
    model = TFNO(TFNOConfig(2, 3, (3, 3), width=6, layers=2, form=form, rank=0.4, separable=separable)).to(
        dtype
    )
    y = model(seeded((2, 2, 9, 8), dtype=dtype))
    assert y.dtype == dtype
    y.square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


def test_blocks_of_one_axis_at_a_time():
    model = TFNO(TFNOConfig(1, 1, (3, 4), width=6, layers=2, block="factorised"))
    assert model(torch.ones(1, 1, 9, 8)).shape == (1, 1, 9, 8)


@pytest.mark.parametrize("rank", [0.3, (4, 4, 5, 2)])
def test_settings_round_trip(rank):
    model = TFNO(TFNOConfig(1, 1, (4, 4), width=6, layers=1, rank=rank, separable=False))
    again = TFNO.from_settings(json.loads(json.dumps(model.settings())))
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    x = seeded((1, 1, 9, 9), dtype=torch.float32)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("form", FORMS)
def test_export(form):
    model = TFNO(TFNOConfig(1, 1, (3, 3), width=4, layers=1, form=form)).eval()
    x = seeded((2, 1, 9, 8), dtype=torch.float32)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_compile(form):
    torch.manual_seed(0)
    model = TFNO(TFNOConfig(1, 1, (3, 3), width=4, layers=1, form=form))
    x = seeded((2, 1, 9, 8), dtype=torch.float32)
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    actual = torch.autograd.grad(torch.compile(model)(x).square().sum(), list(model.parameters()))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
