import json
import re
import shutil

import h5py
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from solvus.commands.evaluate import evaluate
from solvus.commands.generate import generate
from solvus.commands.predict import predict
from solvus.commands.train import train
from solvus.datasets.loading.load import FieldDataset
from solvus.datasets.loading.metrics import relative_l2
from solvus.datasets.loading.window import Window
from solvus.operators.neural.architectures import ARCHITECTURES, architecture
from solvus.operators.neural.base import WrongSettings
from solvus.solvers.training.losses import BandLimitedH1, RelativeH1
from solvus.solvers.training.surrogate import Surrogate
from solvus.training_plan import (
    Pairing,
    loss_named,
    make_network,
    make_surrogate,
    read_settings,
    schedule_named,
    signature_of,
    train_and_valid,
)

APP = typer.Typer()
for NAME, COMMAND in {"generate": generate, "train": train, "eval": evaluate, "predict": predict}.items():
    APP.command(NAME)(COMMAND)
TINY = ("--set", "width=4", "--set", "layers=2", "--epochs", "2", "--batch", "4")


def run(*words):
    return CliRunner().invoke(APP, [str(word) for word in words])


def good(*words):
    shown = run(*words)
    assert shown.exit_code == 0, shown.output + shown.stderr
    return shown


@pytest.fixture(scope="module")
def darcy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "darcy"
    good("generate", "darcy", "--n", 12, "--resolution", 16, "--out", folder, "--workers", 1,
         "--splits", "0.5,0.25,0.25")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "waves"
    good("generate", "kdv", "--n", 6, "--resolution", 24, "--out", folder, "--workers", 1,
         "--splits", "0.5,0.25,0.25")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def trained(darcy, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "fno"
    return out, good("train", "fno", darcy, "--out", out, *TINY)


def test_train_tells_and_saves(trained, darcy):
    out, shown = trained
    assert "6 pairs to train, 3 to validate, 16 x 16 points" in shown.stdout
    assert "coefficient to u" in shown.stdout
    assert "epoch 1 of 2, train " in shown.stdout
    assert "left" in shown.stdout
    assert f"solvus eval {out} {darcy}" in shown.stdout
    model = Surrogate.load(out / "model")
    assert model.net.config.modes == (5, 5)
    assert model.signature.boundary == ("dirichlet", "dirichlet")
    assert model.encode.mode == "channel"
    only_train = torch.stack([x for x, _ in FieldDataset(darcy, "train")])
    assert float(model.encode.mean[0]) == pytest.approx(float(only_train.mean()), rel=1e-5)
    assert model.meta["data"]["split"] == "train"
    assert sorted(p.name for p in out.iterdir() if p.name != "checkpoints") == [
        "history.csv", "history.jsonl", "model", "plan.json", "settings.json",
    ]  # fmt: skip


def test_the_test_split_is_not_looked_at(darcy, tmp_path, monkeypatch):
    seen = []
    begin = FieldDataset.__init__

    def noted(self, data, split=None, **more):
        seen.append(split)
        begin(self, data, split, **more)

    monkeypatch.setattr(FieldDataset, "__init__", noted)
    good("train", "fno", darcy, "--out", tmp_path / "run", *TINY)
    assert seen == ["train", "valid"]


def test_the_same_command_goes_on_and_another_is_refused(darcy, tmp_path):
    out = tmp_path / "run"
    whole = good("train", "fno", darcy, "--out", tmp_path / "whole", *TINY)
    assert "going on" not in whole.stdout
    assert "TIMEOUT" in good("train", "fno", darcy, "--out", out, *TINY, "--seconds", 0).stdout
    assert "FINISHED after 2 epochs" in good("train", "fno", darcy, "--out", out, *TINY).stdout
    again = good("train", "fno", darcy, "--out", out, *TINY)
    assert "2 of 2 epochs are done: going on" in again.stdout
    one, two = (Surrogate.load(folder / "model").state_dict() for folder in (out, tmp_path / "whole"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    for more, what in (
        (("--set", "width=5"), "other in settings"),
        (("--stride", 2), "other in settings, pairing, normalisers"),
        (("--samples", 3), "other in normalisers"),
        (("--learning-rate", 0.1), "learning_rate"),
        (("--loss", "relative-h1"), "loss"),
    ):
        shown = run("train", "fno", darcy, "--out", out, *TINY, *more)
        assert shown.exit_code == 2
        assert what in shown.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    assert "holds other files" in run("train", "fno", darcy, "--out", tmp_path / "mine", *TINY).stderr


@pytest.mark.parametrize("data", ["darcy", "waves"])
@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "masked-deeponet"])
def test_defaults_fit_the_data(name, data, request):
    small = {
        "gno": {"kernel": (4,), "width": 4},
        "multipole": {"kernel": (4,), "width": 4, "nodes": (20, 8)},
        "low-rank": {"kernel": (4,), "width": 4},
    }
    pairs, valid = train_and_valid(request.getfixturevalue(data), Pairing(), None)
    if name == "pod-regression":
        return
    if name == "learned-fluxes" and data == "waves":
        with pytest.raises(WrongSettings, match="no periodic one"):
            make_network(name, {}, pairs)
        return
    net = make_network(name, small.get(name, {}), pairs)
    model = make_surrogate(net, pairs, "channel", {})
    x, y = valid[0]
    prediction = model(x[None])
    assert prediction.shape == y[None].shape
    assert bool(torch.isfinite(prediction).all())
    if hasattr(net.config, "coordinates"):
        assert net.config.coordinates == ("closed" if data == "darcy" else "periodic")


def test_a_regression_is_computed(darcy, tmp_path):
    shown = good("train", "pod-regression", darcy, "--out", tmp_path / "run")
    assert "nothing to train" in shown.stdout
    good("eval", tmp_path / "run", darcy)


def test_levels_follow_the_grid(darcy):
    pairs, _ = train_and_valid(darcy, Pairing(stride=2), None)
    assert make_network("unet", {"width": 6}, pairs).config.levels == 3
    assert make_network("unet", {"width": 6}, pairs).config.groups == 2
    assert len(make_network("mgno", {"channels": 4}, pairs).config.smoothing) < 6
    with pytest.raises(WrongSettings, match="mask"):
        make_network("masked-deeponet", {}, pairs)


def test_settings_are_read_by_type():
    fno, tfno = architecture("fno"), architecture("tfno")
    words = {"modes": "3, 4", "expansion": "0.5", "normal_start": "true", "norm": "batch"}
    read = read_settings(fno, words)
    assert read == {"modes": (3, 4), "expansion": 0.5, "normal_start": True, "norm": "batch"}
    assert read_settings(tfno, {"rank": "0.2"}) == {"rank": 0.2}
    assert read_settings(architecture("patched"), {"settings": '{"width": 4}'}) == {"settings": {"width": 4}}
    for name, text, message in (
        ("width", "wide", "a whole number"),
        ("normal_start", "maybe", "true or false"),
        ("widht", "3", "no setting widht"),
    ):
        with pytest.raises(WrongSettings, match=message):
            read_settings(fno, {name: text})


def test_losses_and_schedules(darcy, waves):
    steady = signature_of(FieldDataset(darcy, "train"))
    gradient = loss_named("relative-h1", steady)
    assert gradient.spacing == pytest.approx((1 / 16, 1 / 16))
    assert gradient.boundary == ("open", "open")
    series = signature_of(FieldDataset(waves, "train", window=Window(1, 1)))
    assert loss_named("relative-h1", series).boundary == ("periodic",)
    assert loss_named("band-limited-h1", series) == BandLimitedH1()
    assert schedule_named("step", 500).every == 100
    for made, name in (
        (lambda: loss_named("l3", steady), "relative-l2"),
        (lambda: schedule_named("x", 1), "step"),
    ):
        with pytest.raises(ValueError, match=name):
            made()


def test_eval_measures_in_physical_units(trained, darcy):
    out, _ = trained
    shown = good("eval", out, darcy)
    assert "relative l2" in shown.stdout
    record = json.loads((out / "eval-darcy-test.json").read_text())
    data = FieldDataset(darcy, "test")
    x, y = (torch.stack(part) for part in zip(*data, strict=True))
    p = Surrogate.load(out / "model").predict(x)
    errors = relative_l2(p, y)
    figures = record["fields"]["u"]
    assert record["pairs"] == 3
    assert figures["relative_l2"]["mean"] == pytest.approx(float(errors.mean()))
    assert figures["relative_l2"]["worst"] == pytest.approx(float(errors.max()))
    assert figures["max_error"]["worst"] == pytest.approx(float((p - y).abs().max()))
    assert figures["rmse"]["median"] == pytest.approx(float((p - y).square().mean((1, 2, 3)).sqrt().median()))
    h1 = RelativeH1((1 / 16, 1 / 16))(p.double(), y.double())
    assert figures["relative_h1"]["mean"] == pytest.approx(float(h1.mean()))
    assert record["rollout"] == []
    assert shown.stderr == ""


def test_eval_warns_of_data_that_were_trained_on(trained, darcy):
    out, _ = trained
    shown = good("eval", out, darcy, "--split", "train", "--name", "seen before")
    assert "were trained on" in shown.stderr
    assert (out / "eval-seen-before.json").exists()


def test_eval_on_another_grid(darcy, tmp_path):
    good("train", "fno", darcy, "--out", tmp_path / "run", *TINY, "--stride", 2, "--set", "modes=2,2")
    shown = good("eval", tmp_path / "run", darcy, "--stride", 1)
    assert "grid of 16 x 16 points is not that of training, 8 x 8" in shown.stderr
    good("train", "pod-deeponet", darcy, "--out", tmp_path / "pod", "--epochs", 1)
    shown = run("eval", tmp_path / "pod", darcy, "--stride", 2)
    assert shown.exit_code == 2
    assert "16 x 16" in shown.stderr


def test_trajectories_have_a_rollout(waves, tmp_path):
    out = tmp_path / "run"
    shown = good("train", "fno", waves, "--out", out, *TINY, "--window-in", 3, "--window-out", 2)
    assert "u@-2, u@-1, u@0 to u@1, u@2" in shown.stdout
    shown = good("eval", out, waves)
    assert "rollout" in shown.stdout
    record = json.loads((out / "eval-kdv-test.json").read_text())
    assert set(record["fields"]) == {"u@1", "u@2", "all fields"}
    frames = len(FieldDataset(waves, "test", window=Window(1, 1)).layout.times)
    assert len(record["rollout"]) == (frames - 3) // 2 * 2
    first = FieldDataset(waves, "test", window=Window(3, 2, stride=None))
    x, y = (torch.stack(part) for part in zip(*first, strict=True))
    p = Surrogate.load(out / "model").predict(x)
    for t in range(2):
        expected = float(relative_l2(p[:, t], y[:, t]).mean())
        assert record["rollout"][t]["mean"] == pytest.approx(expected, rel=1e-5)
    good("predict", out, waves, "--out", tmp_path / "p.npy", "--steps", 3, "--split", "test")
    rolled = np.load(tmp_path / "p.npy")
    assert rolled.shape == (len(first), 6, 1, 24)
    assert np.allclose(rolled[:, :2, 0], p, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".hdf5"])
def test_predict_writes_every_kind(trained, darcy, tmp_path, suffix):
    out, _ = trained
    x = torch.stack([x for x, _ in FieldDataset(darcy, "test")])
    np.save(tmp_path / "x.npy", x.numpy())
    expected = Surrogate.load(out / "model").predict(x).numpy()
    read = {
        ".npy": np.load,
        ".npz": lambda path: np.load(path)["prediction"],
        ".pt": lambda path: torch.load(path, weights_only=True)["y"].numpy(),
        ".hdf5": lambda path: h5py.File(path)["prediction"][...],
    }[suffix]
    for number, words in enumerate([(tmp_path / "x.npy",), (darcy, "--split", "test")]):
        file = tmp_path / f"p{number}{suffix}"
        assert "3 x 1 x 16 x 16 values" in good("predict", out, *words, "--out", file).stdout
        assert np.array_equal(read(file), expected)
    assert "exists" in run("predict", out, tmp_path / "x.npy", "--out", file).stderr
    good("predict", out, tmp_path / "x.npy", "--out", file, "--overwrite")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 3, 16, 16), np.float32), "takes 1 channels, coefficient"),
        (np.ones((2, 1, 4, 4), np.float32), "finer grid"),
        (np.full((2, 1, 16, 16), np.nan, np.float32), "NaN"),
        (np.ones((16, 16), np.float32), r"\(B, C, \*space\)"),
        (np.array([["a"]]), "real numbers"),
    ],
)
def test_predict_refuses(trained, tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    shown = run("predict", trained[0], tmp_path / "x.npy", "--out", tmp_path / "p.npy")
    assert shown.exit_code == 2
    assert re.search(message, shown.stderr)
    assert not (tmp_path / "p.npy").exists()


def test_bad_words_end_with_2(trained, darcy, waves, tmp_path):
    out, _ = trained
    (tmp_path / "empty").mkdir()
    for words, message in (
        (("train", "fon", darcy), "no network 'fon'"),
        (("train", "fno"), "name the data"),
        (("train", "fno", tmp_path / "none"), "no file or folder"),
        (("train", "fno", darcy, "--out", tmp_path / "a", "--set", "modes=40,40"), "finer grid"),
        (("train", "fno", darcy, "--out", tmp_path / "a", "--set", "width"), "KEY=VALUE"),
        (("train", "fno", darcy, "--out", tmp_path / "a", "--loss", "l3"), "no loss 'l3'"),
        (("train", "fno", darcy, "--out", tmp_path / "a", "--optimiser", "adma"), "adamw"),
        (("train", "fno", darcy, "--out", tmp_path / "a", "--device", "abacus"), "cannot be used"),
        (("eval", tmp_path / "none", darcy), "no run at"),
        (("eval", tmp_path / "empty", darcy), "config.json"),
        (("eval", out, darcy, "--split", "exam"), "no split"),
        (("eval", out, waves), "coefficient"),
        (("predict", out, waves, "--out", tmp_path / "p.npy"), "takes coefficient; kdv has u"),
        (("predict", out, darcy, "--out", tmp_path / "p.doc"), "written to .npy"),
        (("predict", out, darcy, "--out", tmp_path / "p.npy", "--steps", 2), "leave out --steps"),
    ):
        shown = run(*words)
        assert shown.exit_code == 2, (words, shown.output)
        assert message in shown.stderr.replace("\n", " "), (words, shown.stderr)
    assert not (tmp_path / "a").exists()


def test_tampered_weights_are_refused(trained, darcy, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    weights = tmp_path / "run" / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    shown = run("eval", tmp_path / "run", darcy)
    assert shown.exit_code == 2
    assert "SHA-256" in shown.stderr
    shutil.rmtree(tmp_path / "run" / "model")
    assert "goes on" in run("eval", tmp_path / "run", darcy).stderr


def test_lists():
    assert "pod-regression" in good("train", "--list").stdout
    shown = good("train", "mgno", "--list").stdout
    assert "smoothing" in shown
    assert "from the data" in shown


def test_a_file_without_splits(tmp_path):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((20, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=2 * x)
    shown = good("train", "fno", tmp_path / "a.npz", "--out", tmp_path / "run", *TINY)
    assert "18 pairs to train, 2 to validate" in shown.stdout
    assert "were trained on" in good("eval", tmp_path / "run", tmp_path / "a.npz").stderr
    np.savez(tmp_path / "one.npz", x=x[:1], y=x[:1])
    shown = run("train", "fno", tmp_path / "one.npz", "--out", tmp_path / "b", *TINY)
    assert "at least 2 are needed" in shown.stderr


def test_a_pod_basis_is_that_of_encoded_training_outputs(darcy):
    pairs, _ = train_and_valid(darcy, Pairing(), None)
    model = make_surrogate(make_network("pod-deeponet", {}, pairs), pairs, "channel", {})
    y = torch.stack([y for _, y in pairs])
    mean = model.decode.encode(y).mean(0).flatten(1)
    assert torch.allclose(model.net.net.basis.mean, mean, atol=1e-5)
