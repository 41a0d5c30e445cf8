"""Use a learned preconditioner on a FEniCS matrix: in solvus, SciPy, and PETSc's cg by `pc_type python`.

FEniCS lives in an interpreter of its own, without torch, so PETSc asks this process for M r through a pipe.
Where one interpreter has both, `pc.setPythonContext(PetscPreconditioner(lambda matrix: M.matvec))` is enough.
"""

from subprocess import PIPE, Popen

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from solvus.meshes import Grid
from solvus.operators.linear import Diffusion, to_scipy, to_scipy_operator
from solvus.solvers import CG, Stop, solve
from solvus.solvers.fem import VariableDiffusion, fenics, find_interpreter
from solvus.solvers.learned import shipped
from solvus.solvers.learned.vcycle import learned_cycle

PETSC = """import os, sys, numpy as np; from petsc4py import PETSc
read = lambda kind, count: np.frombuffer(sys.stdin.buffer.read(count * np.dtype(kind).itemsize), kind).copy()
out = os.fdopen(os.dup(1), "wb"); os.dup2(2, 1); n, nnz = read("i4", 2)
def tell(head, v): out.write(np.append(float(head), v).tobytes()); out.flush()
class Learned:
    def apply(self, pc, x, y): tell(-1, x.getArray(readonly=True)); y.setArray(read("f8", n))
A = PETSc.Mat().createAIJ(size=(n, n), csr=(read("i4", n + 1), read("i4", nnz), read("f8", nnz)))
b = PETSc.Vec().createWithArray(read("f8", n)); x = b.duplicate(); ksp = PETSc.KSP().create()
ksp.setOperators(A); ksp.setType("cg"); ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED); pc = ksp.getPC()
pc.setType("python"); pc.setPythonContext(Learned()); ksp.setTolerances(rtol=1e-8); ksp.solve(b, x)
tell(ksp.getIterationNumber(), x.getArray())
"""


def petsc_cg(A, b: np.ndarray, M: LinearOperator) -> tuple[np.ndarray, int]:
    """Solve A x = b by PETSc in the interpreter that has it, M applied here; return x and the steps."""
    with Popen([find_interpreter().interpreter, "-I", "-c", PETSC], stdin=PIPE, stdout=PIPE) as petsc:
        sizes = np.r_[len(b), A.nnz, A.indptr, A.indices].astype("i4")
        reply = sizes.tobytes() + A.data.tobytes() + b.tobytes()
        while True:
            petsc.stdin.write(reply)
            petsc.stdin.flush()
            asked = np.frombuffer(petsc.stdout.read(8 * len(b) + 8)).copy()
            if len(asked) == 0 or asked[0] >= 0:
                return asked[1:], int(asked[0])  # an IndexError: PETSc ended, and wrote why
            reply = M.matvec(asked[1:]).tobytes()


def main(n: int = 63) -> dict[str, int]:
    """Return the steps of conjugate gradients to 1e-8 in each package."""
    k = lambda x: np.exp(4 * np.sin(9 * x[:, 0]) * np.sin(7 * x[:, 1]))  # noqa: E731
    system = fenics().assemble(VariableDiffusion(Grid((n, n)), source=1.0, coefficient=k)).system()
    centres = (np.indices((n + 1, n + 1)).reshape(2, -1).T + 0.5) / (n + 1)
    learned = learned_cycle(shipped("vcycle-2d"))(Diffusion(Grid((n, n)), k(centres).reshape(n + 1, n + 1)))
    A, b, M, count = to_scipy(system.A), system.b.numpy(), to_scipy_operator(learned), []
    cg(A, b, rtol=1e-8, M=M, callback=count.append)
    ours = solve(system, CG(lambda _: learned), stop=Stop(rtol=1e-8))
    return {"solvus": ours.steps, "SciPy": len(count), "PETSc": petsc_cg(A, b, M)[1]}


if __name__ == "__main__":
    print(main())
