"""Linear systems survive the way to a file and back; what is wrong with a file is said."""

import os

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from solvus.datasets import (
    list_systems,
    load_system,
    made_solution,
    read_solution,
    read_system,
    write_systems,
)
from solvus.meshes import Grid
from solvus.operators.linear import (
    SPD,
    SYMMETRIC,
    Constants,
    Diffusion,
    Identity,
    MixedDtypes,
    NonFinite,
    NotSupported,
    NullSpace,
    ShapeMismatch,
    Span,
    dense,
    sparse,
    to_scipy,
)
from solvus.solvers import CG, LinearSystem, Stop, solve

POISSON = sp.csr_array(sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(6, 6)))


def systems():
    """One of each kind."""
    rng = np.random.default_rng(0)
    neumann = Diffusion(Grid((4, 3), centring="cell", boundary="neumann"))
    parts = Constants(torch.tensor([0, 0, 1, 1, -1]))
    blocks = sp.block_diag([[[1.0, -1], [-1, 1]], [[1.0, -1], [-1, 1]], [[2.0]]])
    square = sparse(to_scipy(neumann), tags=SPD, nullspace=Span(torch.ones(12, dtype=torch.float64)))
    b = torch.from_numpy(rng.standard_normal(12))
    return {
        "poisson": LinearSystem(POISSON, torch.ones(6, dtype=torch.float64)),
        "several right-hand sides": LinearSystem(POISSON, torch.from_numpy(rng.standard_normal((2, 3, 6)))),
        "diffusion": LinearSystem(Diffusion(Grid((3, 4))), torch.ones(12, dtype=torch.float64)),
        "symmetric": LinearSystem(sparse(-POISSON), torch.ones(6, dtype=torch.float64)),
        "general": LinearSystem(sparse(rng.standard_normal((4, 4))), torch.ones(4, dtype=torch.float64)),
        "float32": LinearSystem(sparse(POISSON, dtype=torch.float32), torch.ones(6)),
        "complex": LinearSystem(sparse(POISSON * 1j), torch.ones(6, dtype=torch.complex128)),
        "neumann": LinearSystem(neumann, neumann.nullspace.project(b)),
        "parts": LinearSystem(
            sparse(blocks, tags=SPD, nullspace=parts), parts.project(torch.arange(5.0).double())
        ),
        "span": LinearSystem(square, square.nullspace.project(b)),
        "no entries": LinearSystem(sp.csr_array((3, 3)), torch.ones(3, dtype=torch.float64)),
    }


def same(a, b):
    torch.testing.assert_close(dense(a.A), dense(b.A), rtol=0, atol=0)
    torch.testing.assert_close(a.b, b.b, rtol=0, atol=0)
    assert (a.A.tags - b.A.tags) | (b.A.tags - a.A.tags) == frozenset()
    assert (a.A.nullspace is None) == (b.A.nullspace is None)
    if a.A.nullspace is not None:
        x = torch.randn(3, a.n, dtype=a.A.dtype)
        torch.testing.assert_close(a.A.nullspace.project(x), b.A.nullspace.project(x), rtol=1e-12, atol=1e-12)


def test_round_trip(tmp_path):
    given = systems()
    path = write_systems(tmp_path / "a.h5", given, attributes={"license": "CC0-1.0"})
    assert list_systems(path) == tuple(given)
    for name, system in given.items():
        same(read_system(path, name), system)
        assert read_solution(path, name) is None
    with h5py.File(path) as file:
        assert file.attrs["license"] == "CC0-1.0"
        assert file.attrs["format"] == "solvus systems"


def test_layout(tmp_path):
    """What another program finds, without this library."""
    A = LinearSystem(POISSON, torch.ones(6, dtype=torch.float64))
    path = write_systems(tmp_path / "a.h5", {"one": A}, solutions={"one": torch.arange(6.0)})
    with h5py.File(path) as file:
        group = file["systems/one"]
        assert sorted(group) == ["b", "data", "indices", "indptr", "x"]
        assert group.attrs["encoding"] == "csr"
        assert group.attrs["shape"].tolist() == [6, 6]
        assert bool(group.attrs["symmetric"])
        assert bool(group.attrs["spd"])
        matrix = sp.csr_array((group["data"][:], group["indices"][:], group["indptr"][:]), shape=(6, 6))
        assert group["data"].dtype == np.float64
    assert abs(matrix - POISSON).max() == 0
    assert read_solution(path).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_read_system_can_be_solved(tmp_path):
    path = write_systems(tmp_path / "a.h5", {"neumann": systems()["neumann"]})
    assert solve(read_system(path), CG(), stop=Stop(rtol=1e-10)).steps <= 12


@given(st.integers(1, 8), st.floats(0, 1), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_any_matrix_survives(tmp_path_factory, n, density, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((n, n)) * (rng.random((n, n)) < density)
    system = LinearSystem(matrix, rng.standard_normal(n))
    path = tmp_path_factory.mktemp("any") / "a.h5"
    write_systems(path, {"a": system})
    same(read_system(path), system)


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "a.h5"
    one = {"one": systems()["poisson"]}
    write_systems(path, one)
    with pytest.raises(FileExistsError, match="choose another name, or pass overwrite=True"):
        write_systems(path, {"two": systems()["poisson"]})
    assert list_systems(path) == ("one",)
    write_systems(path, {"two": systems()["poisson"]}, overwrite=True)
    assert list_systems(path) == ("two",)


class Other(NullSpace):
    """A null space that no file knows."""

    dimension = 1

    def component(self, x):
        return torch.zeros_like(x)


def test_a_failed_write_leaves_no_trace(tmp_path):
    path = tmp_path / "a.h5"
    bad = LinearSystem(sparse(POISSON, nullspace=Other()), torch.ones(6, dtype=torch.float64))
    good = systems()["poisson"]
    with pytest.raises(
        NotSupported, match="Other cannot be written: give the null space as Constants or as a Span"
    ):
        write_systems(path, {"good": good, "bad": bad})
    assert os.listdir(tmp_path) == []
    write_systems(path, {"good": good})
    with pytest.raises(NotSupported):
        write_systems(path, {"bad": bad}, overwrite=True)
    same(read_system(path), good)
    assert os.listdir(tmp_path) == ["a.h5"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    path = write_systems(tmp_path / "a.h5", {"a": systems()["poisson"]})
    (tmp_path / "b").touch()
    assert path.stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0"])
def test_ids(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a system: give a non-empty id without '/'"):
        write_systems(tmp_path / "a.h5", {name: systems()["poisson"]})


def test_wrong_solutions(tmp_path):
    one = {"one": systems()["poisson"]}
    with pytest.raises(ValueError, match="solutions for two, which are not among the systems"):
        write_systems(tmp_path / "a.h5", one, solutions={"two": torch.ones(6)})
    with pytest.raises(
        ShapeMismatch, match=r"the solution of /systems/one has shape \(5,\), its b has \(6,\)"
    ):
        write_systems(tmp_path / "a.h5", one, solutions={"one": torch.ones(5)})
    batch = Diffusion(Grid((3,)), torch.ones(2, 4, dtype=torch.float64))
    with pytest.raises(NotSupported, match="convert them singly"):
        write_systems(tmp_path / "a.h5", {"a": LinearSystem(batch, torch.ones(2, 3, dtype=torch.float64))})


class TestReadingBadFiles:
    @pytest.fixture
    def path(self, tmp_path):
        return write_systems(tmp_path / "a.h5", {k: systems()[k] for k in ("poisson", "general")})

    def test_missing_and_foreign_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no file at .*a.h5"):
            read_system(tmp_path / "a.h5")
        (tmp_path / "b.h5").write_text("text")
        with pytest.raises(ValueError, match=r"b.h5 is not a readable HDF5 file"):
            read_system(tmp_path / "b.h5")
        h5py.File(tmp_path / "c.h5", "w").close()
        with pytest.raises(ValueError, match=r"c.h5 has no group /systems"):
            list_systems(tmp_path / "c.h5")

    def test_ids(self, path):
        with pytest.raises(ValueError, match="holds 2 systems, name one: poisson, general"):
            read_system(path)
        with pytest.raises(ValueError, match="no system 'x' in the file; it holds poisson, general"):
            read_system(path, "x")

    @pytest.mark.parametrize(
        ("spoil", "error", "text"),
        [
            (
                lambda g: g.__delitem__("indptr"),
                ValueError,
                "a.h5, system poisson: no indptr; the file was not",
            ),
            (lambda g: g.attrs.__setitem__("encoding", "coo"), ValueError, "encoding 'coo' and shape"),
            (
                lambda g: g.attrs.__delitem__("shape"),
                ValueError,
                r"shape \[\], needed are 'csr' and \(m, n\)",
            ),
            (lambda g: g.attrs.__setitem__("shape", [6, 5]), ShapeMismatch, "is square, this one is 6 x 5"),
            (lambda g: g["indices"].__setitem__(0, 99), ShapeMismatch, "column indices run from 0 to 99"),
            (lambda g: g["indptr"].__setitem__(1, 9), ShapeMismatch, "must start at 0 and never decrease"),
            (lambda g: g["data"].__setitem__(0, np.nan), NonFinite, "NaN or infinite entries"),
            (lambda g: g["b"].__setitem__(0, np.inf), NonFinite, "b holds NaN or infinite values"),
        ],
    )
    def test_spoilt(self, path, spoil, error, text):
        with h5py.File(path, "r+") as file:
            spoil(file["systems/poisson"])
        with pytest.raises(error, match=text):
            read_system(path, "poisson")


class TestLoading:
    """The files that people have."""

    B = np.arange(12.0).reshape(6, 2)

    def matrix(self, folder, kind, given=POISSON):
        path = folder / f"A{kind}"
        if kind == ".mtx":
            scipy.io.mmwrite(path, sp.coo_array(given))
        elif kind == ".npz":
            sp.save_npz(path, given)
        elif kind == ".npy":
            np.save(path, given.toarray())
        else:
            write_systems(path, {"a": LinearSystem(given, np.ones(6))})
        return path

    def rhs(self, folder, kind, given):
        path = folder / f"b{kind}"
        if kind == ".mtx":
            scipy.io.mmwrite(path, given.reshape(len(given), -1))
        elif kind == " sparse.mtx":
            scipy.io.mmwrite(path, sp.coo_array(given.reshape(len(given), -1)))
        else:
            (np.save if kind == ".npy" else np.savez)(path, given)
        return path

    @pytest.mark.parametrize("b_kind", [".mtx", " sparse.mtx", ".npy", ".npz"])
    @pytest.mark.parametrize("A_kind", [".mtx", ".npz", ".npy", ".h5"])
    def test_every_pair_of_kinds(self, tmp_path, A_kind, b_kind):
        path = self.matrix(tmp_path, A_kind)
        one = load_system(path, self.rhs(tmp_path, b_kind, self.B[:, 1]))
        np.testing.assert_array_equal(one.b, self.B[:, 1])
        np.testing.assert_array_equal(dense(one.A), POISSON.toarray())
        assert one.A.positive_definite
        two = load_system(str(path), str(self.rhs(tmp_path, b_kind, self.B)))
        np.testing.assert_array_equal(two.b, self.B.T)

    @pytest.mark.parametrize("kind", [".mtx", ".npz", ".npy"])
    def test_without_a_right_hand_side_the_answer_is_known(self, tmp_path, kind):
        system = load_system(self.matrix(tmp_path, kind))
        result = solve(system, CG(), stop=Stop(rtol=1e-12))
        torch.testing.assert_close(result.value, made_solution(6))
        assert made_solution(3).tolist() == [1, 1.5, 2]

    def test_hdf5_brings_its_own(self, tmp_path):
        assert load_system(self.matrix(tmp_path, ".h5")).b.tolist() == [1] * 6
        path = write_systems(tmp_path / "two.h5", {k: systems()[k] for k in ("poisson", "neumann")})
        assert load_system(path, name="neumann").n == 12

    def test_numbers_take_the_type_of_the_matrix(self, tmp_path):
        b = self.rhs(tmp_path, ".npy", np.arange(6))
        assert (
            load_system(self.matrix(tmp_path, ".npz", POISSON.astype(np.float32)), b).b.dtype is torch.float32
        )
        assert (
            load_system(self.matrix(tmp_path, ".npz", POISSON.astype(complex)), b).b.dtype is torch.complex128
        )

    def test_errors(self, tmp_path):
        A = self.matrix(tmp_path, ".mtx")
        cases = [
            (lambda: load_system(tmp_path / "x.mtx"), FileNotFoundError, "no matrix at .*x.mtx"),
            (lambda: load_system(A, tmp_path / "x.npy"), FileNotFoundError, "no right-hand side at .*x.npy"),
            (
                lambda: load_system(self.text(tmp_path, "a.csv")),
                ValueError,
                "a.csv: the matrix is read from .mtx",
            ),
            (
                lambda: load_system(A, self.text(tmp_path, "b.csv")),
                ValueError,
                "b.csv: the right-hand side is read",
            ),
            (
                lambda: load_system(self.text(tmp_path, "t.mtx")),
                ValueError,
                "cannot read the matrix from t.mtx",
            ),
            (
                lambda: load_system(self.text(tmp_path, "t.npz")),
                ValueError,
                "cannot read the matrix from t.npz",
            ),
            (
                lambda: load_system(self.text(tmp_path, "t.npy")),
                ValueError,
                "cannot read the matrix from t.npy",
            ),
            (
                lambda: load_system(self.text(tmp_path, "t.mtx.gz")),
                ValueError,
                "cannot read the matrix from t.mtx.gz",
            ),
            (
                lambda: load_system(self.matrix(tmp_path, ".npz", sp.csr_array(np.ones((2, 3))))),
                ShapeMismatch,
                "A.npz is 2 x 3: A x = b needs a square matrix",
            ),
            (
                lambda: load_system(A, self.rhs(tmp_path, ".npy", np.ones(5))),
                ShapeMismatch,
                r"b.npy has shape \(5,\), the matrix is 6 x 6: give 6 numbers, or that many rows",
            ),
            (
                lambda: load_system(A, self.rhs(tmp_path, ".npy", np.ones((1, 6)))),
                ShapeMismatch,
                "one right-hand side per column",
            ),
            (
                lambda: load_system(A, self.rhs(tmp_path, ".npy", np.ones(6) * 1j)),
                MixedDtypes,
                "b.npy is complex, the matrix is real",
            ),
            (
                lambda: load_system(A, self.rhs(tmp_path, ".npy", np.full(6, np.nan))),
                NonFinite,
                "b holds NaN",
            ),
            (
                lambda: load_system(A, self.two_arrays(tmp_path)),
                ValueError,
                "it holds 2 arrays, needed is one",
            ),
        ]
        for build, error, text in cases:
            with pytest.raises(error, match=text):
                build()

    def test_no_code_is_run(self, tmp_path):
        np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
        with pytest.raises(ValueError, match=r"cannot read the matrix from o.npy: .*allow_pickle"):
            load_system(tmp_path / "o.npy")

    @staticmethod
    def text(folder, name):
        (folder / name).write_text("not a matrix")
        return folder / name

    @staticmethod
    def two_arrays(folder):
        np.savez(folder / "two.npz", a=np.ones(6), b=np.ones(6))
        return folder / "two.npz"


def test_an_operator_without_entries_is_written_as_what_it_is(tmp_path):
    path = write_systems(tmp_path / "a.h5", {"a": LinearSystem(2.0 * Identity(3, torch.float64), np.ones(3))})
    read = read_system(path)
    assert read.A.tags >= SPD | SYMMETRIC
    assert dense(read.A).diagonal().tolist() == [2, 2, 2]
