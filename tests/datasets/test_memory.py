"""Free memory: of the machine, of a container, shared."""

from solvus.datasets.loading import memory


def test_memory_of_the_machine(monkeypatch, tmp_path):
    assert 0 < memory.free_memory() < 2**50
    assert memory.free_shared_memory() > 0
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.free_memory() == 600
    (tmp_path / "memory.current").write_text("4000\n")
    assert memory.free_memory() == 0
    monkeypatch.setattr(memory, "_SHARED", tmp_path / "none")
    assert memory.free_shared_memory() == 0
