"""Solve the Poisson equation with values on two faces and compare with the exact solution.

Run: python examples/first_solve.py
"""

from solvus.meshes import Grid
from solvus.operators.pde import Poisson
from solvus.solvers import LinearSystem, Stop, solve


def main(n: int = 255) -> float:
    """Return the largest error on an n x n grid."""
    grid = Grid((n, n), boundary=(("dirichlet", "neumann"), "dirichlet"))
    equation = Poisson()
    case = equation.exact(grid)  # source, values on the faces, and the solution that belongs to them
    A, b = equation.problem(grid, case.fields, case.boundary)
    result = solve(LinearSystem(A, b), stop=Stop(rtol=1e-10, max_steps=5000))
    error = float((result.value.reshape(grid.shape) - case.value).abs().max())
    print(f"{result}, largest error {error:.2e}")
    return error


if __name__ == "__main__":
    main()
