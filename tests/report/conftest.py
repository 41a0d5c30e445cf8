import pytest

from solvus.bench import Environment, Record

ENV = Environment(cpu="test <processor>", cores=2, memory_gb=8.0, versions={"torch": "1.2.3"})


def make(method, package, total, **kw):
    """A record of a run that met 1e-8 in `total` seconds."""
    base = {"benchmark": "b", "problem": "poisson", "size": 63, "unknowns": 63**2, "threads": 2, "env": ENV}
    base |= {
        "rtol": 1e-8,
        "residual": 4e-9,
        "converged": True,
        "setup_s": 0.25 * total,
        "solve_s": 0.75 * total,
    }
    base |= {"repeats": 5, "spread": 0.01 * total, "spread_kind": "iqr", "steps": 7, "dtype": "float64"}
    return Record(**(base | {"method": method, "package": package} | kw))


@pytest.fixture(scope="session")
def record():
    return make


@pytest.fixture(scope="session")
def records():
    """Two linear problems with ladders of tolerance and size, a ladder of errors, failures, a network."""
    found = []
    for size in (31, 63):
        scale = size**2 / 1e4
        for rtol in (1e-4, 1e-8):
            point = {"size": size, "unknowns": size**2, "rtol": rtol, "residual": 0.4 * rtol}
            found += [
                make("multigrid", "solvus", scale * (1 - rtol), extra={"regret": [0.0, 1.0]}, **point),
                make("plain </script> CG", "solvus", 9 * scale, extra={"regret": [0.0, 2.0, 3.0]}, **point),
                make("RS-CG", "pyamg", 5 * scale, **point),
            ]
        failed = {"size": size, "converged": False, "reason": "MAX_STEPS: <b>gave</b> up", "residual": 1e-3}
        found.append(make("IC(0)-CG", "solvus", 4 * scale, **failed))
        found.append(make("cg", "scipy", 2.0, problem="cube", size=size, unknowns=size**3))
    for size in (16, 32, 64):
        ladder = {"problem": "darcy", "size": size, "residual": None, "rtol": None, "steps": None}
        found.append(make("P1", "dolfinx", size**2 * 1e-4, error=size**-2.0, **ladder))
        found.append(make("P2", "scikit-fem", size**2 * 3e-4, error=size**-3.0, **ladder))
        learned = {"error": 2e-3, "train_s": 100.0, "data_s": 20.0, "kind": "learned"}
        found.append(make("FNO", "solvus", size**2 * 1e-6, **learned, **ladder))
    return found
