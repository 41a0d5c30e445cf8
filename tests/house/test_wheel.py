"""The distributions: sdist, the wheel made from it, and the wheel in an environment of its own."""

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = SETTINGS["tool"]["setuptools"]["packages"]
FOREIGN = ("dolfinx", "petsc4py", "mpi4py", "nvmath", "basix", "ufl")  # not needed to install solvus

PROBE = """
import importlib, json, pkgutil, sys
import solvus
from importlib.metadata import metadata, version
names, missing = ["solvus"], {}
for module in pkgutil.walk_packages(solvus.__path__, "solvus."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        missing[module.name] = error.name
    names.append(module.name)
print(json.dumps({"names": names, "missing": missing, "version": version("solvus"),
    "files": sorted({sys.modules[n].__file__ for n in names if n in sys.modules}),
    "licence": metadata("solvus")["License-Expression"]}))
"""


def run(*command, cwd):
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def copy_tree(destination: Path) -> Path:
    """Copy what git keeps or would keep, so that the build finds no leftovers and leaves none."""
    listing = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for line in listing:
        if (ROOT / line).is_file():
            (destination / line).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / line, destination / line)
    return destination


def build_wheel(source: Path, out: Path) -> Path:
    """Build an sdist, and a wheel from that sdist."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=out)
    assert list(out.glob("*.tar.gz"))
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = copy_tree(tmp_path_factory.mktemp("source"))
    return build_wheel(source, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """Return the interpreter of a new environment: the wheel installed, dependencies borrowed from here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    # A path named in a .pth file is not searched for further .pth files: the editable install stays out.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = (
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    )
    run(*command, "--force-reinstall", "--no-warn-conflicts", wheel, cwd=folder)
    return python


def missing_packages(wheel: Path) -> set[str]:
    """Listed packages that the wheel does not hold."""
    held = {str(Path(name).parent).replace("/", ".") for name in zipfile.ZipFile(wheel).namelist()}
    return set(PACKAGES) - held


def test_the_wheel_holds_every_package_and_data_file(wheel):
    assert not missing_packages(wheel)
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "solvus/py.typed" in names
    folders = {"meshes": "meshes", "operators": "operators", "solvers": "solvers", "datasets": "datasets"}
    for target, folder in {**folders, "": "src/solvus"}.items():
        for line in run("git", "ls-files", "-co", "--exclude-standard", folder, cwd=ROOT).splitlines():
            inner = Path("solvus", target, Path(line).relative_to(folder))
            assert str(inner) in names or not (ROOT / line).exists(), f"{line} is not in the wheel"
    assert not [n for n in names if n.startswith(("tests", "benchmarks", "meshes", "solvers"))]


def test_the_wheel_works_in_an_environment_of_its_own(environment, tmp_path):
    told = json.loads(run(environment, "-c", PROBE, cwd=tmp_path))
    assert set(told["names"]) >= set(PACKAGES)
    assert not {m: e for m, e in told["missing"].items() if (e or "").split(".")[0] not in FOREIGN}
    prefix = str(environment.parent.parent)
    assert all(file.startswith(prefix) for file in told["files"]), told["files"]
    assert told["version"] == SETTINGS["project"]["version"]
    assert told["licence"] == "MIT"


def test_the_command_is_installed(environment, tmp_path):
    assert "solve" in run(environment.parent / "solvus", "--help", cwd=tmp_path)


def test_an_unlisted_package_would_be_noticed(tmp_path):
    source = copy_tree(tmp_path / "source")
    settings = source / "pyproject.toml"
    settings.write_text(settings.read_text().replace('    "solvus.solvers.krylov",\n', ""))
    (tmp_path / "dist").mkdir()
    assert missing_packages(build_wheel(source, tmp_path / "dist")) == {"solvus.solvers.krylov"}
