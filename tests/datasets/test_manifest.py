"""The books of a dataset are read as they were written, and what is wrong with them is said."""

import dataclasses
import json
import math
from importlib.metadata import version

import pytest

from solvus.datasets.generation.manifest import (
    ForeignFolder,
    NoDataset,
    Shard,
    read_manifest,
    sha256,
    shard_from,
)

CONFIG = {
    "format": "solvus dataset",
    "format_version": 1,
    "name": "toy",
    "kind": "mesh",
    "config": {"size": 8},
    "config_sha256": "c",
    "seed": 0,
    "n": 4,
    "splits": {"train": [0, 3], "valid": [3, 3], "test": [3, 4]},
    "shard": 2,
}


def shard(number, ids, split="train", **changes):
    values = {
        "shard": f"data/{split}/toy-{split}-{number:05d}.hdf5",
        "split": split,
        "ids": tuple(ids),
        "status": tuple("failed: too small" if i == 1 else "ok" for i in ids),
        "residual": tuple(math.nan if i == 1 else 1e-9 * (i + 1) for i in ids),
        "steps": tuple(10 + i for i in ids),
        "sha256": "ab",
        "bytes": 5,
        "wall_s": 0.5,
        "config_sha256": "c",
        "software": {"solvus": version("solvus")},
    }
    return Shard(**{**values, **changes})


def write(folder, shards, config=CONFIG, tail=""):
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(config))
    (folder / "manifest.jsonl").write_text("".join(s.line() for s in shards) + tail)
    return folder


ALL = [shard(1, [2]), shard(0, [3], "test"), shard(0, [0, 1])]


def test_a_manifest_is_read_in_the_order_of_samples(tmp_path):
    manifest = read_manifest(write(tmp_path / "d", ALL))
    assert [s.ids for s in manifest.shards] == [(0, 1), (2,), (3,)]
    assert (manifest.name, manifest.kind, manifest.samples) == ("toy", "mesh", 4)
    assert manifest.made == {0, 1, 2, 3}
    assert manifest.complete
    assert manifest.failed == {1: "too small"}
    assert manifest.max_residual == pytest.approx(4e-9)
    assert [s.ids for s in manifest.of("train")] == [(0, 1), (2,)]
    assert manifest.path(manifest.shards[0]) == tmp_path / "d/data/train/toy-train-00000.hdf5"


def test_lines_survive_and_are_valid_json():
    one = shard(0, [0, 1])
    assert "NaN" not in one.line()
    read = shard_from(json.loads(one.line()))
    assert math.isnan(read.residual[1])
    assert dataclasses.replace(read, residual=one.residual) == one


def test_a_torn_last_line_is_left_out(tmp_path):
    line = shard(1, [2]).line()
    for end in (1, len(line) // 2, len(line) - 1):
        manifest = read_manifest(write(tmp_path / "d", ALL[1:], tail=line[:end]))
        assert manifest.made == {0, 1, 3}
        assert not manifest.complete


def test_the_last_line_of_a_file_counts(tmp_path):
    again = dataclasses.replace(ALL[0], sha256="new")
    manifest = read_manifest(write(tmp_path / "d", [*ALL, again]))
    assert [s.sha256 for s in manifest.shards] == ["ab", "new", "ab"]


def test_nothing_made_yet(tmp_path):
    folder = write(tmp_path / "d", [])
    (folder / "manifest.jsonl").unlink()
    manifest = read_manifest(folder)
    assert manifest.shards == ()
    assert math.isnan(manifest.max_residual)


def test_other_folders(tmp_path):
    with pytest.raises(NoDataset, match=r"nowhere does not exist: give the folder that `generate` wrote"):
        read_manifest(tmp_path / "nowhere")
    with pytest.raises(NoDataset, match=r"holds no dataset of solvus: there is no dataset.json in it"):
        read_manifest(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NoDataset, match="file is a file, not the folder of a dataset"):
        read_manifest(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "has the format 'list', expected is 'solvus dataset'"),
        (json.dumps({"format": "other"}), "has the format 'other'"),
        (json.dumps({**CONFIG, "format_version": 2}), "has format version 2, this solvus reads 1: use the"),
        (json.dumps({k: v for k, v in CONFIG.items() if k != "n"}), "lacks n: it is not complete"),
    ],
)
def test_foreign_folders(tmp_path, text, message):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ForeignFolder, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "spoilt", ["{", "[1]", "{}", shard(0, [0, 1], status=("ok",)).line().strip(), '{"shard": 3}']
)
def test_a_damaged_line_is_not_passed_over(tmp_path, spoilt):
    folder = write(tmp_path / "d", ALL[:1], tail=spoilt + "\n" + ALL[1].line())
    with pytest.raises(ForeignFolder, match=r"line 2 of .*manifest.jsonl is damaged .*delete that line and"):
        read_manifest(folder)


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith(
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
