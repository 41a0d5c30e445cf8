"""What a run shall make: splits, sizes of files, what is refused before anything is written."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvus.datasets.generation.generate import Options, generate
from solvus.datasets.generation.plan import Plan, differences, shard_size, split_counts

sys.path.insert(0, str(Path(__file__).parent / "programs"))

from toy_recipe import Toy


class TestPlan:
    @given(st.integers(1, 5000), st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(any))
    def test_counts_add_up_and_are_near(self, n, weights):
        shares = [w / sum(weights) for w in weights]
        counts = split_counts(n, shares)
        assert sum(counts) == n
        assert all(c >= 0 for c in counts)
        if shares[0] > 0:
            assert counts[0] >= 1
            assert all(abs(c - s * n) <= 1 + (n * shares[0] < 1) for c, s in zip(counts, shares, strict=True))

    @pytest.mark.parametrize(
        ("n", "expected"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (5, (4, 0, 1)), (10, (8, 1, 1)), (64, (51, 6, 7))]
    )
    def test_examples(self, n, expected):
        assert split_counts(n, (0.8, 0.1, 0.1)) == expected

    def test_a_train_split_nobody_wants(self):
        assert split_counts(3, (0, 0, 1)) == (0, 0, 3)
        assert split_counts(3, (0.01, 0, 0.99)) == (1, 0, 2)

    @pytest.mark.parametrize("wrong", [(0.8, 0.1), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (math.nan, 0, 1)])
    def test_wrong_splits(self, wrong):
        with pytest.raises(ValueError, match=r"splits are three numbers >= 0 with the sum 1"):
            split_counts(10, wrong)

    def test_wrong_numbers(self, tmp_path):
        cases = [
            (lambda: generate(Toy(), 0, tmp_path / "d"), "at least one sample, got n = 0"),
            (lambda: generate(Toy(), 5, tmp_path / "d", seed=-1), "the seed is a number >= 0, got -1"),
            (lambda: generate(Toy(), 5, tmp_path / "d", workers=0), "workers is at least 1, got 0"),
            (lambda: Options(batch=0), "batch counts samples and is at least 1, got 0"),
            (lambda: Options(shard=-1), "shard counts samples and is at least 1"),
            (lambda: Options(max_failed=2), "max_failed is a part of the samples, 0 to 1, got 2"),
            (lambda: generate(Toy(name="a/b"), 5, tmp_path / "d"), "'a/b' cannot name files"),
            (
                lambda: generate(Toy(), 5, tmp_path / "d", options=Options(device="nonsense")),
                "device 'nonsense' cannot be used here",
            ),
            (lambda: Plan(Toy(), 5, 0, (1, 1, 1), 1), "do not add up to 5"),
            (lambda: Plan(Toy(), 3, 0, (1, 1, 1), 0), "a file holds at least one sample"),
        ]
        for call, message in cases:
            with pytest.raises(ValueError, match=message):
                call()
        with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="has its own workers"):
            generate(Toy(), 5, tmp_path / "d", workers=2, executor=executor)
        with pytest.raises(ValueError, match="device 'meta' is used by one process: leave out workers = 2"):
            generate(Toy(), 5, tmp_path / "d", workers=2, options=Options(device="meta"))
        assert not (tmp_path / "d").exists()

    def test_files_are_sized_by_bytes_and_number_alone(self):
        assert shard_size(64, 10) == 4
        assert shard_size(10_000, 10) == 79
        assert shard_size(10_000, 1 << 24) == 4
        assert shard_size(10_000, 1 << 40) == 1

    def test_differences_name_settings(self):
        old = Plan(Toy(), 5, 0, (4, 0, 1), 2).config
        new = Plan(Toy(size=9), 5, 1, (5, 0, 0), 2).config
        assert differences(new, old) == [
            "size: 8 in the folder, 9 asked for",
            "seed: 0 in the folder, 1 asked for",
            "splits.train: [0, 4] in the folder, [0, 5] asked for",
            "splits.valid: [4, 4] in the folder, [5, 5] asked for",
            "splits.test: [4, 5] in the folder, [5, 5] asked for",
        ]
        assert differences(old, old) == []
