"""Surrogates: physical units, rollouts, and saved models that load alike or not at all."""

import json
import os

import numpy as np
import pytest
import torch

from solvus.operators.linear.errors import NonFinite, ShapeMismatch
from solvus.operators.neural.architectures import ARCHITECTURES, UnknownName, architecture, name_of
from solvus.operators.neural.base import NeuralOperator, WrongSettings
from solvus.operators.neural.pod import NoBasis
from solvus.solvers.training.normalisers import Normaliser, normalisers
from solvus.solvers.training.saving import (
    BadModel,
    BrokenFile,
    ChangedWeights,
    MissingFile,
    NewerFormat,
    UnknownArchitecture,
    WrongTensors,
)
from solvus.solvers.training.surrogate import Signature, Surrogate


@pytest.fixture
def model(tiny):
    x, y = tiny.pairs()
    ends = normalisers(list(zip(x, y, strict=True)), "channel", "pointwise")
    signature = Signature(("u@0",), ("u@1",), (np.linspace(0, 1, 16),), ("periodic",))
    return Surrogate(tiny.make(), *ends, signature=signature, meta={"seed": 3})


def edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_units_are_physical(tiny, model):
    x, _ = tiny.pairs()
    net, mean, scale = model.net, model.decode.mean, model.decode.scale
    wanted = net((x - model.encode.mean) / model.encode.scale) * scale + mean
    assert torch.allclose(model(x), wanted)
    assert not torch.allclose(model(x), net(x))


def test_predict(tiny, model):
    x, _ = tiny.pairs()
    model.train()
    found = model.predict(x.numpy(), batch=5)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    assert model.training
    assert np.allclose(found, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    double = model.predict(x.double())
    assert double.dtype == torch.float64
    assert not double.requires_grad
    with pytest.raises(NonFinite, match="NaN or infinity"):
        model.predict(x * torch.nan)
    with pytest.raises(ValueError, match="batch is at least 1"):
        model.predict(x, batch=0)


def test_residual_and_rollout(tiny):
    x, _ = tiny.pairs(3)
    net = tiny.make()
    model = Surrogate(net, signature=Signature(residual=(0,)))
    assert torch.equal(model(x), x + net(x))
    path = model.rollout(x, 3)
    assert path.shape == (3, 4, 1, 16)
    assert torch.equal(path[:, 0], x)
    assert torch.equal(path[:, 3], model(model(model(x))))
    path.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(ShapeMismatch, match="residual channels"):
        Surrogate(net, signature=Signature(residual=(1,)))(x)


def test_rollout_of_windows_with_constants(tiny):
    net = tiny.Tiny(tiny.TinyConfig(in_channels=4, out_channels=1))
    model = Surrogate(net, signature=Signature(constants=1))
    x = torch.randn(2, 4, 16)  # three frames and a constant
    path = model.rollout(x, 2)
    first = net(x)
    second = net(torch.cat((x[:, 1:3], first, x[:, 3:]), dim=1))
    assert torch.equal(path, torch.stack((x[:, 2:3], first, second), dim=1))
    wide = Surrogate(tiny.Tiny(tiny.TinyConfig(in_channels=1, out_channels=2)))
    with pytest.raises(ShapeMismatch, match="no more than the input frames"):
        wide.rollout(torch.randn(2, 1, 16), 2)


def test_a_fresh_process_predicts_the_same_bits(tiny, model, start, tmp_path):
    x, _ = tiny.pairs()
    model.save(tmp_path / "model", metrics={"l2": 0.25})
    torch.save(x, tmp_path / "in.pt")
    code, words = start("load.py", tmp_path / "model", tmp_path / "in.pt", tmp_path / "out.pt")
    assert code == 0, words
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(found, model.predict(x))
    assert not torch.equal(found, Surrogate(tiny.make(seed=5)).predict(x))


def test_all_that_was_saved_comes_back(tiny, model, tmp_path):
    folder = model.double().save(tmp_path / "model", metrics={"l2": 0.25})
    before = torch.get_rng_state()
    loaded = Surrogate.load(folder, architectures={"Tiny": tiny.Tiny})
    assert torch.equal(before, torch.get_rng_state())
    assert loaded.signature == model.signature
    assert loaded.meta == {"seed": 3}
    assert not loaded.training
    x = tiny.pairs()[0].double()
    assert torch.equal(loaded.predict(x), model.predict(x))
    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "metrics.json", "model.safetensors"]
    assert json.loads((folder / "metrics.json").read_text()) == {"l2": 0.25}
    card = (folder / "README.md").read_text()
    assert all(word in card for word in ("u@0", "u@1", "| l2 | 0.25 |", "| seed | 3 |", "Surrogate.load"))
    assert os.listdir(tmp_path) == ["model"]


def test_folders_are_not_overwritten_by_accident(model, tmp_path):
    model.save(tmp_path / "model")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(tmp_path / "model")
    model.save(tmp_path / "model", overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(FileExistsError, match="something else"):
        model.save(tmp_path / "other", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["model", "other"]


def test_a_failed_save_leaves_the_old_model(tiny, model, tmp_path, monkeypatch):
    folder = model.save(tmp_path / "model")
    old = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr("solvus.solvers.training.saving._json", lambda values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Surrogate(tiny.make(seed=9)).save(folder, overwrite=True)
    assert (folder / "model.safetensors").read_bytes() == old
    assert os.listdir(tmp_path) == ["model"]


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def tamper(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


FAULTS = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), MissingFile, "no model.safetensors"),
    "no config": (lambda f: (f / "config.json").unlink(), MissingFile, "no config.json"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), BrokenFile, "not the configuration"),
    "incomplete config": (lambda f: edit(f, lambda c: c.pop("encode")), BrokenFile, "no entry 'encode'"),
    "cut off": (cut, BrokenFile, "cut off"),
    "tampered": (tamper, ChangedWeights, "SHA-256"),
    "newer": (lambda f: edit(f, lambda c: c.update(format=2)), NewerFormat, "format 2"),
    "unknown": (lambda f: edit(f, lambda c: c.update(architecture="Huge")), UnknownArchitecture, "'Huge'"),
    "wider": (
        lambda f: edit(f, lambda c: c["settings"].update(width=5)),
        WrongTensors,
        "another shape: net.lift",
    ),
    "setting": (lambda f: edit(f, lambda c: c["settings"].update(depth=5)), WrongSettings, "no depth"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_loaded_says_why(fault, tiny, model, tmp_path):
    folder = model.save(tmp_path / "model")
    Surrogate.load(folder, architectures={"Tiny": tiny.Tiny})
    damage, error, message = FAULTS[fault]
    damage(folder)
    with pytest.raises(error, match=message):
        Surrogate.load(folder, architectures={"Tiny": tiny.Tiny})


def test_missing_and_extra_tensors(tiny, model, tmp_path):
    class Other(tiny.Tiny):
        def __init__(self, config):
            super().__init__(config)
            self.more, self.lift = torch.nn.Linear(1, 1), None

    folder = model.save(tmp_path / "model")
    with pytest.raises(WrongTensors, match=r"2 missing: net.more.*2 not of the network: net.lift"):
        Surrogate.load(folder, architectures={"Tiny": Other})


def test_what_cannot_be_saved(tiny, tmp_path):
    with pytest.raises(BadModel, match="Linear cannot be saved"):
        Surrogate(torch.nn.Linear(1, 1)).save(tmp_path / "model")
    with pytest.raises(BadModel, match="plain values"):
        Surrogate(tiny.make(), meta={"loss": object()}).save(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="constants"):
        Signature(constants=-1)


def test_signature_of_a_dataset():
    class Data:
        inputs, outputs = ("a",), ("u",)
        coordinates = (np.array([0.0, 0.5]),)

    assert Signature.of(Data(), boundary=("open",)) == Signature(("a",), ("u",), ((0.0, 0.5),), ("open",))


def test_names_of_networks(tiny):
    with pytest.raises(UnknownName, match="there is no network 'gpt'"):
        architecture("gpt")
    assert name_of(tiny.Tiny) is None
    assert name_of(architecture("deeponet")) == "deeponet"
    assert Normaliser.none().mode == "none"
    assert "fno" in ARCHITECTURES


SETTINGS = {
    "fno": {"modes": (3, 3), "width": 4},
    "tfno": {"modes": (3, 3), "width": 4},
    "mgno": {"channels": 4, "smoothing": ("10", "10")},
    "unet": {"dim": 2, "width": 8, "levels": 1},
    "gno": {"width": 4, "kernel": (4,), "radius": 0.3},
    "multipole": {"width": 4, "kernel": (4,), "nodes": (16,), "radii": (0.3, 0.5)},
    "pod-regression": {"size": (8, 8), "rank_in": 3, "rank_out": 2},
    "low-rank": {"width": 4, "kernel": (4,)},
    "learned-fluxes": {"width": 4},
    "patched": {
        "patches": (2, 2),
        "network": "fno",
        "settings": {"in_channels": 2, "out_channels": 1, "modes": [2, 2], "width": 4},
    },
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_comes_back_from_its_folder(name, tmp_path):
    cls = architecture(name)
    assert issubclass(cls, NeuralOperator)
    assert name_of(cls) == name
    model = Surrogate(
        cls.from_settings({"in_channels": 2, "out_channels": 1, **SETTINGS.get(name, {"size": (8, 8)})})
    )
    loaded = Surrogate.load(model.save(tmp_path / "model"))
    assert json.loads((tmp_path / "model" / "config.json").read_text())["architecture"] == name
    assert loaded.net.config == model.net.config
    x = torch.rand(2, 2, 8, 8)
    try:
        wanted = model.predict(x)
    except NoBasis:  # its basis comes from data
        assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
    else:
        assert torch.equal(loaded.predict(x), wanted)
