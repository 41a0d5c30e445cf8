"""The command `solvus generate`, as it is typed."""

import json
import pickle

import pytest
import typer
from typer.testing import CliRunner

from solvus.commands import generate as module
from solvus.commands.generate import generate
from solvus.datasets.generation.manifest import read_manifest, sha256
from solvus.datasets.recipe import digest
from solvus.datasets.recipes.registry import (
    RECIPES,
    UnknownEquation,
    UnknownSetting,
    WrongSetting,
    recipe_named,
    settings_of,
    summary_of,
)

app = typer.Typer(pretty_exceptions_enable=False)
app.command("generate")(generate)


@app.command("other")
def _other() -> None:
    """Make the app one of several commands."""


def call(*words, code=0):
    done = CliRunner().invoke(app, ["generate", *map(str, words)], env={"COLUMNS": "160"})
    text = done.stdout + done.stderr
    assert done.exit_code == code, text
    return " ".join(text.split())


SMALL = ("poisson", "--n", 12, "--resolution", 8, "--workers", 1)


def test_a_dataset_from_the_command_line(tmp_path):
    out = tmp_path / "d"
    text = call(*SMALL, "--out", out, "--seed", 3, "--set", "structures=2", "--license", "CC0-1.0")
    manifest = read_manifest(out)
    assert manifest.complete
    assert manifest.config["preset"] == {
        "equation": "poisson",
        "resolution": 8,
        "settings": {"structures": "2"},
    }
    assert manifest.config["config"]["equation"]["structures"] == 2.0
    assert (manifest.config["seed"], manifest.config["license"]) == (3, "CC0-1.0")
    for words in (
        "12 of 12 samples",
        "samples/s",
        "largest residual",
        f"solvus check {out}",
        f"solvus show {out}",
    ):
        assert words in text
    text = call(*SMALL, "--out", out, "--seed", 3, "--set", "structures=2", "--license", "CC0-1.0")
    assert "12 of 12 samples are there and in order: nothing to do" in text


def test_the_command_of_the_card_makes_the_same_files(tmp_path):
    call(*SMALL, "--out", tmp_path / "a", "--set", "structures=3", "--shard", 5, "--splits", "0.5,0.25,0.25")
    line = next(
        line
        for line in (tmp_path / "a/README.md").read_text().splitlines()
        if line.startswith("$ solvus generate")
    )
    words = line.split()[3:]
    words[words.index("--out") + 1] = str(tmp_path / "b")
    call(*words, "--workers", 1)
    files = [{p.name: sha256(p) for p in (tmp_path / k).rglob("*.hdf5")} for k in "ab"]
    assert files[0] == files[1]


def test_it_goes_on(tmp_path):
    out = tmp_path / "d"
    call(*SMALL, "--out", out)
    lines = (out / "manifest.jsonl").read_text().splitlines(keepends=True)
    (out / json.loads(lines[-1])["shard"]).unlink()
    text = call(*SMALL, "--out", out)
    assert "11 of 12 samples are there and in order: going on" in text
    assert read_manifest(out).complete


def test_ctrl_c(tmp_path, monkeypatch):
    def stop(self, now):
        self.now = now
        if now.done >= 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Show, "__call__", stop)
    text = call(*SMALL, "--out", tmp_path / "d", code=130)
    assert f"stopped: 4 of 12 samples are kept in {tmp_path / 'd'}, the same command goes on" in text


def test_lists():
    text = call("--list")
    for name in RECIPES:
        assert f"{name} {summary_of(name)[:20]}" in text
    assert "structures" in call("poisson", "--list")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("poison",), "there is no recipe 'poison': did you mean poisson? There are poisson, darcy, "),
        (
            ("poisson", "--set", "size=3"),
            "poisson has no setting size: there are resolution=128 (int), ",
        ),
        (
            ("poisson", "--set", "structures=many"),
            "structures of poisson is of type float (default 4.0)",
        ),
        (("poisson", "--set", "structures"), "--set takes KEY=VALUE, got 'structures'"),
        (
            ("poisson", "--set", "resolution=8", "--resolution", 9),
            "resolution of poisson is given twice: 9, 8",
        ),
        (("poisson", "--splits", "a,b"), "--splits takes three numbers such as 0.8,0.1,0.1, got 'a,b'"),
        (("poisson", "--splits", "1,1,1"), "splits are three numbers >= 0 with the sum 1"),
        (("poisson", "--device", "nonsense"), "device 'nonsense' cannot be used here"),
    ],
)
def test_errors(tmp_path, words, message):
    text = call(*words, "--out", tmp_path / "d", code=2)
    assert message in text
    assert "Traceback" not in text
    assert not (tmp_path / "d").exists()


def test_other_settings(tmp_path):
    call(*SMALL, "--out", tmp_path / "d")
    text = call(*SMALL, "--out", tmp_path / "d", "--seed", 1, code=2)
    assert "made with other settings (seed: 0 in the folder, 1 asked for): give another folder" in text


class TestRegistry:
    @pytest.mark.parametrize("name", RECIPES)
    def test_every_name_makes_a_recipe_and_has_settings(self, name):
        assert summary_of(name)
        settings = settings_of(name)
        assert all(s.kind is not None and s.default is not s.kind for s in settings)
        recipe = recipe_named(name)
        as_text = {s.name: str(s.default) for s in settings}
        assert digest(recipe_named(name, None, as_text)) == digest(recipe)
        assert pickle.loads(pickle.dumps(recipe)).name == recipe.name

    def test_names_of_files(self):
        for name in RECIPES:
            assert recipe_named(name).name.replace("_", "-") == name

    def test_errors(self):
        with pytest.raises(UnknownEquation, match="there is no recipe 'maxwell': There are poisson"):
            recipe_named("maxwell")
        with pytest.raises(UnknownSetting, match="has no setting viscous: there are"):
            recipe_named("burgers", 64, {"viscous": "1"})
        with pytest.raises(WrongSetting, match=r"resolution of poisson is of type int .* got '8.5'"):
            recipe_named("poisson", None, {"resolution": "8.5"})
