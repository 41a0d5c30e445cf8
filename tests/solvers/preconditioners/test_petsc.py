"""Preconditioners inside PETSc, in the interpreter that has it (without torch)."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from solvus.meshes.grid import Grid
from solvus.operators.linear import Diffusion, to_scipy
from solvus.solvers import CG, LinearSystem, Stop, solve
from solvus.solvers.preconditioners import PetscPreconditioner, from_factory, ic0, ssor
from solvus.solvers.preconditioners import petsc as module

SCRIPT = """
import importlib.util, json, sys
import numpy as np, scipy.sparse as sp, scipy.sparse.linalg as spla
import petsc4py
petsc4py.init(["test", "-opt_pc_type", "python", "-opt_pc_python_type", "__main__.ByOption"])
from petsc4py import PETSc

spec = importlib.util.spec_from_file_location("petsc_preconditioner", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert "torch" not in sys.modules

def ssor(A, omega=1.5):
    A = sp.csr_matrix(A)
    d = A.diagonal()
    lower = sp.csr_matrix(sp.tril(A, -1) + sp.diags(d / omega))
    upper = sp.csr_matrix(sp.triu(A, 1) + sp.diags(d / omega))
    def apply(x):
        y = spla.spsolve_triangular(lower, x, lower=True)
        return spla.spsolve_triangular(upper, (2 - omega) / omega * d * y, lower=False)
    return apply

class ByOption(module.PetscPreconditioner):
    def __init__(self):
        super().__init__(ssor)

data = np.load(sys.argv[2])
n = len(data["b"])
A = PETSc.Mat().createAIJ(size=(n, n), csr=(data["indptr"], data["indices"], data["data"]))
b = PETSc.Vec().createWithArray(data["b"])

def run(kind, prepare):
    ksp = PETSc.KSP().create()
    ksp.setOperators(A)
    ksp.setType(kind)
    ksp.setTolerances(rtol=1e-8, atol=0.0, max_it=2000)
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    if kind == "fgmres":
        ksp.setGMRESRestart(200)
    prepare(ksp)
    x = b.duplicate()
    ksp.solve(b, x)
    residual = np.linalg.norm(data["b"] - (A * x).getArray()) / np.linalg.norm(data["b"])
    return {"steps": ksp.getIterationNumber(), "residual": float(residual)}

def context(ksp):
    ksp.getPC().setType("python")
    ksp.getPC().setPythonContext(module.PetscPreconditioner(ssor))

def option(ksp):
    ksp.setOptionsPrefix("opt_")
    ksp.getPC().setFromOptions()

out = {kind: run(kind, context) for kind in ("cg", "fcg", "fgmres")}
out["option"] = run("cg", option)
out["none"] = run("cg", lambda ksp: ksp.getPC().setType("none"))

def factor(ksp):
    ksp.getPC().setType("icc")
    ksp.getPC().setFactorOrdering("natural")

out["icc"] = run("cg", factor)
pc = PETSc.PC().create()
pc.setOperators(A)
pc.setType("icc")
pc.setFactorOrdering("natural")
pc.setUp()
y = b.duplicate()
pc.apply(b, y)
np.save(sys.argv[3], y.getArray())
print(json.dumps(out))
"""


def problem() -> Diffusion:
    k = torch.rand(21, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    return Diffusion(Grid((20, 20)), k)


@pytest.mark.fenics
def test_inside_petsc_by_object_and_by_option(tmp_path: Path) -> None:
    from solvus.solvers.fem.discovery import clean_environment, find_interpreter

    A = problem()
    matrix = to_scipy(A)
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    arrays = {"indptr": matrix.indptr, "indices": matrix.indices, "data": matrix.data, "b": b}
    np.savez(tmp_path / "system.npz", **arrays)
    (tmp_path / "script.py").write_text(SCRIPT)
    python = find_interpreter().interpreter
    done = subprocess.run(
        [python, "script.py", module.__file__, "system.npz", "icc.npy"],
        cwd=tmp_path,
        env=clean_environment(python),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout.splitlines()[-1])
    for name, row in out.items():
        assert row["residual"] <= 1.1e-8, name
    ours = {
        name: solve(LinearSystem(A, b), CG(make), stop=Stop(rtol=1e-8)).steps
        for name, make in (("cg", ssor(1.5)), ("icc", ic0()))
    }
    for name in ("cg", "fcg", "option"):
        assert abs(out[name]["steps"] - ours["cg"]) <= 1, name
    assert out["fgmres"]["steps"] <= ours["cg"] + 1
    assert out["none"]["steps"] > 2 * out["cg"]["steps"]
    # PETSc's ICC(0) is an outside oracle of ours
    assert abs(out["icc"]["steps"] - ours["icc"]) <= 1
    np.testing.assert_allclose(
        (ic0()(A) @ torch.from_numpy(b)).numpy(), np.load(tmp_path / "icc.npy"), rtol=1e-10
    )


class Vector:
    """What PETSc's Vec offers, on NumPy."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def getArray(self, readonly: bool = False) -> np.ndarray:
        return self.values

    def setArray(self, values: np.ndarray) -> None:
        self.values = np.array(values)


def test_a_factory_serves_in_one_interpreter() -> None:
    A = problem()
    matrix = sp.csr_matrix(to_scipy(A))
    block = SimpleNamespace(
        getValuesCSR=lambda: (matrix.indptr, matrix.indices, matrix.data), getSize=lambda: matrix.shape
    )
    pc = SimpleNamespace(getOperators=lambda: (None, SimpleNamespace(getDiagonalBlock=lambda: block)))
    served = PetscPreconditioner(from_factory(ssor(1.3)))
    x, y = Vector(np.random.default_rng(0).standard_normal(400)), Vector(np.empty(400))
    served.apply(pc, x, y)  # sets up by itself
    np.testing.assert_allclose(y.values, (ssor(1.3)(A) @ torch.from_numpy(x.values)).numpy(), rtol=1e-12)
    matrix.data *= 2
    served.setUp(pc)
    halved = Vector(np.empty(400))
    served.apply(pc, x, halved)
    np.testing.assert_allclose(2 * halved.values, y.values, rtol=1e-12)
