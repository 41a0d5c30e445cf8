"""Finding FEniCS: what is tried, in which order, and what is said when there is none."""

import sys

import pytest

from solvus.solvers.fem import (
    FenicsUnavailable,
    Rejected,
    ScikitFem,
    Versions,
    describe,
    discover,
    discovery,
    fenics,
)
from solvus.solvers.fem import find_interpreter as find

VARIABLE = "SOLVUS_FENICS_PYTHON"
FOUND = Versions("0.9.0", "3.21.0", "3.12.1", "2.1.0")


@pytest.fixture
def world(monkeypatch):
    """Return a function that sets which interpreters there are and which of them work."""

    def make(*usual, works=(), named=None, here=False):
        outcome = lambda ok: FOUND if ok else Rejected("ModuleNotFoundError: No module named 'dolfinx'")  # noqa: E731
        monkeypatch.setattr(discovery, "usual_interpreters", lambda: list(usual))
        monkeypatch.setattr(
            discovery, "in_process", lambda: discovery.Candidate(sys.executable, outcome(here))
        )
        monkeypatch.setattr(discovery, "_probed", lambda p: discovery.Candidate(p, outcome(p in works)))
        if named is None:
            monkeypatch.delenv(VARIABLE, raising=False)
        else:
            monkeypatch.setenv(VARIABLE, named)

    return make


def test_this_interpreter_comes_first(world):
    world("/a", works=("/a", "/n"), named="/n", here=True)
    assert find().interpreter == sys.executable


def test_the_named_one_comes_before_the_usual_ones(world):
    world("/a", works=("/a", "/n"), named="/n")
    assert find() == ("/n", FOUND)


def test_the_usual_ones_in_their_order(world):
    world("/a", "/b", "/c", works=("/b", "/c"))
    assert find().interpreter == "/b"


def test_a_named_one_that_fails_is_not_replaced(world):
    world("/a", works=("/a",), named="/n")
    with pytest.raises(FenicsUnavailable, match=rf"{VARIABLE} names the second.*\n.*\n  /n: ModuleNotFound"):
        find()


def test_none_lists_what_was_tried_and_how_to_install(world):
    world("/a", "/b")
    with pytest.raises(FenicsUnavailable) as caught:
        find()
    text = str(caught.value)
    for part in ("/a: ModuleNotFoundError", "/b: Module", sys.executable, "apt install python3-dolfinx-real"):
        assert part in text
    assert f"conda-forge fenics-dolfinx`, or set {VARIABLE}" in text


def test_discover_tells_of_every_interpreter_once(world):
    world("/a", "/b", works=("/b",), named="/b")
    found = discover()
    assert [interpreter for interpreter, _ in found] == [sys.executable, "/b", "/a"]
    assert [c.works for c in found] == [False, True, False]
    assert str(found[1].outcome) == "dolfinx 0.9.0, PETSc 3.21.0, Python 3.12.1, numpy 2.1.0"


def test_describe_names_what_works_and_what_does_not(world):
    world("/a", "/b", works=("/b",))
    text = describe()
    assert "no  /a: ModuleNotFoundError" in text
    assert "ok  /b: dolfinx 0.9.0" in text
    assert "apt install" not in text
    world()
    assert "apt install" in describe()


def script(tmp_path, text):
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo 'ImportError: too old' >&2; exit 1", "ImportError: too old"),
        ("exit 7", "ended with code 7"),
        ("echo hello", "is not a Python interpreter"),
        ("sleep 5", "took more than 0.3 s"),
    ],
)
def test_probe_tells_why_it_rejects(tmp_path, text, reason):
    candidate = discovery.probe(script(tmp_path, text), seconds=0.3 if "sleep" in text else 30)
    assert not candidate.works
    assert reason in str(candidate.outcome)


def test_probe_of_nothing(tmp_path):
    assert "no such file" in str(discovery.probe(str(tmp_path / "absent")).outcome)
    assert "cannot be started" in str(discovery.probe(str(tmp_path)).outcome)


@pytest.mark.fenics
def test_the_real_one_is_found():
    outcome = find().outcome
    assert isinstance(outcome, Versions)
    assert tuple(map(int, outcome.dolfinx.split(".")[:2])) >= (0, 5)


@pytest.mark.fenics
def test_versions_are_told():
    assert "dolfinx" in fenics().version()
    assert "PETSc" in fenics().version()
    assert ScikitFem().version().startswith("scikit-fem ")
