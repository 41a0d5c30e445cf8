import platform

import pytest

from solvus.bench import Environment, Record, environment, git_commit, read_records


def test_the_environment_names_processor_and_versions_but_no_host():
    env = environment()
    assert env.cpu
    assert env.cores >= 1
    assert {"torch", "numpy", "scipy"} <= set(env.versions)
    assert platform.node() == "" or platform.node() not in env.model_dump_json()


def test_a_record_survives_the_file(tmp_path):
    env = Environment(cpu="c", cores=1)
    record = Record(benchmark="b", problem="p", size=3, method="m", package="x", threads=1, env=env)
    path = tmp_path / "r.jsonl"
    path.write_text(record.model_dump_json() + "\n\n")
    assert read_records([path]) == [record]
    assert record.total_s is None
    assert not record.ok


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"benchmark": "b"}\n')
    with pytest.raises(
        ValueError, match=r"r\.jsonl, line 1 is not a benchmark record \(problem: Field required\)"
    ):
        read_records([path])
    path.write_text("\nnot json\n")
    with pytest.raises(ValueError, match="line 2 is not a benchmark record"):
        read_records([path])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no records at .*gone\.jsonl"):
        read_records([tmp_path / "gone.jsonl"])


def test_outside_of_a_checkout_there_is_no_commit(tmp_path):
    assert git_commit(tmp_path) is None
