import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from typer.testing import CliRunner

from solvus.cli import app
from solvus.datasets import made_solution, write_systems
from solvus.named import EQUATIONS, SOLVERS, equation_named, in_words, solver_named
from solvus.solvers import Stop, solve

LAPLACE = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(40, 40))


def run(*words):
    return CliRunner().invoke(app, ["solve", *map(str, words)])


def flat(text):
    return " ".join(text.split())


@pytest.fixture
def matrix(tmp_path):
    path = tmp_path / "matrix.mtx"
    scipy.io.mmwrite(path, sp.coo_array(LAPLACE))
    return path


@pytest.mark.parametrize("name", EQUATIONS)
def test_named_equations_converge(name):
    shown = run(name, "--size", 9)
    assert shown.exit_code == 0
    assert "CONVERGED" in shown.stdout
    assert "true residual" in shown.stdout


def test_the_solution_file_solves_the_equation(tmp_path):
    out = tmp_path / "new" / "x.npy"
    assert run("poisson2d", "--size", 15, "--solver", "superlu", "--out", out).exit_code == 0
    reference = solve(equation_named("poisson2d", 15), stop=Stop(rtol=1e-10)).value
    assert np.allclose(np.load(out), reference, rtol=1e-8, atol=1e-12)


def test_matrix_and_right_hand_side_files(matrix, tmp_path):
    exact = np.linspace(-1, 2, 40)
    np.save(tmp_path / "b.npy", LAPLACE @ exact)
    out = tmp_path / "x.npy"
    shown = run(matrix, tmp_path / "b.npy", "--rtol", "1e-12", "--out", out)
    assert shown.exit_code == 0, shown.output
    assert np.allclose(np.load(out), exact, atol=1e-9)


def test_several_right_hand_sides_come_back_as_columns(matrix, tmp_path):
    exact = np.random.default_rng(0).standard_normal((40, 3))
    np.save(tmp_path / "b.npy", LAPLACE @ exact)
    out = tmp_path / "x.txt"
    assert run(matrix, tmp_path / "b.npy", "--rtol", "1e-12", "--out", out).exit_code == 0
    assert np.allclose(np.loadtxt(out), exact, atol=1e-9)


def test_without_a_right_hand_side_the_solution_is_known(matrix, tmp_path):
    out = tmp_path / "x.mtx"
    assert run(matrix, "--out", out).exit_code == 0
    assert np.allclose(scipy.io.mmread(out).ravel(), made_solution(40), atol=1e-6)


def test_one_system_of_an_hdf5_file(tmp_path):
    systems = {"first": equation_named("poisson2d", 7), "second": equation_named("poisson2d", 9)}
    path = write_systems(tmp_path / "two.h5", systems)
    shown = run(f"{path}:second", "--solver", "cg")
    assert shown.exit_code == 0
    assert "81 x 81" in shown.stdout
    assert "the file holds 2 systems, name one: first, second" in run(path).stderr


def test_a_cg_solver_declares_a_symmetric_matrix_positive_definite(tmp_path):
    path = tmp_path / "a.npz"
    dense = LAPLACE @ LAPLACE  # definite, not diagonally dominant
    sp.save_npz(path, sp.csr_array(dense))
    assert run(path, "--solver", "cg").exit_code == 0
    assert run(path, "--solver", "minres").exit_code == 0


def test_not_converged_ends_with_1_and_advice(tmp_path):
    path = tmp_path / "a.mtx"
    scipy.io.mmwrite(path, sp.coo_array(sp.diags_array(np.r_[-1.0, np.arange(1.0, 20.0)])))
    shown = run(path, "--solver", "cg")
    assert shown.exit_code == 1
    assert "BREAKDOWN" in shown.stdout
    assert "not positive definite" in flat(shown.stdout)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sphere"], "'sphere' is neither a matrix file (.mtx, .mtx.gz, .npz, .npy, .h5) nor an equation"),
        (["poisson2d", "--solver", "magic"], "there is no solver 'magic': choose among auto, cg,"),
        (["missing.mtx"], "no matrix at missing.mtx"),
        (["poisson2d", "--contrast", "10"], "poisson2d has a constant coefficient: use --contrast with"),
        (["poisson2d", "b.npy"], "brings its own right-hand side: leave out b.npy"),
        (["poisson2d", "--size", "5", "--out", "x.jpg"], "a solution is written to .npy, .mtx or .txt"),
        (["poisson2d", "--device", "abacus"], "device 'abacus' cannot be used here"),
        (["diffusion2d", "--size", "9", "--solver", "fast-transform"], "FastTransform needs constant"),
        (["diffusion2d", "--size", "9", "--contrast", "-1"], "contrast is a ratio of two positive"),
        (["poisson2d", "--size", "9", "--rtol", "-1"], "rtol and atol must be finite and not negative"),
    ],
)
def test_bad_input_ends_with_2_and_one_message(words, message):
    shown = run(*words)
    assert shown.exit_code == 2
    assert shown.stderr.startswith("error ")
    assert message in flat(shown.stderr)
    assert "Traceback" not in shown.output


def test_bad_files_end_with_2(matrix, tmp_path):
    np.save(tmp_path / "short.npy", np.ones(3))
    assert "short.npy has shape (3,), the matrix is 40 x 40" in flat(
        run(matrix, tmp_path / "short.npy").stderr
    )
    (tmp_path / "broken.mtx").write_text("not a matrix")
    shown = run(tmp_path / "broken.mtx")
    assert shown.exit_code == 2
    assert "cannot read the matrix from broken.mtx" in shown.stderr
    assert "belong to named equations" in flat(run(matrix, "--size", 4).stderr)


def test_every_solver_can_be_made():
    for name in SOLVERS:
        assert in_words(solver_named(name))


def test_contrast_reaches_the_coefficient():
    soft, hard = (equation_named("diffusion2d", 9, c).A.couplings[0] for c in (10.0, 1e6))
    assert float(soft.max() / soft.min()) <= 10.0
    assert float(hard.max() / hard.min()) > 1e5
